"""
The resolver: `IResolver` over a cache and the configured DNS servers.

Equal questions that are asked while one of them is on its way share its answer. Positive and
negative answers are kept as RFC 2308 says, failures for a few seconds (RFC 9520), so that a dead
zone does not cost its time-outs again for every message. CNAME chains are followed within an
answer and beyond it, `MAX_CHAIN` steps in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.reversename
import dns.ttl
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.dns.cache import TTLCache
from mailhost.dns.exchange import DNSExchange
from mailhost.dns.together import together
from mailhost.errors import ResolverFault
from mailhost.interfaces.network import Answer, AnswerStatus, IResolver, MXRecord

MAX_CHAIN = 16
"""CNAME records from a name to its data."""

MAX_NEGATIVE_TTL = 3600.0
"""Seconds that the absence of a name or record is believed (RFC 2308 5)."""

FAILURE_TTL = 5.0
"""Seconds for which a question that nobody could answer is not asked again."""

_LOCALHOST = Answer(AnswerStatus.FOUND, ("::1", "127.0.0.1"), secure=True)
_NO_NAME = Answer(AnswerStatus.NO_NAME)
_NO_DATA = Answer(AnswerStatus.NO_DATA)

_Key = tuple[str, dns.rdatatype.RdataType]


def _host(name: dns.name.Name) -> str:
    # The root, as exchange of the null MX (RFC 7505 3), is the empty name.
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


_RECORDS: dict[dns.rdatatype.RdataType, Callable[[Any], Any]] = {
    dns.rdatatype.MX: lambda rdata: MXRecord(rdata.preference, _host(rdata.exchange)),
    dns.rdatatype.A: lambda rdata: rdata.address,
    dns.rdatatype.AAAA: lambda rdata: rdata.address,
    dns.rdatatype.TXT: lambda rdata: b"".join(rdata.strings),
    dns.rdatatype.PTR: lambda rdata: _host(rdata.target),
}


class _Flight:
    """A question on its way, and who waits for the answer."""

    def __init__(self, abandoned: Callable[[], None]) -> None:
        self.work: Deferred[None] | None = None
        self._abandoned = abandoned
        self._landed = False
        self._waiters: list[Deferred[Answer]] = []

    def join(self) -> Deferred[Answer]:
        """Return one more Deferred for the answer."""
        waiter: Deferred[Answer] = Deferred(self._leave)
        self._waiters.append(waiter)
        return waiter

    def _leave(self, waiter: Deferred[Answer]) -> None:
        # The last one to lose interest takes the question with it; but one that goes because of
        # the answer that another just got finds the question done.
        self._waiters.remove(waiter)
        if not self._waiters and not self._landed:
            self._abandoned()

    def land(self, answer: Answer) -> None:
        """Give everyone the answer."""
        self._landed = True
        while self._waiters:
            self._waiters.pop(0).callback(answer)


def _is_localhost(name: str) -> bool:
    # RFC 6761 6.3: never asked of the DNS.
    return name == "localhost" or name.endswith(".localhost")


def _weight(answer: Answer) -> int:
    # Octets of Python objects, roughly.
    return 200 + sum(
        100 + (len(record.host) if isinstance(record, MXRecord) else len(record))
        for record in answer.records
    )


def _both(answers: list[Answer]) -> Answer:
    """Return what AAAA and A look-ups say together."""
    found = [answer for answer in answers if answer.status is AnswerStatus.FOUND]
    if found:
        return Answer(
            AnswerStatus.FOUND,
            tuple(record for answer in found for record in answer.records),
            all(answer.secure for answer in found),
        )
    # NXDOMAIN is about the name, whatever type was asked for (RFC 8020 2).
    for status in (AnswerStatus.NO_NAME, AnswerStatus.FAILED):
        for answer in answers:
            if answer.status is status:
                return answer
    return answers[0]


@implementer(IResolver)
class Resolver:
    """
    `IResolver` on real DNS servers.

    Args:
        exchange: asks the servers.
        clock: for the lifetime of answers.
        cache: what is known already; its own by default.
    """

    log = Logger()

    def __init__(
        self,
        exchange: DNSExchange,
        clock: IReactorTime,
        *,
        cache: TTLCache[_Key, Answer] | None = None,
        failure_ttl: float = FAILURE_TTL,
    ) -> None:
        self._exchange = exchange
        self._cache: TTLCache[_Key, Answer] = TTLCache(clock) if cache is None else cache
        self._failure_ttl = failure_ttl
        self._flights: dict[_Key, _Flight] = {}

    def mx(self, domain: str) -> Deferred[Answer]:
        """MX records as `MXRecord`, as the DNS gave them."""
        if _is_localhost(domain):
            return succeed(_NO_DATA)
        return self._look_up(domain, dns.rdatatype.MX)

    def addresses(self, host: str) -> Deferred[Answer]:
        """AAAA and A records as texts; FOUND if either has any."""
        if _is_localhost(host):
            return succeed(_LOCALHOST)
        return Deferred.fromCoroutine(self._addresses(host))

    async def _addresses(self, host: str) -> Answer:
        types = (dns.rdatatype.AAAA, dns.rdatatype.A)
        return _both(await together(self._look_up(host, rdtype) for rdtype in types))

    def txt(self, name: str) -> Deferred[Answer]:
        """TXT records as octets, strings of one record joined."""
        return self._look_up(name, dns.rdatatype.TXT)

    def names(self, address: str) -> Deferred[Answer]:
        """PTR records of an IP address as host names."""
        try:
            name = dns.reversename.from_address(address)
        except (dns.exception.DNSException, ValueError):
            return succeed(_NO_NAME)
        return self._look_up(name.to_text(omit_final_dot=True), dns.rdatatype.PTR)

    def clear(self) -> None:
        """Forget every answer, e.g. when the configuration was read again."""
        self._cache.clear()

    def _look_up(self, name: str, rdtype: dns.rdatatype.RdataType) -> Deferred[Answer]:
        key = (name.lower().removesuffix("."), rdtype)
        known = self._cache.get(key)
        if known is not None:
            return succeed(known)
        try:
            question = dns.name.from_text(key[0].encode("ascii"), dns.name.root)
        except (dns.exception.DNSException, UnicodeError):
            # It cannot stand in the DNS, so it is not there.
            return succeed(_NO_NAME)
        flight = self._flights.get(key)
        if flight is not None:
            return flight.join()
        flight = self._flights[key] = _Flight(lambda: self._abandon(key))
        waiter = flight.join()
        work = Deferred.fromCoroutine(self._resolve(question, rdtype))
        flight.work = work.addCallbacks(
            self._land, self._crash, callbackArgs=(key,), errbackArgs=(key,)
        )
        return waiter

    def _abandon(self, key: _Key) -> None:
        flight = self._flights.pop(key)
        if flight.work is not None:
            flight.work.cancel()

    def _land(self, result: tuple[Answer, float], key: _Key) -> None:
        answer, ttl = result
        self._cache.put(key, answer, ttl, _weight(answer))
        self._flights.pop(key).land(answer)

    def _crash(self, failure: Failure, key: _Key) -> None:
        if failure.check(CancelledError) and key not in self._flights:
            return
        self.log.failure("looking up {name}", failure, event="dns.fault", name=key[0])
        self._flights.pop(key).land(Answer(AnswerStatus.FAILED, problem="internal error"))

    async def _resolve(
        self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
    ) -> tuple[Answer, float]:
        """Return the answer and how many seconds it is good for."""
        steps = 0
        secure = True
        ttl = float(dns.ttl.MAX_TTL)
        while steps < MAX_CHAIN:
            try:
                message, trusted = await self._exchange.ask(name, rdtype)
                chain = _chain(message)
            except ResolverFault as fault:
                return Answer(AnswerStatus.FAILED, problem=str(fault)), self._failure_ttl
            secure = secure and trusted
            ttl = min(ttl, chain.minimum_ttl)
            steps += len(chain.cnames)
            if chain.answer is not None:
                records = tuple(map(_RECORDS[rdtype], chain.answer))
                return Answer(AnswerStatus.FOUND, records, secure), ttl
            if message.rcode() == dns.rcode.NXDOMAIN:
                return Answer(AnswerStatus.NO_NAME, (), secure), min(ttl, MAX_NEGATIVE_TTL)
            if not chain.cnames or _speaks_for(message, chain.canonical_name):
                return Answer(AnswerStatus.NO_DATA, (), secure), min(ttl, MAX_NEGATIVE_TTL)
            # The server did not follow the alias into another zone.
            name = chain.canonical_name
        problem = f"more than {MAX_CHAIN} CNAME records"
        return Answer(AnswerStatus.FAILED, problem=problem), self._failure_ttl


def _chain(message: dns.message.Message) -> dns.message.ChainingResult:
    assert isinstance(message, dns.message.QueryMessage)
    try:
        return message.resolve_chaining()
    except dns.exception.DNSException as problem:
        raise ResolverFault(f"unusable answer: {problem}") from None


def _speaks_for(message: dns.message.Message, name: dns.name.Name) -> bool:
    # RFC 2308 2.2: the SOA of the zone says that its owner has been asked.
    return any(
        rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name)
        for rrset in message.authority
    )
