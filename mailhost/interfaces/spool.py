"""The envelope of a message, the spool that keeps it and the queue that moves it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from mailhost.address import Address
from mailhost.reply import DeliveryStatus, Reply
from mailhost.units import UID, AccountID, MailboxID, QueueID, UIDValidity


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
        internal_date: Unix time in seconds for this copy, or None for the time of receipt. A copy
            that has one was stored by its owner (APPEND), not delivered: it gets no Return-Path.
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


@dataclass(frozen=True, slots=True)
class Deposit:
    """
    One message for the local store, as the spool holds it durably.

    Args:
        queue_id: also the delivery id in the file's base name: depositing twice is harmless.
        prefix: octets that stand before the content (trace fields added at accept).
        content: the octets, or the synced file that holds them; CRLF line ends.
        size: of the content in octets, without the prefix.
        first: no copy of it was ever deposited, so that none need be looked for.
    """

    queue_id: QueueID
    reverse_path: Address | None
    prefix: bytes
    content: bytes | Path
    size: int
    received_at: float
    targets: tuple[LocalTarget, ...]
    first: bool = False


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
            OSError: it is not; the spool keeps its rows and asks again. After a failed sync the
                kernel's copy is not to be trusted, so the store goes on failing until all that is
                unsettled was given to `recover` again.
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
