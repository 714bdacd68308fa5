"""A reactor whose network leads to DNS servers that are functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

SERVER = ("127.0.0.1", 53)
Server = Callable[[dns.message.Message, bool], Iterable[bytes]]
"""Gets a query, and whether it came over TCP; says what octets to send back, if any."""


class Port:
    """A UDP socket."""

    def __init__(self, network: Network, protocol: Any) -> None:
        self.network, self.protocol, self.open = network, protocol, True

    def connect(self, host: str, port: int) -> None:
        self.peer = (host, port)

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        assert address == self.peer
        self.network.sent.append(("udp", address, data))
        server = self.network.servers.get(address)
        if server is None:
            return
        if server == "refuse":
            self.network.callLater(0, lambda: self.open and self.protocol.connectionRefused())
            return
        for answer in server(dns.message.from_wire(data), False):
            self.network.callLater(0.01, self.deliver, answer, address)

    def deliver(self, data: bytes, address: tuple[str, int]) -> None:
        if self.open:
            self.protocol.datagramReceived(data, address)

    def stopListening(self) -> None:
        assert self.open, "closed twice"
        self.open = False
        self.network.ports.remove(self)


class Stream(StringTransport):
    """The client's end of a TCP connection."""

    def __init__(self, network: Network, address: tuple[str, int], protocol: Any) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", *address))
        self.network, self.address, self.protocol = network, address, protocol
        self.gone = False

    def write(self, data: bytes) -> None:
        self.network.sent.append(("tcp", self.address, data[2:]))
        server = self.network.servers[self.address]
        for answer in server(dns.message.from_wire(data[2:]), True):
            framed = len(answer).to_bytes(2, "big") + answer
            self.network.callLater(
                0.01, lambda d=framed: self.gone or self.protocol.dataReceived(d)
            )

    def abortConnection(self) -> None:
        if not self.gone:
            self.gone = True
            self.network.streams.remove(self)
            self.protocol.connectionLost(Failure(ConnectionDone()))

    loseConnection = abortConnection


class Network(Clock):
    """Time, UDP and TCP. `servers` maps an address to a server, ``"refuse"`` or nobody."""

    def __init__(self, servers: Mapping[tuple[str, int], Any]) -> None:
        super().__init__()
        self.servers = dict(servers)
        self.sent: list[tuple[str, tuple[str, int], bytes]] = []
        self.ports: list[Port] = []
        self.streams: list[Stream] = []

    def listenUDP(
        self, port: int, protocol: Any, interface: str = "", maxPacketSize: int = 8192
    ) -> Port:
        assert port == 0
        self.ports.append(Port(self, protocol))
        protocol.transport = self.ports[-1]
        protocol.startProtocol()
        return protocol.transport  # type: ignore[no-any-return]

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> None:
        if not callable(self.servers.get((host, port))):
            self.callLater(
                0, factory.clientConnectionFailed, None, Failure(ConnectionRefusedError())
            )
            return
        protocol = factory.buildProtocol(IPv4Address("TCP", host, port))
        stream = Stream(self, (host, port), protocol)
        self.streams.append(stream)
        self.callLater(0.01, protocol.makeConnection, stream)

    def run(self, seconds: float = 1.0, step: float = 0.01) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds / step)):
            self.advance(step)


def reply(
    query: dns.message.Message,
    *records: str,
    rcode: int = dns.rcode.NOERROR,
    authority: Sequence[str] = (),
    flags: int = dns.flags.RA,
) -> dns.message.Message:
    """Build an answer; records are ``name ttl type data``, as in a zone file."""
    message = dns.message.make_response(query)
    message.flags |= flags
    message.set_rcode(rcode)
    for section, texts in ((message.answer, records), (message.authority, authority)):
        for text in texts:
            name, ttl, kind, data = text.split(" ", 3)
            section.append(dns.rrset.from_text(f"{name}.", int(ttl), "IN", kind, data))
    return message


class Zone:
    """An authoritative server for everything, from the tables of the contract suite."""

    SOA = ("example 60 SOA ns.example. root.example. 1 2 3 4 60",)

    def __init__(
        self,
        mx: Mapping[str, Sequence[tuple[int, str]]],
        addresses: Mapping[str, Sequence[str]],
        txt: Mapping[str, Sequence[bytes]],
        names: Mapping[str, Sequence[str]],
        failing: Sequence[str],
    ) -> None:
        self.failing = set(failing)
        self.table: dict[str, list[tuple[str, str]]] = {}
        for name, records in mx.items():
            for preference, host in records:
                self.add(name, "MX", f"{preference} {host}.")
        for name, texts in addresses.items():
            for text in texts:
                self.add(name, "AAAA" if ":" in text else "A", text)
        for name, values in txt.items():
            for value in values:
                parts = [value[at : at + 255].decode() for at in range(0, len(value), 255)]
                self.add(name, "TXT", " ".join(f'"{part}"' for part in parts))
        for address, hosts in names.items():
            reverse = dns.reversename.from_address(address).to_text(omit_final_dot=True)
            for host in hosts:
                self.add(reverse, "PTR", f"{host}.")

    def add(self, name: str, kind: str, data: str) -> None:
        self.table.setdefault(name, []).append((kind, data))

    def __call__(self, query: dns.message.Message, tcp: bool) -> list[bytes]:
        name = query.question[0].name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(query.question[0].rdtype)
        if name in self.failing:
            return [reply(query, rcode=dns.rcode.SERVFAIL).to_wire()]
        records = self.table.get(name)
        if records is None:
            return [reply(query, rcode=dns.rcode.NXDOMAIN, authority=self.SOA).to_wire()]
        texts = [f"{name} 300 {have} {data}" for have, data in records if have == kind]
        authority = () if texts else self.SOA
        return [reply(query, *texts, authority=authority).to_wire()]
