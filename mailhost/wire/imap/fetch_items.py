"""
What a FETCH asks for (RFC 9051 6.4.5, RFC 3501 6.4.5, RFC 7162 3.1.4).

    fetch-att = "ENVELOPE" / "FLAGS" / "INTERNALDATE" / "RFC822" [".HEADER" / ".SIZE" / ".TEXT"] /
                "BODY" ["STRUCTURE"] / "UID" / "MODSEQ" /
                "BODY" section ["<" number "." nz-number ">"] / "BODY.PEEK" section [...]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from mailhost.errors import SyntaxFault
from mailhost.wire.imap import responses
from mailhost.wire.imap.cursor import Cursor

MAX_ITEMS = 200
"""Items of one FETCH."""
MAX_FIELDS = 500
"""Field names of one section."""
MAX_PATH = 100
"""Numbers in a part specifier; message parsing goes no deeper."""


class Attribute(Enum):
    """An item without arguments; the value is its name in the response."""

    FLAGS = b"FLAGS"
    UID = b"UID"
    INTERNALDATE = b"INTERNALDATE"
    SIZE = b"RFC822.SIZE"
    ENVELOPE = b"ENVELOPE"
    BODY = b"BODY"
    BODYSTRUCTURE = b"BODYSTRUCTURE"
    MODSEQ = b"MODSEQ"


class SectionText(Enum):
    """Which octets of a part are meant."""

    ALL = b""
    HEADER = b"HEADER"
    FIELDS = b"HEADER.FIELDS"
    FIELDS_NOT = b"HEADER.FIELDS.NOT"
    TEXT = b"TEXT"
    MIME = b"MIME"


@dataclass(frozen=True, slots=True)
class Section:
    """
    Octets of a message.

    Args:
        label: the name in the response, as ``BODY[1.2.HEADER]<0>``.
        path: the part, empty for the whole message.
        fields: lower-case names for the HEADER.FIELDS forms.
        peek: \\Seen is not set.
        offset, length: of a partial fetch, else None.
    """

    label: bytes
    path: tuple[int, ...]
    text: SectionText
    fields: frozenset[bytes] = frozenset()
    peek: bool = False
    offset: int | None = None
    length: int | None = None


FetchItem: TypeAlias = Attribute | Section

_FAST = (Attribute.FLAGS, Attribute.INTERNALDATE, Attribute.SIZE)
MACROS: dict[bytes, tuple[FetchItem, ...]] = {
    b"FAST": _FAST,
    b"ALL": (*_FAST, Attribute.ENVELOPE),
    b"FULL": (*_FAST, Attribute.ENVELOPE, Attribute.BODY),
}
ITEMS: dict[bytes, FetchItem] = {item.value: item for item in Attribute} | {
    b"RFC822": Section(b"RFC822", (), SectionText.ALL),
    b"RFC822.HEADER": Section(b"RFC822.HEADER", (), SectionText.HEADER, peek=True),
    b"RFC822.TEXT": Section(b"RFC822.TEXT", (), SectionText.TEXT),
}
_PATH = re.compile(rb"[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,8})*")
_PARTIAL = re.compile(rb"<([0-9]{1,19})\.([1-9][0-9]{0,18})>")
_TEXTS = {text.value: text for text in SectionText if text is not SectionText.ALL}


def parse(cursor: Cursor) -> tuple[FetchItem, ...]:
    """
    Read the items of a FETCH: a macro, one item, or several in parentheses.

    Raises:
        SyntaxFault: they are none, or too many.
    """
    if cursor.peek() == b"(":
        items = cursor.items(lambda: _item(cursor))
        if len(items) > MAX_ITEMS:
            raise cursor.fault(f"at most {MAX_ITEMS} items")
        # The same item twice is answered once: the response names each once.
        return tuple(dict.fromkeys(items))
    start = cursor.position
    word = cursor.keyword()
    if word in MACROS:
        return MACROS[word]
    cursor.position = start
    return (_item(cursor),)


def _item(cursor: Cursor) -> FetchItem:
    start = cursor.position
    word = cursor.keyword()
    if word in (b"BODY", b"BODY.PEEK") and cursor.peek() == b"[":
        return _section(cursor, word == b"BODY.PEEK")
    try:
        return ITEMS[word]
    except KeyError:
        raise SyntaxFault(start, "a fetch item") from None


def _section(cursor: Cursor, peek: bool) -> Section:
    cursor.expect(b"[")
    path, path_text = _path(cursor)
    text = SectionText.ALL
    fields: list[bytes] = []
    if cursor.peek() != b"]":
        start = cursor.position
        word = cursor.keyword()
        if word not in _TEXTS or (word == b"MIME" and not path):
            raise SyntaxFault(start, "a section")
        text = _TEXTS[word]
        if text in (SectionText.FIELDS, SectionText.FIELDS_NOT):
            cursor.space()
            fields = cursor.items(cursor.astring)
            if len(fields) > MAX_FIELDS:
                raise cursor.fault(f"at most {MAX_FIELDS} fields")
    elif path_text.endswith(b"."):
        raise cursor.fault("a section")
    cursor.expect(b"]")
    label = b"BODY[" + path_text + text.value
    if fields:
        label += b" (" + b" ".join(map(responses.astring, fields)) + b")"
    label += b"]"
    offset, length = _partial(cursor)
    if offset is not None:
        # RFC 9051 7.5.2: the response names where it begins.
        label += b"<%d>" % offset
    names = frozenset(name.lower() for name in fields)
    return Section(label, path, text, names, peek, offset, length)


def _path(cursor: Cursor) -> tuple[tuple[int, ...], bytes]:
    match = _PATH.match(cursor.data, cursor.position)
    if match is None:
        return (), b""
    if match[0].count(b".") >= MAX_PATH:
        raise cursor.fault("a part")
    path = tuple(map(int, match[0].split(b".")))
    cursor.position = match.end()
    dot = b""
    if cursor.peek() != b"]":
        cursor.expect(b".")
        dot = b"."
    return path, match[0] + dot


def _partial(cursor: Cursor) -> tuple[int | None, int | None]:
    if cursor.peek() != b"<":
        return None, None
    match = _PARTIAL.match(cursor.data, cursor.position)
    if match is None:
        raise cursor.fault("<offset.length>")
    cursor.position = match.end()
    return int(match[1]), int(match[2])
