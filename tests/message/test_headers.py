"""Tests of `mailhost.message.headers` and `mailhost.message.charsets`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.message import charsets
from mailhost.message.headers import (
    MAX_FIELDS,
    Header,
    decode_text,
    field_selector,
    fold,
    header_end,
    select_fields,
)

BLOCK = (
    b"From: a@example.org\r\n"
    b"junk without colon\r\n"
    b"Subject : spaced\r\n"
    b"To: one,\r\n two,\r\n\tthree\r\n"
    b"from: second@example.org\r\n"
    b"\r\n"
)


class HeaderTests(SynchronousTestCase):
    """Fields of a block."""

    def test_fields_in_order(self) -> None:
        """Names are lower-cased, lines that are no field passed over."""
        header = Header(BLOCK + b"Body: x\r\n")
        self.assertEqual(
            [field[0] for field in header.fields], [b"from", b"subject", b"to", b"from"]
        )
        self.assertEqual(
            b"".join(BLOCK[field[1] : field[3]] for field in header.fields),
            BLOCK.replace(b"junk without colon\r\n", b"")[:-2],
        )

    def test_first_and_all(self) -> None:
        """The first field counts; all can be had; values are unfolded."""
        header = Header(BLOCK)
        self.assertEqual(header.first(b"from"), b"a@example.org")
        self.assertEqual(header.all(b"from"), [b"a@example.org", b"second@example.org"])
        self.assertEqual(header.first(b"to"), b"one, two,\tthree")
        self.assertEqual(header.first(b"subject"), b"spaced")
        self.assertIsNone(header.first(b"cc"))
        self.assertEqual(header.all(b"cc"), [])

    def test_header_end(self) -> None:
        """The first empty line ends the header, whatever its line end."""
        for octets, end in {
            b"": 0,
            b"\r\nx": 2,
            b"\nx": 1,
            b"A: b\r\n\r\nx\n\n": 8,
            b"A: b\n\nx\r\n\r\n": 6,
            b"A: b\r\n": 6,
            b"A: b\r\n\nx": 7,
        }.items():
            self.assertEqual(header_end(octets), end, octets)

    def test_select_fields(self) -> None:
        """HEADER.FIELDS keeps octets, order and the empty line; NOT keeps the others."""
        self.assertEqual(
            select_fields(BLOCK, {b"to", b"subject", b"x"}),
            b"Subject : spaced\r\nTo: one,\r\n two,\r\n\tthree\r\n\r\n",
        )
        self.assertEqual(
            select_fields(BLOCK, {b"from", b"to"}, exclude=True), b"Subject : spaced\r\n\r\n"
        )
        self.assertEqual(select_fields(BLOCK, {b"none"}), b"\r\n")
        self.assertEqual(select_fields(b"To: x", {b"to"}), b"To: x\r\n\r\n")

    def test_field_selector(self) -> None:
        """A selector finds in a block of fields what `select_fields` finds."""
        for block in (BLOCK, b"\r\n", b"To: x\r\nto: y\r\n\r\n", b"From: a\r\n to: b\r\n\r\n"):
            for names in ({b"to", b"subject"}, {b"from"}, {b"none", b"x-a.b"}):
                select = field_selector(frozenset(names))
                self.assertEqual(select(block), select_fields(block, names))

    def test_a_million_fields(self) -> None:
        """Only so many fields are looked at, in little time (R-26)."""
        header = Header(b"a: b\n" * 1_000_000)
        self.assertEqual(len(header.fields), MAX_FIELDS)
        Header(b"x" * 20_000_000)
        Header(b"a:\r\n" + b" \r\n" * 5_000_000)


class EncodedWordTests(SynchronousTestCase):
    """RFC 2047."""

    def test_examples_of_the_rfc(self) -> None:
        """The display column of RFC 2047 8."""
        for encoded, shown in {
            b"=?ISO-8859-1?Q?a?=": "a",
            b"=?ISO-8859-1?Q?a?= b": "a b",
            b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=": "ab",
            b"=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=": "ab",
            b"=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=": "ab",
            b"=?ISO-8859-1?Q?a_b?=": "a b",
            b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=": "a b",
            b"=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>": "Keith Moore <moore@cs.utk.edu>",
            b"=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?=": "Keld Jørn Simonsen",
            b"=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n"
            b" =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=": (
                "If you can read this you understand the example."
            ),
        }.items():
            self.assertEqual(decode_text(encoded), shown, encoded)

    def test_a_character_split_between_words(self) -> None:
        """Octets of adjacent words are joined before decoding (R-28)."""
        self.assertEqual(decode_text(b"=?utf-8?q?=C3?= =?UTF-8?q?=A4?="), "ä")
        self.assertEqual(decode_text(b"=?utf-8?b?w6Q?= =?utf-8?b?w7Y=?="), "äö")

    def test_codecs_that_are_no_charsets(self) -> None:
        """UTF-7, rot13, zip, idna and unknown names leave the word as it is (R-28)."""
        for name in (
            b"utf-7",
            b"rot13",
            b"rot_13",
            b"zip",
            b"zlib",
            b"hex",
            b"idna",
            b"punycode",
            b"unicode_escape",
            b"raw_unicode_escape",
            b"mbcs",
            b"x-unknown",
            b"base64",
        ):
            word = b"=?" + name + b"?Q?+AGE-abc?="
            self.assertEqual(decode_text(word), word.decode())

    def test_raw_octets(self) -> None:
        """Octets beyond ASCII are UTF-8 if they can be, else windows-1252."""
        self.assertEqual(decode_text("grün".encode()), "grün")
        self.assertEqual(decode_text("grün".encode("latin-1")), "grün")

    def test_no_line_breaks_come_out(self) -> None:
        """An encoded line end becomes a space (R-33)."""
        self.assertEqual(decode_text(b"=?utf-8?q?a=0D=0ABcc:_x=00?="), "a Bcc: x ")
        self.assertEqual(decode_text(b"=?utf-8?q?a=E2=80=A8b?="), "a b")

    def test_a_megabyte_of_words(self) -> None:
        """Work and result are bounded (R-28)."""
        for text in (
            b"=?utf-8?q?=C3?= " * 70_000,
            b"=?" * 500_000,
            b"=?a?b?" * 170_000,
            b"=?utf-8?b?" + b"A" * 1_000_000 + b"?=",
        ):
            self.assertLessEqual(len(decode_text(text)), 70_000)

    @settings(max_examples=200, deadline=None)
    @given(
        st.binary(max_size=60)
        | st.lists(
            st.sampled_from(
                [
                    b"=?",
                    b"?=",
                    b"utf-8",
                    b"?q?",
                    b"?b?",
                    b"=C3",
                    b"AA",
                    b"iso-2022-jp",
                    b"hz",
                    b" ",
                    b"~{",
                ]
            )
        ).map(b"".join)
    )
    def test_any_octets_give_one_line(self, octets: bytes) -> None:
        """Nothing raises, and the result can be encoded and has no controls."""
        text = decode_text(octets)
        text.encode("utf-8")
        self.assertEqual(len(text.splitlines() or [""]), 1)

    def test_every_listed_charset_is_a_text_codec(self) -> None:
        """Each name of the list decodes any octets to text."""
        for name in charsets._CODECS:
            self.assertIsInstance(charsets.decode(bytes(range(256)), name.upper()), str)


class FoldTests(SynchronousTestCase):
    """The form for searching."""

    def test_case_and_form_do_not_count(self) -> None:
        """Case, compatibility forms and composition are one."""
        self.assertEqual(fold("STRASSE"), fold("straße"))
        self.assertEqual(fold("A\u0308RGER"), fold("ärger"))
        self.assertEqual(fold("ﬁne"), "fine")

    def test_white_space_is_one_space(self) -> None:
        """A phrase is found across line breaks, and a key keeps its outer spaces."""
        self.assertEqual(fold("a \r\n\tb\u00a0c"), "a b c")
        self.assertEqual(fold(" a\n"), " a ")
        self.assertEqual(fold("  "), " ")
        self.assertEqual(fold(""), "")

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=30), st.text(max_size=10), st.text(max_size=10))
    def test_ascii_substrings_are_kept(self, middle: str, before: str, after: str) -> None:
        """What is a substring before folding is one after, for plain words."""
        word = "".join(c for c in middle if c.isascii() and c.isalnum())
        self.assertIn(fold(word), fold(f"{before} {word} {after}"))
