"""
Structured MIME fields: a value with parameters (RFC 2045 5.1, RFC 2183 2, RFC 2231).

Parameters stay as they were written, since IMAP shows them so; `decoded` puts RFC 2231 pieces
together for searching and file names.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from mailhost.message import charsets
from mailhost.message.headers import decode_text

Parameters: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Lower-case names and unquoted values, in order."""

MAX_PARAMETERS = 100
"""Parameters of one field; the rest is not looked at."""
MAX_FIELD = 64 * 1024
"""Octets of one field that are looked at."""

_COMMENT = re.compile(rb"\([^()]*+\)")
_VALUE = re.compile(rb"[ \t]*+([^\s;()<>@,:\\\"\[\]?=]++)")
_MEDIA = re.compile(
    rb"[ \t]*+([^\s;()<>@,:\\\"/\[\]?=]++)[ \t]*+/[ \t]*+([^\s;()<>@,:\\\"/\[\]?=]++)"
)
# Values without quotes end at white space or a semicolon only: writers forget to quote.
_PARAMETER = re.compile(
    rb";[;\s]*+([^\s;=\"]++)\s*+=\s*+(?:\"((?:[^\"\\]++|\\.)*)(?:\"|\\?\Z)|([^;\"\s][^;\s]*+)?)"
    rb"[^;]*+",
    re.DOTALL,
)
_SEPARATORS = re.compile(rb"[;\s]++")
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
# RFC 2231 3 and 4.1: name*number, either with a final * for "encoded".
_SEGMENT = re.compile(rb"([^*]++)(?:\*([0-9]{1,3}))?(\*)?\Z")


def parse_media_type(value: bytes) -> tuple[bytes, bytes, Parameters] | None:
    """Return type and subtype in lower case and the parameters, or None if it is neither."""
    if len(value) <= 64:
        return _cached_media_type(value)
    return _media_type(value)


def _media_type(value: bytes) -> tuple[bytes, bytes, Parameters] | None:
    value = _without_comments(value[:MAX_FIELD])
    match = _MEDIA.match(value)
    if match is None:
        return None
    return match[1].lower(), match[2].lower(), _parameters(value, match.end())


_cached_media_type = lru_cache(maxsize=1024)(_media_type)


def parse_disposition(value: bytes) -> tuple[bytes, Parameters] | None:
    """Return the disposition in lower case and its parameters, or None if there is none."""
    value = _without_comments(value[:MAX_FIELD])
    match = _VALUE.match(value)
    if match is None:
        return None
    return match[1].lower(), _parameters(value, match.end())


def _without_comments(value: bytes) -> bytes:
    # Only where no quoted string could hold the parenthesis.
    if b"(" in value and b'"' not in value:
        return _COMMENT.sub(b" ", value)
    return value


def _parameters(value: bytes, position: int) -> Parameters:
    parameters: list[tuple[bytes, bytes]] = []
    position = value.find(b";", position)
    while position >= 0 and len(parameters) < MAX_PARAMETERS:
        match = _PARAMETER.match(value, position)
        if match is None:
            run = _SEPARATORS.match(value, position)
            position = value.find(b";", run.end() if run else position + 1)
            continue
        text = match[3] or b"" if match[2] is None else match[2]
        if b"\\" in text and match[2] is not None:
            text = _QUOTED_PAIR.sub(rb"\1", text)
        parameters.append((match[1].lower(), text))
        position = match.end() if match.end() < len(value) else -1
    return tuple(parameters)


def parameter(parameters: Parameters, name: bytes) -> bytes | None:
    """Return the raw value of the first parameter of that lower-case name, or None."""
    for key, value in parameters:
        if key == name:
            return value
    return None


def decoded(parameters: Parameters, name: bytes) -> str | None:
    """
    Return the text of a parameter, RFC 2231 pieces joined in order up to the first gap.

    An RFC 2231 form wins over a plain one, and the plain one may hold RFC 2047 words, as many
    writers send them.
    """
    plain: bytes | None = None
    pieces: dict[int, tuple[bytes, bool]] = {}
    for key, value in parameters:
        match = _SEGMENT.match(key)
        if match is None or match[1] != name:
            continue
        if match[2] is None and match[3] is None:
            plain = value if plain is None else plain
        else:
            pieces.setdefault(int(match[2] or 0), (value, match[3] is not None))
    if 0 not in pieces:
        return None if plain is None else decode_text(plain)
    return _join_pieces(pieces)


def _join_pieces(pieces: dict[int, tuple[bytes, bool]]) -> str:
    charset, octets, number = "", b"", 0
    while number in pieces:
        value, encoded = pieces[number]
        if encoded:
            if number == 0 and value.count(b"'") >= 2:
                name, _, value = value.split(b"'", 2)
                charset = name.decode("ascii", "replace")
            value = unquote_to_bytes(value)
        octets += value
        number += 1
    return decode_text(charsets.decode(octets, charset).encode("utf-8"))
