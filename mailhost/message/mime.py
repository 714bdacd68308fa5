"""The MIME structure of a message as offsets into its octets; nothing is copied or decoded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mailhost.message.headers import Octets

Parameters = tuple[tuple[bytes, bytes], ...]


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

    def find(self, path: tuple[int, ...]) -> Part | None:
        """Return the part with that number, of a whole message (RFC 9051 6.4.5)."""
        raise NotImplementedError

    def section(self, path: tuple[int, ...], text: Text) -> tuple[int, int] | None:
        """Return start and end of BODY[path.text], or None when there is no such section."""
        raise NotImplementedError


class Text(Enum):
    """The section-text of a FETCH section (RFC 9051 6.4.5); BODY is none at all."""

    BODY = ""
    HEADER = "HEADER"
    TEXT = "TEXT"
    MIME = "MIME"


def parse(octets: Octets) -> Part:
    """Return the structure of a message. Any octets have one."""
    raise NotImplementedError


def has_bare_lf(octets: Octets) -> bool:
    """Whether some line ends in LF alone."""
    raise NotImplementedError


def to_crlf(octets: bytes) -> bytes:
    """Return the octets with every bare LF as CRLF."""
    raise NotImplementedError
