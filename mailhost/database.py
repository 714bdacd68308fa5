"""
SQLite connections and the one migrations runner (architecture D12).

`connect` opens a database in WAL mode with the pragmas that every part of mailhost relies on;
`migrate` brings its schema to the newest version. A database knows its version in
``PRAGMA user_version``: how many steps were applied. Steps are only ever appended; each is one
transaction, so that a crash between any two of them leaves a version that the next start goes on
from. A file of a newer program is refused and not touched.

A connection may be used on any thread, by one thread at a time: its owner holds a lock, or has a
thread of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from mailhost.errors import DataDirectoryError
from mailhost.files import FileOperations

BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process that has the database locked."""

Synchronous = Literal["FULL", "NORMAL"]


def connect(
    path: str | Path, *, synchronous: Synchronous = "FULL", read_only: bool = False
) -> sqlite3.Connection:
    """
    Open a database, created with mode 0600 when absent, and return the connection.

    No transaction is ever begun implicitly: the caller says ``BEGIN IMMEDIATE`` and ``COMMIT``.

    Args:
        path: the database file.
        synchronous: ``FULL``: a commit returns when it is on stable storage. ``NORMAL``: a commit
            survives the end of the process, but not a power cut before the next checkpoint or
            sync of the file system.
        read_only: refuse every change; the file must exist.

    Raises:
        sqlite3.Error: the file cannot be opened, or is not a database.
        OSError: the file cannot be created.
    """
    if not read_only:
        _create(path)
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    try:
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA temp_store=MEMORY")
        # A damaged or planted file must not run functions or read wild pages.
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA cell_size_check=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: str | Path) -> None:
    # SQLite would obey the umask. Closing a descriptor of a database that is in use would drop
    # SQLite's locks on it, so an existing file is not opened here. WAL files take its mode.
    files = FileOperations()
    try:
        files.close(files.create(path))
    except FileExistsError:
        return


def migrate(connection: sqlite3.Connection, steps: Sequence[str], name: str) -> None:
    """
    Apply the steps that the database does not have yet, each in its own transaction.

    Args:
        connection: from `connect`.
        steps: SQL scripts, oldest first; only ever appended to.
        name: what the database is called in an error, e.g. its path.

    Raises:
        DataDirectoryError: a newer mailhost wrote the database.
        sqlite3.Error: a step failed, and left nothing behind.
    """
    while True:
        version = _version(connection)
        if version > len(steps):
            raise DataDirectoryError(
                f"{name} has version {version}, this mailhost knows {len(steps)}: "
                "a newer mailhost wrote it; upgrade, or restore the backup made before"
            )
        if version == len(steps):
            return
        _apply(connection, steps[version], version)


def _apply(connection: sqlite3.Connection, step: str, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have applied it while this one waited for the lock.
        if _version(connection) == version:
            for statement in _statements(step):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={version + 1}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> Iterator[str]:
    # executescript() would commit the transaction that holds a step together.
    pending = ""
    for part in script.split(";"):
        pending += part
        if not pending.strip():
            pending = ""
            continue
        pending += ";"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip(" \t\r\n;"):
        yield pending
