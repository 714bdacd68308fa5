"""An IMAP server on a fake transport, fake clock and in-memory store, for tests."""

from __future__ import annotations

from typing import Any

from twisted.internet import address, interfaces
from twisted.internet.task import Clock
from zope.interface import directlyProvides, implementer

from mailhost.address import Address
from mailhost.imap.protocol import IMAPServerFactory, IMAPServerProtocol
from mailhost.imap.settings import IMAPSettings
from mailhost.units import AccountID
from tests.fakes_access import (
    FakeAuthenticator,
    FakeMailAccess,
    FakeMailStore,
    internal_date,
)

PASSWORDS = {b"alice": b"secret", b"bob": b"other", b"o'brien": b'pa"ss\\word'}


class FakeTLSHandle:
    """Answers what `mailhost.channel_binding` asks a TLS connection."""

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def export_keying_material(self, label: bytes, length: int, context: bytes) -> bytes:
        return b"k" * length

    def get_certificate(self) -> None:
        return None


@implementer(interfaces.ITCPTransport)
class FakeTransport:
    """A transport that a test reads, and that can be made to stop reading."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.writes = 0
        self.closed = self.aborted = False
        self.reading = True
        self.no_delay = False
        self.producer: Any = None
        self.tls_wanted: Any = None
        self.limit: int | None = None
        """Octets after which the producer is paused; None takes any number."""

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        self.writes += 1
        self.written.append(data)
        if self.limit is not None and self.producer is not None and self.size >= self.limit:
            self.producer.pauseProducing()

    @property
    def size(self) -> int:
        return sum(map(len, self.written))

    def take(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data

    def loseConnection(self) -> None:
        assert self.producer is None, "a TLS transport would wait for its producer"
        self.closed = True

    def abortConnection(self) -> None:
        self.closed = self.aborted = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def startTLS(self, options: Any) -> None:
        self.tls_wanted = options

    def getHandle(self) -> FakeTLSHandle:
        return FakeTLSHandle()


class IMAPPeer:
    """
    A server with one connection.

    Args:
        late: every answer of store and authenticator waits for `settle`.
        tls: the connection is protected from its first octet.
        cleartext: passwords are taken without TLS.
        settings: limits.
    """

    def __init__(
        self,
        *,
        late: bool = False,
        tls: bool = False,
        cleartext: bool = True,
        settings: IMAPSettings | None = None,
        store: FakeMailStore | None = None,
    ) -> None:
        self.store = store or FakeMailStore(late)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.authenticator = FakeAuthenticator(
            PASSWORDS, lambda user, _: self.account(user.decode()), self.store.answers
        )
        self.factory = IMAPServerFactory(
            self.authenticator,
            self.clock,
            lambda count: b"\0" * count,
            tls_options=lambda: "options",
            cleartext_login=cleartext,
            settings=settings,
        )
        self.transport, self.protocol = self.connect(tls)

    def account(self, name: str) -> FakeMailAccess:
        """The mail of an account."""
        return self.store.access(AccountID(f"a-{name}"), Address(name, "example.org"))

    def connect(self, tls: bool = False) -> tuple[FakeTransport, IMAPServerProtocol]:
        """Open a further connection."""
        transport = FakeTransport()
        protocol = self.factory.buildProtocol(address.IPv4Address("TCP", "192.0.2.7", 4711))
        if tls:
            directlyProvides(transport, interfaces.ISSLTransport)
        protocol.makeConnection(transport)
        if tls:
            protocol.handshakeCompleted()
        return transport, protocol

    def feed(self, data: bytes) -> None:
        if not self.transport.closed:
            self.protocol.dataReceived(data)

    def take_output(self) -> bytes:
        return self.transport.take()

    def settle(self) -> None:
        self.store.answers.settle()

    def start_tls(self) -> bool:
        wanted, self.transport.tls_wanted = self.transport.tls_wanted, None
        if wanted is None:
            return False
        self.protocol.handshakeCompleted()
        return True

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @property
    def closed(self) -> bool:
        return self.transport.closed

    # Conveniences of tests without a transcript.

    def say(self, line: bytes) -> bytes:
        """Send a line and return all that the server says to it."""
        self.feed(line + b"\r\n")
        self.settle()
        return self.take_output()

    def log_in(self, mailbox: bytes = b"") -> None:
        """Log alice in, and select a mailbox."""
        self.take_output()
        assert b"a0 OK" in self.say(b"a0 LOGIN alice secret")
        if mailbox:
            assert b"a1 OK" in self.say(b"a1 SELECT " + mailbox)


PLAIN_MESSAGE = (
    b"Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\r\n"
    b"From: Fred Foobar <foobar@Blurdybloop.example>\r\n"
    b"Subject: afternoon meeting\r\n"
    b"To: mooch@owatagu.siam.edu.example\r\n"
    b"Message-Id: <B27397-0100000@Blurdybloop.example>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
    b"\r\n"
    b"Hello Joe, do you think we can meet at 3:30 tomorrow?\r\n"
    b"\r\n"
)

NESTED_MESSAGE = (
    b"From: a@example.org\r\n"
    b"To: b@example.org\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="out"\r\n'
    b"\r\n"
    b"preamble\r\n"
    b"--out\r\n"
    b"Content-Type: text/plain\r\n"
    b"\r\n"
    b"first part\r\n"
    b"--out\r\n"
    b"Content-Type: message/rfc822\r\n"
    b"\r\n"
    b"From: c@example.org\r\n"
    b"Subject: inner\r\n"
    b'Content-Type: multipart/alternative; boundary="in"\r\n'
    b"\r\n"
    b"--in\r\n"
    b"Content-Type: text/plain\r\n"
    b"\r\n"
    b"inner text\r\n"
    b"--in\r\n"
    b"Content-Type: text/html\r\n"
    b"\r\n"
    b"<p>inner</p>\r\n"
    b"--in--\r\n"
    b"--out--\r\n"
)


def numbered(number: int, subject: str = "") -> bytes:
    """Return a small message."""
    return (
        f"From: sender{number}@example.org\r\nTo: alice@example.org\r\n"
        f"Subject: {subject or f'message {number}'}\r\n"
        f"Date: Tue, {number % 28 + 1:02d} Mar 2022 10:00:00 +0100\r\n"
        f"Message-ID: <{number}@example.org>\r\n\r\nbody {number}\r\n"
    ).encode()


def fill(account: FakeMailAccess, what: str) -> None:
    """Put the messages of a named set into INBOX."""
    if what == "plain":
        date, zone = internal_date("1996-07-17T02:44:25-07:00")
        account.deliver("INBOX", PLAIN_MESSAGE, ("\\Seen",), date, zone)
    elif what == "nested":
        account.deliver("INBOX", NESTED_MESSAGE)
    elif what == "three":
        account.deliver("INBOX", numbered(1), ("\\Seen",), 1_000_000_000)
        account.deliver("INBOX", numbered(2), ("\\Flagged", "$Work"), 1_100_000_000, 120)
        account.deliver("INBOX", numbered(3, "Grüße aus Köln"), (), 1_200_000_000, -300)
    elif what.isdigit():
        for number in range(1, int(what) + 1):
            account.deliver("INBOX", numbered(number), ("\\Seen",))
    else:
        raise ValueError(what)
