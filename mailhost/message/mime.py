"""
The MIME structure of a message as offsets into its octets; nothing is copied or decoded.

`parse` looks for the end of each header and for the boundaries of each multipart, outermost first,
so that a boundary of an enclosing multipart always ends what is inside it (RFC 2046 5.1.2). Any
octets have a structure:

- a multipart without a usable boundary, or none of whose boundaries occur, is shown as text/plain;
- what lies beyond a limit below is one opaque part, application/octet-stream;
- a Content-Type that is none means the default (RFC 2045 5.2).

Line ends may be CRLF or LF, also mixed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from mailhost.message.headers import Header, Octets, header_end
from mailhost.message.parameters import (
    Parameters,
    parameter,
    parse_disposition,
    parse_media_type,
)

MAX_DEPTH = 100
"""Multiparts and messages inside each other."""
MAX_PARTS = 10_000
"""Parts of one message."""
MAX_BOUNDARY = 200
"""Octets of a boundary; RFC 2046 5.1.1 allows 70."""
MAX_LANGUAGES = 100
"""Language tags of one part."""
MAX_PART_HEADERS = 2 * 1024 * 1024
"""Octets of header of all parts together, besides the message's own."""
_WORK_FLOOR = 64 * 1024 * 1024
_WORK_FACTOR = 16
_BLOCK = 1024 * 1024
_BARE_LF = re.compile(rb"(?<!\r)\n")


class Text(Enum):
    """The section-text of a FETCH section (RFC 9051 6.4.5); BODY is none at all."""

    BODY = ""
    HEADER = "HEADER"
    TEXT = "TEXT"
    MIME = "MIME"


@dataclass(frozen=True, slots=True)
class Part:
    """
    A body part, or a whole message (the root, and what a message/rfc822 part contains).

    Args:
        header_start, body_start, end: offsets into the octets; the header's empty line is before
            `body_start`; the line end before a boundary is not in the part.
        lines: line ends in the body; counted for text and message parts only.
        type, subtype: lower case, after defaults and repairs.
        params: lower-case names and raw values, in order.
        encoding: lower case, ``7bit`` by default.
        disposition: lower-case type and parameters.
        children: of a multipart. message: of a message/rfc822 or message/global part.
    """

    header_start: int
    body_start: int
    end: int
    lines: int
    type: bytes
    subtype: bytes
    params: Parameters
    encoding: bytes
    id: bytes | None
    description: bytes | None
    disposition: tuple[bytes, Parameters] | None
    language: tuple[bytes, ...]
    location: bytes | None
    md5: bytes | None
    children: tuple[Part, ...]
    message: Part | None

    @property
    def size(self) -> int:
        """Octets of the body."""
        return self.end - self.body_start

    def find(self, path: tuple[int, ...]) -> Part | None:
        """
        Return the part with that number (RFC 9051 6.4.5), or None.

        Called on a whole message; the empty path is the message itself.
        """
        part = self
        for depth, number in enumerate(path):
            container = part
            if depth:
                if part.message is not None:
                    container = part.message
                elif not part.children:
                    return None
            if container.children:
                if not 1 <= number <= len(container.children):
                    return None
                part = container.children[number - 1]
            elif number == 1:
                # A message that is no multipart is its own part 1.
                part = container
            else:
                return None
        return part

    def section(self, path: tuple[int, ...], text: Text) -> tuple[int, int] | None:
        """
        Return start and end of BODY[path.text], or None when there is no such section.

        HEADER and TEXT with a path are those of the message that the part contains.
        """
        part = self.find(path)
        if part is None:
            return None
        if text is Text.MIME:
            return (part.header_start, part.body_start) if path else None
        if text is Text.BODY:
            return (part.body_start if path else part.header_start), part.end
        whole = part.message if path else part
        if whole is None:
            return None
        if text is Text.HEADER:
            return whole.header_start, whole.body_start
        return whole.body_start, whole.end


_TEXT_PLAIN: tuple[bytes, bytes, Parameters] = (b"text", b"plain", ((b"charset", b"US-ASCII"),))
_RFC822: tuple[bytes, bytes, Parameters] = (b"message", b"rfc822", ())
_OPAQUE: tuple[bytes, bytes, Parameters] = (b"application", b"octet-stream", ())
_READABLE_ENCODINGS = frozenset({b"7bit", b"8bit", b"binary"})


def parse(octets: Octets, header: Header | None = None) -> Part:
    """
    Return the structure of a message. Any octets have one.

    Args:
        octets: the message.
        header: its header, if the caller has it already.
    """
    if header is None:
        header = Header(octets)
    return _Scan(octets).part(0, len(octets), _TEXT_PLAIN, 0, header)


class _Scan:
    """One parse: the octets, and what is left of its budgets."""

    __slots__ = ("header_room", "octets", "parts", "work")

    def __init__(self, octets: Octets) -> None:
        self.octets = octets
        self.parts = 0
        self.header_room = MAX_PART_HEADERS
        # Octets looked through for boundaries and header ends: nesting multiplies the size of the
        # message by its depth, which must not become hours.
        self.work = _WORK_FLOOR + _WORK_FACTOR * len(octets)

    def part(
        self,
        start: int,
        end: int,
        default: tuple[bytes, bytes, Parameters],
        depth: int,
        header: Header | None = None,
    ) -> Part:
        self.parts += 1
        octets = self.octets
        body = header_end(octets, start, end)
        self.work -= body - start
        if header is None:
            header = Header(octets, start, min(body, start + self.header_room))
            self.header_room = max(self.header_room - (body - start), 0)
        value = header.first(b"content-type")
        media = (value and parse_media_type(value)) or default
        value = header.first(b"content-transfer-encoding")
        encoding = _token(value) or b"7bit" if value else b"7bit"
        children: tuple[Part, ...] = ()
        message: Part | None = None
        if media[0] == b"multipart":
            media, children = self.multipart(media, body, end, depth)
        elif media[0] == b"message" and media[1] in (b"rfc822", b"global"):
            media, message = self.enclosed(media, encoding, body, end, depth)
        kind, subtype, params = media
        lines = self.count_lines(body, end) if kind == b"text" or message is not None else 0
        fields = _optional(header)
        return Part(
            start, body, end, lines, kind, subtype, params, encoding, *fields, children, message
        )

    def enclosed(
        self,
        media: tuple[bytes, bytes, Parameters],
        encoding: bytes,
        start: int,
        end: int,
        depth: int,
    ) -> tuple[tuple[bytes, bytes, Parameters], Part | None]:
        # An encoded message (RFC 6532 3.7 allows it) has no offsets: it is shown as a file.
        self.work -= end - start
        if not self.may_descend(depth) or encoding not in _READABLE_ENCODINGS:
            return _OPAQUE, None
        return media, self.part(start, end, _TEXT_PLAIN, depth + 1)

    def may_descend(self, depth: int) -> bool:
        return depth < MAX_DEPTH and self.parts < MAX_PARTS and self.work > 0 < self.header_room

    def multipart(
        self, media: tuple[bytes, bytes, Parameters], start: int, end: int, depth: int
    ) -> tuple[tuple[bytes, bytes, Parameters], tuple[Part, ...]]:
        boundary = (parameter(media[2], b"boundary") or b"").rstrip()
        if not 0 < len(boundary) <= MAX_BOUNDARY:
            return _TEXT_PLAIN, ()
        if not self.may_descend(depth):
            return _OPAQUE, ()
        default = _RFC822 if media[1] == b"digest" else _TEXT_PLAIN
        children: list[Part] = []
        self.work -= end - start
        opened, position = self.delimiter(boundary, start, end)
        while opened >= 0 and position >= 0:
            if not self.may_descend(depth):
                children.append(self.opaque(position, end))
                break
            closed, following = self.delimiter(boundary, position, end)
            child_end = end if closed < 0 else max(closed, position)
            children.append(self.part(position, child_end, default, depth + 1))
            opened, position = closed, following
        if not children:
            return _TEXT_PLAIN, ()
        return media, tuple(children)

    def opaque(self, start: int, end: int) -> Part:
        self.parts += 1
        return Part(
            start, start, end, 0, *_OPAQUE, b"7bit", None, None, None, (), None, None, (), None
        )

    def delimiter(self, boundary: bytes, start: int, end: int) -> tuple[int, int]:
        """
        Find the next delimiter line (RFC 2046 5.1.1).

        Returns where the part before it ends, and where the part behind it begins: -1 for the
        first if there is no delimiter, for the second if it is the closing one.
        """
        octets, mark = self.octets, b"--" + boundary
        position = start
        while (found := octets.find(mark, position, end)) >= 0:
            position = found + len(mark)
            if found != start and octets[found - 1 : found] != b"\n":
                continue
            line_end = octets.find(b"\n", position, end)
            following = end if line_end < 0 else line_end + 1
            # A delimiter line holds nothing else; looking at more of it than this would let one
            # endless line be read again and again.
            rest = octets[position : min(following, position + 1000)].strip(b" \t\r\n")
            if rest not in (b"", b"--"):
                continue
            before = found
            if before > start:
                before -= 1
                if octets[before - 1 : before] == b"\r" and before > start:
                    before -= 1
            return before, -1 if rest else following
        return -1, -1

    def count_lines(self, start: int, end: int) -> int:
        octets = self.octets
        if isinstance(octets, bytes):
            return octets.count(b"\n", start, end)
        return sum(
            octets[offset : min(offset + _BLOCK, end)].count(b"\n")
            for offset in range(start, end, _BLOCK)
        )


_OptionalFields: TypeAlias = tuple[
    bytes | None,
    bytes | None,
    tuple[bytes, Parameters] | None,
    tuple[bytes, ...],
    bytes | None,
    bytes | None,
]


def _optional(header: Header) -> _OptionalFields:
    disposition = header.first(b"content-disposition")
    language = header.first(b"content-language")
    return (
        header.first(b"content-id"),
        header.first(b"content-description"),
        parse_disposition(disposition) if disposition else None,
        tuple(language.replace(b",", b" ").split()[:MAX_LANGUAGES]) if language else (),
        header.first(b"content-location"),
        header.first(b"content-md5"),
    )


def has_bare_lf(octets: Octets) -> bool:
    """Whether some line ends in LF alone."""
    if isinstance(octets, bytes):
        # Nearly always the two counts agree, and counting is faster than an expression.
        return octets.count(b"\n") != octets.count(b"\r\n")
    return _BARE_LF.search(octets) is not None


def to_crlf(octets: Octets) -> bytes:
    """Return the octets with every bare LF as CRLF."""
    return _BARE_LF.sub(b"\r\n", octets)


def _token(value: bytes) -> bytes:
    words = value.split(None, 1)
    return words[0].rstrip(b";").lower() if words else b""
