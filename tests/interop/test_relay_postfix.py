"""The relay delivers to a real Postfix, found through a real authoritative DNS server."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from random import Random

from twisted.internet import reactor
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from mailhost.address import Address
from mailhost.dns.exchange import DNSExchange
from mailhost.dns.mx import RouteRules
from mailhost.dns.resolver import Resolver
from mailhost.interfaces.network import TLSDemand
from mailhost.interfaces.spool import DeliveryRequest
from mailhost.relay.agent import RelayAgent, RelayTerms
from mailhost.relay.connections import DeadHosts
from mailhost.relay.route import Router
from mailhost.relay.tls_policy import ClientContexts, TLSPolicy
from mailhost.reply import DeliveryStatus
from mailhost.units import QueueID
from tests.interop.knot import Knot
from tests.interop.ports import wait_for
from tests.interop.postfix import Postfix
from tests.smtp.client_network import certificate_files

ZONE = """\
@ MX 10 mx
mx A 127.0.0.1
down MX 10 dead
down MX 20 mx
dead A 127.0.0.77
"""
HEADER = b"From: s@here.test\r\nSubject: over the wire\r\n\r\n"


class RelayToPostfixTests(TestCase):
    """One instance of Postfix for each test."""

    timeout = 120

    def setUp(self) -> None:
        Postfix.program()
        Knot.program()
        # Postfix's own user must be able to get there.
        self.directory = Path(tempfile.mkdtemp(prefix="mailhost-postfix-"))
        self.directory.chmod(0o755)
        self.addCleanup(shutil.rmtree, self.directory)
        certificate, key = certificate_files("mx.p.test", self.directory)
        self.postfix = Postfix(
            self.directory / "postfix",
            {"p.test": ["alice", "bob"], "down.p.test": ["carol"]},
            tls=(certificate, key),
            settings={"message_size_limit": "20000000", "smtpd_recipient_limit": "5"},
        )
        self.knot = Knot(self.directory / "knot", {"p.test": ZONE})
        for server in (self.postfix, self.knot):
            server.start()
            self.addCleanup(server.stop)
        self.trusted = [certificate.read_bytes()]
        self.pool = ThreadPool(0, 2)
        self.pool.start()
        self.addCleanup(self.pool.stop)

    def agent(self, policy: TLSPolicy | None = None) -> RelayAgent:
        servers = [(self.knot.address, self.knot.port)]
        exchange = DNSExchange(reactor, servers, lambda: secrets.randbelow(65536))
        router = Router(
            Resolver(exchange, reactor),
            RouteRules(allow_private=True),
            Random(1),
            port=self.postfix.port,
        )
        agent = RelayAgent(
            reactor,
            router,
            policy or TLSPolicy(),
            ClientContexts(self.trusted),
            partial(deferToThreadPool, reactor, self.pool),
            RelayTerms("here.test"),
            dead=DeadHosts(reactor, seconds=0),
        )
        self.addCleanup(agent.close)
        return agent

    async def deliver(
        self, agent: RelayAgent, names: Iterable[str], body: bytes | Path, domain: str = "p.test"
    ) -> list[DeliveryStatus]:
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        request = DeliveryRequest(
            QueueID("q"),
            Address("s", "here.test"),
            tuple(Address(name, domain) for name in names),
            domain,
            b"Received: from here\r\n",
            body,
            size,
        )
        return list(await agent.deliver(request))

    def arrived(self, address: str, count: int = 1) -> list[bytes]:
        wait_for(lambda: len(self.postfix.messages(address)) >= count, 20, f"mail for {address}")
        return self.postfix.messages(address)

    async def test_delivery_and_unknown_user(self) -> None:
        """Over STARTTLS; a message for two, and a 550 for a third that is nobody."""
        agent = self.agent()
        statuses = await self.deliver(
            agent, ["alice", "nobody", "bob"], HEADER + b".dots\r\n..\r\nend\r\n"
        )
        self.assertEqual(
            [(status.action.value, status.status) for status in statuses],
            [("relayed", "2.0.0"), ("failed", "5.1.1"), ("relayed", "2.0.0")],
        )
        self.assertEqual((statuses[1].reply_code, statuses[1].remote_mta), (550, "mx.p.test"))
        self.assertIn("TLSv1.3", statuses[0].tls)
        for address in ("alice@p.test", "bob@p.test"):
            [message] = self.arrived(address)
            self.assertTrue(message.endswith(b"\n\n.dots\n..\nend\n"), message)

    async def test_kept_connection_and_split_recipients(self) -> None:
        """Many messages use one connection; a recipient limit makes several transactions."""
        agent = self.agent()
        for _ in range(5):
            [status] = await self.deliver(agent, ["alice"], HEADER)
            self.assertTrue(status.done, str(status))
        statuses = await self.deliver(agent, ["bob"] * 12, HEADER)
        self.assertEqual({status.action.value for status in statuses}, {"relayed"})
        self.arrived("alice@p.test", 5)
        self.assertEqual(self.postfix.log().count(": connect from"), 2, self.postfix.log())

    async def test_large_file(self) -> None:
        """12 MB are streamed from a file and arrive unchanged."""
        path = self.directory / "large"
        path.write_bytes(HEADER + b"".join(b".%075d\r\n" % line for line in range(150_000)))
        [status] = await self.deliver(self.agent(), ["alice"], path)
        self.assertTrue(status.done, str(status))
        [message] = self.arrived("alice@p.test")
        expected = path.read_bytes().partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
        self.assertTrue(message.endswith(expected))

    async def test_second_mx_when_the_first_is_down(self) -> None:
        """The next host takes it."""
        [status] = await self.deliver(self.agent(), ["carol"], HEADER, "down.p.test")
        self.assertEqual((status.action.value, status.remote_mta), ("relayed", "mx.p.test"))
        self.arrived("carol@down.p.test")

    async def test_verified_tls(self) -> None:
        """A demand for a verified certificate is met by the right name and trust only."""
        policy = TLSPolicy(TLSDemand.VERIFIED)
        [status] = await self.deliver(self.agent(policy), ["alice"], HEADER)
        self.assertTrue(status.done, str(status))
        self.trusted = []
        [status] = await self.deliver(self.agent(policy), ["alice"], HEADER)
        self.assertEqual((status.action.value, status.status), ("delayed", "4.7.5"))

    async def test_dead_host_that_comes_back(self) -> None:
        """While Postfix is down the mail is delayed, afterwards it is delivered."""
        agent = self.agent()
        self.postfix.stop()
        [status] = await self.deliver(agent, ["alice"], HEADER)
        self.assertEqual((status.action.value, status.status), ("delayed", "4.4.1"))
        self.postfix.start()
        [status] = await self.deliver(agent, ["alice"], HEADER)
        self.assertTrue(status.done, str(status))
