"""
The wire of POP3 (RFC 1939, RFC 2449): lines in, multi-line responses out.

`POP3Receiver` is pushed octets with `feed` and calls its sink with one line at a time; the same
octets make the same calls however they were cut. `DotStuffer` and `TopCutter` treat message octets
block by block, never line by line.

Limits: a command line of 255 octets with its CRLF (RFC 2449 4), 12,288 for AUTH and its responses
(RFC 4954 4 gives the figure); octets that come while an answer is awaited are kept up to
`MAX_HELD`, then the sink is asked to stop reading. A line over its limit and octets that are no
text are faults: the receiver is deaf from then on.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Protocol

MAX_LINE = 253
"""Octets of a command line without CRLF."""
MAX_AUTH_LINE = 12288
"""Octets of an AUTH command or response without CRLF."""
MAX_HELD = 65536
"""Octets kept while held before the sink is told to stop reading."""


class StreamFault(Enum):
    """Why the octets of a connection cannot be understood any longer."""

    LINE_TOO_LONG = "line too long"
    BINARY = "not POP3"


class POP3Sink(Protocol):
    """What the receiver calls."""

    def command(self, verb: bytes, argument: bytes) -> None:
        """Take a command: its first word in upper case, and what follows the space."""

    def auth_line(self, line: bytes) -> None:
        """Take the line that `start_auth` asked for."""

    def fault(self, fault: StreamFault) -> None:
        """The stream is of no use any longer; nothing more will be called."""

    def pause(self) -> None:
        """Stop reading: enough is held."""

    def resume(self) -> None:
        """Read again."""


class POP3Receiver:
    """
    Divides a stream of octets into commands and AUTH responses.

    Args:
        sink: is called; it may call back at any time.
    """

    __slots__ = (
        "_auth",
        "_buffer",
        "_deaf",
        "_held",
        "_paused",
        "_position",
        "_running",
        "_scanned",
        "_sink",
    )

    def __init__(self, sink: POP3Sink) -> None:
        self._sink = sink
        self._buffer = bytearray()
        self._position = 0
        self._scanned = 0
        self._auth = False
        self._held = False
        self._running = False
        self._paused = False
        self._deaf = False

    @property
    def pending(self) -> bool:
        """Whether octets are there that the sink has not seen yet."""
        return self._position < len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take octets from the client."""
        if self._deaf:
            return
        self._buffer += data
        if not self._held:
            self._run()
        # Not more than one read beyond the limit is ever kept.
        if self._held and len(self._buffer) - self._position > MAX_HELD and not self._paused:
            self._paused = True
            self._sink.pause()

    def hold(self) -> None:
        """Call the sink no more until `release`: an answer is awaited."""
        self._held = True

    def release(self) -> None:
        """Go on with what was held; within a call of the sink, when that returns."""
        self._held = False
        self._run()
        if self._paused and not self._held:
            self._paused = False
            self._sink.resume()

    def start_auth(self) -> None:
        """Take the next line as a response within AUTH, not as a command."""
        self._auth = True

    def discard(self) -> None:
        """Forget what came and was not looked at: it was sent before TLS (R-15)."""
        self._buffer.clear()
        self._position = self._scanned = 0

    def close(self) -> None:
        """Be deaf from now on."""
        self._deaf = True
        self.discard()

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while not (self._held or self._deaf) and self._position < len(self._buffer):
                if not self._line():
                    break
        finally:
            self._running = False
        if self._position:
            del self._buffer[: self._position]
            self._scanned = max(self._scanned - self._position, 0)
            self._position = 0

    def _line(self) -> bool:
        buffer, start = self._buffer, self._position
        first = buffer[start]
        if not self._auth and (first >= 0x80 or (first < 0x20 and first not in b"\t\r\n")):
            self._fault(StreamFault.BINARY)
            return False
        end = buffer.find(b"\n", max(start, self._scanned))
        length = (end if end >= 0 else len(buffer)) - start
        # One octet more for the CR.
        if length > MAX_LINE + 1:
            auth = self._auth or buffer[start : start + 5].upper() == b"AUTH "
            if not auth or length > MAX_AUTH_LINE + 1:
                self._fault(StreamFault.LINE_TOO_LONG)
                return False
        if end < 0:
            self._scanned = len(buffer)
            return False
        # RFC 1939 3 asks for CRLF; LF alone can do no harm here, since no data follows commands.
        line = bytes(buffer[start : end - 1 if end > start and buffer[end - 1] == 13 else end])
        self._position = end + 1
        if self._auth:
            self._auth = False
            self._sink.auth_line(line)
        else:
            verb, _, argument = line.partition(b" ")
            self._sink.command(verb.upper(), argument)
        return True

    def _fault(self, fault: StreamFault) -> None:
        self.close()
        self._sink.fault(fault)


class DotStuffer:
    """Makes octets of a message the lines of a multi-line response (RFC 1939 3)."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = b"\n"

    def feed(self, data: bytes) -> bytes:
        """Return the octets with every line that begins with a dot given another."""
        if not data:
            return data
        stuffed = data.replace(b"\n.", b"\n..")
        if self._last == b"\n" and data[:1] == b".":
            stuffed = b"." + stuffed
        self._last = data[-1:]
        return stuffed

    def finish(self) -> bytes:
        """Return the end of the response: a line end, if one is missing, and the dot."""
        return b".\r\n" if self._last == b"\n" else b"\r\n.\r\n"


class TopCutter:
    """
    Passes on a message's header and so many lines of its body (TOP, RFC 1939 7).

    Args:
        lines: of the body, after the empty line.
    """

    __slots__ = ("_in_header", "_left", "_tail", "done")

    def __init__(self, lines: int) -> None:
        self._left = lines
        self._in_header = True
        self._tail = b"\r\n"
        self.done = False
        """Whether all that is wanted has been passed on."""

    def feed(self, data: bytes) -> bytes:
        """Return what of these octets is wanted."""
        if self.done:
            return b""
        start = 0
        if self._in_header:
            # The message begins as if after a line end: an empty header is its empty line.
            joined = self._tail + data
            found = joined.find(b"\r\n\r\n")
            if found < 0:
                self._tail = joined[-3:]
                return data
            self._in_header = False
            start = found + 4 - len(self._tail)
        end = self._body_end(data, start)
        return data if end == len(data) else data[:end]

    def _body_end(self, data: bytes, start: int) -> int:
        count = data.count(b"\n", start)
        if count < self._left:
            self._left -= count
            return len(data)
        end = start
        for _ in range(self._left):
            end = data.index(b"\n", end) + 1
        self._left = 0
        self.done = True
        return end


def multi_line(first: bytes, lines: Iterable[bytes]) -> bytes:
    """Return a whole multi-line response; no line may begin with a dot."""
    return b"".join([first, b"\r\n", *[b"%b\r\n" % line for line in lines], b".\r\n"])
