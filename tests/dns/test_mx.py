"""Routes: RFC 5321 5.1, RFC 7505 and R-69."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from mailhost.dns.mx import (
    MAX_ADDRESSES,
    Route,
    RouteRules,
    balance,
    host_route,
    interleave,
    is_public,
    mail_hosts,
)
from mailhost.reply import Action
from tests.fakes import FakeResolver

ONE, TWO, THREE = "198.51.101.1", "198.51.101.2", "2a00:1450::3"
"""Addresses of the Internet at large."""


class MailHostsTests(SynchronousTestCase):
    """What the DNS makes of a domain."""

    def route(
        self,
        domain: str = "d.example",
        mx: Any = None,
        addresses: Any = None,
        seed: int = 1,
        failing: Any = (),
        **rules: Any,
    ) -> Route:
        resolver = FakeResolver(mx and {"d.example": mx}, addresses, failing=failing)
        self.resolver = resolver
        return self.successResultOf(mail_hosts(resolver, domain, RouteRules(**rules), Random(seed)))

    def names(self, route: Route) -> list[str]:
        return [host.name for host in route.hosts]

    def check_problem(self, route: Route, action: Action, status: str) -> None:
        self.assertEqual(route.hosts, ())
        assert route.problem is not None
        self.assertEqual((route.problem.action, route.problem.status), (action, status))

    def test_hosts_come_by_preference(self) -> None:
        """The lowest number first, with their addresses."""
        route = self.route(
            mx=[(20, "b.example"), (10, "a.example")],
            addresses={"a.example": [ONE], "b.example": [TWO]},
        )
        self.assertEqual(self.names(route), ["a.example", "b.example"])
        self.assertEqual(route.hosts[0].addresses, (ONE,))
        self.assertIsNone(route.problem)

    def test_equals_are_shuffled(self) -> None:
        """Among hosts of one preference each comes first now and then."""
        table = {name: [ONE] for name in ("a.example", "b.example", "c.example")}
        first = {
            self.names(self.route(mx=[(10, n) for n in table], addresses=table, seed=seed))[0]
            for seed in range(30)
        }
        self.assertEqual(first, set(table))

    def test_without_mx_the_domain_itself(self) -> None:
        """RFC 5321 5.1: an implicit MX."""
        route = self.route(addresses={"d.example": [ONE]})
        self.assertEqual(self.names(route), ["d.example"])

    def test_mx_without_address_is_no_reason_to_use_the_domain(self) -> None:
        """RFC 5321 5.1: with MX records the domain's own address does not count."""
        route = self.route(mx=[(10, "a.example")], addresses={"d.example": [ONE]})
        self.check_problem(route, Action.FAILED, "5.4.4")

    def test_null_mx(self) -> None:
        """RFC 7505: permanent, at once, even if the domain has an address."""
        route = self.route(mx=[(0, "")], addresses={"d.example": [ONE]})
        self.check_problem(route, Action.FAILED, "5.1.10")

    def test_null_mx_beside_others_is_passed_over(self) -> None:
        """RFC 7505 3 wants it alone; else the other hosts count."""
        route = self.route(mx=[(0, ""), (5, "a.example")], addresses={"a.example": [ONE]})
        self.assertEqual(self.names(route), ["a.example"])

    def test_unknown_domain(self) -> None:
        """NXDOMAIN is 5.1.2 (R-70)."""
        self.check_problem(self.route(), Action.FAILED, "5.1.2")

    def test_dns_trouble_is_temporary(self) -> None:
        """No answer is 4.4.3, for MX and for addresses (R-70)."""
        self.check_problem(self.route(failing=["d.example"]), Action.DELAYED, "4.4.3")
        route = self.route(mx=[(10, "a.example")], failing=["a.example"])
        self.check_problem(route, Action.DELAYED, "4.4.3")

    def test_host_in_trouble_is_left_for_the_next(self) -> None:
        """One host whose address is not known now does not stop the others."""
        route = self.route(
            mx=[(10, "a.example"), (20, "b.example")],
            addresses={"b.example": [TWO]},
            failing=["a.example"],
        )
        self.assertEqual(self.names(route), ["b.example"])

    def test_own_host_and_worse_are_dropped(self) -> None:
        """RFC 5321 5.1: only hosts better than ourselves are of use."""
        mx = [(10, "a.example"), (20, "b.example"), (20, "me.example"), (30, "c.example")]
        table = {name: [ONE] for _, name in mx}
        own = frozenset({"me.example"})
        route = self.route(mx=mx, addresses=table, own_hosts=own)
        self.assertEqual(self.names(route), ["a.example"])
        route = self.route(mx=mx[1:], addresses=table, own_hosts=own)
        self.check_problem(route, Action.FAILED, "5.4.6")

    def test_own_address_is_a_loop(self) -> None:
        """A host that is one of our addresses under another name counts as ourselves."""
        mx = [(10, "a.example"), (20, "b.example"), (20, "c.example")]
        table = {"a.example": [TWO], "b.example": [ONE], "c.example": [TWO]}
        own = frozenset({ONE})
        for seed in range(5):
            route = self.route(mx=mx, addresses=table, own_addresses=own, seed=seed)
            self.assertEqual(self.names(route), ["a.example"])
        route = self.route(addresses={"d.example": [ONE]}, own_addresses=own)
        self.check_problem(route, Action.FAILED, "5.4.6")

    def test_better_host_in_trouble_is_no_loop(self) -> None:
        """While a host before us cannot be looked up the mail waits."""
        mx = [(10, "a.example"), (20, "b.example")]
        route = self.route(
            mx=mx,
            addresses={"b.example": [ONE]},
            failing=["a.example"],
            own_addresses=frozenset({ONE}),
        )
        self.check_problem(route, Action.DELAYED, "4.4.3")

    def test_private_targets_are_refused(self) -> None:
        """A stranger's MX record does not lead into our network (R-69)."""
        inside = ["127.0.0.1", "10.1.2.3", "::1", "fe80::1", "169.254.169.254", "224.0.0.1"]
        for address in [*inside, "::ffff:10.0.0.1", "64:ff9b::7f00:1", "0.0.0.0"]:
            route = self.route(mx=[(10, "a.example")], addresses={"a.example": [address]})
            self.check_problem(route, Action.FAILED, "5.4.4")
        route = self.route(mx=[(10, "a.example")], addresses={"a.example": ["10.0.0.1", ONE]})
        self.assertEqual(route.hosts[0].addresses, (ONE,))

    def test_private_targets_can_be_allowed(self) -> None:
        """The setting for networks of one's own."""
        route = self.route(
            mx=[(10, "a.example")], addresses={"a.example": ["127.0.0.1"]}, allow_private=True
        )
        self.assertEqual(route.hosts[0].addresses, ("127.0.0.1",))

    def test_thousand_hosts(self) -> None:
        """Only the best few are looked up (R-69)."""
        mx = [(number, f"h{number}.example") for number in range(1000)]
        table = {name: [ONE] * 50 for _, name in mx}
        route = self.route(mx=mx, addresses=table)
        self.assertEqual(self.names(route), [f"h{number}.example" for number in range(10)])
        self.assertEqual(len(self.resolver.asked), 11)
        self.assertEqual(len(route.hosts[0].addresses), MAX_ADDRESSES)

    def test_same_host_twice_counts_once(self) -> None:
        """With its better preference."""
        mx = [(30, "a.example"), (20, "b.example"), (10, "a.example")]
        route = self.route(mx=mx, addresses={"a.example": [ONE], "b.example": [TWO]})
        self.assertEqual(self.names(route), ["a.example", "b.example"])

    def test_nonsense_host_names_are_passed_over(self) -> None:
        """An exchange that is no host name is not asked for."""
        mx = [(1, "a b.example"), (2, "x\\000.example"), (3, "*.example"), (4, "a" * 300)]
        route = self.route(
            mx=[*mx, (5, "xn--mller-kva.example")], addresses={"xn--mller-kva.example": [ONE]}
        )
        self.assertEqual(self.names(route), ["xn--mller-kva.example"])
        self.assertEqual(len(self.resolver.asked), 2)

    def test_address_literal(self) -> None:
        """RFC 5321 4.1.3: no DNS, but the same rules."""
        self.assertEqual(self.route(f"[{ONE}]").hosts[0].addresses, (ONE,))
        self.assertEqual(self.route(f"[IPv6:{THREE}]").hosts[0].addresses, (THREE,))
        self.assertEqual(self.resolver.asked, [])
        self.check_problem(self.route("[127.0.0.1]"), Action.FAILED, "5.4.4")
        own = frozenset({ONE})
        self.check_problem(self.route(f"[{ONE}]", own_addresses=own), Action.FAILED, "5.4.6")

    def test_secure_only_if_all_was(self) -> None:
        """Each answer on the way must have been validated."""
        for secure in (True, False):
            resolver = FakeResolver(
                {"d.example": [(1, "a.example")]}, {"a.example": [ONE]}, secure=secure
            )
            route = self.successResultOf(mail_hosts(resolver, "d.example", RouteRules(), Random()))
            self.assertEqual(route.secure, secure)

    def test_can_be_cancelled(self) -> None:
        """Nothing goes on after a cancel."""
        resolver = FakeResolver(
            {"d.example": [(1, "a.example"), (2, "b.example")]},
            {"a.example": [ONE], "b.example": [ONE]},
            late=True,
        )
        for settled in (False, True):
            deferred = mail_hosts(resolver, "d.example", RouteRules(), Random())
            if settled:
                waiter, answer = resolver._waiting.pop()
                waiter.callback(answer)
            deferred.cancel()
            self.failureResultOf(deferred, CancelledError)
        self.assertEqual(len(resolver.asked), 4)


class HostRouteTests(SynchronousTestCase):
    """A smarthost."""

    def route(self, host: str, **options: Any) -> Route:
        resolver = FakeResolver(addresses={"relay.example": ["10.0.0.1"]}, **options)
        return self.successResultOf(host_route(resolver, host, Random(1)))

    def test_names_addresses_and_literals(self) -> None:
        """It may be anything, also private: the operator wrote it."""
        for host, address in (
            ("relay.example", "10.0.0.1"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("[IPv6:::1]", "::1"),
        ):
            route = self.route(host)
            self.assertEqual([h.addresses for h in route.hosts], [(address,)])

    def test_missing_smarthost_delays(self) -> None:
        """A mistake in the configuration bounces nothing."""
        for options in ({}, {"failing": ["other.example"]}):
            problem = self.route("other.example", **options).problem
            assert problem is not None
            self.assertEqual((problem.action, problem.status), (Action.DELAYED, "4.4.3"))


class AddressOrderTests(SynchronousTestCase):
    """IPv6 and IPv4."""

    def test_interleave_takes_families_in_turn(self) -> None:
        """IPv6 first, then each in turn, nothing lost."""
        mixed = interleave(["192.0.2.1", "192.0.2.2", "192.0.2.3", "::1", "::2"], Random(3))
        self.assertEqual([":" in address for address in mixed], [True, False, True, False, False])
        self.assertEqual(len(set(mixed)), 5)

    def test_balance_keeps_both_families(self) -> None:
        """The first few hold the other family too, if there is one."""
        six = [("a", f"::{number}") for number in range(1, 7)]
        four = [("b", "192.0.2.1")]
        self.assertEqual(balance(six + four, 5), [*six[:4], *four])
        self.assertEqual(balance(six, 5), six[:5])
        self.assertEqual(balance(four + six, 5), four + six[:4])
        self.assertEqual(balance(six + four, 1), six[:1])

    def test_public_addresses(self) -> None:
        """What belongs to the Internet at large."""
        self.assertTrue(all(map(is_public, (ONE, THREE, "64:ff9b::808:808"))))
        self.assertFalse(any(map(is_public, ("2002:7f00:1::1", "fc00::1", "ff02::1"))))
