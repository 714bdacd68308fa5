"""
Cuts what an IMAP client sends into commands: lines, with the literals inside them (RFC 9051 4.3).

`IMAPReceiver.feed` takes octets in any pieces and calls the sink. A command is handed over whole,
its literals where they stand, or, when the sink asks for it, with one literal streamed in pieces so
that it is never held in memory. One thing at a time: while held, octets are only kept.

Every bound is here: an over-long line, too many or too long literals end in `overflow`, after
which nothing more is read.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Protocol

_LITERAL = re.compile(rb"\{([0-9]{1,20})(\+?)\}\Z")
_LITERAL_TAIL = 24

MAX_LITERALS = 1000
"""Literals in one command; as many more are read past after a refusal."""


class IMAPSink(Protocol):
    """What a receiver calls."""

    def command(self, data: bytes) -> None:
        """Take a whole command, without its line end."""

    def literal(self, head: bytearray, size: int, synchronizing: bool) -> None:
        """
        Decide about a literal that comes next; `head` is the command so far, to be read only.

        The receiver waits until `collect`, `stream`, `skip` or `refuse` is called.
        """

    def literal_data(self, data: bytes) -> None:
        """Take octets of a streamed literal."""

    def tail(self, data: bytes) -> None:
        """Take the rest of a command after its streamed literal, without the line end."""

    def line(self, data: bytes) -> None:
        """Take the line that `expect_line` asked for, without its line end."""

    def overflow(self, problem: str) -> None:
        """A bound was passed: say so and close. `problem` is for people."""


class _Mode(Enum):
    COMMAND = "command"
    """Lines make up a command."""
    DECISION = "decision"
    """The sink was asked about a literal."""
    COLLECT = "collect"
    STREAM = "stream"
    TAIL = "tail"
    """The line behind a streamed literal."""
    SKIP = "skip"
    """A literal that nobody wants; then the rest of its command is dropped too."""
    SKIP_LINE = "skip line"
    LINE = "line"
    DEAD = "dead"


class IMAPReceiver:
    """
    Push framing of one connection's input.

    Args:
        sink: what is called.
        max_line: octets of a command without its literals, and of a single line.
        max_literals: octets of all collected literals of a command together.
    """

    def __init__(self, sink: IMAPSink, max_line: int, max_literals: int) -> None:
        self.max_line = max_line
        self.max_literals = max_literals
        self._sink = sink
        self._buffer = bytearray()
        self._scanned = 0
        self._mode = _Mode.COMMAND
        self._after_line = _Mode.COMMAND
        self._head = bytearray()
        self._literal_octets = 0
        self._literals = 0
        self._skipped = 0
        self._left = 0
        self._held = False
        self._running = False

    @property
    def buffered(self) -> int:
        """Octets that wait."""
        return len(self._buffer)

    @property
    def held(self) -> bool:
        """Whether nothing is handed over now."""
        return self._held or self._mode is _Mode.DECISION

    def feed(self, data: bytes) -> None:
        """Take octets from the client."""
        if self._mode is _Mode.DEAD:
            return
        self._buffer += data
        self._run()

    def hold(self) -> None:
        """Hand nothing over until `release`."""
        self._held = True

    def release(self) -> None:
        """Go on."""
        self._held = False
        self._run()

    def expect_line(self) -> None:
        """Hand the next line over as such and then hold; used while a command runs."""
        self._after_line = self._mode
        self._mode = _Mode.LINE
        self._held = False
        self._run()

    def discard(self) -> None:
        """Forget all that came and was not handed over (RFC 9051 6.2.1, STARTTLS)."""
        self._buffer.clear()
        self._scanned = 0
        self._forget()

    def stop(self) -> None:
        """Read nothing any more."""
        self._mode = _Mode.DEAD
        self._buffer.clear()
        self._head.clear()

    def room(self) -> int:
        """Octets that a literal may have now to be collected; -1 if none may come."""
        return -1 if self._literals >= MAX_LITERALS else self.max_literals - self._literal_octets

    # Answers to `IMAPSink.literal`.

    def collect(self) -> None:
        """Put the literal into the command."""
        self._literal_octets += self._left
        self._literals += 1
        self._head += b"\r\n"
        self._decided(_Mode.COLLECT)

    def stream(self) -> None:
        """Give the literal to `literal_data`, then what follows to `tail`; both end the command."""
        self._head.clear()
        self._decided(_Mode.STREAM)

    def skip(self) -> None:
        """Read past the literal and the rest of its command, which is not handed over."""
        self._decided(_Mode.SKIP)

    def refuse(self) -> None:
        """No literal will come, because the client was not told to send it: drop the command."""
        self._forget()
        self._run()

    def _decided(self, mode: _Mode) -> None:
        assert self._mode is _Mode.DECISION, "no literal was asked about"
        self._mode = mode
        self._run()

    def _forget(self) -> None:
        self._mode = _Mode.COMMAND
        self._head.clear()
        self._literal_octets = self._literals = self._skipped = self._left = 0

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while not self._held and self._step():
                pass
        finally:
            self._running = False

    def _step(self) -> bool:
        mode = self._mode
        if mode in (_Mode.COLLECT, _Mode.STREAM, _Mode.SKIP):
            return self._octets(mode)
        if mode in (_Mode.DECISION, _Mode.DEAD):
            return False
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            # A line that has its line feed is cut at the same length below.
            if self._scanned > self.max_line + 1:
                self._fail("line too long")
            return False
        self._scanned = 0
        length = end - 1 if end and self._buffer[end - 1] == 13 else end
        line = bytes(self._buffer[:length])
        del self._buffer[: end + 1]
        if mode is _Mode.SKIP_LINE:
            self._skipped_line(line)
        elif length > self.max_line:
            self._fail("line too long")
        elif mode is _Mode.LINE:
            self._mode = self._after_line
            self._held = True
            self._sink.line(line)
        else:
            self._command_line(line)
        return True

    def _octets(self, mode: _Mode) -> bool:
        if not self._left:
            self._mode = {
                _Mode.COLLECT: _Mode.COMMAND,
                _Mode.STREAM: _Mode.TAIL,
                _Mode.SKIP: _Mode.SKIP_LINE,
            }[mode]
            return True
        if not self._buffer:
            return False
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: len(piece)]
        self._left -= len(piece)
        if mode is _Mode.COLLECT:
            self._head += piece
        elif mode is _Mode.STREAM:
            self._sink.literal_data(piece)
        return True

    def _command_line(self, line: bytes) -> None:
        if len(self._head) - self._literal_octets + len(line) > self.max_line:
            self._fail("command too long")
            return
        announced = _LITERAL.search(line, max(0, len(line) - _LITERAL_TAIL))
        streamed = self._mode is _Mode.TAIL
        if announced is None:
            data = bytes(self._head + line) if self._head else line
            self._forget()
            if streamed:
                self._sink.tail(data)
            else:
                self._sink.command(data)
            return
        self._head += line
        self._left = int(announced[1])
        self._mode = _Mode.DECISION
        self._sink.literal(self._head, self._left, not announced[2])

    def _skipped_line(self, line: bytes) -> None:
        announced = _LITERAL.search(line, max(0, len(line) - _LITERAL_TAIL))
        # A synchronizing literal is not sent after a refusal; the others are under way already.
        if announced is not None and announced[2]:
            self._skipped += 1
            if self._skipped > MAX_LITERALS:
                self._fail("too many literals")
                return
            self._left = int(announced[1])
            self._mode = _Mode.SKIP
        else:
            self._forget()

    def _fail(self, problem: str) -> None:
        self.stop()
        self._sink.overflow(problem)
