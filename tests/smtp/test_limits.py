"""Connection counts."""

from __future__ import annotations

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
