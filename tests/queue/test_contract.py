"""The spool's contract, held by the real one and by the fake of other packages."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SpoolFull
from tests.contracts.spool import SpoolContract
from tests.queue.rig import Rig

try:
    from tests.fakes import FakeSpool
except ImportError:
    FakeSpool = None  # type: ignore[misc, assignment]


class SpoolContractTests(SpoolContract, SynchronousTestCase):
    """The real spool."""

    def setUp(self) -> None:
        self.code: int | None = None
        self.rig = Rig(Path(self.mktemp()), before=self.before).start()
        self.spool = self.rig.spool

    def before(self, statement: str) -> None:
        if self.code is not None and statement.startswith("INSERT"):
            error = sqlite3.OperationalError("set by the test")
            error.sqlite_errorcode = self.code
            raise error

    def settle(self) -> None:
        self.rig.run()

    def kept(self) -> dict[str, bytes]:
        return {key[1]: octets for key, octets in self.rig.store.visible.items()}

    def break_commits(self, error: Exception | None) -> None:
        self.code = None
        if error is not None:
            full = isinstance(error, SpoolFull)
            self.code = sqlite3.SQLITE_FULL if full else sqlite3.SQLITE_IOERR


class FakeSpoolContractTests(SpoolContract, SynchronousTestCase):
    """The fake that protocols are tested with."""

    if FakeSpool is None:
        skip = "this tree has no fake spool"

    def setUp(self) -> None:
        self.spool = FakeSpool()

    def settle(self) -> None:
        self.spool.later.settle()

    def kept(self) -> dict[str, bytes]:
        return {e.queue_id: prefix + content for e, prefix, content in self.spool.messages}

    def break_commits(self, error: Exception | None) -> None:
        self.spool.commit_error = error
