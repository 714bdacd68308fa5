"""Connections: what goes over them together, what is discarded, and when they end."""

from __future__ import annotations

from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.errors import SpoolFault, SpoolFull
from mailhost.wire.smtp import MAX_HELD
from tests.fakes import FakeTransport
from tests.smtp.peer import SMTPPeer

ENVELOPE = (b"HELO c", b"MAIL FROM:<a@client.example>", b"RCPT TO:<bob@example.org>")


class ConnectionTests(SynchronousTestCase):
    """One connection."""

    def test_interfaces(self) -> None:
        """It is what Twisted calls it as."""
        protocol = SMTPPeer().protocol
        verifyObject(IHandshakeListener, protocol)
        verifyObject(IPushProducer, protocol)

    def test_one_write_for_replies_to_one_piece(self) -> None:
        """Replies to pipelined commands leave in one write."""
        peer = SMTPPeer()
        before = peer.transport.writes
        peer.say(*ENVELOPE, b"DATA")
        self.assertEqual(peer.transport.writes, before + 1)

    def test_r15_plaintext_behind_starttls(self) -> None:
        """R-15: commands pipelined behind STARTTLS close the connection and are never run."""
        peer = SMTPPeer()
        peer.say(b"EHLO c")
        answer = peer.say(b"STARTTLS", b"EHLO evil", b"MAIL FROM:<evil@client.example>")
        self.assertEqual(answer, b"503 5.5.1 Wait for the answer to that command\r\n")
        self.assertTrue(peer.closed)
        self.assertFalse(peer.start_tls())

    def test_r15_part_of_a_command_behind_starttls(self) -> None:
        """R-15: not even the beginning of a line survives into TLS."""
        peer = SMTPPeer()
        peer.say(b"EHLO c")
        peer.feed(b"STARTTLS\r\nEHL")
        self.assertTrue(peer.closed)
        self.assertEqual(peer.transport.tls_contexts, [])

    def test_r05_pipelining_behind_data_and_auth(self) -> None:
        """R-05: octets behind DATA or AUTH that came before the answer end the session."""
        peer = SMTPPeer()
        answer = peer.say(*ENVELOPE, b"DATA", b"text", b".", b"MAIL FROM:<evil@client.example>")
        self.assertTrue(answer.endswith(b"\r\n503 5.5.1 Wait for the answer to that command\r\n"))
        self.assertTrue(peer.closed)
        self.assertEqual(peer.spool.messages, [])
        for lines in (
            (b"AUTH PLAIN AGFsaWNlAHNlY3JldA==", b"AUTH PLAIN AGFsaWNlAHNlY3JldA=="),
            (b"AUTH LOGIN", b"YWxpY2U="),
        ):
            peer = SMTPPeer({"mode": "local", "cleartext_login": "yes"})
            peer.say(b"HELO c")
            self.assertIn(b"503 5.5.1 Wait", peer.say(*lines))
            self.assertTrue(peer.closed)
            self.assertEqual(peer.authenticator.open, 0)

    def test_r34_pipelining_behind_an_auth_response(self) -> None:
        """R-34: a command behind a response within AUTH is not taken for the next response."""
        peer = SMTPPeer({"mode": "local", "cleartext_login": "yes"})
        peer.say(b"HELO c", b"AUTH LOGIN")
        self.assertIn(b"503 5.5.1 Wait", peer.say(b"YWxpY2U=", b"c2VjcmV0"))
        self.assertTrue(peer.closed)
        peer.lose()
        self.assertEqual((peer.authenticator.cancelled, peer.authenticator.open), (1, 0))

    def test_input_is_bounded_while_an_answer_is_late(self) -> None:
        """Reading stops when much has piled up behind a late answer, and goes on after it."""
        peer = SMTPPeer({"junk_commands": "99999"}, late=True)
        peer.say(b"HELO c", b"MAIL FROM:<>")
        peer.feed(b"RCPT TO:<bob@example.org>\r\n")
        peer.feed(b"NOOP\r\n" * (MAX_HELD // 6 + 1))
        self.assertEqual(peer.transport.producerState, "paused")
        peer.settle()
        self.assertEqual(peer.transport.producerState, "producing")

    def test_reading_stops_while_the_peer_does_not_read(self) -> None:
        """What the transport cannot get rid of stops the input, apart from other reasons."""
        peer = SMTPPeer({"junk_commands": "99999"}, late=True)
        peer.say(b"HELO c", b"MAIL FROM:<>")
        peer.protocol.pauseProducing()
        peer.feed(b"RCPT TO:<bob@example.org>\r\n" + b"NOOP\r\n" * 12000)
        peer.settle()
        self.assertEqual(peer.transport.producerState, "paused")
        peer.protocol.resumeProducing()
        self.assertEqual(peer.transport.producerState, "producing")

    def test_data_waits_for_the_spool(self) -> None:
        """While the spool asks for patience it is given nothing, and octets are kept."""
        peer = SMTPPeer(late=True)
        peer.say(*ENVELOPE, b"DATA")
        peer.feed(b"A: 1\r\n\r\nfirst")
        writer = peer.spool.writers[0]
        peer.feed(b" second\r\n")
        peer.feed(b" third\r\n.\r\n")
        self.assertEqual(writer.chunks, [b"A: 1\r\n\r\nfirst"])
        peer.settle()
        self.assertEqual(peer.spool.messages[0][2], b"A: 1\r\n\r\nfirst second\r\n third\r\n")

    def test_250_only_after_the_commit(self) -> None:
        """P1: nothing is said before the commit fired."""
        peer = SMTPPeer(late=True)
        peer.say(*ENVELOPE, b"DATA")
        peer.feed(b"x\r\n.\r\n")
        while peer.later.waiting:
            self.assertEqual(peer.take_output(), b"")
            self.assertEqual(peer.spool.messages, [])
            peer.later.waiting.pop(0)()
        self.assertIn(b"250 2.0.0 Queued as ", peer.take_output())
        self.assertEqual(len(peer.spool.messages), 1)

    def test_spool_failures_are_temporary(self) -> None:
        """No room is 452, anything else 451, whether content or commit fails."""
        bug = RuntimeError("secret of the inside")
        for late in (False, True):
            for name in ("write_error", "commit_error"):
                for error, code in (
                    (SpoolFull(), b"452 4.3.1"),
                    (SpoolFault(), b"451 4.3.0"),
                    (bug, b"451 4.3.0"),
                ):
                    peer = SMTPPeer(late=late)
                    setattr(peer.spool, name, error)
                    peer.say(*ENVELOPE, b"DATA")
                    answer = peer.say(b"a: b", b"", b"x", b".", b"NOOP")
                    self.assertTrue(answer.startswith(code), (name, error, answer))
                    self.assertTrue(answer.endswith(b"250 2.0.0 OK\r\n"))
                    self.assertNotIn(b"secret", answer)
                    self.assertEqual(peer.spool.messages, [])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 4)

    def test_bug_is_451_and_shows_nothing(self) -> None:
        """Our own fault is temporary, logged, and the session lives."""
        peer = SMTPPeer()
        peer.say(b"HELO c", b"MAIL FROM:<>")
        answer = peer.say(b"RCPT TO:<bug@example.org>", b"RCPT TO:<bob@example.org>")
        self.assertEqual(
            answer,
            b"451 4.3.0 Something failed here, try again later\r\n250 2.1.5 Recipient accepted\r\n",
        )
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_lost_connection_gives_up_everything(self) -> None:
        """A client that vanishes within its data leaves nothing behind."""
        for late in (False, True):
            peer = SMTPPeer(late=late)
            peer.say(*ENVELOPE, b"DATA")
            peer.feed(b"A: 1\r\n\r\nx")
            peer.lose()
            peer.settle()
            self.assertTrue(peer.spool.writers[0].aborted)
            self.assertEqual(peer.spool.messages, [])
            self.assertEqual(peer.limits.open, 0)
            self.assertEqual(peer.factory.connections, set())
            self.assertEqual(peer.clock.getDelayedCalls(), [])

    def test_lost_connection_does_not_undo_a_commit(self) -> None:
        """What is being committed is kept, and said to the log."""
        peer = SMTPPeer(late=True)
        peer.say(*ENVELOPE, b"DATA")
        peer.feed(b"x\r\n.\r\n")
        peer.later.waiting.pop(0)()
        peer.lose()
        peer.settle()
        self.assertEqual(len(peer.spool.messages), 1)

    def test_lost_connection_with_a_late_recipient(self) -> None:
        """An answer that is waited for is cancelled without noise."""
        peer = SMTPPeer(late=True)
        peer.say(b"HELO c", b"MAIL FROM:<>")
        peer.feed(b"RCPT TO:<bob@example.org>\r\n")
        peer.lose()
        peer.settle()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_who_looks_for_addresses_is_let_go(self) -> None:
        """R-12: one good recipient does not make hundreds of wrong ones free; many good ones do."""
        peer = SMTPPeer({"error_delay": "0"})
        peer.say(b"EHLO c", b"MAIL FROM:<>", b"RCPT TO:<bob@example.org>")
        said = peer.say(*(f"RCPT TO:<name{n}@elsewhere.example>" for n in range(200)))
        self.assertEqual(said.count(b"550 "), 30)
        self.assertTrue(said.endswith(b"421 4.7.0 Too many failed commands\r\n"))
        self.assertTrue(peer.closed)

    def test_lost_connection_with_a_delayed_error(self) -> None:
        """An answer that is kept back is forgotten."""
        peer = SMTPPeer({"soft_errors": "0"})
        peer.feed(b"X\r\n")
        peer.lose()
        self.assertEqual(peer.clock.getDelayedCalls(), [])

    def test_login_decided_after_the_connection_is_gone(self) -> None:
        """The avatar is given back."""
        peer = SMTPPeer({"mode": "local", "cleartext_login": "yes"}, late=True)
        peer.say(b"HELO c")
        peer.feed(b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n")
        peer.lose()
        peer.settle()
        self.assertEqual(peer.authenticator.open, 0)

    def test_logout_at_the_end(self) -> None:
        """An avatar is given back once, at the end or when TLS begins anew."""
        peer = SMTPPeer({"mode": "local", "cleartext_login": "yes"})
        peer.say(b"HELO c", b"AUTH PLAIN AGFsaWNlAHNlY3JldA==")
        self.assertEqual(peer.authenticator.open, 1)
        peer.say(b"STARTTLS")
        self.assertEqual(peer.authenticator.open, 0)
        peer.lose()
        self.assertEqual(peer.authenticator.open, 0)

    def test_connection_limit(self) -> None:
        """More connections of one client than allowed are turned away with 421, then closed."""
        peer = SMTPPeer()
        for _ in range(4):
            self.assertTrue(peer.limits.admit("192.168.1.1"))
        transport = FakeTransport()
        protocol = peer.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        self.assertEqual(transport.value(), b"421 4.7.0 Too many connections, try later\r\n")
        self.assertTrue(transport.disconnecting)
        protocol.dataReceived(b"EHLO x\r\n")
        peer.advance(31)
        self.assertTrue(transport.aborted)
        self.assertEqual(peer.limits.open, 5)

    def test_handshake_that_stalls(self) -> None:
        """R-19: a TLS handshake has 30 seconds."""
        peer = SMTPPeer()
        peer.say(b"EHLO c", b"STARTTLS")
        peer.advance(29)
        self.assertFalse(peer.closed)
        peer.advance(2)
        self.assertTrue(peer.transport.aborted)

    def test_peer_that_does_not_take_last_words(self) -> None:
        """Half a minute after the end a connection that is still there is dropped."""
        peer = SMTPPeer()
        peer.say(b"QUIT")
        self.assertFalse(peer.transport.aborted)
        peer.advance(31)
        self.assertTrue(peer.transport.aborted)

    def test_data_rate_that_is_enough(self) -> None:
        """500 octets a second are fast enough for ever, whatever the chunks are."""
        peer = SMTPPeer()
        peer.say(*ENVELOPE, b"DATA")
        for _ in range(40):
            peer.feed(b"x" * 5100)
            peer.advance(10)
        self.assertFalse(peer.closed)

    def test_shutdown(self) -> None:
        """421 at once where nothing is owed, after the commit where something is."""
        idle, busy = SMTPPeer(), SMTPPeer(late=True)
        idle.take_output()
        idle.factory.shut_down()
        self.assertEqual(idle.take_output(), b"421 4.3.2 The server stops, try again later\r\n")
        self.assertTrue(idle.closed)
        busy.say(*ENVELOPE, b"DATA")
        busy.feed(b"x\r\n.\r\n")
        busy.later.waiting.pop(0)()
        busy.factory.shut_down()
        self.assertFalse(busy.closed)
        busy.settle()
        self.assertRegex(
            busy.take_output(), rb"\A250 2\.0\.0 Queued as \w+\r\n421 4\.3\.2 [^\r]*\r\n\Z"
        )
        self.assertTrue(busy.closed)

    def test_new_settings_are_for_new_connections(self) -> None:
        """A reload replaces the factory's settings; sessions keep theirs."""
        peer = SMTPPeer()
        peer.factory.settings = SMTPPeer({"max_size": "77"}).factory.settings
        self.assertIn(b"SIZE 52428800", peer.say(b"EHLO c"))
        transport = FakeTransport()
        protocol = peer.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(b"EHLO c\r\n")
        self.assertIn(b"SIZE 77\r\n", transport.value())

    def test_endless_message_is_cut_off(self) -> None:
        """A client that goes on far above the limit is not listened to for ever."""
        peer = SMTPPeer({"max_size": "1000"})
        peer.say(*ENVELOPE, b"DATA")
        for _ in range(40):
            peer.feed(b"x" * 65536)
        self.assertEqual(peer.take_output(), b"552 5.3.4 Message too big\r\n")
        self.assertTrue(peer.closed)
        self.assertEqual(peer.spool.writers[0].chunks, [])


class EventTests(SynchronousTestCase):
    """What is logged."""

    def setUp(self) -> None:
        """Collect events."""
        self.events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def event(self, name: str) -> dict[str, object]:
        """Return the one event of that name."""
        found = [event for event in self.events if event.get("event") == name]
        self.assertEqual(len(found), 1, name)
        return found[0]

    def test_accepted(self) -> None:
        """One event tells all of an accepted message, with the id that the client was told."""
        peer = SMTPPeer()
        peer.say(*ENVELOPE, b"DATA")
        answer = peer.say(b"Message-ID: <m@x>", b"", b"body-text", b".")
        event = self.event("smtp.transaction.accepted")
        self.assertEqual(answer.split()[-1].decode(), event["queue_id"])
        self.assertEqual(event["reverse_path"], "a@client.example")
        self.assertEqual(event["forward_path"], ["bob@example.org"])
        self.assertEqual((event["size"], event["message_id"]), (32, "<m@x>"))
        self.assertNotIn("body-text", repr(self.events))

    def test_login_events_hold_no_secret(self) -> None:
        """R-81: who logged in is told, with what password is not."""
        peer = SMTPPeer({"mode": "local", "cleartext_login": "yes"})
        peer.say(b"HELO c", b"AUTH PLAIN AGFsaWNlAHNlY3JldA==")
        self.assertEqual(self.event("smtp.login.succeeded")["account"], "alice")
        peer = SMTPPeer({"mode": "local", "cleartext_login": "yes"})
        peer.say(b"HELO c", b"AUTH PLAIN AGFsaWNlAHNlY3JldHg=")
        self.assertEqual(self.event("smtp.login.failed")["reason"], "credentials")
        for secret in ("secret", "c2VjcmV0", "AGFsaWNl"):
            self.assertNotIn(secret, repr(self.events))

    def test_session_and_refusals(self) -> None:
        """Refused recipients and messages and the end of a session are events."""
        peer = SMTPPeer()
        peer.say(*ENVELOPE, b"RCPT TO:<nobody@example.org>", b"DATA")
        peer.say(b"x\0", b".")
        peer.lose()
        self.assertEqual(self.event("smtp.recipient.refused")["forward_path"], "nobody@example.org")
        self.assertIn("NUL", str(self.event("smtp.transaction.refused")["reply"]))
        self.assertEqual(self.event("smtp.session.ended")["accepted"], 0)

    def test_why_a_session_was_cut(self) -> None:
        """A client that will not close after our last words is not told as a failed handshake."""
        peer = SMTPPeer()
        peer.say(b"QUIT")
        peer.advance(31)
        self.assertTrue(peer.transport.aborted)
        peer.lose()
        self.assertEqual(self.event("smtp.session.ended")["reason"], "left open")

    def test_a_handshake_that_stands_still(self) -> None:
        """It ends the session under its own name."""
        peer = SMTPPeer()
        peer.say(b"EHLO c", b"STARTTLS")
        peer.advance(61)
        peer.lose()
        self.assertEqual(self.event("smtp.session.ended")["reason"], "handshake timeout")
