"""A real spool, killed under load."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop import spool_process

ROOT = Path(__file__).resolve().parent.parent.parent


class SpoolKillTests(SynchronousTestCase):
    """``kill -9`` of a process that accepts mail (R-84, P1, P9)."""

    def start(self, mode: str, directory: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.interop.spool_process", mode, str(directory)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )

    def test_acknowledged_mail_survives_kill_exactly_once(self) -> None:
        """Three rounds on one directory: every acknowledged copy is there once, and whole."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        acknowledged: list[str] = []
        for _ in range(3):
            process = self.start("load", directory)
            assert process.stdout is not None
            # The first line says that it started; a moment later it dies.
            first = process.stdout.readline()
            self.assertTrue(first, "the process did not start")
            threading.Timer(random.uniform(0.1, 0.6), process.kill).start()
            lines = (first + process.stdout.read()).split(b"\n")
            process.stdout.close()
            self.assertEqual(process.wait(10), -9)
            # A line cut short was not acknowledged to anyone.
            acknowledged += [line.decode() for line in lines[:-1]]
        self.assertGreater(len(acknowledged), 50)
        process = self.start("recover", directory)
        output, _ = process.communicate(timeout=30)
        self.assertEqual((output, process.returncode), (b"done\n", 0))
        mail = directory / "mail"
        found = [*(mail / "new").iterdir(), *(mail / "cur").iterdir()]
        names = [path.name for path in found]
        self.assertEqual(len(names), len(set(names)))
        whole = {path.name: path.read_bytes() for path in found}
        for queue_id in acknowledged:
            for account in spool_process.accounts(queue_id):
                self.assertEqual(
                    whole.get(f"{account}.{queue_id}"), b"P\r\n" + spool_process.body(queue_id)
                )
        self.assertEqual(list((directory / "spool" / "content").iterdir()), [])
        connection = sqlite3.connect(directory / "spool" / "spool.sqlite")
        rows = connection.execute("SELECT count(*) FROM arrival").fetchone()[0]
        connection.close()
        self.assertEqual(rows, 0)
