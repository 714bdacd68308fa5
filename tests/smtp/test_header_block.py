"""The header on its way in."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.address import Address
from mailhost.errors import MailhostError, SyntaxFault
from mailhost.smtp.header_block import (
    FromFault,
    HeaderCollector,
    complete,
    has_too_many_hops,
    message_id,
)
from tests.wire.test_smtp_body import cut, places

ALICE = Address("alice", "example.org")


class HeaderCollectorTests(SynchronousTestCase):
    """Where the header ends."""

    @given(
        st.lists(st.sampled_from([b"a: b\r\n", b"\r\n", b" c\r\n", b"text"]), max_size=8),
        places,
    )
    @settings(max_examples=150, deadline=None)
    def test_divides_at_the_first_empty_line(self, parts: list[bytes], marks: list[int]) -> None:
        """Header and rest are the same at any cut that divides no CRLF."""
        data = b"".join(parts)
        pieces = cut(data, marks)
        # As from the body scanner, which never divides a CRLF.
        for index in range(len(pieces) - 1):
            if pieces[index].endswith(b"\r"):
                pieces[index + 1] = b"\r" + pieces[index + 1]
                pieces[index] = pieces[index][:-1]
        collector = HeaderCollector(1000)
        whole = None
        while pieces and whole is None:
            piece = pieces.pop(0)
            whole = collector.feed(piece) if piece else None
        header, rest = whole or collector.finish()
        rest += b"".join(pieces)
        self.assertEqual(header + rest, data)
        if data.startswith(b"\r\n"):
            self.assertEqual(header, b"")
        elif b"\r\n\r\n" in data:
            self.assertEqual(len(header), data.index(b"\r\n\r\n") + 2)
        else:
            self.assertEqual(rest, b"")

    def test_limit(self) -> None:
        """A header over the limit is a fault whether or not its end is there."""
        self.assertRaises(SyntaxFault, HeaderCollector(10).feed, b"a: 34567\r\n1\r\n\r\n")
        self.assertRaises(SyntaxFault, HeaderCollector(10).feed, b"a: 345678901")
        self.assertEqual(HeaderCollector(10).feed(b"a: 34567\r\n\r\n"), (b"a: 34567\r\n", b"\r\n"))

    def test_many_small_pieces_are_not_quadratic(self) -> None:
        """R-04: a header that comes octet by octet is kept in one buffer."""
        collector = HeaderCollector(1 << 18)
        for _ in range(1 << 17):
            self.assertIsNone(collector.feed(b"x"))
        self.assertEqual(len(collector.finish()[0]), 1 << 17)


class FieldTests(SynchronousTestCase):
    """What is read from a header."""

    def test_message_id(self) -> None:
        """First, later, folded, missing, long, with controls."""
        for header, expected in (
            (b"Message-ID: <a@b>\r\n", "<a@b>"),
            (b"A: b\r\nMESSAGE-Id:<a@b> \r\nB: c\r\n", "<a@b>"),
            (b"A: b\r\nMessage-ID:\r\n <a@b>\r\nB: c\r\n", "<a@b>"),
            (b"A: b\r\nX-Message-ID: c\r\n", ""),
            (b"A: Message-ID: c\r\n", ""),
            (b"", ""),
            (b"Message-ID: a\x1b[2Jb\xff\r\n", "a [2Jb\ufffd"),
            (b"Message-ID: " + b"x" * 999, "x" * 200),
        ):
            self.assertEqual(message_id(header), expected, header)

    def test_hops(self) -> None:
        """R-13: 50 Received fields pass, 51 do not; the word elsewhere does not count."""
        line = b"Received: from received by received\r\n"
        self.assertFalse(has_too_many_hops(line * 50, 50))
        self.assertTrue(has_too_many_hops(line * 51, 50))
        self.assertFalse(has_too_many_hops(b"X-Received: received\r\n" * 99, 50))

    def test_authors(self) -> None:
        """Every address of From counts, whatever stands around it; nonsense is a fault."""

        def authors(value: bytes) -> tuple[str, ...]:
            header = b"From: " + value + b"\r\n"
            found = complete(header, sender=ALICE, now=0, message_id="m").authors
            return tuple(map(str, found))

        self.assertEqual(authors(b"a@b.c"), ("a@b.c",))
        self.assertEqual(authors(b'"x, <y@z.z>" <a@b.c>, (c <d@e.f>) g@h.i'), ("a@b.c", "g@h.i"))
        self.assertEqual(authors(b"team: a@b.c, d@e.f;"), ("a@b.c", "d@e.f"))
        self.assertEqual(authors(b'\r\n "a b"@c.d'), ('"a b"@c.d',))
        for value in (
            b"",
            b"team:;",
            b"alice",
            b"a@",
            b"<>",
            b"a@b.c, nobody",
            b"\xff@b.c",
        ):
            self.assertRaises(FromFault, authors, value)

    @given(
        st.binary(max_size=120)
        | st.lists(
            st.sampled_from(
                [
                    b"From:",
                    b"a@b.c",
                    b"Bcc: x",
                    b"\r\n",
                    b" ",
                    b"Date: y",
                    b",",
                    b"<",
                    b">",
                    b'"',
                    b"(",
                    b":",
                    b";",
                    b"\n",
                    b"\0",
                ]
            ),
            max_size=20,
        ).map(b"".join)
    )
    @settings(max_examples=200, deadline=None)
    def test_any_octets_are_completed_or_refused(self, header: bytes) -> None:
        """Completing never fails otherwise, and what it adds is whole lines."""
        try:
            submitted = complete(header, sender=ALICE, now=1.8e9, message_id="m@h")
        except MailhostError:
            return
        self.assertTrue(submitted.authors)
        self.assertLessEqual(len(submitted.header), len(header))
        self.assertTrue(submitted.added == b"" or submitted.added.endswith(b"\r\n"))
