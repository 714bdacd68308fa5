"""
The delivery agent: one message to one next hop, one try.

An attempt goes through the addresses of the next hop, best first, until every recipient is decided:

- what cannot be connected to, or turns us away, is left for the next address (at most
  `MAX_ADDRESSES`);
- a session that ends in the middle, or refuses the transaction as a whole for now, too (at most
  `MAX_SESSIONS` of these);
- what a server says about a recipient is final for this attempt, as is every 5xx;
- when the connection is lost after the end of the data was sent, nobody knows whether the server
  has the message. Another host could deliver it twice: the recipients are delayed with 4.4.2, and
  `relay.duplicate_possible` is logged, because the next attempt may double it (promise P3).

A server that takes only some of the recipients at a time (452, RFC 5321 4.5.3.1.10) gets the rest
in further transactions of the same session. With opportunistic TLS a host whose handshake fails is
connected to again in clear text, and remembered.

Every attempt ends with one `relay.attempt` event and a status for every recipient. It never fails:
an error of our own is a delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.dns.mx import MailHost, balance
from mailhost.interfaces.network import ITLSPolicy, TLSDemand
from mailhost.interfaces.spool import DeliveryRequest, IDeliveryAgent
from mailhost.relay.connections import ConnectionKey, DeadHosts, SessionPool
from mailhost.relay.route import Router, Smarthost, SmarthostTLS, Way
from mailhost.relay.tls_policy import ClientContexts
from mailhost.reply import Action, DeliveryStatus
from mailhost.smtp.client.connection import SMTPClientConnection
from mailhost.smtp.client.content import Content, InThread
from mailhost.smtp.client.login import Credentials
from mailhost.smtp.client.session import SMTPClientSession
from mailhost.smtp.client.status import ContentFault, SessionFailure, TLSFailure, from_reply
from mailhost.smtp.client.transaction import Transaction

CONNECT_TIMEOUT = 30.0
MAX_ADDRESSES = 5
MAX_SESSIONS = 2
ATTEMPT_LIMIT = 3600.0
"""Seconds for an attempt. The limits of single commands add up to less for any honest server."""

_DEMANDS = {
    SmarthostTLS.NONE: TLSDemand.NONE,
    SmarthostTLS.OPPORTUNISTIC: TLSDemand.OPPORTUNISTIC,
    SmarthostTLS.STARTTLS: TLSDemand.VERIFIED,
    SmarthostTLS.IMPLICIT: TLSDemand.VERIFIED,
}


@dataclass(frozen=True, slots=True)
class RelayTerms:
    """
    How we present ourselves, and how far an attempt goes.

    Args:
        hello_name: our name in EHLO.
        source_addresses: local addresses to connect from, by family (``"4"`` and ``"6"``), where
            the system's choice is not wanted.
    """

    hello_name: str
    connect_timeout: float = CONNECT_TIMEOUT
    attempt_limit: float = ATTEMPT_LIMIT
    max_addresses: int = MAX_ADDRESSES
    max_sessions: int = MAX_SESSIONS
    source_addresses: tuple[tuple[str, str], ...] = ()


@implementer(IDeliveryAgent)
class RelayAgent:
    """
    Delivers over SMTP.

    Args:
        reactor: for time and connections.
        router: finds the hosts.
        policy: what TLS they must offer; smarthosts have their own.
        contexts: the TLS that is started with them.
        in_thread: where files are read and proofs computed.
        pool, dead: kept connections and dead addresses; by default its own.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        router: Router,
        policy: ITLSPolicy,
        contexts: ClientContexts,
        in_thread: InThread,
        terms: RelayTerms,
        *,
        pool: SessionPool | None = None,
        dead: DeadHosts | None = None,
    ) -> None:
        self.reactor = reactor
        self.router = router
        self.policy = policy
        self.contexts = contexts
        self.in_thread = in_thread
        self.terms = terms
        self.pool = SessionPool(reactor) if pool is None else pool
        self.dead = DeadHosts(reactor) if dead is None else dead
        self.without_tls = DeadHosts(reactor, seconds=600.0)
        """Addresses whose TLS does not work."""

    def deliver(self, request: DeliveryRequest) -> Deferred[tuple[DeliveryStatus, ...]]:
        """
        Try once. Fire with one status for each recipient, in order; it does not fail.

        Cancelling stops the attempt; statuses of what was not answered are then "delayed".
        """
        return _Attempt(self, request).start()

    def forget(self) -> None:
        """Try every address again, also those that did not answer or whose TLS did not work."""
        self.dead.clear()
        self.without_tls.clear()

    def close(self) -> None:
        """End kept connections, when nothing is delivered any more."""
        self.pool.close()


class _Once(Factory):
    """For one connection; without a word in the log at its start and end."""

    noisy = False

    def __init__(self, protocol: SMTPClientConnection) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> SMTPClientConnection:
        """Return the one."""
        return self._protocol


@dataclass(frozen=True, slots=True)
class _Target:
    host: str
    address: str
    port: int
    smarthost: Smarthost | None


class _Attempt:
    """One `RelayAgent.deliver`: decided `statuses`, and `provisional` ones for the rest."""

    def __init__(self, agent: RelayAgent, request: DeliveryRequest) -> None:
        self.agent = agent
        self.request = request
        self.statuses: list[DeliveryStatus | None] = [None] * len(request.recipients)
        self.provisional = list(self.statuses)
        self.stopped = ""
        self.host = self.address = self.tls = ""
        self.tried = 0
        self.failed_sessions = 0
        self.turned_away = 0
        self.refusal: DeliveryStatus | None = None

    def start(self) -> Deferred[tuple[DeliveryStatus, ...]]:
        """Begin; fire with the statuses."""
        began = self.agent.reactor.seconds()
        running = Deferred.fromCoroutine(self.run())

        def stop(why: str) -> None:
            self.stopped = why
            running.cancel()

        result: Deferred[tuple[DeliveryStatus, ...]] = Deferred(
            lambda _: stop("the attempt was stopped")
        )
        limit = self.agent.reactor.callLater(
            self.agent.terms.attempt_limit, stop, "the attempt took too long"
        )

        def finish(outcome: Failure | None) -> None:
            if limit.active():
                limit.cancel()
            statuses = self.conclude(outcome if isinstance(outcome, Failure) else None)
            self.report(statuses, self.agent.reactor.seconds() - began)
            result.callback(statuses)

        running.addBoth(finish)
        return result

    # --- the way through the hosts

    async def run(self) -> None:
        """Visit one address after the other until everything is decided."""
        way = await self.agent.router.way(self.request.next_hop)
        if way.route.problem is not None:
            self.settle(way.route.problem)
            return
        for target in self.targets(way):
            self.tried += 1
            dead = self.agent.dead.get(target.address, target.port)
            if dead is not None:
                self.note(dead)
                continue
            try:
                await self.visit(target)
            except SessionFailure as failure:
                if self.stopped:
                    return
                self.note(failure.delivery_status(target.host, self.tls))
            if self.undecided == [] or self.failed_sessions >= self.agent.terms.max_sessions:
                return

    @property
    def undecided(self) -> list[int]:
        """Indices of the recipients that another host may still take."""
        return [number for number, status in enumerate(self.statuses) if status is None]

    def settle(self, status: DeliveryStatus) -> None:
        """Decide about all who are undecided."""
        for number in self.undecided:
            self.statuses[number] = status

    def note(self, status: DeliveryStatus) -> None:
        """Remember why all who are undecided are so."""
        for number in self.undecided:
            self.provisional[number] = status

    def targets(self, way: Way) -> list[_Target]:
        """Return the addresses to try, those with a kept connection first among equals."""
        hosts = list(way.route.hosts)
        kept = {host.name for host in hosts if self.has_kept(way, host)}
        hosts.sort(key=lambda host: (host.preference, host.name not in kept))
        pairs = [(host.name, address) for host in hosts for address in host.addresses]
        return [
            _Target(name, address, way.port, way.smarthost)
            for name, address in balance(pairs, self.agent.terms.max_addresses)
        ]

    def has_kept(self, way: Way, host: MailHost) -> bool:
        """Whether a connection to the host is kept."""
        user = way.smarthost.user if way.smarthost else ""
        return any(
            ConnectionKey(host.name, way.port, demand, user) in self.agent.pool
            for demand in TLSDemand
        )

    async def demand(self, target: _Target) -> TLSDemand:
        """Return what TLS the host must offer."""
        if target.smarthost is not None:
            return _DEMANDS[target.smarthost.tls]
        demand = self.agent.policy.demand(self.request.next_hop, target.host)
        return await demand if isinstance(demand, Deferred) else demand

    async def visit(self, target: _Target) -> None:
        """Deliver what can be delivered at one address."""
        demand = await self.demand(target)
        user = target.smarthost.user if target.smarthost else ""
        key = ConnectionKey(target.host, target.port, demand, user)
        while (session := self.agent.pool.take(key)) is not None:
            if await self.use_kept(target, key, session):
                return
        try:
            session = await self.open(target, demand)
        except SessionFailure as failure:
            if failure.permanent and failure.reply is not None and target.smarthost is None:
                self.turned_away += 1
                self.refusal = from_reply(failure.reply, target.host)
            raise
        await self.use(target, key, session)

    # --- with a session

    async def use_kept(
        self, target: _Target, key: ConnectionKey, session: SMTPClientSession
    ) -> bool:
        """Use a kept session; False if it was found closed, and nothing was answered on it."""
        heard, failed_sessions = session.connection.heard, self.failed_sessions
        try:
            await self.use(target, key, session)
        except SessionFailure as failure:
            # A server that gave up waiting may say so in reply to the first command.
            said = session.connection.heard - heard - (failure.reply is not None)
            if self.stopped or said:
                raise
            self.failed_sessions = failed_sessions
            return False
        return True

    async def use(self, target: _Target, key: ConnectionKey, session: SMTPClientSession) -> None:
        """Send on a session, and keep it for others."""
        self.host, self.address, self.tls = target.host, target.address, session.tls
        try:
            while await self.transaction(session):
                pass
        except BaseException:
            session.connection.abort()
            raise
        self.agent.pool.keep(key, session)

    async def transaction(self, session: SMTPClientSession) -> bool:
        """Send to all who are undecided; True if the server wants a further transaction."""
        todo = self.undecided
        transaction = self.begin(todo)
        try:
            await session.send(transaction)
        except SessionFailure as failure:
            self.take(transaction, todo)
            if transaction.content_sent and failure.reply is None:
                self.in_doubt(failure)
                return False
            self.failed_sessions += 1
            raise
        except CancelledError:
            self.take(transaction, todo)
            if transaction.content_sent:
                self.in_doubt(SessionFailure("4.4.2", self.stopped))
            raise
        again = _split(transaction)
        self.take(transaction, todo)
        return again

    def begin(self, todo: Sequence[int]) -> Transaction:
        """Return a transaction for these recipients."""
        request = self.request
        return Transaction(
            request.reverse_path,
            [request.recipients[number] for number in todo],
            Content(request.prefix, request.content, request.size, self.agent.in_thread),
            request.body,
            request.smtputf8,
            request.ret,
            request.envid,
            [request.dsn[number] for number in todo] if request.dsn else (),
        )

    def take(self, transaction: Transaction, todo: Sequence[int]) -> None:
        """Take over what a transaction decided."""
        for number, status in zip(todo, transaction.statuses, strict=True):
            if status is not None and transaction.refused and status.action is Action.DELAYED:
                # Another host may have room, or be well.
                self.provisional[number] = status
            else:
                self.statuses[number] = status
        if transaction.refused and self.undecided:
            self.failed_sessions += 1

    def in_doubt(self, failure: SessionFailure) -> None:
        """Decide when nobody knows whether the server has the message: no other host now."""
        self.settle(failure.delivery_status(self.host, self.tls))
        self.agent.log.warn(
            event="relay.duplicate_possible",
            queue_id=self.request.queue_id,
            next_hop=self.request.next_hop,
            relay_host=self.host,
            address=self.address,
            reason=failure.text,
        )

    # --- connecting

    async def open(self, target: _Target, demand: TLSDemand) -> SMTPClientSession:
        """Return a session that is ready, in clear text if TLS does not work and need not."""
        opportunistic = demand is TLSDemand.OPPORTUNISTIC
        if opportunistic and self.agent.without_tls.get(target.address, target.port):
            return await self.open_once(target, TLSDemand.NONE)
        try:
            return await self.open_once(target, demand)
        except TLSFailure as failure:
            status = failure.delivery_status(target.host)
            self.agent.without_tls.mark(target.address, target.port, status)
            self.agent.log.info(
                event="relay.tls_fallback",
                queue_id=self.request.queue_id,
                next_hop=self.request.next_hop,
                relay_host=target.host,
                address=target.address,
                reason=failure.text,
            )
        return await self.open_once(target, TLSDemand.NONE)

    async def open_once(self, target: _Target, demand: TLSDemand) -> SMTPClientSession:
        """Connect and do all that comes before MAIL."""
        agent, smarthost = self.agent, target.smarthost
        self.host, self.address, self.tls = target.host, target.address, ""
        connection = await self.connect(target)
        session = SMTPClientSession(
            connection, target.host, agent.terms.hello_name, agent.in_thread
        )
        try:
            await session.open(
                demand,
                agent.contexts.tls_for(target.host, verified=demand is TLSDemand.VERIFIED),
                implicit_tls=smarthost is not None and smarthost.tls is SmarthostTLS.IMPLICIT,
                credentials=Credentials(smarthost.user, smarthost.password)
                if smarthost is not None and smarthost.user
                else None,
            )
        except SessionFailure:
            # It is closed, or closes politely.
            raise
        except BaseException:
            connection.abort()
            raise
        return session

    async def connect(self, target: _Target) -> SMTPClientConnection:
        """Return a connection to the address, or remember that nobody answers there."""
        agent = self.agent
        six = ":" in target.address
        source = dict(agent.terms.source_addresses).get("6" if six else "4")
        endpoint = (TCP6ClientEndpoint if six else TCP4ClientEndpoint)(
            agent.reactor,
            target.address,
            target.port,
            timeout=agent.terms.connect_timeout,
            bindAddress=(source, 0) if source else None,
        )
        connection = SMTPClientConnection(agent.reactor)
        try:
            await endpoint.connect(_Once(connection))
        except ConnectError as problem:
            text = f"no connection to {target.address}: {str(problem).rstrip('.')}"
            failure = SessionFailure("4.4.1", text)
            agent.dead.mark(target.address, target.port, failure.delivery_status(target.host))
            raise failure from None
        return connection

    # --- the end

    def conclude(self, outcome: Failure | None) -> tuple[DeliveryStatus, ...]:
        """Return a status for everyone, whatever happened."""
        if outcome is not None:
            self.note(self.trouble(outcome))
        elif self.refusal is not None and self.turned_away == self.tried:
            # Every host there is says that it takes no mail from us.
            self.settle(self.refusal)
        return tuple(
            known or probable or _UNREACHED
            for known, probable in zip(self.statuses, self.provisional, strict=True)
        )

    def trouble(self, outcome: Failure) -> DeliveryStatus:
        """Return the status for an attempt that did not come to its end."""
        if self.stopped:
            return DeliveryStatus(Action.DELAYED, "4.4.2", self.stopped, self.host, 0, self.tls)
        if outcome.check(ContentFault):
            self.agent.log.error(
                event="relay.content_fault",
                queue_id=self.request.queue_id,
                reason=str(outcome.value),
            )
            return DeliveryStatus(Action.DELAYED, "4.3.0", "the message cannot be read")
        self.agent.log.failure(
            "delivering {queue_id}",
            outcome,
            event="relay.fault",
            queue_id=self.request.queue_id,
            next_hop=self.request.next_hop,
        )
        return DeliveryStatus(Action.DELAYED, "4.3.0", "internal error")

    def report(self, statuses: Sequence[DeliveryStatus], delay: float) -> None:
        """Write the one event of the attempt."""
        counts = {action: 0 for action in Action}
        for status in statuses:
            counts[status.action] += 1
        worst = next((status for status in statuses if not status.done), statuses[-1])
        self.agent.log.info(
            event="relay.attempt",
            queue_id=self.request.queue_id,
            next_hop=self.request.next_hop,
            relay_host=self.host,
            address=self.address,
            tls=self.tls,
            reply=worst.diagnostic,
            status=worst.status,
            relayed=counts[Action.RELAYED],
            delayed=counts[Action.DELAYED],
            failed=counts[Action.FAILED],
            delay=round(delay, 3),
        )


def _split(transaction: Transaction) -> bool:
    """
    Open up recipients that the server wants in another transaction; say whether there are any.

    It took some and answered 452 to others: with "too many recipients" (RFC 5321 4.5.3.1.10), or
    without saying why. Each round delivers to somebody, so they come to an end.
    """
    if not any(status is not None and status.done for status in transaction.statuses):
        return False
    again = False
    for number, status in enumerate(transaction.statuses):
        if status is not None and status.reply_code == 452 and status.status in _TOO_MANY:
            transaction.statuses[number] = None
            again = True
    return again


_TOO_MANY = ("4.5.3", "4.3.1")

_UNREACHED = DeliveryStatus(Action.DELAYED, "4.4.1", "no host could be reached")
