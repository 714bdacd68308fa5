"""
The spool's tables, and every SQL statement of the queue.

``arrival``
    Accepted, for local targets only; its copies may be anything between absent and durable.
    A crash leaves the row, and it is recovered at start.
``message`` with `unsettled` 1
    The same, and rows in ``recipient`` say what is relayed. A crash leaves the row, and its local
    targets are recovered at start.
``message`` with `unsettled` 0
    What is left to do are its rows in ``recipient``; there is no such message without one.
``recipient`` with state 0
    To be attempted at `next_attempt`. Claims are in memory only, so that after a crash the row is
    attempted again, claimed or not.
``recipient`` with state 1
    Given up; the sender is to be told. A crash leaves the row, and the bounce is made at start.
    The bounce's own row and the removal of this one are one transaction.
``fence``
    One number, changed after a fault so that what was half written is overwritten.

Numbers of rows are given out by the journal and not used again while the process lives, so that a
late answer about a row that is gone changes nothing. Content is in the row or, when `large`, in the
spool file named by the queue id, which is synced before the row is committed and unlinked after
the row's removal is.

Everything here blocks, and raises sqlite3.Error. Transactions are the caller's.
"""

# Statements are put together from constants and integers of this module only.
# ruff: noqa: S608
from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mailhost.queue.records import (
    LOCAL,
    Change,
    Claim,
    Defer,
    Fail,
    QueueRecipient,
    Redate,
    Remove,
    State,
    StoredMessage,
    Warned,
    pack_target,
    unpack,
    unpack_target,
)
from mailhost.reply import Action, DeliveryStatus
from mailhost.units import QueueID

STEPS = (
    """
    CREATE TABLE arrival (
        number INTEGER PRIMARY KEY,
        queue_id TEXT NOT NULL,
        accepted_at REAL NOT NULL,
        envelope TEXT NOT NULL,
        size INTEGER NOT NULL,
        large INTEGER NOT NULL,
        placed INTEGER NOT NULL,
        prefix BLOB NOT NULL,
        content BLOB
    );
    CREATE TABLE message (
        number INTEGER PRIMARY KEY,
        queue_id TEXT NOT NULL,
        accepted_at REAL NOT NULL,
        envelope TEXT NOT NULL,
        size INTEGER NOT NULL,
        large INTEGER NOT NULL,
        unsettled INTEGER NOT NULL,
        prefix BLOB NOT NULL,
        content BLOB
    );
    CREATE UNIQUE INDEX message_by_id ON message (queue_id);
    CREATE INDEX message_unsettled ON message (number) WHERE unsettled = 1;
    CREATE TABLE recipient (
        number INTEGER PRIMARY KEY,
        message INTEGER NOT NULL,
        next_hop TEXT NOT NULL,
        address TEXT NOT NULL,
        forward_path TEXT NOT NULL,
        target TEXT,
        orcpt TEXT NOT NULL,
        notify TEXT NOT NULL,
        state INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        next_attempt REAL NOT NULL,
        warned INTEGER NOT NULL,
        last_status TEXT NOT NULL,
        last_diagnostic TEXT NOT NULL,
        last_remote_mta TEXT NOT NULL,
        last_reply_code INTEGER NOT NULL,
        last_tls TEXT NOT NULL
    );
    CREATE INDEX recipient_by_message ON recipient (message, next_hop);
    CREATE INDEX recipient_due ON recipient (next_hop, next_attempt, message) WHERE state = 0;
    CREATE INDEX recipient_failed ON recipient (message) WHERE state = 1;
    CREATE TABLE fence (value INTEGER NOT NULL);
    INSERT INTO fence (value) VALUES (0);
    """,
)

_MESSAGE = "number, queue_id, accepted_at, envelope, size, large, prefix, content"
_RECIPIENT = (
    "number, message, next_hop, address, forward_path, target, orcpt, notify, state, attempts,"
    " next_attempt, warned, last_status, last_diagnostic, last_remote_mta, last_reply_code,"
    " last_tls"
)
_ARRIVAL_FIELDS = 9
_LARGEST_INSERT = 64
_INSERT_ARRIVALS = {
    count: "INSERT INTO arrival VALUES "
    + ",".join(["(" + ",".join("?" * _ARRIVAL_FIELDS) + ")"] * count)
    for count in (1, 2, 4, 8, 16, 32, _LARGEST_INSERT)
}

ArrivalRow = tuple[int, str, float, str, int, int, int, bytes, bytes | None]
"""number, queue_id, accepted_at, envelope, size, large, placed, prefix, content."""


class SpoolTables:
    """
    The tables on one connection.

    Args:
        connection: owned by the caller, and used by one thread at a time.
        content: the directory of large contents.
    """

    def __init__(self, connection: sqlite3.Connection, content: Path) -> None:
        self._run = connection.execute
        self._run_many = connection.executemany
        self._content = content

    # What the journal writes.

    def insert_arrivals(self, rows: Sequence[ArrivalRow]) -> None:
        """Add messages that only have local targets."""
        start = 0
        while start < len(rows):
            count = min(1 << ((len(rows) - start).bit_length() - 1), _LARGEST_INSERT)
            values: list[object] = []
            for row in rows[start : start + count]:
                values += row
            self._run(_INSERT_ARRIVALS[count], values)
            start += count

    def insert_messages(self, rows: Iterable[ArrivalRow], *, unsettled: Iterable[bool]) -> None:
        """Add messages with recipient rows; `unsettled`: which have local targets too."""
        self._run_many(
            "INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?)",
            [(*row[:6], int(flag), *row[7:]) for row, flag in zip(rows, unsettled, strict=True)],
        )

    def insert_recipients(self, rows: Iterable[QueueRecipient]) -> None:
        """Add recipients."""
        self._run_many(
            f"INSERT INTO recipient VALUES ({','.join('?' * 17)})",
            [
                (
                    row.number,
                    row.message,
                    row.next_hop,
                    row.address,
                    row.forward_path,
                    pack_target(row.target),
                    row.orcpt,
                    ",".join(row.notify),
                    row.state,
                    row.attempts,
                    row.next_attempt,
                    int(row.warned),
                    *_status_fields(row.last),
                )
                for row in rows
            ],
        )

    def delete_arrivals(self, numbers: Iterable[int]) -> None:
        """Remove arrivals that are settled."""
        self._run_many("DELETE FROM arrival WHERE number = ?", [(number,) for number in numbers])

    def keep_arrival(self, number: int) -> None:
        """Turn an arrival into a message, because a target of it is not done."""
        self._run(
            "INSERT INTO message SELECT number, queue_id, accepted_at, envelope, size, large, 0,"
            " prefix, content FROM arrival WHERE number = ?",
            (number,),
        )
        self.delete_arrivals((number,))

    def mark_settled(self, number: int) -> None:
        """Note that the local copies of a message are durable."""
        self._run("UPDATE message SET unsettled = 0 WHERE number = ?", (number,))

    def apply(self, changes: Iterable[Change]) -> None:
        """Write what became of recipients; of rows that are gone nothing is written."""
        for change in changes:
            match change:
                case Remove():
                    self._run("DELETE FROM recipient WHERE number = ?", (change.recipient,))
                case Defer():
                    self._run(
                        "UPDATE recipient SET attempts = ?, next_attempt = ?, last_status = ?,"
                        " last_diagnostic = ?, last_remote_mta = ?, last_reply_code = ?,"
                        " last_tls = ? WHERE number = ?",
                        (
                            change.attempts,
                            change.next_attempt,
                            *_status_fields(change.status),
                            change.recipient,
                        ),
                    )
                case Fail():
                    self._run(
                        "UPDATE recipient SET state = 1, attempts = ?, last_status = ?,"
                        " last_diagnostic = ?, last_remote_mta = ?, last_reply_code = ?,"
                        " last_tls = ? WHERE number = ?",
                        (change.attempts, *_status_fields(change.status), change.recipient),
                    )
                case Redate():
                    self._run(
                        "UPDATE message SET accepted_at = ? WHERE number = ?",
                        (change.accepted_at, change.message),
                    )
                case Warned():
                    self._run(
                        "UPDATE recipient SET warned = 1 WHERE number = ?", (change.recipient,)
                    )

    def delete_finished(self, number: int) -> tuple[QueueID, bool] | None:
        """Remove the message if nothing is left to do; return its queue id and `large` then."""
        row = self._run(
            "SELECT queue_id, large FROM message WHERE number = ?1 AND unsettled = 0"
            " AND NOT EXISTS (SELECT 1 FROM recipient WHERE message = ?1)",
            (number,),
        ).fetchone()
        if row is None:
            return None
        self._run("DELETE FROM message WHERE number = ?", (number,))
        return QueueID(row[0]), bool(row[1])

    def drop(self, queue_id: QueueID) -> int | None:
        """Remove every recipient of a queued message; return the message's number if it exists."""
        row = self._run("SELECT number FROM message WHERE queue_id = ?", (queue_id,)).fetchone()
        if row is None:
            return None
        self._run("DELETE FROM recipient WHERE message = ?", (row[0],))
        return int(row[0])

    def make_due(self, queue_id: QueueID | None, now: float) -> int:
        """Let recipients that wait be due now, of one message or of all; count the messages."""
        where, values = ("", ()) if queue_id is None else (" AND queue_id = ?", (queue_id,))
        chosen = f"SELECT number FROM message WHERE 1{where}"
        (count,) = self._run(
            f"SELECT count(DISTINCT message) FROM recipient WHERE state = 0"
            f" AND message IN ({chosen})",
            values,
        ).fetchone()
        self._run(
            f"UPDATE recipient SET next_attempt = ? WHERE state = 0 AND message IN ({chosen})",
            (now, *values),
        )
        return int(count)

    def clamp(self, now: float, latest: float) -> None:
        """Make due what was put further off than can be: the clock was wrong then (R-94)."""
        self._run(
            "UPDATE recipient SET next_attempt = ? WHERE state = 0 AND next_attempt > ?",
            (now, latest),
        )

    def fence(self) -> None:
        """Change the fence."""
        self._run("UPDATE fence SET value = value + 1")

    # What is read.

    def highest_numbers(self) -> tuple[int, int]:
        """Return the highest number of a message or arrival, and of a recipient."""
        (message,) = self._run(
            "SELECT max(coalesce((SELECT max(number) FROM arrival), 0),"
            " coalesce((SELECT max(number) FROM message), 0))"
        ).fetchone()
        (recipient,) = self._run("SELECT coalesce(max(number), 0) FROM recipient").fetchone()
        return int(message), int(recipient)

    def arrivals(self, after: int, limit: int) -> list[tuple[StoredMessage, bool]]:
        """Return arrivals by number, each with whether it was `placed`."""
        rows = self._run(
            f"SELECT {_MESSAGE}, placed FROM arrival WHERE number > ? ORDER BY number LIMIT ?",
            (after, limit),
        )
        return [(self._message(row[:8]), bool(row[8])) for row in rows.fetchall()]

    def unsettled_messages(self, after: int, limit: int) -> list[StoredMessage]:
        """Return messages whose local copies may not be durable, by number."""
        rows = self._run(
            f"SELECT {_MESSAGE} FROM message WHERE unsettled = 1 AND number > ?"
            " ORDER BY number LIMIT ?",
            (after, limit),
        )
        return [self._message(row) for row in rows.fetchall()]

    def messages_with_local(self, after: int, limit: int) -> list[int]:
        """Return numbers of messages that have a local target still to be tried."""
        rows = self._run(
            "SELECT DISTINCT message FROM recipient WHERE next_hop = ? AND state = 0"
            " AND message > ? ORDER BY message LIMIT ?",
            (LOCAL, after, limit),
        )
        return [row[0] for row in rows]

    def message(self, number: int) -> StoredMessage | None:
        """Return a message, or None if it is gone."""
        row = self._run(f"SELECT {_MESSAGE} FROM message WHERE number = ?", (number,)).fetchone()
        return None if row is None else self._message(row)

    def message_number(self, queue_id: QueueID) -> int | None:
        """Return the number of a queued message."""
        row = self._run("SELECT number FROM message WHERE queue_id = ?", (queue_id,)).fetchone()
        return None if row is None else int(row[0])

    def message_page(self, after: int, limit: int) -> list[StoredMessage]:
        """Return messages by number, without prefix and content."""
        rows = self._run(
            "SELECT number, queue_id, accepted_at, envelope, size, 0, x'', x'' FROM message"
            " WHERE number > ? ORDER BY number LIMIT ?",
            (after, limit),
        )
        return [self._message(row) for row in rows.fetchall()]

    def recipients(self, message: int) -> list[QueueRecipient]:
        """Return every recipient row of a message."""
        rows = self._run(
            f"SELECT {_RECIPIENT} FROM recipient WHERE message = ? ORDER BY number", (message,)
        )
        return [_recipient(row) for row in rows]

    def destinations(self) -> list[tuple[str, float]]:
        """Return every next hop that has recipients waiting, with the earliest time."""
        return self._run(
            "SELECT next_hop, min(next_attempt) FROM recipient WHERE state = 0 GROUP BY next_hop"
        ).fetchall()

    def failed_messages(self) -> list[int]:
        """Return numbers of messages with recipients whose sender is still to be told."""
        return [
            row[0] for row in self._run("SELECT DISTINCT message FROM recipient WHERE state = 1")
        ]

    def claims(
        self, next_hop: str, now: float, limit: int, excluded: frozenset[int], recipients: int
    ) -> tuple[list[Claim], float | None]:
        """
        Return due messages for a next hop, and when the earliest of the others is due.

        Of those not `excluded` by number at most `limit`, with at most that many `recipients` each.
        """
        chosen = self._due(next_hop, now, limit, excluded)
        claims = []
        for message in chosen:
            stored = self.message(message)
            rows = self._run(
                f"SELECT {_RECIPIENT} FROM recipient WHERE message = ? AND next_hop = ?"
                " AND state = 0 AND next_attempt <= ? ORDER BY number LIMIT ?",
                (message, next_hop, now, recipients),
            ).fetchall()
            if stored is not None and rows:
                claims.append(Claim(stored, next_hop, tuple(map(_recipient, rows))))
        others = excluded.union(chosen)
        row = self._run(
            "SELECT next_attempt FROM recipient WHERE next_hop = ? AND state = 0"
            f" AND message NOT IN ({_numbers(others)}) ORDER BY next_attempt LIMIT 1",
            (next_hop,),
        ).fetchone()
        return claims, None if row is None else row[0]

    def large_ids(self) -> Iterator[str]:
        """Yield the queue id of every row whose content is in a file."""
        for table in ("arrival", "message"):
            for row in self._run(f"SELECT queue_id FROM {table} WHERE large = 1"):
                yield row[0]

    def _due(self, next_hop: str, now: float, limit: int, excluded: frozenset[int]) -> list[int]:
        rows = self._run(
            "SELECT message FROM recipient WHERE next_hop = ? AND state = 0"
            f" AND next_attempt <= ? AND message NOT IN ({_numbers(excluded)})"
            " ORDER BY next_attempt, message",
            (next_hop, now),
        )
        chosen: dict[int, None] = {}
        for (message,) in rows:
            chosen[message] = None
            if len(chosen) == limit:
                break
        # A statement left open would keep the log from being folded into the database.
        rows.close()
        return list(chosen)

    def _message(self, row: Sequence[object]) -> StoredMessage:
        number, queue_id, accepted_at, envelope, size, large, prefix, content = row
        return StoredMessage(
            number,  # type: ignore[arg-type]
            QueueID(str(queue_id)),
            accepted_at,  # type: ignore[arg-type]
            unpack(QueueID(str(queue_id)), str(envelope)),
            size,  # type: ignore[arg-type]
            prefix,  # type: ignore[arg-type]
            self._content / str(queue_id) if large else content,  # type: ignore[arg-type]
        )


def _numbers(numbers: Iterable[int]) -> str:
    # Row numbers of our own, ints by type: nothing to escape, and no limit on parameters.
    return ",".join(map(str, map(int, numbers)))


def _status_fields(status: DeliveryStatus | None) -> tuple[str, str, str, int, str]:
    if status is None:
        return "", "", "", 0, ""
    return (
        status.status,
        status.diagnostic,
        status.remote_mta,
        status.reply_code,
        status.tls,
    )


def _recipient(row: Sequence[object]) -> QueueRecipient:
    fields = list(row)
    status, diagnostic, remote_mta, reply_code, tls = fields[12:17]
    state = State(fields[8])  # type: ignore[arg-type]
    last = None
    if status:
        action = Action.FAILED if state is State.FAILED else Action.DELAYED
        last = DeliveryStatus(action, status, diagnostic, remote_mta, reply_code, tls)  # type: ignore[arg-type]
    return QueueRecipient(
        fields[0],  # type: ignore[arg-type]
        fields[1],  # type: ignore[arg-type]
        str(fields[2]),
        str(fields[3]),
        str(fields[4]),
        unpack_target(fields[5]),  # type: ignore[arg-type]
        str(fields[6]),
        tuple(filter(None, str(fields[7]).split(","))),
        state,
        fields[9],  # type: ignore[arg-type]
        fields[10],  # type: ignore[arg-type]
        bool(fields[11]),
        last,
    )
