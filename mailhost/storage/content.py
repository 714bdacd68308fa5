"""The octets of one stored message, for whoever streams them."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.errors import MessageDamaged
from mailhost.files import FileOperations
from mailhost.interfaces.access import IContent
from mailhost.storage.pool import Pool

DIRECT = 256 * 1024
"""Octets of a file small enough to be read at once when it is opened."""


@implementer(IContent)
class HeldContent:
    """A message that is in memory: a small one, or one that had to be converted to CRLF."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)

    def read(self, offset: int, length: int) -> bytes:
        """Return that many octets from the offset."""
        return self._octets[offset : offset + length]

    def close(self) -> None:
        """Let go of the octets."""
        self._octets = b""


@implementer(IContent)
class FileContent:
    """
    A message in an open file, read on the pool.

    It stays readable after the message is expunged. A read that runs while it is closed ends well.

    Args:
        descriptor: owned.
        size: of the file and the message, which are the same.
    """

    def __init__(self, files: FileOperations, pool: Pool, descriptor: int, size: int) -> None:
        self._files, self._pool = files, pool
        self._descriptor: int | None = descriptor
        self._reading = 0
        self._closed = False
        self.size = size

    def read(self, offset: int, length: int) -> Deferred[bytes]:
        """Return that many octets from the offset, fewer at the end; MessageDamaged."""
        assert not self._closed, "read after close"
        self._reading += 1
        wanted = max(min(length, self.size - offset), 0)
        return self._pool.defer(self._read, offset, wanted).addBoth(self._done)

    def _read(self, offset: int, wanted: int) -> bytes:
        assert self._descriptor is not None
        try:
            octets = self._files.read(self._descriptor, offset, wanted)
        except OSError as error:
            raise MessageDamaged(error.strerror or str(error)) from error
        if len(octets) < wanted:
            raise MessageDamaged("the file is shorter than it was")
        return octets

    def _done(self, result: bytes) -> bytes:
        self._reading -= 1
        if self._closed:
            self._release()
        return result

    def close(self) -> None:
        """Let go of the file, after reads that run."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        if not self._reading and self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._files.close(descriptor)
