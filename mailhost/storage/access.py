"""The mail of one account, as the avatar that sessions are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.address import Address
from mailhost.errors import NoSuchMailbox
from mailhost.ids import new_id
from mailhost.interfaces.access import (
    IAppend,
    IMailAccess,
    IMailbox,
    Listing,
    MailboxFacts,
    MailboxStatus,
    Selected,
)
from mailhost.storage import folders, foreign, message_changes, reading
from mailhost.storage.account_store import AccountStore, Surroundings
from mailhost.storage.append import SpooledAppend
from mailhost.storage.folder_names import INBOX
from mailhost.storage.mailbox import StoredMailbox
from mailhost.storage.mailbox_changes import ChangeNotices
from mailhost.storage.message_changes import NotSettled
from mailhost.storage.sessions import Sessions
from mailhost.units import AccountID, MailboxID, ModSeq, QueueID, UIDValidity


@implementer(IMailAccess)
class StoredMailAccess:
    """
    What a logged-in account does with its mailboxes. Holds no files.

    Args:
        account_id: whose mail.
        address: the account's primary address.
    """

    def __init__(
        self,
        sessions: Sessions,
        notices: ChangeNotices,
        surroundings: Surroundings,
        account_id: AccountID,
        address: Address,
    ) -> None:
        self.account_id = account_id
        self.address = address
        self._sessions = sessions
        self._notices = notices
        self._surroundings = surroundings

    def mailboxes(self) -> Deferred[tuple[MailboxFacts, ...]]:
        """Return every mailbox, and every name without one that has a subscription or children."""
        return self._sessions.run(self.account_id, folders.mailboxes)

    def status(self, mailbox_id: MailboxID) -> Deferred[MailboxStatus]:
        """Return the counters of a mailbox."""
        return self._sessions.run(self.account_id, _status, mailbox_id)

    def open(self, mailbox_id: MailboxID, read_only: bool) -> Deferred[IMailbox]:
        """Open a mailbox for one session, which closes it."""

        def opened(uid_validity: UIDValidity) -> IMailbox:
            return StoredMailbox(
                self._sessions, self.account_id, mailbox_id, uid_validity, read_only
            )

        return self._sessions.run(self.account_id, _open, mailbox_id).addCallback(opened)

    def select(self, name: str, read_only: bool) -> Deferred[Selected]:
        """Open a mailbox by name, claim what is recent, and list it, in one trip to the pool."""

        def selected(found: tuple[MailboxID, UIDValidity, int, Listing]) -> Selected:
            mailbox_id, uid_validity, recent_from, listing = found
            mailbox = StoredMailbox(
                self._sessions, self.account_id, mailbox_id, uid_validity, read_only
            )
            return Selected(mailbox, recent_from, listing)

        found = self._sessions.run(self.account_id, _select, name, read_only)
        return found.addCallback(selected)

    def create(self, name: str, special_use: Sequence[str] = ()) -> Deferred[MailboxID]:
        """Create a mailbox and missing parents."""
        return self._sessions.run(self.account_id, folders.create, name, tuple(special_use))

    def delete(self, mailbox_id: MailboxID) -> Deferred[None]:
        """Delete a mailbox, not its children."""

        def attempt(account: AccountStore) -> NotSettled | None:
            with account.lock:
                waiting = message_changes.unsettled(account, mailbox_id, None, marked=False)
                if waiting:
                    return NotSettled(waiting)
                folders.delete(account, mailbox_id)
                return None

        return self._sessions.run_settled(self.account_id, attempt)

    def rename(self, mailbox_id: MailboxID, name: str) -> Deferred[None]:
        """Rename a mailbox with all below it; INBOX is emptied into a new one instead."""

        def attempt(account: AccountStore) -> NotSettled | None:
            with account.lock:
                if account.folder(mailbox_id).name == INBOX:
                    foreign.look(account, mailbox_id)
                    waiting = message_changes.unsettled(account, mailbox_id, None, marked=False)
                    if waiting:
                        return NotSettled(waiting)
                folders.rename(account, mailbox_id, name)
                return None

        return self._sessions.run_settled(self.account_id, attempt)

    def subscribe(self, name: str, subscribed: bool) -> Deferred[None]:
        """Add or remove a name of the subscription list."""
        return self._sessions.run(self.account_id, folders.subscribe, name, subscribed)

    def append(self, mailbox_id: MailboxID) -> Deferred[IAppend]:
        """Start adding a message."""

        def begun(_: MailboxStatus) -> IAppend:
            assert self._sessions.spool is not None, "the store was not told of its spool"
            now = self._surroundings.now
            queue_id = QueueID(new_id(now(), self._surroundings.random_bytes))
            writer = self._sessions.spool.begin(queue_id)
            return SpooledAppend(writer, queue_id, self.account_id, self.address, mailbox_id, now)

        checked = self._sessions.run(self.account_id, folders.status, mailbox_id)
        return checked.addCallback(begun)

    def watch(self, listener: Callable[[MailboxID, ModSeq], None]) -> Callable[[], None]:
        """Call the listener on the event thread after any change; returns what ends it."""
        return self._notices.watch(self.account_id, listener)


def _status(account: AccountStore, mailbox_id: MailboxID) -> MailboxStatus:
    foreign.try_to_look(account, mailbox_id)
    return folders.status(account, mailbox_id)


def _select(
    account: AccountStore, name: str, read_only: bool
) -> tuple[MailboxID, UIDValidity, int, Listing]:
    with account.lock:
        folder = account.database.by_name.get(name)
        if folder is None:
            raise NoSuchMailbox(name)
        mailbox_id = folder.mailbox_id
    uid_validity = _open(account, mailbox_id)
    recent_from = reading.claim_recent(account, mailbox_id, mark=not read_only)
    return mailbox_id, uid_validity, recent_from, reading.listing(account, mailbox_id)


def _open(account: AccountStore, mailbox_id: MailboxID) -> UIDValidity:
    foreign.try_to_look(account, mailbox_id)
    with account.lock:
        return UIDValidity(account.folder(mailbox_id).uid_validity)
