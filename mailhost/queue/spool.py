"""
The spool: accepted mail, durable from the 250 until all that it promised is done (P1, P2).

This is the side of the event thread. A message is gathered by a `SpoolWriter`, committed with all
others that wait at that moment by the journal on the spool's thread (`mailhost.queue.journal`,
where the states on disk and what a crash leaves in each are told), and answered here. Nothing here
blocks: SQLite, the local store and files are the work of three kinds of threads: the journal's,
file lanes that write large contents, and a reader beside the writer.

Its parts on disk, all in one directory on the file system of the mailboxes:

``spool.sqlite`` (``-wal``, ``-shm``)
    Envelopes, recipients, contents up to `SpoolLimits.in_row`: see `mailhost.queue.tables`.
``content/``
    Larger contents, one synced file each: see `mailhost.queue.content`.
``damaged/``
    Files that did not have the size their row told.
``reserve``
    Space that is given back when the disk is full, so that bounces and deletes still work (R-87).

Errors: SpoolFull when there is no room (the caller answers 452 4.3.1), SpoolFault for every other
failure (451 4.3.0). After either nothing of the message is kept, and the next one is tried anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.address import Address
from mailhost.database import connect
from mailhost.errors import MailhostError, SpoolFault
from mailhost.files import FileOperations
from mailhost.interfaces.spool import (
    Envelope,
    ILocalStore,
    ISpool,
    ISpoolWriter,
    Placement,
    PlacementResult,
)
from mailhost.queue.clock import SteadyClock
from mailhost.queue.connection import Connector
from mailhost.queue.content import ContentDirectory, ContentFile, failed
from mailhost.queue.journal import DATABASE, Commit, Journal, JournalEvents, Record
from mailhost.queue.lanes import deferred_call
from mailhost.queue.reader import MAX_CLAIM, Claims, Reportable, SpoolReader
from mailhost.queue.records import LOCAL, Change, Claim, QueueRecipient, State, spread
from mailhost.queue.runner import Threads
from mailhost.queue.schedule import RetrySchedule
from mailhost.queue.writer import SpoolWriter
from mailhost.reply import DeliveryStatus, Reply
from mailhost.units import QueueID

T = TypeVar("T")

FULL = Reply.of(452, "4.3.1", "Insufficient system storage, try again later")
STOPPING = Reply.of(451, "4.3.2", "The system is going down, try again later")

STOP_LIMIT = 5.0
"""Seconds after which `Spool.stop` no longer waits for the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """
    Sizes of the spool.

    Args:
        in_row: octets of content up to which it stands in its row.
        free_octets, free_inodes: when the file system has less, no more mail is taken.
        file_lanes: threads that write large contents.
        room_age: seconds for which what the file system said counts.
    """

    in_row: int = 64 * 1024
    free_octets: int = 64 * 1024 * 1024
    free_inodes: int = 2000
    file_lanes: int = 2
    room_age: float = 1.0


class QueueListener(Protocol):
    """Who moves on what is not finished by the first delivery: the dispatcher."""

    def accepted(self, claims: Sequence[Claim]) -> None:
        """A message with recipients elsewhere is durable; these are its first attempts."""

    def waiting(self, next_hop: str, due: float) -> None:
        """A recipient of that next hop is to be attempted then."""

    def failed(self, message: int) -> None:
        """A message has recipients whose sender is to be told."""


@implementer(ISpool)
class Spool(JournalEvents):
    """
    The spool of one process.

    Args:
        directory: for the spool alone, on the file system of the mailboxes; created if absent.
        store: where local copies go; called on the spool's thread.
        reactor: for timers.
        threads: where blocking work runs, `mailhost.queue.runner.RealThreads`.
        clock: for all times that are written.
        schedule: of local retries; the dispatcher has the same one.
        next_hop: says what a remote address is dispatched by: its domain, or a smarthost's name.
        connector: opens the database; a test puts faults in between.
    """

    log = Logger()

    def __init__(
        self,
        directory: Path,
        store: ILocalStore,
        reactor: IReactorTime,
        threads: Threads,
        clock: SteadyClock,
        *,
        files: FileOperations | None = None,
        limits: SpoolLimits | None = None,
        schedule: RetrySchedule | None = None,
        next_hop: Callable[[Address], str] = lambda address: address.domain,
        connector: Connector = connect,
    ) -> None:
        files = files or FileOperations()
        self._limits = limits or SpoolLimits()
        self._schedule = schedule or RetrySchedule()
        self._reactor = reactor
        self._clock = clock
        self._files = files
        self._directory = directory
        self._content = ContentDirectory(directory, files, threads.answer)
        self._answer = threads.answer
        journal = Journal(
            directory,
            store,
            self._content,
            clock=clock,
            next_hop=next_hop,
            first_delay=self._schedule.delays[0],
            answer=threads.answer,
            events=self,
            connector=connector,
        )
        self._journal = journal
        self._runner = threads.journal(journal)
        self._lanes = [
            threads.lane(f"mailhost-spool-file-{number}")
            for number in range(self._limits.file_lanes)
        ]
        self._reading = threads.lane("mailhost-spool-reader")
        self._reader = SpoolReader(directory / DATABASE, self._content.path, files, connector)
        self._next_lane = 0
        self._finishing: set[Deferred[None]] = set()
        self._room: Reply | None = None
        self._room_at: float | None = None
        self._room_octets: int | None = None
        self._taken = 0
        self._asking_room = False
        self._open = False
        self.listener: QueueListener | None = None

    # Service.

    def start(self) -> Deferred[None]:
        """
        Recover what an unclean stop left and fire when mail may come in.

        Fails with DataDirectoryError, SpoolFull or SpoolFault. Open no listener before.
        """
        latest = 1.5 * max(self._schedule.delays)
        opened = self._job(lambda: self._journal.open(latest))

        def ready(recovery: Any) -> None:
            self._open = True
            for queue_id in recovery.damaged:
                self.log.error(event="queue.content.damaged", queue_id=queue_id)
            self.log.info(
                event="queue.started", recovered=recovery.recovered, orphans=recovery.orphans
            )
            self._ask_room()

        return opened.addCallback(ready)

    def stop(self) -> Deferred[None]:
        """
        Take no more mail, commit and settle what is here, close, and fire within `STOP_LIMIT`.

        Where the disk does not answer in time the spool is left as a crash would leave it.
        """
        self._open = False
        done: Deferred[None] = Deferred()

        def late() -> None:
            self.log.error(event="queue.stop.late", limit=STOP_LIMIT)
            finish(None)

        def finish(_: object) -> None:
            if not done.called:
                if timer.active():
                    timer.cancel()
                done.callback(None)

        timer = self._reactor.callLater(STOP_LIMIT, late)

        def drained(_: object) -> Deferred[None]:
            for lane in self._lanes:
                lane.stop()
            # The writer closes last: only it can fold the log into the database.
            closed = self._reading.defer(self._reader.close)
            self._reading.stop()
            return closed.addCallback(lambda _: self._runner.stop())

        def broken(failure: Failure) -> None:
            self.log.failure("the spool did not close", failure, event="queue.stop.failed")

        DeferredList(list(self._finishing)).addCallback(drained).addErrback(broken).addBoth(finish)
        return done

    # ISpool.

    def begin(self, queue_id: QueueID) -> ISpoolWriter:
        """Return a writer for one message's content."""
        if not queue_id or not all(c.isascii() and (c.isalnum() or c in "-_") for c in queue_id):
            raise ValueError("a queue id is a file name too")
        return SpoolWriter(self, queue_id, self._limits.in_row)

    def settle(self, queue_ids: Sequence[QueueID]) -> Deferred[None]:
        """Fire when none of these is held any longer: each copy is durable in its mailbox."""
        if not self._open:
            return failed(SpoolFault("the spool is closed"))
        result: Deferred[None] = Deferred()
        wanted = tuple(queue_ids)
        self._runner.put(lambda: self._journal.settle(wanted, result))
        return result

    def set_limits(self, limits: SpoolLimits) -> None:
        """Take other limits from now on; the number of file lanes stays."""
        self._limits = limits
        self._room_at = None

    def room(self) -> Reply | None:
        """
        Return the refusal to give while there is no room for more mail, or None.

        Never blocks: it is what the file system said a moment ago; asked after a long pause, the
        answer is yes and the question goes out.
        """
        if not self._open:
            return STOPPING
        age = 1e9 if self._room_at is None else self._reactor.seconds() - self._room_at
        if not 0 <= age < self._limits.room_age:
            self._ask_room()
            if age > 10 * self._limits.room_age:
                return None
        if self._room is None and self._room_octets is not None:
            # What came in since then stands in the spool, its log and a mailbox.
            if self._room_octets - 3 * self._taken < self._limits.free_octets:
                return FULL
        return self._room

    def _ask_room(self) -> None:
        if self._asking_room:
            return
        self._asking_room = True

        def answered(room: tuple[int, int | None]) -> None:
            octets, inodes = room
            limits = self._limits
            full = octets < limits.free_octets or (
                inodes is not None and inodes < limits.free_inodes
            )
            if full != (self._room is not None):
                self.log.warn(
                    event="queue.room.none" if full else "queue.room.again",
                    octets=octets,
                    inodes=inodes,
                )
            self._room = FULL if full else None
            self._room_octets, self._taken = octets, 0
            if not full:
                self._reading.run(self._content.fill_reserve)

        def unknown(failure: Failure) -> None:
            self.log.warn(event="queue.room.unknown", error=failure.getErrorMessage())

        def asked(_: object) -> None:
            self._asking_room = False
            self._room_at = self._reactor.seconds()

        asking = self._reading.defer(lambda: self._files.room(self._directory))
        asking.addCallbacks(answered, unknown).addBoth(asked)

    # What writers ask.

    def open_file(self, queue_id: QueueID) -> ContentFile:
        """Return a file for a large content, its octets written by one of the lanes."""
        self._next_lane = (self._next_lane + 1) % len(self._lanes)
        return self._content.open_file(queue_id, self._lanes[self._next_lane])

    def accept(
        self,
        envelope: Envelope,
        prefix: bytes,
        chunks: list[bytes],
        file: ContentFile | None,
        size: int,
        *,
        placed: bool = False,
        closes: tuple[Change, ...] = (),
        closed_message: int = 0,
    ) -> Deferred[Any]:
        """
        Commit a message: its content is in the file, or else in the chunks.

        `closes` are changes of another message's recipients in the same transaction, for a report
        about it.
        """
        if not self._open:
            if file is not None:
                file.abort()
            return failed(SpoolFault("the spool is closed"))
        if placed and any(recipient.remote for recipient in envelope.recipients):
            raise ValueError("what is relayed cannot be waited for")
        self._taken += size
        result: Deferred[Any] = Deferred()
        content = None if file is not None else b"".join(chunks)
        commit = Commit(envelope, prefix, content, size, placed, result, closes, closed_message)
        if file is None:
            self._runner.put(commit)
            return result
        finished = file.finish()
        self._finishing.add(finished)

        def synced(outcome: object) -> None:
            self._finishing.discard(finished)
            if isinstance(outcome, Failure):
                if not result.called:
                    result.errback(outcome)
            else:
                self._runner.put(commit)

        finished.addBoth(synced)
        return result

    # What the dispatcher and the bouncer ask.

    def destinations(self) -> Deferred[list[tuple[str, float]]]:
        """Fire with every next hop that has waiting recipients, and its earliest time."""
        return self.read(SpoolReader.destinations)

    def failed_messages(self) -> Deferred[list[int]]:
        """Fire with the messages whose senders are still to be told of failures."""
        return self.read(SpoolReader.failed_messages)

    def claims(
        self, next_hop: str, due: float, limit: int, excluded: frozenset[int]
    ) -> Deferred[Claims]:
        """Fire with messages that are due by then for a next hop, without those excluded."""
        return self.read(lambda reader: reader.claims(next_hop, due, limit, excluded))

    def report(self, message: int, limit: int, full_limit: int) -> Deferred[Reportable | None]:
        """Fire with what a report about the message is made from; see `SpoolReader.report`."""
        return self.read(lambda reader: reader.report(message, limit, full_limit))

    def read(self, question: Callable[[SpoolReader], T]) -> Deferred[T]:
        """Fire with the reader's answer; SpoolFault."""
        if not self._open:
            return failed(SpoolFault("the spool is closed"))
        return self._reading.defer(lambda: question(self._reader))

    def record(self, message: int, changes: Sequence[Change]) -> Deferred[None]:
        """
        Fire when what became of a message's recipients is durable.

        It does not fail: while the disk refuses, it is tried again every second.
        """
        result: Deferred[None] = Deferred()
        self._runner.put(Record(message, tuple(changes), result))
        return result

    def redeposit(self, claim: Claim) -> Deferred[tuple[DeliveryStatus, ...]]:
        """Try local recipients again; those that are delivered are recorded when it fires."""
        result: Deferred[tuple[DeliveryStatus, ...]] = Deferred()
        self._runner.put(lambda: self._journal.redeposit(claim, result))
        return result

    def drop(self, queue_ids: Sequence[QueueID]) -> Deferred[int]:
        """Remove queued messages without a bounce, and fire with how many there were."""
        if not self._open:
            return failed(SpoolFault("the spool is closed"))
        wanted = tuple(queue_ids)
        return self._job(lambda: self._journal.drop(wanted))

    def make_due(self, queue_ids: Sequence[QueueID] | None) -> Deferred[int]:
        """Make waiting recipients of these or of all messages due; fire with the messages."""
        if not self._open:
            return failed(SpoolFault("the spool is closed"))
        wanted = None if queue_ids is None else tuple(queue_ids)
        return self._job(lambda: self._journal.retry(wanted))

    def _job(self, call: Callable[[], T]) -> Deferred[T]:
        return deferred_call(call, self._runner.put, self._answer)

    # JournalEvents.

    def committed(self, commits: Sequence[Commit]) -> None:
        """Give the 250s, then have what goes elsewhere dispatched."""
        for commit in commits:
            if not commit.placed and not commit.result.called:
                commit.result.callback(None)
        for commit in commits:
            envelope = commit.envelope
            # Whoever brought the message tells of it; this is for what comes from ourselves.
            self.log.debug(
                event="queue.accepted",
                queue_id=envelope.queue_id,
                reverse_path=_path(envelope),
                message_id=envelope.message_id,
                account=envelope.account_id,
                size=len(commit.prefix) + commit.size,
                recipients=len(envelope.recipients),
                remote=len(commit.recipients),
            )
            if commit.recipients and self.listener is not None:
                self.listener.accepted(_first_claims(commit))

    def refused(self, commits: Sequence[Commit], error: MailhostError) -> None:
        """Fail the commits."""
        for commit in commits:
            self.log.error(
                event="queue.refused", queue_id=commit.envelope.queue_id, error=str(error)
            )
            if not commit.result.called:
                commit.result.errback(Failure(error))

    def deposited(self, results: Sequence[tuple[Commit, tuple[PlacementResult, ...]]]) -> None:
        """Tell whoever waits for visibility, and log."""
        for commit, placed in results:
            envelope = commit.envelope
            if commit.placed and not commit.result.called:
                commit.result.callback(spread(envelope, placed))
            copies = [result for result in placed if isinstance(result, Placement)]
            if copies:
                self.log.info(
                    event="queue.delivered",
                    queue_id=envelope.queue_id,
                    copies=len(copies),
                    accounts=[copy.account_id for copy in copies],
                    mailboxes=[copy.mailbox_id for copy in copies],
                    uids=[copy.uid for copy in copies],
                )
            for result in placed:
                if not isinstance(result, Placement):
                    self.log.warn(
                        event="queue.local.refused",
                        queue_id=envelope.queue_id,
                        status=result.status,
                        action=result.action.value,
                        diagnostic=result.diagnostic,
                        dropped=commit.placed,
                    )

    def kept(self, recipients: Sequence[QueueRecipient]) -> None:
        """Have local recipients dispatched again, or their senders told."""
        if self.listener is None:
            return
        for message in dict.fromkeys(
            row.message for row in recipients if row.state is State.FAILED
        ):
            self.listener.failed(message)
        due = [row.next_attempt for row in recipients if row.state is State.WAITING]
        if due:
            self.listener.waiting(LOCAL, min(due))

    def removed(self, queue_ids: Sequence[QueueID]) -> None:
        """Log that nothing is left to do."""
        for queue_id in queue_ids:
            self.log.info(event="queue.removed", queue_id=queue_id)

    def unsettled(self, error: Exception) -> None:
        """Log that local copies are not durable yet."""
        self.log.error(event="queue.settle.failed", error=str(error))


def _path(envelope: Envelope) -> str:
    return "" if envelope.reverse_path is None else str(envelope.reverse_path)


def _first_claims(commit: Commit) -> list[Claim]:
    assert commit.stored is not None
    by_hop: dict[str, list[QueueRecipient]] = {}
    for row in commit.recipients:
        by_hop.setdefault(row.next_hop, []).append(row)
    return [
        Claim(commit.stored, next_hop, tuple(rows[:MAX_CLAIM])) for next_hop, rows in by_hop.items()
    ]
