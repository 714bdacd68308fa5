"""The delivery agent, over a network and a DNS in memory."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.address import Address
from mailhost.dns.mx import RouteRules
from mailhost.interfaces.network import TLSDemand
from mailhost.interfaces.spool import Body, DeliveryRequest, IDeliveryAgent
from mailhost.relay.agent import RelayAgent, RelayTerms
from mailhost.relay.route import Router, Smarthost, SmarthostTLS
from mailhost.relay.tls_policy import ClientContexts, TLSPolicy
from mailhost.reply import DeliveryStatus
from mailhost.units import QueueID
from tests.fakes import FakeResolver
from tests.smtp.client_network import Network, Server, certificate

A, B, C = "198.51.101.1", "198.51.101.2", "198.51.101.3"
MX = {"d.example": [(10, "a.example"), (20, "b.example")]}
HOSTS = {"a.example": [A], "b.example": [B], "relay.example": [C]}
MESSAGE = b"Subject: x\r\n\r\nHello\r\n"


def in_thread(call: Any, *arguments: Any) -> Deferred[Any]:
    return execute(call, *arguments)


class Case(SynchronousTestCase):
    """One agent; servers are put at addresses."""

    def setUp(self) -> None:
        self.events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.network = Network()
        self.build()

    def build(self, mx: Any = MX, hosts: Any = HOSTS, **options: Any) -> None:
        self.resolver = FakeResolver(mx, hosts, failing=options.pop("failing", ()))
        terms = RelayTerms("me.example", **options.pop("terms", {}))
        policy = options.pop("policy", TLSPolicy())
        router = Router(self.resolver, RouteRules(), Random(1), **options)
        contexts = ClientContexts([certificate("a.example")[1], certificate("relay.example")[1]])
        self.agent = RelayAgent(self.network, router, policy, contexts, in_thread, terms)

    def serve(self, address: str, server: Any, port: int = 25) -> Any:
        self.network.servers[address, port] = server
        return server

    def request(self, *names: str, next_hop: str = "d.example", **options: Any) -> DeliveryRequest:
        recipients = tuple(Address(name, "d.example") for name in names or ("x",))
        content = options.pop("content", MESSAGE)
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        return DeliveryRequest(
            QueueID("q1"),
            Address("s", "here.example"),
            recipients,
            next_hop,
            b"Received: y\r\n",
            content,
            size,
            **options,
        )

    def start(self, *names: str, **options: Any) -> Deferred[tuple[DeliveryStatus, ...]]:
        deferred = self.agent.deliver(self.request(*names, **options))
        self.network.settle()
        return deferred

    def deliver(self, *names: str, **options: Any) -> list[tuple[str, str]]:
        self.statuses = self.successResultOf(self.start(*names, **options))
        return [(status.action.value, status.status) for status in self.statuses]

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("event") == name]

    def dialled(self) -> list[str]:
        return [address for address, _ in self.network.dialled]


class DeliveryTests(Case):
    """One attempt."""

    def test_provides_the_interface(self) -> None:
        """It is an IDeliveryAgent."""
        self.assertTrue(verifyObject(IDeliveryAgent, self.agent))

    def test_message_reaches_the_best_host(self) -> None:
        """Prefix and content arrive; the status says who took it, and one event is logged."""
        server = self.serve(A, Server())
        self.assertEqual(self.deliver("x", "y"), [("relayed", "2.0.0")] * 2)
        self.assertEqual(server.messages, [b"Received: y\r\n" + MESSAGE])
        self.assertEqual(self.dialled(), [A])
        self.assertEqual(self.statuses[0].remote_mta, "a.example")
        [event] = self.named("relay.attempt")
        self.assertEqual(
            {key: event[key] for key in ("queue_id", "next_hop", "relay_host", "address", "tls")},
            {
                "queue_id": "q1",
                "next_hop": "d.example",
                "relay_host": "a.example",
                "address": A,
                "tls": "",
            },
        )
        self.assertEqual((event["relayed"], event["reply"]), (2, "250 2.0.0 queued"))

    def test_no_route(self) -> None:
        """What the DNS says is the status of everyone; nobody is connected to."""
        for next_hop, expected in (
            ("nowhere.example", ("failed", "5.1.2")),
            ("null.example", ("failed", "5.1.10")),
            ("broken.example", ("delayed", "4.4.3")),
        ):
            self.build({"null.example": [(0, "")]}, failing=["broken.example"])
            self.assertEqual(self.deliver("x", "y", next_hop=next_hop), [expected] * 2)
        self.assertEqual(self.dialled(), [])

    def test_dead_host_is_left_for_the_next(self) -> None:
        """A refused connection, and one that does not come about, lead to the next MX."""
        for dead in ("refuse", "silent"):
            self.build()
            self.serve(A, dead)
            self.serve(B, Server())
            deferred = self.start()
            self.network.advance(30)
            [status] = self.successResultOf(deferred)
            self.assertEqual((status.action.value, status.remote_mta), ("relayed", "b.example"))

    def test_nobody_answers(self) -> None:
        """All hosts down is a delay with 4.4.1."""
        self.assertEqual(self.deliver(), [("delayed", "4.4.1")])
        self.assertIn("refused", self.statuses[0].diagnostic)

    def test_dead_hosts_are_remembered_briefly(self) -> None:
        """The next message does not wait for them again; later they are tried."""
        self.deliver()
        self.assertEqual(self.deliver(), [("delayed", "4.4.1")])
        self.assertEqual(self.dialled(), [A, B])
        self.network.advance(31)
        self.serve(A, Server())
        self.assertEqual(self.deliver(), [("relayed", "2.0.0")])

    def test_forget_makes_dead_hosts_be_tried(self) -> None:
        """An administrator who mended the host need not wait."""
        self.deliver()
        self.serve(A, Server())
        self.assertEqual(self.deliver(), [("delayed", "4.4.1")])
        self.agent.forget()
        self.assertEqual(self.deliver(), [("relayed", "2.0.0")])

    def test_host_that_turns_away_is_left_for_the_next(self) -> None:
        """A 4xx or 5xx greeting, or 421, leads to the next MX."""
        for greeting in ("450 busy", "421 busy", "554 not you"):
            self.build()
            self.serve(A, Server(replies={"greeting": greeting}))
            self.serve(B, Server())
            self.assertEqual(self.deliver(), [("relayed", "2.0.0")])

    def test_turned_away_by_all(self) -> None:
        """Only if every host says 5xx it is permanent."""
        self.serve(A, Server(replies={"greeting": "554 5.7.1 not you"}))
        self.serve(B, Server(replies={"greeting": "554 5.7.1 not you"}))
        self.assertEqual(self.deliver(), [("failed", "5.7.1")])
        for other in (Server(replies={"greeting": "450 busy"}), "refuse"):
            self.build()
            self.serve(B, other)
            self.assertEqual(self.deliver()[0][0], "delayed")

    def test_recipients_are_final_at_the_first_host(self) -> None:
        """What a host says of a recipient is not asked of the next."""
        self.serve(A, Server(replies={"RCPT TO:<x@": "450 4.2.0 grey", "RCPT TO:<y@": "550 no"}))
        self.serve(B, Server())
        self.assertEqual(
            self.deliver("x", "y", "z"),
            [("delayed", "4.2.0"), ("failed", "5.1.1"), ("relayed", "2.0.0")],
        )
        self.assertEqual(self.dialled(), [A])

    def test_refusal_for_now_leads_to_the_next_host(self) -> None:
        """MAIL, DATA or message refused with 4xx: another host may take it."""
        for key in ("MAIL", "DATA", "message"):
            self.build()
            self.serve(A, Server(replies={key: "452 4.3.1 full", "RCPT TO:<y@": "550 no"}))
            second = self.serve(B, Server())
            expected = [("relayed", "2.0.0"), ("failed", "5.1.1")]
            if key == "MAIL":
                expected[1] = ("relayed", "2.0.0")
            self.assertEqual(self.deliver("x", "y"), expected)
            self.assertEqual(len(second.messages), 1)

    def test_refusal_for_good_is_final(self) -> None:
        """A 5xx is not appealed at another host."""
        self.serve(A, Server(replies={"MAIL": "550 5.7.1 no"}))
        self.assertEqual(self.deliver("x", "y"), [("failed", "5.7.1")] * 2)
        self.assertEqual(self.dialled(), [A])

    def test_two_sessions_fail_and_no_more(self) -> None:
        """After two sessions that end in the middle the attempt is over."""
        mx = {"d.example": [(n, f"h{n}.example") for n in range(4)]}
        hosts = {f"h{n}.example": [f"198.51.101.{n + 1}"] for n in range(4)}
        self.build(mx, hosts)
        for n in range(4):
            self.serve(f"198.51.101.{n + 1}", Server(replies={"RCPT": Server.drop}))
        self.assertEqual(self.deliver(), [("delayed", "4.4.2")])
        self.assertEqual(len(self.dialled()), 2)

    def test_five_addresses_and_no_more(self) -> None:
        """Of many dead addresses five are tried."""
        hosts = {"a.example": [f"198.51.101.{n + 1}" for n in range(20)]}
        self.build({"d.example": [(1, "a.example")]}, hosts)
        self.assertEqual(self.deliver(), [("delayed", "4.4.1")])
        self.assertEqual(len(self.dialled()), 5)

    def test_lost_after_the_dot_is_not_tried_elsewhere(self) -> None:
        """Nobody knows who has it: delayed, logged, no second host (R-68, P3)."""
        self.serve(A, Server(replies={"message": Server.drop, "RCPT TO:<y@": "550 no"}))
        self.serve(B, Server())
        self.assertEqual(self.deliver("x", "y"), [("delayed", "4.4.2"), ("failed", "5.1.1")])
        self.assertEqual(self.dialled(), [A])
        [event] = self.named("relay.duplicate_possible")
        self.assertEqual((event["queue_id"], event["relay_host"]), ("q1", "a.example"))

    def test_421_after_the_dot_is_an_answer(self) -> None:
        """Then the message was not taken, and may go to the next host."""
        self.serve(A, Server(replies={"message": "421 4.3.2 going down"}))
        self.serve(B, Server())
        self.assertEqual(self.deliver(), [("relayed", "2.0.0")])
        self.assertEqual(self.named("relay.duplicate_possible"), [])

    def test_too_many_recipients_get_more_transactions(self) -> None:
        """RFC 5321 4.5.3.1.10: the rest follows in the same session (R-70)."""

        class Few(Server):
            def command(self, line: str) -> None:
                if line.startswith("RCPT") and len(self.envelope) >= 3:
                    self.send("452 4.5.3 too many")
                else:
                    super().command(line)

        server = self.serve(A, Few())
        self.assertEqual(self.deliver(*"abcde"), [("relayed", "2.0.0")] * 5)
        self.assertEqual([len(envelope) - 1 for envelope in server.envelopes], [2, 2, 1])
        self.assertEqual(len(self.dialled()), 1)

    def test_full_host_does_not_split_for_ever(self) -> None:
        """452 to everybody is a delay."""
        self.serve(A, Server(replies={"RCPT": "452 4.5.3 too many"}))
        self.assertEqual(self.deliver("a", "b"), [("delayed", "4.5.3")] * 2)

    def test_file_content(self) -> None:
        """Content from a spool file arrives; a file that is gone delays."""
        path = Path(self.mktemp())
        path.write_bytes(b"x: y\r\n\r\n" + b"line\r\n" * 50_000)
        server = self.serve(A, Server())
        self.assertEqual(self.deliver(content=path), [("relayed", "2.0.0")])
        self.assertEqual(len(server.messages[0]), len(b"Received: y\r\n") + path.stat().st_size)
        request = self.request(content=path)
        path.unlink()
        deferred = self.agent.deliver(request)
        self.network.settle()
        [status] = self.successResultOf(deferred)
        self.assertEqual((status.action.value, status.status), ("delayed", "4.3.0"))
        self.assertEqual(len(self.named("relay.content_fault")), 1)
        self.assertEqual(len(self.agent.pool), 0)

    def test_eight_bit_refused(self) -> None:
        """What a host does not take is a failure with its reason."""
        self.serve(A, Server([]))
        self.assertEqual(
            self.deliver(content="x: y\r\n\r\n\xe9".encode(), body=Body.EIGHT_BIT),
            [("failed", "5.6.3")],
        )

    def test_our_own_fault_is_a_delay(self) -> None:
        """An error of ours never bounces mail."""

        class Broken:
            def demand(self, next_hop: str, host: str) -> TLSDemand:
                raise RuntimeError("bug")

        self.build(policy=Broken())
        self.assertEqual(self.deliver(), [("delayed", "4.3.0")])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertNotIn("bug", self.statuses[0].diagnostic)


class StoppingTests(Case):
    """Cancelling and time limits."""

    def stopped(self, deferred: Deferred[Any]) -> list[tuple[str, str]]:
        deferred.cancel()
        self.network.settle()
        statuses = self.successResultOf(deferred)
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.assertEqual(self.network.connections, set())
        return [(status.action.value, status.status) for status in statuses]

    def test_cancel_gives_statuses(self) -> None:
        """What was answered counts, the rest is delayed; no other host is tried."""
        self.serve(A, Server([], {"RCPT TO:<x@": "550 no", "RCPT TO:<y@": ""}))
        self.assertEqual(
            self.stopped(self.start("x", "y")), [("failed", "5.1.1"), ("delayed", "4.4.2")]
        )
        self.assertEqual(self.dialled(), [A])

    def test_cancel_at_every_stage(self) -> None:
        """While looking up, connecting, greeting, and after the dot."""
        for key in ("greeting", "EHLO", "MAIL", "DATA", "message"):
            self.build()
            self.serve(A, Server(replies={key: ""}))
            self.assertEqual(self.stopped(self.start()), [("delayed", "4.4.2")], key)
        self.assertEqual(len(self.named("relay.duplicate_possible")), 1)
        self.build()
        self.serve(A, "silent")
        deferred = self.start()
        deferred.cancel()
        self.assertEqual(self.successResultOf(deferred)[0].action.value, "delayed")
        self.build()
        self.resolver.late = True
        self.assertEqual(self.stopped_early(), [("delayed", "4.4.2")])

    def stopped_early(self) -> list[tuple[str, str]]:
        deferred = self.agent.deliver(self.request())
        deferred.cancel()
        return [(s.action.value, s.status) for s in self.successResultOf(deferred)]

    def test_attempt_is_bounded(self) -> None:
        """An attempt that takes too long in all ends."""
        self.build(terms={"attempt_limit": 100.0})
        self.serve(A, Server(replies={"MAIL": ""}))
        deferred = self.start()
        self.network.advance(99)
        self.assertNoResult(deferred)
        self.network.advance(2)
        [status] = self.successResultOf(deferred)
        self.assertEqual((status.action.value, status.status), ("delayed", "4.4.2"))


class TLSTests(Case):
    """Demands."""

    def tls_server(self, host: str = "a.example", **options: Any) -> Server:
        return Server(["PIPELINING", "STARTTLS"], tls=certificate(host)[0], **options)

    def test_opportunistic_by_default(self) -> None:
        """TLS is used where it is offered, and the status says so."""
        self.serve(A, self.tls_server("whoever.example"))
        self.deliver()
        self.assertIn("TLSv1.3", self.statuses[0].tls)
        self.assertIn("TLSv1.3", self.named("relay.attempt")[0]["tls"])

    def test_fallback_to_clear_text(self) -> None:
        """A handshake that fails leads to clear text on the same host, and is remembered."""
        server = self.serve(A, Server(["STARTTLS"], {"\x16": Server.drop}))
        server.command = self.strict(server)
        self.assertEqual(self.deliver(), [("relayed", "2.0.0")])
        self.assertEqual(self.dialled(), [A, A])
        self.assertEqual(self.statuses[0].tls, "")
        self.assertEqual(len(self.named("relay.tls_fallback")), 1)
        self.agent.close()
        self.network.advance(10)
        self.deliver()
        self.assertEqual(self.dialled(), [A, A, A])

    def strict(self, server: Server) -> Any:
        plain = server.command

        def command(line: str) -> None:
            if line == "STARTTLS":
                server.send("220 go")
                server.drop()
            else:
                plain(line)

        return command

    def test_verified_next_hop_is_never_served_in_clear_text(self) -> None:
        """Without the offer, or with another's certificate, the mail waits."""
        for server, status in (
            (Server(), "4.7.4"),
            (self.tls_server("other.example"), "4.7.5"),
        ):
            policy = TLSPolicy(table={"d.example": TLSDemand.VERIFIED})
            self.build({"d.example": [(1, "a.example")]}, policy=policy)
            self.serve(A, server)
            self.assertEqual(self.deliver(), [("delayed", status)])
            self.assertEqual(server.messages, [])
        self.build({"d.example": [(1, "a.example")]}, policy=policy)
        self.serve(A, self.tls_server())
        self.assertEqual(self.deliver(), [("relayed", "2.0.0")])


class SmarthostTests(Case):
    """Another route than MX."""

    def smarthost(self, **options: Any) -> Smarthost:
        return Smarthost("relay.example", **options)

    def test_smarthost_takes_everything(self) -> None:
        """With AUTH over verified TLS on its port, whatever the MX says."""
        self.build(default=self.smarthost(user="u", password="pw"))
        server = Server(
            ["STARTTLS", "AUTH PLAIN"],
            {"AUTH": "235 ok"},
            tls=certificate("relay.example")[0],
        )
        self.serve(C, server, 587)
        self.assertEqual(self.deliver(next_hop="relay.example:587"), [("relayed", "2.0.0")])
        self.assertEqual(self.deliver(next_hop="nowhere.example"), [("relayed", "2.0.0")])
        self.assertEqual(sum(line.startswith("AUTH") for line in server.lines), 1)
        self.assertEqual(self.network.dialled, [(C, 587)])
        self.assertFalse(any("pw" in str(event) for event in self.events))

    def test_implicit_tls(self) -> None:
        """TLS from the first octet."""
        self.build(default=self.smarthost(port=465, tls=SmarthostTLS.IMPLICIT))
        server = Server([], tls=certificate("relay.example")[0], implicit=True)
        self.serve(C, server, 465)
        self.assertEqual(self.deliver(), [("relayed", "2.0.0")])

    def test_refused_login_delays(self) -> None:
        """Nobody's mail bounces for a wrong password."""
        self.build(default=self.smarthost(user="u", password="pw"))
        tls = certificate("relay.example")[0]
        self.serve(C, Server(["STARTTLS", "AUTH PLAIN"], {"AUTH": "535 no"}, tls=tls), 587)
        self.assertEqual(self.deliver(), [("delayed", "4.7.8")])
        self.serve(C, Server(replies={"greeting": "554 no"}), 587)
        self.assertEqual(self.deliver()[0][0], "delayed")


class KeptConnectionTests(Case):
    """A second message on the same connection."""

    def test_connection_is_kept(self) -> None:
        """Messages one after the other use one connection, closed when idle."""
        server = self.serve(A, Server())
        self.deliver()
        self.deliver()
        self.assertEqual(self.dialled(), [A])
        self.assertEqual(len(server.messages), 2)
        self.network.advance(14)
        self.assertFalse(server.lost)
        self.network.advance(2)
        self.assertEqual(server.lines[-1], "QUIT")
        self.assertTrue(server.lost)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_closed_while_idle(self) -> None:
        """A server that closes, or says 421, is connected to anew."""
        for word in ("", "421 idle"):
            server = self.serve(A, Server())
            self.deliver()
            if word:
                server.send(word)
            server.transport.loseConnection()
            self.network.settle()
            self.assertEqual(len(self.agent.pool), 0)
            self.assertEqual(self.deliver(), [("relayed", "2.0.0")])
            self.agent.close()
            self.network.settle()

    def test_found_closed_at_use(self) -> None:
        """A kept connection that dies unheard costs the message nothing."""
        for last_words in ("", "421 4.4.2 idle"):
            self.build({"d.example": [(1, "a.example")]})
            server = self.serve(A, Server())
            self.deliver()

            def die(server: Server, words: str = last_words) -> None:
                del server.replies["MAIL"]
                if words:
                    server.send(words)
                    server.transport.loseConnection()
                    server.lost = True
                else:
                    server.drop()

            server.replies["MAIL"] = die
            before = len(self.dialled())
            self.assertEqual(self.deliver(), [("relayed", "2.0.0")])
            self.assertEqual(len(self.dialled()), before + 1)

    def test_best_kept_host_among_equals_comes_first(self) -> None:
        """With equal preference the host that is connected is used."""
        self.build({"d.example": [(10, "a.example"), (10, "b.example")]})
        self.serve(A, Server())
        self.serve(B, Server())
        for _ in range(8):
            self.deliver()
        self.assertEqual(len(self.dialled()), 1)

    def test_close(self) -> None:
        """Stopping ends kept connections politely."""
        server = self.serve(A, Server())
        self.deliver()
        self.agent.close()
        self.network.settle()
        self.assertEqual(server.lines[-1], "QUIT")
        self.assertEqual(self.network.getDelayedCalls(), [])
