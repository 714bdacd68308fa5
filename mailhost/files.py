"""
The one object through which files are touched.

Storage and spool take a `FileOperations` as a constructor argument and call nothing of ``os`` for
files themselves, so that a test can record the operations, fail one, or stop the process at any
of them. Every method blocks; call it on a worker thread. All raise OSError as ``os`` does.

New files are 0600, new directories 0700, whatever the umask. `FileOperations` follows no symbolic
link in the last component of a name it opens.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYNCFS = getattr(_LIBC, "syncfs", None)


class FileOperations:
    """File access by plain blocking calls, for real."""

    def create(self, path: str | Path) -> int:
        """Create a file that must not exist and return a descriptor for writing."""
        return os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )

    def rewrite(self, path: str | Path) -> int:
        """Open a file for writing from its start, created or emptied, and return a descriptor."""
        return os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )

    def append_to(self, path: str | Path) -> int:
        """Open a file for appending, created when absent, and return a descriptor."""
        return os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )

    def open(self, path: str | Path) -> int:
        """Open a regular file for reading and return a descriptor."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)

    def write(self, descriptor: int, chunks: Sequence[bytes]) -> int:
        """Write all of the chunks and return how many octets they had."""
        total = sum(map(len, chunks))
        written = os.writev(descriptor, chunks) if len(chunks) <= 64 else 0
        if written < total:
            rest = memoryview(b"".join(chunks))[written:]
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        return total

    def read(self, descriptor: int, offset: int, length: int) -> bytes:
        """Read up to that many octets at the offset."""
        return os.pread(descriptor, length, offset)

    def read_file(self, path: str | Path) -> bytes:
        """Return all octets of a file."""
        descriptor = self.open(path)
        try:
            size = os.fstat(descriptor).st_size
            data = os.read(descriptor, size + 1)
            if len(data) == size:
                return data
            parts = [data]
            while data := os.read(descriptor, 1 << 20):
                parts.append(data)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def size(self, descriptor: int) -> int:
        """Return the size of an open file in octets."""
        return os.fstat(descriptor).st_size

    def stat(self, path: str | Path) -> os.stat_result:
        """Return what the file system knows of a name, links not followed."""
        return os.stat(path, follow_symlinks=False)

    def room(self, path: str | Path) -> tuple[int, int | None]:
        """
        Return the free octets and inodes of the file system that holds the path.

        Counted is what an ordinary user may take; inodes are None where they are not limited.
        """
        facts = os.statvfs(path)
        return facts.f_bavail * facts.f_frsize, facts.f_favail if facts.f_files else None

    def sync_data(self, descriptor: int) -> None:
        """Return when the file's octets and size are on stable storage."""
        os.fdatasync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def rename(self, source: str | Path, target: str | Path) -> None:
        """Give a file another name, replacing what has it."""
        os.rename(source, target)

    def link(self, source: str | Path, target: str | Path) -> None:
        """Give a file a second name, which must be free."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: str | Path) -> None:
        """Remove a name."""
        os.unlink(path)

    def make_directory(self, path: str | Path) -> None:
        """Create a directory; it may exist."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise

    def remove_directory(self, path: str | Path) -> None:
        """Remove an empty directory."""
        os.rmdir(path)

    def names(self, path: str | Path) -> list[str]:
        """Return the names in a directory, in no order."""
        return os.listdir(path)

    def entries(self, path: str | Path) -> Iterator[os.DirEntry[str]]:
        """Yield the entries of a directory, in no order."""
        with os.scandir(path) as entries:
            yield from entries

    def sync_directory(self, path: str | Path) -> None:
        """Return when the names in a directory are on stable storage."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def sync_file_system(self, path: str | Path) -> None:
        """Return when all that was written to the file system that holds the path is stable."""
        if _SYNCFS is None:
            os.sync()
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _SYNCFS(descriptor) != 0:
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), str(path))
        finally:
            os.close(descriptor)
