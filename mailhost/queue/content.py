"""
Large contents: one file each beside the database, named by the queue id, written as it arrives.

Absent
    Nothing was written, or it is settled and gone.
Being written
    A file of any length, no row. A crash leaves an orphan, which the next start removes.
Synced
    Octets, size and name are on stable storage; the row follows. A crash before the row is
    committed leaves an orphan, after it the message.
Row removed
    The copies are durable elsewhere; the file is unlinked after the removal has committed. A crash
    leaves an orphan.
Damaged
    Found at start with a size that its row does not tell: moved to ``damaged/`` for people to look
    at, its message bounced.

A file whose sync failed is removed and never used: the kernel may have dropped what it did not
write, and would report success at the next try (R-86).
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.errors import MailhostError, SpoolFault, SpoolFull
from mailhost.files import FileOperations
from mailhost.queue.lanes import CallFromThread, Lane

PORTION = 256 * 1024
"""Octets that are gathered before the file thread is woken."""

FILE_PATIENCE = 1024 * 1024
TOTAL_PATIENCE = 16 * 1024 * 1024
"""Unwritten octets, of one file and of all, from which on a writer is asked to wait."""

RESERVE_SIZE = 4 * 1024 * 1024

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def fault(error: Exception) -> MailhostError:
    """Return what a failure of the file system or of SQLite is called above the spool."""
    if isinstance(error, sqlite3.Error):
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    else:
        full = isinstance(error, OSError) and error.errno in _FULL
    return SpoolFull(str(error)) if full else SpoolFault(f"{type(error).__name__}: {error}")


class ContentDirectory:
    """
    The files of large contents. Every method but `open_file` blocks.

    Args:
        directory: the spool's; ``content/``, ``damaged/`` and ``reserve`` in it are ours.
    """

    log = Logger()

    def __init__(
        self, directory: Path, files: FileOperations, call_from_thread: CallFromThread
    ) -> None:
        self.path = directory / "content"
        self.files = files
        self.answer = call_from_thread
        self.unwritten = 0
        self._directory = directory
        self._damaged = directory / "damaged"
        self._reserve = directory / "reserve"

    def prepare(self) -> None:
        """Create what is missing; OSError."""
        for path in (self._directory, self.path, self._damaged):
            self.files.make_directory(path)
        self.files.sync_directory(self._directory)

    def open_file(self, name: str, lane: Lane) -> ContentFile:
        """Start a file, on the event thread; nothing is created before octets are written."""
        return ContentFile(self, self.path / name, lane)

    def remove(self, names: Iterable[str]) -> None:
        """Unlink files; one that cannot be removed is left for the next start."""
        for name in names:
            self._unlink(self.path / name)

    def sweep(self, kept: set[str]) -> int:
        """Remove every file whose name is not kept, and return how many."""
        orphans = [name for name in self.files.names(self.path) if name not in kept]
        self.remove(orphans)
        return len(orphans)

    def is_whole(self, path: Path, size: int) -> bool:
        """Whether the file has the size that its row tells."""
        try:
            return self.files.stat(path).st_size == size
        except OSError:
            return False

    def quarantine(self, path: Path) -> None:
        """Move a damaged file out of the way, if it is there at all."""
        try:
            self.files.rename(path, self._damaged / path.name)
        except OSError as error:
            self.log.warn(event="queue.content.unmovable", path=str(path), error=str(error))

    def fill_reserve(self) -> None:
        """Lay aside the space that is given back when the disk is full, if there is enough."""
        try:
            self.files.stat(self._reserve)
            return
        except OSError:
            pass
        try:
            descriptor = self.files.create(self._reserve)
            try:
                self.files.write(descriptor, [bytes(RESERVE_SIZE)])
            finally:
                self.files.close(descriptor)
        except OSError:
            self._unlink(self._reserve)

    def release_reserve(self) -> bool:
        """Give the reserve back, and say whether there was one."""
        try:
            self.files.unlink(self._reserve)
        except OSError:
            return False
        self.log.warn(event="queue.reserve.released", path=str(self._reserve))
        return True

    def _unlink(self, path: Path) -> None:
        try:
            self.files.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self.log.warn(event="queue.content.unremovable", path=str(path), error=str(error))


class ContentFile:
    """
    One large content on its way to the disk. Methods are called on the event thread.

    What fails is told once, by `finish`; until then octets are taken and dropped.
    """

    def __init__(self, directory: ContentDirectory, path: Path, lane: Lane) -> None:
        self._directory = directory
        self._files = directory.files
        self._path = path
        self._lane = lane
        self._portion: list[bytes] = []
        self._portion_size = 0
        self._unwritten = 0
        self._waiting: list[Deferred[None]] = []
        # Of the lane's thread:
        self._descriptor: int | None = None
        self._error: Exception | None = None
        self._created = False
        self._ended = False

    def write(self, data: bytes) -> Deferred[None] | None:
        """Add octets; a Deferred asks for patience."""
        self._portion.append(data)
        self._portion_size += len(data)
        if self._portion_size >= PORTION:
            self._send_portion()
        if self._unwritten < FILE_PATIENCE and (
            self._unwritten == 0 or self._directory.unwritten < TOTAL_PATIENCE
        ):
            return None
        result: Deferred[None] = Deferred()
        self._waiting.append(result)
        return result

    def finish(self) -> Deferred[None]:
        """Fire when all is on stable storage; SpoolFull or SpoolFault, and the file is gone."""
        self._send_portion()
        return self._lane.defer(self._finish)

    def abort(self) -> None:
        """Forget the file."""
        self._portion.clear()
        self._lane.run(self._abort)

    def _send_portion(self) -> None:
        portion, size = self._portion, self._portion_size
        if not portion:
            return
        self._portion, self._portion_size = [], 0
        self._unwritten += size
        self._directory.unwritten += size

        def work() -> None:
            self._write(portion)
            self._directory.answer(lambda: self._written(size))

        self._lane.run(work)

    def _written(self, size: int) -> None:
        self._unwritten -= size
        self._directory.unwritten -= size
        if self._waiting and self._unwritten <= FILE_PATIENCE // 2:
            waiting, self._waiting = self._waiting, []
            for result in waiting:
                if not result.called:
                    result.callback(None)

    # From here on the lane's thread.

    def _guard(self, step: Callable[[], None]) -> None:
        if self._error is None and not self._ended:
            try:
                step()
            except Exception as error:
                self._error = error

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = self._files.create(self._path)
            self._created = True
        return self._descriptor

    def _write(self, portion: list[bytes]) -> None:
        def step() -> None:
            self._files.write(self._open(), portion)

        self._guard(step)

    def _finish(self) -> None:
        def step() -> None:
            self._files.sync_data(self._open())

        self._guard(step)
        self._close()
        self._guard(lambda: self._files.sync_directory(self._path.parent))
        self._ended = True
        if self._error is not None:
            self._remove()
            raise fault(self._error) from self._error

    def _abort(self) -> None:
        if self._ended:
            return
        self._close()
        self._ended = True
        self._remove()

    def _remove(self) -> None:
        # A file that was there before is another message's.
        if self._created:
            self._directory.remove([self._path.name])

    def _close(self) -> None:
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            self._files.close(descriptor)
        except OSError as error:
            self._error = self._error or error


def failed(error: MailhostError) -> Deferred[Any]:
    """Return a Deferred that has failed."""
    result: Deferred[Any] = Deferred()
    result.errback(Failure(error))
    return result
