"""APPEND: a message that a session stores goes through the spool, which makes it durable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from mailhost.address import Address
from mailhost.errors import (
    NoSuchMailbox,
    QuotaExceeded,
    SpoolFault,
    SpoolFull,
    StorageError,
)
from mailhost.interfaces.access import IAppend
from mailhost.interfaces.spool import (
    Envelope,
    ISpoolWriter,
    LocalTarget,
    Placement,
    PlacementResult,
    Recipient,
)
from mailhost.units import AccountID, MailboxID, QueueID


@implementer(IAppend)
class SpooledAppend:
    """
    One message on its way into one mailbox.

    Args:
        writer: of the spool, begun under the queue id; owned.
        now: Unix time in seconds.
    """

    def __init__(
        self,
        writer: ISpoolWriter,
        queue_id: QueueID,
        account_id: AccountID,
        address: Address,
        mailbox_id: MailboxID,
        now: Callable[[], float],
    ) -> None:
        self._writer, self._queue_id = writer, queue_id
        self._account_id, self._address, self._mailbox_id = account_id, address, mailbox_id
        self._now = now

    def write(self, data: bytes) -> Deferred[None] | None:
        """Add octets."""
        return self._writer.write(data)

    def commit(
        self, flags: Sequence[str], internal_date: int | None, zone: int = 0
    ) -> Deferred[Placement]:
        """Fire when the message is durable and visible; fails with StorageError, SpoolFull."""
        now = self._now()
        target = LocalTarget(
            self._account_id,
            self._mailbox_id,
            flags=tuple(flags),
            internal_date=int(now) if internal_date is None else internal_date,
            zone=zone,
        )
        envelope = Envelope(
            self._queue_id,
            None,
            (Recipient(self._address, local=(target,)),),
            now,
            account_id=self._account_id,
        )
        try:
            placed = self._writer.commit_placed(envelope, b"")
        except (SpoolFull, SpoolFault):
            return fail()
        return placed.addCallback(_placement)

    def abort(self) -> None:
        """Forget it."""
        self._writer.abort()


def _placement(results: Sequence[PlacementResult]) -> Placement:
    result = results[0]
    if isinstance(result, Placement):
        return result
    if result.status == "5.2.0":
        raise NoSuchMailbox(result.diagnostic)
    if result.status in ("4.2.2", "5.2.2", "4.3.1"):
        raise QuotaExceeded(result.diagnostic)
    raise StorageError(str(result))
