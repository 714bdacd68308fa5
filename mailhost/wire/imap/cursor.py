"""
Reads the tokens of one IMAP command (RFC 9051 9, RFC 3501 9).

A `Cursor` stands at an octet of a command whose literals are in place, as `IMAPReceiver` hands it
over. Each method reads one production and moves on, or raises SyntaxFault where it stands. Nothing
here recurses, so that no nesting in the input costs stack.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from datetime import date as calendar_date
from typing import TypeVar

from mailhost.errors import MailboxNameRefused, SyntaxFault
from mailhost.wire.imap import sequence_set, utf7
from mailhost.wire.imap.sequence_set import SequenceSet

# atom-char: any CHAR but ( ) { SP CTL % * " \ ]
_ATOM = re.compile(rb'[^(){ \x00-\x1f\x7f-\xff%*"\\\]]+')
# ASTRING-CHAR is atom-char or "]"
_ASTRING = re.compile(rb'[^(){ \x00-\x1f\x7f-\xff%*"\\]+')
# list-char is atom-char, wildcards or "]"; 8-bit octets are let through to be judged as a name.
_LIST_MAILBOX = re.compile(rb'[^(){ \x00-\x1f\x7f"\\]+')
# tag: ASTRING-CHAR except "+"
_TAG = re.compile(rb'[^(){ \x00-\x1f\x7f-\xff%*"\\+]{1,128}')
# Octets above 0x7f are no QUOTED-CHAR, but passwords and search texts come so.
_QUOTED = re.compile(rb'"((?:[^"\\\x00\r\n]|\\["\\])*)"')
_ESCAPED = re.compile(rb"\\(.)")
_LITERAL = re.compile(rb"~?\{([0-9]{1,20})\+?\}\r\n")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_FLAG = re.compile(rb'\\?[^(){ \x00-\x1f\x7f-\xff%*"\\\]]+')
_SET = re.compile(rb"[0-9*:,$]+")
_KEYWORD = re.compile(rb"[A-Za-z0-9.+\-]+")
_DATE = re.compile(rb'"?([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})"?')
_DATE_TIME = re.compile(
    rb'"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2})'
    rb' ([+-])([0-9]{2})([0-9]{2})"'
)

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = (b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec").split()
_MONTH = {name.lower(): number for number, name in enumerate(MONTHS, 1)}

MAX_NUMBER = (1 << 63) - 1
"""number64 and mod-sequence-value (RFC 9051 9, RFC 7162 7)."""

SYSTEM_FLAGS = {
    flag.lower(): flag.decode()
    for flag in (rb"\Answered", rb"\Flagged", rb"\Deleted", rb"\Seen", rb"\Draft")
}


class Cursor:
    """
    A position in a command.

    Args:
        data: the command, without its line end.
        position: where to begin.
    """

    __slots__ = ("data", "position")

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position

    def fault(self, expected: str) -> SyntaxFault:
        """Return the error that something else was expected here."""
        return SyntaxFault(self.position, expected)

    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self.position >= len(self.data)

    def end(self) -> None:
        """Require that nothing is left."""
        if self.position < len(self.data):
            raise self.fault("the end of the command")

    def peek(self) -> bytes:
        """Return the next octet, empty at the end."""
        return self.data[self.position : self.position + 1]

    def accept(self, text: bytes) -> bool:
        """Move past the text if it comes next."""
        if self.data.startswith(text, self.position):
            self.position += len(text)
            return True
        return False

    def expect(self, text: bytes) -> None:
        """Move past the text, which must come next."""
        if not self.accept(text):
            raise self.fault(text.decode("ascii"))

    def space(self) -> None:
        """Move past one space."""
        if not self.data.startswith(b" ", self.position):
            raise self.fault("a space")
        self.position += 1

    def _take(self, pattern: re.Pattern[bytes], expected: str) -> bytes:
        match = pattern.match(self.data, self.position)
        if match is None:
            raise self.fault(expected)
        self.position = match.end()
        return match[0]

    def rest(self) -> bytes:
        """Return all that is left."""
        rest, self.position = self.data[self.position :], len(self.data)
        return rest

    def tag(self) -> bytes:
        """Read a tag."""
        return self._take(_TAG, "a tag")

    def atom(self) -> bytes:
        """Read an atom."""
        return self._take(_ATOM, "an atom")

    def keyword(self) -> bytes:
        """Read a word of the protocol and return it in upper case."""
        return self._take(_KEYWORD, "a keyword").upper()

    def number(self, largest: int = MAX_NUMBER) -> int:
        """Read a number up to `largest`."""
        start = self.position
        value = int(self._take(_NUMBER, "a number"))
        if value > largest:
            self.position = start
            raise self.fault(f"a number up to {largest}")
        return value

    def quoted(self) -> bytes:
        """Read a quoted string."""
        match = _QUOTED.match(self.data, self.position)
        if match is None:
            raise self.fault("a quoted string")
        self.position = match.end()
        value = match[1]
        return _ESCAPED.sub(rb"\1", value) if b"\\" in value else value

    def literal(self) -> bytes:
        """Read a literal."""
        match = _LITERAL.match(self.data, self.position)
        if match is None:
            raise self.fault("a string")
        end = match.end() + int(match[1])
        value = self.data[match.end() : end]
        if end > len(self.data) or b"\0" in value:
            raise self.fault("a literal without NUL")
        self.position = end
        return value

    def string(self) -> bytes:
        """Read a quoted string or a literal."""
        return self.quoted() if self.peek() == b'"' else self.literal()

    def astring(self) -> bytes:
        """Read an atom (in which ``]`` may stand) or a string."""
        match = _ASTRING.match(self.data, self.position)
        if match is None:
            return self.string()
        self.position = match.end()
        return match[0]

    def nstring(self) -> bytes | None:
        """Read a string or NIL, which is None."""
        if self.peek() in (b'"', b"{"):
            return self.string()
        if self.data[self.position : self.position + 3].upper() != b"NIL":
            raise self.fault("a string or NIL")
        self.position += 3
        return None

    def mailbox(self) -> str:
        """
        Read a mailbox name; INBOX, and INBOX as the first level, is returned in upper case.

        Raises:
            MailboxNameRefused: it is a string that spells no name in modified UTF-7.
        """
        return mailbox_name(self.astring())

    def list_mailbox(self) -> str:
        """Read a mailbox name with wildcards; MailboxNameRefused as `mailbox`."""
        match = _LIST_MAILBOX.match(self.data, self.position)
        if match is None:
            return mailbox_name(self.string())
        self.position = match.end()
        return mailbox_name(match[0])

    def sequence_set(self) -> SequenceSet:
        """Read a sequence-set."""
        start = self.position
        text = self._take(_SET, "a sequence set")
        try:
            return sequence_set.parse(text)
        except SyntaxFault:
            self.position = start
            raise self.fault("a sequence set") from None

    def flag(self) -> str:
        """Read a flag; a system flag in its usual spelling, ``\\Recent`` included."""
        start = self.position
        text = self._take(_FLAG, "a flag")
        if not text.startswith(b"\\"):
            return text.decode("ascii")
        if text.lower() == b"\\recent":
            return "\\Recent"
        try:
            return SYSTEM_FLAGS[text.lower()]
        except KeyError:
            self.position = start
            raise self.fault("a flag that exists") from None

    def flags(self) -> tuple[str, ...]:
        """Read a flag list in parentheses; ``\\Recent``, which nobody can set, is left out."""
        return _settable(self.items(self.flag, empty=True))

    def store_flags(self) -> tuple[str, ...]:
        """Read a flag list in parentheses, or flags with spaces between (STORE)."""
        if self.peek() == b"(":
            return self.flags()
        found = [self.flag()]
        while self.accept(b" "):
            found.append(self.flag())
        return _settable(found)

    def items(self, read: Callable[[], T], *, empty: bool = False) -> list[T]:
        """Read what `read` reads, in parentheses with one space between."""
        self.expect(b"(")
        if empty and self.accept(b")"):
            return []
        found = [read()]
        while self.accept(b" "):
            found.append(read())
        self.expect(b")")
        return found

    def date(self) -> int:
        """Read a date and return its proleptic ordinal."""
        match = _DATE.match(self.data, self.position)
        if match is None or match[0].startswith(b'"') is not match[0].endswith(b'"'):
            raise self.fault("a date")
        try:
            day = calendar_date(int(match[3]), _MONTH[match[2].lower()], int(match[1])).toordinal()
        except (KeyError, ValueError):
            raise self.fault("a date of the calendar") from None
        self.position = match.end()
        return day

    def date_time(self) -> tuple[int, int]:
        """Read a date-time and return Unix seconds and the zone in minutes east of UTC."""
        match = _DATE_TIME.match(self.data, self.position)
        if match is None:
            raise self.fault("a date and time")
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
        zone = int(zone_hours) * 60 + int(zone_minutes)
        if sign == b"-":
            zone = -zone
        try:
            moment = datetime(
                int(year),
                _MONTH[month.lower()],
                int(day),
                int(hour),
                int(minute),
                # A leap second is the last one of its minute here.
                min(int(second), 59) if second == b"60" else int(second),
                tzinfo=timezone(timedelta(minutes=zone)),
            )
            seconds = (moment - _EPOCH) // timedelta(seconds=1)
        except (KeyError, ValueError, OverflowError):
            raise self.fault("a date of the calendar") from None
        self.position = match.end()
        return seconds, zone


def _settable(flags: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(flag for flag in flags if flag != "\\Recent"))


def mailbox_name(data: bytes) -> str:
    """
    Return the name that the octets spell, in Unicode's form NFC, ``INBOX`` in upper case.

    Raises:
        MailboxNameRefused: they spell none.
    """
    try:
        name = utf7.decode(data)
    except SyntaxFault:
        raise MailboxNameRefused("not modified UTF-7") from None
    # RFC 3501 5.1: the one name that is case-insensitive.
    first, slash, below = name.partition("/")
    if first.isascii() and first.upper() == "INBOX":
        name = f"INBOX{slash}{below}"
    return name if name.isascii() else unicodedata.normalize("NFC", name)
