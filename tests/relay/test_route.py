"""Smarthosts and MX."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.dns.mx import RouteRules
from mailhost.interfaces.network import ITLSPolicy, TLSDemand
from mailhost.relay.route import Router, Smarthost, Way
from mailhost.relay.tls_policy import TLSPolicy
from tests.fakes import FakeResolver

DEFAULT, OTHER = Smarthost("relay.example"), Smarthost("10.0.0.1", 2525)


class RouterTests(SynchronousTestCase):
    """Which way for which domain."""

    def setUp(self) -> None:
        self.resolver = FakeResolver(
            {"d.example": [(1, "a.example")]},
            {"a.example": ["198.51.101.1"], "relay.example": ["198.51.101.9"]},
        )
        self.router = Router(
            self.resolver,
            RouteRules(),
            Random(1),
            port=2500,
            default=DEFAULT,
            table={"d.example": None, ".inner.example": OTHER, "x.inner.example": None},
        )

    def way(self, next_hop: str) -> Way:
        return self.successResultOf(self.router.way(next_hop))

    def test_next_hop_names_what_recipients_share(self) -> None:
        """Domains behind one smarthost have one next hop; a domain by MX is its own."""
        self.assertEqual(self.router.next_hop("d.example"), "d.example")
        self.assertEqual(self.router.next_hop("any.example"), "relay.example:587")
        self.assertEqual(self.router.next_hop("a.b.inner.example"), "10.0.0.1:2525")
        self.assertEqual(self.router.next_hop("inner.example"), "relay.example:587")
        self.assertEqual(self.router.next_hop("x.inner.example"), "x.inner.example")

    def test_way_by_mx(self) -> None:
        """Hosts of the domain, on the port that is set."""
        way = self.way("d.example")
        self.assertEqual((way.route.hosts[0].name, way.port), ("a.example", 2500))
        self.assertIsNone(way.smarthost)

    def test_way_by_smarthost(self) -> None:
        """The smarthost by its next hop, or by a domain that it serves; never its MX."""
        for next_hop in ("relay.example:587", "any.example"):
            way = self.way(next_hop)
            self.assertEqual((way.route.hosts[0].name, way.port), ("relay.example", 587))
            self.assertIs(way.smarthost, DEFAULT)
        self.assertEqual(self.way("10.0.0.1:2525").route.hosts[0].addresses, ("10.0.0.1",))
        self.assertNotIn("mx", [kind for kind, _ in self.resolver.asked])

    def test_password_is_not_shown(self) -> None:
        """No text form of a smarthost has its password."""
        self.assertNotIn("secret", repr(Smarthost("h", user="u", password="secret")))


class TLSPolicyTests(SynchronousTestCase):
    """What TLS is asked for."""

    def test_table_before_default(self) -> None:
        """The next hop counts before the host, and both before the default."""
        policy = TLSPolicy(table={"d.example": TLSDemand.VERIFIED, "a.example": TLSDemand.NONE})
        self.assertTrue(verifyObject(ITLSPolicy, policy))
        self.assertEqual(policy.demand("d.example", "a.example"), TLSDemand.VERIFIED)
        self.assertEqual(policy.demand("e.example", "a.example"), TLSDemand.NONE)
        self.assertEqual(policy.demand("e.example", "b.example"), TLSDemand.OPPORTUNISTIC)
