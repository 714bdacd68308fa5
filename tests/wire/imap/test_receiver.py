"""The receiver: lines, literals, holding, streaming and bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.wire.imap.receiver import MAX_LITERALS, IMAPReceiver


class Sink:
    """Notes what it is called with; decides about literals as told."""

    def __init__(self, decision: str = "collect", max_line: int = 100, room: int = 50) -> None:
        self.events: list[tuple[str, object]] = []
        self.decision = decision
        self.receiver = IMAPReceiver(self, max_line, room)

    def command(self, data: bytes) -> None:
        self.events.append(("command", data))

    def literal(self, head: bytearray, size: int, synchronizing: bool) -> None:
        self.events.append(("literal", (bytes(head), size, synchronizing)))
        decision = self.decision
        if decision == "collect" and size > self.receiver.room():
            decision = "refuse" if synchronizing else "skip"
        if decision != "wait":
            getattr(self.receiver, decision)()

    def literal_data(self, data: bytes) -> None:
        self.events.append(("data", data))

    def tail(self, data: bytes) -> None:
        self.events.append(("tail", data))

    def line(self, data: bytes) -> None:
        self.events.append(("line", data))

    def overflow(self, problem: str) -> None:
        self.events.append(("overflow", problem))

    def of(self, kind: str) -> list[object]:
        return [value for name, value in self.events if name == kind]


class ReceiverTests(SynchronousTestCase):
    """Framing without a session."""

    def test_commands_with_literals_are_whole(self) -> None:
        """Literals stand where they were, line ends and all."""
        sink = Sink()
        sink.receiver.feed(b"a LOGIN {3}\r\nx\r\n {2+}\r\n\r\n\r\nb NOOP\r\n")
        self.assertEqual(sink.of("command"), [b"a LOGIN {3}\r\nx\r\n {2+}\r\n\r\n", b"b NOOP"])
        self.assertEqual(sink.of("literal")[0], (b"a LOGIN {3}", 3, True))

    def test_holding_keeps_octets(self) -> None:
        """Nothing is handed over while held, everything afterwards, in order."""
        sink = Sink()
        sink.receiver.hold()
        sink.receiver.feed(b"a\r\nb\r\n")
        self.assertEqual((sink.events, sink.receiver.buffered), ([], 6))
        sink.receiver.release()
        self.assertEqual(sink.of("command"), [b"a", b"b"])

    def test_a_line_for_a_running_command(self) -> None:
        """One line is handed over as such, then the receiver holds."""
        sink = Sink()
        sink.receiver.hold()
        sink.receiver.feed(b"DONE {5}\r\nb NOOP\r\n")
        sink.receiver.expect_line()
        self.assertEqual(sink.events, [("line", b"DONE {5}")])
        sink.receiver.release()
        self.assertEqual(sink.of("command"), [b"b NOOP"])

    def test_streamed_literal(self) -> None:
        """The octets go through as they come; what follows is the tail."""
        sink = Sink("stream")
        sink.receiver.feed(b"a APPEND x {6}\r\nab")
        sink.receiver.feed(b"cdef")
        self.assertEqual(b"".join(map(bytes, sink.of("data"))), b"abcdef")  # type: ignore[arg-type]
        sink.receiver.feed(b" more\r\nb NOOP\r\n")
        self.assertEqual(sink.of("tail"), [b" more"])
        self.assertEqual(sink.of("command"), [b"b NOOP"])

    def test_skipped_literal(self) -> None:
        """It is read past with all further non-synchronizing literals of its command."""
        sink = Sink("skip")
        sink.receiver.feed(b"a X {3+}\r\na\r\n {2+}\r\n\r\n rest\r\nb NOOP\r\n")
        self.assertEqual(sink.of("command"), [b"b NOOP"])

    def test_refused_literal(self) -> None:
        """It is not sent: the next line is a command."""
        sink = Sink("refuse")
        sink.receiver.feed(b"a X {3}\r\nb NOOP\r\n")
        self.assertEqual(sink.of("command"), [b"b NOOP"])

    def test_a_decision_holds(self) -> None:
        """While the sink thinks about a literal nothing goes on."""
        sink = Sink("wait")
        sink.receiver.feed(b"a X {3+}\r\nabc\r\n")
        self.assertTrue(sink.receiver.held)
        sink.receiver.collect()
        self.assertEqual(sink.of("command"), [b"a X {3+}\r\nabc"])

    def test_discard_forgets(self) -> None:
        """R-15: what is buffered, a half command too, is gone."""
        sink = Sink()
        sink.receiver.feed(b"a X {3}\r\n")
        sink.receiver.hold()
        sink.receiver.feed(b"abc\r\nb NOOP\r\n")
        sink.receiver.discard()
        sink.receiver.release()
        sink.receiver.feed(b"c NOOP\r\n")
        self.assertEqual(sink.of("command"), [b"c NOOP"])

    def test_no_line_end_is_dropped_at_the_limit(self) -> None:
        """Octets without a line end end the session once they pass the limit; none is kept."""
        sink = Sink()
        for _ in range(10):
            sink.receiver.feed(b"x" * 50)
        self.assertEqual(sink.of("overflow"), ["line too long"])
        self.assertEqual(sink.receiver.buffered, 0)

    def test_the_limit_is_exact(self) -> None:
        """A line of the limit passes, one octet more does not, wherever it is cut."""
        for end in (b"\r\n", b"\n"):
            sink = Sink()
            sink.receiver.feed(b"x" * 100 + end)
            self.assertEqual(len(sink.of("command")), 1)
            for way in ([b"x" * 101 + end], [b"x" * 101, end]):
                sink = Sink()
                for piece in way:
                    sink.receiver.feed(piece)
                self.assertEqual(sink.of("overflow"), ["line too long"], way)

    def test_the_limit_counts_all_lines_of_a_command(self) -> None:
        """R-43: many short lines with empty literals are one long command."""
        sink = Sink()
        sink.receiver.feed(b"a X {0+}\r\n" * 30)
        self.assertEqual(sink.of("overflow"), ["command too long"])

    def test_number_and_size_of_literals_are_bounded(self) -> None:
        """R-43: a million literals, or one of 2^64 octets, cost nothing."""
        sink = Sink(max_line=10**6)
        sink.receiver.feed(b"a X" + b" {0+}\r\n" * (MAX_LITERALS + 5) + b"\r\nb NOOP\r\n")
        self.assertEqual(sink.of("command"), [b"b NOOP"])
        self.assertEqual(len(sink.of("literal")), MAX_LITERALS + 1)
        sink = Sink("skip", max_line=10**6)
        sink.receiver.feed(b"a X" + b" {0+}\r\n" * (2 * MAX_LITERALS))
        self.assertEqual(sink.of("overflow"), ["too many literals"])
        sink = Sink("refuse")
        sink.receiver.feed(b"a X {18446744073709551616}\r\nb NOOP\r\n")
        self.assertEqual(sink.of("command"), [b"b NOOP"])
        sink = Sink()
        sink.receiver.feed(b"a X {30+}\r\n" + b"x" * 30 + b" {30+}\r\n" + b"y" * 30 + b"\r\nb\r\n")
        self.assertEqual(sink.of("command"), [b"b"])

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [b"a X", b" ", b"{3}", b"{2+}", b"{0}", b"{99}", b"\r\n", b"\n", b"\r", b"zz"]
            ),
            max_size=25,
        ),
        st.sampled_from(["collect", "stream", "skip", "refuse"]),
        st.integers(1, 7),
    )
    def test_pieces_do_not_matter(self, words: list[bytes], decision: str, size: int) -> None:
        """However the octets are cut, the same is handed over, and no more is kept than fits."""
        data = b"".join(words)
        whole, cut = Sink(decision), Sink(decision)
        whole.receiver.feed(data)
        for start in range(0, len(data), size):
            cut.receiver.feed(data[start : start + size])
        joined = [
            [(kind, value) for kind, value in sink.events if kind != "data"]
            + [("data", b"".join(sink.of("data")))]  # type: ignore[list-item]
            for sink in (whole, cut)
        ]
        self.assertEqual(joined[0], joined[1])
        self.assertLessEqual(whole.receiver.buffered, 102)
