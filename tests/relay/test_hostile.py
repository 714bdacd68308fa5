"""Servers that mean no good, or are badly broken (R-68)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

from mailhost.interfaces.spool import Body
from tests.relay.test_agent import A, B, Case
from tests.smtp.client_network import Server

MEMORY = 3 * 1024 * 1024
"""Octets that nothing a server does may cost beyond what it costs to send it to us."""


class HostileServerTests(Case):
    """Each ends in a defined class of status, in bounded time and memory, with nothing left."""

    def meets(
        self, stage: str, attack: Callable[[Server], None], seconds: float = 0, **options: object
    ) -> tuple[str, str]:
        """Let the server do its worst at a stage, everywhere; return the status."""
        self.build()
        for address in (A, B):
            self.serve(address, Server(replies={stage: attack}))
        deferred = self.start(**options)
        for _ in range(4 if seconds else 0):
            self.network.advance(seconds)
        [status] = self.successResultOf(deferred)
        self.network.advance(10)
        self.agent.close()
        self.network.advance(10)
        self.assertEqual(self.network.connections, set())
        self.assertEqual(self.network.getDelayedCalls(), [])
        self.assertLessEqual(len(status.diagnostic), 1000)
        return status.action.value, status.status

    def flood(self, piece: bytes, times: int) -> Callable[[Server], None]:
        """Write a piece many times, one at a time, as long as the connection is there."""

        def attack(server: Server) -> None:
            left = times
            server.hang()

            def more() -> None:
                nonlocal left
                if left and not server.lost:
                    left -= 1
                    server.transport.write(piece)
                    self.network.soon(more)
                    self.peak = max(self.peak, tracemalloc.get_traced_memory()[0])

            more()

        return attack

    def test_flood_of_continuation_lines(self) -> None:
        """A million lines of one reply end the connection after a few hundred."""
        self.check_flood(b"250-and so on\r\n" * 100, 10_000)

    def test_endless_line(self) -> None:
        """A line of 10 MB ends the connection after a few KB."""
        self.check_flood(b"x" * 10_000, 1000)
        self.check_flood(b"250 " + b"x" * 10_000, 1000)

    def test_replies_without_end(self) -> None:
        """Replies that nobody asked for end the connection."""
        self.check_flood(b"250 ok\r\n" * 100, 1000)

    def check_flood(self, piece: bytes, times: int) -> None:
        for stage in ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "message"):
            tracemalloc.start()
            self.peak = 0
            action, status = self.meets(stage, self.flood(piece, times))
            tracemalloc.stop()
            self.assertLess(self.peak, MEMORY)
            # A first complete 250 after the message is an answer, whatever follows it.
            answered = stage == "message" and piece.startswith(b"250 ok")
            self.assertEqual(action, "relayed" if answered else "delayed", f"{stage} {status}")

    def test_code_changes_within_a_reply(self) -> None:
        """RFC 5321 4.2.1: it is no reply; the mail is delayed."""
        for stage in ("greeting", "EHLO", "MAIL", "RCPT", "DATA"):
            status = self.meets(stage, lambda server: server.send("250-one\r\n550 two"))
            self.assertEqual(status, ("delayed", "4.5.0"))

    def test_no_smtp_at_all(self) -> None:
        """Another protocol's greeting, NUL and 8-bit octets."""
        for octets in (b"HTTP/1.1 400 Bad\r\n\r\n", b"\0\0\0\0\r\n", b"\xff\xfe\xfd\r\n", b"\r\n"):
            status = self.meets("greeting", lambda server, o=octets: server.transport.write(o))
            self.assertEqual(status, ("delayed", "4.5.0"))

    def test_closes_at_every_stage(self) -> None:
        """A connection that is gone is a delay with 4.4.2, whenever it goes."""
        for stage in ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "message"):
            self.assertEqual(self.meets(stage, Server.drop), ("delayed", "4.4.2"))

    def test_silence_at_every_stage(self) -> None:
        """Each silence ends with its time limit."""
        for stage in ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "message"):
            status = self.meets(stage, Server.hang, seconds=601)
            self.assertEqual(status, ("delayed", "4.4.2"))

    def test_drip_does_not_prolong(self) -> None:
        """A continuation line now and then does not keep a session open for ever."""

        def drip(server: Server) -> None:
            server.hang()

            def drop_by_drop() -> None:
                if not server.lost:
                    server.send("250-patience")
                    self.network.callLater(100, drop_by_drop)

            drop_by_drop()

        self.build(mx={"d.example": [(1, "a.example")]})
        self.serve(A, Server(replies={"MAIL": drip}))
        deferred = self.start()
        for _ in range(5):
            self.network.advance(61)
        self.assertEqual(self.successResultOf(deferred)[0].status, "4.4.2")

    def test_421_at_every_stage(self) -> None:
        """A server that shuts down in the middle delays."""
        for stage in ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "message"):
            self.assertEqual(
                self.meets(stage, lambda server: server.send("421 4.3.2 bye")),
                ("delayed", "4.3.2"),
            )

    def test_starttls_offered_and_failing(self) -> None:
        """Garbage, closing or silence instead of TLS: opportunism goes on in clear text."""

        def garbage(server: Server) -> None:
            server.send("220 go")
            self.network.soon(server.transport.write, b"no TLS record at all\r\n" * 10)

        def close(server: Server) -> None:
            server.send("220 go")
            server.transport.loseConnection()

        for attack, seconds in ((garbage, 0), (close, 0), (lambda s: s.send("220 go"), 61)):
            self.build()
            server = self.serve(A, Server(["STARTTLS", "PIPELINING"], {"STARTTLS": attack}))
            deferred = self.start()
            self.network.advance(seconds)
            self.assertEqual(self.successResultOf(deferred)[0].status, "2.0.0")
            self.assertEqual(len(server.messages), 1)
            self.assertEqual(len(self.network.dialled), len(set(self.network.dialled)) + 1)
            self.agent.close()
            self.network.advance(10)
            self.network.dialled.clear()

    def test_control_characters_in_replies(self) -> None:
        """What a server says cannot write lines into logs or DSNs (R-81)."""
        self.meets("MAIL", lambda server: server.send("550 5.7.1 a\x1b[2J\x00b\x0bc\x85d"))
        for event in self.named("relay.attempt"):
            self.assertTrue(event["reply"].isprintable())

    def test_success_is_only_believed_after_the_message(self) -> None:
        """250 to DATA, or before the dot, delivers nothing."""
        self.assertEqual(
            self.meets("DATA", lambda server: server.send("250 2.0.0 queued")),
            ("delayed", "4.5.0"),
        )
        self.assertEqual(
            self.meets("DATA", lambda server: server.send("354 go\r\n250 2.0.0 queued")),
            ("delayed", "4.5.0"),
        )

    def test_binary_message_is_never_sent_as_text(self) -> None:
        """A host that takes no BINARYMIME gets none."""
        self.assertEqual(
            self.meets("MAIL", lambda server: None, body=Body.BINARY), ("failed", "5.6.3")
        )
