"""
Time-sortable 128-bit identifiers, written as 26 characters of lower-case base32.

The first 48 bits are Unix milliseconds, the other 80 are random, so that ids made on different
machines do not collide and sort by the time they were made (to the millisecond). The alphabet
has no character that means anything in a Maildir name, a path, SQL or a log line.
"""

from __future__ import annotations

from collections.abc import Callable

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 26
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


def new_id(now: float, random_bytes: Callable[[int], bytes]) -> str:
    """
    Return a new identifier.

    Args:
        now: Unix time in seconds.
        random_bytes: gives that many random bytes, e.g. ``os.urandom``.
    """
    value = (int(now * 1000) & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(random_bytes(10), "big")
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])


def is_id(text: str) -> bool:
    """Whether the text has the form of an identifier."""
    return len(text) == LENGTH and all(character in _ALPHABET for character in text)
