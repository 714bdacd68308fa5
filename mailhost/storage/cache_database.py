"""
The SQL of ``cache.sqlite``: what can be computed again from the messages.

The file is attached to the account's connection, so that one query joins both. It may be deleted,
or be of another age than ``account.sqlite``, at any time: a row counts only when its `blob` is that
of the message, and what is missing is computed when asked for. There are no migrations: a file
of another version, or a damaged one, is removed and made anew. A crash leaves rows missing, or
rows of messages that are not there, which `prune` removes.
"""

# Statements are put together from constants of this module only.
# ruff: noqa: S608
from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mailhost.database import Synchronous, connect
from mailhost.files import FileOperations
from mailhost.message.digest import Digest

VERSION = 2

UNSYNCED: Synchronous = "NORMAL"

_SCHEMA = (
    """CREATE TABLE cache.digest (
        message INTEGER PRIMARY KEY,
        blob BLOB NOT NULL,
        envelope BLOB NOT NULL,
        body_structure BLOB NOT NULL,
        body BLOB NOT NULL,
        base_subject TEXT NOT NULL,
        display_from TEXT NOT NULL,
        display_to TEXT NOT NULL,
        usual_fields BLOB NOT NULL
    )""",
    """CREATE TABLE cache.text (
        message INTEGER PRIMARY KEY,
        blob BLOB NOT NULL,
        header TEXT NOT NULL,
        body TEXT NOT NULL
    )""",
    # What most searches look into, by itself: a narrow table is read through in no time.
    """CREATE TABLE cache.heading (
        message INTEGER PRIMARY KEY,
        blob BLOB NOT NULL,
        subject TEXT NOT NULL,
        sender TEXT NOT NULL,
        recipient TEXT NOT NULL,
        copied TEXT NOT NULL,
        blind TEXT NOT NULL
    )""",
    f"PRAGMA cache.user_version={VERSION}",
)


HEADINGS = {
    "subject": "subject",
    "from": "sender",
    "to": "recipient",
    "cc": "copied",
    "bcc": "blind",
}
"""Columns of ``heading`` by the name of the field they hold."""


@dataclass(frozen=True, slots=True)
class SearchText:
    """The decoded, folded texts of one message, as `mailhost.message.search_text` gives them."""

    header: str
    body: str


def attach(connection: sqlite3.Connection, path: Path, files: FileOperations) -> None:
    """Attach the cache to an account's connection, made anew when it is of no use."""
    try:
        _attach(connection, path)
        version = connection.execute("PRAGMA cache.user_version").fetchone()[0]
        if version == VERSION:
            connection.execute("SELECT 1 FROM cache.digest LIMIT 1").fetchone()
            return
    except sqlite3.DatabaseError as error:
        if is_busy(error):
            raise
    detach(connection)
    remove(path, files)
    _attach(connection, path)
    for statement in _SCHEMA:
        connection.execute(statement)


def _attach(connection: sqlite3.Connection, path: Path) -> None:
    if not path.exists():
        # For its mode: SQLite would obey the umask.
        connect(path, synchronous=UNSYNCED).close()
    connection.execute("ATTACH ? AS cache", (f"file:{quote(str(path))}?mode=rw",))
    connection.execute("PRAGMA cache.journal_mode=WAL").fetchone()
    connection.execute(f"PRAGMA cache.synchronous={UNSYNCED}")


def detach(connection: sqlite3.Connection) -> None:
    """Detach the cache if it is attached."""
    if any(row[1] == "cache" for row in connection.execute("PRAGMA database_list").fetchall()):
        connection.execute("DETACH cache")


def remove(path: Path, files: FileOperations) -> None:
    """Remove the file and what SQLite keeps beside it. No connection may have it open."""
    for suffix in ("", "-wal", "-shm"):
        try:
            files.unlink(path.with_name(path.name + suffix))
        except FileNotFoundError:
            continue


def is_busy(error: sqlite3.Error) -> bool:
    """Whether the error means only that another process was in the way."""
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def put_digests(connection: sqlite3.Connection, rows: Iterable[tuple[int, bytes, Digest]]) -> None:
    """Keep digests of (message, blob, digest)."""
    connection.executemany(
        "INSERT OR REPLACE INTO cache.digest VALUES (?,?,?,?,?,?,?,?,?)",
        [
            (
                message,
                blob,
                digest.envelope,
                digest.body_structure,
                digest.body,
                digest.base_subject,
                digest.display_from,
                digest.display_to,
                digest.usual_fields,
            )
            for message, blob, digest in rows
        ],
    )


def put_texts(
    connection: sqlite3.Connection, rows: Sequence[tuple[int, bytes, SearchText]]
) -> None:
    """Keep the searchable text of (message, blob, text)."""
    connection.executemany(
        "INSERT OR REPLACE INTO cache.text VALUES (?,?,?,?)",
        [(message, blob, text.header, text.body) for message, blob, text in rows],
    )
    connection.executemany(
        "INSERT OR REPLACE INTO cache.heading VALUES (?,?,?,?,?,?,?)",
        [(message, blob, *_headings(text.header)) for message, blob, text in rows],
    )


def _headings(header: str) -> list[str]:
    found: dict[str, list[str]] = {name: [] for name in HEADINGS}
    for line in header.split("\n"):
        name, _, value = line.partition(":")
        if name in found:
            found[name].append(value)
    return ["\n".join(values) for values in found.values()]


def headings(
    connection: sqlite3.Connection, low: int, high: int, mailbox: int, name: str, needle: str
) -> list[tuple[int, int | None]]:
    """
    Look for a text in a field of the placements in a range of UIDs.

    Returns (uid, message) of those that have it, and (uid, None) of those whose text is not kept.
    """
    return connection.execute(
        "SELECT p.uid, h.message FROM placement p JOIN message m ON m.id = p.message"
        " LEFT JOIN cache.heading h ON h.message = m.id AND h.blob = m.blob"
        " WHERE p.mailbox = ? AND p.uid BETWEEN ? AND ?"
        f" AND (h.message IS NULL OR instr(h.{HEADINGS[name]}, ?))",
        (mailbox, low, high, needle),
    ).fetchall()


def has_texts(connection: sqlite3.Connection) -> bool:
    """Whether the text of any message is kept: somebody searched."""
    return connection.execute("SELECT 1 FROM cache.text LIMIT 1").fetchone() is not None


def texts(
    connection: sqlite3.Connection, low: int, high: int, mailbox: int
) -> list[tuple[int, str | None, str | None]]:
    """Return (uid, header, body) of the placements in a range of UIDs, None where not kept."""
    return connection.execute(
        "SELECT p.uid, t.header, t.body FROM placement p JOIN message m ON m.id = p.message"
        " LEFT JOIN cache.text t ON t.message = m.id AND t.blob = m.blob"
        " WHERE p.mailbox = ? AND p.uid BETWEEN ? AND ?",
        (mailbox, low, high),
    ).fetchall()


def forget(connection: sqlite3.Connection, messages: Sequence[int]) -> None:
    """Remove what is kept of messages that are gone."""
    rows = [(message,) for message in messages]
    connection.executemany("DELETE FROM cache.digest WHERE message = ?", rows)
    connection.executemany("DELETE FROM cache.text WHERE message = ?", rows)
    connection.executemany("DELETE FROM cache.heading WHERE message = ?", rows)


def prune(connection: sqlite3.Connection) -> None:
    """Remove what is kept of messages that do not exist."""
    for table in ("digest", "text", "heading"):
        connection.execute(
            f"DELETE FROM cache.{table} WHERE message NOT IN (SELECT id FROM main.message)"
        )
