"""
The octets of a message, read in parts from memory or from the spool's file.

Files are read on a thread, a chunk at a time: a message is never whole in memory. A file that is
shorter than the envelope says is a `ContentFault`, before the end of the data is announced to
anyone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, TypeAlias

from twisted.internet.defer import Deferred

from mailhost.smtp.client.status import ContentFault

CHUNK = 128 * 1024
"""Octets that are read, and given to the transport, at one time."""

InThread: TypeAlias = Callable[..., Deferred[Any]]
"""Calls a function with arguments on a thread, as ``partial(deferToThreadPool, reactor, pool)``."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the octets of a message are like."""

    ascii: bool
    ascii_header: bool


@dataclass(frozen=True, slots=True)
class Content:
    """
    A message to be sent.

    Args:
        prefix: octets before the content.
        body: the content, or the file that holds it.
        body_size: octets of the content.
        in_thread: where files are read.
    """

    prefix: bytes
    body: bytes | Path
    body_size: int
    in_thread: InThread

    @property
    def size(self) -> int:
        """All octets, as they are without dot-stuffing."""
        return len(self.prefix) + self.body_size

    def open(self) -> ContentReader:
        """Return a reader at the start. Close it."""
        return ContentReader(self)

    async def shape(self) -> Shape:
        """Look through the whole message."""
        if isinstance(self.body, bytes):
            return _shape([self.prefix, self.body])
        shape: Shape = await self.in_thread(_file_shape, self.prefix, self.body)
        return shape


class ContentReader:
    """Gives the octets of a `Content` in order."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._position = 0
        self._file: BinaryIO | None = None
        self._left = content.body_size
        # A thread may still read when the owner gives up: then it is the thread that closes.
        self._lock = Lock()
        self._reading = self._closed = False

    async def read(self) -> bytes:
        """
        Return the next octets, or nothing at the end.

        Raises:
            ContentFault: there are fewer than there should be, or they cannot be read.
        """
        if self._position == 0 and self._content.prefix:
            # Small content goes out together with what stands before it.
            self._position = 1
            if isinstance(self._content.body, bytes) and self._content.body_size <= CHUNK:
                self._check(len(self._content.body))
                self._left = 0
                return self._content.prefix + self._content.body
            return self._content.prefix
        if self._left == 0:
            return b""
        if isinstance(self._content.body, bytes):
            start = self._content.body_size - self._left
            data = self._content.body[start : start + CHUNK]
        else:
            self._reading = True
            data = await self._content.in_thread(self._read_file, self._content.body)
        if not data or len(data) > self._left:
            raise ContentFault("the message does not have the size it should")
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._closed = True
            if self._file is not None and not self._reading:
                self._file.close()

    def _check(self, size: int) -> None:
        if size != self._content.body_size:
            raise ContentFault("the message does not have the size it should")

    def _read_file(self, path: Path) -> bytes:
        try:
            if self._file is None:
                self._file = path.open("rb", buffering=0)
                self._check(os.fstat(self._file.fileno()).st_size)
            return self._file.read(min(CHUNK, self._left))
        except OSError as problem:
            raise ContentFault(f"the message cannot be read: {problem.strerror}") from None
        finally:
            with self._lock:
                self._reading = False
                if self._closed and self._file is not None:
                    self._file.close()


def _shape(parts: list[bytes]) -> Shape:
    whole = b"".join(parts)
    if whole.isascii():
        return Shape(True, True)
    return Shape(False, whole.partition(b"\r\n\r\n")[0].isascii())


def _file_shape(prefix: bytes, path: Path) -> Shape:
    try:
        with path.open("rb", buffering=0) as file:
            # A header block is at most a few hundred KB; what is longer is not looked at as one.
            first = _shape([prefix, file.read(4 * CHUNK)])
            if not first.ascii:
                return first
            while data := file.read(CHUNK):
                if not data.isascii():
                    return Shape(False, True)
            return first
    except OSError as problem:
        raise ContentFault(f"the message cannot be read: {problem.strerror}") from None
