"""
The accounts whose files are open: at most so many, the longest unused closed first (D12).

An operation holds its account open while it runs; a session between operations holds nothing. All
operations go through `OpenAccounts.run`, the one place where faults of disk and database become
errors that a session can answer with, and where a damaged index is replaced.
"""

from __future__ import annotations

import errno
import re
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Concatenate, ParamSpec, TypeVar

from twisted.logger import Logger

from mailhost.database import connect
from mailhost.errors import QuotaExceeded, StorageError
from mailhost.storage import cache_database, opening
from mailhost.storage.account_database import is_damage
from mailhost.storage.account_store import AccountStore, Surroundings
from mailhost.storage.message_changes import write_names
from mailhost.units import AccountID

P = ParamSpec("P")
T = TypeVar("T")

_ACCOUNT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,63}\Z")


class _Entry:
    """One account: open or not, and how many operations use it."""

    __slots__ = ("lock", "store", "users")

    def __init__(self) -> None:
        self.lock = Lock()
        self.store: AccountStore | None = None
        self.users = 0


class OpenAccounts:
    """
    Opens accounts as they are needed.

    Args:
        root: the directory of all accounts.
        surroundings: what every account is given.
        limit: how many may stay open; each takes up to six descriptors.
        elsewhere: runs a function without arguments on another thread.
    """

    log = Logger()

    def __init__(
        self,
        root: Path,
        surroundings: Surroundings,
        limit: int,
        elsewhere: Callable[[Callable[[], None]], object],
    ) -> None:
        self._root = root
        self._surroundings = surroundings
        self._limit = limit
        self._elsewhere = elsewhere
        self._entries: OrderedDict[AccountID, _Entry] = OrderedDict()
        self._lock = Lock()
        self._closing = False

    def run(
        self,
        account_id: AccountID,
        function: Callable[Concatenate[AccountStore, P], T],
        *arguments: P.args,
        **named: P.kwargs,
    ) -> T:
        """
        Call a function with an open account.

        Raises:
            StorageError: the disk or the database has a fault, or what the function raises.
        """
        try:
            try:
                with self.use(account_id) as account:
                    return function(account, *arguments, **named)
            except sqlite3.Error as error:
                if not self.replace_damaged(account_id, error):
                    raise
            with self.use(account_id) as account:
                return function(account, *arguments, **named)
        except (OSError, sqlite3.Error) as error:
            self.log.failure(
                "operation",
                event="storage.operation.failed",
                account=account_id,
                operation=function.__name__,
            )
            if _is_full(error):
                raise QuotaExceeded("the mail store has no room") from error
            raise StorageError(str(error)) from error

    @contextmanager
    def use(self, account_id: AccountID) -> Iterator[AccountStore]:
        """Hold an account open; raises OSError, sqlite3.Error, DataDirectoryError."""
        entry = self._take(account_id)
        try:
            with entry.lock:
                if entry.store is None:
                    entry.store = opening.open_account(
                        account_id, self._root / account_id, self._surroundings
                    )
                store = entry.store
            yield store
        finally:
            self._leave(account_id, entry)

    def _take(self, account_id: AccountID) -> _Entry:
        if not _ACCOUNT_ID.match(account_id):
            raise StorageError("not an account id")
        with self._lock:
            entry = self._entries.get(account_id)
            if entry is None:
                entry = self._entries[account_id] = _Entry()
            else:
                self._entries.move_to_end(account_id)
            entry.users += 1
            return entry

    def _leave(self, account_id: AccountID, entry: _Entry) -> None:
        with self._lock:
            entry.users -= 1
            if entry.store is None and not entry.users:
                self._entries.pop(account_id, None)
            if len(self._entries) <= self._limit or self._closing:
                return
            self._closing = True
        self._elsewhere(self._close_unused)

    def _close_unused(self) -> None:
        try:
            while True:
                with self._lock:
                    excess = len(self._entries) - self._limit
                    unused = [name for name, entry in self._entries.items() if not entry.users]
                closed = [name for name in unused[: max(excess, 0)] if self._close(name)]
                if not closed:
                    return
        finally:
            with self._lock:
                self._closing = False

    def _close(self, account_id: AccountID) -> bool:
        with self._lock:
            entry = self._entries.get(account_id)
            if entry is None or entry.users:
                return False
            # Counted as a user, so that nobody drops the entry meanwhile.
            entry.users += 1
        try:
            with entry.lock:
                if entry.store is not None:
                    write_names(entry.store)
                    entry.store.close()
                    entry.store = None
            return True
        except (OSError, sqlite3.Error):
            self.log.failure("close", event="storage.close.failed", account=account_id)
            return False
        finally:
            with self._lock:
                entry.users -= 1
                if entry.store is None and not entry.users:
                    self._entries.pop(account_id, None)

    def open_ones(self) -> list[AccountID]:
        """Return the accounts that are open."""
        with self._lock:
            return [name for name, entry in self._entries.items() if entry.store is not None]

    def close_all(self) -> bool:
        """Close every account that nothing uses; return whether none is left open."""
        return all([self._close(name) for name in self.open_ones()])

    def replace_damaged(self, account_id: AccountID, error: sqlite3.Error) -> bool:
        """
        Put databases that are not sound out of the way, so that the next use makes them anew.

        Returns whether the operation may be tried again.
        """
        closed = isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error)
        if not is_damage(error):
            # Another thread may have found the damage, and closed the database, just before.
            return closed
        with self._lock:
            entry = self._entries.get(account_id)
        if entry is None:
            entry = _Entry()
        with entry.lock:
            store = entry.store
            if store is None:
                return True
            with store.lock.bare:
                # What arrived has its files, which making the index anew will find.
                store.arrived.clear()
                store.database.close()
                entry.store = None
                cache_database.remove(store.directory / "cache.sqlite", store.files)
                if not _is_sound(store.directory / "account.sqlite"):
                    opening.set_aside(store)
        return True


def _is_sound(path: Path) -> bool:
    try:
        connection = connect(path, synchronous="NORMAL")
    except sqlite3.DatabaseError:
        return False
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF == sqlite3.SQLITE_FULL
