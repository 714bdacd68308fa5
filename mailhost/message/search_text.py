"""
The text of a message as SEARCH sees it: decoded, without markup, folded by `headers.fold`.

All work is linear in the message and stops at the limits below.
"""

from __future__ import annotations

import binascii
import html
import re
from collections.abc import Iterator

from mailhost.message import charsets
from mailhost.message.headers import Header, Octets, decode_text, fold
from mailhost.message.mime import Part, parse
from mailhost.message.parameters import decoded, parameter

MAX_TEXT = 16 * 1024 * 1024
"""Characters of one message that can be found."""
_MAX_RAW = 24 * 1024 * 1024
_MAX_HTML = 8 * 1024 * 1024

_WINDOW = 16 * 1024

_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_MARKUP = re.compile(
    r"<(?:!--.*?(?:-->|\Z)"
    r"|(?P<skip>script|style|template)\b.*?(?:</(?P=skip)\b[^>]*+>?|\Z)"
    r"|(?P<inline>/?(?:a|abbr|acronym|b|bdo|big|cite|code|em|font|i|ins|del|kbd|mark|s|samp|small"
    r"|span|strike|strong|sub|sup|tt|u|var|wbr)\b[^>]*+>?)"
    r"|[/!?a-z][^>]*+>?)",
    re.IGNORECASE | re.DOTALL,
)


def searchable_header(octets: Octets) -> str:
    """Return the decoded, folded header of the message, one field a line (SEARCH TEXT, HEADER)."""
    return _header_text(Header(octets))


def searchable_text(octets: Octets, part: Part | None = None) -> str:
    """
    Return the decoded, folded text of the body (SEARCH BODY).

    That is every text part, HTML without its tags, the headers of enclosed messages and the names
    of attachments, one a line, up to `MAX_TEXT` characters.

    Args:
        octets: the message.
        part: its structure, if the caller has it already.
    """
    pieces: list[str] = []
    room = MAX_TEXT
    for piece in _pieces(octets, part or parse(octets)):
        if piece:
            pieces.append(piece[:room])
            room -= len(piece)
            if room <= 0:
                break
    return "\n".join(pieces)


def _header_text(header: Header) -> str:
    return "\n".join(
        [
            fold(f"{field[0].decode('ascii')}: {decode_text(header.value(field))}")
            for field in header.fields
        ]
    )


def _pieces(octets: Octets, root: Part) -> Iterator[str]:
    waiting = [root]
    while waiting:
        part = waiting.pop()
        name = file_name(part)
        if name:
            yield fold(name)
        if part.description:
            yield fold(decode_text(part.description))
        if part.message is not None:
            message = part.message
            yield _header_text(Header(octets, message.header_start, message.body_start))
            waiting.append(message)
        elif part.children:
            waiting.extend(reversed(part.children))
        elif part.type == b"text":
            yield fold(part_text(octets, part))


def file_name(part: Part) -> str | None:
    """
    Return the name a part's content should be saved under, or None.

    One name only, whatever the sender wrote: of the Content-Disposition before the Content-Type,
    RFC 2231 before plain. It may hold any character but controls: it is for showing, not a path.
    """
    if part.disposition is not None:
        name = decoded(part.disposition[1], b"filename")
        if name:
            return name
    return decoded(part.params, b"name")


def part_text(octets: Octets, part: Part) -> str:
    """Return the text of a text part, its encoding and charset undone, HTML without its tags."""
    raw = octets[part.body_start : min(part.end, part.body_start + _MAX_RAW)]
    content = decode_transfer(raw, part.encoding)
    charset = parameter(part.params, b"charset")
    text = (
        charsets.decode(content, charset.decode("latin-1")) if charset else charsets.guess(content)
    )
    return html_to_text(text) if part.subtype == b"html" else text


def decode_transfer(octets: bytes, encoding: bytes) -> bytes:
    """Return the content under a Content-Transfer-Encoding; what is garbage is passed over."""
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(octets)
    if encoding == b"base64":
        try:
            return binascii.a2b_base64(octets)
        except binascii.Error:
            text = _NOT_BASE64.sub(b"", octets)
            text = text[: len(text) - (len(text) % 4 == 1)]
            return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    return octets


def html_to_text(text: str) -> str:
    """Return the words a reader of the HTML sees: no tags, scripts, styles, comments."""
    return html.unescape(_without_markup(text[:_MAX_HTML]))


def _without_markup(text: str) -> str:
    # Looked at a window at a time: one search through megabytes of what is almost markup would
    # keep every other thread from running for seconds.
    pieces: list[str] = []
    last: re.Match[str] | None = None

    def replaced(match: re.Match[str]) -> str:
        nonlocal last
        last = match
        # A word may be marked up in its middle; anything else ends the word.
        return "" if match.lastgroup == "inline" else " "

    position, size = 0, len(text)
    while position < size:
        end = min(position + _WINDOW, size)
        if end < size and text[end - 1] == "<":
            end -= 1
        last = None
        piece = _MARKUP.sub(replaced, text[position:end])
        if end < size and last is not None and last.end() == end - position:
            # Markup that goes on behind the window: the whole of it counts.
            start = position + last.start()
            pieces.append(piece[: len(piece) - len("" if last.lastgroup == "inline" else " ")])
            whole = _MARKUP.match(text, start)
            assert whole is not None
            pieces.append(replaced(whole))
            position = whole.end()
        else:
            pieces.append(piece)
            position = end
    return "".join(pieces)
