"""Kept connections and dead hosts: their bounds."""

from __future__ import annotations

from typing import cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.interfaces.network import TLSDemand
from mailhost.relay.connections import ConnectionKey, DeadHosts, SessionPool
from mailhost.reply import Action, DeliveryStatus
from mailhost.smtp.client.session import SMTPClientSession


class FakeConnection:
    def __init__(self) -> None:
        self.on_failed = lambda: None


class FakeSession:
    """A session that only counts."""

    def __init__(self, uses: int = 1) -> None:
        self.connection = FakeConnection()
        self.uses, self.usable, self.ended = uses, True, False

    def quit(self) -> None:
        self.ended = True


def key(name: str) -> ConnectionKey:
    return ConnectionKey(name, 25, TLSDemand.NONE)


class SessionPoolTests(SynchronousTestCase):
    """How many, how long, how often."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.pool = SessionPool(self.clock, idle=10, max_uses=3, max_kept=3, max_per_host=2)

    def keep(self, name: str, uses: int = 1) -> FakeSession:
        session = FakeSession(uses)
        self.pool.keep(key(name), cast(SMTPClientSession, session))
        return session

    def test_last_one_comes_first(self) -> None:
        """The warmest connection is taken, and is no longer the pool's."""
        first, last = self.keep("a"), self.keep("a")
        self.assertIs(self.pool.take(key("a")), last)
        self.assertIs(self.pool.take(key("a")), first)
        self.assertIsNone(self.pool.take(key("a")))
        self.assertNotIn(key("a"), self.pool)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_idle_time(self) -> None:
        """It ends when nobody wants it."""
        session = self.keep("a")
        self.clock.advance(9)
        self.assertFalse(session.ended)
        self.clock.advance(1)
        self.assertTrue(session.ended)
        self.assertEqual(len(self.pool), 0)

    def test_bounds(self) -> None:
        """Per host, in all, and by uses; the oldest goes."""
        sessions = [self.keep("a"), self.keep("a"), self.keep("a")]
        self.assertEqual([s.ended for s in sessions], [True, False, False])
        others = [self.keep("b"), self.keep("c")]
        self.assertEqual([s.ended for s in sessions + others], [True, True, False, False, False])
        self.assertEqual(len(self.pool), 3)
        self.assertTrue(self.keep("d", uses=3).ended)

    def test_keys_are_apart(self) -> None:
        """A connection in clear text does not serve who demands TLS, nor one user another."""
        self.keep("a")
        for other in (
            ConnectionKey("a", 25, TLSDemand.VERIFIED),
            ConnectionKey("a", 26, TLSDemand.NONE),
            ConnectionKey("a", 25, TLSDemand.NONE, "u"),
        ):
            self.assertIsNone(self.pool.take(other))

    def test_lost_connection_leaves(self) -> None:
        """What the server closes is not given out."""
        session = self.keep("a")
        session.connection.on_failed()
        self.assertIsNone(self.pool.take(key("a")))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        session.usable = False
        self.pool.keep(key("a"), cast(SMTPClientSession, session))
        self.assertEqual(len(self.pool), 0)

    def test_close(self) -> None:
        """All end."""
        sessions = [self.keep("a"), self.keep("a"), self.keep("b")]
        self.pool.close()
        self.assertTrue(all(session.ended for session in sessions))
        self.assertEqual((len(self.pool), self.clock.getDelayedCalls()), (0, []))


class DeadHostsTests(SynchronousTestCase):
    """What is remembered of the dead."""

    STATUS = DeliveryStatus(Action.DELAYED, "4.4.1", "refused")

    def test_memory_is_short_and_bounded(self) -> None:
        """For its seconds, by address and port, so many at most."""
        clock = Clock()
        dead = DeadHosts(clock, 30, max_entries=2)
        dead.mark("a", 25, self.STATUS)
        self.assertEqual(dead.get("a", 25), self.STATUS)
        self.assertIsNone(dead.get("a", 26))
        clock.advance(30)
        self.assertIsNone(dead.get("a", 25))
        for name in "abc":
            dead.mark(name, 25, self.STATUS)
        self.assertEqual([dead.get(n, 25) is None for n in "abc"], [True, False, False])
        clock.rightNow = 0.0
        self.assertIsNone(dead.get("c", 25), "a clock that was set back keeps nobody dead")
