"""
Dispatch: gives each message that is due to the delivery agent, and records what became of it.

An attempt is one message to one next hop. It claims its recipients in memory only, so that a crash
or a stop returns them as they were, and keeps the claim until the outcome is durable, so that none
is attempted twice at once. The crash between a host's 250 and our record is the one duplicate that
SMTP cannot avoid (P3).

Fairness is by destination: destinations that have due mail and a free place of their own take
turns, one message a turn; none has more than `Concurrency.limit` places of the total (R-71).
What waits is not in memory: per destination there is the time of its earliest recipient, and
messages are read from the spool when there is a place for them.

Times of attempts are the steady clock's; timers are the reactor's, and no longer than
`LONGEST_SLEEP`. With an empty queue there is no timer.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.address import Address
from mailhost.interfaces.spool import DeliveryRequest, IDeliveryAgent
from mailhost.queue.clock import SteadyClock
from mailhost.queue.destinations import Concurrency, Destination
from mailhost.queue.journal import DAMAGED
from mailhost.queue.reader import MAX_CLAIM, Claims
from mailhost.queue.records import LOCAL, Change, Claim, Defer, Fail, QueueRecipient, Redate, Remove
from mailhost.queue.schedule import Judgement, RetrySchedule, judge
from mailhost.queue.spool import Spool
from mailhost.reply import Action, DeliveryStatus
from mailhost.units import QueueID

LONGEST_SLEEP = 300.0
"""Seconds."""

READ_AGAIN = 5.0
"""Seconds until the queue is read again after that failed."""

STARTED_LATELY = 3600.0
"""Seconds after a start in which mail of before does not expire: it lay still, and is tried now."""

STOP_RECORDING = 1.0
"""Seconds for which a stop waits for the last outcomes to be written."""

SHARED_PORTION = 50
"""Messages for a dead destination that are put off at once."""

BUG = DeliveryStatus(Action.DELAYED, "4.3.0", "the delivery attempt failed for a reason of ours")
INTERRUPTED = DeliveryStatus(Action.DELAYED, "4.3.2", "the delivery attempt was interrupted")


class Reports(Protocol):
    """Who tells senders: the bouncer."""

    def due(self, message: int, delayed: Sequence[int] = ()) -> None:
        """Report a message's failed recipients, and those delayed ones, by number of row."""


class Dispatcher:
    """
    Moves the queue on.

    Args:
        spool: whose listener this becomes.
        agent: takes messages elsewhere.
        reports: is told of what failed, after it is durable.
        random: floats in [0, 1), for the jitter.
        attempt_limit: seconds after which an attempt is cancelled.
        stop_grace: seconds for which `stop` lets attempts end by themselves.
    """

    log = Logger()

    def __init__(
        self,
        spool: Spool,
        agent: IDeliveryAgent,
        reports: Reports,
        reactor: IReactorTime,
        clock: SteadyClock,
        *,
        random: Callable[[], float],
        schedule: RetrySchedule | None = None,
        concurrency: Concurrency | None = None,
        attempt_limit: float = 7200.0,
        stop_grace: float = 4.0,
    ) -> None:
        self._spool = spool
        self._agent = agent
        self._reports = reports
        self._reactor = reactor
        self._clock = clock
        self._random = random
        self._schedule = schedule or RetrySchedule()
        self._concurrency = concurrency or Concurrency()
        self._attempt_limit = attempt_limit
        self._stop_grace = stop_grace
        self._destinations: dict[str, Destination] = {}
        self._rotation: deque[Destination] = deque()
        self._times: list[tuple[float, str]] = []
        self._attempts: dict[Deferred[Any], Claim] = {}
        self._reserved = 0
        # Attempts and records under way of each message; the report waits for the last one.
        self._busy: dict[int, int] = {}
        self._to_report: dict[int, set[int]] = {}
        self._timer: IDelayedCall | None = None
        self._running = False
        self._stopping = False
        self._pumping = False
        self._pump_again = False
        self._recording: set[Deferred[None]] = set()
        spool.listener = self

    # Service.

    def start(self) -> Deferred[None]:
        """Read what waits, and begin. Call it when the spool has started."""
        self._running = True
        reading = self._spool.destinations()

        def read(found: list[tuple[str, float]]) -> Deferred[list[int]]:
            for next_hop, due in found:
                self._note(self._destination(next_hop), due)
            return self._spool.failed_messages()

        def told(messages: list[int]) -> None:
            for message in messages:
                self.failed(message)
            self._pump()

        def failed(failure: Failure) -> None:
            self.log.error(event="queue.read.failed", error=failure.getErrorMessage())
            if self._running:
                self._reactor.callLater(READ_AGAIN, self._restart)

        return reading.addCallback(read).addCallback(told).addErrback(failed)

    def _restart(self) -> None:
        if self._running:
            self.start()

    def stop(self) -> Deferred[None]:
        """Start nothing more, let attempts end or cancel them, and fire when all is recorded."""
        self._running = False
        self._cancel_timer()
        done: Deferred[None] = Deferred()

        def end() -> None:
            for timer in timers:
                if timer.active():
                    timer.cancel()
            if not done.called:
                done.callback(None)

        def give_up() -> None:
            # The outcome of an attempt cannot be written: it will be made once more (P3).
            self.log.error(event="queue.stop.unrecorded", records=len(self._recording))
            end()

        def cut() -> None:
            self._stopping = True
            for attempt in list(self._attempts):
                attempt.cancel()

        def check() -> None:
            waiting = [*self._attempts, *self._recording]
            if waiting:
                # Deferreds of our own: the attempts' results are not ours to take.
                DeferredList([_after(one) for one in waiting]).addCallback(lambda _: check())
            else:
                end()

        timers = [
            self._reactor.callLater(self._stop_grace, cut),
            self._reactor.callLater(self._stop_grace + STOP_RECORDING, give_up),
        ]
        check()
        return done

    def wake(self) -> Deferred[None]:
        """Read again when each destination is due, after changes that were made in the spool."""
        for destination in self._destinations.values():
            destination.dead = None
        return self.start() if self._running else succeed(None)

    def cancel(self, queue_ids: Sequence[QueueID]) -> None:
        """Cancel the attempts of messages that were deleted."""
        for attempt, claim in list(self._attempts.items()):
            if claim.message.queue_id in queue_ids:
                attempt.cancel()

    # QueueListener.

    def accepted(self, claims: Sequence[Claim]) -> None:
        """Attempt new messages at once where there is a place, with what is in memory."""
        now = self._clock.now()
        for claim in claims:
            destination = self._destination(claim.next_hop)
            if (
                self._running
                and destination.free > 0
                and not destination.loading
                and not destination.queued
                and destination.dead is None
                and self._has_place(destination)
            ):
                self._attempt(destination, claim)
            else:
                self._note(destination, now)
        self._pump()

    def waiting(self, next_hop: str, due: float) -> None:
        """A recipient of that next hop is to be attempted then."""
        self._note(self._destination(next_hop), due)
        self._pump()

    def failed(self, message: int) -> None:
        """Have the sender told, when no attempt of the message is under way."""
        self._to_report.setdefault(message, set())
        self._report_if_idle(message)

    # Whose turn it is.

    def _destination(self, next_hop: str) -> Destination:
        destination = self._destinations.get(next_hop)
        if destination is None:
            destination = Destination(next_hop, self._concurrency)
            self._destinations[next_hop] = destination
        return destination

    def _note(self, destination: Destination, due: float) -> None:
        """A recipient that is not claimed is due then."""
        if due < destination.earliest:
            destination.earliest = due
            heapq.heappush(self._times, (due, destination.next_hop))

    def _places(self) -> int:
        return self._concurrency.total - len(self._attempts) - self._reserved

    def _has_place(self, destination: Destination) -> bool:
        """
        Whether one more attempt to the destination fits into the total.

        The last quarter is for destinations that have no more than they start with: many slow ones
        that grew large do not keep out the others.
        """
        places = self._places()
        if len(destination.claimed) >= self._concurrency.start:
            return places > self._concurrency.total // 4
        return places > 0

    def _pump(self) -> None:
        """Start what can start now, and set the timer for what comes next."""
        if self._pumping:
            # Answers that come at once would otherwise call one another without end.
            self._pump_again = True
            return
        self._pumping = True
        try:
            self._pump_again = True
            while self._pump_again and self._running:
                self._pump_again = False
                self._turn()
        finally:
            self._pumping = False

    def _turn(self) -> None:
        now = self._clock.now()
        while self._times and self._times[0][0] <= now:
            due, next_hop = heapq.heappop(self._times)
            destination = self._destinations.get(next_hop)
            if destination is not None and destination.earliest == due:
                self._enqueue(destination)
        turns = len(self._rotation)
        while self._rotation and turns > 0 and self._places() > 0:
            turns -= 1
            destination = self._rotation.popleft()
            destination.queued = False
            destination.revive()
            if destination.earliest > now or (destination.free <= 0 and not destination.dead):
                continue
            if self._has_place(destination):
                self._load(destination)
            else:
                self._enqueue(destination)
        self._set_timer(now)

    def _enqueue(self, destination: Destination) -> None:
        if not destination.queued and not destination.loading:
            destination.queued = True
            self._rotation.append(destination)

    def _set_timer(self, now: float) -> None:
        self._cancel_timer()
        if self._times:
            # What is due already waits for a place, and is woken by its becoming free.
            delay = min(max(self._times[0][0] - now, 0.0), LONGEST_SLEEP)
            self._timer = self._reactor.callLater(delay, self._woken)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _woken(self) -> None:
        self._timer = None
        self._pump()

    # Reading.

    def _load(self, destination: Destination) -> None:
        """Read the destination's next message, holding a place for it."""
        destination.loading = True
        self._reserved += 1
        limit, due = 1, self._clock.now()
        if destination.dead:
            # What came later deserves an attempt of its own.
            limit, due = SHARED_PORTION, destination.dead_at
        claimed = frozenset(destination.claimed)
        reading = self._spool.claims(destination.next_hop, due, limit, claimed)
        before = destination.earliest

        def loaded(claims: Claims) -> None:
            self._reserved -= 1
            destination.loading = False
            # What was noted while it was read is not lost.
            noted = destination.earliest if destination.earliest < before else inf
            destination.earliest = inf
            if claims.earliest is not None:
                self._note(destination, claims.earliest)
            if noted < inf:
                self._note(destination, noted)
            for claim in claims.damaged:
                self._claim(destination, claim)
                self._finish(destination, claim, [DAMAGED] * len(claim.recipients))
            for claim in claims.claims:
                if not self._running:
                    self._note(destination, self._clock.now())
                elif destination.dead is not None:
                    self._claim(destination, claim)
                    self._finish(destination, claim, [destination.dead] * len(claim.recipients))
                else:
                    self._attempt(destination, claim)
            destination.revive()
            self._again(destination)

        def failed(failure: Failure) -> None:
            self._reserved -= 1
            destination.loading = False
            self.log.error(event="queue.read.failed", error=failure.getErrorMessage())
            destination.earliest = inf
            self._note(destination, self._clock.now() + READ_AGAIN)
            self._pump()

        reading.addCallback(loaded).addErrback(failed)

    def _again(self, destination: Destination) -> None:
        """After any change of a destination: its turn comes again, or it is forgotten."""
        if destination.idle:
            if self._destinations.get(destination.next_hop) is destination:
                del self._destinations[destination.next_hop]
        elif destination.earliest <= self._clock.now() and destination.free > 0:
            self._enqueue(destination)
        self._pump()

    # Attempts.

    def _claim(self, destination: Destination, claim: Claim) -> None:
        number = claim.message.number
        destination.claimed.add(number)
        self._busy[number] = self._busy.get(number, 0) + 1

    def _attempt(self, destination: Destination, claim: Claim) -> None:
        self._claim(destination, claim)
        started = self._clock.now()
        try:
            if destination.next_hop == LOCAL:
                attempt = self._spool.redeposit(claim)
            else:
                attempt = self._agent.deliver(_request(claim))
        except Exception:
            attempt = Deferred()
            attempt.errback(Failure())
        self._attempts[attempt] = claim
        limit = self._reactor.callLater(self._attempt_limit, attempt.cancel)

        def ended(outcome: Any) -> None:
            if limit.active():
                limit.cancel()
            self._attempts.pop(attempt, None)
            statuses = self._statuses(claim, outcome)
            self._log_attempt(claim, statuses, self._clock.now() - started)
            if self._stopping:
                statuses = [_undecided(status) for status in statuses]
            known = [status for status in statuses if status is not None]
            destination.learn(known, self._clock.now())
            self._finish(destination, claim, statuses)
            self._again(destination)

        attempt.addBoth(ended)

    def _statuses(self, claim: Claim, outcome: Any) -> list[DeliveryStatus | None]:
        if isinstance(outcome, Failure):
            if outcome.check(CancelledError):
                return [INTERRUPTED] * len(claim.recipients)
            self.log.failure("a delivery agent failed", outcome, event="queue.attempt.failed")
            return [BUG] * len(claim.recipients)
        if len(outcome) != len(claim.recipients):
            self.log.error(
                event="queue.attempt.miscounted",
                queue_id=claim.message.queue_id,
                recipients=len(claim.recipients),
                statuses=len(outcome),
            )
            return [BUG] * len(claim.recipients)
        return list(outcome)

    def _finish(
        self,
        destination: Destination,
        claim: Claim,
        statuses: Sequence[DeliveryStatus | None],
    ) -> None:
        """Record what became of the recipients, and let go of them when that is durable."""
        message = claim.message
        changes: list[Change] = []
        delayed: set[int] = set()
        fails = False
        earliest = inf
        now = self._clock.now()
        if message.accepted_at > now:
            message = replace(message, accepted_at=now)
            changes.append(Redate(message.number, now))
        for row, status in zip(claim.recipients, statuses, strict=True):
            if status is None:
                continue
            change, warn = self._judge(Claim(message, claim.next_hop, ()), row, status, now)
            if change is not None:
                changes.append(change)
            if warn:
                delayed.add(row.number)
            if isinstance(change, Defer):
                earliest = min(earliest, change.next_attempt)
            fails = fails or isinstance(change, Fail)

        def recorded(_: object) -> None:
            self._recording.discard(recording)
            destination.claimed.discard(message.number)
            if earliest < inf:
                self._note(destination, earliest)
            if len(claim.recipients) == MAX_CLAIM:
                self._note(destination, now)
            if fails or delayed:
                self._to_report.setdefault(message.number, set()).update(delayed)
            self._release(message.number)
            self._again(destination)

        recording = self._spool.record(message.number, changes) if changes else succeed(None)
        self._recording.add(recording)
        recording.addCallback(recorded)

    def _release(self, message: int) -> None:
        left = self._busy[message] - 1
        if left:
            self._busy[message] = left
        else:
            del self._busy[message]
            self._report_if_idle(message)

    def _report_if_idle(self, message: int) -> None:
        if message in self._to_report and message not in self._busy and self._running:
            self._reports.due(message, tuple(self._to_report.pop(message)))

    def _judge(
        self, claim: Claim, row: QueueRecipient, status: DeliveryStatus, now: float
    ) -> tuple[Change | None, bool]:
        """Return what to write about one recipient, and whether its sender is to be warned."""
        message = claim.message
        envelope = message.envelope
        attempts = row.attempts + 1
        if status.done:
            event = "queue.redelivered" if claim.next_hop == LOCAL else "queue.relayed"
            self._log_recipient(event, claim, row, status, now)
            # The journal has removed the row of a local recipient with its copy's settling.
            return (None if claim.next_hop == LOCAL else Remove(row.number)), False
        if status.action is Action.FAILED:
            self._log_recipient("queue.failed", claim, row, status, now)
            return Fail(row.number, attempts, status), False
        following = judge(
            self._schedule,
            now=now,
            accepted_at=message.accepted_at,
            attempts=attempts,
            warned=row.warned,
            null_reverse_path=envelope.reverse_path is None,
            may_expire=self._may_expire(message.accepted_at, now),
            random=self._random,
        )
        if following.judgement is Judgement.EXPIRED:
            self._log_recipient("queue.expired", claim, row, status, now)
            return Fail(row.number, attempts, _expired(status)), False
        self._log_recipient("queue.deferred", claim, row, status, now, following.due)
        warn = following.warn and (not row.notify or "DELAY" in row.notify)
        return Defer(row.number, attempts, following.due, status), warn

    def _may_expire(self, accepted_at: float, now: float) -> bool:
        uptime = self._clock.uptime()
        return uptime >= STARTED_LATELY or accepted_at >= now - uptime

    def _log_attempt(
        self, claim: Claim, statuses: Sequence[DeliveryStatus | None], duration: float
    ) -> None:
        known = [status for status in statuses if status is not None]
        self.log.info(
            event="queue.attempt",
            queue_id=claim.message.queue_id,
            next_hop=claim.next_hop,
            recipients=len(known),
            done=sum(status.done for status in known),
            duration=round(duration, 3),
        )

    def _log_recipient(
        self,
        event: str,
        claim: Claim,
        row: QueueRecipient,
        status: DeliveryStatus,
        now: float,
        due: float | None = None,
    ) -> None:
        self.log.info(
            event=event,
            queue_id=claim.message.queue_id,
            forward_path=row.address,
            next_hop=claim.next_hop,
            attempts=row.attempts + 1,
            status=status.status,
            reply=status.reply_code,
            relay_host=status.remote_mta,
            tls=status.tls,
            diagnostic=status.diagnostic,
            delay=round(now - claim.message.accepted_at, 3),
            retry_in=None if due is None else round(due - now),
        )


def _request(claim: Claim) -> DeliveryRequest:
    message = claim.message
    envelope = message.envelope
    dsn = tuple((row.orcpt, row.notify) for row in claim.recipients)
    return DeliveryRequest(
        message.queue_id,
        envelope.reverse_path,
        tuple(Address.parse(row.address) for row in claim.recipients),
        claim.next_hop,
        message.prefix,
        message.content,
        message.size,
        envelope.body,
        envelope.smtputf8,
        envelope.ret,
        envelope.envid,
        dsn if any(orcpt or notify for orcpt, notify in dsn) else (),
    )


def _expired(last: DeliveryStatus) -> DeliveryStatus:
    """Return the status of a recipient that is given up for age (RFC 3463 X.4.7)."""
    return replace(
        last,
        action=Action.FAILED,
        status="5.4.7",
        diagnostic=f"delivery time expired; last attempt: {last.status} {last.diagnostic}",
    )


def _undecided(status: DeliveryStatus | None) -> DeliveryStatus | None:
    """Return None for what an interrupted attempt says nothing about: it stays as it was."""
    return None if status is not None and status.action is Action.DELAYED else status


def _after(deferred: Deferred[Any]) -> Deferred[None]:
    """Return a Deferred that fires when the other one has, whose result it leaves alone."""
    result: Deferred[None] = Deferred()

    def pass_on(value: Any) -> Any:
        result.callback(None)
        return value

    deferred.addBoth(pass_on)
    return result
