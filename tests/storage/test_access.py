"""The contract of mail access, on the real store."""

from __future__ import annotations

from typing import Any

from tests.contracts.access import MailAccessContract
from tests.storage.support import StoreTestCase


class StoredMailAccessTests(MailAccessContract, StoreTestCase):
    """The Maildir store keeps the contract."""

    def make_access(self) -> Any:
        """A fresh account."""
        return StoreTestCase.access(self)

    def setUp(self) -> None:
        StoreTestCase.setUp(self)
        self.access = self.make_access()

    def box(self, name: str = "INBOX", read_only: bool = False) -> Any:
        return MailAccessContract.box(self, name, read_only)

    def flags(self, box: Any) -> Any:
        return MailAccessContract.flags(self, box)


class SettledMailAccessTests(StoredMailAccessTests):
    """The same with few open accounts and after each answer a second passed."""

    def start(self, **options: Any) -> Any:
        return super().start(open_limit=1)

    def pump(self) -> None:
        self.pass_time()
