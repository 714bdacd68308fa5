"""
What is read from the spool beside its writer, on a thread and a connection of its own.

It sees what has been committed. Everything blocks and raises SpoolFault.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mailhost.errors import MailhostError, NoSuchEntry, SpoolFault
from mailhost.files import FileOperations
from mailhost.interfaces.spool import QueuedMessage, QueuedRecipient
from mailhost.queue.connection import Connector
from mailhost.queue.records import Claim, QueueRecipient, State, StoredMessage
from mailhost.queue.tables import SpoolTables
from mailhost.units import QueueID

T = TypeVar("T")

PAGE = 500
"""Messages that one call of `listing` reads."""

MAX_CLAIM = 100
"""Recipients in one attempt (RFC 5321 4.5.3.1.8)."""


@dataclass(frozen=True, slots=True)
class Claims:
    """
    Messages to attempt now.

    Args:
        claims: those whose content is there.
        damaged: those whose spool file is missing or has another size.
        earliest: when the next one that is neither claimed nor here is due, None for never.
    """

    claims: tuple[Claim, ...]
    damaged: tuple[Claim, ...]
    earliest: float | None


@dataclass(frozen=True, slots=True)
class Reportable:
    """
    What a report to the sender is made from.

    Args:
        failed: recipients that were given up.
        octets: the beginning of the message, prefix included, or all of it.
    """

    message: StoredMessage
    recipients: tuple[QueueRecipient, ...]
    failed: tuple[QueueRecipient, ...]
    octets: bytes
    complete: bool


class SpoolReader:
    """
    A read-only view of the spool, for one thread.

    Args:
        path: of the database.
        content: the directory of large contents.
    """

    def __init__(
        self, path: Path, content: Path, files: FileOperations, connector: Connector
    ) -> None:
        self._path = path
        self._content = content
        self._files = files
        self._connector = connector
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _ask(self, question: Callable[[SpoolTables], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connector(self._path, read_only=True)
            return question(SpoolTables(self._connection, self._content))
        except MailhostError:
            raise
        except Exception as error:
            self.close()
            raise SpoolFault(f"{type(error).__name__}: {error}") from error

    def destinations(self) -> list[tuple[str, float]]:
        """Return every next hop with waiting recipients and its earliest time."""
        return self._ask(lambda tables: tables.destinations())

    def failed_messages(self) -> list[int]:
        """Return the messages with senders still to be told."""
        return self._ask(lambda tables: tables.failed_messages())

    def claims(self, next_hop: str, now: float, limit: int, excluded: frozenset[int]) -> Claims:
        """Return at most `limit` messages due for a next hop, without those excluded."""
        claims, earliest = self._ask(
            lambda tables: tables.claims(next_hop, now, limit, excluded, MAX_CLAIM)
        )
        whole = [claim for claim in claims if self._is_whole(claim.message)]
        damaged = [claim for claim in claims if claim not in whole] if whole != claims else []
        return Claims(tuple(whole), tuple(damaged), earliest)

    def report(self, number: int, limit: int, full_limit: int) -> Reportable | None:
        """
        Return what a report about the message needs, None if the message is gone.

        At most `limit` octets of the message are read, or `full_limit` when the sender asked for
        the whole (RET=FULL, RFC 3461 4.3).
        """

        def question(tables: SpoolTables) -> Reportable | None:
            message = tables.message(number)
            if message is None:
                return None
            rows = tables.recipients(number)
            most = full_limit if message.envelope.ret.upper() == "FULL" else limit
            content = self._beginning(message, most)
            octets = message.prefix + content
            return Reportable(
                message,
                tuple(rows),
                tuple(row for row in rows if row.state is State.FAILED),
                octets,
                len(content) == message.size,
            )

        return self._ask(question)

    def listing(self, after: int) -> tuple[list[QueuedMessage], int | None]:
        """Return a page of messages behind that number, and the number to go on from or None."""

        def question(tables: SpoolTables) -> tuple[list[QueuedMessage], int | None]:
            page = tables.message_page(after, PAGE)
            found = [_queued(message, tables.recipients(message.number)) for message in page]
            return (
                [message for message in found if message.recipients],
                page[-1].number if len(page) == PAGE else None,
            )

        return self._ask(question)

    def queued(self, queue_id: QueueID) -> QueuedMessage:
        """Return one message of the queue, or raise NoSuchEntry."""

        def question(tables: SpoolTables) -> QueuedMessage:
            number = tables.message_number(queue_id)
            message = None if number is None else tables.message(number)
            rows = [] if message is None else tables.recipients(message.number)
            if message is None or not rows:
                raise NoSuchEntry(f"there is no message {queue_id} in the queue")
            return _queued(message, rows)

        return self._ask(question)

    def _is_whole(self, message: StoredMessage) -> bool:
        if isinstance(message.content, bytes):
            return True
        try:
            return self._files.stat(message.content).st_size == message.size
        except OSError:
            return False

    def _beginning(self, message: StoredMessage, limit: int) -> bytes:
        if isinstance(message.content, bytes):
            return message.content[:limit]
        try:
            descriptor = self._files.open(message.content)
            try:
                return self._files.read(descriptor, 0, limit)
            finally:
                self._files.close(descriptor)
        except OSError:
            # A damaged message is still reported, without its text.
            return b""


def _queued(message: StoredMessage, rows: Sequence[QueueRecipient]) -> QueuedMessage:
    envelope = message.envelope
    return QueuedMessage(
        message.queue_id,
        "" if envelope.reverse_path is None else str(envelope.reverse_path),
        envelope.received_at,
        message.size,
        envelope.message_id,
        tuple(
            QueuedRecipient(
                row.address,
                row.next_hop,
                row.state.name.lower(),
                row.attempts,
                row.next_attempt,
                row.last.status if row.last else "",
                row.last.diagnostic if row.last else "",
                row.last.remote_mta if row.last else "",
            )
            for row in rows
        ),
    )
