"""The resolver, against servers that are functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailhost.dns.exchange import DNSExchange, decode_answer
from mailhost.dns.resolver import Resolver
from mailhost.dns.servers import is_loopback, parse_resolv_conf, system_servers
from mailhost.interfaces.network import Answer, AnswerStatus, MXRecord
from tests.contracts import resolver as contract
from tests.dns.network import SERVER, Network, Zone, reply
from tests.fakes import FakeResolver

OTHER = ("192.0.2.53", 53)


class Ids:
    """Query ids in order."""

    def __init__(self) -> None:
        self.last = 999

    def __call__(self) -> int:
        self.last += 1
        return self.last


def build(servers: dict[Any, Any], **options: Any) -> tuple[Resolver, Network]:
    network = Network(servers)
    return Resolver(DNSExchange(network, list(servers), Ids(), **options), network), network


class Case(SynchronousTestCase):
    """Moves the network and reads answers."""

    network: Network

    def use(self, servers: Any, **options: Any) -> Resolver:
        if callable(servers):
            servers = {SERVER: servers}
        resolver, self.network = build(servers, **options)
        return resolver

    def answer(self, deferred: Deferred[Answer], seconds: float = 0.1) -> Answer:
        self.network.run(seconds)
        result = self.successResultOf(deferred)
        self.assertEqual(self.network.ports, [], "a socket was left open")
        self.assertEqual(self.network.streams, [], "a connection was left open")
        self.assertEqual(self.network.getDelayedCalls(), [], "a timer was left running")
        return result


class ContractTests(Case, contract.ResolverContract, contract.LateResolverContract):
    """The contract, by the real resolver over an authoritative fake."""

    def resolver(self) -> Any:
        return self.use(
            Zone(contract.MX, contract.ADDRESSES, contract.TXT, contract.NAMES, contract.FAILING)
        )


class FakeContractTests(contract.ResolverContract, SynchronousTestCase):
    """The contract, by the fake."""

    def resolver(self) -> Any:
        return FakeResolver(
            contract.MX,
            contract.ADDRESSES,
            contract.TXT,
            contract.NAMES,
            failing=contract.FAILING,
        )


class AnswerTests(Case):
    """Which datagrams count, and what is made of them."""

    def test_wrong_id_question_and_sender_are_passed_over(self) -> None:
        """Only the answer to this very question is taken (R-55)."""

        def server(query: dns.message.Message, tcp: bool) -> list[bytes]:
            forged = reply(query, "x.example 60 MX 1 evil.example.")
            forged.id = query.id ^ 1
            other = reply(
                dns.message.make_query("y.example.", "MX", id=query.id),
                "y.example 60 MX 1 evil.example.",
            )
            request = dns.message.make_query("x.example.", "MX", id=query.id)
            true = reply(query, "x.example 60 MX 1 good.example.")
            return [m.to_wire() for m in (forged, other, request, true)] + [b"", b"\0" * 11]

        answer = self.answer(self.use(server).mx("x.example"))
        self.assertEqual(answer.records, (MXRecord(1, "good.example"),))

    def test_datagram_from_elsewhere_is_passed_over(self) -> None:
        """The sender's address must be the server's."""
        resolver = self.use({SERVER: None})
        deferred = resolver.mx("x.example")
        port = self.network.ports[0]
        query = dns.message.from_wire(self.network.sent[0][2])
        data = reply(query, "x.example 60 MX 1 evil.example.").to_wire()
        port.deliver(data, ("127.0.0.1", 5353))
        port.deliver(data, OTHER)
        self.assertNoResult(deferred)
        port.deliver(data, SERVER)
        self.successResultOf(deferred)

    def test_guessing_leads_to_tcp(self) -> None:
        """After many wrong datagrams the question is asked over TCP."""

        def server(query: dns.message.Message, tcp: bool) -> list[bytes]:
            good = reply(query, "x.example 60 MX 1 good.example.").to_wire()
            return [good] if tcp else [b"\0\0" + good[2:]] * 16 + [good]

        answer = self.answer(self.use(server).mx("x.example"))
        self.assertEqual(answer.status, AnswerStatus.FOUND)
        self.assertEqual([kind for kind, *_ in self.network.sent], ["udp", "tcp"])

    def test_truncated_answer_is_asked_again_over_tcp(self) -> None:
        """TC over UDP leads to TCP, where 64 KB of TXT are fine (R-55)."""
        texts = [f'x.example 60 TXT "{number:05}{"t" * 250}"' for number in range(235)]

        def server(query: dns.message.Message, tcp: bool) -> list[bytes]:
            if not tcp:
                return [reply(query, flags=dns.flags.TC).to_wire()]
            return [reply(query, *texts).to_wire(max_size=65535)]

        answer = self.answer(self.use(server).txt("x.example"), 1)
        self.assertEqual(len(answer.records), 235)
        self.assertEqual(sum(map(len, answer.records)), 235 * 255)

    def test_too_many_records_are_no_answer(self) -> None:
        """A message with thousands of records is not even parsed."""
        query = dns.message.make_query("x.example.", "A")
        message = reply(query, "x.example 60 A 192.0.2.1").to_wire()
        self.assertIsNotNone(decode_answer(query, message))
        self.assertIsNone(decode_answer(query, message[:6] + b"\xff\xff" + message[8:]))

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=80), st.integers(0, 60))
    def test_any_octets_are_an_answer_or_none(self, junk: bytes, keep: int) -> None:
        """Hostile octets never raise."""
        query = dns.message.make_query("x.example.", "MX")
        good = reply(query, "x.example 60 MX 1 good.example.").to_wire()
        decode_answer(query, good[:keep] + junk)
        decode_answer(query, good[:12] + junk)

    def test_edns_size_is_announced(self) -> None:
        """The question carries EDNS with 1232 octets and AD, and asks for recursion."""
        resolver = self.use(lambda query, tcp: [reply(query).to_wire()])
        self.answer(resolver.txt("x.example"))
        query = dns.message.from_wire(self.network.sent[0][2])
        self.assertEqual((query.edns, query.payload), (0, 1232))
        self.assertTrue(query.flags & dns.flags.AD and query.flags & dns.flags.RD)

    def test_server_without_edns_is_asked_without(self) -> None:
        """FORMERR leads to a question without EDNS, and is remembered."""

        def server(query: dns.message.Message, tcp: bool) -> list[bytes]:
            if query.edns >= 0:
                header = query.to_wire()[:2] + b"\x80\x01" + b"\0" * 8
                return [header]
            return working(query, tcp)

        resolver = self.use(server)
        self.answer(resolver.txt("x.example"))
        self.assertEqual(len(self.network.sent), 2)
        self.answer(resolver.txt("y.example"))
        self.assertEqual(len(self.network.sent), 3)


class AliasTests(Case):
    """CNAME chains."""

    def chain(self, length: int) -> list[str]:
        links = [f"c{number}.example 60 CNAME c{number + 1}.example." for number in range(length)]
        return [*links, f"c{length}.example 60 TXT end"]

    def test_chain_in_one_answer(self) -> None:
        """Aliases are followed to their data."""
        resolver = self.use(lambda query, tcp: [reply(query, *self.chain(5)).to_wire()])
        self.assertEqual(self.answer(resolver.txt("c0.example")).records, (b"end",))

    def test_chain_of_twenty_is_a_failure(self) -> None:
        """A chain that is too long, or a loop, is a temporary failure (R-55)."""
        resolver = self.use(lambda query, tcp: [reply(query, *self.chain(20)).to_wire()])
        self.assertEqual(self.answer(resolver.txt("c0.example")).status, AnswerStatus.FAILED)
        loop = ["c0.example 60 CNAME c1.example.", "c1.example 60 CNAME c0.example."]
        resolver = self.use(lambda query, tcp: [reply(query, *loop).to_wire()])
        self.assertEqual(self.answer(resolver.txt("c0.example")).status, AnswerStatus.FAILED)

    def link(self, query: dns.message.Message, tcp: bool) -> list[bytes]:
        name = query.question[0].name.to_text(omit_final_dot=True)
        number = int(name.removeprefix("c").removesuffix(".example"))
        if number == 3:
            return [reply(query, f"{name} 60 TXT end").to_wire()]
        return [reply(query, f"{name} 60 CNAME c{number + 1}.example.").to_wire()]

    def test_chain_across_answers(self) -> None:
        """An alias that the server did not follow is asked for, a bounded number of times."""
        resolver = self.use(self.link)
        self.assertEqual(self.answer(resolver.txt("c0.example")).records, (b"end",))
        self.assertEqual(self.answer(resolver.txt("c4.example"), 2).status, AnswerStatus.FAILED)
        self.assertEqual(len(self.network.sent), 4 + 16)

    def test_alias_to_nothing(self) -> None:
        """The status is that of the end of the chain."""
        alias = "a.example 60 CNAME b.example."
        resolver = self.use(
            lambda query, tcp: [reply(query, alias, rcode=dns.rcode.NXDOMAIN).to_wire()]
        )
        self.assertEqual(self.answer(resolver.mx("a.example")).status, AnswerStatus.NO_NAME)
        resolver = self.use(lambda query, tcp: [reply(query, alias, authority=Zone.SOA).to_wire()])
        self.assertEqual(self.answer(resolver.mx("a.example")).status, AnswerStatus.NO_DATA)
        self.assertEqual(len(self.network.sent), 1)


def working(query: dns.message.Message, tcp: bool) -> list[bytes]:
    return [reply(query, f"{query.question[0].name.to_text(True)} 60 TXT yes").to_wire()]


def broken(query: dns.message.Message, tcp: bool) -> list[bytes]:
    return [reply(query, rcode=dns.rcode.SERVFAIL).to_wire()]


class ServerTests(Case):
    """Which servers are asked, and for how long."""

    def test_silent_server_is_left_for_the_next(self) -> None:
        """After two seconds the next server is asked, and stays the first choice."""
        resolver = self.use({SERVER: None, OTHER: working})
        deferred = resolver.txt("x.example")
        self.network.run(1.9)
        self.assertNoResult(deferred)
        self.assertEqual(self.answer(deferred, 0.3).records, (b"yes",))
        self.assertEqual(self.answer(resolver.txt("y.example")).records, (b"yes",))
        self.assertEqual(self.network.sent[-1][1], OTHER)

    def test_refusing_and_broken_servers_are_left_at_once(self) -> None:
        """Port unreachable and SERVFAIL cost no time."""
        for bad in ("refuse", broken):
            resolver = self.use({SERVER: bad, OTHER: working})
            self.assertEqual(self.answer(resolver.txt("x.example")).records, (b"yes",))

    def test_servfail_everywhere_is_temporary(self) -> None:
        """SERVFAIL of all is FAILED, asked once of each (R-55)."""
        resolver = self.use({SERVER: broken, OTHER: broken})
        answer = self.answer(resolver.mx("x.example"))
        self.assertEqual(answer.status, AnswerStatus.FAILED)
        self.assertIn("SERVFAIL", answer.problem)
        self.assertEqual(len(self.network.sent), 2)

    def test_referral_is_no_answer(self) -> None:
        """A server that only points elsewhere is of no use."""
        authority = ["example 60 NS ns.example."]
        resolver = self.use(
            lambda query, tcp: [reply(query, authority=authority, flags=0).to_wire()]
        )
        self.assertEqual(self.answer(resolver.mx("x.example")).status, AnswerStatus.FAILED)

    def test_time_is_bounded(self) -> None:
        """Silence ends after two rounds, or earlier at the limit."""
        resolver = self.use({SERVER: None})
        deferred = resolver.txt("x.example")
        self.network.run(5.9, 0.1)
        self.assertNoResult(deferred)
        self.assertEqual(self.answer(deferred, 0.3).status, AnswerStatus.FAILED)
        resolver = self.use({SERVER: None}, limit=3.0)
        self.assertEqual(self.answer(resolver.txt("x.example"), 3.1).status, AnswerStatus.FAILED)

    def test_silent_tcp_is_bounded(self) -> None:
        """A server that truncates and then says nothing over TCP does not hold the question."""
        resolver = self.use(
            lambda query, tcp: [] if tcp else [reply(query, flags=dns.flags.TC).to_wire()]
        )
        answer = self.answer(resolver.txt("x.example"), 16)
        self.assertEqual(answer.status, AnswerStatus.FAILED)
        self.assertIn("TCP", answer.problem)

    def test_no_server(self) -> None:
        """Without servers every look-up fails."""
        self.assertEqual(self.answer(self.use({}).txt("x.example")).status, AnswerStatus.FAILED)

    def test_validation_is_believed_of_loopback_only(self) -> None:
        """AD counts only from a server on this machine."""
        ad = dns.flags.AD | dns.flags.RA
        for server, secure in ((SERVER, True), (OTHER, False)):
            resolver = self.use(
                {server: lambda q, tcp: [reply(q, "x.example 60 TXT t", flags=ad).to_wire()]}
            )
            self.assertEqual(self.answer(resolver.txt("x.example")).secure, secure)

    def test_concurrency_is_bounded(self) -> None:
        """Questions beyond the bound wait for a socket."""
        resolver = self.use({SERVER: None}, max_concurrent=2)
        waiting = [resolver.txt(f"{number}.example") for number in range(5)]
        self.assertEqual(len(self.network.ports), 2)
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.assertEqual(len(self.network.ports), 2)
        for deferred in waiting[1:]:
            deferred.cancel()
            self.failureResultOf(deferred, CancelledError)
        self.assertEqual(self.network.ports, [])


class KeepingTests(Case):
    """What is remembered, and what is asked once only."""

    def test_answer_is_kept_for_its_ttl(self) -> None:
        """A second question within the time to live costs nothing."""
        resolver = self.use(working)
        self.answer(resolver.txt("x.example"))
        self.network.advance(59)
        self.successResultOf(resolver.txt("X.example."))
        self.assertEqual(len(self.network.sent), 1)
        self.network.advance(2)
        self.answer(resolver.txt("x.example"))
        self.assertEqual(len(self.network.sent), 2)

    def test_absence_is_kept_as_the_soa_says(self) -> None:
        """RFC 2308 5: the lesser of the SOA's TTL and its minimum."""
        soa = ("example 600 SOA ns.example. root.example. 1 2 3 4 30",)
        resolver = self.use(
            lambda q, tcp: [reply(q, rcode=dns.rcode.NXDOMAIN, authority=soa).to_wire()]
        )
        self.answer(resolver.txt("x.example"))
        self.network.advance(29)
        self.successResultOf(resolver.txt("x.example"))
        self.network.advance(2)
        self.assertNoResult(resolver.txt("x.example"))

    def test_failure_is_kept_briefly(self) -> None:
        """A failure is remembered for seconds, then asked again."""
        resolver = self.use(broken)
        self.answer(resolver.txt("x.example"))
        self.successResultOf(resolver.txt("x.example"))
        self.network.advance(6)
        self.network.servers[SERVER] = working
        self.assertEqual(self.answer(resolver.txt("x.example")).status, AnswerStatus.FOUND)

    def test_equal_questions_share_one_answer(self) -> None:
        """While a question is on its way the same one is not sent again."""
        resolver = self.use(working)
        both = [resolver.txt("x.example"), resolver.txt("x.example")]
        self.assertEqual(len(self.network.sent), 1)
        both[0].cancel()
        self.failureResultOf(both[0], CancelledError)
        self.assertEqual(self.answer(both[1]).status, AnswerStatus.FOUND)

    def test_nobody_waiting_ends_the_question(self) -> None:
        """When the last one loses interest the socket is closed, and a new question is sent."""
        resolver = self.use(working)
        for deferred in [resolver.txt("x.example"), resolver.txt("x.example")]:
            deferred.cancel()
            self.failureResultOf(deferred, CancelledError)
        self.assertEqual(self.network.ports, [])
        self.assertEqual(self.answer(resolver.txt("x.example")).status, AnswerStatus.FOUND)

    def test_cancelling_another_from_an_answer(self) -> None:
        """One waiter may cancel the next while the answer is being handed out."""
        resolver = self.use(working)
        first, second = resolver.txt("x.example"), resolver.txt("x.example")
        first.addCallback(lambda _: second.cancel())
        self.network.run(0.1)
        self.failureResultOf(second, CancelledError)

    def test_localhost_is_never_asked(self) -> None:
        """RFC 6761 6.3: localhost is this machine whatever a server says."""
        resolver = self.use({SERVER: None})
        answer = self.successResultOf(resolver.addresses("mail.localhost"))
        self.assertEqual(answer.records, ("::1", "127.0.0.1"))
        self.assertEqual(
            self.successResultOf(resolver.mx("localhost")).status, AnswerStatus.NO_DATA
        )

    def test_impossible_names_do_not_exist(self) -> None:
        """What cannot stand in the DNS is not asked for."""
        resolver = self.use({SERVER: None})
        for name in ("a" * 64 + ".example", "a..b", "\xfc.example", ("a" * 60 + ".") * 5):
            answer = self.successResultOf(resolver.mx(name))
            self.assertEqual(answer.status, AnswerStatus.NO_NAME)
        answer = self.successResultOf(resolver.names("no address"))
        self.assertEqual(answer.status, AnswerStatus.NO_NAME)


class SystemServersTests(SynchronousTestCase):
    """resolv.conf."""

    def test_nameserver_lines(self) -> None:
        """Every nameserver line with an address counts, in order, once."""
        text = "# x\nsearch a.b\nnameserver 192.0.2.1\nnameserver\nnameserver oops\n"
        text += "nameserver ::1\nnameserver 192.0.2.1\noptions rotate\n"
        self.assertEqual(parse_resolv_conf(text), (("192.0.2.1", 53), ("::1", 53)))

    def test_without_servers_it_is_this_machine(self) -> None:
        """An empty or missing file means the local server."""
        self.assertEqual(parse_resolv_conf(""), (("127.0.0.1", 53),))
        self.assertEqual(system_servers(Path(self.mktemp())), (("127.0.0.1", 53),))

    def test_loopback(self) -> None:
        """Only addresses of this machine are loopback."""
        self.assertTrue(is_loopback(("127.0.0.53", 53)) and is_loopback(("::1", 53)))
        self.assertFalse(is_loopback(("192.0.2.1", 53)) or is_loopback(("fe80::1%eth0", 53)))
