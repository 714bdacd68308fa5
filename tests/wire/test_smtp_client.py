"""The client's side of the SMTP wire."""

from __future__ import annotations

import itertools
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxFault
from mailhost.wire.smtp_client import DotStuffer, ServerReply, SMTPReplyReader

octets = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"a", b"\0", b"\r\n.\r\n", b"xyz"]),
    max_size=24,
).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return the data in pieces cut at those places, taken modulo its length."""
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


class SMTPReplyReaderTests(SynchronousTestCase):
    """Replies out of octets."""

    def test_one_line(self) -> None:
        """A line with a space after the code is a whole reply."""
        self.assertEqual(
            SMTPReplyReader().feed(b"250 2.1.0 Fine\r\n"), [ServerReply(250, "2.1.0", ("Fine",))]
        )

    def test_many_lines_in_many_pieces(self) -> None:
        """A reply of several lines is the same whatever the pieces are."""
        data = b"250-mx.example greets you\r\n250-SIZE 1000\r\n250-\r\n250 HELP\r\n354\r\n"
        reader = SMTPReplyReader()
        replies = [reply for at in range(len(data)) for reply in reader.feed(data[at : at + 1])]
        self.assertEqual(
            replies,
            [
                ServerReply(250, "", ("mx.example greets you", "SIZE 1000", "", "HELP")),
                ServerReply(354, "", ("",)),
            ],
        )
        self.assertFalse(reader.pending)

    def test_enhanced_status_is_taken_from_every_line(self) -> None:
        """The enhanced status stands once in the value, not in each text."""
        reply = SMTPReplyReader().feed(b"550-5.1.1 No such\r\n550-5.1.1\r\n550 5.1.10 user\r\n")[0]
        self.assertEqual((reply.enhanced, reply.lines), ("5.1.1", ("No such", "", "5.1.10 user")))
        self.assertEqual(str(reply), "550 5.1.1 No such  5.1.10 user")

    def test_enhanced_status_of_another_class_is_text(self) -> None:
        """A status that contradicts the reply code is not believed."""
        reply = SMTPReplyReader().feed(b"450 5.1.1 Hm\r\n")[0]
        self.assertEqual((reply.enhanced, reply.lines), ("", ("5.1.1 Hm",)))
        self.assertTrue(reply.temporary)
        self.assertFalse(reply.positive)

    def test_control_characters_do_not_get_out(self) -> None:
        """R-81: text of a peer cannot forge a log line or a terminal sequence."""
        reply = SMTPReplyReader().feed(b"550 a\rb\x1b[2Jc\x00\xc2\x85\xff\r\n")[0]
        self.assertEqual(reply.lines, ("a?b?[2Jc??\ufffd",))

    def test_garbage_is_a_fault(self) -> None:
        """What is no reply is refused, and the reader stays refused."""
        for garbage in (
            b"\r\n",
            b"hello\r\n",
            b"25 ok\r\n",
            b"2500 ok\r\n",
            b"150 x\r\n",
            b"650 x\r\n",
            b"250_x\r\n",
            b"250-a\r\n251 b\r\n",
            b"HTTP/1.1 400\r\n",
        ):
            reader = SMTPReplyReader()
            self.assertRaises(SyntaxFault, reader.feed, garbage)
            self.assertRaises(SyntaxFault, reader.feed, b"250 ok\r\n")

    def test_endless_line_is_a_fault(self) -> None:
        """A line above the limit fails whether or not its end has come."""
        self.assertRaises(SyntaxFault, SMTPReplyReader(max_line=20).feed, b"250 " + b"x" * 18)
        self.assertRaises(
            SyntaxFault, SMTPReplyReader(max_line=20).feed, b"250 %b\r\n" % (b"x" * 17)
        )
        exact = SMTPReplyReader(max_line=20).feed(b"250 %b\r\n" % (b"x" * 16))
        self.assertEqual(exact[0].lines, ("x" * 16,))

    def test_endless_reply_is_a_fault(self) -> None:
        """A reply has at most so many lines."""
        reader = SMTPReplyReader(max_lines=3)
        self.assertEqual(reader.feed(b"250-a\r\n250-b\r\n250-c\r\n"), [])
        self.assertRaises(SyntaxFault, reader.feed, b"250 d\r\n")

    def test_pending_tells_of_injected_octets(self) -> None:
        """R-15 as client: octets after the answer to STARTTLS do not stay unseen."""
        reader = SMTPReplyReader()
        self.assertEqual(len(reader.feed(b"220 go\r\n250 injected\r\n")), 2)
        reader.feed(b"220 go\r\n25")
        self.assertTrue(reader.pending)

    @given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
    @settings(max_examples=150, deadline=None)
    def test_any_octets_give_replies_or_a_fault(self, data: bytes, places: list[int]) -> None:
        """Cuts change nothing, and only SyntaxFault is raised."""

        def run(pieces: list[bytes]) -> tuple[list[ServerReply], bool]:
            reader = SMTPReplyReader(max_line=50)
            replies: list[ServerReply] = []
            for piece in pieces:
                try:
                    replies += reader.feed(piece)
                except SyntaxFault:
                    return replies, True
            return replies, False

        whole, fault = run([data])
        some, fault_in_pieces = run(cut(data, places))
        self.assertEqual(fault, fault_in_pieces)
        if not fault:
            self.assertEqual(whole, some)


def naive_stuffing(data: bytes) -> bytes:
    """Do it line by line, as the RFC says it."""
    lines = re.split(rb"\r\n|\r|\n", data)
    if lines[-1] == b"":
        lines.pop()
    return (
        b"".join((b"." if line[:1] == b"." else b"") + line + b"\r\n" for line in lines) + b".\r\n"
    )


class DotStufferTests(SynchronousTestCase):
    """Content on its way out."""

    def stuff(self, *chunks: bytes) -> bytes:
        """Return all that is sent for the chunks."""
        stuffer = DotStuffer()
        return b"".join([*map(stuffer.feed, chunks), stuffer.finish()])

    def test_dots_are_doubled_at_line_starts(self) -> None:
        """A dot at the start of the content or of a line gets a second one, no other."""
        self.assertEqual(self.stuff(b".a\r\n..\r\nb.\r\n"), b"..a\r\n...\r\nb.\r\n.\r\n")

    def test_dot_after_a_cut(self) -> None:
        """A line start is seen across chunks, also empty ones."""
        self.assertEqual(self.stuff(b"a\r", b"", b"\n", b"", b".\r\n"), b"a\r\n..\r\n.\r\n")

    def test_missing_last_line_end_is_added(self) -> None:
        """Content may end inside a line, or be empty."""
        self.assertEqual(self.stuff(b"a"), b"a\r\n.\r\n")
        self.assertEqual(self.stuff(b"a\r"), b"a\r\n.\r\n")
        self.assertEqual(self.stuff(b""), b".\r\n")

    def test_no_bare_line_end_goes_out(self) -> None:
        """R-02: no form of a false end of data survives."""
        for false_end in (b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n"):
            sent = self.stuff(b"a" + false_end + b"MAIL FROM:<x@y>\r\n")
            self.assertEqual(sent.count(b"\r\n.\r\n"), 1, false_end)
            self.assertIsNone(re.search(rb"\r(?!\n)|(?<!\r)\n", sent), false_end)

    @given(octets, st.lists(st.integers(0, 200), max_size=6))
    @settings(max_examples=200, deadline=None)
    def test_equals_the_naive_way_at_any_cut(self, data: bytes, places: list[int]) -> None:
        """Block-wise is the same as line by line."""
        self.assertEqual(self.stuff(*cut(data, places)), naive_stuffing(data))
