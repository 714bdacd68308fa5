"""
The spool's one thread: commits, first local deliveries, and the passes that settle them.

Each turn takes all jobs that are waiting and does, in this order:

1. commits and recorded outcomes in one transaction; when it returns they are on stable storage;
2. the answers to all of them, by one call on the event thread (the 250s);
3. the local copies, by `ILocalStore.deposit`, visible from then on but not durable;
4. other jobs, one by one;
5. if it is due, a pass: `ILocalStore.sync`, then one transaction that removes what is done, then
   unlinking of spool files, then `ILocalStore.settled`.

What a crash leaves:

before 1 has returned
    Nothing of the messages, or (between SQLite's sync and the answer) messages nobody was told of.
after 1, before 5
    The rows; `recover` has every local copy written anew, whatever lies in the mailboxes.
in 5, after the sync
    The rows; recovery rewrites what is durable already, under the same base names.
in 5, after its transaction
    Orphan spool files, which the next start sweeps.

Errors: SQLITE_FULL and ENOSPC fail the messages of the turn with SpoolFull, everything else with
SpoolFault; then the connection is opened anew and the fence changed, so that frames of the failed
transaction in the log are overwritten before anyone is told. Recorded outcomes are kept and tried
again every second; a pass that fails is tried again likewise, and its rows stay.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.address import Address
from mailhost.database import connect
from mailhost.errors import DataDirectoryError, MailhostError, SpoolFault
from mailhost.interfaces.spool import (
    Deposit,
    Envelope,
    ILocalStore,
    LocalTarget,
    Placement,
    PlacementResult,
)
from mailhost.queue.clock import SteadyClock
from mailhost.queue.connection import Connector, SpoolDatabase, is_disk_error
from mailhost.queue.content import ContentDirectory, fault
from mailhost.queue.lanes import CallFromThread
from mailhost.queue.records import (
    Change,
    Claim,
    QueueRecipient,
    Remove,
    State,
    StoredMessage,
    local_targets,
    pack,
    remote_recipients,
    unplaced_recipients,
)
from mailhost.queue.tables import ArrivalRow, SpoolTables
from mailhost.reply import Action, DeliveryStatus
from mailhost.units import QueueID

DATABASE = "spool.sqlite"

PASS_INTERVAL = 1.0
"""Seconds from a deposit to the pass that settles it, and between attempts of what failed."""

RECOVERY_PORTION = 64

STORE_FAILED = DeliveryStatus(Action.DELAYED, "4.3.0", "local delivery failed for a reason of ours")
DAMAGED = DeliveryStatus(Action.FAILED, "5.3.0", "the queued message was damaged on disk")


@dataclass(slots=True, eq=False)
class Commit:
    """
    A message to accept.

    Args:
        content: the octets, or None when they are in the synced file named by the queue id.
        placed: for APPEND: targets that get no copy now are dropped, not retried.
        result: fires on the event thread, by the spool.
        closes: changes of other rows in the same transaction, those of a message that this one
            is the report of, and that message's number.
    """

    envelope: Envelope
    prefix: bytes
    content: bytes | None
    size: int
    placed: bool
    result: Deferred[Any]
    closes: tuple[Change, ...] = ()
    closed_message: int = 0
    # Filled in by the journal:
    stored: StoredMessage | None = None
    recipients: list[QueueRecipient] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Record:
    """What became of recipients of one message; `result` fires when it is durable."""

    message: int
    changes: tuple[Change, ...]
    result: Deferred[None]


Job: TypeAlias = Commit | Record | Callable[[], None]


@dataclass(slots=True, eq=False)
class Unsettled:
    """
    Local copies that are visible and not known to be durable.

    Args:
        arrival: in which table the row is.
        failures: rows to add for targets that got no copy.
        done: recipient rows whose copies these are.
        waiting: called on the event thread when it is settled.
    """

    number: int
    queue_id: QueueID
    arrival: bool
    large: bool
    failures: list[QueueRecipient]
    done: tuple[int, ...] = ()
    waiting: list[Callable[[], None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start found: messages recovered, orphan files removed, messages damaged."""

    recovered: int
    orphans: int
    damaged: tuple[QueueID, ...]


class JournalEvents:
    """What the journal tells, on the event thread. The spool overrides all of it."""

    def committed(self, commits: Sequence[Commit]) -> None:
        """These are durable."""

    def refused(self, commits: Sequence[Commit], error: MailhostError) -> None:
        """These are not, and nothing of them is kept."""

    def deposited(self, results: Sequence[tuple[Commit, tuple[PlacementResult, ...]]]) -> None:
        """These are visible, or not, as their results say."""

    def kept(self, recipients: Sequence[QueueRecipient]) -> None:
        """These local recipients stay in the queue."""

    def removed(self, queue_ids: Sequence[QueueID]) -> None:
        """Nothing is left to do for these queued messages."""

    def unsettled(self, error: Exception) -> None:
        """A pass failed and will be tried again."""


class Journal:
    """
    The spool's state on disk; every method blocks and is called on the spool's thread.

    Args:
        directory: the spool's, on the file system of the mailboxes.
        next_hop: says what a remote address is dispatched by.
        first_delay: seconds until a local target that got no copy is tried again.
        answer: runs a call on the event thread.
        events: what is told there.
        connector: opens the database; a test puts faults in between.
    """

    log = Logger()

    def __init__(
        self,
        directory: Path,
        store: ILocalStore,
        content: ContentDirectory,
        *,
        clock: SteadyClock,
        next_hop: Callable[[Address], str],
        first_delay: float,
        answer: CallFromThread,
        events: JournalEvents,
        connector: Connector = connect,
    ) -> None:
        self._database = SpoolDatabase(directory / DATABASE, content.path, connector)
        self._store = store
        self._content = content
        self._clock = clock
        self._next_hop = next_hop
        self._first_delay = first_delay
        self._answer = answer
        self._events = events
        self._message_number = 0
        self._recipient_number = 0
        self._unsettled: dict[QueueID, Unsettled] = {}
        self._unrecorded: list[Record] = []
        self._waiters: list[Deferred[None]] = []
        self._pass_at: float | None = None
        self._pass_soon = False
        self._rewrite_first = False
        """A sync failed: what is unsettled may be lost though it can be read (R-86)."""

    # Start and stop.

    def open(self, latest_delay: float) -> Recovery:
        """
        Open the database, recover what is unsettled and sweep orphans.

        What waits for a time further off than `latest_delay` from now becomes due.

        Raises:
            DataDirectoryError: the database is damaged, or of a newer version.
            SpoolFull, SpoolFault: the disk does not let it be done now.
        """
        try:
            self._content.prepare()
            self._database.open()
            with self._database.transaction() as tables:
                now = self._clock.now()
                tables.clamp(now, now + latest_delay)
                self._message_number, self._recipient_number = tables.highest_numbers()
            recovered, damaged = self._recover()
            orphans = self._content.sweep(set(self._database.tables().large_ids()))
            self._content.fill_reserve()
        except sqlite3.OperationalError as error:
            raise fault(error) from error
        except sqlite3.DatabaseError as error:
            raise DataDirectoryError(f"{self._database.path} is damaged: {error}") from error
        except OSError as error:
            raise fault(error) from error
        return Recovery(recovered, orphans, tuple(damaged))

    def close(self) -> None:
        """Settle what can be settled and close the database; it may be opened again."""
        try:
            self._write([], [])
            if self._unsettled:
                self._pass()
            if self._unrecorded or self._unsettled:
                self.log.error(
                    event="queue.stop.unfinished",
                    unrecorded=len(self._unrecorded),
                    unsettled=len(self._unsettled),
                )
        finally:
            self._database.close()

    # Turns.

    def wait(self) -> float | None:
        """Return the seconds until a turn is due without a job, None for never."""
        if self._pass_at is None:
            return None
        return max(0.0, self._pass_at - self._clock.uptime())

    def turn(self, jobs: Sequence[Job]) -> None:
        """Do one turn with these jobs, none or more. Never raises."""
        commits = [job for job in jobs if isinstance(job, Commit)]
        records = [job for job in jobs if isinstance(job, Record)]
        due = self._pass_at is not None and self._clock.uptime() >= self._pass_at
        try:
            if commits or records or (due and self._unrecorded):
                self._deposit(self._write(commits, records))
        except Exception as error:
            self.log.failure("the spool's thread failed", event="queue.journal.failed")
            failure = fault(error)
            self._answer(lambda: self._events.refused(commits, failure))
        for job in jobs:
            if not isinstance(job, Commit | Record):
                self._guard(job)
        self._guard(lambda: self._settle_if(due))
        self._plan(due)

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            self.log.failure("the spool's thread failed", event="queue.journal.failed")

    def _settle_if(self, due: bool) -> None:
        if self._unsettled and (due or self._waiters or self._pass_soon):
            self._pass_soon = False
            self._pass()
        elif not self._unsettled:
            self._answer_waiters(None)

    def _plan(self, done: bool) -> None:
        if not self._unsettled and not self._unrecorded:
            self._pass_at = None
        elif done or self._pass_at is None:
            self._pass_at = self._clock.uptime() + PASS_INTERVAL

    # Jobs of the third kind.

    def settle(self, queue_ids: Sequence[QueueID], result: Deferred[None]) -> None:
        """Fire when none of these is unsettled; SpoolFault when that cannot be reached now."""
        if any(queue_id in self._unsettled for queue_id in queue_ids):
            self._waiters.append(result)
        else:
            self._answer(lambda: _fire(result, None))

    def redeposit(self, claim: Claim, result: Deferred[tuple[DeliveryStatus, ...]]) -> None:
        """
        Try local recipients again, and fire with their statuses.

        When any copy was made it fires only after that is durable and the row of the recipient
        gone: nothing must be recorded for those.
        """
        message = claim.message
        if message.queue_id in self._unsettled:
            self._pass()
        if message.queue_id in self._unsettled:
            statuses = tuple(STORE_FAILED for _ in claim.recipients)
            self._answer(lambda: _fire(result, statuses))
            return
        targets = tuple(row.target for row in claim.recipients if row.target is not None)
        (results,) = self._ask_store(self._store.deposit, [message.deposit(targets)])
        statuses = tuple(_status(placed) for placed in results)
        entry = Unsettled(
            message.number,
            message.queue_id,
            arrival=False,
            large=isinstance(message.content, Path),
            failures=[],
            done=tuple(
                row.number
                for row, placed in zip(claim.recipients, results, strict=True)
                if isinstance(placed, Placement)
            ),
            waiting=[lambda: _fire(result, statuses)],
        )
        if not entry.done:
            self._answer(entry.waiting[0])
            return
        # One pass for all of this turn.
        self._unsettled[message.queue_id] = entry
        self._pass_soon = True

    def drop(self, queue_ids: Sequence[QueueID]) -> int:
        """Remove queued messages without a bounce; return how many there were."""
        removed: list[tuple[QueueID, bool]] = []
        try:
            with self._database.transaction() as tables:
                numbers = [tables.drop(queue_id) for queue_id in queue_ids]
                found = [number for number in numbers if number is not None]
                removed = self._finish_messages(tables, found)
        except (sqlite3.Error, OSError) as error:
            raise self._database.mend(error) from error
        self._forget(removed)
        return len(found)

    def retry(self, queue_ids: Sequence[QueueID] | None) -> int:
        """Make waiting recipients of queued messages due now; return how many messages."""
        now = self._clock.now()
        try:
            with self._database.transaction() as tables:
                if queue_ids is None:
                    return tables.make_due(None, now)
                return sum(tables.make_due(queue_id, now) for queue_id in queue_ids)
        except (sqlite3.Error, OSError) as error:
            raise self._database.mend(error) from error

    # 1 and 2: commit and answer.

    def _write(self, commits: list[Commit], records: list[Record]) -> list[Commit]:
        """Write both in one transaction, answer, and return the commits that are durable."""
        records = self._unrecorded + records
        self._unrecorded = []
        ready = self._prepare(commits)
        if not ready and not records:
            return []
        try:
            removed = self._try_write(ready, records)
        except Exception as error:
            return self._write_apart(ready, records, error)
        self._wrote(ready, records, removed)
        return ready

    def _write_apart(
        self, commits: list[Commit], records: list[Record], error: Exception
    ) -> list[Commit]:
        """After a failed transaction: record outcomes alone, refuse commits or isolate one."""
        failure = self._database.mend(error)
        if len(commits) > 1 and not is_disk_error(error):
            # One of them cannot be stored; the others can.
            done: list[Commit] = []
            for commit in commits:
                done += self._write([commit], [])
            commits = []
        else:
            done = []
        if commits:
            self._refuse(commits, failure)
        if records:
            self._record_alone(records)
        return done

    def _record_alone(self, records: list[Record]) -> None:
        for attempt in (1, 2):
            try:
                removed = self._try_write([], records)
            except Exception as error:
                self._database.mend(error)
                # Outcomes mostly remove rows, but the log needs room for that too.
                if attempt == 1 and self._content.release_reserve():
                    continue
                self.log.error(event="queue.record.failed", records=len(records), error=str(error))
                self._unrecorded = records
                return
            self._wrote([], records, removed)
            return

    def _prepare(self, commits: list[Commit]) -> list[Commit]:
        """Number the rows."""
        ready = []
        now = self._clock.now()
        for commit in commits:
            try:
                rows = remote_recipients(commit.envelope, self._next_hop, now)
                envelope = commit.envelope
                self._message_number += 1
                content: bytes | Path = (
                    self._content.path / envelope.queue_id
                    if commit.content is None
                    else commit.content
                )
                commit.stored = StoredMessage(
                    self._message_number,
                    envelope.queue_id,
                    now,
                    envelope,
                    commit.size,
                    commit.prefix,
                    content,
                )
                commit.recipients = self._number(self._message_number, rows)
                ready.append(commit)
            except Exception as error:
                self.log.failure("a message cannot be stored", event="queue.journal.failed")
                self._refuse([commit], fault(error))
        return ready

    def _number(self, message: int, rows: list[QueueRecipient]) -> list[QueueRecipient]:
        numbered = []
        for row in rows:
            self._recipient_number += 1
            numbered.append(replace(row, number=self._recipient_number, message=message))
        return numbered

    def _try_write(
        self, commits: list[Commit], records: list[Record]
    ) -> list[tuple[QueueID, bool]]:
        arrivals: list[ArrivalRow] = []
        messages: list[ArrivalRow] = []
        with_local: list[bool] = []
        for commit in commits:
            if commit.recipients:
                messages.append(_row(commit))
                with_local.append(bool(local_targets(commit.envelope)))
            else:
                arrivals.append(_row(commit))
        with self._database.transaction() as tables:
            if arrivals:
                tables.insert_arrivals(arrivals)
            if messages:
                tables.insert_messages(messages, unsettled=with_local)
                for commit in commits:
                    tables.insert_recipients(commit.recipients)
            touched = []
            for record in records:
                tables.apply(record.changes)
                touched.append(record.message)
            for commit in commits:
                if commit.closes:
                    tables.apply(commit.closes)
                    touched.append(commit.closed_message)
            return self._finish_messages(tables, touched)

    def _finish_messages(
        self, tables: SpoolTables, numbers: Sequence[int]
    ) -> list[tuple[QueueID, bool]]:
        removed = [tables.delete_finished(number) for number in dict.fromkeys(numbers)]
        return [found for found in removed if found is not None]

    def _wrote(
        self, commits: list[Commit], records: list[Record], removed: list[tuple[QueueID, bool]]
    ) -> None:
        def tell() -> None:
            if commits:
                self._events.committed(commits)
            for record in records:
                _fire(record.result, None)

        self._answer(tell)
        self._forget(removed)

    def _forget(self, removed: list[tuple[QueueID, bool]]) -> None:
        """After the commit that removed these messages: remove their files, and tell."""
        if removed:
            self._content.remove(queue_id for queue_id, large in removed if large)
            gone = [queue_id for queue_id, _ in removed]
            self._answer(lambda: self._events.removed(gone))

    def _refuse(self, commits: list[Commit], error: MailhostError) -> None:
        self._content.remove(
            commit.envelope.queue_id for commit in commits if commit.content is None
        )
        self._answer(lambda: self._events.refused(commits, error))

    # 3: local copies.

    def _deposit(self, commits: list[Commit]) -> None:
        local = []
        deposits: list[Deposit] = []
        for commit in commits:
            targets = local_targets(commit.envelope)
            stored = commit.stored
            assert stored is not None
            if targets:
                local.append(commit)
                deposits.append(stored.deposit(targets, first=True))
            elif not commit.recipients:
                # Nobody is to get it; the row goes with the next pass.
                self._add(stored, arrival=True, failures=[])
        if not local:
            return
        results = self._ask_store(self._store.deposit, deposits)
        due = self._clock.now() + self._first_delay
        for commit, placed in zip(local, results, strict=True):
            stored = commit.stored
            assert stored is not None
            failures = [] if commit.placed else unplaced_recipients(commit.envelope, placed, due)
            self._add(stored, arrival=not commit.recipients, failures=failures)
        told = list(zip(local, results, strict=True))
        self._answer(lambda: self._events.deposited(told))

    def _add(self, stored: StoredMessage, *, arrival: bool, failures: list[QueueRecipient]) -> None:
        self._unsettled[stored.queue_id] = Unsettled(
            stored.number,
            stored.queue_id,
            arrival,
            isinstance(stored.content, Path),
            self._number(stored.number, failures),
        )

    def _ask_store(
        self,
        method: Callable[[Sequence[Deposit]], Sequence[tuple[PlacementResult, ...]]],
        deposits: Sequence[Deposit],
    ) -> Sequence[tuple[PlacementResult, ...]]:
        try:
            results = method(deposits)
            if list(map(len, results)) != [len(deposit.targets) for deposit in deposits]:
                raise AssertionError("the local store did not answer for every target")
            return results
        except Exception:
            self.log.failure("the local store failed", event="queue.local.failed")
            return [tuple(STORE_FAILED for _ in deposit.targets) for deposit in deposits]

    # 5: settle.

    def _pass(self) -> bool:
        """Settle everything; False, and nothing lost, if that fails."""
        entries = list(self._unsettled.values())
        try:
            self._sync()
            removed = self._remove_settled(entries)
        except Exception as error:
            problem = self._database.mend(error)
            self._answer(lambda: self._events.unsettled(problem))
            self._answer_waiters(SpoolFault(str(problem)))
            return False
        self._unsettled.clear()
        gone = {queue_id for queue_id, _ in removed}
        self._content.remove(
            entry.queue_id
            for entry in entries
            if entry.large and (entry.queue_id in gone or (entry.arrival and not entry.failures))
        )
        settled = [entry.queue_id for entry in entries]
        self._guard(lambda: self._store.settled(settled))
        kept = [row for entry in entries for row in entry.failures]
        calls = [call for entry in entries for call in entry.waiting]

        def tell() -> None:
            for call in calls:
                call()
            if kept:
                self._events.kept(kept)
            if gone:
                self._events.removed(list(gone))

        if calls or kept or gone:
            self._answer(tell)
        self._answer_waiters(None)
        return True

    def _sync(self) -> None:
        # A failed sync must not be repeated alone: the kernel forgets what it could not write,
        # and the next sync succeeds without it. The rows have it all.
        if self._rewrite_first:
            for portion in self._portions():
                deposits = [
                    stored.deposit(targets)
                    for stored, rows, _, _ in portion
                    if stored.queue_id in self._unsettled
                    and (targets := self._targets(stored, rows))
                ]
                if deposits:
                    self._ask_store(self._store.recover, deposits)
        self._rewrite_first = True
        self._store.sync()
        self._rewrite_first = False

    def _targets(
        self, stored: StoredMessage, rows: list[QueueRecipient] | None
    ) -> tuple[LocalTarget, ...]:
        if rows is None:
            return local_targets(stored.envelope)
        return tuple(row.target for row in rows if row.target is not None)

    def _remove_settled(self, entries: list[Unsettled]) -> list[tuple[QueueID, bool]]:
        with self._database.transaction() as tables:
            tables.delete_arrivals(
                entry.number for entry in entries if entry.arrival and not entry.failures
            )
            queued = []
            for entry in entries:
                if entry.failures:
                    if entry.arrival:
                        tables.keep_arrival(entry.number)
                    tables.insert_recipients(entry.failures)
                if not entry.arrival:
                    tables.mark_settled(entry.number)
                    tables.apply(Remove(number) for number in entry.done)
                    queued.append(entry.number)
            return self._finish_messages(tables, queued)

    def _answer_waiters(self, error: MailhostError | None) -> None:
        waiters, self._waiters = self._waiters, []

        def tell() -> None:
            for waiter in waiters:
                _fire(waiter, error)

        if waiters:
            self._answer(tell)

    # Recovery.

    def _recover(self) -> tuple[int, list[QueueID]]:
        damaged: list[QueueID] = []
        count = 0
        for portion in self._portions():
            whole = []
            for stored, rows, arrival, placed in portion:
                targets = self._targets(stored, rows)
                path = stored.content
                if isinstance(path, Path) and not self._content.is_whole(path, stored.size):
                    damaged.append(stored.queue_id)
                    self._content.quarantine(path)
                    self._recovered(stored, rows, arrival, placed, (DAMAGED,) * len(targets))
                else:
                    whole.append((stored, rows, arrival, placed, targets))
            results = self._ask_store(
                self._store.recover, [stored.deposit(targets) for stored, *_, targets in whole]
            )
            for (stored, rows, arrival, placed, _), result in zip(whole, results, strict=True):
                self._recovered(stored, rows, arrival, placed, result)
            count += len(portion)
            if self._unsettled and not self._pass():
                raise SpoolFault("what was recovered could not be made durable")
        return count, damaged

    def _portions(
        self,
    ) -> Iterator[Sequence[tuple[StoredMessage, list[QueueRecipient] | None, bool, bool]]]:
        """Yield what is to be recovered: message, recipient rows or None for all, where from."""
        tables = self._database.tables()
        after = 0
        while arrivals := tables.arrivals(after, RECOVERY_PORTION):
            after = arrivals[-1][0].number
            yield [(stored, None, True, placed) for stored, placed in arrivals]
        after = 0
        while messages := tables.unsettled_messages(after, RECOVERY_PORTION):
            after = messages[-1].number
            yield [(stored, None, False, False) for stored in messages]
        # A later attempt may have made the copy just before the crash.
        after = 0
        while numbers := tables.messages_with_local(after, RECOVERY_PORTION):
            after = numbers[-1]
            portion = []
            for number in numbers:
                found = tables.message(number)
                rows = [
                    row
                    for row in tables.recipients(number)
                    if row.target is not None and row.state is State.WAITING
                ]
                if found is not None:
                    portion.append((found, rows, False, False))
            yield portion

    def _recovered(
        self,
        stored: StoredMessage,
        rows: list[QueueRecipient] | None,
        arrival: bool,
        placed: bool,
        results: tuple[PlacementResult, ...],
    ) -> None:
        """Note one recovered message as unsettled."""
        if rows is None:
            due = self._clock.now() + self._first_delay
            failures = unplaced_recipients(stored.envelope, results, due)
            if placed:
                # Whoever appended it is gone: it is tried again, but nobody is sent a bounce.
                failures = [row for row in failures if row.state is State.WAITING]
            self._add(stored, arrival=arrival, failures=failures)
            return
        done = [
            row.number
            for row, result in zip(rows, results, strict=True)
            if isinstance(result, Placement)
        ]
        if done:
            self._add(stored, arrival=False, failures=[])
            self._unsettled[stored.queue_id].done = tuple(done)


def _row(commit: Commit) -> ArrivalRow:
    stored = commit.stored
    assert stored is not None
    return (
        stored.number,
        stored.queue_id,
        stored.accepted_at,
        pack(stored.envelope),
        stored.size,
        int(commit.content is None),
        int(commit.placed),
        stored.prefix,
        commit.content,
    )


def _status(result: PlacementResult) -> DeliveryStatus:
    if isinstance(result, Placement):
        return DeliveryStatus(Action.DELIVERED, "2.0.0", "delivered")
    return result


def _fire(result: Deferred[Any], value: Any) -> None:
    """Fire a Deferred that its owner may have cancelled."""
    if result.called:
        return
    if isinstance(value, Exception):
        result.errback(Failure(value))
    else:
        result.callback(value)
