"""A spool without threads, time or disk faults of its own: the test says what happens when."""

from __future__ import annotations

import errno
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from mailhost.address import Address
from mailhost.database import connect
from mailhost.files import FileOperations
from mailhost.interfaces.spool import (
    Body,
    DeliveryRequest,
    Deposit,
    Envelope,
    IDeliveryAgent,
    ILocalStore,
    LocalTarget,
    Placement,
    PlacementResult,
    Recipient,
)
from mailhost.queue.bounce import Bouncer
from mailhost.queue.clock import SteadyClock
from mailhost.queue.destinations import Concurrency
from mailhost.queue.dispatch import Dispatcher
from mailhost.queue.journal import Journal
from mailhost.queue.lanes import deferred_call
from mailhost.queue.mail_queue import MailQueue
from mailhost.queue.schedule import RetrySchedule
from mailhost.queue.spool import Spool, SpoolLimits
from mailhost.reply import Action, DeliveryStatus
from mailhost.units import UID, AccountID, MailboxID, QueueID, UIDValidity

NOON = 1_800_000_000.0
DELIVERED = DeliveryStatus(Action.RELAYED, "2.0.0", "250 taken", "mx.example", 250)
UNREACHABLE = DeliveryStatus(Action.DELAYED, "4.4.1", "connection refused")
BUSY = DeliveryStatus(Action.DELAYED, "4.2.1", "450 try later", "mx.example", 450)
UNKNOWN_USER = DeliveryStatus(Action.FAILED, "5.1.1", "550 no such user", "mx.example", 550)
OVER_QUOTA = DeliveryStatus(Action.FAILED, "5.2.2", "mailbox full")
LOCKED = DeliveryStatus(Action.DELAYED, "4.2.0", "mailbox busy")


class ManualLane:
    """A lane whose calls run when the test says so."""

    def __init__(self, answer: Callable[[Callable[[], None]], None]) -> None:
        self._answer = answer
        self.calls: deque[Callable[[], None]] = deque()
        self.stopped = False

    def run(self, call: Callable[[], None]) -> None:
        if not self.stopped:
            self.calls.append(call)

    def defer(self, call: Callable[[], Any]) -> Deferred[Any]:
        return deferred_call(call, self.run, self._answer)

    def stop(self) -> None:
        self.stopped = True

    def step(self) -> bool:
        if not self.calls:
            return False
        self.calls.popleft()()
        return True


class ManualRunner:
    """A journal's turns, made by the test."""

    def __init__(self, journal: Journal, answer: Callable[[Callable[[], None]], None]) -> None:
        self.journal = journal
        self._answer = answer
        self.jobs: list[Any] = []
        self.stopped: Deferred[None] | None = None

    def put(self, job: Any) -> None:
        self.jobs.append(job)

    def stop(self) -> Deferred[None]:
        self.stopped = Deferred()
        return self.stopped

    def step(self) -> bool:
        due = self.journal.wait() == 0
        if not self.jobs and not due:
            if self.stopped is not None and not self.stopped.called:
                self.journal.close()
                self.stopped.callback(None)
                return True
            return False
        jobs, self.jobs = self.jobs, []
        self.journal.turn(jobs)
        return True


class ManualThreads:
    """Every thread of a spool, run by hand and in a fixed order."""

    def __init__(self) -> None:
        self.lanes: list[ManualLane] = []
        self.runner: ManualRunner
        self.before_answer: Callable[[], None] = lambda: None

    def answer(self, call: Callable[[], None]) -> None:
        self.before_answer()
        call()

    def lane(self, name: str) -> ManualLane:
        lane = ManualLane(self.answer)
        self.lanes.append(lane)
        return lane

    def journal(self, journal: Journal) -> ManualRunner:
        self.runner = ManualRunner(journal, self.answer)
        return self.runner

    def run(self) -> None:
        """Run until nothing is left to do now."""
        while any([self.runner.step(), *[lane.step() for lane in self.lanes]]):
            pass


@implementer(ILocalStore)
class MemoryStore:
    """
    A local store that knows what is visible and what is durable.

    A copy is named by account and queue id, so that none can be there twice.
    """

    def __init__(self, step: Callable[[str], None] = lambda name: None) -> None:
        self.visible: dict[tuple[str, str], bytes] = {}
        self.durable: dict[tuple[str, str], bytes] = {}
        self.refusals: dict[str, list[DeliveryStatus]] = {}
        self.settled_ids: list[str] = []
        self.deposits = 0
        self.sync_error: Exception | None = None
        self.deposit_error: Exception | None = None
        self.lost: set[tuple[str, str]] = set()
        """Copies that a failed sync may have lost; no sync succeeds before they are recovered."""
        self._step = step
        self._uids: dict[str, int] = {}

    def deposit(self, deposits: Sequence[Deposit]) -> Sequence[tuple[PlacementResult, ...]]:
        self._step("deposit")
        if self.deposit_error is not None:
            raise self.deposit_error
        results = [
            tuple(self._place(deposit, target, trust=True) for target in deposit.targets)
            for deposit in deposits
        ]
        self._step("deposited")
        return results

    def recover(self, deposits: Sequence[Deposit]) -> Sequence[tuple[PlacementResult, ...]]:
        self._step("recover")
        for deposit in deposits:
            self.lost -= {(target.account_id, deposit.queue_id) for target in deposit.targets}
        return [
            tuple(self._place(deposit, target, trust=False) for target in deposit.targets)
            for deposit in deposits
        ]

    def sync(self) -> None:
        self._step("sync")
        if self.sync_error is not None:
            self.lost = set(self.visible) - set(self.durable)
            raise self.sync_error
        if self.lost:
            raise OSError(errno.EIO, "what an earlier sync lost must be recovered first")
        self.durable.update(self.visible)
        self._step("synced")

    def settled(self, queue_ids: Sequence[QueueID]) -> None:
        self._step("settled")
        self.settled_ids += queue_ids

    def _place(self, deposit: Deposit, target: LocalTarget, *, trust: bool) -> PlacementResult:
        self.deposits += 1
        refusals = self.refusals.get(target.account_id)
        if refusals:
            return refusals.pop(0) if len(refusals) > 1 else refusals[0]
        content = deposit.content
        octets = content.read_bytes() if isinstance(content, Path) else content
        assert len(octets) == deposit.size
        key = (target.account_id, deposit.queue_id)
        if not trust or key not in self.visible:
            self.visible[key] = deposit.prefix + octets
        uid = self._uids[target.account_id] = self._uids.get(target.account_id, 0) + 1
        return Placement(target.account_id, MailboxID("inbox"), UIDValidity(1), UID(uid))

    def after_kill(self) -> MemoryStore:
        """The store as the next process finds it."""
        store = MemoryStore()
        store.visible = deepcopy(self.visible)
        store.durable = deepcopy(self.durable)
        return store

    def after_power_cut(self) -> MemoryStore:
        """The same when names reached the disk but data did not (reliability R-85)."""
        store = MemoryStore()
        store.durable = deepcopy(self.durable)
        store.visible = {key: self.durable.get(key, b"") for key in self.visible}
        return store


@implementer(IDeliveryAgent)
class ScriptedAgent:
    """An agent that answers what the test's function says, now or after a time."""

    def __init__(
        self,
        clock: task.Clock,
        answer: Callable[[DeliveryRequest, Address], DeliveryStatus] = lambda r, a: DELIVERED,
        duration: Callable[[DeliveryRequest], float] = lambda r: 0.0,
    ) -> None:
        self._clock = clock
        self.answer = answer
        self.duration = duration
        self.requests: list[DeliveryRequest] = []
        self.times: list[float] = []
        self.relayed: list[tuple[str, str]] = []
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.cancelled = 0

    def deliver(self, request: DeliveryRequest) -> Deferred[tuple[DeliveryStatus, ...]]:
        self.requests.append(request)
        self.times.append(self._clock.seconds())
        hop = request.next_hop
        self.running[hop] = self.running.get(hop, 0) + 1
        self.most[hop] = max(self.most.get(hop, 0), self.running[hop])

        def finish() -> tuple[DeliveryStatus, ...]:
            self.running[hop] -= 1
            statuses = tuple(self.answer(request, address) for address in request.recipients)
            for address, status in zip(request.recipients, statuses, strict=True):
                if status.done:
                    self.relayed.append((request.queue_id, str(address)))
            return statuses

        duration = self.duration(request)
        if not duration:
            return succeed(finish())

        def cancel(_: object) -> None:
            self.cancelled += 1
            self.running[hop] -= 1
            timer.cancel()

        result: Deferred[tuple[DeliveryStatus, ...]] = Deferred(cancel)
        timer = self._clock.callLater(duration, lambda: result.callback(finish()))
        return result


class FaultyConnection:
    """A connection that asks the test before every statement."""

    def __init__(self, connection: sqlite3.Connection, before: Callable[[str], None]) -> None:
        self._connection = connection
        self._before = before

    def execute(self, statement: str, *arguments: Any) -> Any:
        self._before(statement)
        return self._connection.execute(statement, *arguments)

    def executemany(self, statement: str, *arguments: Any) -> Any:
        self._before(statement)
        return self._connection.executemany(statement, *arguments)

    def close(self) -> None:
        self._connection.close()

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction


class Rig:
    """A whole queue on one directory, with time and threads in the test's hand."""

    def __init__(
        self,
        directory: Path,
        *,
        store: MemoryStore | None = None,
        clock: task.Clock | None = None,
        files: FileOperations | None = None,
        before: Callable[[str], None] | None = None,
        schedule: RetrySchedule | None = None,
        concurrency: Concurrency | None = None,
        limits: SpoolLimits | None = None,
        start: float = NOON,
        local_domain: str = "here.example",
    ) -> None:
        self.directory = directory
        self.clock = clock or task.Clock()
        self.threads = ManualThreads()
        self.store = store or MemoryStore()
        begun = self.clock.seconds()
        self.steady = SteadyClock(lambda: start + begun, self.clock.seconds)
        self.wall = lambda: start + self.clock.seconds()
        self.counter = 0

        def connector(path: Any, **options: Any) -> Any:
            connection = connect(path, **options)
            return connection if before is None else FaultyConnection(connection, before)

        self.spool = Spool(
            directory,
            self.store,
            self.clock,
            self.threads,
            self.steady,
            files=files,
            limits=limits or SpoolLimits(free_octets=1, free_inodes=1),
            schedule=schedule,
            connector=connector,
        )
        self.agent = ScriptedAgent(self.clock)
        self.routes: Callable[[Address], Recipient] = lambda address: (
            local(str(address), address.local_part)
            if address.domain == local_domain
            else remote(str(address))
        )
        self.bouncer = Bouncer(
            self.spool,
            lambda address: self.routes(address),
            self.clock,
            self.steady,
            host="mx.here.example",
            wall=self.wall,
            random_bytes=self._bytes,
            schedule=schedule,
        )
        self.dispatcher = Dispatcher(
            self.spool,
            self.agent,
            self.bouncer,
            self.clock,
            self.steady,
            random=lambda: 0.5,
            schedule=schedule,
            concurrency=concurrency,
        )
        self.queue = MailQueue(self.spool, self.dispatcher, self.bouncer)

    def _bytes(self, count: int) -> bytes:
        self.counter += 1
        return self.counter.to_bytes(count, "big")

    def start(self) -> Rig:
        """Start the queue; it must succeed."""
        self.wait(self.queue.start())
        return self

    def run(self) -> None:
        """Let threads do what they can do now."""
        self.threads.run()

    def advance(self, seconds: float, step: float = 1.0) -> None:
        """Let time pass in steps, with the threads at work."""
        self.run()
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
            self.run()

    def next_event(self) -> bool:
        """Go to the next timer or pass, if there is one."""
        self.run()
        times = [call.getTime() - self.clock.seconds() for call in self.clock.getDelayedCalls()]
        wait = self.threads.runner.journal.wait()
        if wait is not None:
            times.append(wait)
        if not times:
            return False
        self.clock.advance(max(min(times), 0.0))
        self.run()
        return True

    def wait(self, deferred: Deferred[Any]) -> Any:
        """Return what the Deferred fires with, the threads at work but no time passing."""
        self.run()
        outcome: list[Any] = []
        deferred.addBoth(outcome.append)
        self.run()
        assert outcome, "not fired"
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    def send(
        self,
        queue_id: str,
        *recipients: Recipient,
        content: bytes = b"Subject: x\r\n\r\nbody\r\n",
        reverse_path: str | None = "sender@here.example",
        prefix: bytes = b"Received: x\r\n",
        **more: Any,
    ) -> Deferred[Any]:
        """Write and commit a message."""
        writer = self.spool.begin(QueueID(queue_id))
        for start in range(0, len(content), 50_000):
            writer.write(content[start : start + 50_000])
        return writer.commit(
            envelope(queue_id, *recipients, reverse_path=reverse_path, **more), prefix
        )

    def accept(self, queue_id: str, *recipients: Recipient, **more: Any) -> None:
        """The same, and wait for the commit."""
        self.wait(self.send(queue_id, *recipients, **more))

    def messages(self) -> Any:
        """What is in the queue."""
        return self.wait(self.queue.messages())

    def stop(self) -> None:
        """Stop, in its own time."""
        stopped: list[Any] = []
        self.queue.stop().addBoth(stopped.append)
        for _ in range(200):
            self.run()
            if stopped:
                break
            self.clock.advance(0.1)
        assert stopped == [None], stopped


def envelope(
    queue_id: str,
    *recipients: Recipient,
    reverse_path: str | None = "sender@here.example",
    **more: Any,
) -> Envelope:
    more.setdefault("body", Body.SEVEN_BIT)
    return Envelope(
        QueueID(queue_id),
        None if reverse_path is None else Address.parse(reverse_path),
        recipients,
        NOON,
        **more,
    )


def local(path: str, *accounts: str, **more: Any) -> Recipient:
    targets = tuple(LocalTarget(AccountID(account)) for account in accounts)
    return Recipient(Address.parse(path), targets, **more)


def remote(path: str, *addresses: str, **more: Any) -> Recipient:
    address = Address.parse(path)
    return Recipient(address, (), tuple(map(Address.parse, addresses)) or (address,), **more)
