"""
Where mail for a domain goes: its hosts in the order in which they are to be tried.

RFC 5321 5.1 with RFC 7505 (null MX): MX hosts by preference and in random order among equals, the
domain itself when it has no MX, never a host that is not better than ourselves. A domain that
nobody takes mail for is a permanent failure at once; what the DNS cannot say now is temporary.

Addresses inside this machine or a private network are refused unless `RouteRules` allows them:
else any sender could reach them through an MX record of his own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random
from typing import cast

from twisted.internet.defer import Deferred

from mailhost.dns.together import together
from mailhost.interfaces.network import Answer, AnswerStatus, IResolver, MXRecord
from mailhost.reply import Action, DeliveryStatus

MAX_HOSTS = 10
"""MX hosts whose addresses are looked up, best ones first."""

MAX_ADDRESSES = 8
"""Addresses of one host that are considered."""

# MX exchanges are host names (RFC 1123 2.1); the underscore is seen in practice and harms nobody.
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_\-]{0,62})(\.[a-z0-9_][a-z0-9_\-]{0,62})*\Z")

_NAT64 = IPv6Address("64:ff9b::")


@dataclass(frozen=True, slots=True)
class RouteRules:
    """
    What we know of ourselves, and where mail may go.

    Args:
        own_hosts: our host names in lower case; an MX at or after one of them is a loop.
        own_addresses: addresses, as texts, on which we take mail.
        allow_private: deliver to loopback, private and link-local addresses too.
        max_hosts: how many hosts of a domain are considered.
    """

    own_hosts: frozenset[str] = frozenset()
    own_addresses: frozenset[str] = frozenset()
    allow_private: bool = False
    max_hosts: int = MAX_HOSTS


@dataclass(frozen=True, slots=True)
class MailHost:
    """A host to try, with its addresses in the order in which they are to be tried."""

    name: str
    addresses: tuple[str, ...]
    preference: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """
    Where mail for a domain goes.

    Args:
        hosts: best first; empty if there is none.
        problem: why there is none, as the status of every recipient, or None.
        secure: the DNS answers that led to the hosts were validated.
    """

    hosts: tuple[MailHost, ...] = ()
    problem: DeliveryStatus | None = None
    secure: bool = False


def is_public(text: str) -> bool:
    """Whether an IP address is a unicast one of the Internet at large, not of some network."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and int(address) >> 32 == int(_NAT64) >> 32:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def interleave(addresses: Sequence[str], random: Random) -> tuple[str, ...]:
    """
    Return the addresses in the order to try: IPv6 and IPv4 in turn, random within each.

    Whoever tries only the first few so meets both families, if the host has both.
    """
    six = [address for address in addresses if ":" in address]
    four = [address for address in addresses if ":" not in address]
    random.shuffle(six)
    random.shuffle(four)
    mixed: list[str] = []
    while six or four:
        mixed += [family.pop() for family in (six, four) if family]
    return tuple(mixed)


def balance(addresses: Sequence[tuple[str, str]], limit: int) -> list[tuple[str, str]]:
    """
    Cut a list of (host, address) to the limit without losing a whole address family.

    If all that stays is of one family and the rest has the other, the last one gives way to it:
    a machine that has no IPv6 still reaches somebody.
    """
    chosen, rest = list(addresses[:limit]), addresses[limit:]
    families = {":" in address for _, address in chosen}
    if len(families) == 1 and limit > 1:
        other = next((entry for entry in rest if (":" in entry[1]) not in families), None)
        if other is not None:
            chosen[-1] = other
    return chosen


def _failed(status: str, text: str) -> Route:
    return Route(problem=DeliveryStatus(Action.FAILED, status, text))


def _delayed(text: str) -> Route:
    return Route(problem=DeliveryStatus(Action.DELAYED, "4.4.3", text))


@dataclass(slots=True)
class _Search:
    resolver: IResolver
    domain: str
    rules: RouteRules
    random: Random
    secure: bool = True
    private: bool = False
    loop: bool = False
    trouble: str = ""
    hosts: list[MailHost] = field(default_factory=list)

    async def run(self) -> Route:
        if self.domain.startswith("["):
            self._take(MXRecord(0, self.domain), _literal(self.domain))
            return self._route("address literal")
        answer = await self.resolver.mx(self.domain)
        self.secure = answer.secure
        if answer.status is AnswerStatus.NO_NAME:
            return _failed("5.1.2", f"the domain {self.domain} does not exist")
        if answer.status is AnswerStatus.FAILED:
            return _delayed(f"MX of {self.domain} could not be looked up: {answer.problem}")
        if answer.status is AnswerStatus.NO_DATA:
            # RFC 5321 5.1: an implicit MX.
            records = [MXRecord(0, self.domain)]
        else:
            records = list(answer.records)
            # RFC 7505 3: a null MX stands alone.
            if all(record.host == "" for record in records):
                return _failed("5.1.10", f"the domain {self.domain} takes no mail (null MX)")
        await self._look_up(self._order(records))
        return self._route("MX" if answer.status is AnswerStatus.FOUND else "address")

    def _order(self, records: Iterable[MXRecord]) -> list[MXRecord]:
        """Return usable hosts, best first, those that lead back to us dropped."""
        known: dict[str, MXRecord] = {}
        for record in records:
            best = known.get(record.host)
            if best is None or record.preference < best.preference:
                known[record.host] = record
        usable = [record for record in known.values() if _HOST.match(record.host)]
        self.random.shuffle(usable)
        usable.sort(key=lambda record: record.preference)
        for record in usable:
            if record.host in self.rules.own_hosts:
                return self._better_than(record.preference, usable)
        return usable

    def _better_than(self, preference: int, records: list[MXRecord]) -> list[MXRecord]:
        # RFC 5321 5.1: of no use are we ourselves and all that are not better.
        self.loop = True
        return [record for record in records if record.preference < preference]

    async def _look_up(self, records: list[MXRecord]) -> None:
        chosen = records[: self.rules.max_hosts]
        answers = await together(self.resolver.addresses(record.host) for record in chosen)
        for record, answer in zip(chosen, answers, strict=True):
            self.secure = self.secure and answer.secure
            if answer.status is AnswerStatus.FAILED:
                self.trouble = (
                    f"addresses of {record.host} could not be looked up: {answer.problem}"
                )
            elif not self._take(record, answer):
                self.hosts = [host for host in self.hosts if host.preference < record.preference]
                break

    def _take(self, record: MXRecord, answer: Answer) -> bool:
        """Add the host if it can be used; False if it is ourselves."""
        addresses = [address for address in answer.records if _is_address(address)]
        if not self.rules.own_addresses.isdisjoint(addresses):
            self.loop = True
            return False
        allowed = [a for a in addresses if self.rules.allow_private or is_public(a)]
        self.private = self.private or len(allowed) < len(addresses)
        if allowed:
            mixed = interleave(allowed, self.random)[:MAX_ADDRESSES]
            self.hosts.append(MailHost(record.host, mixed, record.preference))
        return True

    def _route(self, kind: str) -> Route:
        if self.hosts:
            return Route(tuple(self.hosts), None, self.secure)
        if self.trouble:
            return _delayed(self.trouble)
        if self.loop:
            return _failed("5.4.6", f"mail for {self.domain} loops back to this host")
        if self.private:
            return _failed("5.4.4", f"every host of {self.domain} is in a private network")
        return _failed("5.4.4", f"no host of {self.domain} has an address ({kind})")


def _literal(domain: str) -> Answer:
    # RFC 5321 4.1.3; `Address` has checked the form.
    text = domain[1:-1]
    text = text[5:] if text[:5].lower() == "ipv6:" else text
    return Answer(AnswerStatus.FOUND, (text,))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def mail_hosts(
    resolver: IResolver, domain: str, rules: RouteRules, random: Random
) -> Deferred[Route]:
    """
    Fire with the hosts for a domain's mail; trouble is the `problem` of the route.

    The domain is in lower-case A-labels, or an address literal in brackets; `random` decides
    among equals.
    """
    search = _Search(resolver, domain, rules, random)
    return cast("Deferred[Route]", Deferred.fromCoroutine(search.run()))


def host_route(resolver: IResolver, host: str, random: Random) -> Deferred[Route]:
    """
    Fire with the route to one named host, such as a smarthost: no MX is looked up.

    The host is a name, an IP address or an address literal. It may be in a private network.
    """
    return Deferred.fromCoroutine(_host_route(resolver, host, random))


async def _host_route(resolver: IResolver, host: str, random: Random) -> Route:
    if host.startswith("["):
        answer = _literal(host)
    elif _is_address(host):
        answer = Answer(AnswerStatus.FOUND, (host,))
    else:
        answer = await resolver.addresses(host)
    if answer.status is AnswerStatus.FAILED:
        return _delayed(f"addresses of {host} could not be looked up: {answer.problem}")
    if answer.status is not AnswerStatus.FOUND:
        # Whoever configured it will mend it: mail waits.
        return _delayed(f"the relay host {host} has no address")
    addresses = interleave(answer.records, random)[:MAX_ADDRESSES]
    return Route((MailHost(host, addresses),), None, answer.secure)
