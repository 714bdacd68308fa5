"""Tests of `mailhost.wire.pop3`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.wire.pop3 import (
    MAX_AUTH_LINE,
    MAX_HELD,
    MAX_LINE,
    DotStuffer,
    POP3Receiver,
    StreamFault,
    TopCutter,
    multi_line,
)


class Recorder:
    """A sink that writes down what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.receiver = POP3Receiver(self)

    def command(self, verb: bytes, argument: bytes) -> None:
        self.calls.append(("command", verb, argument))
        if verb == b"HOLD":
            self.receiver.hold()
        elif verb == b"AUTH":
            self.receiver.start_auth()
        elif verb == b"STLS":
            self.receiver.discard()

    def auth_line(self, line: bytes) -> None:
        self.calls.append(("auth", line))

    def fault(self, fault: StreamFault) -> None:
        self.calls.append(("fault", fault))

    def pause(self) -> None:
        self.calls.append(("pause",))

    def resume(self) -> None:
        self.calls.append(("resume",))


class ReceiverTests(SynchronousTestCase):
    """Lines, holding, limits."""

    def test_lines(self) -> None:
        """Verb in upper case, argument as it is; LF alone ends a line too."""
        sink = Recorder()
        sink.receiver.feed(b"stat\r\nUSER a b \r\nNOOP\n\r\n")
        self.assertEqual(
            sink.calls,
            [
                ("command", b"STAT", b""),
                ("command", b"USER", b"a b "),
                ("command", b"NOOP", b""),
                ("command", b"", b""),
            ],
        )

    def test_hold_keeps_what_follows(self) -> None:
        """Held lines come after release, in order."""
        sink = Recorder()
        sink.receiver.feed(b"HOLD\r\nSTAT\r\nNO")
        self.assertEqual(sink.calls, [("command", b"HOLD", b"")])
        self.assertTrue(sink.receiver.pending)
        sink.receiver.release()
        sink.receiver.feed(b"OP\r\n")
        self.assertEqual(sink.calls[1:], [("command", b"STAT", b""), ("command", b"NOOP", b"")])
        self.assertFalse(sink.receiver.pending)

    def test_reading_stops_while_much_is_held(self) -> None:
        """Beyond the limit the sink is asked to stop reading, once, and to go on later."""
        sink = Recorder()
        sink.receiver.feed(b"HOLD\r\n")
        sink.receiver.feed(b"N\r\n" * (MAX_HELD // 3))
        self.assertNotIn(("pause",), sink.calls)
        sink.receiver.feed(b"N\r\n" * 2)
        sink.receiver.feed(b"N\r\n")
        self.assertEqual(sink.calls.count(("pause",)), 1)
        sink.receiver.release()
        self.assertEqual(sink.calls[-1], ("resume",))
        self.assertEqual(sink.calls.count(("command", b"N", b"")), MAX_HELD // 3 + 3)

    def test_discard_forgets_the_rest(self) -> None:
        """What stands behind STLS in the same piece is gone (R-15)."""
        sink = Recorder()
        sink.receiver.feed(b"STLS\r\nSTAT\r\nNO")
        sink.receiver.feed(b"OP\r\n")
        self.assertEqual(sink.calls, [("command", b"STLS", b""), ("command", b"OP", b"")])

    def test_limits_of_lines(self) -> None:
        """A command has 255 octets with CRLF, AUTH 12,288 without; then the receiver is deaf."""
        for line, whole in (
            (b"USER " + b"a" * (MAX_LINE - 5), True),
            (b"USER " + b"a" * (MAX_LINE - 4), False),
            (b"AUTH " + b"a" * (MAX_AUTH_LINE - 5), True),
            (b"auth " + b"a" * (MAX_AUTH_LINE - 4), False),
        ):
            sink = Recorder()
            sink.receiver.feed(line + b"\r\n")
            self.assertEqual(sink.calls[0][0], "command" if whole else "fault", line[:8])
        sink = Recorder()
        sink.receiver.feed(b"AUTH X\r\n" + b"a" * MAX_AUTH_LINE + b"\r\n")
        self.assertEqual(sink.calls[1], ("auth", b"a" * MAX_AUTH_LINE))

    def test_a_line_without_end(self) -> None:
        """Octets without a line end are dropped at the limit (R-04)."""
        sink = Recorder()
        sink.receiver.feed(b"x" * 100_000)
        sink.receiver.feed(b"\r\nSTAT\r\n")
        self.assertEqual(sink.calls, [("fault", StreamFault.LINE_TOO_LONG)])

    def test_binary(self) -> None:
        """A command that begins with a control or an 8-bit octet is none (R-09)."""
        for octet in (b"\x16", b"\0", b"\x80", b"\xff"):
            sink = Recorder()
            sink.receiver.feed(octet + b"STAT\r\nSTAT\r\n")
            self.assertEqual(sink.calls, [("fault", StreamFault.BINARY)])

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"STAT\r\n",
                    b"HOLD\r\n",
                    b"AUTH X\r\n",
                    b"x" * 130,
                    b"\r",
                    b"\n",
                    b" ",
                    b"\x01",
                    b"U",
                ]
            ),
            max_size=12,
        ).map(b"".join),
        st.data(),
    )
    def test_cuts_change_nothing(self, octets: bytes, data: st.DataObject) -> None:
        """The same octets make the same calls however they are cut."""
        whole, cut = Recorder(), Recorder()
        whole.receiver.feed(octets)
        position = 0
        while position < len(octets):
            length = data.draw(st.integers(1, len(octets) - position))
            cut.receiver.feed(octets[position : position + length])
            position += length
        for sink in (whole, cut):
            for _ in range(octets.count(b"HOLD")):
                sink.receiver.release()
        self.assertEqual(cut.calls, whole.calls)


BODIES = st.lists(st.sampled_from([b".", b"\r\n", b"a", b"..", b"\r\n\r\n", b"x: y"])).map(b"".join)


def unstuff(octets: bytes) -> bytes:
    assert octets.endswith(b".\r\n")
    lines = octets[:-3].split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


class DotStufferTests(SynchronousTestCase):
    """Multi-line responses (RFC 1939 3)."""

    @settings(max_examples=200, deadline=None)
    @given(BODIES, st.integers(1, 7))
    def test_a_client_gets_the_message_back(self, octets: bytes, block: int) -> None:
        """Unstuffing gives the octets, a missing last line end added; nothing ends it early."""
        stuffer = DotStuffer()
        stuffed = b"".join(
            stuffer.feed(octets[start : start + block]) for start in range(0, len(octets), block)
        )
        stuffed += stuffer.finish()
        ended = octets if not octets or octets.endswith(b"\r\n") else octets + b"\r\n"
        self.assertEqual(unstuff(stuffed), ended)
        self.assertEqual((b"\r\n" + stuffed).index(b"\r\n.\r\n"), len(stuffed) - 3)

    def test_multi_line(self) -> None:
        """A list ends with a dot, also when it is empty."""
        self.assertEqual(multi_line(b"+OK", []), b"+OK\r\n.\r\n")
        self.assertEqual(multi_line(b"+OK", [b"1", b"2"]), b"+OK\r\n1\r\n2\r\n.\r\n")


class TopCutterTests(SynchronousTestCase):
    """TOP (RFC 1939 7)."""

    @settings(max_examples=200, deadline=None)
    @given(BODIES, st.integers(0, 4), st.integers(1, 7))
    def test_header_and_lines(self, octets: bytes, lines: int, block: int) -> None:
        """The result is the header, its empty line and that many lines, however it is cut."""
        header, empty, body = (b"\r\n" + octets).partition(b"\r\n\r\n")
        kept = (header + empty)[2:] + b"".join(body.splitlines(keepends=True)[:lines])
        cutter = TopCutter(lines)
        out = b"".join(
            cutter.feed(octets[start : start + block]) for start in range(0, len(octets), block)
        )
        self.assertEqual(out, kept)

    def test_done_stops_the_reading(self) -> None:
        """When all that is wanted is there the rest need not be read."""
        cutter = TopCutter(1)
        self.assertEqual(cutter.feed(b"A: b\r\n\r\n1\r\n2"), b"A: b\r\n\r\n1\r\n")
        self.assertTrue(cutter.done)
        self.assertEqual(cutter.feed(b"more"), b"")
