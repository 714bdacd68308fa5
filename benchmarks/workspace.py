"""A journaled file system to measure on, and the facts about this machine."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


def file_system(path: Path) -> str:
    """Return device, type and whether it has a journal, for the file system that holds a path."""
    line = subprocess.run(
        ["findmnt", "-no", "SOURCE,FSTYPE", "--target", str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    device = os.path.basename(os.path.realpath(line[0])) if line else "?"
    journals = os.listdir("/proc/fs/jbd2") if os.path.isdir("/proc/fs/jbd2") else []
    journal = any(name.rpartition("-")[0] == device for name in journals)
    return f"{' '.join(line)}, {'journal' if journal else 'NO JOURNAL: figures mislead'}"


def machine() -> str:
    """Return processor, cores and kernel in one line."""
    model = "?"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


@contextlib.contextmanager
def workspace(where: Path | None, size: str = "12G") -> Iterator[Path]:
    """
    Yield an empty directory on a journaled file system.

    Args:
        where: a directory on such a file system; None makes an ext4 image on a loop device, which
            needs root.
        size: of that image; it takes room only as it fills.
    """
    if where is not None:
        where.mkdir(parents=True, exist_ok=True)
        where.chmod(0o755)
        yield where
        return
    base = Path("/var/tmp") / f"mailhost-bench-{os.getpid()}"
    base.mkdir()
    image, mount = base / "image", base / "mount"
    mount.mkdir()
    try:
        subprocess.run(["truncate", "-s", size, image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", image], check=True)
        loop = subprocess.run(
            ["losetup", "--find", "--show", "--direct-io=on", image],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        try:
            subprocess.run(["mount", loop, mount], check=True)
            mount.chmod(0o755)
            try:
                yield mount
            finally:
                subprocess.run(["umount", "-l", mount], check=True)
        finally:
            subprocess.run(["losetup", "-d", loop], check=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
