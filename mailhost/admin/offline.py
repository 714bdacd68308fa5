"""
The stores as a command uses them while no server runs: opened, asked once, closed.

The caller holds the data directory's lock. Everything blocks and is done when it returns, so that
no reactor is needed: the Deferreds of the interfaces have fired already. What a stopped queue has
is changed in its database only; content that nobody needs any more is swept by the next start, and
mail that was accepted and not yet settled is left for its recovery.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from zope.interface import implementer

from mailhost.admin.verbs import Result, perform
from mailhost.config.layout import directory_database, spool_directory
from mailhost.config.sections import Config
from mailhost.database import connect
from mailhost.directory.directory import Directory
from mailhost.directory.store import SCRAM_ITERATIONS, DirectoryStore
from mailhost.errors import MailhostError
from mailhost.files import FileOperations
from mailhost.interfaces.directory import IDirectory
from mailhost.interfaces.login import IAdministration
from mailhost.interfaces.spool import IQueue, QueuedMessage
from mailhost.queue.connection import SpoolDatabase
from mailhost.queue.content import ContentDirectory
from mailhost.queue.journal import DATABASE
from mailhost.queue.reader import SpoolReader
from mailhost.units import QueueID

T = TypeVar("T")


@implementer(IQueue)
class OfflineQueue:
    """
    The queue of a server that does not run.

    Args:
        directory: the spool's, made when absent.
        now: returns Unix time.
    """

    def __init__(self, directory: Path, now: Callable[[], float] = time.time) -> None:
        files = FileOperations()
        content = ContentDirectory(directory, files, lambda call: call())
        content.prepare()
        self._now = now
        self._database = SpoolDatabase(directory / DATABASE, content.path, connect)
        self._database.open()
        self._reader = SpoolReader(directory / DATABASE, content.path, files, connect)

    def close(self) -> None:
        """Let go of the files."""
        self._reader.close()
        self._database.close()

    def messages(self) -> Deferred[tuple[QueuedMessage, ...]]:
        """Every message with a recipient that is not done, oldest first."""
        return execute(self._messages)

    def message(self, queue_id: QueueID) -> Deferred[QueuedMessage]:
        """One of them, or NoSuchEntry."""
        return execute(self._reader.queued, queue_id)

    def retry(self, queue_ids: Sequence[QueueID] | None) -> Deferred[int]:
        """Let the next attempt be made when the server starts."""
        return execute(self._retry, queue_ids)

    def delete(self, queue_ids: Sequence[QueueID]) -> Deferred[int]:
        """Drop them without a bounce; fire with how many there were."""
        return execute(self._delete, queue_ids)

    def _messages(self) -> tuple[QueuedMessage, ...]:
        found: list[QueuedMessage] = []
        after: int | None = 0
        while after is not None:
            page, after = self._reader.listing(after)
            found += page
        return tuple(found)

    def _retry(self, queue_ids: Sequence[QueueID] | None) -> int:
        now = self._now()
        with self._database.transaction() as tables:
            if queue_ids is None:
                return tables.make_due(None, now)
            return sum(tables.make_due(queue_id, now) for queue_id in queue_ids)

    def _delete(self, queue_ids: Sequence[QueueID]) -> int:
        with self._database.transaction() as tables:
            numbers = [tables.drop(queue_id) for queue_id in queue_ids]
            found = [number for number in numbers if number is not None]
            for number in found:
                tables.delete_finished(number)
        return len(found)


@implementer(IAdministration)
@dataclass(frozen=True, slots=True)
class OfflineAdministration:
    """The stores of a server that does not run."""

    directory: IDirectory
    queue: IQueue


@contextmanager
def stores(config: Config) -> Iterator[IAdministration]:
    """
    Open the stores of a data directory whose lock the caller holds, and close them at the end.

    Raises:
        DataDirectoryError: a newer mailhost wrote them.
        sqlite3.Error: a database cannot be used.
    """
    store = DirectoryStore(
        directory_database(config.data_directory),
        scram_iterations=SCRAM_ITERATIONS if config.login.scram else 0,
    )
    directory = Directory(store, execute, Clock())
    try:
        queue = OfflineQueue(spool_directory(config.data_directory))
        try:
            yield OfflineAdministration(directory, queue)
        finally:
            queue.close()
    finally:
        finished(directory.close())


def perform_offline(
    config: Config, noun: str, verb: str, arguments: Mapping[str, object]
) -> Result:
    """Perform a verb on the files; errors are the verb's own."""
    with stores(config) as administration:
        return run(perform(administration, noun, verb, arguments))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that waits for nothing but what is there already."""
    return finished(Deferred.fromCoroutine(coroutine))


def finished(deferred: Deferred[T]) -> T:
    """Return the result of a Deferred that has fired, or raise its error."""
    outcome: list[Any] = []
    deferred.addBoth(outcome.append)
    if not outcome:
        raise MailhostError("a store did not answer at once")
    if hasattr(outcome[0], "raiseException"):
        outcome[0].raiseException()
    result: T = outcome[0]
    return result
