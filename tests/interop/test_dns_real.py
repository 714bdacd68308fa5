"""The resolver and the routes against a real authoritative server (Knot DNS)."""

from __future__ import annotations

import secrets
from pathlib import Path
from random import Random

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from mailhost.dns.exchange import DNSExchange
from mailhost.dns.mx import Route, RouteRules, mail_hosts
from mailhost.dns.resolver import Resolver
from mailhost.interfaces.network import AnswerStatus, MXRecord
from tests.interop.knot import Knot

ZONE = """\
two MX 20 b.two
two MX 10 a.two
a.two A 198.51.101.1
a.two AAAA 2a00:1450::1
b.two A 198.51.101.2
null MX 0 .
plain A 198.51.101.3
alias CNAME two
away CNAME plain.other.test.
dangling CNAME nothing
text TXT "v=spf1 " "-all"
long TXT ( {long} )
empty.below A 198.51.101.4
"""
OTHER = "plain MX 5 mx\nmx A 198.51.101.9"


class RealDNSTests(TestCase):
    """Every kind of answer, over real sockets."""

    timeout = 60

    def setUp(self) -> None:
        zone = ZONE.format(long=" ".join(f'"{n:03}{"x" * 250}"' for n in range(100)))
        self.knot = Knot(Path(self.mktemp()), {"mail.test": zone, "other.test": OTHER})
        self.knot.start()
        self.addCleanup(self.knot.stop)
        servers = [(self.knot.address, self.knot.port)]
        exchange = DNSExchange(reactor, servers, lambda: secrets.randbelow(65536))
        self.resolver = Resolver(exchange, reactor)

    async def route(self, domain: str) -> Route:
        return await mail_hosts(self.resolver, f"{domain}.mail.test", RouteRules(), Random(1))

    async def status(self, domain: str) -> str:
        problem = (await self.route(domain)).problem
        assert problem is not None
        return f"{problem.action.value} {problem.status}"

    async def test_several_mx(self) -> None:
        """MX hosts by preference with the addresses of both families."""
        route = await self.route("two")
        self.assertEqual([h.name for h in route.hosts], ["a.two.mail.test", "b.two.mail.test"])
        self.assertEqual(route.hosts[0].addresses, ("2a00:1450::1", "198.51.101.1"))

    async def test_null_mx(self) -> None:
        """RFC 7505."""
        self.assertEqual(await self.status("null"), "failed 5.1.10")

    async def test_no_mx(self) -> None:
        """The domain's own address."""
        route = await self.route("plain")
        self.assertEqual([h.addresses for h in route.hosts], [("198.51.101.3",)])

    async def test_alias(self) -> None:
        """A CNAME of the domain, within the zone and out of it."""
        self.assertEqual(len((await self.route("alias")).hosts), 2)
        self.assertEqual((await self.route("away")).hosts[0].name, "mx.other.test")

    async def test_no_such_name(self) -> None:
        """NXDOMAIN, also behind an alias; an empty non-terminal has no data instead."""
        self.assertEqual(await self.status("nowhere"), "failed 5.1.2")
        self.assertEqual(await self.status("dangling"), "failed 5.1.2")
        self.assertEqual(await self.status("below"), "failed 5.4.4")

    async def test_refused_is_temporary(self) -> None:
        """A zone that the server does not have is trouble, not absence."""
        answer = await self.resolver.mx("foreign.example")
        self.assertEqual(answer.status, AnswerStatus.FAILED)
        self.assertIn("REFUSED", answer.problem)

    async def test_large_answer_over_tcp(self) -> None:
        """25 KB of TXT need TCP."""
        answer = await self.resolver.txt("long.mail.test")
        self.assertEqual([len(record) for record in answer.records], [25300])
        answer = await self.resolver.txt("text.mail.test")
        self.assertEqual(answer.records, (b"v=spf1 -all",))

    async def test_change_of_a_zone(self) -> None:
        """What the server says anew is seen when the old answer has expired."""
        resolver = self.resolver
        before = await resolver.mx("plain.other.test")
        self.knot.update("other.test", "plain MX 7 mx2")
        resolver.clear()
        after = await resolver.mx("plain.other.test")
        self.knot.update("other.test", OTHER)
        self.assertEqual(before.records, (MXRecord(5, "mx.other.test"),))
        self.assertEqual(after.records, (MXRecord(7, "mx2.other.test"),))

    async def test_dead_server(self) -> None:
        """Nobody there is noticed at once."""
        exchange = DNSExchange(reactor, [("127.0.0.1", 9)], lambda: 1)
        answer = await Resolver(exchange, reactor).mx("two.mail.test")
        self.assertEqual(answer.status, AnswerStatus.FAILED)
