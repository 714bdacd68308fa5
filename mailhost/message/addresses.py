"""
Address lists of header fields (RFC 5322 3.4), read leniently and in linear time.

Groups, obsolete routes, comments anywhere, quoted strings and the common faults (missing brackets,
unended quotes, semicolons between addresses) give entries; nothing raises.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_ADDRESSES = 10_000
"""Entries taken from one address field."""
MAX_FIELD = 512 * 1024
"""Octets of one address field that are looked at."""
MAX_STEPS = 50_000
"""Words and comments of one address field that are looked at, where it needs the slow parser."""


class Mailbox(NamedTuple):
    """
    One entry of an address list, as ENVELOPE shows it (RFC 3501 7.4.2).

    A group is a start entry (mailbox is its name, host None), its members, and an end entry
    (everything None). All values are octets, unquoted, encoded words as they are. A mailbox
    without a domain has an empty host.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


GROUP_END = Mailbox(None, None, None, None)

# The forms that nearly all mail has: "Name" <a@b>, Name <a@b>, a@b. Anything else goes to the
# parser below, which gives the same for these.
_SIMPLE = re.compile(
    rb"[ \t]*+(?:"
    rb'(?:"([^"\\\r\n]*+)"[ \t]*+|([^"()<>@,;:\\\[\]\r\n\x00-\x08\x0b\x0c]*+))'
    rb"<([^\s\"()<>@,;:\\\[\]]++)@([A-Za-z0-9.\-]++)>"
    rb"|([^\s\"()<>@,;:\\\[\]]++)@([A-Za-z0-9.\-]++)"
    rb")[ \t]*+(?:,|\Z)"
)
_TOKEN = re.compile(
    rb'(?P<space>\s++)|(?P<quoted>"(?:[^"\\]++|\\.)*(?:"|\\?\Z))'
    rb"|(?P<literal>\[(?:[^\[\]\\]++|\\.)*\]?)"
    rb'|(?P<atom>[^\s"()<>@,;:\\\[\]]++)|(?P<special>.)',
    re.DOTALL,
)
_IN_COMMENT = re.compile(rb"[^()\\]*+(?:\\.[^()\\]*+)*", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


def parse_addresses(value: bytes) -> list[Mailbox]:
    """Return the entries of an unfolded address field, at most `MAX_ADDRESSES`."""
    value = value[:MAX_FIELD]
    entries: list[Mailbox] = []
    position, end = 0, len(value)
    while position < end:
        match = _SIMPLE.match(value, position)
        if match is None:
            return _Parser(value).parse()
        quoted, phrase, mailbox, host, bare_mailbox, bare_host = match.groups()
        if mailbox is None:
            entries.append(Mailbox(None, None, bare_mailbox, bare_host))
        else:
            name = phrase if quoted is None else quoted
            if quoted is None and name:
                name = b" ".join(name.split())
            entries.append(Mailbox(name or None, None, mailbox, host))
        if len(entries) >= MAX_ADDRESSES:
            break
        position = match.end()
    return entries


class _Word(NamedTuple):
    """A token that is not white space: its kind, its meaning, and whether space came before."""

    kind: str
    text: bytes
    spaced: bool


class _Parser:
    """The general parser: one pass over tokens, one list of words for the current address."""

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.entries: list[Mailbox] = []
        self.in_group = False
        self.steps = MAX_STEPS
        self.clear()

    def clear(self) -> None:
        self.words: list[_Word] = []
        self.angle: list[_Word] | None = None
        self.in_angle = False
        self.in_route = False
        self.has_at = False
        self.comment = b""

    def parse(self) -> list[Mailbox]:
        value, position, spaced = self.value, 0, False
        while position < len(value) and len(self.entries) < MAX_ADDRESSES and self.steps > 0:
            self.steps -= 1
            match = _TOKEN.match(value, position)
            assert match is not None
            position, kind = match.end(), match.lastgroup or ""
            if kind == "space":
                spaced = True
                continue
            if kind == "special" and match[0] == b"(":
                position = self.skip_comment(position)
                spaced = True
                continue
            self.take(_Word(kind, _meaning(kind, match[0]), spaced))
            spaced = False
        self.finish()
        if self.in_group:
            self.entries.append(GROUP_END)
        return self.entries

    def skip_comment(self, position: int) -> int:
        start, depth, value = position, 1, self.value
        while depth and position < len(value) and self.steps > 0:
            self.steps -= 1
            match = _IN_COMMENT.match(value, position)
            assert match is not None
            position = match.end()
            depth += {b"(": 1, b")": -1}.get(value[position : position + 1], 0)
            position += 1
        text = value[start : position if depth else position - 1]
        self.comment = _QUOTED_PAIR.sub(rb"\1", text).strip()
        return min(position, len(value))

    def take(self, word: _Word) -> None:
        mark = word.text if word.kind == "special" else b""
        if mark == b"<" and not self.in_angle:
            self.in_angle, self.angle = True, self.angle or []
        elif mark == b">":
            self.in_angle = self.in_route = False
        elif mark == b";" or (mark == b"," and not self.in_route):
            self.finish()
            if mark == b";" and self.in_group:
                self.entries.append(GROUP_END)
                self.in_group = False
        elif mark == b":" and self.angle is None and not (self.in_group or self.has_at):
            self.entries.append(Mailbox(None, None, _phrase(self.words), None))
            self.in_group = True
            self.clear()
        elif self.in_angle and self.angle is not None:
            # RFC 5322 4.4 obs-route: <@a,@b:c@d>
            if not self.angle:
                self.in_route = mark == b"@"
            elif mark == b":":
                self.in_route = False
            self.angle.append(word)
        elif self.angle is None:
            self.has_at = self.has_at or mark == b"@"
            self.words.append(word)

    def finish(self) -> None:
        words, angle, comment = self.words, self.angle, self.comment
        self.clear()
        if angle is not None:
            route, angle = _split_route(angle)
            before, mailbox, host = _split_spec(angle)
            name = _phrase(words) or _phrase(before) or comment
            self.entries.append(Mailbox(name or None, route, mailbox, host))
        elif words:
            before, mailbox, host = _split_spec(words)
            self.entries.append(Mailbox(_phrase(before) or comment or None, None, mailbox, host))


def _meaning(kind: str, text: bytes) -> bytes:
    if kind != "quoted":
        return text
    inner = text[1:-1] if len(text) > 1 and text.endswith(b'"') else text[1:]
    return _QUOTED_PAIR.sub(rb"\1", inner) if b"\\" in inner else inner


def _phrase(words: list[_Word]) -> bytes:
    pieces: list[bytes] = []
    for word in words:
        if word.spaced and pieces:
            pieces.append(b" ")
        pieces.append(word.text)
    return b"".join(pieces)


def _split_route(words: list[_Word]) -> tuple[bytes | None, list[_Word]]:
    if not words or words[0][:2] != ("special", b"@"):
        return None, words
    for index, word in enumerate(words):
        if word[:2] == ("special", b":"):
            return b"".join(word.text for word in words[:index]), words[index + 1 :]
    return None, words


def _split_spec(words: list[_Word]) -> tuple[list[_Word], bytes, bytes]:
    """Return what stands before the address, its local part and its domain."""
    at = next((i for i in range(len(words) - 1, -1, -1) if words[i][:2] == ("special", b"@")), None)
    if at is None:
        return [], _phrase(words), b""
    start = max(at - 1, 0)
    # The local part is what touches the @, and further words joined to it by dots.
    while start > 0 and (
        not words[start].spaced
        or words[start].text.startswith(b".")
        or words[start - 1].text.endswith(b".")
    ):
        start -= 1
    mailbox = b"".join(word.text for word in words[start:at])
    return words[:start], mailbox, b"".join(word.text for word in words[at + 1 :])
