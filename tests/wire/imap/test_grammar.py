"""The grammar of IMAP: names, sets, sections, search keys, and any octets at all."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost import criteria
from mailhost.errors import MailboxNameRefused, MailhostError, SyntaxFault
from mailhost.imap.entry import CommandEntry
from mailhost.imap.table import COMMANDS
from mailhost.wire.imap import commands, fetch_items, responses, search_keys, sequence_set, utf7
from mailhost.wire.imap.cursor import Cursor, mailbox_name
from mailhost.wire.imap.fetch_items import Attribute, Section, SectionText
from mailhost.wire.imap.sequence_set import STAR, SequenceSet

BOUNDED = settings(max_examples=150, deadline=None)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NUMBERS = st.one_of(st.integers(1, STAR - 1), st.just(STAR))
SETS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=8)


class ModifiedUTF7Tests(SynchronousTestCase):
    """RFC 3501 5.1.3."""

    def test_examples_of_the_rfc(self) -> None:
        """The example name is written as the RFC writes it."""
        name = "~peter/mail/台北/日本語"
        self.assertEqual(utf7.encode(name), b"~peter/mail/&U,BTFw-/&ZeVnLIqe-")
        self.assertEqual(utf7.decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"), name)
        self.assertEqual(utf7.encode("R&D"), b"R&-D")

    def test_only_one_spelling_is_taken(self) -> None:
        """Encoded ASCII, two shifts in a row, open shifts and stray bits are refused."""
        for wrong in (
            b"&AGE-",
            b"&U,A-&TFw-",
            b"&U,BTFw",
            b"&U,BTFx-",
            b"&U,B-",
            b"&",
            b"a&b",
            b"&2D0-",
            b"\xc3\xa9",
            b"a\x00b",
            b"&U,BTFw=-",
            b"&Jjo!",
        ):
            self.assertRaises(SyntaxFault, utf7.decode, wrong)

    @BOUNDED
    @given(NAMES)
    @example("&")
    @example("\U0001f600 &\t")
    def test_round_trip(self, name: str) -> None:
        """Any name can be written and read again, in printable ASCII."""
        data = utf7.encode(name)
        self.assertTrue(data.isascii())
        self.assertEqual(utf7.decode(data), name)

    @BOUNDED
    @given(st.binary(max_size=60))
    def test_any_octets_are_a_name_or_a_fault(self, data: bytes) -> None:
        """What is read can be written, and is then the same octets."""
        try:
            name = utf7.decode(data)
        except SyntaxFault:
            return
        self.assertEqual(utf7.encode(name), data)

    def test_names_are_normalised(self) -> None:
        """R-46: NFC and NFD are one name; INBOX has no case, also as a first level."""
        self.assertEqual(mailbox_name(utf7.encode("e\u0301")), "é")
        self.assertEqual(mailbox_name(b"inBox"), "INBOX")
        self.assertEqual(mailbox_name(b"inbox/x"), "INBOX/x")
        self.assertEqual(mailbox_name(b"inboxes"), "inboxes")
        self.assertRaises(MailboxNameRefused, mailbox_name, b"&&&")


class SequenceSetTests(SynchronousTestCase):
    """RFC 9051 4.1.1."""

    @BOUNDED
    @given(SETS)
    def test_round_trip(self, ranges: list[tuple[int, int]]) -> None:
        """What is written reads the same."""
        value = SequenceSet(tuple(ranges))
        self.assertEqual(sequence_set.parse(value.encode()), value)

    @BOUNDED
    @given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=6))
    def test_within_covers_the_same_numbers(self, ranges: list[tuple[int, int]]) -> None:
        """The merged ranges are ascending, separate, and name the same numbers."""
        merged = SequenceSet(tuple(ranges)).within(60)
        expected = {n for a, b in ranges for n in range(min(a, b), max(a, b) + 1)}
        self.assertEqual({n for low, high in merged for n in range(low, high + 1)}, expected)
        for (_, high), (low, _) in pairwise(merged):
            self.assertGreater(low, high + 1)

    @BOUNDED
    @given(st.lists(st.integers(1, 4000), max_size=40))
    def test_encoded_numbers_keep_their_order(self, numbers: list[int]) -> None:
        """Runs become ranges; reading them in order gives the numbers again."""
        text = sequence_set.encode(numbers)
        read = []
        for item in text.split(b",") if text else []:
            first, _, last = item.partition(b":")
            read += range(int(first), int(last or first) + 1)
        self.assertEqual(read, numbers)

    def test_what_is_none(self) -> None:
        """Zero, gaps in the grammar and numbers beyond 32 bits are refused."""
        for wrong in (b"0", b"", b"1,", b"1:", b":1", b"1::2", b"4294967296", b"**", b"$,1", b"-1"):
            self.assertRaises(SyntaxFault, sequence_set.parse, wrong)


class FetchItemTests(SynchronousTestCase):
    """RFC 9051 6.4.5."""

    def parse(self, text: bytes) -> tuple[fetch_items.FetchItem, ...]:
        cursor = Cursor(text)
        items = fetch_items.parse(cursor)
        cursor.end()
        return items

    def test_sections(self) -> None:
        """A section keeps its label, path, fields and partial."""
        found = self.parse(b"(uid body.peek[1.2.header.fields (From {2}\r\nTo)]<5.10>)")
        self.assertEqual(found[0], Attribute.UID)
        section = found[1]
        assert isinstance(section, Section)
        self.assertEqual(section.label, b"BODY[1.2.HEADER.FIELDS (From To)]<5>")
        self.assertEqual((section.path, section.text), ((1, 2), SectionText.FIELDS))
        self.assertEqual(section.fields, frozenset({b"from", b"to"}))
        self.assertEqual((section.peek, section.offset, section.length), (True, 5, 10))

    def test_bounds(self) -> None:
        """R-43: items, fields and levels are bounded."""
        for wrong in (
            b"(" + b" ".join(b"BODY[%d]" % n for n in range(1, 300)) + b")",
            b"BODY[HEADER.FIELDS (" + b"a " * 1000 + b"a)]",
            b"BODY[" + b"1." * 200 + b"1]",
            b"BODY[]<0.0>",
            b"BODY[]<99999999999999999999.1>",
            b"((UID))",
        ):
            self.assertRaises(SyntaxFault, self.parse, wrong)


def resolve(numbers: SequenceSet, uid: bool) -> tuple[tuple[int, int], ...]:
    """Let sequence numbers be UIDs."""
    return tuple(numbers.within(100))


class SearchKeyTests(SynchronousTestCase):
    """RFC 9051 6.4.4."""

    def parse(self, text: bytes) -> criteria.Criterion:
        return search_keys.parse(text, b"UTF-8", resolve)[0]

    def test_keys_become_criteria(self) -> None:
        """Keys side by side are all wanted."""
        found = self.parse(b'FROM "x" NOT (SEEN 2:4) LARGER 10')
        self.assertEqual(
            found,
            criteria.And(
                (
                    criteria.HeaderContains("from", "x"),
                    criteria.Not(
                        criteria.And((criteria.HasFlag("\\Seen"), criteria.InSet(((2, 4),))))
                    ),
                    criteria.SizeIs(criteria.Comparison.ABOVE, 10),
                )
            ),
        )

    def test_a_chain_of_or_is_one_or(self) -> None:
        """However it is nested."""
        found = self.parse(b"OR OR SEEN DRAFT OR DELETED FLAGGED")
        assert isinstance(found, criteria.Or)
        self.assertEqual(len(found.criteria), 4)

    def test_nesting_is_bounded(self) -> None:
        """R-44: 10,000 ORs or parentheses are refused at once, not followed."""
        for wrong in (
            b"OR " * 10_000 + b"ALL ALL",
            b"(" * 10_000 + b"ALL" + b")" * 10_000,
            b"NOT " * 10_000 + b"ALL",
            b" ".join([b"ALL"] * 5000),
            b"(" * 10_000,
            b")" * 10_000,
        ):
            self.assertRaises(SyntaxFault, self.parse, wrong)
        deep = b"OR ALL " * 90 + b"ALL"
        assert isinstance(self.parse(deep), criteria.Or)


class CursorTests(SynchronousTestCase):
    """Tokens."""

    def test_strings(self) -> None:
        """Atoms, quoted strings and literals are the same astring."""
        for text in (b"a]b", b'"a]b"', b"{3}\r\na]b", b"{3+}\r\na]b"):
            self.assertEqual(Cursor(text).astring(), b"a]b")
        self.assertEqual(Cursor(rb'"a\"\\b"').astring(), rb'a"\b')

    def test_no_string(self) -> None:
        """Open quotes, other escapes, short literals, NUL and line ends are faults."""
        for wrong in (
            b'"a',
            rb'"\n"',
            b"{4}\r\nabc",
            b"{2}\r\na\0",
            b'"a\rb"',
            b'"\0"',
            b"",
            b"{}",
        ):
            self.assertRaises(SyntaxFault, Cursor(wrong).astring)

    def test_dates(self) -> None:
        """A date-time keeps its zone; days that do not exist are faults."""
        self.assertEqual(Cursor(b'"17-Jul-1996 02:44:25 -0700"').date_time(), (837596665, -420))
        self.assertEqual(Cursor(b'" 1-Jan-1970 01:00:60 +0100"').date_time(), (59, 60))
        for wrong in (
            b'"31-Feb-1996 02:44:25 -0700"',
            b'"17-Jul-1996 25:44:25 -0700"',
            b'"17-Jul-1996 02:44:25 -9999"',
            b'"17-Xxx-1996 02:44:25 -0700"',
            b'"17-Jul-0000 02:44:25 +0000"',
            b"17-Jul-1996",
        ):
            self.assertRaises(SyntaxFault, Cursor(wrong).date_time)

    @BOUNDED
    @given(st.integers(-(2**40), 2**40), st.integers(-900, 900))
    def test_internal_dates_are_always_written(self, seconds: int, zone: int) -> None:
        """R-31: any number of seconds has a date; those with four-digit years read back."""
        text = responses.internal_date(seconds, zone)
        self.assertEqual(len(text), 28)
        if 0 <= seconds < 2**37:
            self.assertEqual(Cursor(text).date_time(), (seconds, zone))

    @BOUNDED
    @given(st.binary(max_size=40))
    def test_any_octets_can_be_written_as_a_string(self, data: bytes) -> None:
        """What is written as an astring reads the same, and never ends a line."""
        self.assertEqual(Cursor(responses.astring(data)).position, 0)
        written = responses.astring(data)
        if not written.startswith(b"{"):
            self.assertNotIn(b"\n", written)
            self.assertEqual(Cursor(written).astring(), data)
        else:
            self.assertEqual(written, b"{%d}\r\n%b" % (len(data), data))


WORDS = st.sampled_from(
    [
        *(entry.name for entry in COMMANDS.entries),
        b"(",
        b")",
        b" ",
        b"[",
        b"]",
        b"<",
        b">",
        b'"',
        b"\\",
        b"*",
        b"%",
        b"{3}\r\nabc",
        b"{9}\r\n",
        b"1:*",
        b"INBOX",
        b"RETURN",
        b"BODY.PEEK[",
        b"HEADER.FIELDS",
        b"OR",
        b"NOT",
        b"MODSEQ",
        b"\\Seen",
        b"(CHANGEDSINCE 5)",
        b"17-Jul-1996",
        b"NIL",
        b"\xff",
        b"\0",
    ]
)


class AnyOctetsTests(SynchronousTestCase):
    """R-43, R-06: whatever comes is a value or a fault of the grammar."""

    @settings(max_examples=200, deadline=None)
    @given(st.sampled_from(COMMANDS.entries), st.lists(st.one_of(WORDS, st.binary(max_size=5))))
    def test_arguments(self, entry: CommandEntry, pieces: list[bytes]) -> None:
        """Every parser takes any arguments without any other exception."""
        cursor = Cursor(b" " + b" ".join(pieces))
        try:
            command = entry.parse(cursor)
            if isinstance(command, commands.Search):
                search_keys.parse(command.keys, command.charset, resolve)
        except MailhostError:
            pass

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=60))
    def test_beginnings(self, data: bytes) -> None:
        """Tag and name of any octets are found or are a fault."""
        try:
            commands.split(data)
        except SyntaxFault:
            pass

    def test_long_arguments_are_read_in_one_pass(self) -> None:
        """Commands of the full length, made of what opens something; going back never ends."""
        filler = (
            b"(",
            b")",
            b'"',
            b"\\",
            b"a ",
            b"1,",
            b"1:",
            b"((",
            b'"\\"',
            b"BODY[",
            b"{1}\r\na ",
        )
        for entry in COMMANDS.entries:
            for piece in filler:
                cursor = Cursor(b" " + entry.name + b" " + piece * (60_000 // len(piece)))
                try:
                    command = entry.parse(cursor)
                    if isinstance(command, commands.Search):
                        search_keys.parse(command.keys, command.charset, resolve)
                except MailhostError:
                    pass
