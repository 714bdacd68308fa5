"""The client's session, over a network in memory."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, execute
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.trial.unittest import SynchronousTestCase

from mailhost.address import Address
from mailhost.interfaces.network import TLSDemand
from mailhost.interfaces.spool import Body
from mailhost.relay.tls_policy import ClientContexts
from mailhost.reply import Action
from mailhost.smtp.client.capabilities import Capabilities, parse_capabilities
from mailhost.smtp.client.connection import SMTPClientConnection
from mailhost.smtp.client.content import CHUNK, Content
from mailhost.smtp.client.login import Credentials
from mailhost.smtp.client.session import SMTPClientSession
from mailhost.smtp.client.status import ContentFault, SessionFailure, TLSFailure, from_reply
from mailhost.smtp.client.transaction import Transaction
from mailhost.wire import sasl
from mailhost.wire.smtp_client import ServerReply
from tests.smtp.client_network import Network, Server, certificate

HERE = ("192.0.2.1", 25)
MESSAGE = b"Subject: x\r\n\r\nHello\r\n.dot\r\n"
SENDER = Address("s", "here.example")


def in_thread(call: Any, *arguments: Any) -> Deferred[Any]:
    """Call at once, as a thread would later."""
    return execute(call, *arguments)


def addresses(*names: str) -> list[Address]:
    return [Address(name, "there.example") for name in names]


class Case(SynchronousTestCase):
    """One client, one server."""

    contexts = ClientContexts([certificate("fake.example")[1]])

    def setUp(self) -> None:
        self.network = Network()

    def connect(self, server: Any, host: str = "fake.example") -> SMTPClientSession:
        self.network.servers[HERE] = server
        self.server = server
        self.connection = SMTPClientConnection(self.network)
        connectProtocol(TCP4ClientEndpoint(self.network, *HERE), self.connection)
        # Not settled: nothing has been said yet.
        while self.connection.transport is None:
            call, arguments = self.network._soon.popleft()
            call(*arguments)
        self.host = host
        return SMTPClientSession(self.connection, host, "me.example", in_thread)

    def run_(self, coroutine: Any) -> Deferred[Any]:
        deferred = Deferred.fromCoroutine(coroutine)
        self.network.settle()
        return deferred

    def open(
        self,
        server: Any,
        demand: TLSDemand = TLSDemand.NONE,
        host: str = "fake.example",
        **options: Any,
    ) -> SMTPClientSession:
        session = self.connect(server, host)
        tls = self.contexts.tls_for(host, verified=demand is TLSDemand.VERIFIED)
        self.opened = self.run_(session.open(demand, tls, **options))
        return session

    def ready(self, *arguments: Any, **options: Any) -> SMTPClientSession:
        session = self.open(*arguments, **options)
        self.successResultOf(self.opened)
        return session

    def content(self, body: bytes | Path = MESSAGE, prefix: bytes = b"", size: int = -1) -> Content:
        if size < 0:
            size = len(body) if isinstance(body, bytes) else body.stat().st_size
        return Content(prefix, body, size, in_thread)

    def transaction(self, *names: str, **options: Any) -> Transaction:
        content = options.pop("content", None) or self.content()
        return Transaction(SENDER, addresses(*(names or ("a",))), content, **options)

    def send(self, session: SMTPClientSession, transaction: Transaction) -> None:
        self.successResultOf(self.run_(session.send(transaction)))

    def outcome(self, transaction: Transaction) -> list[tuple[str, str]]:
        return [
            (status.action.value, status.status) if status else ("undecided", "")
            for status in transaction.statuses
        ]


class EnvelopeTests(Case):
    """MAIL, RCPT and DATA."""

    def test_pipelined_transaction_is_one_write(self) -> None:
        """MAIL, RCPTs and DATA go out together, then the message."""
        server = Server()
        session = self.ready(server)
        server.segments.clear()
        transaction = self.transaction("a", "b")
        self.send(session, transaction)
        self.assertEqual(len(server.segments), 2)
        self.assertEqual(
            server.lines[1:],
            [
                f"MAIL FROM:<s@here.example> SIZE={len(MESSAGE)}",
                "RCPT TO:<a@there.example>",
                "RCPT TO:<b@there.example>",
                "DATA",
            ],
        )
        self.assertEqual(server.messages, [MESSAGE])
        self.assertEqual(self.outcome(transaction), [("relayed", "2.0.0")] * 2)
        status = transaction.statuses[0]
        assert status is not None
        self.assertEqual(
            (status.remote_mta, status.reply_code, status.diagnostic),
            ("fake.example", 250, "250 2.0.0 queued"),
        )

    def test_stepwise_without_pipelining(self) -> None:
        """Without the offer each command waits for the reply before it."""
        server = Server(offers=[])
        session = self.ready(server)
        self.send(session, self.transaction("a", "b"))
        self.assertEqual(len(server.segments), 6)
        self.assertEqual(server.messages, [MESSAGE])

    def test_helo_when_ehlo_is_unknown(self) -> None:
        """RFC 5321 3.2: a server of long ago is greeted with HELO."""
        server = Server(replies={"EHLO": "502 what"})
        session = self.ready(server)
        self.send(session, self.transaction())
        self.assertEqual(
            server.lines[:3], ["EHLO me.example", "HELO me.example", "MAIL FROM:<s@here.example>"]
        )

    def test_results_are_per_recipient(self) -> None:
        """Each RCPT has its own fate, the rest gets the message."""
        for offers in (("PIPELINING",), ()):
            server = Server(
                offers,
                {"RCPT TO:<b@": "550 no such user", "RCPT TO:<c@": "450 4.2.1 later"},
            )
            transaction = self.transaction("a", "b", "c")
            self.send(self.ready(server), transaction)
            self.assertEqual(
                self.outcome(transaction),
                [("relayed", "2.0.0"), ("failed", "5.1.1"), ("delayed", "4.2.1")],
            )
            self.assertFalse(transaction.refused)

    def test_no_recipient_taken_and_data_refused(self) -> None:
        """The refusal of DATA then means nothing; the session goes on with RSET."""
        server = Server(replies={"RCPT TO:<a@": ["550 no", "250 ok"]})
        session = self.ready(server)
        first = self.transaction()
        self.send(session, first)
        self.assertEqual(self.outcome(first), [("failed", "5.1.1")])
        server.replies.clear()
        second = self.transaction()
        self.send(session, second)
        self.assertEqual(self.outcome(second), [("relayed", "2.0.0")])
        self.assertEqual(server.lines[4], "RSET")
        self.assertEqual(len(server.messages), 1)

    def test_no_recipient_taken_but_354(self) -> None:
        """RFC 2920 3.1: an empty message answers a 354 that nobody wanted."""

        def go_on(server: Server) -> None:
            server.in_data = True
            server.send("354 go on")

        server = Server(replies={"RCPT": "550 no", "DATA nobody": go_on, "message": "554 nobody"})
        session = self.ready(server)
        transaction = self.transaction("a", "b")
        self.send(session, transaction)
        self.assertEqual(self.outcome(transaction), [("failed", "5.1.1")] * 2)
        self.assertEqual(server.messages, [b""])
        self.assertFalse(transaction.content_sent)
        self.assertTrue(session.usable)

    def test_mail_refused(self) -> None:
        """A refusal of MAIL is everybody's, whatever RCPT says."""
        for offers in (("PIPELINING",), ()):
            server = Server(offers, {"MAIL": "451 4.3.0 busy", "RCPT": "503 5.5.1 MAIL first"})
            transaction = self.transaction("a", "b")
            self.send(self.ready(server), transaction)
            self.assertEqual(self.outcome(transaction), [("delayed", "4.3.0")] * 2)
            self.assertTrue(transaction.refused)
            self.assertEqual(server.messages, [])

    def test_data_and_message_refused(self) -> None:
        """A refusal of DATA or of the message is for those who were taken."""
        for key in ("DATA", "message"):
            server = Server(replies={key: "552 5.3.4 too big", "RCPT TO:<b@": "550 5.1.1 no"})
            transaction = self.transaction("a", "b")
            self.send(self.ready(server), transaction)
            self.assertEqual(self.outcome(transaction), [("failed", "5.3.4"), ("failed", "5.1.1")])
            self.assertTrue(transaction.refused)

    def test_success_where_none_can_be(self) -> None:
        """250 to DATA is nonsense: the connection ends, nothing was delivered."""
        server = Server(replies={"DATA": "250 sure"})
        session = self.ready(server)
        transaction = self.transaction()
        self.send(session, transaction)
        self.assertEqual(self.outcome(transaction), [("delayed", "4.5.0")])
        self.assertFalse(session.usable)

    def test_null_reverse_path(self) -> None:
        """A bounce goes out with <>."""
        server = Server(offers=[])
        transaction = self.transaction()
        transaction.reverse_path = None
        self.send(self.ready(server), transaction)
        self.assertIn("MAIL FROM:<>", server.lines)

    def test_dsn_parameters(self) -> None:
        """RFC 3461 parameters go to servers that know them, only if they are well formed."""
        asked: dict[str, Any] = {
            "ret": "HDRS",
            "envid": "QQ314159",
            "dsn": [("rfc822;a@x", ("SUCCESS", "DELAY")), ("a b\r\nRSET", ("FOO",))],
        }
        server = Server(["DSN"])
        self.send(self.ready(server), self.transaction("a", "b", **asked))
        self.assertEqual(
            server.lines[1:4],
            [
                "MAIL FROM:<s@here.example> RET=HDRS ENVID=QQ314159",
                "RCPT TO:<a@there.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@x",
                "RCPT TO:<b@there.example>",
            ],
        )
        server = Server([])
        self.send(self.ready(server), self.transaction("a", "b", **asked))
        self.assertEqual(server.lines[1], "MAIL FROM:<s@here.example>")


class OfferTests(Case):
    """What is done without an extension."""

    def refused(self, offers: list[str], **options: Any) -> list[tuple[str, str]]:
        server = Server(offers)
        session = self.ready(server)
        transaction = self.transaction(**options)
        self.send(session, transaction)
        self.assertTrue(session.usable)
        if transaction.statuses[0] and not transaction.statuses[0].done:
            self.assertEqual(len(server.lines), 1, "nothing may be sent")
        self.server = server
        return self.outcome(transaction)

    def test_eight_bit(self) -> None:
        """8-bit content needs 8BITMIME, unless it is 7-bit after all."""
        body = self.content("Subject: x\r\n\r\n\xe9\r\n".encode())
        self.assertEqual(self.refused([], content=body, body=Body.EIGHT_BIT), [("failed", "5.6.3")])
        self.assertEqual(
            self.refused(["8BITMIME"], content=body, body=Body.EIGHT_BIT),
            [("relayed", "2.0.0")],
        )
        self.assertIn("BODY=8BITMIME", self.server.lines[1])
        self.assertEqual(self.refused([], body=Body.EIGHT_BIT), [("relayed", "2.0.0")])
        self.assertNotIn("BODY", self.server.lines[1])

    def test_eight_bit_in_a_file(self) -> None:
        """A file is looked through to its end."""
        path = Path(self.mktemp())
        path.write_bytes(b"Subject: x\r\n\r\n" + b"a" * 600_000 + b"\xe9\r\n")
        self.assertEqual(
            self.refused([], content=self.content(path), body=Body.EIGHT_BIT),
            [("failed", "5.6.3")],
        )

    def test_size(self) -> None:
        """A message over the stated size is not sent; 0 and nonsense state nothing."""
        self.assertEqual(self.refused(["SIZE 10"]), [("failed", "5.3.4")])
        for offer in ("SIZE", "SIZE 0", "SIZE many", "SIZE 1000"):
            self.assertEqual(self.refused([offer]), [("relayed", "2.0.0")])

    def test_smtputf8(self) -> None:
        """An internationalised address needs the extension; a flag alone does not."""
        utf8 = "RCPT TO:<\xfc@there.example>"
        server = Server([])
        transaction = self.transaction("\xfc")
        self.send(self.ready(server), transaction)
        self.assertEqual(self.outcome(transaction), [("failed", "5.6.7")])
        server = Server(["SMTPUTF8"])
        transaction = self.transaction("\xfc")
        self.send(self.ready(server), transaction)
        self.assertEqual(server.lines[1:3], ["MAIL FROM:<s@here.example> SMTPUTF8", utf8])
        self.assertEqual(self.refused([], smtputf8=True), [("relayed", "2.0.0")])
        header = self.content("Subject: \xfc\r\n\r\nx\r\n".encode())
        self.assertEqual(self.refused([], smtputf8=True, content=header), [("failed", "5.6.7")])
        body = self.content("Subject: u\r\n\r\n\xfc\r\n".encode())
        self.assertEqual(self.refused([], smtputf8=True, content=body), [("relayed", "2.0.0")])

    def test_binary(self) -> None:
        """BINARYMIME goes over BDAT, or not at all."""
        body = self.content(b"Subject: x\r\n\r\n\0\n.\r\r\n")
        self.assertEqual(
            self.refused(["8BITMIME", "PIPELINING"], content=body, body=Body.BINARY),
            [("failed", "5.6.3")],
        )
        offers = ["8BITMIME", "BINARYMIME", "CHUNKING", "PIPELINING"]
        self.assertEqual(
            self.refused(offers, content=body, body=Body.BINARY), [("relayed", "2.0.0")]
        )
        self.assertEqual(self.server.messages, [b"Subject: x\r\n\r\n\0\n.\r\r\n"])
        self.assertIn("BODY=BINARYMIME", self.server.lines[1])

    def test_capabilities_of_odd_replies(self) -> None:
        """Lower case, AUTH= and repeated lines are understood, nonsense is passed over."""
        lines = ("fake", "auth=login plain", "AUTH SCRAM-SHA-256 PLAIN", "size 5", "", "X" * 400)
        self.assertEqual(
            parse_capabilities(ServerReply(250, "", lines)),
            Capabilities(size=5, auth=(b"LOGIN", b"PLAIN", b"SCRAM-SHA-256")),
        )


class MessageTests(Case):
    """The content on its way."""

    def file(self, data: bytes) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(data)
        return path

    def test_prefix_and_file_arrive_whole(self) -> None:
        """Large content is streamed in chunks, dot-stuffed across their borders."""
        data = (b"." + b"x" * 76 + b"\r\n") * 20_000
        for body in (data, self.file(data)):
            server = Server(["PIPELINING"])
            transaction = self.transaction(content=self.content(body, b"Received: y\r\n"))
            self.send(self.ready(server), transaction)
            self.assertEqual(server.messages, [b"Received: y\r\n" + data])

    def test_last_line_gets_its_end(self) -> None:
        """Content that does not end in CRLF gets it; bare LF never goes out (R-02)."""
        server = Server()
        self.send(self.ready(server), self.transaction(content=self.content(b"a: b\r\n\r\nx\ny")))
        self.assertEqual(server.messages, [b"a: b\r\n\r\nx\r\ny\r\n"])

    def test_slow_reader_is_waited_for(self) -> None:
        """No more than a few chunks are held for a server that does not read (D5)."""
        path = self.file(b"x" * 70 * 20 * CHUNK)
        for demand in (TLSDemand.NONE, TLSDemand.OPPORTUNISTIC):
            server = Server(["PIPELINING", "STARTTLS"], tls=certificate("fake.example")[0])
            session = self.ready(server, demand)
            end = self.network.ends[-1]

            def stop(server: Server, end: Any = end) -> None:
                server.send("354 go on")
                end.peer.reading = False

            server.replies["DATA"] = stop
            deferred = self.run_(session.send(self.transaction(content=self.content(path))))
            self.assertLess(end.most_buffered, 6 * CHUNK)
            self.network.advance(179)
            self.assertNoResult(deferred)
            self.network.advance(2)
            failure = self.failureResultOf(deferred, SessionFailure)
            self.assertEqual(failure.value.status, "4.4.2")

    def test_short_file_is_never_announced_as_whole(self) -> None:
        """A file that lost its end does not go out as if it were complete."""
        path = self.file(b"x" * 1000)
        for size in (2000, 500, 5 * CHUNK):
            server = Server()
            session = self.ready(server)
            deferred = self.run_(
                session.send(self.transaction(content=self.content(path, size=size)))
            )
            self.failureResultOf(deferred, ContentFault)
            self.assertEqual(server.messages, [])
            self.assertTrue(server.lost)

    def test_missing_file(self) -> None:
        """A file that is gone is a fault of ours."""
        session = self.ready(Server())
        content = self.content(Path("/nonexistent/file"), size=5)
        self.failureResultOf(
            self.run_(session.send(self.transaction(content=content))), ContentFault
        )

    def test_answer_before_the_end(self) -> None:
        """A refusal in the middle of the message is final, and the connection ends."""
        data = b"x" * 40 * CHUNK
        server = Server(["PIPELINING"])
        session = self.ready(server)
        end = self.network.ends[-1]

        def refuse(server: Server) -> None:
            server.send("354 go on")
            end.peer.reading = False
            self.network.soon(self.network.soon, server.send, "552 5.3.4 enough")

        server.replies["DATA"] = refuse
        transaction = self.transaction(content=self.content(self.file(data)))
        self.send(session, transaction)
        self.assertEqual(self.outcome(transaction), [("failed", "5.3.4")])
        self.assertFalse(transaction.content_sent)
        self.assertFalse(session.usable)


class EndingTests(Case):
    """Connections that end, and time limits."""

    def fails(self, session: SMTPClientSession, transaction: Transaction) -> SessionFailure:
        deferred = self.run_(session.send(transaction))
        failure = self.failureResultOf(deferred, SessionFailure).value
        self.assertFalse(session.usable)
        self.assertEqual(self.network.getDelayedCalls(), [])
        assert isinstance(failure, SessionFailure)
        return failure

    def test_lost_during_rcpt_keeps_what_is_known(self) -> None:
        """Recipients that were refused before stay refused."""
        for offers in (("PIPELINING",), ()):
            server = Server(offers, {"RCPT TO:<a@": "550 no", "RCPT TO:<b@": Server.drop})
            transaction = self.transaction("a", "b", "c")
            failure = self.fails(self.ready(server), transaction)
            self.assertEqual(failure.status, "4.4.2")
            self.assertEqual(
                self.outcome(transaction),
                [("failed", "5.1.1"), ("undecided", ""), ("undecided", "")],
            )
            self.assertFalse(transaction.content_sent)

    def test_lost_after_the_dot(self) -> None:
        """Then nobody knows, and that is said."""
        server = Server(replies={"message": Server.drop})
        transaction = self.transaction()
        self.fails(self.ready(server), transaction)
        self.assertTrue(transaction.content_sent)

    def test_421_ends_the_session_anywhere(self) -> None:
        """RFC 5321 3.8: 421 may answer anything; its words are kept."""
        for key in ("MAIL", "RCPT", "DATA", "message"):
            server = Server(replies={key: "421 4.3.2 going down"})
            failure = self.fails(self.ready(server), self.transaction())
            status = failure.delivery_status("h")
            self.assertEqual(
                (status.action, status.status, status.reply_code), (Action.DELAYED, "4.3.2", 421)
            )

    def test_time_limits(self) -> None:
        """RFC 5321 4.5.3.2: each reply has its time."""
        silent = ""
        for key, seconds in (("MAIL", 300), ("RCPT", 300), ("DATA", 120), ("message", 600)):
            server = Server([], {key: silent})
            session = self.ready(server)
            deferred = self.run_(session.send(self.transaction()))
            self.network.advance(seconds - 1)
            self.assertNoResult(deferred)
            self.network.advance(2)
            self.failureResultOf(deferred, SessionFailure)

    def test_cancel_ends_the_connection(self) -> None:
        """A cancelled transaction leaves no half-used connection."""
        server = Server(replies={"message": ""})
        session = self.ready(server)
        deferred = self.run_(session.send(self.transaction()))
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.network.settle()
        self.assertTrue(server.lost)
        self.assertEqual(self.network.getDelayedCalls(), [])

    def test_quit_is_polite_and_bounded(self) -> None:
        """QUIT is said; its answer is waited for a few seconds at most."""
        server = Server()
        self.ready(server).quit()
        self.network.settle()
        self.assertEqual(server.lines[-1], "QUIT")
        self.assertTrue(server.lost)
        session = self.connect(Server())
        tls = self.contexts.tls_for("fake.example", verified=False)
        self.successResultOf(self.run_(session.open(TLSDemand.NONE, tls)))
        self.server.command = lambda line: None
        session.quit()
        self.network.advance(5.1)
        self.assertTrue(self.server.lost)
        self.assertEqual(self.network.getDelayedCalls(), [])


class OpeningTests(Case):
    """Greeting, EHLO and TLS."""

    def refuses(self, *arguments: Any, **options: Any) -> SessionFailure:
        self.open(*arguments, **options)
        failure = self.failureResultOf(self.opened, SessionFailure).value
        self.network.advance(6)
        self.assertTrue(self.server.lost)
        self.assertEqual(self.network.getDelayedCalls(), [])
        assert isinstance(failure, SessionFailure)
        return failure

    def tls_server(self, host: str = "fake.example", **options: Any) -> Server:
        offers = ["PIPELINING", "STARTTLS", "AUTH PLAIN"]
        return Server(offers, tls=certificate(host)[0], **options)

    def test_greeting_that_turns_away(self) -> None:
        """A 5xx greeting is permanent, a 4xx one is not."""
        failure = self.refuses(Server(replies={"greeting": "554 no mail here"}))
        self.assertTrue(failure.permanent)
        failure = self.refuses(Server(replies={"greeting": "450 busy"}))
        self.assertFalse(failure.permanent)
        self.assertEqual(self.server.lines, ["QUIT"])

    def test_ehlo_for_later(self) -> None:
        """A 4xx to EHLO is no reason for HELO."""
        failure = self.refuses(Server(replies={"EHLO": "450 busy"}))
        self.assertEqual(failure.delivery_status("h").status, "4.2.0")
        self.refuses(Server(replies={"EHLO": "500 what", "HELO": "550 go away"}))

    def test_greeting_time_limit(self) -> None:
        """A server that says nothing is given five minutes (R-68)."""
        self.open(Server(replies={"greeting": ""}))
        self.network.advance(299)
        self.assertNoResult(self.opened)
        self.network.advance(2)
        self.failureResultOf(self.opened, SessionFailure)

    def test_starttls(self) -> None:
        """TLS is used when offered, whatever certificate; EHLO is said again (R-16)."""
        for demand in (TLSDemand.OPPORTUNISTIC, TLSDemand.VERIFIED):
            server = self.tls_server()
            session = self.ready(server, demand)
            self.assertTrue(session.tls.startswith("TLSv1.3 TLS_"))
            self.assertEqual(server.lines, ["EHLO me.example", "STARTTLS", "EHLO me.example"])
            transaction = self.transaction()
            self.send(session, transaction)
            status = transaction.statuses[0]
            assert status is not None
            self.assertEqual(status.tls, session.tls)
            session.quit()
            self.network.settle()
            self.assertTrue(server.lost)
            self.assertEqual(self.network.getDelayedCalls(), [])

    def test_opportunism_checks_no_certificate(self) -> None:
        """RFC 7435: an untrusted certificate is better than none."""
        session = self.ready(self.tls_server("other.example"), TLSDemand.OPPORTUNISTIC)
        self.assertNotEqual(session.tls, "")

    def test_verified_needs_the_right_name(self) -> None:
        """A trusted certificate for another host does not do."""
        failure = self.refuses(self.tls_server(), TLSDemand.VERIFIED, host="elsewhere.example")
        self.assertEqual(failure.status, "4.7.5")
        self.assertEqual(self.server.lines, ["EHLO me.example", "STARTTLS"])
        self.assertNotIsInstance(failure, TLSFailure)

    def test_verified_needs_trust(self) -> None:
        """A certificate of an unknown authority does not do."""
        failure = self.refuses(
            self.tls_server("other.example"), TLSDemand.VERIFIED, host="other.example"
        )
        self.assertEqual(failure.status, "4.7.5")
        self.assertIn("certificate verify failed", failure.text)

    def test_verified_needs_the_offer(self) -> None:
        """Without STARTTLS, or when it is refused, nothing is delivered."""
        failure = self.refuses(Server(), TLSDemand.VERIFIED)
        self.assertEqual(failure.status, "4.7.4")
        failure = self.refuses(
            Server(["STARTTLS"], {"STARTTLS": "454 not now"}), TLSDemand.VERIFIED
        )
        self.assertEqual(failure.status, "4.7.4")

    def test_opportunism_goes_on_without_the_offer(self) -> None:
        """No offer, or a refusal, leaves clear text."""
        self.ready(Server(), TLSDemand.OPPORTUNISTIC)
        session = self.ready(
            Server(["STARTTLS"], {"STARTTLS": "454 not now"}), TLSDemand.OPPORTUNISTIC
        )
        self.send(session, self.transaction())

    def test_failed_handshake_is_told_apart(self) -> None:
        """Opportunism may try again in clear text; the demand for TLS may not (R-68)."""
        for demand, kind in (
            (TLSDemand.OPPORTUNISTIC, TLSFailure),
            (TLSDemand.VERIFIED, SessionFailure),
        ):
            server = Server(["STARTTLS"])
            server.replies["\x16"] = Server.drop
            self.open(server, demand)
            self.server.send("nonsense instead of a ServerHello, long enough for a record")
            self.network.settle()
            failure = self.failureResultOf(self.opened, SessionFailure).value
            self.assertIs(type(failure), kind)

    def test_stalled_handshake_ends(self) -> None:
        """A handshake that does not come on is given a minute."""

        def fall_silent(server: Server) -> None:
            # It must not read the handshake either: there may be a line in it by chance.
            server.transport.write(b"220 go\r\n")
            server.hung = True

        server = Server(["STARTTLS"])
        server.replies["STARTTLS"] = fall_silent
        self.open(server, TLSDemand.OPPORTUNISTIC)
        self.network.advance(59)
        self.assertNoResult(self.opened)
        self.network.advance(2)
        self.failureResultOf(self.opened, TLSFailure)

    def test_injected_reply_before_tls(self) -> None:
        """R-15: octets behind the answer to STARTTLS are never read as a reply under TLS."""
        for injected in ("250-fake\r\n250 AUTH PLAIN\r\n", "250", "2", "\r\n", "250-x\r\n"):

            def inject(server: Server, text: str = injected) -> None:
                server.transport.write(b"220 go\r\n" + text.encode())

            failure = self.refuses(
                self.tls_server(replies={"STARTTLS": inject}), TLSDemand.OPPORTUNISTIC
            )
            self.assertIn(failure.status, ("4.7.0", "4.5.0"))
            self.assertEqual(self.server.lines, ["EHLO me.example", "STARTTLS"])

    def test_implicit_tls(self) -> None:
        """RFC 8314: TLS before the greeting."""
        server = self.tls_server(implicit=True)
        session = self.ready(server, TLSDemand.VERIFIED, implicit_tls=True)
        self.assertNotEqual(session.tls, "")
        self.assertEqual(server.lines, ["EHLO me.example"])


class LoginTests(Case):
    """AUTH at a smarthost."""

    CREDENTIALS = Credentials("user", "the secret")

    def log_in(self, mechanisms: str, replies: dict[str, Any], tls: bool = True) -> None:
        server = Server(
            ["STARTTLS", f"AUTH {mechanisms}"], replies, tls=certificate("fake.example")[0]
        )
        demand = TLSDemand.VERIFIED if tls else TLSDemand.NONE
        self.open(server, demand, credentials=self.CREDENTIALS)
        self.said = [line for line in server.lines if "EHLO" not in line][1 if tls else 0 :]

    def test_plain(self) -> None:
        """One command with the initial response."""
        self.log_in("PLAIN LOGIN", {"AUTH": "235 2.7.0 welcome"})
        self.successResultOf(self.opened)
        self.assertEqual(self.said, ["AUTH PLAIN AHVzZXIAdGhlIHNlY3JldA=="])

    def test_login(self) -> None:
        """Name and password as they are asked for, also by prompts that are not base64."""
        self.log_in(
            "LOGIN",
            {"AUTH": "334 Who?!", "dXNlcg==": "334 UGFzc3dvcmQ6", "dGhlI": "235 2.7.0 welcome"},
        )
        self.successResultOf(self.opened)
        self.assertEqual(self.said, ["AUTH LOGIN", "dXNlcg==", "dGhlIHNlY3JldA=="])

    def test_scram(self) -> None:
        """The best mechanism is chosen, and bound to the TLS channel."""
        exchange = sasl.SCRAMServer("sha256", {}, False)
        verifier = sasl.scram_verifier("the secret", b"salt" * 4, 4096, "sha256")

        def auth(server: Server) -> None:
            step = exchange.respond(base64.b64decode(server.lines[-1].split(" ")[-1]))
            if isinstance(step, sasl.AskVerifier):
                server.send(
                    "334 " + base64.b64encode(exchange.verify_against(verifier).data).decode()
                )
                server.replies["Yz"] = auth
            else:
                assert isinstance(step, sasl.Proven) and step.final is not None
                server.send("334 " + base64.b64encode(step.final).decode())
                server.command = lambda line: server.send("235 2.7.0 welcome")  # type: ignore

        self.log_in("PLAIN SCRAM-SHA-256", {"AUTH": auth})
        self.successResultOf(self.opened)
        self.assertTrue(self.said[0].startswith("AUTH SCRAM-SHA-256 "))

    def test_scram_success_without_proof_is_not_believed(self) -> None:
        """A server that does not know the password is not given mail."""
        self.log_in("SCRAM-SHA-256", {"AUTH": "235 2.7.0 welcome"})
        self.failureResultOf(self.opened, SessionFailure)

    def test_refusal_is_temporary(self) -> None:
        """A wrong password in the configuration bounces nobody's mail."""
        self.log_in("PLAIN", {"AUTH": "535 5.7.8 no"})
        failure = self.failureResultOf(self.opened, SessionFailure).value
        self.assertFalse(failure.permanent)
        status = failure.delivery_status("h")
        self.assertEqual((status.action, status.status), (Action.DELAYED, "4.7.8"))
        self.assertNotIn("secret", repr(failure) + repr(self.CREDENTIALS))

    def test_no_password_in_clear_text(self) -> None:
        """Without TLS no password goes out."""
        self.log_in("PLAIN LOGIN", {}, tls=False)
        self.failureResultOf(self.opened, SessionFailure)
        self.assertEqual(self.said, [])

    def test_endless_challenges_end(self) -> None:
        """A server that challenges for ever is left."""
        self.log_in("LOGIN", {"AUTH": "334 eA==", "dXN": "334 eA==", "dGhl": "334 eA=="})
        self.failureResultOf(self.opened, SessionFailure)
        self.assertEqual(len(self.said), 3)


class StatusTests(SynchronousTestCase):
    """Replies to statuses."""

    def test_first_digit_decides(self) -> None:
        """Whatever the enhanced code says."""
        for code, action in ((250, "relayed"), (354, "delayed"), (499, "delayed"), (599, "failed")):
            self.assertEqual(from_reply(ServerReply(code, "", ("x",)), "h").action.value, action)

    def test_derived_codes_have_the_class_of_the_reply(self) -> None:
        """No server's silence makes a 4.x.x of a 5xx."""
        for code in range(200, 600):
            status = from_reply(ServerReply(code, "", ("x",)), "h", recipient=code % 2 == 0)
            expected = {"relayed": "2", "delayed": "4", "failed": "5"}[status.action.value]
            self.assertEqual(status.status[0], expected)

    def test_diagnostic_is_one_bounded_line(self) -> None:
        """A novel in 256 lines is cut."""
        status = from_reply(ServerReply(550, "5.1.1", ("word " * 500,) * 256), "h")
        self.assertEqual(len(status.diagnostic), 1000)
        self.assertNotIn("\n", status.diagnostic)

    def test_nothing_is_permanent_by_itself(self) -> None:
        """A session that fails delays, also when a 5xx ended it."""
        failure = SessionFailure("4.3.2", "x", ServerReply(554, "", ("no",)))
        self.assertEqual(failure.delivery_status("h").action, Action.DELAYED)
