"""What sessions and the store share: the way to the pool, the spool, and what is open."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from mailhost.interfaces.spool import ISpool
from mailhost.storage.message_changes import NotSettled
from mailhost.storage.open_accounts import OpenAccounts
from mailhost.storage.pool import Pool
from mailhost.units import AccountID, MailboxID, QueueID

T = TypeVar("T")


class Sessions:
    """
    Carries operations of sessions to the pool.

    Args:
        accounts: the open accounts.
        pool: where blocking work is done.
    """

    def __init__(self, accounts: OpenAccounts, pool: Pool) -> None:
        self.accounts = accounts
        self.pool = pool
        self.spool: ISpool | None = None
        """Set once, before the first operation; store and spool refer to each other."""
        self._held: dict[tuple[AccountID, MailboxID], int] = {}
        self._lock = Lock()

    def run(
        self, account_id: AccountID, function: Callable[..., T], *arguments: Any, **named: Any
    ) -> Deferred[T]:
        """Call the function with the open account on the pool; fails with StorageError."""
        return self.pool.defer(self.accounts.run, account_id, function, *arguments, **named)

    def run_settled(
        self,
        account_id: AccountID,
        function: Callable[..., T | NotSettled],
        *arguments: Any,
    ) -> Deferred[T]:
        """As `run`; when the function answers `NotSettled` that is seen to, and it is run again."""

        def answered(result: T | NotSettled) -> T | Deferred[T]:
            if not isinstance(result, NotSettled):
                return result
            assert self.spool is not None, "the store was not told of its spool"
            settled = self.spool.settle([QueueID(each) for each in result.queue_ids])
            return settled.addCallback(lambda _: self.run_settled(account_id, function, *arguments))

        return self.run(account_id, function, *arguments).addCallback(answered)

    def hold(self, account_id: AccountID, mailbox_id: MailboxID) -> None:
        """A session has the mailbox open: it wants to hear of what other programs do there."""
        with self._lock:
            key = (account_id, mailbox_id)
            self._held[key] = self._held.get(key, 0) + 1

    def release(self, account_id: AccountID, mailbox_id: MailboxID) -> None:
        """That session closed it."""
        with self._lock:
            key = (account_id, mailbox_id)
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    def held(self) -> list[tuple[AccountID, MailboxID]]:
        """Return the mailboxes that sessions have open."""
        with self._lock:
            return list(self._held)
