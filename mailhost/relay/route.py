"""Which way mail for a domain goes: over its MX hosts, or over a smarthost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from twisted.internet.defer import Deferred

from mailhost.dns.mx import Route, RouteRules, host_route, mail_hosts
from mailhost.interfaces.network import IResolver

SMTP_PORT = 25


class SmarthostTLS(Enum):
    """How a smarthost is spoken to."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    STARTTLS = "starttls"
    """STARTTLS with a certificate for its name, or no delivery."""
    IMPLICIT = "implicit"
    """TLS from the first octet, with a certificate for its name (RFC 8314 3.3)."""


@dataclass(frozen=True, slots=True)
class Smarthost:
    """
    A host that takes mail for elsewhere.

    Args:
        host: a name, whose MX is not looked up, or an address.
        user, password: for AUTH; empty for none.
    """

    host: str
    port: int = 587
    user: str = ""
    password: str = field(default="", repr=False)
    tls: SmarthostTLS = SmarthostTLS.STARTTLS

    @property
    def next_hop(self) -> str:
        """The name of this way in the queue, such as ``relay.example:587``; no domain has it."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Way:
    """The hosts of a next hop, and how they are spoken to."""

    route: Route
    port: int
    smarthost: Smarthost | None = None


class Router:
    """
    Finds the way for each next hop.

    Args:
        resolver: for MX and address look-ups.
        rules: what we know of ourselves, and where mail may go.
        random: decides among equals.
        port: of MX hosts; another one than 25 for tests.
        default: a smarthost for every domain that `table` does not name.
        table: a smarthost by domain, or by domain with a leading dot for all below it; None means
            by MX in spite of the default.
    """

    def __init__(
        self,
        resolver: IResolver,
        rules: RouteRules,
        random: Random,
        *,
        port: int = SMTP_PORT,
        default: Smarthost | None = None,
        table: Mapping[str, Smarthost | None] | None = None,
    ) -> None:
        self._resolver = resolver
        self._rules = rules
        self._random = random
        self._port = port
        self._default = default
        self._table = dict(table or {})
        used = [default, *self._table.values()]
        self._smarthosts = {host.next_hop: host for host in used if host is not None}

    def next_hop(self, domain: str) -> str:
        """
        Return the next hop of a domain: a smarthost's, or the domain itself.

        Recipients with the same next hop can be delivered to in one transaction.
        """
        smarthost = self._smarthost(domain)
        return smarthost.next_hop if smarthost is not None else domain

    def way(self, next_hop: str) -> Deferred[Way]:
        """Fire with the way to a next hop; `Route.problem` says why there is none."""
        smarthost = self._smarthosts.get(next_hop) or self._smarthost(next_hop)
        if smarthost is None:
            found = mail_hosts(self._resolver, next_hop, self._rules, self._random)
            return found.addCallback(lambda route: Way(route, self._port))
        found = host_route(self._resolver, smarthost.host, self._random)
        return found.addCallback(lambda route: Way(route, smarthost.port, smarthost))

    def _smarthost(self, domain: str) -> Smarthost | None:
        if domain in self._table:
            return self._table[domain]
        labels = domain.split(".")
        for start in range(1, len(labels)):
            parent = "." + ".".join(labels[start:])
            if parent in self._table:
                return self._table[parent]
        return self._default
