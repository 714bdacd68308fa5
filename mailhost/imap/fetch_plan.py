"""
What a FETCH needs of the store, and how one message's response is put together from it.

A `FetchPlan` is made once for a command. It names the columns to ask for and formats records: the
items without octets of the message in one template, sections as slices. A section is octets, or a
`Slice` of a message too large to be in a record, or None where the message has no such part.

Header fields that the store keeps with its index (`Column.USUAL_FIELDS`) need no file: sections of
these alone go into the template like any other item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias

from mailhost.interfaces.access import Column, Record
from mailhost.message import mime
from mailhost.message.digest import USUAL_FIELDS
from mailhost.message.headers import field_selector, select_fields
from mailhost.wire.imap import responses
from mailhost.wire.imap.fetch_items import Attribute, FetchItem, Section, SectionText

FlagOctets: TypeAlias = Callable[[int, tuple[str, ...]], bytes]


@dataclass(frozen=True, slots=True)
class Slice:
    """Octets `start` to `end` of a message that is read in pieces."""

    start: int
    end: int


_COLUMNS: dict[Attribute, Column] = {
    Attribute.FLAGS: Column.FLAGS,
    Attribute.UID: Column(0),
    Attribute.INTERNALDATE: Column.DATE,
    Attribute.SIZE: Column.SIZE,
    Attribute.ENVELOPE: Column.ENVELOPE,
    Attribute.BODY: Column.BODY,
    Attribute.BODYSTRUCTURE: Column.BODY_STRUCTURE,
    Attribute.MODSEQ: Column.MOD_SEQ,
}
_TEMPLATES: dict[Attribute, bytes] = {
    Attribute.FLAGS: b"FLAGS %b",
    Attribute.UID: b"UID %d",
    Attribute.INTERNALDATE: b"INTERNALDATE %b",
    Attribute.SIZE: b"RFC822.SIZE %d",
    Attribute.ENVELOPE: b"ENVELOPE %b",
    Attribute.BODY: b"BODY %b",
    Attribute.BODYSTRUCTURE: b"BODYSTRUCTURE %b",
    Attribute.MODSEQ: b"MODSEQ (%d)",
}
_VALUES: dict[Attribute, Callable[[Record], Any]] = {
    Attribute.UID: attrgetter("uid"),
    Attribute.INTERNALDATE: lambda record: responses.internal_date(record.date, record.zone),
    Attribute.SIZE: attrgetter("size"),
    Attribute.ENVELOPE: attrgetter("envelope"),
    Attribute.BODY: attrgetter("body"),
    Attribute.BODYSTRUCTURE: attrgetter("body_structure"),
    Attribute.MODSEQ: attrgetter("mod_seq"),
}
_MIME_TEXT = {
    SectionText.ALL: mime.Text.BODY,
    SectionText.HEADER: mime.Text.HEADER,
    SectionText.FIELDS: mime.Text.HEADER,
    SectionText.FIELDS_NOT: mime.Text.HEADER,
    SectionText.TEXT: mime.Text.TEXT,
    SectionText.MIME: mime.Text.MIME,
}
_HEADERS = (SectionText.HEADER, SectionText.FIELDS, SectionText.FIELDS_NOT)


class FetchPlan:
    """
    How to answer one FETCH.

    Args:
        items: what was asked for.
        uid: the UID is shown in any case (UID FETCH).
        mod_seq: so is the mod-sequence (CHANGEDSINCE).
        condstore: flags come with their mod-sequence.
        flag_octets: gives a message's flags as they are written.

    Attributes:
        columns: for `IMailbox.records`.
        sections: those asked for.
        sets_seen: \\Seen is to be set.
        needs_content: octets of the messages are asked for.
        asks_content, asks_header: whether `columns` has CONTENT, HEADER.
    """

    def __init__(
        self,
        items: Sequence[FetchItem],
        *,
        uid: bool,
        mod_seq: bool,
        condstore: bool,
        flag_octets: FlagOctets,
    ) -> None:
        sections = tuple(item for item in items if isinstance(item, Section))
        usual = sections if all(map(_is_usual, sections)) else ()
        self.sections = () if usual else sections
        attributes = [item for item in items if isinstance(item, Attribute)]
        if uid and Attribute.UID not in attributes:
            attributes.insert(0, Attribute.UID)
        if Attribute.MODSEQ not in attributes and (
            mod_seq or (condstore and Attribute.FLAGS in attributes)
        ):
            attributes.append(Attribute.MODSEQ)
        self.sets_seen = any(not section.peek for section in self.sections)
        self.needs_content = any(map(_needs_content, self.sections))
        self._shows_flags = Attribute.FLAGS in attributes
        self._shows_mod_seq = Attribute.MODSEQ in attributes
        self._condstore = condstore
        self._flag_octets = flag_octets
        self.columns = self._columns(attributes)
        if usual:
            self.columns |= Column.USUAL_FIELDS
        self.asks_content = Column.CONTENT in self.columns
        self.asks_header = Column.HEADER in self.columns
        templates = [_TEMPLATES[each] for each in attributes]
        templates += [each.label.replace(b"%", b"%%") + b" %b" for each in usual]
        self._template = b"* %d FETCH (" + b" ".join(templates)
        self._values: list[Callable[[Record], Any]] = [
            self._flags if each is Attribute.FLAGS else _VALUES[each] for each in attributes
        ]
        self._values += map(_usual_value, usual)
        self._empty = not attributes

    def _columns(self, attributes: Sequence[Attribute]) -> Column:
        columns = Column(0)
        for each in attributes:
            columns |= _COLUMNS[each]
        if self.sets_seen:
            columns |= Column.FLAGS
        if self.needs_content:
            columns |= Column.CONTENT | Column.SIZE
        # The text of a large message begins where its header ends.
        if any(
            not section.path and section.text is not SectionText.ALL for section in self.sections
        ):
            columns |= Column.HEADER
        return columns

    def _flags(self, record: Record) -> bytes:
        return self._flag_octets(record.uid, record.flags)

    def rows(self, numbers: Sequence[int], records: Sequence[Record]) -> bytes:
        """Return the responses of messages without sections."""
        template = self._template + b")\r\n"
        # Columns of values side by side: no call of ours for each message but those of `_values`.
        columns = [map(value, records) for value in self._values]
        return b"".join(
            [template % row for row in zip(numbers, *columns, strict=True) if row[0]],
        )

    def opening(self, number: int, record: Record, seen_now: bool) -> bytes:
        """
        Return the response up to its first section.

        Args:
            number: the message's sequence number.
            record: what the store knows of it.
            seen_now: \\Seen was just set, so that its flags are shown too (RFC 9051 6.4.5).
        """
        row = self._template % (number, *[value(record) for value in self._values])
        more = []
        if seen_now and not self._shows_flags:
            more.append(b"FLAGS " + self._flags(record))
            if self._condstore and not self._shows_mod_seq:
                more.append(b"MODSEQ (%d)" % record.mod_seq)
        if not more:
            return row
        return row + (b"" if self._empty else b" ") + b" ".join(more)

    def has_items(self, seen_now: bool) -> bool:
        """Whether `opening` ends with an item, so that a space has to follow."""
        return not self._empty or (seen_now and not self._shows_flags)


def _is_usual(section: Section) -> bool:
    return (
        section.peek
        and not section.path
        and section.text is SectionText.FIELDS
        and bool(section.fields)
        and section.fields <= USUAL_FIELDS
    )


def _usual_value(section: Section) -> Callable[[Record], bytes]:
    select = field_selector(section.fields)
    start = section.offset or 0
    end = None if section.length is None else start + section.length

    def value(record: Record) -> bytes:
        # A damaged message has not even the empty line.
        if not record.header:
            return b"NIL"
        octets = select(record.header)[start:end]
        return b"{%d}\r\n%b" % (len(octets), octets)

    return value


def _needs_content(section: Section) -> bool:
    return bool(section.path) or section.text not in _HEADERS


class SectionReader:
    """
    Finds the sections of one message.

    Args:
        record: with CONTENT, HEADER and SIZE as the plan asked for.
        size: octets of the message.
        structure: of the message; when None it is parsed from the record once it is needed.
    """

    def __init__(self, record: Record, size: int, structure: mime.Part | None = None) -> None:
        self._record = record
        self._size = size
        self._structure = structure

    def find(self, section: Section) -> bytes | Slice | None:
        """Return where the octets of a section are, or themselves, before a partial is cut."""
        record = self._record
        if section.path:
            return self._part(section)
        if section.text is SectionText.ALL:
            return self._cut(0, self._size)
        if section.text is SectionText.TEXT:
            return self._cut(len(record.header), self._size)
        if section.text is SectionText.HEADER:
            return record.header
        return _fields(record.header, section)

    def needs_structure(self, section: Section) -> bool:
        """Whether the message's structure is needed and cannot be parsed from the record."""
        return bool(section.path) and self._record.content is None and self._structure is None

    def _part(self, section: Section) -> bytes | Slice | None:
        if self._structure is None:
            assert self._record.content is not None
            self._structure = mime.parse(self._record.content)
        found = self._structure.section(section.path, _MIME_TEXT[section.text])
        if found is None:
            return None
        octets = self._cut(*found)
        if section.fields and isinstance(octets, bytes):
            return _fields(octets, section)
        return octets

    def _cut(self, start: int, end: int) -> bytes | Slice:
        content = self._record.content
        return Slice(start, end) if content is None else content[start:end]


def _fields(header: bytes, section: Section) -> bytes:
    return select_fields(header, section.fields, exclude=section.text is SectionText.FIELDS_NOT)


def choose_fields(header: bytes, section: Section) -> bytes:
    """Return the fields of a header that a HEADER.FIELDS section asks for."""
    return _fields(header, section)


def partial(octets: bytes | Slice, section: Section) -> bytes | Slice:
    """Return what ``<offset.length>`` leaves of a section (RFC 9051 6.4.5)."""
    if section.offset is None or section.length is None:
        return octets
    if isinstance(octets, Slice):
        start = min(octets.start + section.offset, octets.end)
        return Slice(start, min(start + section.length, octets.end))
    return octets[section.offset : section.offset + section.length]
