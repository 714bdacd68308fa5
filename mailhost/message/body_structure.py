"""IMAP BODY and BODYSTRUCTURE as finished octets, both made in one walk of the parts."""

from __future__ import annotations

from functools import lru_cache

from mailhost.message.envelope import envelope, nstring, string
from mailhost.message.headers import Header, Octets
from mailhost.message.mime import Part
from mailhost.message.parameters import Parameters


def structures(octets: Octets, part: Part) -> tuple[bytes, bytes]:
    """
    Return the octets of BODY and of BODYSTRUCTURE (RFC 9051 7.5.2), parentheses included.

    Args:
        octets: the message the part was found in: enclosed messages show their envelope.
        part: a message or a part of one.
    """
    if part.children:
        return _multipart(octets, part)
    basic = b"%b %b %b %b %b %d" % (
        _media(part.type, part.subtype),
        _parameters(part.params),
        nstring(part.id),
        nstring(part.description),
        _token(part.encoding),
        part.end - part.body_start,
    )
    extension = b"%b %b %b %b" % (
        nstring(part.md5),
        _disposition(part.disposition),
        _language(part.language),
        nstring(part.location),
    )
    if part.message is not None:
        return _enclosed(octets, part, part.message, basic, extension)
    if part.type == b"text":
        basic = b"%b %d" % (basic, part.lines)
    return b"(%b)" % basic, b"(%b %b)" % (basic, extension)


def _multipart(octets: Octets, part: Part) -> tuple[bytes, bytes]:
    pairs = [structures(octets, child) for child in part.children]
    subtype = _token(part.subtype)
    extension = b"%b %b %b %b" % (
        _parameters(part.params),
        _disposition(part.disposition),
        _language(part.language),
        nstring(part.location),
    )
    return (
        b"(%b %b)" % (b"".join([body for body, _ in pairs]), subtype),
        b"(%b %b %b)" % (b"".join([structure for _, structure in pairs]), subtype, extension),
    )


def _enclosed(
    octets: Octets, part: Part, message: Part, basic: bytes, extension: bytes
) -> tuple[bytes, bytes]:
    shown = envelope(Header(octets, message.header_start, message.body_start))
    body, structure = structures(octets, message)
    return (
        b"(%b %b %b %d)" % (basic, shown, body, part.lines),
        b"(%b %b %b %d %b)" % (basic, shown, structure, part.lines, extension),
    )


def _media(kind: bytes, subtype: bytes) -> bytes:
    return b"%b %b" % (_token(kind), _token(subtype))


@lru_cache(maxsize=256)
def _short_token(value: bytes) -> bytes:
    return string(value.upper())


def _token(value: bytes) -> bytes:
    # Upper case, as in the examples of RFC 3501: some old clients compare so.
    return _short_token(value) if len(value) < 32 else string(value.upper())


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(%b)" % b" ".join(
        [b"%b %b" % (_token(name), string(value)) for name, value in parameters]
    )


def _disposition(disposition: tuple[bytes, Parameters] | None) -> bytes:
    if disposition is None:
        return b"NIL"
    return b"(%b %b)" % (_token(disposition[0]), _parameters(disposition[1]))


def _language(tags: tuple[bytes, ...]) -> bytes:
    if not tags:
        return b"NIL"
    if len(tags) == 1:
        return string(tags[0])
    return b"(%b)" % b" ".join([string(tag) for tag in tags])
