"""
The header block of a message: fields by offset, unfolding, encoded words, address lists.

Nothing here copies the message or raises for what it contains. Where a field stands more than once
the first one counts, everywhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple, TypeAlias

Octets: TypeAlias = bytes | mmap
"""A whole message: in memory, or a mapped file."""


class Field(NamedTuple):
    """Where a header field stands: name in lower case, then offsets into the octets."""

    name: bytes
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class Mailbox:
    """
    One entry of an address list, as ENVELOPE shows it (RFC 3501 7.4.2).

    A group is a start entry (mailbox is its name, host None), its members, and an end entry
    (everything None). All values are octets, unquoted, encoded words as they are.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


class Header:
    """The fields of one header block."""

    def __init__(self, octets: Octets, start: int = 0, end: int | None = None) -> None:
        raise NotImplementedError

    fields: list[Field]

    def first(self, name: bytes) -> bytes | None:
        """Return the unfolded value of the first field of that lower-case name, or None."""
        raise NotImplementedError

    def all(self, name: bytes) -> list[bytes]:
        """Return the unfolded values of every field of that lower-case name."""
        raise NotImplementedError


def header_end(octets: Octets, start: int = 0, end: int | None = None) -> int:
    """Return the offset behind the empty line that ends the header, or the end if there is none."""
    raise NotImplementedError


def select_fields(block: bytes, names: Collection[bytes], *, exclude: bool = False) -> bytes:
    """
    Return the fields with (or, with `exclude`, without) these lower-case names, octets as they
    stand, and the empty line: BODY[HEADER.FIELDS] and BODY[HEADER.FIELDS.NOT] (RFC 9051 6.4.5).
    """
    raise NotImplementedError


def decode_text(value: bytes) -> str:
    """Return unstructured text with RFC 2047 encoded words decoded, never longer than its limit."""
    raise NotImplementedError


def fold(text: str) -> str:
    """Return the caseless form in which texts are searched; fold the search key likewise."""
    raise NotImplementedError


def parse_addresses(value: bytes) -> list[Mailbox]:
    """Return the entries of an unfolded address field, at most `MAX_ADDRESSES`."""
    raise NotImplementedError
