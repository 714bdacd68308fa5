"""The SMTP server on real sockets with real TLS, and Python's own client against it."""

from __future__ import annotations

import hashlib
import os
import smtplib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import crypto
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailhost.sending import send
from mailhost.smtp.limits import ConnectionLimits
from mailhost.smtp.protocol import SMTPServerFactory
from mailhost.smtp.settings import Mode, SMTPServerParts, SMTPServerSettings
from tests.fakes import FakeAuthenticator, FakeRecipientPolicy, FakeSpool, FakeSubmission
from tests.test_channel_binding import certify

reactor: Any = installed


class SocketTests(TestCase):
    """smtplib in a thread, the server on the reactor."""

    timeout = 30

    def setUp(self) -> None:
        """Open a plain and a TLS listener on loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = certify(key, hashes.SHA256())
        options = CertificateOptions(
            privateKey=crypto.PKey.from_cryptography_key(key),
            certificate=crypto.X509.from_cryptography(self.certificate),
        )
        self.spool = FakeSpool()
        self.authenticator = FakeAuthenticator({"alice": FakeSubmission("alice@example.org")})
        parts = SMTPServerParts(
            clock=reactor,
            random_bytes=os.urandom,
            spool=self.spool,
            recipients=FakeRecipientPolicy("example.org"),
            authenticator=self.authenticator,
            tls_context=lambda: options,
            limits=ConnectionLimits(),
        )
        settings = SMTPServerSettings(hostname="mx.example.org", mode=Mode.LOCAL)
        self.factory = SMTPServerFactory(settings, parts)
        plain = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        tls = reactor.listenSSL(0, self.factory, options, interface="127.0.0.1")
        self.addCleanup(plain.stopListening)
        self.addCleanup(tls.stopListening)
        self.plain, self.tls = plain.getHost().port, tls.getHost().port
        self.client = ssl.create_default_context()
        self.client.check_hostname = False
        self.client.verify_mode = ssl.CERT_NONE

    def tearDown(self) -> Deferred[None] | None:
        """Wait until the server has seen every connection end."""
        if not self.factory.connections:
            return None
        gone: Deferred[None] = Deferred()

        def look() -> None:
            if self.factory.connections:
                reactor.callLater(0.01, look)
            else:
                gone.callback(None)

        look()
        return gone

    def run_client(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Run it in a thread."""
        return deferToThread(function)

    def test_starttls_login_and_mail(self) -> Deferred[None]:
        """EHLO, STARTTLS, EHLO, AUTH, and a message larger than any buffer."""
        text = b"Subject: big\r\n\r\n" + b".line of text\r\n" * 100_000

        def client() -> tuple[int, bytes]:
            with smtplib.SMTP("127.0.0.1", self.plain) as smtp:
                smtp.ehlo("client.example")
                assert not smtp.has_extn("auth")
                smtp.starttls(context=self.client)
                smtp.login("alice", "secret")
                smtp.sendmail("alice@example.org", ["x@far.example", "y@far.example"], text)
                return smtp.noop()

        def check(answer: tuple[int, bytes]) -> None:
            self.assertEqual(answer[0], 250)
            ((envelope, prefix, content),) = self.spool.messages
            self.assertEqual(content, text)
            self.assertEqual(len(envelope.recipients), 2)
            self.assertIn(b" with ESMTPSA\r\n", prefix)
            self.assertIn(b"(using TLSv1.3 TLS_", prefix)
            bindings = dict(self.authenticator.facts[-1].channel_bindings)
            self.assertEqual(
                bindings["tls-server-end-point"],
                hashlib.sha256(self.certificate.public_bytes(Encoding.DER)).digest(),
            )
            self.assertEqual(len(bindings["tls-exporter"]), 32)

        return self.run_client(client).addCallback(check)

    def test_implicit_tls(self) -> Deferred[None]:
        """The same port type as 465: greeting inside TLS, no STARTTLS offered."""

        def client() -> None:
            with smtplib.SMTP_SSL("127.0.0.1", self.tls, context=self.client) as smtp:
                smtp.ehlo("client.example")
                assert smtp.has_extn("auth") and not smtp.has_extn("starttls")
                smtp.sendmail("a@client.example", ["bob@example.org"], b"x")

        def check(_: None) -> None:
            self.assertIn(b" with ESMTPS\r\n", self.spool.messages[0][1])

        return self.run_client(client).addCallback(check)

    def test_plain(self) -> Deferred[None]:
        """Two messages and a refused recipient over one connection."""

        def client() -> None:
            with smtplib.SMTP("127.0.0.1", self.plain) as smtp:
                for _ in range(2):
                    refused = smtp.sendmail(
                        "a@client.example",
                        ["bob@example.org", "nobody@example.org"],
                        b"x\r\n..\r\n",
                    )
                    assert list(refused) == ["nobody@example.org"]

        def check(_: None) -> None:
            self.assertEqual([m[2] for m in self.spool.messages], [b"x\r\n..\r\n"] * 2)

        return self.run_client(client).addCallback(check)

    def test_r09_plain_octets_on_the_tls_port_and_the_reverse(self) -> Deferred[None]:
        """R-09, R-21: another protocol's octets end the connection without an answer to them."""

        def client() -> tuple[bytes, bytes]:
            answers = []
            for port, octets in (
                (self.tls, b"GET / HTTP/1.1\r\n\r\n"),
                (self.plain, bytes.fromhex("160301020001000001fc0303") + bytes(500)),
            ):
                with socket.create_connection(("127.0.0.1", port), 10) as connection:
                    connection.sendall(octets)
                    answer = b""
                    try:
                        while data := connection.recv(4096):
                            answer += data
                    except ConnectionResetError:
                        pass
                    answers.append(answer)
            return answers[0], answers[1]

        def check(answers: tuple[bytes, bytes]) -> None:
            self.assertNotIn(b"220", answers[0])
            self.assertTrue(answers[1].startswith(b"220 mx.example.org"))
            self.assertTrue(answers[1].endswith(b"500 5.5.1 This port speaks SMTP\r\n"))

        return self.run_client(client).addCallback(check)

    def test_peer_that_never_reads(self) -> Deferred[None]:
        """Replies that nobody takes stop the reading of commands; memory stays bounded."""
        self.factory.settings = SMTPServerSettings(hostname="h" * 200, junk_commands=1 << 30)

        def client() -> int:
            with socket.create_connection(("127.0.0.1", self.plain), 10) as connection:
                connection.settimeout(1)
                sent = 0
                try:
                    while sent < 64 << 20:
                        sent += connection.send(b"EHLO x\r\n" * 8192)
                except TimeoutError:
                    pass
                return sent

        def check(sent: int) -> None:
            self.assertLess(sent, 64 << 20)

        return self.run_client(client).addCallback(check)


class SendTests(TestCase):
    """`mailhost.sending`."""

    def test_order_is_kept_whatever_the_socket_takes(self) -> Deferred[None]:
        """Short and long writes, direct and buffered, arrive in order and whole."""
        from twisted.internet.protocol import Factory, Protocol

        expected = b"".join(b"%d," % n for n in range(3000)) + b"x" * 3_000_000 + b"end"

        class Sender(Protocol):
            def connectionMade(self) -> None:
                for n in range(3000):
                    send(self.transport, b"%d," % n)
                send(self.transport, b"x" * 3_000_000)
                send(self.transport, b"end")
                assert self.transport is not None
                self.transport.loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Sender), interface="127.0.0.1")
        self.addCleanup(port.stopListening)

        def client() -> bytes:
            with socket.create_connection(("127.0.0.1", port.getHost().port), 10) as connection:
                return b"".join(iter(lambda: connection.recv(65536), b""))

        return deferToThread(client).addCallback(self.assertEqual, expected)

    def test_tls_transport_is_not_bypassed(self) -> None:
        """A transport that lends its lower one's attributes is written to as it wants."""

        class Lower:
            TLS = False
            connected = True
            disconnecting = False

        class Upper:
            def __init__(self) -> None:
                self.written = b""

            def __getattr__(self, name: str) -> Any:
                return getattr(Lower, name)

            def write(self, data: bytes) -> None:
                self.written += data

        transport = Upper()
        send(transport, b"x")
        self.assertEqual(transport.written, b"x")
