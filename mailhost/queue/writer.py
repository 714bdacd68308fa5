"""One message on its way into the spool: in memory while small, then in a file as it arrives."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.interfaces.spool import Envelope, ISpoolWriter, PlacementResult
from mailhost.queue.content import ContentFile
from mailhost.units import QueueID


class Acceptance(Protocol):
    """What a writer asks of its spool."""

    def open_file(self, queue_id: QueueID) -> ContentFile:
        """Return a file for a large content."""

    def accept(
        self,
        envelope: Envelope,
        prefix: bytes,
        chunks: list[bytes],
        file: ContentFile | None,
        size: int,
        *,
        placed: bool = False,
    ) -> Deferred[Any]:
        """Commit the message whose content is in the chunks or in the file."""


@implementer(ISpoolWriter)
class SpoolWriter:
    """
    The writer of one message, on the event thread.

    Until it is committed or aborted nothing of the message outlives the process.
    """

    __slots__ = ("_chunks", "_file", "_limit", "_open", "_spool", "queue_id", "size")

    def __init__(self, spool: Acceptance, queue_id: QueueID, limit: int) -> None:
        self.queue_id = queue_id
        self.size = 0
        self._spool = spool
        self._limit = limit
        self._chunks: list[bytes] = []
        self._file: ContentFile | None = None
        self._open = True

    def write(self, data: bytes) -> Deferred[None] | None:
        """Add octets. A Deferred asks for patience: write no more until it fires."""
        self.size += len(data)
        if self._file is not None:
            return self._file.write(data)
        self._chunks.append(data)
        if self.size <= self._limit:
            return None
        self._file = self._spool.open_file(self.queue_id)
        data = b"".join(self._chunks)
        self._chunks.clear()
        return self._file.write(data)

    def commit(self, envelope: Envelope, prefix: bytes) -> Deferred[None]:
        """Fire when all is on stable storage; SpoolFull or SpoolFault, then nothing is kept."""
        self._end(envelope)
        return self._spool.accept(envelope, prefix, self._chunks, self._file, self.size)

    def commit_placed(
        self, envelope: Envelope, prefix: bytes
    ) -> Deferred[tuple[PlacementResult, ...]]:
        """As `commit`, but fire with one result for each local target when all are visible."""
        self._end(envelope)
        return self._spool.accept(
            envelope, prefix, self._chunks, self._file, self.size, placed=True
        )

    def abort(self) -> None:
        """Forget the content. Harmless after commit."""
        if self._open:
            self._open = False
            self._chunks.clear()
            if self._file is not None:
                self._file.abort()

    def _end(self, envelope: Envelope) -> None:
        if not self._open:
            raise RuntimeError("the writer was committed or aborted before")
        if envelope.queue_id != self.queue_id:
            raise ValueError("the envelope belongs to another message")
        self._open = False
