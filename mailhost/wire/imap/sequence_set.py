"""
Sets of message numbers, as clients write them and as responses list them (RFC 9051 4.1.1).

A set is kept as it was written; it means something only against a mailbox: `SequenceSet.within`
puts the largest number for ``*``, orders the ranges and merges them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailhost.errors import SyntaxFault

STAR = 1 << 32
"""Stands for ``*``; larger than any number."""

_SET = re.compile(
    rb"(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?"
    rb"(?:,(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?)*\Z"
)


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """
    Ranges of numbers, either end first.

    Args:
        saved: the set is ``$``, the result of the last SEARCH (RFC 5182); no ranges then.
    """

    ranges: tuple[tuple[int, int], ...]
    saved: bool = False

    def within(self, largest: int) -> list[tuple[int, int]]:
        """Return ascending, separate ranges with ``*`` as `largest`, which is 0 for none."""
        ordered = sorted(
            (min(a, b), max(a, b))
            for a, b in (
                (largest if first == STAR else first, largest if last == STAR else last)
                for first, last in self.ranges
            )
        )
        merged: list[tuple[int, int]] = []
        for low, high in ordered:
            if merged and low <= merged[-1][1] + 1:
                if high > merged[-1][1]:
                    merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        return merged

    def encode(self) -> bytes:
        """Return the set as it is written."""
        if self.saved:
            return b"$"
        return b",".join(
            _number(first) if first == last else _number(first) + b":" + _number(last)
            for first, last in self.ranges
        )


SAVED = SequenceSet((), saved=True)
_ALL = SequenceSet(((1, STAR),))


def _number(value: int) -> bytes:
    return b"*" if value == STAR else b"%d" % value


def _value(text: bytes) -> int:
    if text == b"*":
        return STAR
    value = int(text)
    if value >= STAR:
        raise SyntaxFault(0, "a number below 2^32")
    return value


def parse(text: bytes) -> SequenceSet:
    """
    Return the set that the text spells.

    Raises:
        SyntaxFault: it is no sequence-set.
    """
    if text == b"1:*":
        return _ALL
    if text == b"$":
        return SAVED
    if not _SET.match(text):
        raise SyntaxFault(0, "a sequence set")
    ranges = []
    for item in text.split(b","):
        first, _, last = item.partition(b":")
        low = _value(first)
        ranges.append((low, _value(last) if last else low))
    return SequenceSet(tuple(ranges))


def encode(numbers: Sequence[int]) -> bytes:
    """Return numbers as a sequence-set, runs of ascending neighbours as ranges, order kept."""
    parts: list[bytes] = []
    position, length = 0, len(numbers)
    while position < length:
        first = last = numbers[position]
        position += 1
        while position < length and numbers[position] == last + 1:
            last += 1
            position += 1
        parts.append(b"%d" % first if first == last else b"%d:%d" % (first, last))
    return b",".join(parts)
