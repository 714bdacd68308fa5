"""
The SQL of ``account.sqlite``: what Maildir cannot hold, and what it is too slow for.

The tables are described in `account_schema`.

Transactions are committed unsynced (WAL, ``synchronous=NORMAL``): a crash of the process keeps
them, a power cut keeps a prefix of them, up to the last `durable` one at least. What must not be
lost with the rest (reservations, expunges, the mailbox list) is committed durably. `mod_seq` and
`uid_next` are only used up to what is durably reserved; under a new epoch (`begin_epoch`) they go
on behind it.

A connection is used under its account's lock. Everything raises sqlite3.Error.
"""

# Statements are put together from constants of this module only.
# ruff: noqa: S608
from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from mailhost.database import Synchronous, connect, migrate
from mailhost.files import FileOperations
from mailhost.interfaces.access import Column
from mailhost.storage import cache_database
from mailhost.storage.account_schema import STEPS
from mailhost.storage.flag_words import FlagWords
from mailhost.units import MailboxID

DURABLE: Synchronous = "FULL"
UNSYNCED: Synchronous = "NORMAL"
"""How the two kinds of transaction are committed."""

LF, DAMAGED = 1, 2
"""Bits of `state`: the file has bare LF; the file is missing or not what was stored."""


@dataclass(slots=True)
class Folder:
    """A row of ``mailbox`` in memory, and what is only known there."""

    row: int
    mailbox_id: MailboxID
    name: str
    directory: str
    special_use: tuple[str, ...]
    uid_validity: int
    uid_next: int
    uid_reserved: int
    mod_seq: int
    vanished_floor: int
    recent_from: int
    messages: int
    unseen: int
    deleted: int
    size: int
    seen_new: int
    seen_cur: int
    keywords: list[str] = field(default_factory=list)
    changed: bool = False
    """Written at the end of the transaction."""
    listed: bool = False
    """The UID list was appended to since the account was opened."""
    own_change: float = 0.0
    """When this process first changed the directories after the last listing of them; 0: never."""
    looked_at: float = 0.0
    """When the directories were last listed, and how long that took."""
    look_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Message:
    """A row of ``message``."""

    id: int
    email_id: str
    blob: bytes
    size: int
    date: int
    zone: int
    thread: int
    sent_day: int


@dataclass(frozen=True, slots=True)
class PlacementRow:
    """A row of ``placement``, without its mailbox."""

    uid: int
    message: int
    flags: int
    mod_seq: int
    added: int
    state: int
    key: str
    location: str


_MAILBOX_COLUMNS = (
    "mailbox_id, name, directory, special_use, uid_validity, uid_next, uid_reserved, mod_seq,"
    " vanished_floor, recent_from, messages, unseen, deleted, size, seen_new, seen_cur"
)
_PLACEMENT_COLUMNS = "p.uid, p.message, p.flags, p.mod_seq, p.added, p.state, p.key, p.location"
_DIGEST = Column.ENVELOPE | Column.BODY_STRUCTURE | Column.BODY | Column.USUAL_FIELDS
_MESSAGE = Column.DATE | Column.SIZE | Column.EMAIL_ID | Column.THREAD_ID
_CHOSEN = " AND p.uid IN (SELECT value FROM json_each(?))"
_BETWEEN = " AND p.uid BETWEEN ? AND ?"


class Between(NamedTuple):
    """UIDs from the one to the other: quicker to find than each of many."""

    low: int
    high: int


Chosen: TypeAlias = Sequence[int] | Between
"""Which placements of a mailbox are meant."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error says that a database file is not sound."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class AccountDatabase:
    """
    The index of one account.

    Args:
        directory: the account's directory, in which the databases lie.
        files: file access, for removing a cache that is of no use.

    Raises:
        sqlite3.Error: a database cannot be opened.
        DataDirectoryError: a newer mailhost wrote it.
    """

    def __init__(self, directory: Path, files: FileOperations) -> None:
        self.connection = connect(directory / "account.sqlite", synchronous=UNSYNCED)
        try:
            migrate(self.connection, STEPS, str(directory / "account.sqlite"))
            cache_database.attach(self.connection, directory / "cache.sqlite", files)
            self.load()
        except BaseException:
            self.connection.close()
            raise

    def load(self) -> None:
        """Read again what is kept in memory."""
        execute = self.connection.execute
        row = execute(
            "SELECT account_id, epoch, mod_seq, mod_seq_reserved, uid_validity FROM account"
        ).fetchone()
        self.account_id: str = row[0] if row else ""
        numbers: tuple[int, int, int, int] = row[1:] if row else (0, 0, 0, 0)
        self.epoch, self.mod_seq, self.mod_seq_reserved, self.uid_validity = numbers
        self.words = FlagWords(
            {
                number: frozenset(words.split(" "))
                for number, words in execute("SELECT id, words FROM keyword_set ORDER BY id")
            }
        )
        self.folders: dict[int, Folder] = {}
        for row in execute(f"SELECT id, {_MAILBOX_COLUMNS} FROM mailbox"):
            folder = Folder(*row)
            folder.special_use = tuple(row[4].split())
            self.folders[folder.row] = folder
        for mailbox, word in execute(
            "SELECT mailbox, word FROM keyword ORDER BY mailbox, position"
        ):
            if mailbox in self.folders:
                self.folders[mailbox].keywords.append(word)
        self._index_folders()

    def _index_folders(self) -> None:
        self.by_id = {folder.mailbox_id: folder for folder in self.folders.values()}
        self.by_name = {folder.name: folder for folder in self.folders.values()}

    def close(self) -> None:
        """Close both databases."""
        self.connection.close()

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """
        Commit what is done inside, or undo it and read memory again when it raises.

        Args:
            durable: return when it, and all before it, is on stable storage.
        """
        execute = self.connection.execute
        if durable:
            execute(f"PRAGMA main.synchronous={DURABLE}")
        try:
            execute("BEGIN IMMEDIATE")
            try:
                yield
                self._save()
                if durable:
                    # A transaction that changes nothing would not sync the ones before it.
                    execute("UPDATE account SET barrier = barrier + 1")
                execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    execute("ROLLBACK")
                self._restore()
                raise
        finally:
            if durable:
                execute(f"PRAGMA main.synchronous={UNSYNCED}")

    def _restore(self) -> None:
        before = self.folders
        self.load()
        for row, folder in self.folders.items():
            if row in before:
                old = before[row]
                folder.listed, folder.own_change = old.listed, old.own_change
                folder.looked_at, folder.look_cost = old.looked_at, old.look_cost
                # UIDs of what arrived are given out before its rows are written.
                folder.uid_next = max(folder.uid_next, old.uid_next)

    def _save(self) -> None:
        execute = self.connection.execute
        if self.words.added:
            self.connection.executemany("INSERT INTO keyword_set VALUES (?,?)", self.words.added)
            self.words.added.clear()
        changed = [folder for folder in self.folders.values() if folder.changed]
        for folder in changed:
            execute(
                "UPDATE mailbox SET uid_next=?, uid_reserved=?, mod_seq=?, vanished_floor=?,"
                " recent_from=?, messages=?, unseen=?, deleted=?, size=?, seen_new=?, seen_cur=?"
                " WHERE id=?",
                (
                    folder.uid_next,
                    folder.uid_reserved,
                    folder.mod_seq,
                    folder.vanished_floor,
                    folder.recent_from,
                    folder.messages,
                    folder.unseen,
                    folder.deleted,
                    folder.size,
                    folder.seen_new,
                    folder.seen_cur,
                    folder.row,
                ),
            )
            folder.changed = False
        execute(
            "UPDATE account SET epoch=?, mod_seq=?, mod_seq_reserved=?, uid_validity=?",
            (self.epoch, self.mod_seq, self.mod_seq_reserved, self.uid_validity),
        )

    # Identity and mailboxes

    def create_account(self, account_id: str, epoch: int, mod_seq: int) -> None:
        """Write the one row of a new database."""
        self.account_id, self.epoch, self.mod_seq = account_id, epoch, mod_seq
        self.connection.execute(
            "INSERT INTO account VALUES (1,?,?,?,?,0,0)", (account_id, epoch, mod_seq, mod_seq)
        )

    def insert_mailbox(self, folder: Folder) -> None:
        """Add a mailbox; sets its row."""
        cursor = self.connection.execute(
            f"INSERT INTO mailbox ({_MAILBOX_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                folder.mailbox_id,
                folder.name,
                folder.directory,
                " ".join(folder.special_use),
                folder.uid_validity,
                folder.uid_next,
                folder.uid_reserved,
                folder.mod_seq,
                folder.vanished_floor,
                folder.recent_from,
                folder.messages,
                folder.unseen,
                folder.deleted,
                folder.size,
                folder.seen_new,
                folder.seen_cur,
            ),
        )
        folder.row = int(cursor.lastrowid or 0)
        self.folders[folder.row] = folder
        self._index_folders()
        self.connection.executemany(
            "INSERT INTO keyword VALUES (?,?,?)",
            [(folder.row, position, word) for position, word in enumerate(folder.keywords)],
        )

    def rename_mailbox(self, folder: Folder, name: str, directory: str) -> None:
        """Give a mailbox another name and directory."""
        folder.name, folder.directory = name, directory
        self.connection.execute(
            "UPDATE mailbox SET name=?, directory=? WHERE id=?", (name, directory, folder.row)
        )
        folder.changed = True
        self._index_folders()

    def delete_mailbox(self, folder: Folder, file: str, expires: int) -> None:
        """Remove a mailbox and all that is in it, leaving a row that says so."""
        execute = self.connection.execute
        execute(
            "INSERT INTO deleted_mailbox VALUES (?,?,?,?,?,?,0)",
            (folder.mailbox_id, folder.name, folder.directory, file, self.mod_seq, expires),
        )
        for table in ("placement", "tombstone", "keyword", "acl", "seen", "metadata"):
            execute(f"DELETE FROM {table} WHERE mailbox = ?", (folder.row,))
        execute("DELETE FROM mailbox WHERE id = ?", (folder.row,))
        del self.folders[folder.row]
        self._index_folders()

    def unfinished_deletions(self) -> list[tuple[str, str, str]]:
        """Return (mailbox id, directory, file) of deletions whose directory may still be there."""
        return self.connection.execute(
            "SELECT mailbox_id, directory, file FROM deleted_mailbox WHERE moved = 0"
        ).fetchall()

    def deletion_moved(self, mailbox_id: str) -> None:
        """The directory of a deleted mailbox is out of the Maildir."""
        self.connection.execute(
            "UPDATE deleted_mailbox SET moved = 1 WHERE mailbox_id = ?", (mailbox_id,)
        )

    def add_keyword(self, folder: Folder, word: str) -> None:
        """Give a keyword the next number in a mailbox."""
        self.connection.execute(
            "INSERT INTO keyword VALUES (?,?,?)", (folder.row, len(folder.keywords), word)
        )
        folder.keywords.append(word)

    def subscriptions(self) -> set[str]:
        """Return the subscribed names."""
        return {name for (name,) in self.connection.execute("SELECT name FROM subscription")}

    def subscribe(self, name: str, subscribed: bool) -> None:
        """Add or remove a name."""
        self.connection.execute(
            "INSERT OR IGNORE INTO subscription VALUES (?)"
            if subscribed
            else "DELETE FROM subscription WHERE name = ?",
            (name,),
        )

    def put_pending_renames(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Journal directory renames (source, target)."""
        self.connection.executemany("INSERT INTO pending_rename VALUES (?,?)", pairs)

    def pending_renames(self) -> list[tuple[str, str]]:
        """Return (source, target) of what is in the journal."""
        return self.connection.execute("SELECT source, target FROM pending_rename").fetchall()

    def clear_pending_renames(self) -> None:
        """Empty the journal."""
        self.connection.execute("DELETE FROM pending_rename")

    def put_pending_copies(self, mailbox: int, copies: Iterable[tuple[str, str]]) -> None:
        """Journal the files, (key, location), that a COPY is about to make in a mailbox."""
        self.connection.executemany(
            "INSERT OR REPLACE INTO pending_copy VALUES (?,?,?)",
            [(mailbox, key, location) for key, location in copies],
        )

    def pending_copies(self) -> list[tuple[int, str]]:
        """Return (mailbox, location) of what is in the journal."""
        return self.connection.execute("SELECT mailbox, location FROM pending_copy").fetchall()

    def clear_pending_copies(self, mailbox: int | None = None) -> None:
        """Empty the journal, of one mailbox or whole."""
        self.connection.execute(
            "DELETE FROM pending_copy WHERE ?1 IS NULL OR mailbox = ?1", (mailbox,)
        )

    # Messages and placements

    def next_mod_seq(self, folder: Folder | None = None) -> int:
        """Count the account's mod-sequence up, for a change of a mailbox."""
        self.mod_seq += 1
        if folder is not None:
            folder.mod_seq = self.mod_seq
            folder.changed = True
        return self.mod_seq

    def insert_message(self, message: Message) -> int:
        """Add a message, its `id` disregarded, and return the id it got."""
        cursor = self.connection.execute(
            "INSERT INTO message (email_id, blob, size, date, zone, thread, sent_day)"
            " VALUES (?,?,?,?,?,?,?)",
            (
                message.email_id,
                message.blob,
                message.size,
                message.date,
                message.zone,
                message.thread,
                message.sent_day,
            ),
        )
        return int(cursor.lastrowid or 0)

    def insert_placements(self, mailbox: int, rows: Iterable[PlacementRow]) -> None:
        """Add placements to a mailbox."""
        self.connection.executemany(
            "INSERT INTO placement VALUES (?,?,?,?,?,?,?,?,?)",
            [
                (
                    mailbox,
                    row.uid,
                    row.message,
                    row.flags,
                    row.mod_seq,
                    row.added,
                    row.state,
                    row.key,
                    row.location,
                )
                for row in rows
            ],
        )

    def placements(
        self, mailbox: int, uids: Sequence[int] | None = None, flags: int = 0
    ) -> list[PlacementRow]:
        """Return placements by UID: all, or those of the UIDs; only with these flag bits set."""
        chosen, parameters = _chosen(uids)
        rows = self.connection.execute(
            f"SELECT {_PLACEMENT_COLUMNS} FROM placement p"
            f" WHERE p.mailbox = ?{chosen} AND p.flags & ? = ? ORDER BY p.uid",
            (mailbox, *parameters, flags, flags),
        )
        return [PlacementRow(*row) for row in rows]

    def locations(self, mailbox: int, uids: Chosen) -> dict[int, tuple[str, int, int]]:
        """Return (location, state, size in CRLF form) by UID."""
        chosen, parameters = _chosen(uids)
        rows = self.connection.execute(
            "SELECT p.uid, p.location, p.state, m.size FROM placement p"
            f" JOIN message m ON m.id = p.message WHERE p.mailbox = ?{chosen}",
            (mailbox, *parameters),
        )
        return {uid: (location, state, size) for uid, location, state, size in rows}

    def message(self, number: int) -> Message | None:
        """Return a message."""
        row = self.connection.execute(
            "SELECT id, email_id, blob, size, date, zone, thread, sent_day"
            " FROM message WHERE id = ?",
            (number,),
        ).fetchone()
        return Message(*row) if row else None

    def messages_of(self, mailbox: int, uids: Sequence[int]) -> dict[int, Message]:
        """Return the messages of placements, by UID."""
        chosen, parameters = _chosen(uids)
        rows = self.connection.execute(
            "SELECT p.uid, m.id, m.email_id, m.blob, m.size, m.date, m.zone, m.thread, m.sent_day"
            f" FROM placement p JOIN message m ON m.id = p.message WHERE p.mailbox = ?{chosen}",
            (mailbox, *parameters),
        )
        return {row[0]: Message(*row[1:]) for row in rows}

    def placed(self, key: str) -> list[tuple[int, PlacementRow]]:
        """Return (mailbox, placement) of every placement with a key."""
        rows = self.connection.execute(
            f"SELECT p.mailbox, {_PLACEMENT_COLUMNS} FROM placement p WHERE p.key = ?", (key,)
        )
        return [(row[0], PlacementRow(*row[1:])) for row in rows]

    def buried(self, key: str) -> list[tuple[int, int, int]]:
        """Return (mailbox, uid, message) of every tombstone with a key."""
        return self.connection.execute(
            "SELECT mailbox, uid, message FROM tombstone WHERE key = ?", (key,)
        ).fetchall()

    def tombstone_files(self, mailbox: int) -> dict[str, str]:
        """Return the files in ``expunged/`` of a mailbox's tombstones, by key."""
        return dict(
            self.connection.execute(
                "SELECT key, file FROM tombstone WHERE mailbox = ? AND file != ''", (mailbox,)
            ).fetchall()
        )

    def set_flags(self, mailbox: int, rows: Iterable[tuple[int, int, int]]) -> None:
        """Set (uid, flags, mod_seq)."""
        self.connection.executemany(
            "UPDATE placement SET flags = ?, mod_seq = ? WHERE mailbox = ? AND uid = ?",
            [(flags, mod_seq, mailbox, uid) for uid, flags, mod_seq in rows],
        )

    def set_locations(self, mailbox: int, rows: Iterable[tuple[int, str]]) -> None:
        """Set (uid, location)."""
        self.connection.executemany(
            "UPDATE placement SET location = ? WHERE mailbox = ? AND uid = ?",
            [(location, mailbox, uid) for uid, location in rows],
        )

    def set_state(self, mailbox: int, uid: int, state: int) -> None:
        """Set the state bits of a placement."""
        self.connection.execute(
            "UPDATE placement SET state = ? WHERE mailbox = ? AND uid = ?", (state, mailbox, uid)
        )

    def bury(
        self, mailbox: int, rows: Iterable[tuple[PlacementRow, str]], mod_seq: int, expires: int
    ) -> None:
        """Turn placements into tombstones, (placement, file in ``expunged/`` or empty)."""
        rows = list(rows)
        self.connection.executemany(
            "INSERT OR REPLACE INTO tombstone VALUES (?,?,?,?,?,?,?,?)",
            [
                (mailbox, row.uid, row.message, row.added, mod_seq, expires, row.key, file)
                for row, file in rows
            ],
        )
        self.connection.executemany(
            "DELETE FROM placement WHERE mailbox = ? AND uid = ?",
            [(mailbox, row.uid) for row, _ in rows],
        )

    def expired(self, now: int) -> list[tuple[int, int, str]]:
        """Return (mailbox, uid, file) of tombstones that have had their time."""
        return self.connection.execute(
            "SELECT mailbox, uid, file FROM tombstone WHERE expires <= ?", (now,)
        ).fetchall()

    def expired_mailboxes(self, now: int) -> list[tuple[str, str]]:
        """Return (mailbox id, file) of deleted mailboxes that have had their time."""
        return self.connection.execute(
            "SELECT mailbox_id, file FROM deleted_mailbox WHERE expires <= ? AND moved = 1", (now,)
        ).fetchall()

    def forget_expired(self, now: int, mailbox_ids: Sequence[str]) -> None:
        """Remove tombstones that have had their time, and messages that nothing refers to."""
        execute = self.connection.execute
        for mailbox, mod_seq in execute(
            "SELECT mailbox, max(mod_seq) FROM tombstone WHERE expires <= ? GROUP BY mailbox",
            (now,),
        ).fetchall():
            if mailbox in self.folders:
                folder = self.folders[mailbox]
                folder.vanished_floor = max(folder.vanished_floor, mod_seq)
                folder.changed = True
        execute("DELETE FROM tombstone WHERE expires <= ?", (now,))
        self.connection.executemany(
            "DELETE FROM deleted_mailbox WHERE mailbox_id = ?", [(name,) for name in mailbox_ids]
        )
        execute(
            "DELETE FROM message WHERE id NOT IN (SELECT message FROM placement)"
            " AND id NOT IN (SELECT message FROM tombstone)"
        )
        cache_database.prune(self.connection)

    # What sessions ask

    def uids(self, mailbox: int) -> Iterable[tuple[int]]:
        """Return every UID of a mailbox, ascending, one in a tuple each."""
        return self.connection.execute(
            "SELECT uid FROM placement WHERE mailbox = ? ORDER BY uid", (mailbox,)
        )

    def count_from(self, mailbox: int, uid: int) -> int:
        """Return how many placements have this UID or a higher one."""
        row = self.connection.execute(
            "SELECT count(*) FROM placement WHERE mailbox = ? AND uid >= ?", (mailbox, uid)
        ).fetchone()
        return int(row[0])

    def changed(self, mailbox: int, mod_seq: int) -> list[tuple[int, int, int, int]]:
        """Return (uid, flags, mod_seq, added) of placements changed after a mod-sequence."""
        return self.connection.execute(
            "SELECT uid, flags, mod_seq, added FROM placement INDEXED BY placement_by_change"
            " WHERE mailbox = ? AND mod_seq > ? ORDER BY uid",
            (mailbox, mod_seq),
        ).fetchall()

    def vanished(self, mailbox: int, mod_seq: int) -> list[int]:
        """Return UIDs removed after a mod-sequence that were there at it."""
        rows = self.connection.execute(
            "SELECT uid FROM tombstone WHERE mailbox = ? AND mod_seq > ? AND added <= ?"
            " ORDER BY uid",
            (mailbox, mod_seq, mod_seq),
        )
        return [uid for (uid,) in rows]

    def records(self, mailbox: int, uids: Chosen, columns: Column) -> dict[str, Sequence[Any]]:
        """
        Return what is asked for of those placements by UID, as columns named as in `Record`.

        `flags` are numbers, as is `thread_id`; `header` is without the empty line. What comes from
        the cache is None where it was never computed. Empty when there are no placements.
        """
        key = columns, isinstance(uids, Between)
        statement = _RECORDS.get(key)
        if statement is None:
            statement = _RECORDS[key] = _records_statement(columns, _chosen(uids)[0])
        rows = self.connection.execute(statement[0], (mailbox, *_chosen(uids)[1])).fetchall()
        return dict(zip(statement[1], zip(*rows, strict=True), strict=True)) if rows else {}

    def all_flags(self, mailbox: int) -> list[tuple[int, int]]:
        """Return (uid, flags) of every placement in a mailbox, by UID."""
        return self.connection.execute(
            "SELECT uid, flags FROM placement WHERE mailbox = ? ORDER BY uid", (mailbox,)
        ).fetchall()

    # Threads

    def thread_of(self, hashes: Sequence[int], fresh: int) -> int:
        """
        Return the thread that the first known reference is in, or a new one; keep the references.

        Args:
            hashes: of the references, oldest first, and the message's own id.
            fresh: what a new thread is called.
        """
        if not hashes:
            return fresh
        known = dict(
            self.connection.execute(
                "SELECT hash, thread FROM thread_reference WHERE hash IN"
                f" ({','.join('?' * len(hashes))})",
                hashes,
            ).fetchall()
        )
        thread = next((known[each] for each in hashes if each in known), fresh)
        missing = [(each, thread) for each in hashes if each not in known]
        if missing:
            self.connection.executemany(
                "INSERT OR IGNORE INTO thread_reference VALUES (?,?)", missing
            )
        return int(thread)


_RECORDS: dict[tuple[Column, bool], tuple[str, tuple[str, ...]]] = {}
_EXPRESSIONS = (
    (Column.FLAGS, "flags", "p.flags"),
    (Column.MOD_SEQ, "mod_seq", "p.mod_seq"),
    (Column.DATE, "date", "m.date"),
    (Column.DATE, "zone", "m.zone"),
    (Column.SIZE, "size", "m.size"),
    (Column.ENVELOPE, "envelope", "d.envelope"),
    (Column.BODY_STRUCTURE, "body_structure", "d.body_structure"),
    (Column.BODY, "body", "d.body"),
    (Column.USUAL_FIELDS, "header", "d.usual_fields"),
    (Column.EMAIL_ID, "email_id", "m.email_id"),
    (Column.THREAD_ID, "thread_id", "m.thread"),
)


def _records_statement(columns: Column, which: str) -> tuple[str, tuple[str, ...]]:
    # Each selected value costs as much as half a look-up: nothing that was not asked for.
    asked = [(name, expression) for each, name, expression in _EXPRESSIONS if each & columns]
    selected = ", ".join(["p.uid", *[expression for _, expression in asked]])
    digest = bool(columns & _DIGEST)
    joined = " JOIN message m ON m.id = p.message" if digest or columns & _MESSAGE else ""
    if digest:
        joined += " LEFT JOIN cache.digest d ON d.message = m.id AND d.blob = m.blob"
    return (
        f"SELECT {selected} FROM placement p{joined} WHERE p.mailbox = ?{which} ORDER BY p.uid",
        ("uid", *[name for name, _ in asked]),
    )


def _chosen(uids: Chosen | None) -> tuple[str, tuple[str | int, ...]]:
    if uids is None:
        return "", ()
    if isinstance(uids, Between):
        return _BETWEEN, uids
    return _CHOSEN, (json.dumps(list(uids)),)
