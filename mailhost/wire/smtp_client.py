"""
What an SMTP client needs of the wire: replies come in, message data goes out.

`SMTPReplyReader` takes octets as they arrive and returns whole replies. It holds a bounded number
of octets whatever the server sends, and raises SyntaxFault for what is no reply; the connection is
of no use afterwards. `DotStuffer` turns content into the octets that follow a 354.

No octet of a peer leaves the reader as a control character: reply text is safe to log (R-81).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailhost.errors import SyntaxFault
from mailhost.wire.line_ends import canonical, has_bare_cr, has_bare_lf

MAX_REPLY_LINE = 4096
"""Octets of one reply line; RFC 5321 4.5.3.1.5 allows 512, servers send more."""

MAX_REPLY_LINES = 256
"""Lines of one reply; the longest EHLO replies have about 30."""

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?\Z", re.DOTALL)
_ENHANCED = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})(?: |\Z)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class ServerReply:
    """
    What a server answered.

    Args:
        code: three digits, 200 to 599.
        enhanced: the enhanced status code (RFC 2034) of the first line, or empty.
        lines: the text, without codes and control characters, one element a line.
    """

    code: int
    enhanced: str
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        """Whether the command succeeded, or may go on (354)."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """Whether the same command may succeed later."""
        return 400 <= self.code < 500

    def __str__(self) -> str:
        status = f"{self.enhanced} " if self.enhanced else ""
        return f"{self.code} {status}{' '.join(self.lines)}"


class SMTPReplyReader:
    """
    Finds replies in a stream of octets (RFC 5321 4.2).

    Lines may end with LF alone, which some servers send; nothing depends on it here.
    """

    def __init__(self, max_line: int = MAX_REPLY_LINE, max_lines: int = MAX_REPLY_LINES) -> None:
        self._max_line = max_line
        self._max_lines = max_lines
        self._buffer = b""
        self._code = 0
        self._lines: list[bytes] = []

    @property
    def pending(self) -> bool:
        """
        Whether octets of an unfinished reply are held.

        Before TLS is started nothing may be pending: it would be an injected answer (R-15).
        """
        return bool(self._buffer or self._lines)

    def feed(self, data: bytes) -> list[ServerReply]:
        """
        Take octets and return the replies that they complete, in order.

        Raises:
            SyntaxFault: they are no reply, or go over a limit. Every later call raises it too.
        """
        if self._max_line < 0:
            raise SyntaxFault(0, "nothing after a fault")
        try:
            return self._split(data)
        except SyntaxFault:
            self._max_line = -1
            self._buffer = b""
            self._lines.clear()
            raise

    def _split(self, data: bytes) -> list[ServerReply]:
        replies: list[ServerReply] = []
        buffer = self._buffer + data if self._buffer else data
        start = 0
        while (end := buffer.find(b"\n", start)) >= 0:
            line = buffer[start : end - 1 if buffer[end - 1 : end] == b"\r" else end]
            start = end + 1
            if len(line) > self._max_line:
                raise SyntaxFault(self._max_line, "the end of the reply line")
            reply = self._take(line)
            if reply is not None:
                replies.append(reply)
        self._buffer = buffer[start:]
        # The line itself and its CR.
        if len(self._buffer) > self._max_line + 1:
            raise SyntaxFault(self._max_line, "the end of the reply line")
        return replies

    def _take(self, line: bytes) -> ServerReply | None:
        found = _LINE.match(line)
        if found is None:
            raise SyntaxFault(0, "a reply code from 200 to 599")
        code = int(found[1])
        if self._lines and code != self._code:
            # RFC 5321 4.2.1: all lines of a reply have the same code.
            raise SyntaxFault(0, f"reply code {self._code} as in the line before")
        if len(self._lines) >= self._max_lines:
            raise SyntaxFault(0, f"at most {self._max_lines} reply lines")
        self._code = code
        self._lines.append(found[3] or b"")
        if found[2] == b"-":
            return None
        lines, self._lines = self._lines, []
        return _reply(code, lines)


def _reply(code: int, lines: list[bytes]) -> ServerReply:
    texts = [_CONTROL.sub("?", line.decode("utf-8", "replace")) for line in lines]
    found = _ENHANCED.match(texts[0])
    # RFC 2034 4: the class is that of the reply code, else it is mere text.
    if found is None or int(found[1]) != code // 100:
        return ServerReply(code, "", tuple(texts))
    enhanced = f"{found[1]}.{found[2]}.{found[3]}"
    return ServerReply(code, enhanced, tuple(_without(text, enhanced) for text in texts))


def _without(text: str, enhanced: str) -> str:
    if text == enhanced:
        return ""
    return text.removeprefix(f"{enhanced} ")


class DotStuffer:
    """
    Makes content into what stands between 354 and its answer (RFC 5321 4.5.2).

    Bare CR and bare LF become CRLF, so that no other server can see an end of data where there is
    none (R-02). One object for one message.
    """

    def __init__(self) -> None:
        self._pending_cr = False
        self._at_line_start = True

    def feed(self, chunk: bytes) -> bytes:
        """Return the octets to send for the next part of the content."""
        if self._pending_cr:
            chunk = b"\r" + chunk
            self._pending_cr = False
        if chunk[-1:] == b"\r":
            chunk = chunk[:-1]
            self._pending_cr = True
        if not chunk:
            return b""
        if has_bare_cr(chunk) or has_bare_lf(chunk):
            chunk = canonical(chunk)
        first = b"." if self._at_line_start and chunk[:1] == b"." else b""
        self._at_line_start = chunk[-1:] == b"\n"
        if b"\r\n." in chunk:
            chunk = chunk.replace(b"\r\n.", b"\r\n..")
        return first + chunk if first else chunk

    def finish(self) -> bytes:
        """Return what ends the data; content that ends inside a line gets its CRLF first."""
        if self._pending_cr or not self._at_line_start:
            return b"\r\n.\r\n"
        return b".\r\n"
