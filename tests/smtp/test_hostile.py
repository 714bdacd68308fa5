"""Octets from anyone, in any order: no traceback, no second message, bounded memory."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.smtp.session import COMMANDS
from tests.smtp.peer import SMTPPeer
from tests.wire.test_smtp_body import cut, places

WORDS = [
    b"EHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<a@b.example>\r\n", b"MAIL FROM:<>\r\n",
    b"RCPT TO:<bob@example.org>\r\n", b"RCPT TO:<nobody@example.org>\r\n", b"DATA\r\n",
    b"BDAT 3\r\n", b"BDAT 4 LAST\r\n", b"BDAT 0 LAST\r\n", b"BDAT x\r\n", b"RSET\r\n", b"NOOP\r\n",
    b"QUIT\r\n", b"STARTTLS\r\n", b"AUTH PLAIN\r\n", b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n",
    b"AUTH LOGIN YWxpY2U=\r\n", b"c2VjcmV0\r\n", b"*\r\n", b"VRFY x\r\n", b"HELP\r\n", b"\r\n",
    b"From: alice@example.org\r\n", b"\r\n.\r\n", b".\r\n", b"\n", b"\r", b"\0", b"\xff",
    b"x" * 1001,
]  # fmt: skip
MODES = [
    {"error_delay": "0"},
    {"error_delay": "0", "mode": "submission"},
    {"error_delay": "0", "mode": "local", "cleartext_login": "yes", "max_size": "30"},
]


class HostileTests(SynchronousTestCase):
    """R-06 and fuzzing."""

    def play(self, options: dict[str, str], pieces: list[bytes], late: bool) -> SMTPPeer:
        """Feed the pieces, with handshakes where they are asked for."""
        peer = SMTPPeer(options, late)
        for piece in pieces:
            peer.feed(piece)
            if len(piece) % 3 or not late:
                peer.settle()
            peer.start_tls()
        peer.settle()
        peer.lose()
        peer.settle()
        return peer

    def check(self, peer: SMTPPeer) -> None:
        """Say what must be true after anything."""
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(peer.authenticator.open, 0)
        self.assertEqual(peer.limits.open, 0)
        self.assertEqual(peer.clock.getDelayedCalls(), [])
        for writer in peer.spool.writers:
            self.assertTrue(writer.committed or writer.aborted)
        output = peer.take_output()
        for line in output.split(b"\r\n")[:-1]:
            self.assertRegex(line, rb"\A[2-5][0-9][0-9][ -][ -~]*\Z")
        self.assertNotIn(b"4.3.0", output)

    @given(
        st.sampled_from(MODES),
        st.lists(st.sampled_from(WORDS) | st.binary(max_size=20), max_size=25),
        places,
        st.booleans(),
    )
    @settings(max_examples=200, deadline=None)
    def test_any_octets(
        self, options: dict[str, str], words: list[bytes], marks: list[int], late: bool
    ) -> None:
        """Nothing that is sent makes an error of ours, or leaves anything behind."""
        self.check(self.play(options, cut(b"".join(words), marks), late))

    def test_r06_every_command_in_every_state(self) -> None:
        """R-06: each verb with each argument after each beginning: a reply, never an error."""
        beginnings: list[tuple[bytes, ...]] = [
            (),
            (b"EHLO c",),
            (b"EHLO c", b"MAIL FROM:<>"),
            (b"EHLO c", b"MAIL FROM:<>", b"RCPT TO:<bob@example.org>"),
            (b"EHLO c", b"MAIL FROM:<>", b"RCPT TO:<bob@example.org>", b"BDAT 0"),
        ]
        arguments = (b"", b" ", b" x", b" \xff\xfe", b" a\0b", b" " + b"<" * 900, b" FROM:<a@b.c>",
                     b" TO:<bob@example.org>", b" PLAIN", b" 0", b" 0 LAST")  # fmt: skip
        for options in MODES:
            for beginning in beginnings:
                for verb in COMMANDS:
                    for argument in arguments:
                        peer = SMTPPeer(options)
                        peer.say(*beginning)
                        answer = peer.say(verb + argument)
                        self.assertRegex(answer, rb"\A([2-5][0-9]{2}[^\r]*\r\n)+\Z")
                        peer.lose()
                        self.check(peer)

    def test_r06_two_megabytes_of_argument(self) -> None:
        """R-06: every command with an endless argument is dropped at the limit."""
        for verb in COMMANDS:
            peer = SMTPPeer()
            peer.take_output()
            peer.feed(verb + b" ")
            for _ in range(32):
                peer.feed(b"x" * 65536)
            self.assertRegex(peer.take_output(), rb"\A500 5\.5\.[26] [^\r]*\r\n\Z")
            self.assertTrue(peer.closed)

    def test_r01_second_message_never_appears(self) -> None:
        """R-01: one end of data is one message or none, for every mixture of line ends."""
        chance = random.Random(5321)
        pieces = [b"\r", b"\n", b".", b"\r\n", b"a", b"\0", b"MAIL FROM:<evil@b.example>", b"DATA"]
        for _ in range(150):
            data = b"".join(chance.choices(pieces, k=12))
            data = data.replace(b"\r\n.\r\n", b"")
            if data.startswith(b".\r\n") or data.endswith((b"\r\n.", b"\r\n.\r")) or data == b".":
                continue
            peer = SMTPPeer({"hard_errors": "1000", "error_delay": "0"})
            peer.say(b"HELO c", b"MAIL FROM:<>", b"RCPT TO:<bob@example.org>", b"DATA")
            answer = peer.say(data + b"\r\n.")
            self.assertEqual(answer.count(b"\r\n"), 1, data)
            self.assertEqual(len(peer.spool.writers), 1)
            self.assertLessEqual(len(peer.spool.messages), 1)
