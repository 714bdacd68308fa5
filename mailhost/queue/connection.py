"""
The spool's connection to SQLite, and what is done with it after a fault.

A transaction is all or nothing. When the disk failed, the connection is closed and opened again,
and the fence is changed: SQLite then writes over the place in its log where the failed
transaction may stand complete though unsynced, so that it cannot come back with the next start.
Until that succeeds nothing else is written.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from twisted.logger import Logger

from mailhost.database import Synchronous, migrate
from mailhost.errors import MailhostError, SpoolFull
from mailhost.queue.content import fault
from mailhost.queue.tables import STEPS, SpoolTables


class Connector(Protocol):
    """Opens a database, as `mailhost.database.connect`."""

    def __call__(
        self, path: str | Path, *, synchronous: Synchronous = "FULL", read_only: bool = False
    ) -> sqlite3.Connection:
        """Return a connection without implicit transactions."""


def is_disk_error(error: Exception) -> bool:
    """Whether the disk failed, and not one message's value."""
    return isinstance(error, sqlite3.OperationalError | OSError) or (
        type(error) is sqlite3.DatabaseError
    )


class SpoolDatabase:
    """
    The database of one spool, for one thread. Everything blocks and may raise sqlite3.Error.

    Args:
        path: the database file.
        content: the directory of large contents.
    """

    log = Logger()

    def __init__(self, path: Path, content: Path, connector: Connector) -> None:
        self.path = path
        self._content = content
        self._connector = connector
        self._connection: sqlite3.Connection | None = None
        self._tables: SpoolTables | None = None

    def open(self) -> None:
        """Open, creating and migrating; DataDirectoryError for a newer version."""
        connection = self._connector(self.path, synchronous="FULL")
        try:
            # Mail goes a second after it came: zeros over it would double what is written.
            connection.execute("PRAGMA secure_delete=OFF")
            connection.execute("PRAGMA cache_size=-4000")
            migrate(connection, STEPS, str(self.path))
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._tables = SpoolTables(connection, self._content)

    def close(self) -> None:
        """Close; the last one to do so leaves no log behind."""
        connection, self._connection, self._tables = self._connection, None, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                self.log.warn(event="queue.database.unclosable", error=str(error))

    def tables(self) -> SpoolTables:
        """Return the tables, after a fault on a new connection behind a new fence."""
        if self._tables is None:
            self.open()
            try:
                with self.transaction() as tables:
                    tables.fence()
            except BaseException:
                self.close()
                raise
        assert self._tables is not None
        return self._tables

    @contextmanager
    def transaction(self) -> Iterator[SpoolTables]:
        """Do all of the block's statements, durably, or none."""
        tables = self.tables()
        connection = self._connection
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield tables
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                try:
                    connection.execute("ROLLBACK")
                except sqlite3.Error:
                    self.close()
            raise

    def mend(self, error: Exception) -> MailhostError:
        """After a failure: return its name, and see to it that nothing half written comes back."""
        failure = error if isinstance(error, MailhostError) else fault(error)
        if is_disk_error(error) and not isinstance(failure, SpoolFull):
            self.close()
            try:
                self.tables()
            except (sqlite3.Error, OSError, MailhostError) as again:
                self.log.error(event="queue.database.unusable", error=str(again))
        return failure
