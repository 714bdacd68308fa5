"""
The header block of a message: fields by offset, unfolding, encoded words, address lists.

Nothing here copies the message or raises for what it contains; every function takes time linear in
its input, which is cut at the limits below. Where a field stands more than once the first one
counts, everywhere.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Callable, Collection
from functools import lru_cache
from itertools import islice
from mmap import mmap
from typing import TypeAlias

from mailhost.message import charsets

Octets: TypeAlias = bytes | mmap
"""A whole message: in memory, or a mapped file."""

MAX_HEADER = 1024 * 1024
"""Octets of one header block in which fields are looked for."""
MAX_FIELDS = 10_000
"""Fields of one header block that are looked at."""
MAX_TEXT = 64 * 1024
"""Octets of one field that are decoded."""

# RFC 5322 2.2: a name of printable ASCII without colon; 4.5 allows white space before the colon.
_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*)\n?", re.MULTILINE)
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
# RFC 2047 2, with the language of RFC 2231 5; spaces in the text are a common fault.
_ENCODED_WORD = re.compile(
    rb"=\?([A-Za-z0-9_\-:.+]{1,40})(?:\*[A-Za-z0-9\-]{0,40})?\?([BbQq])\?([^?\r\n]*+)\?="
)
_MAX_JOINED = 2000
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


Field: TypeAlias = tuple[bytes, int, int, int]
"""A header field: its name in lower case, then the offsets of its start, value and end."""


class Header:
    """
    The fields of one header block.

    Args:
        octets: the message; the header keeps a reference.
        start, end: where the block stands in it, by default from its beginning to its empty line.

    Attributes:
        fields: all fields in order, at most `MAX_FIELDS`.
    """

    __slots__ = ("_first", "_octets", "fields")

    def __init__(self, octets: Octets, start: int = 0, end: int | None = None) -> None:
        if end is None:
            end = header_end(octets, start)
        end = min(end, start + MAX_HEADER)
        fields: list[Field] = []
        first: dict[bytes, Field] = {}
        for match in islice(_FIELD.finditer(octets, start, end), MAX_FIELDS):
            (field_start, field_end), (_, name_end), (value_start, _) = match.regs
            name = octets[field_start:name_end].lower()
            field = (name, field_start, value_start, field_end)
            fields.append(field)
            if name not in first:
                first[name] = field
        self._octets = octets
        self._first = first
        self.fields = fields

    def first(self, name: bytes) -> bytes | None:
        """Return the unfolded value of the first field of that lower-case name, or None."""
        field = self._first.get(name)
        if field is None:
            return None
        value = self._octets[field[2] : field[3]].strip()
        return _FOLD.sub(b"", value) if b"\n" in value else value

    def all(self, name: bytes) -> list[bytes]:
        """Return the unfolded values of every field of that lower-case name."""
        if name not in self._first:
            return []
        return [self.value(field) for field in self.fields if field[0] == name]

    def value(self, field: Field) -> bytes:
        """Return the unfolded value of a field."""
        return unfold(self._octets[field[2] : field[3]])

    def raw(self, names: Collection[bytes]) -> bytes:
        """Return the octets of all fields of those lower-case names, as they stand."""
        octets = self._octets
        return b"".join([octets[start:end] for name, start, _, end in self.fields if name in names])


def header_end(octets: Octets, start: int = 0, end: int | None = None) -> int:
    """Return the offset behind the empty line that ends the header, or the end if there is none."""
    if end is None:
        end = len(octets)
    opening = octets[start : min(start + 2, end)]
    if opening == b"\r\n":
        return start + 2
    if opening[:1] == b"\n":
        return start + 1
    crlf = octets.find(b"\n\r\n", start, end)
    bare = octets.find(b"\n\n", start, end if crlf < 0 else crlf + 1)
    if bare >= 0:
        return bare + 2
    return crlf + 3 if crlf >= 0 else end


def unfold(value: bytes) -> bytes:
    """Return a field's value without line ends and white space around it (RFC 5322 2.2.3)."""
    value = value.strip()
    if b"\n" in value:
        return _FOLD.sub(b"", value)
    return value


def select_fields(block: bytes, names: Collection[bytes], *, exclude: bool = False) -> bytes:
    """
    Return the fields with (or, with `exclude`, without) these lower-case names, octets as they
    stand, and the empty line: BODY[HEADER.FIELDS] and BODY[HEADER.FIELDS.NOT] (RFC 9051 6.4.5).
    """
    chosen = []
    for match in _FIELD.finditer(block, 0, header_end(block)):
        if (match[1].lower() in names) is not exclude:
            chosen.append(match[0])
    if chosen and not chosen[-1].endswith(b"\n"):
        chosen.append(b"\r\n")
    chosen.append(b"\r\n")
    return b"".join(chosen)


@lru_cache(maxsize=64)
def field_selector(names: frozenset[bytes]) -> Callable[[bytes], bytes]:
    """
    Return a function that does `select_fields` with these names, for many blocks.

    The blocks are fields and an empty line, nothing else.
    """
    choices = b"|".join(map(re.escape, sorted(names)))
    # Case is ignored in the names alone: twice as fast as in the whole.
    pattern = re.compile(rb"^(?i:%b)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*\n?" % choices, re.MULTILINE)

    def select(block: bytes) -> bytes:
        chosen = pattern.findall(block)
        if chosen and not chosen[-1].endswith(b"\n"):
            chosen.append(b"\r\n")
        chosen.append(b"\r\n")
        return b"".join(chosen)

    return select


def fold(text: str) -> str:
    """
    Return the form in which texts are searched; fold the search key likewise.

    Case does not count, compatibility forms are one (NFKC), and white space of any length, line
    ends included, is one space: a phrase is found across a line break.
    """
    if text.isascii():
        folded = text.lower()
        if "  " not in folded and folded.isprintable():
            return folded
    else:
        folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(folded.split())
    if folded[:1].isspace():
        words = " " + words
    return words + " " if len(words) > 1 and folded[-1:].isspace() else words


def decode_text(value: bytes) -> str:
    """
    Return unstructured text with RFC 2047 encoded words decoded, on one line.

    At most `MAX_TEXT` octets are looked at. A word in an unknown charset stays as it is.
    """
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT]
    text = _decode_words(value) if b"=?" in value else charsets.guess(value)
    return text if text.isprintable() else _CONTROLS.sub(" ", text)


def _decode_words(value: bytes) -> str:
    pieces: list[str] = []
    position = 0
    pending, pending_charset = b"", ""
    for match in _ENCODED_WORD.finditer(value):
        charset = match[1].decode("ascii").lower()
        octets = _decode_word(match[2], match[3]) if charsets.is_known(charset) else None
        if octets is None:
            continue
        between = value[position : match.start()]
        # RFC 2047 6.2: white space between encoded words is not shown. Their octets are joined
        # first, since some writers split a character between two words.
        if pending_charset and not between.strip():
            if charset == pending_charset and len(pending) < _MAX_JOINED:
                pending += octets
                position = match.end()
                continue
            between = b""
        if pending:
            pieces.append(charsets.decode(pending, pending_charset))
        if between:
            pieces.append(charsets.guess(between))
        pending, pending_charset, position = octets, charset, match.end()
    if pending:
        pieces.append(charsets.decode(pending, pending_charset))
    pieces.append(charsets.guess(value[position:]))
    return "".join(pieces)


def _decode_word(encoding: bytes, text: bytes) -> bytes | None:
    if encoding in b"qQ":
        return binascii.a2b_qp(text, header=True)
    text = _NOT_BASE64.sub(b"", text)
    if len(text) % 4 == 1:
        text = text[:-1]
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return None
