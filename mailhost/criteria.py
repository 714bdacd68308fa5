"""
What a search asks for, as a tree that neither protocol nor storage owns.

IMAP's SEARCH (RFC 9051 6.4.4) is parsed into it; a mailbox evaluates it. Sequence numbers are
already resolved: `InSet` holds UIDs. Texts are Unicode and match as substrings, caseless.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class InSet:
    """The message's UID is in one of the closed ranges."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class HasFlag:
    """The flag or keyword is set; names compare caseless."""

    flag: str


@dataclass(frozen=True, slots=True)
class IsRecent:
    """The message is among those this session was told of first (RFC 3501 2.3.2)."""


class TextScope(Enum):
    """Where a text is looked for."""

    BODY = "body"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Contains:
    """The text stands in the decoded body, or in the decoded header or body."""

    scope: TextScope
    text: str


@dataclass(frozen=True, slots=True)
class HeaderContains:
    """A field of that name (lower-case) contains the text; an empty text asks that it exists."""

    name: str
    text: str


class Comparison(Enum):
    """How a value is compared."""

    BELOW = "<"
    EQUAL = "="
    ABOVE = ">"
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True)
class SizeIs:
    """The size in octets compares so (LARGER is ABOVE, SMALLER is BELOW)."""

    comparison: Comparison
    size: int


@dataclass(frozen=True, slots=True)
class DateIs:
    """
    The day compares so, time and zone disregarded; `day` is a proleptic ordinal.

    `sent` asks the Date field, else the internal date is asked.
    """

    comparison: Comparison
    day: int
    sent: bool


@dataclass(frozen=True, slots=True)
class ChangedSince:
    """The mod-sequence is at least this (RFC 7162 3.1.5)."""

    mod_seq: int


@dataclass(frozen=True, slots=True)
class Not:
    """The criterion does not hold."""

    criterion: Criterion


@dataclass(frozen=True, slots=True)
class And:
    """All hold; none at all means every message."""

    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one holds."""

    criteria: tuple[Criterion, ...]


Criterion: TypeAlias = (
    All
    | InSet
    | HasFlag
    | IsRecent
    | Contains
    | HeaderContains
    | SizeIs
    | DateIs
    | ChangedSince
    | Not
    | And
    | Or
)
