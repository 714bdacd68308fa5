"""Python's own POP3 client against the server, over real sockets and real TLS."""

from __future__ import annotations

import os
import poplib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailhost.pop3.protocol import POP3ServerFactory
from mailhost.pop3.settings import POP3Parts, POP3Settings
from tests.pop3.peer import MAILS, World

reactor: Any = installed


def self_signed() -> Any:
    """Return a context factory with a new certificate for localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    pem = certificate.public_bytes(encoding) + key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return PrivateCertificate.loadPEM(pem).options()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class PoplibTests(TestCase):
    """Each way in, and a whole dialogue."""

    timeout = 30

    def setUp(self) -> None:
        """Listen with and without TLS."""
        self.world = World()
        self.big = b"Subject: big\r\n\r\n" + b".line of text\r\n" * 200_000
        self.world.access.deliver("INBOX", self.big)
        context = self_signed()
        self.plain = reactor.listenTCP(0, self.factory(context, False), interface="127.0.0.1")
        self.secure = reactor.listenSSL(
            0, self.factory(context, True), context, interface="127.0.0.1"
        )

    def factory(self, context: Any, implicit_tls: bool) -> POP3ServerFactory:
        factory = POP3ServerFactory(
            POP3Parts(
                clock=reactor,
                random_bytes=os.urandom,
                authenticator=self.world.authenticator,
                tls_context=lambda: context,
            ),
            POP3Settings(hostname="localhost", implicit_tls=implicit_tls),
        )
        self.addCleanup(factory.shut_down)
        return factory

    async def tearDown(self) -> None:
        """Stop listening."""
        await self.plain.stopListening()
        await self.secure.stopListening()

    def dialogue(self, connect: Callable[[], poplib.POP3]) -> Deferred[None]:
        """Log in, read everything, delete the first message."""

        def run() -> None:
            client = connect()
            client.user("alice")
            client.pass_("secret")
            self.assertEqual(client.stat(), (4, 120 + len(self.big)))
            self.assertEqual(client.retr(1)[1], MAILS[0].splitlines())
            self.assertEqual(client.retr(4)[1], self.big.splitlines())
            self.assertEqual(client.top(3, 1)[1], [b"Subject: lines", b"", b"1"])
            self.assertEqual(client.uidl(2), b"+OK 2 3857529045.2")
            client.dele(1)
            self.assertEqual(client.quit(), b"+OK 1 messages deleted")

        def check(_: None) -> None:
            self.assertEqual(sorted(self.world.inbox), [2, 3, 4])

        return deferToThread(run).addCallback(check)

    def test_stls(self) -> Deferred[None]:
        """No password without TLS; all works after STLS."""

        def connect() -> poplib.POP3:
            client = poplib.POP3("127.0.0.1", self.plain.getHost().port, timeout=20)
            self.assertRaises(poplib.error_proto, client.user, "alice")
            client.stls(trusting())
            return client

        return self.dialogue(connect)

    def test_implicit_tls(self) -> Deferred[None]:
        """TLS from the start."""
        port = self.secure.getHost().port
        return self.dialogue(
            lambda: poplib.POP3_SSL("127.0.0.1", port, timeout=20, context=trusting())
        )
