"""An open mailbox as a session holds it: names, no files. Every method goes to the pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from mailhost.criteria import Criterion
from mailhost.errors import MailboxReadOnly, MessageDamaged
from mailhost.interfaces.access import (
    Changes,
    Column,
    CopyResult,
    ExpungeResult,
    FlagOperation,
    IContent,
    IMailbox,
    Listing,
    Record,
    StoreResult,
)
from mailhost.storage import foreign, message_changes, reading
from mailhost.storage.account_database import LF
from mailhost.storage.account_store import AccountStore
from mailhost.storage.content import DIRECT, FileContent, HeldContent
from mailhost.storage.search import search
from mailhost.storage.sessions import Sessions
from mailhost.units import AccountID, MailboxID, ModSeq, UIDValidity

T = TypeVar("T")


@implementer(IMailbox)
class StoredMailbox:
    """
    One session's use of a mailbox.

    Args:
        sessions: what carries operations to the pool.
        uid_validity: as it was when opened.
    """

    def __init__(
        self,
        sessions: Sessions,
        account_id: AccountID,
        mailbox_id: MailboxID,
        uid_validity: UIDValidity,
        read_only: bool,
    ) -> None:
        self.mailbox_id = mailbox_id
        self.uid_validity = uid_validity
        self.read_only = read_only
        self._sessions = sessions
        self._account_id = account_id
        self._open = True
        sessions.hold(account_id, mailbox_id)

    def _run(self, function: Callable[..., T], *arguments: Any, **named: Any) -> Deferred[T]:
        assert self._open, "used after close"
        return self._sessions.run(self._account_id, function, self.mailbox_id, *arguments, **named)

    def listing(self) -> Deferred[Listing]:
        """Return what is there now."""
        return self._run(_looked, reading.listing)

    def changes(self, mod_seq: ModSeq) -> Deferred[Changes]:
        """Return what changed after that mod-sequence."""
        return self._run(_looked, reading.changes, mod_seq)

    def claim_recent(self) -> Deferred[int]:
        """Return the lowest UID that no session was told of as recent."""
        return self._run(reading.claim_recent, mark=not self.read_only)

    def records(self, uids: Sequence[int], columns: Column) -> Deferred[list[Record]]:
        """Return those messages by ascending UID."""
        return self._run(reading.records, uids, columns)

    def content(self, uid: int) -> Deferred[IContent]:
        """Return the octets of one message."""
        return self._run(self._content, uid)

    def _content(self, account: AccountStore, mailbox_id: MailboxID, uid: int) -> IContent:
        descriptor, state, size = reading.open_file(account, mailbox_id, uid)
        if size > DIRECT and not state & LF:
            return FileContent(account.files, self._sessions.pool, descriptor, size)
        try:
            return HeldContent(reading.whole(account, mailbox_id, uid, descriptor, state, size))
        finally:
            account.files.close(descriptor)

    def store(
        self,
        uids: Sequence[int],
        operation: FlagOperation,
        flags: Sequence[str],
        unchanged_since: ModSeq | None = None,
    ) -> Deferred[StoreResult]:
        """Change flags; durable within a second."""
        if self.read_only:
            return fail(MailboxReadOnly(self.mailbox_id))
        return self._run(message_changes.store, uids, operation, tuple(flags), unchanged_since)

    def expunge(
        self, uids: Sequence[int] | None, *, marked: bool = True
    ) -> Deferred[ExpungeResult]:
        """Remove messages; durable when fired."""
        if self.read_only:
            return fail(MailboxReadOnly(self.mailbox_id))
        return self._settled(message_changes.expunge, uids, marked=marked)

    def copy(self, uids: Sequence[int], mailbox_id: MailboxID) -> Deferred[CopyResult]:
        """Copy with flags and dates, all or none; durable when fired."""
        return self._settled(message_changes.copy, uids, mailbox_id)

    def move(self, uids: Sequence[int], mailbox_id: MailboxID) -> Deferred[CopyResult]:
        """Move, all or none; durable when fired."""
        if self.read_only:
            return fail(MailboxReadOnly(self.mailbox_id))
        return self._settled(message_changes.move, uids, mailbox_id)

    def _settled(
        self,
        function: Callable[..., T],
        uids: Sequence[int] | None,
        *arguments: Any,
        marked: bool = False,
    ) -> Deferred[T]:
        assert self._open, "used after close"
        named = {"marked": marked} if function is message_changes.expunge else {}

        def attempt(account: AccountStore, mailbox_id: MailboxID) -> T | message_changes.NotSettled:
            with account.lock:
                waiting = message_changes.unsettled(account, mailbox_id, uids, marked=marked)
                if not waiting:
                    return _found(
                        account,
                        mailbox_id,
                        lambda: function(account, mailbox_id, uids, *arguments, **named),
                    )
            return message_changes.NotSettled(waiting)

        return self._sessions.run_settled(self._account_id, attempt, self.mailbox_id)

    def search(self, criterion: Criterion, recent_from: int) -> Deferred[Sequence[int]]:
        """Return UIDs of the messages that match, ascending."""
        return self._run(search, criterion, recent_from)

    def close(self) -> None:
        """End the session's use of it."""
        if self._open:
            self._open = False
            self._sessions.release(self._account_id, self.mailbox_id)


def _looked(
    account: AccountStore,
    mailbox_id: MailboxID,
    function: Callable[..., T],
    *arguments: Any,
) -> T:
    foreign.try_to_look(account, mailbox_id)
    return function(account, mailbox_id, *arguments)


def _found(account: AccountStore, mailbox_id: MailboxID, act: Callable[[], T]) -> T:
    try:
        return act()
    except FileNotFoundError:
        # Another program renamed or removed a file: see what it did, and try once more.
        foreign.look(account, mailbox_id, force=True)
    try:
        return act()
    except FileNotFoundError as error:
        raise MessageDamaged(f"{mailbox_id}: a file is gone") from error
