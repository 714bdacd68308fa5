"""
The receiving side of the SMTP wire: octets in, commands and message data out.

`SMTPReceiver` is pushed octets with `feed` and calls its sink. It knows lines, message data and
their limits, and nothing of what a command means. The sink may say during a call what comes next:
`start_data`, `start_bdat`, `start_auth`, `hold`, `discard`, `close`. The same octets make the same
calls however they were cut, but for where message data is divided.

Limits: a command line of 998 octets, 12,288 for AUTH and its responses (RFC 4954 4); octets that
arrive while an answer is awaited are kept up to `MAX_HELD`, then the sink is asked to stop reading.
A line over its limit, a bare LF in a command and binary octets in place of a command are faults:
the stream can no longer be trusted, and the receiver is deaf from then on (R-03, R-04, R-09).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol

from mailhost.wire.line_ends import Flaws
from mailhost.wire.smtp_body import BodyScanner, ChunkScanner

MAX_LINE = 998
"""Octets of a command line without CRLF; RFC 5321 4.5.3.1.4 asks for 510 and extensions."""

MAX_AUTH_LINE = 12288
"""Octets of an AUTH command or response without CRLF (RFC 4954 4)."""

MAX_HELD = 65536
"""Octets kept while held before the sink is told to stop reading."""


class StreamFault(Enum):
    """Why the octets of a connection cannot be understood any longer."""

    LINE_TOO_LONG = "line too long"
    AUTH_LINE_TOO_LONG = "authentication line too long"
    BARE_LF = "bare LF in a command"
    BINARY = "not SMTP"


class SMTPSink(Protocol):
    """What the receiver calls."""

    def command(self, verb: bytes, argument: bytes) -> None:
        """Take a command line: its first word in upper case, and what follows the space."""

    def auth_line(self, line: bytes) -> None:
        """Take the line that `start_auth` asked for."""

    def data(self, chunk: bytes) -> None:
        """Take octets of message data, dots undone, never empty."""

    def end_of_data(self, flaws: Flaws) -> None:
        """Message data is complete."""

    def end_of_chunk(self, last: bool, flaws: Flaws) -> None:
        """A BDAT chunk is complete; the flaws are those of all chunks so far."""

    def fault(self, fault: StreamFault) -> None:
        """The stream is of no use any longer; nothing more will be called."""

    def pause(self) -> None:
        """Stop reading: enough is held."""

    def resume(self) -> None:
        """Read again."""


class _State(Enum):
    COMMAND = auto()
    AUTH = auto()
    DATA = auto()
    CHUNK = auto()
    DATA_ENDED = auto()
    CHUNK_EMPTY = auto()
    CHUNK_ENDED = auto()
    DEAF = auto()


_COMMAND, _AUTH, _DATA, _CHUNK = _State.COMMAND, _State.AUTH, _State.DATA, _State.CHUNK
_NEED_NOTHING = (_State.DATA_ENDED, _State.CHUNK_EMPTY, _State.CHUNK_ENDED)


class SMTPReceiver:
    """
    Divides a stream of octets into commands, AUTH responses and message data.

    Args:
        sink: is called; it may call back at any time.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_held",
        "_last",
        "_paused",
        "_position",
        "_remaining",
        "_running",
        "_sink",
        "_state",
    )

    def __init__(self, sink: SMTPSink) -> None:
        self._sink = sink
        self._state = _COMMAND
        self._buffer = b""
        self._position = 0
        self._held = False
        self._running = False
        self._paused = False
        self._body = BodyScanner()
        self._chunks: ChunkScanner | None = None
        self._remaining = 0
        self._last = False

    @property
    def pending(self) -> bool:
        """Whether octets are there that the sink has not seen yet."""
        return self._position < len(self._buffer)

    @property
    def in_data(self) -> bool:
        """Whether message data is expected."""
        return self._state is _DATA or self._state is _CHUNK

    def feed(self, data: bytes) -> None:
        """Take octets from the peer."""
        if self._state is _State.DEAF:
            return
        if self._position < len(self._buffer):
            self._buffer = self._buffer[self._position :] + data
        else:
            self._buffer = data
        self._position = 0
        if not self._held:
            self._run()
        elif len(self._buffer) > MAX_HELD and not self._paused:
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

    def start_data(self, mend: bool = False) -> None:
        """Take what follows as message data up to its end (354 is being answered)."""
        self._body = BodyScanner(mend)
        self._state = _DATA

    def start_bdat(self, size: int, last: bool, mend: bool = False) -> None:
        """Take that many octets as message data (RFC 3030 2)."""
        if self._chunks is None:
            self._chunks = ChunkScanner(mend)
        self._remaining = size
        self._last = last
        self._state = _CHUNK if size else _State.CHUNK_EMPTY

    def forget_chunks(self) -> None:
        """The next chunk begins another message."""
        self._chunks = None

    def start_auth(self) -> None:
        """Take the next line as a response within AUTH, not as a command."""
        self._state = _AUTH

    def discard(self) -> None:
        """Forget what came and was not looked at: it was sent before TLS (R-15)."""
        self._buffer = b""
        self._position = 0
        self._chunks = None

    def close(self) -> None:
        """Be deaf from now on."""
        self._state = _State.DEAF
        self.discard()

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            while not self._held:
                state = self._state
                if self._position >= len(self._buffer) and state not in _NEED_NOTHING:
                    return
                if state is _COMMAND:
                    if not self._command():
                        return
                elif state is _DATA:
                    self._take_data()
                elif state is _CHUNK or state is _State.CHUNK_EMPTY:
                    self._take_chunk()
                elif state is _AUTH:
                    line = self._line(MAX_AUTH_LINE, StreamFault.AUTH_LINE_TOO_LONG)
                    if line is None:
                        return
                    self._state = _COMMAND
                    self._sink.auth_line(line)
                elif state is _State.DEAF:
                    return
                else:
                    self._end(state)
        finally:
            self._running = False

    def _command(self) -> bool:
        start = self._position
        first = self._buffer[start]
        if (first < 0x20 and first not in b"\r\n") or first >= 0x80:
            self._fault(StreamFault.BINARY)
            return False
        line = self._line(MAX_LINE, StreamFault.LINE_TOO_LONG)
        if line is None:
            return False
        verb, _, argument = line.partition(b" ")
        self._sink.command(verb.upper(), argument)
        return True

    def _line(self, limit: int, fault: StreamFault) -> bytes | None:
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\n", start)
        length = (end if end >= 0 else len(buffer)) - start
        # One octet more for the CR.
        if length > limit + 1:
            if buffer[start : start + 5].upper() == b"AUTH " and limit < MAX_AUTH_LINE:
                return self._line(MAX_AUTH_LINE, StreamFault.AUTH_LINE_TOO_LONG)
            self._fault(fault)
            return None
        if end < 0:
            return None
        # No line is empty before its CR here: then LF is the octet at `start`.
        if length == 0 or buffer[end - 1] != 13:
            self._fault(StreamFault.BARE_LF)
            return None
        self._position = end + 1
        return buffer[start : end - 1]

    def _take_data(self) -> None:
        body = self._body
        position = self._position
        chunk = body.feed(self._buffer[position:] if position else self._buffer)
        if body.rest is None:
            self._buffer = b""
        else:
            self._buffer = body.rest
            self._state = _State.DATA_ENDED
        self._position = 0
        if chunk:
            self._sink.data(chunk)

    def _take_chunk(self) -> None:
        assert self._chunks is not None
        position = self._position
        part = self._buffer[position : position + self._remaining]
        self._position = position + len(part)
        self._remaining -= len(part)
        if not self._remaining:
            self._state = _State.CHUNK_ENDED
        chunk = self._chunks.feed(part)
        if self._last and not self._remaining:
            chunk += self._chunks.finish()
        if chunk:
            self._sink.data(chunk)

    def _end(self, state: _State) -> None:
        self._state = _COMMAND
        if state is _State.DATA_ENDED:
            self._sink.end_of_data(self._body.flaws)
            return
        chunks = self._chunks
        assert chunks is not None
        if self._last:
            self._chunks = None
        self._sink.end_of_chunk(self._last, chunks.flaws)

    def _fault(self, fault: StreamFault) -> None:
        self.close()
        self._sink.fault(fault)
