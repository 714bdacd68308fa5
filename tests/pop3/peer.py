"""A POP3 server on a fake transport, with an in-memory mailbox behind it."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mailhost.address import Address
from mailhost.interfaces.access import IMailAccess
from mailhost.pop3.protocol import POP3ServerFactory, POP3ServerProtocol
from mailhost.pop3.settings import POP3Parts, POP3Settings
from mailhost.units import AccountID
from tests.fakes_access import FakeAuthenticator, FakeMailAccess, FakeMailStore

MAILS = (
    b"From: a@example.org\r\nSubject: one\r\n\r\nHello\r\n",
    b"Subject: dots\r\n\r\n.first\r\n..second\r\n.\r\nno line end",
    b"Subject: lines\r\n\r\n1\r\n2\r\n3\r\n",
)


class FakeTLSConnection:
    """What `mailhost.channel_binding` asks of a pyOpenSSL connection."""

    def get_cipher_name(self) -> str:
        return "TLS_AES_256_GCM_SHA384"

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def export_keying_material(self, label: bytes, length: int, context: bytes) -> bytes:
        return label[:length].ljust(length, b"\0")

    def get_certificate(self) -> None:
        return None


class FakeTransport(StringTransport):
    """A transport that can be blocked, and asked for TLS."""

    def __init__(self) -> None:
        super().__init__()
        self.tls_context: Any = None
        self.secure = False
        self.aborted = False
        self.no_delay = False
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def startTLS(self, context: Any) -> None:
        self.tls_context = context

    def getHandle(self) -> FakeTLSConnection:
        assert self.secure
        return FakeTLSConnection()

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()


class Limit:
    """Counts to a limit, as connections and as sessions."""

    def __init__(self, limit: int) -> None:
        self.limit, self.count = limit, 0

    def admit(self, _: str) -> bool:
        if self.count >= self.limit:
            return False
        self.count += 1
        return True

    def enter(self, _account: str, peer: str) -> bool:
        return self.admit(peer)

    def leave(self, *_: str) -> None:
        self.count -= 1


class World:
    """A store with one account, ``alice`` with password ``secret``, and a factory."""

    def __init__(self, late: bool = False, mails: int = len(MAILS), **settings: Any) -> None:
        self.store = FakeMailStore(late)
        self.access = FakeMailAccess(
            AccountID("alice"), Address.parse("alice@example.org"), self.store.answers
        )
        for octets in MAILS[:mails]:
            self.access.deliver("INBOX", octets)
        self.store.answers.settle()
        self.clock = Clock()
        self.authenticator = FakeAuthenticator(
            {b"alice": b"secret", "jörg".encode(): "gehéim".encode()},
            self.avatar,
            self.store.answers,
        )
        self.connections, self.sessions = Limit(100), Limit(100)
        self.settings = POP3Settings(
            hostname="mail.example.org", **{"cleartext_login": True, **settings}
        )
        self.factory = POP3ServerFactory(
            POP3Parts(
                clock=self.clock,
                random_bytes=lambda length: b"\x01" * length,
                authenticator=self.authenticator,
                tls_context=lambda: "context",
                connections=self.connections,
                sessions=self.sessions,
            ),
            self.settings,
        )

    def avatar(self, _: bytes, interface: Any) -> Any:
        assert interface is IMailAccess
        return self.access

    @property
    def inbox(self) -> dict[int, Any]:
        box = self.access.named("INBOX")
        assert box is not None
        return box.messages

    def connect(self) -> POP3Peer:
        return POP3Peer(self)


class POP3Peer:
    """One connection, as the transcript player wants it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.transport = FakeTransport()
        protocol = world.factory.buildProtocol(None)
        assert isinstance(protocol, POP3ServerProtocol)
        self.protocol = protocol
        self.lost = False
        protocol.makeConnection(self.transport)

    def feed(self, data: bytes) -> None:
        if not self.closed:
            self.protocol.dataReceived(data)

    def take_output(self) -> bytes:
        data = self.transport.value()
        self.transport.clear()
        return data

    def settle(self) -> None:
        self.world.store.answers.settle()
        self._close()

    def _close(self) -> None:
        if self.transport.disconnecting and not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def lose(self) -> None:
        """The network is gone."""
        if not self.lost:
            self.lost = True
            self.protocol.connectionLost(Failure(ConnectionLost()))

    def start_tls(self) -> bool:
        implicit = self.world.settings.implicit_tls
        if self.transport.secure or (self.transport.tls_context is None and not implicit):
            return False
        self.transport.secure = True
        self.protocol.handshakeCompleted()
        return True

    def advance(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self._close()

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting)

    def say(self, *lines: bytes) -> bytes:
        """Send lines in one piece and return what the server says, all late answers given."""
        self.feed(b"".join(line + b"\r\n" for line in lines))
        self.settle()
        return self.take_output()
