"""The way out: resolver, router and relay agent, from the relay section of the configuration."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from typing import Any

from mailhost.config.sections import Config, Protocol, TLSMode
from mailhost.config.sections import Smarthost as SmarthostSection
from mailhost.dns.exchange import DNSExchange
from mailhost.dns.mx import RouteRules
from mailhost.dns.resolver import Resolver
from mailhost.dns.servers import system_servers
from mailhost.errors import ConfigError
from mailhost.relay.agent import RelayAgent, RelayTerms
from mailhost.relay.route import Router, Smarthost, SmarthostTLS
from mailhost.relay.tls_policy import ClientContexts, TLSPolicy
from mailhost.service.threads import Workers

_SMARTHOST_TLS: Mapping[TLSMode, SmarthostTLS] = {
    TLSMode.NONE: SmarthostTLS.NONE,
    TLSMode.STARTTLS: SmarthostTLS.STARTTLS,
    TLSMode.IMPLICIT: SmarthostTLS.IMPLICIT,
}


def _password(section: SmarthostSection) -> str:
    if section.password_file is None:
        return ""
    try:
        lines = section.password_file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            "relay.smarthost.password_file", f"cannot read {section.password_file}: {reason}"
        ) from None
    if not lines or not lines[0]:
        raise ConfigError("relay.smarthost.password_file", "its first line is empty")
    return lines[0]


def _smarthost(section: SmarthostSection | None) -> Smarthost | None:
    if section is None:
        return None
    return Smarthost(
        host=section.host,
        port=section.port,
        user=section.user,
        password=_password(section),
        tls=_SMARTHOST_TLS[section.tls],
    )


def build_router(config: Config, reactor: Any) -> Router:
    """
    Return the router of a configuration.

    Blocks for two small files. ConfigError: the smarthost's password cannot be read.
    """
    relay = config.relay
    servers = tuple((server.address, server.port) for server in relay.resolvers)
    resolver = Resolver(
        DNSExchange(reactor, servers or system_servers(), lambda: secrets.randbelow(65536)),
        reactor,
    )
    rules = RouteRules(
        own_hosts=frozenset({config.hostname}),
        own_addresses=frozenset(
            listener.address
            for listener in config.listeners
            if listener.protocol is Protocol.SMTP
            and listener.address != "*"
            and listener.port == relay.port
        ),
        allow_private=relay.allow_private_targets,
    )
    return Router(
        resolver,
        rules,
        random.SystemRandom(),
        port=relay.port,
        default=_smarthost(relay.smarthost),
    )


def build_agent(config: Config, reactor: Any, router: Router, workers: Workers) -> RelayAgent:
    """Return the agent that delivers over the router's ways."""
    return RelayAgent(
        reactor,
        router,
        TLSPolicy(),
        ClientContexts(),
        workers.defer,
        RelayTerms(hello_name=config.hostname),
    )
