"""
Message data as it comes over the wire: where it ends, and what is wrong with it.

Data is looked at in the blocks in which it arrives, never line by line. Only CRLF "." CRLF ends
it. A bare CR, a bare LF or a NUL is noted in `flaws` for the session, which refuses the message, or
asked beforehand for line ends to be mended (R-01). Lines may have any length.
"""

from __future__ import annotations

import re

from mailhost.wire.line_ends import LINE_ENDS, Flaws, canonical, has_bare_cr, has_bare_lf

_END = b"\r\n.\r\n"

# A CR that does not begin an ordinary line end: bare, before a dot, or too near the end of the
# block to tell. A block without one needs no other look for CR, dots or the end of data.
_SUSPECT = re.compile(rb"\r(?!\n[^.])")


class BodyScanner:
    """
    Undoes dot-stuffing and finds the end of DATA (RFC 5321 4.5.2). One object for one message.

    Args:
        mend: make bare CR and bare LF into CRLF in what `feed` returns.
    """

    __slots__ = ("_carry", "_mend", "_started", "flaws", "rest")

    def __init__(self, mend: bool = False) -> None:
        self.flaws = Flaws.NONE
        self.rest: bytes | None = None
        """What came after the end of data; None until that was found."""
        self._mend = mend
        # Held back: the longest end of the input that may begin the end of data. The line end of
        # the DATA command counts (RFC 5321 4.1.1.4), so it stands here first, not to be returned.
        self._carry = b"\r\n"
        self._started = False

    def feed(self, data: bytes) -> bytes:
        """Take octets and return message octets; not to be called after the end."""
        data = self._carry + data
        suspect = _SUSPECT.search(data)
        if suspect is None:
            self._carry = b""
            return self._checked(data, False)
        at = suspect.start()
        end = data.find(_END, at)
        if end >= 0:
            self.rest = data[end + 5 :]
            data = data[: end + 2]
        else:
            held = _held_back(data)
            self._carry = data[len(data) - held :]
            data = data[: len(data) - held]
            if not data:
                return b""
        bare_cr = has_bare_cr(data, at)
        if data.find(b"\r\n.", at) >= 0:
            data = data.replace(b"\r\n.", b"\r\n")
        return self._checked(data, bare_cr)

    def _checked(self, data: bytes, bare_cr: bool) -> bytes:
        if not self._started:
            # The line end of the command: at least all of it is here, as nothing splits a CRLF.
            self._started = True
            data = data[2:]
        bare_lf = has_bare_lf(data)
        if bare_cr or bare_lf:
            self.flaws |= (Flaws.BARE_CR if bare_cr else Flaws.NONE) | (
                Flaws.BARE_LF if bare_lf else Flaws.NONE
            )
            if self._mend:
                data = canonical(data)
        if b"\0" in data:
            self.flaws |= Flaws.NUL
        return data


def _held_back(data: bytes) -> int:
    for length in (4, 3, 2, 1):
        if data.endswith(_END[:length]):
            return length
    return 0


class ChunkScanner:
    """
    The same for the chunks of BDAT, which have a length and no dots (RFC 3030 2).

    One object for all chunks of one message.
    """

    __slots__ = ("_carry", "_mend", "flaws")

    def __init__(self, mend: bool = False) -> None:
        self.flaws = Flaws.NONE
        self._mend = mend
        self._carry = b""

    def feed(self, data: bytes) -> bytes:
        """Take octets and return message octets; a CR at the end waits for what follows it."""
        if self._carry:
            data = self._carry + data
            self._carry = b""
        if data[-1:] == b"\r":
            data = data[:-1]
            self._carry = b"\r"
        flaws = Flaws.NONE
        if has_bare_cr(data):
            flaws |= Flaws.BARE_CR
        if has_bare_lf(data):
            flaws |= Flaws.BARE_LF
        if b"\0" in data:
            flaws |= Flaws.NUL
        if flaws:
            self.flaws |= flaws
            if self._mend and flaws & LINE_ENDS:
                data = canonical(data)
        return data

    def finish(self) -> bytes:
        """Return what was held back, after the last chunk."""
        if not self._carry:
            return b""
        self.flaws |= Flaws.BARE_CR
        return b"\r\n" if self._mend else b"\r"
