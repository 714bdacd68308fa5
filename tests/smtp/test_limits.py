"""Connection counts."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.smtp.limits import ConnectionLimits


class ConnectionLimitsTests(SynchronousTestCase):
    """Admitting and leaving."""

    def test_per_client(self) -> None:
        """A client has its number; one that leaves makes room."""
        limits = ConnectionLimits(total=10, per_client=2)
        self.assertTrue(limits.admit("192.0.2.1") and limits.admit("192.0.2.1"))
        self.assertFalse(limits.admit("192.0.2.1"))
        self.assertTrue(limits.admit("192.0.2.2"))
        limits.leave("192.0.2.1")
        self.assertTrue(limits.admit("192.0.2.1"))

    def test_total(self) -> None:
        """All clients together have theirs."""
        limits = ConnectionLimits(total=2, per_client=2)
        self.assertTrue(limits.admit("a") and limits.admit("b"))
        self.assertFalse(limits.admit("c"))
        limits.leave("a")
        limits.leave("b")
        self.assertEqual((limits.open, limits._clients), (0, {}))

    def test_ipv6_network_is_one_client(self) -> None:
        """A /64 counts as one; mapped IPv4 addresses are apart."""
        limits = ConnectionLimits(total=10, per_client=1)
        self.assertTrue(limits.admit("2001:db8::1"))
        self.assertFalse(limits.admit("2001:db8::2"))
        self.assertTrue(limits.admit("2001:db8:0:1::1"))
        self.assertTrue(limits.admit("::ffff:192.0.2.1") and limits.admit("::ffff:192.0.2.2"))
        self.assertFalse(limits.admit("192.0.2.1"))
        self.assertTrue(limits.admit("fe80::1%eth0") and limits.admit("not:an:address"))

    def test_neighbourhoods(self) -> None:
        """A /26 may have three times and a /21 nine times what one client may (P6)."""
        limits = ConnectionLimits(total=1000, per_client=2)
        taken = [f"203.0.113.{host}" for host in range(64) if limits.admit(f"203.0.113.{host}")]
        self.assertEqual(len(taken), 6)
        self.assertTrue(limits.admit("203.0.113.64"))
        for host in range(256):
            limits.admit(f"203.0.112.{host}")
            limits.admit(f"203.0.114.{host}")
        self.assertEqual(limits.open, 18)
        self.assertTrue(limits.admit("203.0.120.1"))
        for peer in taken:
            limits.leave(peer)
        self.assertTrue(limits.admit("203.0.113.1"))

    def test_rate(self) -> None:
        """New connections of a minute are limited, those of this machine are not."""
        clock = Clock()
        limits = ConnectionLimits(1000, 1000, 5, clock.seconds)
        self.assertEqual(sum(limits.admit("192.0.2.1") for _ in range(20)), 5)
        self.assertEqual(sum(limits.admit(f"192.0.2.{n}") for n in range(2, 40)), 10)
        self.assertTrue(all(limits.admit("127.0.0.1") for _ in range(20)))
        clock.advance(121)
        self.assertTrue(limits.admit("192.0.2.1"))
