"""
Reports to senders: failures and delays (RFC 3464), each as a message through the same spool.

A report has the null reverse-path, and none is ever made about a message that has it: what fails
then is dropped, and said in the log. So there are no bounces of bounces, and no storm (R-14).

All recipients of a message that have failed when its last running attempt ends share one report.
Its commit and the removal of their rows are one transaction: a crash leaves either both or none,
and the next start finds rows that failed and reports them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.address import Address
from mailhost.errors import SyntaxFault
from mailhost.ids import new_id
from mailhost.interfaces.spool import Body, Envelope, Recipient
from mailhost.message.dsn import Original, ReportedRecipient, report
from mailhost.message.headers import header_end
from mailhost.queue.clock import SteadyClock
from mailhost.queue.reader import Reportable
from mailhost.queue.records import Change, QueueRecipient, Remove, Warned
from mailhost.queue.schedule import RetrySchedule
from mailhost.queue.spool import Spool
from mailhost.reply import Action, DeliveryStatus
from mailhost.units import QueueID

RETRY = 60.0
"""Seconds until a report that could not be committed is tried again."""

HEADER_LIMIT = 256 * 1024
RETURN_LIMIT = 50_000
"""Octets of the message that are read for its header, or returned whole (RET=FULL)."""

UNKNOWN = DeliveryStatus(Action.FAILED, "5.0.0", "delivery failed")


@dataclass(slots=True, eq=False)
class _Task:
    """A message to report on: which recipients are late; asked for again while at work."""

    delayed: set[int]
    again: bool = False
    retry: IDelayedCall | None = None


class Bouncer:
    """
    Tells senders what became of their mail.

    Args:
        spool: where reports are committed.
        route: says what mail for an address becomes, at once or as a Deferred; a recipient that
            leads nowhere means that the report cannot be delivered.
        host: our name in reports.
        wall: Unix time, for the Date and ids.
        random_bytes: as ``os.urandom``.
    """

    log = Logger()

    def __init__(
        self,
        spool: Spool,
        route: Callable[[Address], Recipient | Deferred[Recipient]],
        reactor: IReactorTime,
        clock: SteadyClock,
        *,
        host: str,
        wall: Callable[[], float],
        random_bytes: Callable[[int], bytes],
        schedule: RetrySchedule | None = None,
    ) -> None:
        self._spool = spool
        self._route = route
        self._reactor = reactor
        self._clock = clock
        self._host = host
        self._wall = wall
        self._random_bytes = random_bytes
        self._schedule = schedule or RetrySchedule()
        self._tasks: dict[int, _Task] = {}
        self._working: set[Deferred[None]] = set()
        self._running = True

    def stop(self) -> None:
        """Begin nothing more and leave off what is at work: all of it is on disk and waits."""
        self._running = False
        for task in self._tasks.values():
            if task.retry is not None and task.retry.active():
                task.retry.cancel()
        for work in list(self._working):
            work.cancel()

    def due(self, message: int, delayed: Sequence[int] = ()) -> None:
        """Report a message's failed recipients, and those delayed ones, by number of row."""
        task = self._tasks.get(message)
        if task is not None:
            task.delayed.update(delayed)
            task.again = True
            return
        self._tasks[message] = _Task(set(delayed))
        self._begin(message)

    def _begin(self, message: int) -> None:
        if not self._running:
            return
        task = self._tasks[message]
        task.again = False
        task.retry = None
        delayed = set(task.delayed)
        work = Deferred.fromCoroutine(self._report(message, delayed))
        self._working.add(work)

        def ended(outcome: object) -> None:
            self._working.discard(work)
            if not self._running:
                return
            if isinstance(outcome, Failure):
                self.log.error(
                    event="queue.report.failed",
                    error=outcome.getErrorMessage(),
                    kind=outcome.type.__name__ if outcome.type else "",
                )
                task.retry = self._reactor.callLater(RETRY, self._begin, message)
                return
            task.delayed -= delayed
            if task.again:
                self._begin(message)
            else:
                self._tasks.pop(message, None)

        work.addBoth(ended)

    async def _report(self, number: int, delayed: set[int]) -> None:
        """Commit one report, or drop what nobody is told of."""
        found = await self._spool.report(number, HEADER_LIMIT, RETURN_LIMIT)
        if found is None:
            return
        late = [row for row in found.recipients if row.number in delayed and not row.warned]
        late = [row for row in late if row not in found.failed]
        if not found.failed and not late:
            return
        changes: list[Change] = [Remove(row.number) for row in found.failed]
        changes += [Warned(row.number) for row in late]
        sender = found.message.envelope.reverse_path
        told = [row for row in found.failed if not row.notify or "FAILURE" in row.notify] + late
        if sender is None or not told:
            why = "null reverse-path" if sender is None else "not asked for"
            await self._drop(found, changes, why)
            return
        routed = self._route(sender)
        recipient = await routed if isinstance(routed, Deferred) else routed
        if not recipient.local and not recipient.remote:
            await self._drop(found, changes, "nobody to tell")
            return
        await self._send(found, told, changes, sender, recipient)

    async def _drop(self, found: Reportable, changes: list[Change], why: str) -> None:
        await self._spool.record(found.message.number, changes)
        for row in found.failed:
            self.log.warn(
                event="queue.dropped",
                queue_id=found.message.queue_id,
                forward_path=row.address,
                status=row.last.status if row.last else "",
                diagnostic=row.last.diagnostic if row.last else "",
                reason=why,
            )

    async def _send(
        self,
        found: Reportable,
        told: list[QueueRecipient],
        changes: list[Change],
        sender: Address,
        recipient: Recipient,
    ) -> None:
        message = found.message
        now = self._wall()
        queue_id = QueueID(new_id(now, self._random_bytes))
        octets = report(
            host=self._host,
            to=sender,
            recipients=[self._reported(found, row, now) for row in told],
            original=_original(found),
            now=now,
            unique=queue_id,
        )
        envelope = Envelope(
            queue_id,
            None,
            (recipient,),
            now,
            Body.SEVEN_BIT if octets.isascii() else Body.EIGHT_BIT,
            smtputf8=not sender.is_ascii or not all(row.address.isascii() for row in told),
        )
        await self._spool.accept(
            envelope,
            b"",
            [octets],
            None,
            len(octets),
            closes=tuple(changes),
            closed_message=message.number,
        )
        self.log.info(
            event="queue.bounced" if found.failed else "queue.warned",
            queue_id=message.queue_id,
            report=queue_id,
            reverse_path=str(sender),
            forward_path=[row.address for row in told],
            status=[row.last.status if row.last else "" for row in told],
        )

    def _reported(self, found: Reportable, row: QueueRecipient, now: float) -> ReportedRecipient:
        late = row not in found.failed
        expiry = self._schedule.expiry(found.message.accepted_at, null_reverse_path=False)
        # Times in the queue are the steady clock's; people read the wall's.
        offset = now - self._clock.now()
        return ReportedRecipient(
            _address(row.address, found),
            row.last or UNKNOWN,
            row.orcpt,
            None,
            expiry + offset if late else None,
        )


def _address(text: str, found: Reportable) -> Address:
    try:
        return Address.parse(text)
    except SyntaxFault:
        return found.message.envelope.recipients[0].forward_path


def _original(found: Reportable) -> Original:
    message = found.message
    envelope = message.envelope
    octets, complete = found.octets, found.complete
    full = envelope.ret.upper() == "FULL" and complete
    if not full:
        octets = octets[: header_end(octets)]
        complete = False
    return Original(
        message.queue_id,
        envelope.received_at,
        octets,
        complete,
        envelope.envid,
        envelope.ret if full else "HDRS",
    )
