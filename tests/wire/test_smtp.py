"""The receiver: lines, data, chunks, holding, and what it refuses to go on with."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.wire.line_ends import Flaws
from mailhost.wire.smtp import MAX_HELD, SMTPReceiver, StreamFault
from tests.wire.test_smtp_body import cut, places


class Recorder:
    """
    A sink that writes down its calls and reacts to a few verbs as a session would.

    With `late` it holds at each command and is released by `settle`.
    """

    def __init__(self, late: bool = False) -> None:
        self.calls: list[Any] = []
        self.late = late
        self.held = False
        self.paused = False
        self.receiver = SMTPReceiver(self)

    def record(self, *call: Any) -> None:
        if self.late:
            assert not self.held, "called while held"
            self.held = True
            self.receiver.hold()
        if call[0] == "data" and self.calls and self.calls[-1][0] == "data":
            self.calls[-1] = ("data", self.calls[-1][1] + call[1])
        else:
            self.calls.append(call)

    def settle(self) -> None:
        while self.held:
            self.held = False
            self.receiver.release()

    def command(self, verb: bytes, argument: bytes) -> None:
        self.record("command", verb, argument)
        if verb == b"DATA":
            self.receiver.start_data()
        elif verb == b"AUTH":
            self.receiver.start_auth()
        elif verb == b"BDAT":
            size, _, last = argument.partition(b" ")
            self.receiver.start_bdat(int(size), bool(last))
        elif verb == b"QUIT":
            self.receiver.close()

    def auth_line(self, line: bytes) -> None:
        self.record("auth", line)

    def data(self, chunk: bytes) -> None:
        assert chunk
        self.record("data", chunk)

    def end_of_data(self, flaws: Flaws) -> None:
        self.record("end", flaws)

    def end_of_chunk(self, last: bool, flaws: Flaws) -> None:
        self.record("chunk", last, flaws)

    def fault(self, fault: StreamFault) -> None:
        self.record("fault", fault)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


def run(pieces: list[bytes], late: bool = False) -> list[Any]:
    """Return the calls that the pieces make."""
    recorder = Recorder(late)
    for piece in pieces:
        recorder.receiver.feed(piece)
        if late and len(piece) % 2:
            recorder.settle()
    recorder.settle()
    return recorder.calls


def both(data: bytes) -> list[Any]:
    """Return the calls for the data, which must be the same whole and bytewise."""
    whole = run([data])
    assert whole == run([data[i : i + 1] for i in range(len(data))])
    assert whole == run([data], late=True)
    return whole


pieces_of_smtp = st.lists(
    st.sampled_from(
        [b"NOOP\r\n", b"mail FROM:<a@b>\r\n", b"DATA\r\n", b"text\r\n", b"\r\n.\r\n", b".\r\n",
         b"BDAT 3\r\n", b"BDAT 0 LAST\r\n", b"BDAT 2 LAST\r\n", b"AUTH PLAIN\r\n", b"\r", b"\n",
         b"\r\n", b"a", b"\0", b"\x16\x03", b"QUIT\r\n", b"x" * 990, b"AUTH " + b"y" * 1500]
    ),
    max_size=14,
).map(b"".join)  # fmt: skip


class SMTPReceiverTests(SynchronousTestCase):
    """What it calls for what it is fed."""

    def test_commands(self) -> None:
        """The verb comes in upper case, the argument as it is."""
        self.assertEqual(
            both(b"ehlo Me\r\nNOOP\r\n\r\nRCPT  x \r\n"),
            [
                ("command", b"EHLO", b"Me"),
                ("command", b"NOOP", b""),
                ("command", b"", b""),
                ("command", b"RCPT", b" x "),
            ],
        )

    def test_data_then_commands(self) -> None:
        """Commands go on behind the end of data."""
        self.assertEqual(
            both(b"DATA\r\na\r\n..b\r\n.\r\nNOOP\r\n"),
            [
                ("command", b"DATA", b""),
                ("data", b"a\r\n.b\r\n"),
                ("end", Flaws.NONE),
                ("command", b"NOOP", b""),
            ],
        )

    def test_chunks(self) -> None:
        """Chunks have their length, lines in them mean nothing, flaws go across them."""
        self.assertEqual(
            both(b"BDAT 9\r\nQUIT\r\n.\r\rBDAT 0\r\nBDAT 1 LAST\r\n\nNOOP\r\n"),
            [
                ("command", b"BDAT", b"9"),
                ("data", b"QUIT\r\n.\r"),
                ("chunk", False, Flaws.BARE_CR),
                ("command", b"BDAT", b"0"),
                ("chunk", False, Flaws.BARE_CR),
                ("command", b"BDAT", b"1 LAST"),
                ("data", b"\r\n"),
                ("chunk", True, Flaws.BARE_CR),
                ("command", b"NOOP", b""),
            ],
        )

    def test_cr_held_back_comes_with_an_empty_last_chunk(self) -> None:
        """A CR at the very end of all chunks is bare, and not lost."""
        self.assertEqual(
            both(b"BDAT 2\r\na\rBDAT 0 LAST\r\n")[2:],
            [
                ("chunk", False, Flaws.NONE),
                ("command", b"BDAT", b"0 LAST"),
                ("data", b"\r"),
                ("chunk", True, Flaws.BARE_CR),
            ],
        )

    def test_auth_line(self) -> None:
        """One line after start_auth is no command."""
        self.assertEqual(
            both(b"AUTH LOGIN\r\nQUIT\r\nQUIT\r\n"),
            [
                ("command", b"AUTH", b"LOGIN"),
                ("auth", b"QUIT"),
                ("command", b"QUIT", b""),
            ],
        )

    def test_r03_command_line_limit(self) -> None:
        """R-03: 998 octets are a line, 999 are a fault, and nothing after it is run."""
        line = b"NOOP " + b"x" * 993
        self.assertEqual(both(line + b"\r\n"), [("command", b"NOOP", b"x" * 993)])
        for end in (b"\r\nQUIT\r\n", b"x" * 20_000 + b"\r\nQUIT\r\n"):
            self.assertEqual(both(line + b"x" + end), [("fault", StreamFault.LINE_TOO_LONG)])

    def test_r04_octets_without_line_end(self) -> None:
        """R-04: without CRLF it is deaf after the limit and keeps nothing."""
        recorder = Recorder()
        for _ in range(400):
            recorder.receiver.feed(b"x" * 65536)
        self.assertEqual(recorder.calls, [("fault", StreamFault.LINE_TOO_LONG)])
        self.assertFalse(recorder.receiver.pending)

    def test_r34_auth_lines_may_be_longer(self) -> None:
        """R-34: AUTH and its responses have 12,288 octets, and no more."""
        command = b"AUTH X " + b"y" * (12288 - 7)
        self.assertEqual(both(command + b"\r\n" + b"z" * 12288 + b"\r\n")[1][0], "auth")
        fault = [("fault", StreamFault.AUTH_LINE_TOO_LONG)]
        self.assertEqual(both(command + b"y\r\nQUIT\r\n"), fault)
        self.assertEqual(both(b"AUTH\r\n" + b"z" * 12289 + b"\r\nQUIT\r\n")[1:], fault)

    def test_bare_lf_in_a_command(self) -> None:
        """A command that ends with LF alone is a fault at once, not a wait for CRLF."""
        for line in (b"NOOP\n", b"\n", b"NO\r \nQUIT\r\n"):
            self.assertEqual(both(line + b"QUIT\r\n"), [("fault", StreamFault.BARE_LF)])

    def test_r09_binary_octets(self) -> None:
        """R-09: a TLS ClientHello, 8-bit and controls in place of a command are a fault at once."""
        for octets in (b"\x16\x03\x01\x02\x00\x01", b"\xff\xfd\x18", b"\0"):
            self.assertEqual(both(octets), [("fault", StreamFault.BINARY)])

    def test_discard(self) -> None:
        """R-15: what was fed before TLS and not looked at is gone."""
        recorder = Recorder()
        recorder.receiver.hold()
        recorder.receiver.feed(b"RSET\r\nMAIL F")
        self.assertTrue(recorder.receiver.pending)
        recorder.receiver.discard()
        recorder.receiver.release()
        recorder.receiver.feed(b"EHLO x\r\n")
        self.assertEqual(recorder.calls, [("command", b"EHLO", b"x")])

    def test_hold_is_bounded(self) -> None:
        """While held octets are kept, and reading is stopped when they are many."""
        recorder = Recorder()
        recorder.receiver.hold()
        recorder.receiver.feed(b"NOOP\r\n" * (MAX_HELD // 6))
        self.assertFalse(recorder.paused)
        recorder.receiver.feed(b"NOOP\r\n")
        self.assertTrue(recorder.paused)
        recorder.receiver.release()
        self.assertFalse(recorder.paused)
        self.assertEqual(len(recorder.calls), MAX_HELD // 6 + 1)

    def test_hold_in_data_stops_the_end_too(self) -> None:
        """A late answer to a block of data keeps back the end of data behind it."""
        recorder = Recorder()
        recorder.receiver.feed(b"DATA\r\n")
        recorder.late = True
        recorder.receiver.feed(b"a\r\n.\r\nNOOP\r\n")
        self.assertEqual(recorder.calls[1:], [("data", b"a\r\n")])
        recorder.settle()
        self.assertEqual(recorder.calls[-1], ("command", b"NOOP", b""))

    def test_many_commands_in_one_piece(self) -> None:
        """Ten thousand pipelined commands are neither recursion nor copying."""
        self.assertEqual(len(run([b"NOOP\r\n" * 10_000])), 10_000)
        self.assertEqual(len(run([b"NOOP\r\n" * 10_000], late=True)), 10_000)

    @given(pieces_of_smtp, places)
    @settings(max_examples=200, deadline=None)
    def test_cuts_and_lateness_change_nothing(self, data: bytes, marks: list[int]) -> None:
        """The same octets make the same calls at any cut, with answers prompt or late."""
        whole = run([data])
        # Where data is still running its last octets may wait for more.
        self.assertEqual(run(cut(data, marks)), whole)
        self.assertEqual(run(cut(data, marks), late=True), whole)
