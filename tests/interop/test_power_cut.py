"""
A power cut under load: the file system forgets what was not synced, the ledger does not.

The data directory lies on an ext4 of its own on a loop device. ``EXT4_IOC_SHUTDOWN`` without log
flush ends that file system at once, as losing power does; then it is mounted again and its journal
replayed. Names may then exist whose octets do not, and index rows be gone: recovery has to put all
of it right from the spool.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import struct
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.ledger import ACCOUNTS, Ledger, LedgerChecks, Load
from tests.interop.server import MailhostProcess

ROUNDS = 5
_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2


class LoopFileSystem:
    """A journaled ext4 in a file, mounted."""

    def __init__(self, base: Path) -> None:
        if os.getuid() != 0 or not shutil.which("mkfs.ext4") or not shutil.which("losetup"):
            raise SkipTest("a power cut needs root, mkfs.ext4 and loop devices")
        self.image, self.mount = base / "image", base / "mount"
        self.mount.mkdir(parents=True)
        with self.image.open("wb") as image:
            image.truncate(1 << 30)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        self.mount_it()

    def mount_it(self) -> None:
        """Mount, replaying the journal."""
        done = subprocess.run(["mount", "-o", "loop", self.image, self.mount], capture_output=True)
        if done.returncode:
            raise SkipTest(f"loop devices cannot be mounted here: {done.stderr.decode()}")

    def cut(self) -> None:
        """End the file system without writing anything more."""
        descriptor = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Unmount; harmless when it is not mounted."""
        subprocess.run(["umount", self.mount], capture_output=True)


class PowerCutTests(LedgerChecks, TestCase):
    """Some power cuts in a row."""

    timeout = 300

    def test_acknowledged_mail_survives_a_power_cut(self) -> None:
        """After each cut every acknowledged message is there once; no UID means another one."""
        base = Path(self.mktemp()).resolve()
        base.mkdir(parents=True)
        disk = LoopFileSystem(base)
        self.addCleanup(disk.unmount)
        (disk.mount / "data").mkdir(mode=0o700)
        server = MailhostProcess(
            base / "server",
            accounts=ACCOUNTS,
            tables="[limits]\nconnections_per_client = 1000\nconnection_rate = 100000\n",
            data=disk.mount / "data",
        )
        server.populate()
        os.sync()
        server.start()
        self.addCleanup(server.stop)
        ledger = Ledger()
        known: dict[str, tuple[int, dict[int, int]]] = {}
        chance = random.Random(4711)
        for number in range(ROUNDS):
            load = Load(server, ledger, number)
            time.sleep(chance.uniform(0.4, 1.8))
            for account in ACCOUNTS:
                known[account] = self.inventory(server, account)
            # What is answered while the cut is under way proves nothing: a file system that is shut
            # down can still let a sync that was in the kernel return, which no lost power does.
            before = ledger.snapshot()
            disk.cut()
            load.stop.set()
            server.kill()
            load.end()
            ledger.acknowledged = before
            disk.unmount()
            disk.mount_it()
            server.start()
            self.check(server, ledger, known, redelivered=True)
        self.assertGreater(sum(map(len, ledger.acknowledged.values())), ROUNDS * 20)
