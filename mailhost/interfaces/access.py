"""Mail as its reader sees it: mailboxes, messages, changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, Flag, auto

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from mailhost.address import Address
from mailhost.criteria import Criterion
from mailhost.interfaces.spool import Placement
from mailhost.units import UID, AccountID, MailboxID, ModSeq, UIDValidity


@dataclass(frozen=True, slots=True)
class MailboxFacts:
    """
    A mailbox as LIST shows it.

    Args:
        mailbox_id: None for a name that only has children or a subscription.
        name: Unicode, ``/`` between levels; the inbox is ``INBOX``.
        special_use: attributes such as ``\\Sent`` (RFC 6154).
    """

    mailbox_id: MailboxID | None
    name: str
    special_use: tuple[str, ...] = ()
    subscribed: bool = False


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """Counters, never from a scan."""

    messages: int
    unseen: int
    deleted: int
    recent: int
    size: int
    uid_next: UID
    uid_validity: UIDValidity
    highest_mod_seq: ModSeq


@dataclass(frozen=True, slots=True)
class Listing:
    """
    A mailbox at one moment.

    Args:
        uids: ascending, as an ``array('I')`` or any sequence of int.
        keywords: every keyword in use in the mailbox.
        first_unseen: the UID of the first message without \\Seen, or None.
    """

    uids: Sequence[int]
    uid_next: UID
    highest_mod_seq: ModSeq
    keywords: tuple[str, ...]
    first_unseen: UID | None


@dataclass(frozen=True, slots=True)
class Changes:
    """
    What became different after a mod-sequence.

    Args:
        added: UIDs of messages that are new, ascending.
        flagged: (uid, flags, mod_seq) of messages there before whose flags changed.
        vanished: UIDs that are gone.
    """

    added: tuple[int, ...]
    flagged: tuple[tuple[int, tuple[str, ...], int], ...]
    vanished: tuple[int, ...]
    highest_mod_seq: ModSeq
    uid_next: UID
    keywords: tuple[str, ...]


class Column(Flag):
    """What `IMailbox.records` is asked to fill in; UID is always there."""

    FLAGS = auto()
    MOD_SEQ = auto()
    DATE = auto()
    SIZE = auto()
    ENVELOPE = auto()
    BODY_STRUCTURE = auto()
    BODY = auto()
    HEADER = auto()
    """All header octets with the empty line that ends them."""
    CONTENT = auto()
    """All octets of messages up to `CONTENT_LIMIT`; None for larger ones: use `content`."""
    USUAL_FIELDS = auto()
    """
    In `Record.header` the fields that `mailhost.message.digest.USUAL_FIELDS` names, as they stand,
    and an empty line. Not together with HEADER or CONTENT.
    """
    EMAIL_ID = auto()
    THREAD_ID = auto()


CONTENT_LIMIT = 256 * 1024


@dataclass(slots=True)
class Record:
    """
    One message. What was not asked for keeps its default.

    Args:
        flags: system flags as ``\\Seen``, keywords as they are; never ``\\Recent``.
        date: internal date, Unix seconds; `zone` minutes east of UTC to show it in.
        envelope, body_structure, body: finished octets for FETCH (RFC 9051 7.5.2).
    """

    uid: int
    flags: tuple[str, ...] = ()
    mod_seq: int = 0
    date: int = 0
    zone: int = 0
    size: int = 0
    envelope: bytes = b""
    body_structure: bytes = b""
    body: bytes = b""
    header: bytes = b""
    content: bytes | None = None
    email_id: str = ""
    thread_id: str = ""


class FlagOperation(Enum):
    """How STORE combines the flags it names with those that are set."""

    REPLACE = "FLAGS"
    ADD = "+FLAGS"
    REMOVE = "-FLAGS"


@dataclass(frozen=True, slots=True)
class StoreResult:
    """
    What STORE did.

    Args:
        stored: (uid, flags, mod_seq) of each message that the operation was applied to.
        modified: UIDs left alone because they changed since (RFC 7162 3.1.3).
    """

    stored: tuple[tuple[int, tuple[str, ...], int], ...]
    modified: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpungeResult:
    """Which UIDs are gone, and the mod-sequence of that change."""

    uids: tuple[int, ...]
    highest_mod_seq: ModSeq


@dataclass(frozen=True, slots=True)
class CopyResult:
    """COPY or MOVE: source UIDs and the UIDs of their copies, pairwise (RFC 4315 3)."""

    uid_validity: UIDValidity
    source: tuple[int, ...]
    copies: tuple[int, ...]
    highest_mod_seq: ModSeq
    """Of the source mailbox after a MOVE; 0 after a COPY."""


class IContent(Interface):
    """The octets of one message, in CRLF form. Close it."""

    size = Attribute("All octets.")

    def read(offset: int, length: int) -> bytes | Deferred[bytes]:
        """That many octets from the offset, fewer at the end; MessageDamaged."""

    def close() -> None:
        """Let go of the file."""


class IAppend(Interface):
    """Takes one message for a mailbox."""

    def write(data: bytes) -> Deferred[None] | None:
        """Add octets, as `ISpoolWriter.write`."""

    def commit(
        flags: Sequence[str], internal_date: int | None, zone: int = 0
    ) -> Deferred[Placement]:
        """Fire when the message is durable and visible; fails with StorageError, SpoolFull."""

    def abort() -> None:
        """Forget it."""


@dataclass(frozen=True, slots=True)
class Selected:
    """
    A mailbox that was opened for SELECT.

    Args:
        mailbox: the session closes it.
        recent_from: as `IMailbox.claim_recent` gives it.
        listing: made after that, so that what arrives in between is not taken for recent.
    """

    mailbox: IMailbox
    recent_from: int
    listing: Listing


class IMailAccess(Interface):
    """The avatar of an account that reads mail: its mailboxes, and those shared with it."""

    account_id = Attribute("AccountID")
    address = Attribute("The account's primary Address.")

    def mailboxes() -> Deferred[tuple[MailboxFacts, ...]]:
        """Every mailbox, and every subscribed name that has none, by name with INBOX first."""

    def status(mailbox_id: MailboxID) -> Deferred[MailboxStatus]:
        """The counters of a mailbox, NoSuchMailbox."""

    def open(mailbox_id: MailboxID, read_only: bool) -> Deferred[IMailbox]:
        """Open a mailbox for one session, NoSuchMailbox. The session closes it."""

    def select(name: str, read_only: bool) -> Deferred[Selected]:
        """Open a mailbox by name, claim what is recent, list it; at once. NoSuchMailbox."""

    def create(name: str, special_use: Sequence[str] = ()) -> Deferred[MailboxID]:
        """Create a mailbox and missing parents: MailboxExists, MailboxNameRefused."""

    def delete(mailbox_id: MailboxID) -> Deferred[None]:
        """Delete a mailbox, not its children: NoSuchMailbox, MailboxReadOnly for INBOX."""

    def rename(mailbox_id: MailboxID, name: str) -> Deferred[None]:
        """
        Rename a mailbox with all below it.

        INBOX is emptied into a new mailbox of the name instead (RFC 9051 6.3.6).
        """

    def subscribe(name: str, subscribed: bool) -> Deferred[None]:
        """Add or remove a name of the subscription list; it need not exist (RFC 9051 6.3.7)."""

    def append(mailbox_id: MailboxID) -> Deferred[IAppend]:
        """Start adding a message, NoSuchMailbox."""

    def watch(listener: Callable[[MailboxID, ModSeq], None]) -> Callable[[], None]:
        """
        Call the listener on the event thread after any change of a mailbox of this account.

        Returns what ends it. A call may be late or stand for several changes.
        """


class IMailbox(Interface):
    """An open mailbox, for one session. UIDs that do not exist are passed over in silence."""

    mailbox_id = Attribute("MailboxID")
    uid_validity = Attribute("UIDValidity")
    read_only = Attribute("bool: every change fails with MailboxReadOnly.")

    def listing() -> Deferred[Listing]:
        """What is there now."""

    def changes(mod_seq: ModSeq) -> Deferred[Changes]:
        """What changed after that mod-sequence."""

    def claim_recent() -> Deferred[int]:
        """
        Return the lowest UID that no session was told of as recent, and mark all as told.

        A read-only mailbox marks nothing (RFC 3501 2.3.2).
        """

    def records(uids: Sequence[int], columns: Column) -> Deferred[list[Record]]:
        """
        Those messages by ascending UID; the caller asks in portions. MessageDamaged ones with
        CONTENT, HEADER or USUAL_FIELDS have it empty (b'') and size 0.
        """

    def content(uid: int) -> Deferred[IContent]:
        """The octets of one message: MessageDamaged, NoSuchEntry when it is gone."""

    def store(
        uids: Sequence[int],
        operation: FlagOperation,
        flags: Sequence[str],
        unchanged_since: ModSeq | None = None,
    ) -> Deferred[StoreResult]:
        """Change flags; durable within a second."""

    def expunge(uids: Sequence[int] | None, *, marked: bool = True) -> Deferred[ExpungeResult]:
        """
        Remove those of the messages that have \\Deleted, or all of them if not `marked`.

        ``None`` means the whole mailbox. The removal is durable when fired.
        """

    def copy(uids: Sequence[int], mailbox_id: MailboxID) -> Deferred[CopyResult]:
        """Copy with flags and dates, all or none; NoSuchMailbox."""

    def move(uids: Sequence[int], mailbox_id: MailboxID) -> Deferred[CopyResult]:
        """Move, all or none (RFC 6851)."""

    def search(criterion: Criterion, recent_from: int) -> Deferred[Sequence[int]]:
        """UIDs of the messages that match, ascending; UIDs from `recent_from` on are recent."""

    def close() -> None:
        """End the session's use of it."""


class IMailStore(Interface):
    """All accounts' mail."""

    def access(account_id: AccountID, address: Address) -> IMailAccess | Deferred[IMailAccess]:
        """The mail of an account; its directory is made at first use."""
