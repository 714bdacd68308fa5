"""The in-memory mail store keeps the contract that the real one keeps."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.address import Address
from mailhost.units import AccountID
from tests.contracts.access import MailAccessContract
from tests.fakes_access import Answers, FakeMailAccess


class FakeMailAccessTests(MailAccessContract, SynchronousTestCase):
    """With answers at once."""

    def make_access(self) -> FakeMailAccess:
        """A fresh account."""
        return FakeMailAccess(AccountID("a1"), Address("alice", "example.org"))


class LateFakeMailAccessTests(MailAccessContract, SynchronousTestCase):
    """With answers that wait."""

    def make_access(self) -> FakeMailAccess:
        """A fresh account."""
        self.answers = Answers(late=True)
        return FakeMailAccess(AccountID("a1"), Address("alice", "example.org"), self.answers)

    def pump(self) -> None:
        """Let late answers come."""
        self.answers.settle()
