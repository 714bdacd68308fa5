"""Sending one message, block by block, no faster than the client takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailhost.errors import MessageDamaged
from mailhost.wire.pop3 import DotStuffer, TopCutter

BLOCK = 64 * 1024
"""Octets read at a time."""


class Content(Protocol):
    """What is used of `mailhost.interfaces.access.IContent`."""

    size: int

    def read(self, offset: int, length: int) -> bytes | Deferred[bytes]:
        """Return octets."""

    def close(self) -> None:
        """Let go."""


class BrokenOff(Exception):
    """The response had begun when its content failed: only closing the connection is left."""


class Retrieval:
    """
    The response to one RETR or TOP.

    The first block is read before anything is said, so that a damaged message is an error response
    and not a broken one.

    Args:
        content: owned from now on.
        write: takes octets of the response.
        lines: of the body, for TOP.
    """

    def __init__(
        self, content: Content, write: Callable[[bytes], None], lines: int | None = None
    ) -> None:
        self._content = content
        self._write = write
        self._stuffer = DotStuffer()
        self._cutter = None if lines is None else TopCutter(lines)
        self._offset = 0
        self._begun = False
        self._paused = False
        self._pumping = False
        self._reading = False
        self._ended = False
        self.done: Deferred[None] = Deferred()
        """Fires when all is written; fails with MessageDamaged, BrokenOff or what reading did."""

    def start(self, paused: bool = False) -> Deferred[None]:
        """Begin, and return `done`."""
        self._paused = paused
        self._pump()
        return self.done

    def pause(self) -> None:
        """Write no more until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on writing."""
        self._paused = False
        self._pump()

    def stop(self) -> None:
        """The client is gone: let go of the content; `done` fires."""
        self._end(None)

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while not (self._ended or self._paused or self._reading):
                self._read()
        finally:
            self._pumping = False

    def _read(self) -> None:
        try:
            data = self._content.read(self._offset, BLOCK)
        except Exception:
            self._failed(Failure())
            return
        if isinstance(data, Deferred):
            self._reading = True
            data.addCallbacks(self._arrived, self._failed)
        else:
            self._take(data)

    def _arrived(self, data: bytes) -> None:
        self._reading = False
        if not self._ended:
            self._take(data)
            self._pump()

    def _failed(self, failure: Failure) -> None:
        self._reading = False
        if not self._ended:
            self._end(Failure(BrokenOff(failure.getErrorMessage())) if self._begun else failure)

    def _take(self, data: bytes) -> None:
        size = self._content.size
        self._offset += len(data)
        if not data and self._offset < size:
            self._failed(Failure(MessageDamaged("the content ends early")))
            return
        if not self._begun:
            self._begun = True
            self._write(b"+OK %d octets\r\n" % size if self._cutter is None else b"+OK\r\n")
        if self._cutter is not None:
            data = self._cutter.feed(data)
        pieces = self._stuffer.feed(data)
        if self._offset >= size or (self._cutter is not None and self._cutter.done):
            self._write(pieces + self._stuffer.finish())
            self._end(None)
        else:
            self._write(pieces)

    def _end(self, result: Any) -> None:
        if not self._ended:
            self._ended = True
            self._content.close()
            if isinstance(result, Failure):
                self.done.errback(result)
            else:
                self.done.callback(None)
