"""
Every seam of mailhost, and the values that cross it.

A package above this one knows its neighbours by these interfaces only; `mailhost.service` puts the
real objects behind them. Each has one contract suite in ``tests/contracts``, run against the real
implementation and the fake alike.

Unless a method says that it blocks, it is called on the event thread and returns at once. Where a
return type is ``T | Deferred[T]`` the plain value is the fast case, and the caller tests for it.
A Deferred fails only with errors of `mailhost.errors`, or is cancelled by its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, Flag, auto
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from mailhost.address import Address
from mailhost.criteria import Criterion
from mailhost.reply import DeliveryStatus, Reply
from mailhost.units import UID, AccountID, MailboxID, ModSeq, QueueID, UIDValidity

T = TypeVar("T")
MaybeDeferred: TypeAlias = "T | Deferred[T]"

# --- the envelope ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """
    A place in this store for one copy of a message.

    Args:
        account_id: whose mail it becomes.
        mailbox_id: the folder, or empty for where delivery rules put it (INBOX).
        delivered_to: written as a Delivered-To field in this copy, when the address that was
            asked for is not the account's own; copies without it share one file.
        flags: set from the start (APPEND).
        internal_date: Unix time in seconds for this copy, or None for the time of receipt.
        zone: minutes east of UTC in which the internal date was given.
    """

    account_id: AccountID
    mailbox_id: MailboxID | None = None
    delivered_to: Address | None = None
    flags: tuple[str, ...] = ()
    internal_date: int | None = None
    zone: int = 0


@dataclass(frozen=True, slots=True)
class Recipient:
    """
    One RCPT, with all that it expands to.

    Args:
        forward_path: as the sender gave it.
        local: the copies that stay here.
        remote: the addresses the message is relayed to.
        orcpt, notify: DSN parameters as given (RFC 3461 4.1, 4.2), empty if absent.
    """

    forward_path: Address
    local: tuple[LocalTarget, ...] = ()
    remote: tuple[Address, ...] = ()
    orcpt: str = ""
    notify: tuple[str, ...] = ()


class Body(Enum):
    """What the sender declared the octets to be (RFC 6152, RFC 3030)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"
    BINARY = "BINARYMIME"


@dataclass(frozen=True, slots=True)
class Envelope:
    """
    What travels beside the message.

    Args:
        queue_id: the message's name everywhere, from accept to last delivery.
        reverse_path: None is the null reverse-path: nobody is told of failures.
        received_at: Unix time in seconds.
        account_id: who submitted it, None for mail from elsewhere.
        message_id: the Message-ID field, for logs and traces only; may be empty.
        ret, envid: DSN parameters as given (RFC 3461 4.3, 4.4), empty if absent.
    """

    queue_id: QueueID
    reverse_path: Address | None
    recipients: tuple[Recipient, ...]
    received_at: float
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    account_id: AccountID | None = None
    message_id: str = ""
    ret: str = ""
    envid: str = ""


# --- spool and queue -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Deposit:
    """
    One message for the local store, as the spool holds it durably.

    Args:
        queue_id: also the delivery id in the file's base name: depositing twice is harmless.
        prefix: octets that stand before the content (trace fields added at accept).
        content: the octets, or the synced file that holds them; CRLF line ends.
        size: of the content in octets, without the prefix.
    """

    queue_id: QueueID
    reverse_path: Address | None
    prefix: bytes
    content: bytes | Path
    size: int
    received_at: float
    targets: tuple[LocalTarget, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a copy came to lie."""

    account_id: AccountID
    mailbox_id: MailboxID
    uid_validity: UIDValidity
    uid: UID


PlacementResult: TypeAlias = Placement | DeliveryStatus
"""Placed, or why not: temporary ("delayed") is tried again, "failed" is bounced."""


class ILocalStore(Interface):
    """The store as the spool sees it. Every method blocks and runs on the spool's one thread."""

    def deposit(deposits: Sequence[Deposit]) -> Sequence[tuple[PlacementResult, ...]]:
        """
        Make the messages visible in their mailboxes, not yet durable there.

        Returns, for each deposit, one result for each of its targets, in order. It never raises
        for one message what would stop the others.
        """

    def recover(deposits: Sequence[Deposit]) -> Sequence[tuple[PlacementResult, ...]]:
        """
        The same after an unclean stop, for deposits that may have been made before.

        No file that exists is trusted: where the base name stands in any folder of the account the
        content is rewritten there, where it stands in a tombstone nothing is done, else it is
        deposited anew. Called before any listener opens.
        """

    def sync() -> None:
        """
        Return when all that was deposited before is on stable storage.

        Raises:
            OSError: it is not; the spool keeps its rows and asks again.
        """

    def settled(queue_ids: Sequence[QueueID]) -> None:
        """The spool no longer holds these: the store's own copy is the only one."""


class ISpool(Interface):
    """Accepted mail, durable from `commit` until everything that was promised for it is done."""

    def begin(queue_id: QueueID) -> ISpoolWriter:
        """Return a writer for one message's content."""

    def settle(queue_ids: Sequence[QueueID]) -> Deferred[None]:
        """Fire when none of these is held any longer: each copy is durable in its mailbox."""

    def room() -> Reply | None:
        """The refusal to give while there is no room for more mail, or None."""


class ISpoolWriter(Interface):
    """Takes one message's octets. The writer owns them until commit or abort."""

    size = Attribute("Octets written so far.")

    def write(data: bytes) -> Deferred[None] | None:
        """Add octets. A Deferred asks for patience: write no more until it fires."""

    def commit(envelope: Envelope, prefix: bytes) -> Deferred[None]:
        """
        Fire when envelope, prefix and content are on stable storage.

        Fails with SpoolFull or SpoolFault; then nothing is kept. Once only.
        """

    def commit_placed(envelope: Envelope, prefix: bytes) -> Deferred[tuple[PlacementResult, ...]]:
        """As `commit`, for local targets only, but fire when every copy is visible (APPEND)."""

    def abort() -> None:
        """Forget the content. Harmless after commit."""


@dataclass(frozen=True, slots=True)
class DeliveryRequest:
    """
    What a delivery agent is asked to do: one message to one next hop.

    Args:
        recipients: those to deliver to now, at most a hundred.
        next_hop: the domain, or smarthost name, that the recipients share.
        prefix, content, size: as in `Deposit`; the agent only reads.
    """

    queue_id: QueueID
    reverse_path: Address | None
    recipients: tuple[Address, ...]
    next_hop: str
    prefix: bytes
    content: bytes | Path
    size: int
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    dsn: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(orcpt, notify) of each recipient, in order; empty when there are none."""


class IDeliveryAgent(Interface):
    """Something that takes messages onward. It knows nothing of the queue."""

    def deliver(request: DeliveryRequest) -> Deferred[tuple[DeliveryStatus, ...]]:
        """
        Try once. Fire with one status for each recipient, in order; it does not fail.

        Cancelling stops the attempt; statuses of what was not answered are then "delayed".
        """


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """One address of a queued message that is still to be delivered, or was given up."""

    forward_path: str
    next_hop: str
    state: str
    attempts: int
    next_attempt: float
    last_status: str
    last_diagnostic: str
    last_remote_mta: str


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in the queue, as an administrator sees it."""

    queue_id: QueueID
    reverse_path: str
    received_at: float
    size: int
    message_id: str
    recipients: tuple[QueuedRecipient, ...]


class IQueue(Interface):
    """What can be asked of, and done to, mail that waits for delivery."""

    def messages() -> Deferred[tuple[QueuedMessage, ...]]:
        """Every message with a recipient that is not done, oldest first."""

    def message(queue_id: QueueID) -> Deferred[QueuedMessage]:
        """One of them, or NoSuchEntry."""

    def retry(queue_ids: Sequence[QueueID] | None) -> Deferred[int]:
        """Make the next attempt now, for these or for all; fire with how many messages."""

    def delete(queue_ids: Sequence[QueueID]) -> Deferred[int]:
        """Drop them without a bounce; fire with how many there were."""


# --- directory -----------------------------------------------------------------------------------


class AddressClass(Enum):
    """What the directory knows of an address."""

    LOCAL = "local"
    """Mail for it goes to accounts here, or through an alias to other addresses too."""
    REMOTE = "remote"
    """Its domain is not ours."""
    UNKNOWN = "unknown"
    """Its domain is ours, the address does not exist."""
    DISABLED = "disabled"
    """Its account exists and takes no mail now."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The class of an address, and the accounts and outside addresses it expands to."""

    address_class: AddressClass
    local: tuple[LocalTarget, ...] = ()
    remote: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain whose mail we keep; `name` is the A-label form."""

    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Account:
    """A person or program that can log in and receive mail."""

    account_id: AccountID
    address: Address
    display_name: str
    enabled: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class Alias:
    """An address whose mail goes to other addresses, ours or not."""

    address: Address
    targets: tuple[Address, ...]
    created_at: float


class IDirectory(Interface):
    """Who exists. Reads answer at once from memory or Deferred; changes are durable when fired."""

    def classify(address: Address) -> Classification | Deferred[Classification]:
        """Say what mail for the address becomes. Aliases are followed, loops end as UNKNOWN."""

    def is_local_domain(domain: str) -> bool | Deferred[bool]:
        """Whether we keep mail for the domain."""

    def may_send_as(account_id: AccountID, address: Address) -> bool | Deferred[bool]:
        """Whether the account owns the address: its own, or an alias that leads to it alone."""

    def account(account_id: AccountID) -> Deferred[Account]:
        """The account, or NoSuchEntry."""

    def account_by_address(address: Address) -> Deferred[Account]:
        """The account whose primary address this is, or NoSuchEntry."""

    def accounts(domain: str | None = None) -> Deferred[tuple[Account, ...]]:
        """All accounts, or those of a domain, by address."""

    def add_account(address: Address, password: str, display_name: str = "") -> Deferred[Account]:
        """Create an account in an existing domain: EntryExists, NoSuchEntry."""

    def set_password(account_id: AccountID, password: str) -> Deferred[None]:
        """Replace the password; every cached proof of the old one is forgotten."""

    def set_enabled(account_id: AccountID, enabled: bool) -> Deferred[None]:
        """Allow or forbid logins and mail."""

    def delete_account(account_id: AccountID) -> Deferred[None]:
        """Remove the account from the directory; its mail stays on disk under its id."""

    def domains() -> Deferred[tuple[Domain, ...]]:
        """All domains, by name."""

    def add_domain(name: str) -> Deferred[Domain]:
        """Take a domain: EntryExists."""

    def delete_domain(name: str) -> Deferred[None]:
        """Give up a domain: NoSuchEntry, or DirectoryError while accounts or aliases use it."""

    def aliases(domain: str | None = None) -> Deferred[tuple[Alias, ...]]:
        """All aliases, or those of a domain, by address."""

    def add_alias(address: Address, targets: Sequence[Address]) -> Deferred[Alias]:
        """Create an alias in an existing domain: EntryExists, NoSuchEntry."""

    def delete_alias(address: Address) -> Deferred[None]:
        """Remove an alias: NoSuchEntry."""


class IRecipientPolicy(Interface):
    """Decides about each RCPT."""

    def recipient(
        forward_path: Address, submission: ISubmission | None
    ) -> Recipient | Reply | Deferred[Recipient | Reply]:
        """
        Accept the recipient with what it expands to, or refuse it with a reply.

        `submission` is who logged in, None for mail from elsewhere: such mail is taken for our own
        domains only, so that this is no open relay.
        """


# --- login ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """
    What is known about a connection before anyone logs in.

    Args:
        protocol: ``smtp``, ``submission``, ``imap`` or ``pop3``.
        peer: the client's address, without port.
        tls: what protects it, such as ``TLSv1.3 TLS_AES_256_GCM_SHA384``; empty if nothing does.
        cleartext_login: a password may be sent although nothing protects it.
        channel_bindings: octets by binding type, for SCRAM -PLUS (RFC 5929, RFC 9266).
    """

    session: str
    protocol: str
    peer: str
    tls: str = ""
    cleartext_login: bool = False
    channel_bindings: tuple[tuple[str, bytes], ...] = ()


class LoginFailure(Enum):
    """Why a login did not succeed; the first two are never told apart to the peer."""

    CREDENTIALS = "credentials"
    """Unknown user, wrong password, or an identity that was not granted."""
    DISABLED = "disabled"
    """The proof was right; the account is disabled."""
    MALFORMED = "malformed"
    """The exchange does not follow its mechanism's grammar."""
    CANCELLED = "cancelled"
    """The client gave up with ``*``."""
    TEMPORARY = "temporary"
    """It could not be decided now."""
    ENCRYPTION_NEEDED = "encryption needed"
    """The mechanism is not offered without TLS (RFC 5034 4, 530 / 538, PRIVACYREQUIRED)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's next message in a SASL exchange, not yet base64."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """
    A login that succeeded.

    Args:
        avatar: provides the interface that was asked for.
        logout: to be called once when the session ends.
        final: what the mechanism still has to say with success (SCRAM), or None.
    """

    avatar: Any
    logout: Callable[[], None]
    account: str
    final: bytes | None = None


LoginOutcome: TypeAlias = LoggedIn | LoginFailure


class IAuthenticator(Interface):
    """Logins of every protocol: one SASL engine over a cred portal."""

    def mechanisms(facts: ConnectionFacts) -> tuple[bytes, ...]:
        """The SASL mechanisms to offer on this connection, best first; none means no login."""

    def begin(mechanism: bytes, facts: ConnectionFacts, interface: Any) -> IAuthentication | None:
        """Start an exchange that ends in an avatar for the interface; None if not offered."""

    def login(
        user: bytes, password: bytes, facts: ConnectionFacts, interface: Any
    ) -> Deferred[LoginOutcome]:
        """A login by name and password (IMAP LOGIN, POP3 USER and PASS)."""


class IAuthentication(Interface):
    """One SASL exchange, as the server."""

    def respond(
        data: bytes | None,
    ) -> Challenge | LoginOutcome | Deferred[Challenge | LoginOutcome]:
        """
        Take the client's message, decoded; None for the start without an initial response.

        Not called again before the answer is there, nor after an outcome.
        """

    def cancel() -> None:
        """The client gave up or went away."""


class ISubmission(Interface):
    """The avatar of an account that sends mail."""

    account_id = Attribute("AccountID")
    address = Attribute("The account's primary Address.")

    def may_send_as(address: Address) -> bool | Deferred[bool]:
        """Whether the account may use the address as reverse-path or From."""


class IAdministration(Interface):
    """The avatar of an administrator: the stores whose verbs the admin commands are."""

    directory = Attribute("IDirectory")
    queue = Attribute("IQueue")


# --- mail access ---------------------------------------------------------------------------------


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
        """Those messages by ascending UID; the caller asks in portions. MessageDamaged ones with
        CONTENT or HEADER have it empty (b'') and size 0."""

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


# --- names ---------------------------------------------------------------------------------------


class AnswerStatus(Enum):
    """What became of a look-up."""

    FOUND = "found"
    NO_DATA = "no data"
    """The name exists and has no such record."""
    NO_NAME = "no such name"
    FAILED = "failed"
    """No server gave a usable answer; always temporary."""


@dataclass(frozen=True, slots=True)
class MXRecord:
    """A mail exchanger; the host is a lower-case A-label name, empty for the null MX."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What the DNS says.

    Args:
        records: `MXRecord`, address texts, TXT octets: by the method that was called.
        secure: the resolver is trusted and says that the answer is validated (AD).
        problem: for `FAILED`, what went wrong, for people.
    """

    status: AnswerStatus
    records: tuple[Any, ...] = ()
    secure: bool = False
    problem: str = ""


class IResolver(Interface):
    """Names to records. No Deferred fails: trouble is the status FAILED. All can be cancelled."""

    def mx(domain: str) -> Deferred[Answer]:
        """MX records as `MXRecord`, as the DNS gave them."""

    def addresses(host: str) -> Deferred[Answer]:
        """AAAA and A records as texts; FOUND if either has any."""

    def txt(name: str) -> Deferred[Answer]:
        """TXT records as octets, strings of one record joined."""

    def names(address: str) -> Deferred[Answer]:
        """PTR records of an IP address as host names."""


# --- transport security --------------------------------------------------------------------------


class TLSDemand(Enum):
    """What a next hop must offer."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    """Used when offered, certificates not checked; clear text when TLS fails (RFC 7435)."""
    VERIFIED = "verified"
    """TLS with a certificate for the host's name, or no delivery."""


class ITLSPolicy(Interface):
    """Says what a next hop must offer before mail is given to it."""

    def demand(next_hop: str, host: str) -> TLSDemand | Deferred[TLSDemand]:
        """The demand for a host of a next hop."""
