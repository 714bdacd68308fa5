"""
Questions to DNS servers and their answers: who is asked, how often, over what.

dnspython builds and parses the messages, Twisted moves them. Each question has its own UDP socket,
whose port the kernel picks at random, and its own random id; a datagram counts only if it comes
from the server that was asked, with that id and that question (RFC 5452 9). A truncated answer,
and a socket on which somebody is guessing, lead to TCP. A server that does not know EDNS is asked
without it (RFC 6891 7).

What a hostile server can cost is bounded: the size of a message by the protocol, the number of
its records by `MAX_RECORDS`, the time by `limit`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime, ITCPTransport
from twisted.internet.protocol import DatagramProtocol, connectionDone
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure

from mailhost.dns.servers import Server, is_loopback
from mailhost.errors import ResolverFault

EDNS_PAYLOAD = 1232
"""Octets a UDP answer may have; larger ones could be fragmented."""

MAX_RECORDS = 2000
"""Records in all sections of a message; parsing more would hold the event thread too long."""

MAX_STRAYS = 16
"""Datagrams that answer something else before the question is asked over TCP."""

_HEADER = struct.Struct("!6H")


def decode_answer(query: dns.message.QueryMessage, data: bytes) -> dns.message.Message | None:
    """Return the message if it answers this query, else None."""
    if len(data) < _HEADER.size:
        return None
    number, flags, *counts = _HEADER.unpack_from(data)
    if number != query.id or not flags & dns.flags.QR or sum(counts) > MAX_RECORDS:
        return None
    try:
        message = dns.message.from_wire(data, ignore_trailing=True)
        if not message.question and message.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP):
            return message
        return message if query.is_response(message) else None
    except Exception:
        # dnspython promises DNSException, but this is a parser of foreign octets that is not ours:
        # whatever it trips over is no answer, and the question runs into its time limit.
        return None


class _Datagrams(DatagramProtocol):
    """One question over UDP; `answer` fires once, with None when TCP should be tried instead."""

    noisy = False

    def __init__(
        self, clock: IReactorTime, server: Server, query: dns.message.QueryMessage, timeout: float
    ) -> None:
        self._server = server
        self._query = query
        self._strays = 0
        self.answer: Deferred[dns.message.Message | None] = Deferred(lambda _: self._close())
        self._timer = clock.callLater(timeout, self.fail, "did not answer in time")

    def startProtocol(self) -> None:
        assert self.transport is not None
        try:
            self.transport.connect(*self._server)
            self.transport.write(self._query.to_wire(), self._server)
        except OSError as problem:
            self.fail(problem.strerror or "cannot be reached")

    def datagramReceived(self, data: bytes, address: Any) -> None:
        if tuple(address[:2]) != self._server:
            return
        message = decode_answer(self._query, data)
        if message is not None:
            truncated = message.flags & dns.flags.TC
            self._finish(None if truncated else message)
            return
        self._strays += 1
        if self._strays >= MAX_STRAYS:
            self._finish(None)

    def connectionRefused(self) -> None:
        self.fail("refused the question")

    def fail(self, problem: str) -> None:
        """Give up on this server, for that reason."""
        self._close()
        if not self.answer.called:
            self.answer.errback(ResolverFault(f"{self._server[0]} {problem}"))

    def _finish(self, message: dns.message.Message | None) -> None:
        self._close()
        if not self.answer.called:
            self.answer.callback(message)

    def _close(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        if self.transport is not None:
            transport, self.transport = self.transport, None
            transport.stopListening()


class _Stream(Int16StringReceiver):
    """One question over TCP (RFC 7766)."""

    def __init__(self, server: Server, query: dns.message.QueryMessage) -> None:
        self._server = server
        self._query = query
        self.answer: Deferred[dns.message.Message] = Deferred(lambda _: self._close())

    def connectionMade(self) -> None:
        self.sendString(self._query.to_wire())

    def stringReceived(self, data: bytes) -> None:
        message = decode_answer(self._query, data)
        if not self.answer.called:
            if message is None:
                problem = f"{self._server[0]} gave no answer to the question"
                self.answer.errback(ResolverFault(problem))
            else:
                self.answer.callback(message)
        self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.answer.called:
            self.answer.errback(ResolverFault(f"{self._server[0]} closed the connection"))

    def _close(self) -> None:
        if self.transport is not None:
            cast(ITCPTransport, self.transport).abortConnection()


def _is_lame(message: dns.message.Message) -> bool:
    # A referral: the server neither knows the name nor looks it up for us.
    if message.answer or message.flags & (dns.flags.AA | dns.flags.RA):
        return False
    types = {rrset.rdtype for rrset in message.authority}
    return dns.rdatatype.NS in types and dns.rdatatype.SOA not in types


class DNSExchange:
    """
    Asks the configured servers one after the other until one gives a usable answer.

    Args:
        reactor: for time, UDP and TCP.
        servers: address and port of each; all are equals, the last good one is asked first.
        random_id: gives a number from 0 to 65535 that nobody can guess.
        timeouts: seconds that a server is given, in the first round, the second, ...
        limit: seconds for the whole question.
        max_concurrent: questions on the wire at one time; more of them wait.
    """

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[Server],
        random_id: Callable[[], int],
        *,
        timeouts: Sequence[float] = (2.0, 4.0),
        limit: float = 15.0,
        max_concurrent: int = 200,
    ) -> None:
        self._reactor = reactor
        self._servers = [(address, port) for address, port in servers]
        self._random_id = random_id
        self._timeouts = tuple(timeouts)
        self._limit = limit
        self._room = DeferredSemaphore(max_concurrent)
        self._plain: set[Server] = set()

    def ask(
        self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> Deferred[tuple[dns.message.Message, bool]]:
        """
        Fire with an answer (NOERROR or NXDOMAIN), and whether its AD bit can be believed.

        Fails with `ResolverFault` when no server has one. Can be cancelled.
        """
        return Deferred.fromCoroutine(self._queued(name, rdtype))

    async def _queued(
        self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> tuple[dns.message.Message, bool]:
        await self._room.acquire()
        try:
            return await self._ask(name, rdtype)
        finally:
            self._room.release()

    async def _ask(
        self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> tuple[dns.message.Message, bool]:
        deadline = self._reactor.seconds() + self._limit
        problem = "no DNS server is configured"
        refused: set[Server] = set()
        for timeout in self._timeouts:
            for server in tuple(self._servers):
                left = deadline - self._reactor.seconds()
                if server in refused or left <= 0:
                    continue
                try:
                    message = await self._ask_server(server, name, rdtype, min(timeout, left), left)
                except ResolverFault as fault:
                    problem = str(fault)
                    continue
                code = message.rcode()
                if code in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) and not _is_lame(message):
                    self._prefer(server)
                    trusted = bool(message.flags & dns.flags.AD) and is_loopback(server)
                    return message, trusted
                refused.add(server)
                word = "a referral" if code == dns.rcode.NOERROR else dns.rcode.to_text(code)
                problem = f"{server[0]} answered {word}"
        raise ResolverFault(problem)

    def _prefer(self, server: Server) -> None:
        if self._servers[0] != server:
            self._servers.remove(server)
            self._servers.insert(0, server)

    async def _ask_server(
        self,
        server: Server,
        name: dns.name.Name,
        rdtype: dns.rdatatype.RdataType,
        timeout: float,
        left: float,
    ) -> dns.message.Message:
        edns = server not in self._plain
        message = await self._transact(server, self._query(name, rdtype, edns), timeout, left)
        if edns and message.rcode() in (
            dns.rcode.FORMERR,
            dns.rcode.NOTIMP,
            dns.rcode.BADVERS,
        ):
            message = await self._transact(server, self._query(name, rdtype, False), timeout, left)
            if message.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                self._plain.add(server)
        return message

    def _query(
        self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType, edns: bool
    ) -> dns.message.QueryMessage:
        query = dns.message.make_query(
            name, rdtype, use_edns=0 if edns else False, payload=EDNS_PAYLOAD
        )
        query.id = self._random_id()
        # RFC 6840 5.7: with AD in the question the answer's AD means something.
        query.flags |= dns.flags.AD
        return query

    async def _transact(
        self, server: Server, query: dns.message.QueryMessage, timeout: float, left: float
    ) -> dns.message.Message:
        protocol = _Datagrams(self._reactor, server, query, timeout)
        try:
            # Port 0: the kernel picks one at random.
            self._reactor.listenUDP(
                0, protocol, interface="::" if ":" in server[0] else "", maxPacketSize=65535
            )
        except (CannotListenError, OSError) as problem:
            protocol.fail(f"cannot be asked: {problem}")
        message = await protocol.answer
        if message is None:
            message = await self._over_tcp(server, query, max(timeout, min(5.0, left)))
        return message

    async def _over_tcp(
        self, server: Server, query: dns.message.QueryMessage, timeout: float
    ) -> dns.message.Message:
        endpoint_type = TCP6ClientEndpoint if ":" in server[0] else TCP4ClientEndpoint
        endpoint = endpoint_type(self._reactor, server[0], server[1], timeout=timeout)
        stream = _Stream(server, query)

        async def dialogue() -> dns.message.Message:
            await connectProtocol(endpoint, stream)
            return await stream.answer

        return await _within(self._reactor, timeout, server, dialogue())


async def _within(
    clock: IReactorTime,
    seconds: float,
    server: Server,
    work: Coroutine[Deferred[Any], Any, dns.message.Message],
) -> dns.message.Message:
    late = False

    def give_up() -> None:
        nonlocal late
        late = True
        running.cancel()

    running = Deferred.fromCoroutine(work)
    timer = clock.callLater(seconds, give_up)
    try:
        return await running
    except ConnectError as problem:
        raise ResolverFault(f"{server[0]} cannot be reached over TCP: {problem}") from None
    except (CancelledError, ConnectingCancelledError, ResolverFault):
        if late:
            raise ResolverFault(f"{server[0]} did not answer in time over TCP") from None
        raise
    finally:
        if timer.active():
            timer.cancel()
