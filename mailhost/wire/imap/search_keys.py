"""
What a SEARCH asks for, as criteria (RFC 9051 6.4.4, RFC 3501 6.4.4, RFC 7162 3.1.5).

Sequence sets mean something in one session only, so that the caller resolves them to UIDs. Depth
and number of keys are bounded; a chain of OR, however it is nested, becomes one `Or`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from mailhost import criteria
from mailhost.criteria import Comparison, Criterion, TextScope
from mailhost.errors import MailhostError, SyntaxFault
from mailhost.wire.imap.cursor import MAX_NUMBER, Cursor
from mailhost.wire.imap.sequence_set import SequenceSet

MAX_DEPTH = 100
"""Keys inside keys (OR, NOT, parentheses)."""
MAX_KEYS = 2000
"""Keys in one SEARCH."""

Resolve: TypeAlias = Callable[[SequenceSet, bool], tuple[tuple[int, int], ...]]
"""Turns a set, of UIDs if the second argument is true, into closed ranges of UIDs."""


class BadCharset(MailhostError):
    """The charset of a SEARCH is not one of `CHARSETS` (RFC 9051 7.1, BADCHARSET)."""


CHARSETS = {b"US-ASCII": "ascii", b"UTF-8": "utf-8"}


class _Keys:
    """One SEARCH being read."""

    def __init__(self, cursor: Cursor, charset: bytes, resolve: Resolve) -> None:
        try:
            self.charset = CHARSETS[charset.upper()]
        except KeyError:
            raise BadCharset(charset.decode("latin-1")) from None
        self.cursor = cursor
        self.resolve = resolve
        self.count = 0
        self.depth = 0
        self.mod_seq = False

    def all(self, closing: bytes) -> Criterion:
        """Read keys up to the closing octet or the end."""
        found = [self.key()]
        while self.cursor.accept(b" "):
            found.append(self.key())
        if closing:
            self.cursor.expect(closing)
        else:
            self.cursor.end()
        return found[0] if len(found) == 1 else criteria.And(tuple(found))

    def key(self) -> Criterion:
        """Read one key."""
        self.count += 1
        self.depth += 1
        if self.count > MAX_KEYS or self.depth > MAX_DEPTH:
            raise self.cursor.fault("fewer search keys")
        try:
            return self._key()
        finally:
            self.depth -= 1

    def _key(self) -> Criterion:
        cursor = self.cursor
        first = cursor.peek()
        if first == b"(":
            cursor.expect(b"(")
            return self.all(b")")
        if first.isdigit() or first in (b"*", b"$"):
            return criteria.InSet(self.resolve(cursor.sequence_set(), False))
        start = cursor.position
        word = cursor.keyword()
        if word in _FLAGS:
            return _FLAGS[word]
        reader = _READERS.get(word)
        if reader is None:
            raise SyntaxFault(start, "a search key")
        return reader(self)

    def text(self) -> str:
        """Read a text in the charset of the search."""
        self.cursor.space()
        start = self.cursor.position
        octets = self.cursor.astring()
        try:
            return octets.decode(self.charset)
        except UnicodeDecodeError:
            raise SyntaxFault(start, f"text in {self.charset}") from None

    def either(self) -> Criterion:
        """Read the two keys of an OR."""
        self.cursor.space()
        left = self.key()
        self.cursor.space()
        right = self.key()
        parts: list[Criterion] = []
        for side in (left, right):
            parts.extend(side.criteria if isinstance(side, criteria.Or) else (side,))
        return criteria.Or(tuple(parts))

    def negation(self) -> Criterion:
        """Read the key of a NOT."""
        self.cursor.space()
        inner = self.key()
        return inner.criterion if isinstance(inner, criteria.Not) else criteria.Not(inner)

    def header(self) -> Criterion:
        """Read field name and text of a HEADER."""
        self.cursor.space()
        name = self.cursor.astring().decode("ascii", "replace").lower()
        return criteria.HeaderContains(name, self.text())

    def field(self, name: str) -> Criterion:
        """Read the text of a key that names a field."""
        return criteria.HeaderContains(name, self.text())

    def contained(self, scope: TextScope) -> Criterion:
        """Read the text of BODY or TEXT."""
        text = self.text()
        return criteria.Contains(scope, text) if text else criteria.All()

    def size(self, comparison: Comparison) -> Criterion:
        """Read the number of LARGER or SMALLER."""
        self.cursor.space()
        return criteria.SizeIs(comparison, self.cursor.number())

    def date(self, comparison: Comparison, sent: bool) -> Criterion:
        """Read a date."""
        self.cursor.space()
        return criteria.DateIs(comparison, self.cursor.date(), sent)

    def keyword(self) -> Criterion:
        """Read a keyword."""
        self.cursor.space()
        return criteria.HasFlag(self.cursor.flag())

    def uids(self) -> Criterion:
        """Read a set of UIDs."""
        self.cursor.space()
        return criteria.InSet(self.resolve(self.cursor.sequence_set(), True))

    def changed(self) -> Criterion:
        """Read MODSEQ; which flag it is of is not told apart (RFC 7162 3.1.5)."""
        self.cursor.space()
        if self.cursor.peek() == b'"':
            self.cursor.quoted()
            self.cursor.space()
            if self.cursor.keyword() not in (b"PRIV", b"SHARED", b"ALL"):
                raise self.cursor.fault("priv, shared or all")
            self.cursor.space()
        self.mod_seq = True
        return criteria.ChangedSince(self.cursor.number(MAX_NUMBER))


def _flag(name: str) -> Criterion:
    return criteria.HasFlag(name)


_FLAGS: dict[bytes, Criterion] = {
    b"ALL": criteria.All(),
    b"ANSWERED": _flag("\\Answered"),
    b"DELETED": _flag("\\Deleted"),
    b"DRAFT": _flag("\\Draft"),
    b"FLAGGED": _flag("\\Flagged"),
    b"SEEN": _flag("\\Seen"),
    b"RECENT": criteria.IsRecent(),
    b"NEW": criteria.And((criteria.IsRecent(), criteria.Not(_flag("\\Seen")))),
    b"OLD": criteria.Not(criteria.IsRecent()),
    b"UNANSWERED": criteria.Not(_flag("\\Answered")),
    b"UNDELETED": criteria.Not(_flag("\\Deleted")),
    b"UNDRAFT": criteria.Not(_flag("\\Draft")),
    b"UNFLAGGED": criteria.Not(_flag("\\Flagged")),
    b"UNSEEN": criteria.Not(_flag("\\Seen")),
}
_READERS: dict[bytes, Callable[[_Keys], Criterion]] = {
    b"BCC": lambda keys: keys.field("bcc"),
    b"BEFORE": lambda keys: keys.date(Comparison.BELOW, False),
    b"BODY": lambda keys: keys.contained(TextScope.BODY),
    b"CC": lambda keys: keys.field("cc"),
    b"FROM": lambda keys: keys.field("from"),
    b"HEADER": _Keys.header,
    b"KEYWORD": _Keys.keyword,
    b"LARGER": lambda keys: keys.size(Comparison.ABOVE),
    b"MODSEQ": _Keys.changed,
    b"NOT": _Keys.negation,
    b"ON": lambda keys: keys.date(Comparison.EQUAL, False),
    b"OR": _Keys.either,
    b"SENTBEFORE": lambda keys: keys.date(Comparison.BELOW, True),
    b"SENTON": lambda keys: keys.date(Comparison.EQUAL, True),
    b"SENTSINCE": lambda keys: keys.date(Comparison.AT_LEAST, True),
    b"SINCE": lambda keys: keys.date(Comparison.AT_LEAST, False),
    b"SMALLER": lambda keys: keys.size(Comparison.BELOW),
    b"SUBJECT": lambda keys: keys.field("subject"),
    b"TEXT": lambda keys: keys.contained(TextScope.TEXT),
    b"TO": lambda keys: keys.field("to"),
    b"UID": _Keys.uids,
    b"UNKEYWORD": lambda keys: criteria.Not(keys.keyword()),
}


def parse(data: bytes, charset: bytes, resolve: Resolve) -> tuple[Criterion, bool]:
    """
    Return the criterion that the keys spell, and whether MODSEQ is among them.

    Raises:
        SyntaxFault: they are none, or too many or too deep.
        BadCharset: the charset is not known.
    """
    keys = _Keys(Cursor(data), charset, resolve)
    criterion = keys.all(b"")
    return criterion, keys.mod_seq
