"""
Mailbox patterns of LIST (RFC 9051 6.3.9): ``*`` matches anything, ``%`` anything but ``/``.

A pattern becomes an automaton whose set of states is the bits of one integer, so that a name is
matched in one pass whatever the pattern: no input makes it try again (R-44).
"""

from __future__ import annotations

import re

_RUN = re.compile(r"[*%]{2,}")


class ListPattern:
    """
    One pattern.

    Args:
        text: reference and pattern, joined.
    """

    __slots__ = ("_any", "_bits", "_final", "_level", "_plain", "_start", "_wild")

    def __init__(self, text: str) -> None:
        # Neighbouring wildcards are one, so that at most one is skipped at a time.
        text = _RUN.sub(lambda run: "*" if "*" in run[0] else "%", text)
        self._plain = None if "*" in text or "%" in text else text
        self._bits: dict[str, int] = {}
        self._any = self._level = 0
        for position, character in enumerate(text):
            bit = 1 << position
            if character == "*":
                self._any |= bit
            elif character == "%":
                self._level |= bit
            else:
                self._bits[character] = self._bits.get(character, 0) | bit
        self._wild = self._any | self._level
        self._final = 1 << len(text)
        self._start = 1 | (1 & self._wild) << 1

    def matches(self, name: str) -> bool:
        """Whether the whole name is what the pattern describes."""
        if self._plain is not None:
            return name == self._plain
        bits, wild = self._bits, self._wild
        # Bit n: the first n characters of the pattern have matched so far.
        states = self._start
        for character in name:
            stay = states & (self._any if character == "/" else wild)
            states = stay | (states & bits.get(character, 0)) << 1
            states |= (states & wild) << 1
            if not states:
                return False
        return bool(states & self._final)
