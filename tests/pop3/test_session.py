"""Tests of the POP3 server beyond its transcripts: durability, back-pressure, limits, endings."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.logger import LogPublisher, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.errors import MailboxReadOnly, MessageDamaged, SpoolFault
from mailhost.interfaces.login import LoginFailure
from mailhost.pop3.retrieval import BLOCK
from tests.fakes_access import FakeContent, FakeMailbox
from tests.pop3.peer import POP3Peer, World


def logged_in(world: World) -> POP3Peer:
    peer = world.connect()
    said = peer.say(b"USER alice", b"PASS secret")
    assert said.endswith(b"octets)\r\n"), said
    return peer


class Events:
    """Collects log events."""

    def __init__(self, case: SynchronousTestCase) -> None:
        self.all: list[dict[str, Any]] = []
        publisher: LogPublisher = globalLogPublisher
        publisher.addObserver(self.all.append)
        case.addCleanup(publisher.removeObserver, self.all.append)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.all if event.get("event") == name]


class UpdateTests(SynchronousTestCase):
    """What QUIT and other endings do to the maildrop (RFC 1939 6)."""

    def test_ok_to_quit_follows_the_durable_removal(self) -> None:
        """+OK is said when the mailbox says that the messages are gone, not before."""
        world = World()
        peer = logged_in(world)
        world.store.answers.late = True
        peer.feed(b"DELE 1\r\nDELE 3\r\nQUIT\r\n")
        self.assertEqual(peer.take_output(), b"+OK\r\n+OK\r\n")
        self.assertEqual(sorted(world.inbox), [1, 2, 3])
        peer.settle()
        self.assertEqual(peer.take_output(), b"+OK 2 messages deleted\r\n")
        self.assertEqual(sorted(world.inbox), [2])
        self.assertTrue(peer.closed)

    def test_a_lost_connection_removes_nothing(self) -> None:
        """Without QUIT every mark is forgotten, and all is let go of."""
        world = World()
        peer = logged_in(world)
        peer.say(b"DELE 1", b"DELE 2")
        peer.lose()
        self.assertEqual(sorted(world.inbox), [1, 2, 3])
        self.assertEqual(world.authenticator.logouts, 1)
        self.assertEqual((world.connections.count, world.sessions.count), (0, 0))
        self.assertEqual(world.factory.sessions, set())

    def test_a_connection_lost_within_quit(self) -> None:
        """A removal that was begun is finished; then all is let go of, once."""
        world = World()
        peer = logged_in(world)
        world.store.answers.late = True
        peer.feed(b"DELE 1\r\nQUIT\r\n")
        peer.lose()
        self.assertEqual(world.authenticator.logouts, 0)
        peer.settle()
        self.assertEqual(sorted(world.inbox), [2, 3])
        self.assertEqual((world.authenticator.logouts, world.sessions.count), (1, 0))

    def test_a_removal_that_fails_is_not_ok(self) -> None:
        """The client hears -ERR, and the connection is closed all the same."""
        for error, said in (
            (SpoolFault("x"), b"-ERR [SYS/TEMP] "),
            (MailboxReadOnly("x"), b"-ERR [SYS/PERM] "),
            (RuntimeError("secret detail"), b"-ERR [SYS/TEMP] Internal error"),
        ):
            world = World()
            peer = logged_in(world)
            self.patch(FakeMailbox, "expunge", lambda *_, error=error, **__: fail(error))
            answer = peer.say(b"DELE 1", b"QUIT")
            self.assertTrue(answer.startswith(b"+OK\r\n" + said), answer)
            self.assertNotIn(b"detail", answer)
            self.assertTrue(peer.closed)
            self.assertEqual(world.authenticator.logouts, 1)
            self.flushLoggedErrors(type(error))

    def test_retrieved_messages_are_seen(self) -> None:
        """RETR sets \\Seen at QUIT, TOP does not, a lost connection neither."""
        world = World()
        peer = logged_in(world)
        peer.say(b"RETR 1", b"TOP 2 5")
        peer.lose()
        self.assertEqual(world.inbox[1].flags, ())
        logged_in(world).say(b"RETR 1", b"TOP 2 5", b"QUIT")
        self.assertEqual([world.inbox[uid].flags for uid in (1, 2, 3)], [("\\Seen",), (), ()])


class StreamingTests(SynchronousTestCase):
    """Large messages and slow clients (R-45)."""

    def big(self, late: bool = False) -> tuple[World, bytes]:
        world = World(late, mails=0)
        octets = b"Subject: big\r\n\r\n" + b".line of text\r\n" * 30_000
        world.access.deliver("INBOX", octets)
        world.store.answers.settle()
        return world, octets

    def test_a_large_message_arrives_whole(self) -> None:
        """Blocks make the same octets, read at once or late."""
        for late in (False, True):
            world, octets = self.big(late)
            peer = logged_in(world)
            said = peer.say(b"RETR 1", b"NOOP")
            expected = octets.replace(b"\r\n.", b"\r\n..")
            self.assertEqual(said, b"+OK %d octets\r\n" % len(octets) + expected + b".\r\n+OK\r\n")

    def test_a_client_that_does_not_read(self) -> None:
        """Nothing is read or run while the transport is full; afterwards all goes on."""
        world, octets = self.big()
        reads: list[int] = []
        read = FakeContent.read

        def counted(content: FakeContent, offset: int, length: int) -> Any:
            reads.append(offset)
            peer.protocol.pauseProducing()
            return read(content, offset, length)

        self.patch(FakeContent, "read", counted)
        peer = logged_in(world)
        peer.feed(b"RETR 1\r\nSTAT\r\n")
        for block in range(1, 5):
            self.assertEqual(reads, [n * BLOCK for n in range(block)])
            self.assertLessEqual(len(peer.take_output()), 2 * BLOCK)
            peer.protocol.resumeProducing()
        while len(reads) * BLOCK < len(octets):
            peer.protocol.resumeProducing()
        self.assertNotIn(b"+OK 1 ", peer.take_output())
        peer.protocol.resumeProducing()
        self.assertEqual(peer.take_output(), b"+OK 1 %d\r\n" % len(octets))

    def test_pipelined_commands_wait_for_a_full_transport(self) -> None:
        """Commands are not run while their answers cannot be sent."""
        world = World()
        peer = logged_in(world)
        peer.protocol.pauseProducing()
        self.assertEqual(peer.say(*[b"LIST"] * 50), b"")
        peer.protocol.resumeProducing()
        self.assertEqual(peer.take_output().count(b"+OK\r\n"), 50)

    def test_a_connection_lost_within_retr(self) -> None:
        """The content is closed, and the maildrop let go of, before or after its answer."""
        closed: list[FakeContent] = []
        self.patch(FakeContent, "close", lambda content: closed.append(content))
        for settle_first in (False, True):
            world, _ = self.big()
            peer = logged_in(world)
            world.store.answers.late = True
            peer.feed(b"RETR 1\r\n")
            if settle_first:
                world.store.answers.waiting.pop(0)()
            peer.lose()
            peer.settle()
            self.assertEqual(len(closed), 1)
            self.assertEqual(world.authenticator.logouts, 1)
            closed.clear()

    def test_damage_found_midway_ends_the_connection(self) -> None:
        """A message whose end cannot be read is never shown as whole (R-89)."""
        world, _ = self.big()
        events = Events(self)
        read = FakeContent.read

        def failing(content: FakeContent, offset: int, length: int) -> Any:
            return fail(MessageDamaged("torn")) if offset else read(content, offset, length)

        self.patch(FakeContent, "read", failing)
        peer = logged_in(world)
        said = peer.say(b"RETR 1", b"NOOP")
        self.assertNotIn(b"\r\n.\r\n", said)
        self.assertTrue(peer.closed)
        self.assertEqual(len(events.named("pop3.message.damaged")), 1)

    def test_a_message_shorter_than_its_size_is_damaged(self) -> None:
        """Content that ends early before anything was said is an error response."""
        world = World()
        peer = logged_in(world)
        self.patch(FakeContent, "read", lambda *_: b"")
        self.assertEqual(
            peer.say(b"RETR 1", b"NOOP"), b"-ERR [SYS/PERM] This message is damaged\r\n+OK\r\n"
        )

    def test_top_reads_no_more_than_it_needs(self) -> None:
        """TOP of a large message reads one block."""
        world, _ = self.big()
        peer = logged_in(world)
        reads: list[int] = []
        read = FakeContent.read

        def counted(content: FakeContent, offset: int, length: int) -> Any:
            reads.append(offset)
            return read(content, offset, length)

        self.patch(FakeContent, "read", counted)
        peer.say(b"TOP 1 3")
        self.assertEqual(reads, [0])

    def test_one_write_for_one_piece(self) -> None:
        """Answers to pipelined commands go out in one write, with TCP_NODELAY set."""
        world = World()
        peer = logged_in(world)
        peer.transport.writes = 0
        peer.say(b"STAT", b"LIST", b"RETR 1", b"UIDL", b"NOOP")
        self.assertEqual(peer.transport.writes, 1)
        self.assertTrue(peer.transport.no_delay)


class LoginTests(SynchronousTestCase):
    """Logins that go wrong."""

    def test_every_failure_has_its_text(self) -> None:
        """The client learns what to do, and not whether an account exists or is disabled."""
        for failure, said in {
            LoginFailure.CREDENTIALS: b"-ERR [AUTH] Wrong",
            LoginFailure.DISABLED: b"-ERR [AUTH] Wrong",
            LoginFailure.TEMPORARY: b"-ERR [SYS/TEMP] ",
            LoginFailure.ENCRYPTION_NEEDED: b"-ERR TLS is needed",
            LoginFailure.MALFORMED: b"-ERR The exchange",
        }.items():
            world = World()
            world.authenticator.outcome = failure
            answer = world.connect().say(b"USER alice", b"PASS secret")
            self.assertTrue(answer.startswith(b"+OK mail.example.org POP3 ready\r\n+OK\r\n" + said))

    def test_failed_logins_of_all_kinds_are_limited(self) -> None:
        """Three failures end the session, SASL ones included (R-39)."""
        peer = World().connect()
        peer.say(b"AUTH PLAIN !", b"AUTH PLAIN AA==", b"USER a", b"PASS b")
        self.assertTrue(peer.closed)

    def test_a_mailbox_that_cannot_be_opened(self) -> None:
        """The login is undone, the text says that it is our fault, the session lives."""
        world = World()
        box = world.access.named("INBOX")
        assert box is not None
        del world.access.boxes[box.mailbox_id]
        peer = world.connect()
        said = peer.say(b"USER alice", b"PASS secret", b"STAT")
        self.assertIn(b"-ERR [SYS/TEMP] The mailbox cannot be used now", said)
        self.assertTrue(said.endswith(b"-ERR Not now\r\n"))
        self.assertEqual((world.authenticator.logouts, world.sessions.count), (1, 0))
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_too_many_sessions_of_an_account(self) -> None:
        """The answer says [IN-USE] (RFC 2449 8.1.1), and the place is free again later."""
        world = World()
        world.sessions.limit = 1
        first = logged_in(world)
        second = world.connect()
        self.assertIn(b"-ERR [IN-USE] ", second.say(b"USER alice", b"PASS secret"))
        first.say(b"QUIT")
        self.assertIn(b"+OK 3 messages", second.say(b"USER alice", b"PASS secret"))

    def test_too_many_connections(self) -> None:
        """One more than allowed is turned away before anything else and leaves nothing behind."""
        world = World()
        world.connections.limit = 1
        first, second = world.connect(), world.connect()
        self.assertEqual(second.take_output(), b"-ERR Too many connections, try again later\r\n")
        self.assertTrue(second.closed)
        second.settle()
        self.assertEqual((world.connections.count, len(world.factory.sessions)), (1, 1))
        first.lose()
        self.assertEqual(world.connections.count, 0)
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_a_connection_lost_within_login(self) -> None:
        """The login that still succeeds is ended at once, at every stage of it."""
        for answers in range(5):
            world = World()
            peer = world.connect()
            world.store.answers.late = True
            peer.feed(b"USER alice\r\nPASS secret\r\n")
            for _ in range(answers):
                if world.store.answers.waiting:
                    world.store.answers.waiting.pop(0)()
            peer.lose()
            peer.settle()
            self.assertEqual(world.authenticator.logins, world.authenticator.logouts)
            self.assertEqual(world.sessions.count, 0)

    def test_a_connection_lost_within_sasl(self) -> None:
        """The exchange is cancelled; a login that waits for the last word is ended."""
        world = World()
        peer = world.connect()
        peer.say(b"AUTH PLAIN")
        peer.lose()
        self.assertEqual(world.authenticator.cancelled, 1)
        peer = world.connect()
        self.assertIn(b"+ dj12", peer.say(b"AUTH SCRAM-SHA-256 YWxpY2U=", b"c2VjcmV0"))
        peer.lose()
        self.assertEqual((world.authenticator.logins, world.authenticator.logouts), (1, 1))

    def test_facts_for_the_authenticator(self) -> None:
        """TLS, peer and channel bindings are known to the login."""
        world = World(cleartext_login=False)
        peer = world.connect()
        peer.say(b"STLS")
        self.assertEqual(peer.transport.tls_context, "context")
        self.assertTrue(peer.start_tls())
        peer.say(b"USER alice", b"PASS secret")
        facts = world.authenticator.facts[-1]
        self.assertEqual(facts.tls, "TLSv1.3 TLS_AES_256_GCM_SHA384")
        self.assertEqual((facts.protocol, facts.peer), ("pop3", "192.168.1.1"))
        self.assertEqual([name for name, _ in facts.channel_bindings], ["tls-exporter"])

    def test_no_secret_is_logged(self) -> None:
        """Neither passwords nor SASL exchanges stand in any event."""
        events = Events(self)
        world = World()
        peer = world.connect()
        peer.say(b"USER alice", b"PASS gehwrong", b"AUTH PLAIN AGFsaWNlAHNlY3JldA==", b"QUIT")
        text = repr(events.all)
        for secret in ("secret", "gehwrong", "AGFsaWNl"):
            self.assertNotIn(secret, text)
        self.assertEqual(
            [event["event"] for event in events.all if "event" in event],
            ["pop3.login.failed", "pop3.login.succeeded", "pop3.session.ended"],
        )


class TimeTests(SynchronousTestCase):
    """Time limits and endings from our side."""

    def test_a_slow_login_is_no_login(self) -> None:
        """Commands that keep coming do not make the time before login longer."""
        world = World()
        peer = world.connect()
        for _ in range(5):
            self.assertFalse(peer.closed)
            peer.say(b"USER alice")
            peer.advance(40)
        self.assertTrue(peer.closed)

    def test_a_handshake_that_stalls(self) -> None:
        """It is cut off after half a minute (R-19)."""
        for implicit in (False, True):
            world = World(implicit_tls=implicit)
            peer = world.connect()
            if not implicit:
                peer.say(b"STLS")
            peer.advance(29)
            self.assertFalse(peer.transport.aborted)
            peer.advance(2)
            self.assertTrue(peer.transport.aborted)

    def test_a_client_that_takes_nothing(self) -> None:
        """It is cut off although it is logged in."""
        world = World()
        peer = logged_in(world)
        peer.protocol.pauseProducing()
        peer.advance(299)
        self.assertFalse(peer.closed)
        peer.advance(2)
        self.assertTrue(peer.transport.aborted)

    def test_our_own_slowness_is_not_the_clients(self) -> None:
        """While an answer is awaited from the store the client is not idle."""
        world = World()
        peer = logged_in(world)
        world.store.answers.late = True
        peer.feed(b"RETR 1\r\n")
        peer.advance(2000)
        self.assertFalse(peer.closed)
        peer.settle()
        self.assertIn(b"Hello", peer.take_output())

    def test_no_timer_outlives_the_connection(self) -> None:
        """After the end the clock is empty."""
        world = World()
        logged_in(world).say(b"QUIT")
        self.assertEqual(world.clock.getDelayedCalls(), [])

    def test_shutdown(self) -> None:
        """Sessions are closed without removing anything, but one in QUIT is left to finish."""
        world = World()
        idle, quitting = logged_in(world), logged_in(world)
        idle.say(b"DELE 2")
        world.store.answers.late = True
        quitting.feed(b"DELE 1\r\nQUIT\r\n")
        world.factory.shut_down()
        self.assertTrue(idle.closed)
        self.assertFalse(quitting.closed)
        quitting.settle()
        self.assertTrue(quitting.closed)
        self.assertTrue(quitting.take_output().endswith(b"+OK 1 messages deleted\r\n"))
        self.assertEqual(sorted(world.inbox), [2, 3])

    def test_a_bug_is_a_temporary_error(self) -> None:
        """An unexpected exception is logged, not told, and the session lives."""
        world = World()
        peer = logged_in(world)
        self.patch(FakeMailbox, "content", lambda *_: 1 / 0)
        self.assertEqual(
            peer.say(b"RETR 1", b"NOOP"),
            b"-ERR [SYS/TEMP] Internal error, try again later\r\n+OK\r\n",
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_interfaces(self) -> None:
        """The protocol is what the transport takes it for."""
        protocol = World().connect().protocol
        verifyObject(IPushProducer, protocol)
        verifyObject(IHandshakeListener, protocol)


class MaildropTests(SynchronousTestCase):
    """The snapshot at login."""

    def test_new_mail_is_seen_at_the_next_login(self) -> None:
        """Numbers do not change within a session (RFC 1939 4)."""
        world = World()
        peer = logged_in(world)
        world.access.deliver("INBOX", b"Subject: new\r\n\r\n")
        self.assertEqual(peer.say(b"STAT", b"RETR 4"), b"+OK 3 120\r\n-ERR No such message\r\n")
        peer.say(b"QUIT")
        self.assertEqual(logged_in(world).say(b"STAT"), b"+OK 4 136\r\n")

    def test_a_removed_number_is_not_reused(self) -> None:
        """After a removal the next session counts anew and unique ids stay."""
        world = World()
        logged_in(world).say(b"DELE 1", b"QUIT")
        self.assertEqual(
            logged_in(world).say(b"UIDL"), b"+OK\r\n1 3857529045.2\r\n2 3857529045.3\r\n.\r\n"
        )

    def test_a_large_maildrop_is_asked_in_portions(self) -> None:
        """Sizes are asked for a few thousand messages at a time."""
        world = World(mails=0)
        box = world.access.named("INBOX")
        assert box is not None
        for _ in range(5001):
            world.access.put(box, b"\r\n")
        asked: list[int] = []
        records = FakeMailbox.records

        def counted(mailbox: FakeMailbox, uids: Any, columns: Any) -> Deferred[Any]:
            asked.append(len(uids))
            return records(mailbox, uids, columns)

        self.patch(FakeMailbox, "records", counted)
        self.assertEqual(logged_in(world).say(b"STAT"), b"+OK 5001 10002\r\n")
        self.assertEqual(asked, [5000, 1])
