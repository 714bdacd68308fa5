"""
A network in memory, with TLS, and SMTP servers on it that do as they are told.

`Network` is the reactor of the code under test. Octets move when `settle` is called.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionRefusedError,
    TimeoutError,
)
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

HIGH_WATER = 64 * 1024


class Raw:
    """What a TLS layer writes to: one end without the layer."""

    def __init__(self, end: End) -> None:
        self.end = end

    def write(self, data: bytes) -> None:
        self.end.raw_write(data)

    def loseConnection(self) -> None:
        self.end.raw_lose()

    def abortConnection(self) -> None:
        self.end.raw_abort()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.end.raw_register(producer, streaming)

    def unregisterProducer(self) -> None:
        self.end.producer = None

    def getPeer(self) -> Any:
        return self.end.getPeer()

    getHost = getPeer


class End:
    """One end of a connection."""

    disconnecting = False

    def __init__(self, network: Network, protocol: Any, is_client: bool) -> None:
        self.network, self.protocol, self.is_client = network, protocol, is_client
        self.peer: End
        self.tls: Any = None
        self.producer: Any = None
        self.buffer = bytearray()
        self.reading = True
        self.closing = self.closed = False
        self.most_buffered = 0
        self.paused_producer = False

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        if self.tls is not None:
            self.tls.write(data)
        else:
            self.raw_write(data)

    def writeSequence(self, parts: Sequence[bytes]) -> None:
        self.write(b"".join(parts))

    def loseConnection(self) -> None:
        (self.tls.loseConnection if self.tls is not None else self.raw_lose)()

    def abortConnection(self) -> None:
        (self.tls.abortConnection if self.tls is not None else self.raw_abort)()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.tls is not None:
            self.tls.registerProducer(producer, streaming)
        else:
            self.raw_register(producer, streaming)

    def unregisterProducer(self) -> None:
        if self.tls is not None:
            self.tls.unregisterProducer()
        else:
            self.producer = None

    def startTLS(self, creator: Any, normal: bool = True) -> None:
        factory = TLSMemoryBIOFactory(creator, self.is_client, None, self.network)
        layer = factory.protocol(factory, self.protocol, False)
        self.protocol = self.tls = layer
        layer.makeConnection(Raw(self))

    def getHandle(self) -> Any:
        return self.tls.getHandle()

    def getPeer(self) -> Any:
        return IPv4Address("TCP", "192.0.2.1", 25)

    getHost = getPeer

    # --- below TLS

    def raw_write(self, data: bytes) -> None:
        if self.closed or self.closing:
            return
        self.buffer += data
        self.most_buffered = max(self.most_buffered, len(self.buffer))
        if self.producer is not None and len(self.buffer) > HIGH_WATER and not self.paused_producer:
            self.paused_producer = True
            self.producer.pauseProducing()
        self.network.soon(self.flush)

    def flush(self) -> None:
        if self.closed or not self.peer.reading:
            return
        data, self.buffer = bytes(self.buffer), bytearray()
        if data and not self.peer.closed:
            self.peer.protocol.dataReceived(data)
        if self.paused_producer and not self.buffer:
            self.paused_producer = False
            if self.producer is not None:
                self.producer.resumeProducing()
        if self.closing and not self.buffer:
            self.end(ConnectionDone())

    def raw_register(self, producer: Any, streaming: bool) -> None:
        assert streaming and self.producer is None
        self.producer = producer

    def raw_lose(self) -> None:
        self.closing = self.disconnecting = True
        self.network.soon(self.flush)

    def raw_abort(self) -> None:
        self.network.soon(self.end, ConnectionAborted())

    def end(self, reason: Exception) -> None:
        for end, why in ((self, reason), (self.peer, ConnectionDone())):
            if not end.closed:
                end.closed = True
                end.network.connections.discard(end)
                end.protocol.connectionLost(Failure(why))


class Connector:
    """What a client may stop."""

    def __init__(self) -> None:
        self.stopped = False

    def stopConnecting(self) -> None:
        self.stopped = True

    def getDestination(self) -> Any:
        return IPv4Address("TCP", "192.0.2.1", 25)


class Network(Clock):
    """
    Time and TCP.

    `servers` maps (address, port) to a function that makes a server protocol, to ``"refuse"`` or to
    ``"silent"``, where a connection times out. `dialled` lists what was connected to.
    """

    def __init__(self, servers: Mapping[tuple[str, int], Any] | None = None) -> None:
        super().__init__()
        self.servers: dict[tuple[str, int], Any] = dict(servers or {})
        self.dialled: list[tuple[str, int]] = []
        self.connections: set[End] = set()
        self.ends: list[End] = []
        self._soon: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self._soon.append((call, arguments))

    def settle(self) -> None:
        """Move octets until nothing moves."""
        for _ in range(200_000):
            if not self._soon:
                # TLS gathers small writes until the reactor's next turn.
                super().advance(0)
            if not self._soon:
                return
            call, arguments = self._soon.popleft()
            call(*arguments)
        raise AssertionError("the network does not come to rest")

    def advance(self, amount: float) -> None:
        super().advance(amount)
        self.settle()

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Connector:
        self.dialled.append((host, port))
        connector = Connector()
        factory.doStart()
        factory.startedConnecting(connector)
        server = self.servers.get((host, port), "refuse")
        if server == "silent":
            self.callLater(
                timeout,
                lambda: (
                    connector.stopped
                    or factory.clientConnectionFailed(connector, Failure(TimeoutError()))
                ),
            )
        elif server == "refuse":
            failure = Failure(ConnectionRefusedError())
            self.soon(factory.clientConnectionFailed, connector, failure)
        else:
            self.soon(self.connect, factory, server)
        return connector

    def connect(self, factory: Any, server: Callable[[], Any]) -> None:
        address = IPv4Address("TCP", "192.0.2.1", 25)
        client_end = End(self, factory.buildProtocol(address), True)
        server_end = End(self, server(), False)
        client_end.peer, server_end.peer = server_end, client_end
        self.connections |= {client_end, server_end}
        self.ends.append(client_end)
        client_end.protocol.makeConnection(client_end)
        server_end.protocol.makeConnection(server_end)


def certificate(host: str) -> tuple[Any, bytes]:
    """Return what a server presents as that host, and the PEM that clients may trust."""
    pem, private = _certificate(host)
    return PrivateCertificate.loadPEM(private + pem).options(), pem


def certificate_files(host: str, directory: Path) -> tuple[Path, Path]:
    """Write certificate and key of a host as PEM files, and return their names."""
    names = (directory / f"{host}.crt", directory / f"{host}.key")
    for path, pem in zip(names, _certificate(host), strict=True):
        path.write_bytes(pem)
    return names


@lru_cache(maxsize=8)
def _certificate(host: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, private


class Server(Protocol):
    """
    A small SMTP server that takes everything, except as it is told.

    Args:
        offers: lines of the EHLO reply after the first.
        replies: what to answer to a line that begins so (``"RCPT TO:<x@"``), ``"greeting"``,
            ``"message"`` (after the dot): a text without CRLF, a function of the server that says
            it itself, or a list of these for one time after the other, the last for good.
        tls: what is presented after STARTTLS.
    """

    def __init__(
        self,
        offers: Sequence[str] = ("PIPELINING", "8BITMIME", "SIZE 1000000", "ENHANCEDSTATUSCODES"),
        replies: Mapping[str, Any] | None = None,
        tls: Any = None,
        implicit: bool = False,
    ) -> None:
        self.offers, self.tls, self.implicit = list(offers), tls, implicit
        self.replies = {
            key: list(value) if isinstance(value, list) else value
            for key, value in (replies or {}).items()
        }
        self.lines: list[str] = []
        self.segments: list[bytes] = []
        self.messages: list[bytes] = []
        self.envelopes: list[list[str]] = []
        self.envelope: list[str] = []
        self.buffer = b""
        self.in_data = False
        self.chunk = 0
        self.lost = False
        self.is_tls = False
        self.hung = False

    def __call__(self) -> Server:
        """Serve (again)."""
        self.buffer, self.in_data, self.chunk, self.is_tls = b"", False, 0, False
        self.lost = self.hung = False
        return self

    def connectionMade(self) -> None:
        if self.implicit:
            self.transport.startTLS(self.tls)
        self.say("greeting", "220 fake ESMTP")

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True

    def send(self, text: str) -> None:
        self.transport.write(text.encode() + b"\r\n")

    def say(self, key: str, text: str) -> None:
        told = next((self.replies[k] for k in self.replies if key.startswith(k)), text)
        if isinstance(told, list):
            told = told.pop(0) if len(told) > 1 else told[0]
        if callable(told):
            told(self)
        elif told:
            self.send(told)

    def hang(self) -> None:
        """Answer nothing more."""
        self.hung = True

    def drop(self) -> None:
        self.lost = True
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.segments.append(data)
        self.buffer += data
        while not (self.lost or self.hung) and self.step():
            pass

    def step(self) -> bool:
        if self.chunk:
            if len(self.buffer) < self.chunk:
                return False
            data, self.buffer = self.buffer[: self.chunk], self.buffer[self.chunk :]
            self.chunk = 0
            self.take(data)
            return True
        if self.in_data:
            whole = b"\r\n" + self.buffer
            end = whole.find(b"\r\n.\r\n")
            if end < 0:
                return False
            data, self.buffer = whole[2 : end + 2], whole[end + 5 :]
            self.in_data = False
            self.take(data.replace(b"\r\n.", b"\r\n").removeprefix(b"."))
            return True
        line, found, rest = self.buffer.partition(b"\r\n")
        if not found:
            return False
        self.buffer = rest
        self.lines.append(line.decode())
        self.command(line.decode())
        return True

    def take(self, data: bytes) -> None:
        self.messages.append(data)
        self.envelopes.append(self.envelope)
        self.envelope = []
        self.say("message", "250 2.0.0 queued")

    def command(self, line: str) -> None:
        verb = line.split(" ")[0].upper()
        if verb == "EHLO":
            offers = [o for o in self.offers if o != "STARTTLS" or not self.is_tls]
            text = "\r\n".join(["250-fake", *(f"250-{offer}" for offer in offers)])
            head, _, last = text.rpartition("250-")
            self.say(line, f"{head}250 {last}")
        elif verb == "STARTTLS":
            self.say(line, "220 2.0.0 go")
            if self.tls is not None and not self.buffer:
                self.is_tls = True
                self.transport.startTLS(self.tls)
        elif verb == "DATA":
            if not self.envelope[1:]:
                self.say("DATA nobody", "554 5.5.1 no valid recipients")
                return
            before = len(self.lines)
            self.say(line, "354 go on")
            self.in_data = "DATA" not in self.replies and len(self.lines) == before
        elif verb == "BDAT":
            self.chunk = int(line.split(" ")[1])
        elif verb == "RSET":
            self.envelope = []
            self.say(line, "250 2.0.0 ok")
        elif verb == "QUIT":
            self.say(line, "221 2.0.0 bye")
            self.transport.loseConnection()
        else:
            if verb in ("MAIL", "RCPT") and not any(line.startswith(k) for k in self.replies):
                self.envelope = [*([] if verb == "MAIL" else self.envelope), line]
            self.say(line, "250 2.0.0 ok")
