"""
The mail store: all accounts' mail, for the spool and for sessions.

The spool's thread calls `deposit`, `recover`, `sync` and `settled`; sessions come in on the event
thread through `access`, and their work is done on the pool. Both meet in an account's lock.

    state of a deposit   in this store                              after a crash
    deposited            files and index rows written, not synced   recovered from the spool's row
    synced               one syncfs returned since                  there, and in the spool
    settled              the spool has let go of it                 there

A failed `sync` means that the kernel may have dropped what it could not write, while reading it
back still works: asking again would succeed and lose mail (R-86). So until the spool has had
everything unsettled *recovered*, that is written again, `sync` goes on failing.

In the background, on the pool: names that do not show their flags yet are written and flags made
durable within a second; mailboxes that sessions have open are looked at for what other programs
did; searchable texts are kept; what was expunged long enough ago is removed.
"""

from __future__ import annotations

import errno
import sqlite3
import time
from collections.abc import Callable, Sequence
from os import urandom
from threading import Lock
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.address import Address
from mailhost.errors import MailhostError
from mailhost.files import FileOperations
from mailhost.interfaces.access import IMailStore
from mailhost.interfaces.spool import (
    Deposit,
    ILocalStore,
    ISpool,
    PlacementResult,
)
from mailhost.storage import arrival, search
from mailhost.storage.access import StoredMailAccess
from mailhost.storage.account_store import AccountStore, Surroundings, Unsettled
from mailhost.storage.arrival import Arrival, Copy
from mailhost.storage.data_directory import DataDirectory
from mailhost.storage.mailbox_changes import ChangeNotices
from mailhost.storage.message_changes import write_names
from mailhost.storage.open_accounts import OpenAccounts
from mailhost.storage.pool import Pool
from mailhost.storage.sessions import Sessions
from mailhost.storage.sweeping import sweep
from mailhost.storage.watching import ForeignWatch
from mailhost.units import AccountID, MailboxID, QueueID

WRITE_DELAY = 0.4
"""Seconds from a change of flags to the pass that makes it durable."""
RETRY_DELAY = 5.0
"""Seconds until a pass that failed is tried again."""
LOOK_INTERVAL = 5.0
"""Seconds between looks at open mailboxes for what other programs did."""
SWEEP_INTERVAL = 6 * 3600.0
"""Seconds between removals of what was expunged long ago."""
TEXTS_AT_A_TIME = 100
"""Messages of one account whose searchable text is kept with one look."""


@implementer(ILocalStore, IMailStore)
class MailStore:
    """
    All accounts' mail in one data directory.

    Args:
        directory: open, and closed by its owner after `stop`.
        files: file access.
        pool: bounded; its owner stops it after `stop`.
        clock: the event thread's timers.
        call_on_event_thread: as ``reactor.callFromThread``.
        host: our name, for file names.
        now: Unix time in seconds.
        random_bytes: as ``os.urandom``.
        open_limit: accounts whose files may stay open, six descriptors each.
    """

    log = Logger()

    def __init__(
        self,
        directory: DataDirectory,
        files: FileOperations,
        pool: Pool,
        clock: IReactorTime,
        call_on_event_thread: Callable[..., Any],
        host: str,
        *,
        now: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = urandom,
        open_limit: int = 100,
    ) -> None:
        self._path = directory.path
        self._files = files
        self._pool = pool
        self._clock = clock
        self._call_on_event_thread = call_on_event_thread
        self._notices = ChangeNotices(call_on_event_thread)
        self._unsettled = Unsettled()
        self._surroundings = Surroundings(
            files=files,
            now=now,
            random_bytes=random_bytes,
            host=host,
            epoch=directory.epoch,
            notices=self._notices,
            unsettled=self._unsettled,
            touched=self._touched,
            arrived=self._arrived,
        )
        self._accounts = OpenAccounts(
            directory.accounts, self._surroundings, open_limit, self._pool.defer
        )
        self._sessions = Sessions(self._accounts, pool)
        self._faulted: set[str] = set()
        self._unindexed: dict[AccountStore, None] = {}
        """Accounts that mail arrived in; of the spool's thread."""
        self._waiting: set[AccountID] = set()
        self._waiting_lock = Lock()
        self._timers: dict[str, IDelayedCall] = {}
        self._running: set[Deferred[Any]] = set()
        self._watch = ForeignWatch(files, self._accounts, self._sessions)
        self._stopped = False

    def set_spool(self, spool: ISpool) -> None:
        """Tell the store of its spool, once, before any session: each refers to the other."""
        self._sessions.spool = spool

    def start(self) -> None:
        """Begin the work in the background; on the event thread."""
        self._later("look", LOOK_INTERVAL, self._look)
        self._later("sweep", SWEEP_INTERVAL, self._sweep)

    def stop(self) -> Deferred[bool]:
        """
        End the work in the background and close every account; on the event thread.

        Fires with whether all of it was written: only then may the stop be marked clean.
        Sessions, and the spool's thread, must have ended before.
        """
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        ended = DeferredList(list(self._running))
        return ended.addCallback(lambda _: self._pool.defer(self._accounts.close_all))

    # The spool's side

    def deposit(self, deposits: Sequence[Deposit]) -> Sequence[tuple[PlacementResult, ...]]:
        """Make messages visible in their mailboxes, not yet durable there."""
        return self._arrive(deposits, arrival.deposit)

    def recover(self, deposits: Sequence[Deposit]) -> Sequence[tuple[PlacementResult, ...]]:
        """The same for deposits that may have been made before: no file is trusted."""
        results = self._arrive(deposits, arrival.recover)
        # A copy that could not be written again keeps its message among the faulted.
        for deposit, found in zip(deposits, results, strict=True):
            if not any(getattr(result, "status", "").startswith("4.3") for result in found):
                self._faulted.discard(deposit.queue_id)
        return results

    def _arrive(
        self,
        deposits: Sequence[Deposit],
        place: Callable[[AccountStore, Sequence[Arrival]], None],
    ) -> Sequence[tuple[PlacementResult, ...]]:
        # Before anything is visible: whoever expunges it at once must find it here.
        self._unsettled.add([deposit.queue_id for deposit in deposits])
        arrivals: list[list[Arrival]] = []
        by_account: dict[AccountID, list[Arrival]] = {}
        copies: dict[tuple[str, bytes], Copy] = {}
        for deposit in deposits:
            of_deposit = []
            for target in deposit.targets:
                head = arrival.head_for(deposit, target)
                copy = copies.get((deposit.queue_id, head))
                if copy is None:
                    copy = Copy(head, deposit, self._files)
                    copies[deposit.queue_id, head] = copy
                each = Arrival(copy, target, arrival.key_for(deposit, target))
                of_deposit.append(each)
                by_account.setdefault(target.account_id, []).append(each)
            arrivals.append(of_deposit)
        for account_id, chosen in by_account.items():
            self._arrive_in(account_id, chosen, place)
        return [tuple([_result(each) for each in group]) for group in arrivals]

    def _arrive_in(
        self,
        account_id: AccountID,
        arrivals: list[Arrival],
        place: Callable[[AccountStore, Sequence[Arrival]], None],
    ) -> None:
        for attempt in (1, 2):
            try:
                with self._accounts.use(account_id) as account:
                    place(account, arrivals)
                return
            except Exception as error:
                if (
                    attempt == 1
                    and isinstance(error, sqlite3.Error)
                    and self._accounts.replace_damaged(account_id, error)
                ):
                    continue
                self.log.failure("deposit", event="storage.deposit.failed", account=account_id)
                for each in arrivals:
                    each.result = each.result or arrival.failure(error)
                return

    def sync(self) -> None:
        """Return when all that was deposited before is on stable storage; OSError."""
        if self._faulted:
            raise OSError(errno.EIO, "what an earlier sync lost must be recovered first")
        self._index_arrived()
        try:
            self._files.sync_file_system(self._path)
        except OSError:
            self._faulted = self._unsettled.all()
            self.log.failure("sync", event="storage.sync.failed", unsettled=len(self._faulted))
            raise

    def _arrived(self, account: AccountStore) -> None:
        self._unindexed[account] = None

    def _index_arrived(self) -> None:
        """Give all that arrived its index rows; OSError, sqlite3.Error."""
        for account in list(self._unindexed):
            try:
                with account.lock.bare:
                    # Nothing is left in an account that was closed meanwhile.
                    if account.arrived:
                        account.index_arrived()
            except sqlite3.Error as error:
                if not self._accounts.replace_damaged(account.account_id, error):
                    raise
            del self._unindexed[account]

    def settled(self, queue_ids: Sequence[QueueID]) -> None:
        """The spool no longer holds these."""
        self._unsettled.discard(queue_ids)
        self._faulted.difference_update(queue_ids)

    # The sessions' side

    def access(self, account_id: AccountID, address: Address) -> StoredMailAccess:
        """Return the mail of an account; its directory is made at first use."""
        return StoredMailAccess(
            self._sessions, self._notices, self._surroundings, account_id, address
        )

    # In the background

    def _later(self, name: str, delay: float, function: Callable[[], None]) -> None:
        if self._stopped or name in self._timers:
            return

        def due() -> None:
            del self._timers[name]
            function()

        self._timers[name] = self._clock.callLater(delay, due)

    def _in_pool(self, function: Callable[[], Any], done: Callable[[], None]) -> None:
        def failed(reason: Failure) -> None:
            self.log.failure("background", failure=reason, event="storage.background.failed")

        def ended(_: Any) -> None:
            self._running.discard(running)
            done()

        running = self._pool.defer(function)
        self._running.add(running)
        running.addErrback(failed).addCallback(ended)

    def _touched(self, account_id: AccountID) -> None:
        with self._waiting_lock:
            first = not self._waiting
            self._waiting.add(account_id)
        if first:
            self._call_on_event_thread(self._later, "write", WRITE_DELAY, self._write)

    def _write(self) -> None:
        with self._waiting_lock:
            accounts, self._waiting = self._waiting, set()
        self._in_pool(lambda: self._write_names(accounts), lambda: None)

    def _write_names(self, accounts: set[AccountID]) -> None:
        for account_id in accounts:
            try:
                self._accounts.run(account_id, write_names)
            except MailhostError:
                # Logged where it was raised; write_names has asked for another pass.
                continue

    def _look(self) -> None:
        self._in_pool(self._look_at_all, lambda: self._later("look", LOOK_INTERVAL, self._look))

    def _look_at_all(self) -> None:
        self._watch.look()
        for account_id in self._accounts.open_ones():
            try:
                self._accounts.run(account_id, _keep_texts)
            except MailhostError:
                # Logged where it was raised; SEARCH reads what is missing itself.
                continue

    def _sweep(self) -> None:
        self._in_pool(self.sweep, lambda: self._later("sweep", SWEEP_INTERVAL, self._sweep))

    def sweep(self) -> int:
        """
        Remove what was expunged long enough ago, of every account; return how many messages.

        Blocks: on the pool, or where nothing else runs.
        """
        removed = 0
        for name in self._files.names(self._path / "accounts"):
            try:
                removed += self._accounts.run(AccountID(name), sweep)
            except MailhostError:
                continue
        return removed


def _result(each: Arrival) -> PlacementResult:
    assert each.result is not None
    return each.result


def _keep_texts(account: AccountStore) -> None:
    wanted: dict[MailboxID, list[int]] = {}
    with account.lock:
        for _ in range(min(len(account.texts_wanted), TEXTS_AT_A_TIME)):
            row, uid = account.texts_wanted.popleft()
            folder = account.database.folders.get(row)
            if folder is not None:
                wanted.setdefault(folder.mailbox_id, []).append(uid)
    for mailbox_id, uids in wanted.items():
        search.keep_texts(account, mailbox_id, uids)
