"""Message data: its end, its dots and its flaws."""

from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.wire.line_ends import Flaws
from mailhost.wire.smtp_body import BodyScanner, ChunkScanner

octets = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\0", b"\r\n.\r\n", b"text ", b"\r\n.."]
    ),
    max_size=24,
).map(b"".join)
places = st.lists(st.integers(0, 200), max_size=6)


def cut(data: bytes, marks: list[int]) -> list[bytes]:
    """Return the data in pieces cut at those places, taken modulo its length."""
    ends = sorted({0, len(data), *(mark % (len(data) + 1) for mark in marks)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def flaws_of(content: bytes) -> Flaws:
    """Say the flaws by look-around expressions over the whole."""
    flaws = Flaws.NONE
    if re.search(rb"\r(?!\n)", content):
        flaws |= Flaws.BARE_CR
    if re.search(rb"(?<!\r)\n", content):
        flaws |= Flaws.BARE_LF
    if b"\0" in content:
        flaws |= Flaws.NUL
    return flaws


def naive(data: bytes) -> tuple[bytes, bytes, Flaws] | None:
    """Return content, rest and flaws as the RFC words it, or None without an end of data."""
    lines = []
    position = 0
    while (end := data.find(b"\r\n", position)) >= 0:
        line = data[position:end]
        position = end + 2
        if line == b".":
            content = b"".join(line + b"\r\n" for line in lines)
            return content, data[position:], flaws_of(content)
        lines.append(line[1:] if line[:1] == b"." else line)
    return None


def scan(pieces: list[bytes], mend: bool = False) -> tuple[bytes, bytes | None, Flaws]:
    """Run the scanner over the pieces."""
    scanner = BodyScanner(mend)
    content = b""
    pieces = list(pieces)
    while pieces and scanner.rest is None:
        content += scanner.feed(pieces.pop(0))
    rest = None if scanner.rest is None else scanner.rest + b"".join(pieces)
    return content, rest, scanner.flaws


class BodyScannerTests(SynchronousTestCase):
    """DATA."""

    def test_plain(self) -> None:
        """Content ends before the dot line, the rest is what follows it."""
        self.assertEqual(scan([b"a\r\nb\r\n.\r\nQUIT"]), (b"a\r\nb\r\n", b"QUIT", Flaws.NONE))

    def test_empty(self) -> None:
        """The line end of DATA begins the end of an empty message (RFC 5321 4.1.1.4)."""
        self.assertEqual(scan([b".\r\n"]), (b"", b"", Flaws.NONE))

    def test_dots(self) -> None:
        """One dot at a line start is taken away, the first line included."""
        self.assertEqual(scan([b"..\r\n.a\r\nb.\r\n...\r\n.\r\n"])[0], b".\r\na\r\nb.\r\n..\r\n")

    def test_r01_only_crlf_dot_crlf_ends_data(self) -> None:
        """R-01: no other form is an end, and each is noted as a flaw."""
        for false_end, flaw in (
            (b"\n.\n", Flaws.BARE_LF),
            (b"\r.\r", Flaws.BARE_CR),
            (b"\n.\r\n", Flaws.BARE_LF),
            (b"\r\n.\n", Flaws.BARE_LF),
            (b"\r\n.\r", Flaws.BARE_CR),
            (b"\r\n\0.\r\n", Flaws.NUL),
            (b"\n\r\n.\n", Flaws.BARE_LF),
            (b"\r\r\n.\r\r\n", Flaws.BARE_CR),
        ):
            data = b"one" + false_end + b"MAIL FROM:<a@b>\r\n"
            for marks in ([], list(range(len(data)))):
                content, rest, flaws = scan(cut(data + b".\r\nNOOP", marks))
                self.assertEqual(rest, b"NOOP", false_end)
                self.assertEqual(flaws, flaw, false_end)
                self.assertIn(b"MAIL FROM", content)

    def test_mended_line_ends(self) -> None:
        """With `mend` every line end comes out as CRLF, and the flaw is noted all the same."""
        data = b"a\nb\rc\r\n.d\n.\n\r\n.\r\n"
        for marks in ([], list(range(len(data)))):
            self.assertEqual(
                scan(cut(data, marks), mend=True),
                (b"a\r\nb\r\nc\r\nd\r\n.\r\n\r\n", b"", Flaws.BARE_CR | Flaws.BARE_LF),
            )

    def test_r03_long_lines_are_content(self) -> None:
        """R-03: a line of a megabyte in message data is taken as it is."""
        line = b"x" * (1 << 20)
        self.assertEqual(scan([line, b"\r\n.\r\n"]), (line + b"\r\n", b"", Flaws.NONE))

    @given(octets, places)
    @settings(max_examples=200, deadline=None)
    def test_equals_the_naive_way_at_any_cut(self, data: bytes, marks: list[int]) -> None:
        """Content, rest and flaws are those of a line by line reading, whatever the cuts."""
        expected = naive(data)
        content, rest, flaws = scan(cut(data, marks))
        if expected is None:
            self.assertIsNone(rest)
            # What was returned is a beginning of what would be returned with an end.
            ended = naive(data + b"\r\n.\r\n")
            assert ended is not None
            self.assertTrue(ended[0].startswith(content))
        else:
            self.assertEqual((content, rest, flaws), expected)

    @given(octets, places)
    @settings(max_examples=100, deadline=None)
    def test_mending_leaves_no_flaw_but_nul(self, data: bytes, marks: list[int]) -> None:
        """What comes out with `mend` has CRLF only."""
        content, _, _ = scan(cut(data + b"\r\n.\r\n", marks), mend=True)
        self.assertIn(flaws_of(content), (Flaws.NONE, Flaws.NUL))


class ChunkScannerTests(SynchronousTestCase):
    """BDAT."""

    @given(octets, places, st.booleans())
    @settings(max_examples=150, deadline=None)
    def test_octets_and_flaws(self, data: bytes, marks: list[int], mend: bool) -> None:
        """Octets pass, dots and all; flaws are those of the whole."""
        scanner = ChunkScanner(mend)
        content = b"".join(map(scanner.feed, cut(data, marks))) + scanner.finish()
        self.assertEqual(scanner.flaws, flaws_of(data))
        if mend:
            self.assertIn(flaws_of(content), (Flaws.NONE, Flaws.NUL))
            expected = re.sub(rb"\r\n|\r|\n", b"\r\n", data)
            self.assertEqual(content, expected)
        else:
            self.assertEqual(content, data)
