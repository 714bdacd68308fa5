"""The IMAP server around its transcripts: back-pressure, loss, limits, logins, logs."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ISSLTransport
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from mailhost.errors import QuotaExceeded, SpoolFault, SpoolFull
from mailhost.imap.admission import Admission
from mailhost.imap.settings import IMAPSettings
from mailhost.imap.table import COMMANDS
from mailhost.interfaces.access import IMailAccess, IMailbox
from mailhost.interfaces.login import LoginFailure
from mailhost.smtp.limits import ConnectionLimits
from tests.fakes_access import FakeAppend, FakeContent, FakeMailbox
from tests.imap.peer import NESTED_MESSAGE, PASSWORDS, FakeTransport, IMAPPeer, fill, numbered

LARGE = b"From: a@example.org\r\nSubject: large\r\n\r\n" + b"0123456789abcde\r\n" * 40_000


class BackPressureTests(SynchronousTestCase):
    """Neither side makes the server hold more than it must."""

    def test_a_client_with_many_commands_lets_others_in_between(self) -> None:
        """P6: a flood of commands in one piece is answered in turns, all of it in the end."""
        peer = IMAPPeer()
        peer.take_output()
        peer.feed(b"a CAPABILITY\r\n" * 1000)
        answered = peer.take_output().count(b"a OK")
        self.assertLess(answered, 300)
        peer.advance(0)
        self.assertEqual(answered + peer.take_output().count(b"a OK"), 1000)
        peer.feed(b"a CAPABILITY\r\n" * 1000)
        peer.protocol.connectionLost()
        peer.advance(0)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_connections_are_counted(self) -> None:
        """P6: a client with too many connections is told so and let go; leaving makes room."""
        peer = IMAPPeer()
        peer.factory.connections = ConnectionLimits(total=10, per_client=2)
        (_, first), (other, _) = peer.connect(), peer.connect()
        self.assertFalse(other.closed)
        for tls, said in ((False, b"* BYE [UNAVAILABLE]"), (True, b"")):
            transport = FakeTransport()
            if tls:
                directlyProvides(transport, ISSLTransport)
            protocol = peer.factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 4711))
            protocol.makeConnection(transport)
            self.assertTrue(transport.closed)
            self.assertEqual(transport.take()[: len(said) or None], said)
            protocol.dataReceived(b"a NOOP\r\n")
            self.assertEqual(transport.take(), b"")
            protocol.connectionLost()
        first.connectionLost()
        self.assertFalse(peer.connect()[0].closed)
        self.assertEqual(peer.factory.connections.open, 2)

    def test_a_client_that_does_not_read_costs_one_portion(self) -> None:
        """R-45: FETCH stops asking the store while the transport is full, and goes on after."""
        peer = IMAPPeer(late=True, settings=IMAPSettings(portion=10))
        fill(peer.account("alice"), "200")
        peer.log_in(b"INBOX")
        mailbox: Any = peer.protocol.session.mailbox
        assert isinstance(mailbox, FakeMailbox)
        peer.transport.limit = 1
        for _ in range(20):
            peer.feed(b"f FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE)\r\n")
            peer.settle()
        # The portion that is on its way out, and the one after it.
        self.assertEqual(mailbox.records_asked, 20)
        self.assertLess(peer.transport.size, 10_000)
        peer.transport.limit = None
        said = peer.take_output()
        while "asked":
            peer.transport.producer.resumeProducing()
            peer.settle()
            more = peer.take_output()
            if not more:
                break
            said += more
        self.assertEqual(said.count(b" FETCH ("), 200 * 20)
        self.assertEqual(said.count(b"f OK"), 20)

    def test_a_client_that_does_not_read_is_cut_off(self) -> None:
        """After five minutes without progress the connection is dropped."""
        peer = IMAPPeer(late=True, settings=IMAPSettings(portion=10))
        fill(peer.account("alice"), "50")
        peer.log_in(b"INBOX")
        peer.transport.limit = 1
        peer.feed(b"f FETCH 1:* FLAGS\r\n")
        peer.settle()
        peer.advance(299)
        self.assertFalse(peer.closed)
        peer.advance(1)
        self.assertTrue(peer.transport.aborted)

    def test_commands_wait_while_the_client_does_not_read(self) -> None:
        """A pipeline of cheap commands with large answers does not pile up answers."""
        peer = IMAPPeer()
        account = peer.account("alice")
        for number in range(300):
            account.create(f"a rather long name of a mailbox {number}")
        peer.log_in()
        peer.transport.limit = 1
        peer.feed(b'l LIST "" *\r\n' * 500)
        self.assertLess(peer.transport.size, 100_000)
        self.assertLess(peer.protocol.session.output_octets, 100_000)
        total = peer.take_output()
        peer.transport.limit = None
        peer.transport.producer.resumeProducing()
        total += peer.take_output()
        self.assertEqual(total.count(b"l OK"), 500)

    def test_input_stops_while_a_command_runs(self) -> None:
        """What a client sends ahead is bounded: reading stops, and begins again afterwards."""
        peer = IMAPPeer(late=True)
        peer.log_in(b"INBOX")
        peer.feed(b"s SEARCH ALL\r\n")
        peer.feed(b"n NOOP\r\n" * 10_000)
        self.assertFalse(peer.transport.reading)
        peer.settle()
        self.assertTrue(peer.transport.reading)
        self.assertEqual(peer.take_output().count(b"n OK"), 10_000)

    def test_append_streams_at_the_pace_of_the_store(self) -> None:
        """While the store asks for patience the client is not read; nothing is held whole."""
        peer = IMAPPeer(late=True)
        peer.log_in()
        peer.feed(b"a APPEND Sent {%d}\r\n" % len(LARGE))
        peer.settle()
        self.assertEqual(peer.take_output(), b"+ OK\r\n")
        for start in range(0, len(LARGE), 65536):
            peer.feed(LARGE[start : start + 65536])
            self.assertLess(peer.protocol.session.receiver.buffered, 200_000)
            if not peer.transport.reading:
                peer.settle()
                self.assertTrue(peer.transport.reading)
        peer.feed(b"\r\n")
        peer.settle()
        self.assertIn(b"a OK [APPENDUID", peer.take_output())
        box = peer.account("alice").named("Sent")
        assert box is not None
        self.assertEqual(box.messages[1].octets, LARGE)

    def test_a_large_message_goes_out_in_pieces(self) -> None:
        """It is read piece by piece, and no further while the client does not read."""
        peer = IMAPPeer(late=True)
        peer.account("alice").deliver("INBOX", LARGE)
        peer.log_in(b"INBOX")
        peer.transport.limit = 100_000
        peer.feed(b"f FETCH 1 (UID BODY.PEEK[] BODY.PEEK[TEXT] BODY.PEEK[]<5.100000>)\r\n")
        peer.settle()
        self.assertLess(peer.transport.size, 200_000)
        said = b""
        for _ in range(100):
            said += peer.take_output()
            peer.transport.producer.resumeProducing()
            peer.settle()
        text = LARGE[LARGE.index(b"\r\n\r\n") + 4 :]
        self.assertEqual(
            said,
            b"* 1 FETCH (UID 1 BODY[] {%d}\r\n" % len(LARGE)
            + LARGE
            + b" BODY[TEXT] {%d}\r\n" % len(text)
            + text
            + b" BODY[]<5> {100000}\r\n"
            + LARGE[5:100005]
            + b")\r\nf OK FETCH completed\r\n",
        )

    def test_parts_of_a_large_message(self) -> None:
        """Its structure is found once and kept for the parts that are asked for next."""
        padding = b"x" * 78 + b"\r\n"
        large = NESTED_MESSAGE.replace(b"first part\r\n", padding * 5000)
        for late in (False, True):
            peer = IMAPPeer(late=late)
            computed: list[object] = []

            def compute(work: Any, computed: list[object] = computed) -> Deferred[Any]:
                computed.append(work)
                return succeed(work())

            peer.factory.compute = compute
            peer.account("alice").deliver("INBOX", large)
            peer.log_in(b"INBOX")
            self.assertEqual(
                peer.say(b"f FETCH 1 (BODY.PEEK[2.1] BODY.PEEK[2.HEADER.FIELDS (Subject)])"),
                b"* 1 FETCH (BODY[2.1] {10}\r\ninner text BODY[2.HEADER.FIELDS (Subject)] {18}\r\n"
                b"Subject: inner\r\n\r\n)\r\nf OK FETCH completed\r\n",
            )
            part = padding * 5000
            self.assertEqual(
                peer.say(b"g FETCH 1 (BODY.PEEK[1] BODY.PEEK[7])"),
                b"* 1 FETCH (BODY[1] {%d}\r\n" % (len(part) - 2)
                + part[:-2]
                + b" BODY[7] NIL)\r\ng OK FETCH completed\r\n",
            )
            self.assertEqual(len(computed), 1)


class LossTests(SynchronousTestCase):
    """The connection may go at any moment."""

    def lose(self, peer: IMAPPeer) -> None:
        peer.protocol.connectionLost()
        peer.settle()
        self.assertEqual(peer.authenticator.logouts, peer.authenticator.logins)
        self.assertEqual(peer.account("alice").listeners, 0)
        self.assertEqual(peer.clock.getDelayedCalls(), [])
        self.assertTrue(peer.factory.admission.enter("alice", "192.0.2.7"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_at_each_moment_of_a_session(self) -> None:
        """Login ends once, the mailbox is closed, no timer is left, whatever was going on."""
        script = (
            b"a LOGIN alice secret\r\nb SELECT INBOX\r\nc FETCH 1:* (FLAGS BODY[])\r\n"
            b"d STORE 1 +FLAGS (\\Deleted)\r\ne UID SEARCH RETURN (ALL) TEXT x\r\n"
            b"f APPEND INBOX {5+}\r\nhello\r\ng IDLE\r\nDONE\r\nh EXPUNGE\r\n"
            b'i LIST "" * RETURN (STATUS (MESSAGES))\r\nj LOGOUT\r\n'
        )
        moments = 0
        while True:
            peer = IMAPPeer(late=True, settings=IMAPSettings(portion=1, content_portion=1))
            fill(peer.account("alice"), "3")
            peer.settle()
            peer.feed(script)
            for _ in range(moments):
                if not peer.store.answers.waiting:
                    break
                peer.store.answers.waiting.pop(0)()
            done = not peer.store.answers.waiting
            self.lose(peer)
            if done:
                break
            moments += 1
        self.assertGreater(moments, 20)

    def test_during_output(self) -> None:
        """A FETCH that waits for the client ends."""
        peer = IMAPPeer(late=True, settings=IMAPSettings(portion=1))
        fill(peer.account("alice"), "5")
        peer.log_in(b"INBOX")
        peer.transport.limit = 1
        peer.feed(b"f FETCH 1:* FLAGS\r\n")
        peer.settle()
        self.lose(peer)

    def test_during_append(self) -> None:
        """A message that did not come whole is forgotten."""
        peer = IMAPPeer()
        appends: list[FakeAppend] = []
        account = peer.account("alice")
        begin = account.append

        def append(mailbox_id: Any) -> Deferred[FakeAppend]:
            answer: Deferred[FakeAppend] = begin(mailbox_id)
            answer.addCallback(lambda writer: appends.append(writer) or writer)
            return answer

        self.patch(account, "append", append)
        peer.log_in()
        peer.feed(b"a APPEND Sent {100}\r\nhalf of it")
        self.lose(peer)
        self.assertTrue(appends[0].aborted)

    def test_during_a_sasl_exchange(self) -> None:
        """The exchange is cancelled."""
        peer = IMAPPeer()
        peer.feed(b"a AUTHENTICATE PLAIN\r\n")
        peer.protocol.connectionLost()
        self.assertEqual(peer.authenticator.cancelled, 1)

    def test_before_a_late_login(self) -> None:
        """A login that succeeds after the client is gone is ended at once."""
        peer = IMAPPeer(late=True)
        peer.feed(b"a LOGIN alice secret\r\n")
        self.lose(peer)
        self.assertEqual(peer.authenticator.logins, 1)

    def test_a_message_that_shrinks_while_it_is_sent(self) -> None:
        """There is no way to say so inside a literal: the connection is cut."""
        peer = IMAPPeer(late=True)
        account = peer.account("alice")
        account.deliver("INBOX", LARGE)
        peer.log_in(b"INBOX")
        peer.transport.limit = 1
        peer.feed(b"f FETCH 1 BODY.PEEK[]\r\n")
        peer.settle()
        self.patch(FakeContent, "read", lambda content, offset, length: b"")
        for _ in range(5):
            peer.transport.producer.resumeProducing()
            peer.settle()
        self.assertTrue(peer.transport.aborted)


class FailureTests(SynchronousTestCase):
    """What goes wrong becomes one tagged answer."""

    def setUp(self) -> None:
        self.mailhost = IMAPPeer()
        self.mailhost.log_in(b"INBOX")

    def test_our_own_bug_is_no_permanent_failure(self) -> None:
        """NO [SERVERBUG], nothing of the exception on the wire, and the session lives."""

        def broken() -> Deferred[Any]:
            raise RuntimeError("the secret inside")

        self.patch(self.mailhost.account("alice"), "mailboxes", broken)
        said = self.mailhost.say(b'a LIST "" *')
        self.assertEqual(said, b"a NO [SERVERBUG] Internal error\r\n")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.mailhost.say(b"b NOOP"), b"b OK NOOP completed\r\n")

    def test_no_room(self) -> None:
        """R-87: quota and full disk are OVERQUOTA, a fault UNAVAILABLE; the rest works."""
        account = self.mailhost.account("alice")
        for error, code in (
            (QuotaExceeded("x"), b"OVERQUOTA"),
            (SpoolFull("x"), b"OVERQUOTA"),
            (SpoolFault("x"), b"UNAVAILABLE"),
        ):
            account.full = error
            said = self.mailhost.say(b"a APPEND Sent {5+}\r\nhello")
            self.assertTrue(said.startswith(b"a NO [%b]" % code), said)
            said = self.mailhost.say(b"b APPEND Sent {5}")
            self.assertEqual(said, b"+ OK\r\n")
            self.assertTrue(self.mailhost.say(b"hello").startswith(b"b NO [%b]" % code))
        account.full = None
        self.assertIn(b"c OK", self.mailhost.say(b"c APPEND Sent {5+}\r\nhello"))

    def test_login_failures(self) -> None:
        """Each kind has its response code (RFC 5530); the first two are one answer."""
        for outcome, answer in (
            (LoginFailure.CREDENTIALS, b"NO [AUTHENTICATIONFAILED] Authentication failed"),
            (LoginFailure.DISABLED, b"NO [AUTHENTICATIONFAILED] Authentication failed"),
            (LoginFailure.TEMPORARY, b"NO [UNAVAILABLE] "),
            (LoginFailure.ENCRYPTION_NEEDED, b"NO [PRIVACYREQUIRED] "),
        ):
            peer = IMAPPeer()
            peer.take_output()
            peer.authenticator.outcome = outcome
            self.assertTrue(peer.say(b"a LOGIN alice secret").startswith(b"a " + answer))


class SessionTests(SynchronousTestCase):
    """What one session is to the others."""

    def test_interfaces(self) -> None:
        """The protocol is a producer and hears of handshakes; the fakes are what they say."""
        peer = IMAPPeer()
        peer.log_in(b"INBOX")
        verifyObject(IHandshakeListener, peer.protocol)
        verifyObject(IPushProducer, peer.protocol)
        verifyObject(IMailAccess, peer.account("alice"))
        verifyObject(IMailbox, peer.protocol.session.mailbox)

    def test_sessions_of_one_account_and_address_are_counted(self) -> None:
        """One too many is refused after its login, which ends; a place becomes free again."""
        peer = IMAPPeer()
        peer.factory.admission = Admission(2)
        sessions = [peer.connect() for _ in range(3)]
        for transport, protocol in sessions:
            transport.take()
            protocol.dataReceived(b"a LOGIN alice secret\r\n")
        answers = [transport.take() for transport, _ in sessions]
        self.assertTrue(answers[1].startswith(b"a OK"))
        self.assertEqual(answers[2], b"a NO [LIMIT] Too many sessions\r\n")
        self.assertEqual(peer.authenticator.logouts, 1)
        sessions[0][1].connectionLost()
        sessions[2][1].dataReceived(b"b LOGIN alice secret\r\n")
        self.assertTrue(sessions[2][0].take().startswith(b"b OK"))

    def test_two_sessions_see_each_other(self) -> None:
        """What one does, the other is told in IDLE, in the order of RFC 9051 7.5.1."""
        peer = IMAPPeer()
        fill(peer.account("alice"), "3")
        peer.log_in(b"INBOX")
        peer.say(b"i IDLE")
        other_transport, other = peer.connect()
        other.dataReceived(b"a LOGIN alice secret\r\nb SELECT INBOX\r\n")
        other.dataReceived(b"c STORE 1,3 +FLAGS (\\Deleted)\r\nd UID EXPUNGE 1\r\n")
        other.dataReceived(b"e APPEND INBOX {5+}\r\nhello\r\n")
        self.assertEqual(
            peer.take_output(),
            b"* 1 FETCH (FLAGS (\\Seen \\Deleted \\Recent))\r\n"
            b"* 3 FETCH (FLAGS (\\Seen \\Deleted \\Recent))\r\n"
            b"* 1 EXPUNGE\r\n"
            b"* 3 EXISTS\r\n* 3 RECENT\r\n",
        )
        self.assertIn(b"e OK [APPENDUID", other_transport.take())
        self.assertEqual(peer.say(b"DONE"), b"i OK IDLE terminated\r\n")

    def test_one_write_for_a_batch(self) -> None:
        """Answers to what came together leave together; small packets are not delayed."""
        peer = IMAPPeer()
        fill(peer.account("alice"), "3")
        peer.log_in(b"INBOX")
        peer.transport.writes = 0
        peer.feed(b"a NOOP\r\nb FETCH 1 UID\r\nc CHECK\r\n")
        self.assertLessEqual(peer.transport.writes, 3)
        peer.transport.writes = 0
        peer.feed(b"a NOOP\r\nb CAPABILITY\r\nc ID NIL\r\n")
        self.assertEqual(peer.transport.writes, 1)
        self.assertTrue(peer.transport.no_delay)

    def test_tls_facts_reach_the_authenticator(self) -> None:
        """After STARTTLS a login carries version, cipher and channel bindings."""
        peer = IMAPPeer(cleartext=False)
        peer.say(b"a STARTTLS")
        self.assertTrue(peer.start_tls())
        peer.say(b"b LOGIN alice secret")
        (facts,) = peer.authenticator.facts
        self.assertEqual(facts.tls, "TLSv1.3 TLS_AES_256_GCM_SHA384")
        self.assertEqual(dict(facts.channel_bindings)["tls-exporter"], b"k" * 32)
        self.assertEqual((facts.protocol, facts.peer), ("imap", "192.0.2.7"))

    def test_a_handshake_that_never_ends(self) -> None:
        """R-19: half a handshake is dropped without a word in clear text."""
        peer = IMAPPeer(cleartext=False)
        peer.say(b"a STARTTLS")
        peer.feed(b"half a ClientHello")
        peer.advance(60)
        self.assertTrue(peer.transport.aborted)
        self.assertEqual(peer.take_output(), b"")

    def test_shutdown_says_bye(self) -> None:
        """Every client is told when the server stops."""
        peer = IMAPPeer()
        peer.log_in(b"INBOX")
        peer.say(b"i IDLE")
        peer.factory.end_sessions()
        self.assertEqual(peer.take_output(), b"* BYE The server is shutting down\r\n")
        self.assertTrue(peer.closed)
        peer.protocol.connectionLost()
        self.assertEqual(peer.account("alice").listeners, 0)

    def test_shutdown_inside_a_literal_says_nothing(self) -> None:
        """A BYE would be taken for octets of the message that is being sent."""
        peer = IMAPPeer(late=True)
        peer.account("alice").deliver("INBOX", LARGE)
        peer.log_in(b"INBOX")
        peer.transport.limit = 1
        peer.feed(b"f FETCH 1 BODY.PEEK[]\r\n")
        peer.settle()
        peer.factory.end_sessions()
        self.assertTrue(peer.transport.aborted)
        self.assertNotIn(b"BYE", peer.take_output())
        peer.protocol.connectionLost()
        peer.settle()
        self.assertEqual(peer.authenticator.logouts, 1)

    def test_a_slow_store_is_no_silent_client(self) -> None:
        """The autologout does not strike while the client waits for us."""
        peer = IMAPPeer(late=True)
        peer.log_in(b"INBOX")
        peer.feed(b"a SEARCH ALL\r\n")
        peer.advance(4000)
        self.assertFalse(peer.closed)
        peer.settle()
        self.assertIn(b"a OK", peer.take_output())

    def test_an_idle_session_of_a_deleted_mailbox_ends(self) -> None:
        """IDLE notices that the mailbox is gone."""
        peer = IMAPPeer()
        peer.log_in(b"Sent")
        peer.say(b"i IDLE")
        box = peer.account("alice").named("Sent")
        assert box is not None
        peer.account("alice").delete(box.mailbox_id)
        self.assertEqual(peer.take_output(), b"* BYE The mailbox was deleted\r\n")

    def test_no_password_is_logged(self) -> None:
        """R-81: neither password nor message is in any event; names are cut."""
        with capturedLogs() as events:
            peer = IMAPPeer()
            peer.say(b"a LOGIN alice wrongsecret")
            peer.say(b"a LOGIN passwordasname x")
            peer.say(b"b AUTHENTICATE PLAIN AGFsaWNlAHdyb25nc2VjcmV0")
            peer.say(b"c LOGIN {3000+}\r\n" + b"u" * 3000 + b" x")
            peer.log_in(b"INBOX")
            peer.say(b"d APPEND INBOX {11+}\r\nTopSecret 1")
            peer.protocol.connectionLost()
        text = repr(events)
        for word in (
            *PASSWORDS.values(),
            b"wrongsecret",
            b"d3Jvbmd",
            b"TopSecret",
            b"passwordasname",
        ):
            self.assertNotIn(word.decode(), text)
        self.assertNotIn("u" * 300, text)
        self.assertEqual(
            {event["event"] for event in events if "event" in event},
            {
                "imap.session.opened",
                "imap.login.refused",
                "imap.login.accepted",
                "imap.mailbox.selected",
                "imap.append.accepted",
                "imap.session.closed",
            },
        )

    def test_capabilities_come_from_the_table(self) -> None:
        """A command that is not in the table is neither known nor offered."""
        peer = IMAPPeer()
        peer.factory.commands = COMMANDS.without(b"MOVE", b"IDLE")
        transport, protocol = peer.connect()
        self.assertNotIn(b"IDLE", transport.take())
        protocol.dataReceived(b"a LOGIN alice secret\r\nb IDLE\r\n")
        said = transport.take()
        self.assertNotIn(b" MOVE", said)
        self.assertIn(b"b BAD Unknown command", said)


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"a LOGIN alice secret\r\n",
                b"b SELECT INBOX\r\n",
                b"c FETCH 1:* (FLAGS BODY[])\r\n",
                b"d STORE 1:* +FLAGS (\\Deleted x)\r\n",
                b"e EXPUNGE\r\n",
                b"f APPEND INBOX {5+}\r\nhello\r\n",
                b"f APPEND INBOX {5}\r\n",
                b"g IDLE\r\n",
                b"DONE\r\n",
                b"h UID SEARCH RETURN (SAVE) ALL\r\n",
                b"i UID MOVE $ Trash\r\n",
                b"j AUTHENTICATE PLAIN\r\n",
                b"*\r\n",
                b"k STARTTLS\r\n",
                b"l {99}\r\n",
                b"m CLOSE\r\n",
                b'n LIST "" (* %) RETURN (STATUS (MESSAGES))\r\n',
                b"o RENAME INBOX x\r\n",
                b"p DELETE x\r\n",
                b"{3+}\r\n",
            ]
        ),
        st.binary(max_size=12),
    ),
    max_size=25,
)


class AnyInputTests(SynchronousTestCase):
    """R-06, R-43: whatever a client sends."""

    @settings(max_examples=150, deadline=None)
    @given(LINES, st.booleans(), st.integers(0, 30))
    def test_any_dialogue(self, pieces: list[bytes], late: bool, lost_after: int) -> None:
        """No exception, no error in the log, and everything let go of at the end."""
        with capturedLogs() as events:
            peer = IMAPPeer(late=late, settings=IMAPSettings(max_bad_commands=10**6))
            fill(peer.account("alice"), "3")
            peer.settle()
            for number, piece in enumerate(pieces):
                if number == lost_after:
                    peer.protocol.connectionLost()
                    break
                peer.feed(piece)
                if number % 3 == 0:
                    peer.settle()
            else:
                peer.settle()
                peer.protocol.connectionLost()
            peer.settle()
        self.assertEqual([event for event in events if "log_failure" in event], [])
        self.assertEqual(peer.authenticator.logouts, peer.authenticator.logins)
        self.assertEqual(peer.account("alice").listeners, 0)
        self.assertEqual(peer.clock.getDelayedCalls(), [])


class NameTests(SynchronousTestCase):
    """R-46: names that try to leave the account."""

    def test_hostile_names(self) -> None:
        """They are refused or are harmless names; INBOX is one mailbox."""
        peer = IMAPPeer(settings=IMAPSettings(max_bad_commands=1000))
        peer.log_in()
        before = set(peer.account("alice").boxes)
        for name in (
            b"..",
            b"../x",
            b"a/../b",
            b"/",
            b"/etc/passwd",
            b"{3+}\r\na\0b",
            b"&AAA-",
            b"&AC8-",
            b"&",
            b"x" * 10_000,
            b"/".join([b"a"] * 1000),
            b'"*"',
            b'"a%b"',
            b"INBOX",
            b"inbox",
            b'"\xc3\xa9"',
        ):
            said = peer.say(b"a CREATE " + name)
            self.assertRegex(said, rb"\Aa (NO|BAD)", name)
        self.assertEqual(set(peer.account("alice").boxes), before)
        self.assertIn(b"a OK", peer.say(b"a CREATE e&AwE-"))
        self.assertIn(b"[ALREADYEXISTS]", peer.say(b"a CREATE &AOk-"))
        self.assertIn(b"a OK", peer.say(b"a SELECT &AOk-"))

    def test_another_account_is_not_reached(self) -> None:
        """P7: a name means a mailbox of the account that logged in."""
        peer = IMAPPeer()
        peer.account("bob").deliver("INBOX", numbered(1))
        peer.log_in(b"INBOX")
        self.assertIn(b"* SEARCH\r\n", peer.say(b"a SEARCH ALL"))
