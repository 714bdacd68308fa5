"""The way out: resolver, router and relay agent, from the relay section of the configuration."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from typing import Any

from cryptography.x509 import load_pem_x509_certificates

from mailhost.config.sections import Config, Protocol, TLSMode
from mailhost.config.sections import Smarthost as SmarthostSection
from mailhost.dns.exchange import DNSExchange
from mailhost.dns.mx import RouteRules
from mailhost.dns.resolver import Resolver
from mailhost.dns.servers import system_servers
from mailhost.errors import ConfigError
from mailhost.relay.agent import RelayAgent, RelayTerms
from mailhost.relay.connections import DEAD_TIME, DeadHosts
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


def build_contexts(config: Config) -> ClientContexts:
    """
    Return the TLS of outgoing connections.

    Blocks for small files. ConfigError: a trusted certificate cannot be read.
    """
    texts: list[bytes] = []
    for index, path in enumerate(config.relay.trusted_certificates):
        where = f"relay.trusted_certificates[{index}]"
        try:
            text = path.read_bytes()
            load_pem_x509_certificates(text)
        except OSError as error:
            raise ConfigError(
                where, f"{path} cannot be read ({error.strerror}); check the name and permissions"
            ) from None
        except ValueError:
            raise ConfigError(where, f"{path} holds no certificate in PEM form") from None
        texts.append(text)
    return ClientContexts(texts)


def build_agent(
    config: Config, reactor: Any, router: Router, contexts: ClientContexts, workers: Workers
) -> RelayAgent:
    """Return the agent that delivers over the router's ways."""
    # What the schedule tries anew is not answered from what an earlier attempt found.
    dead_time = min(DEAD_TIME, config.retry.delays[0] / 2)
    return RelayAgent(
        reactor,
        router,
        TLSPolicy(),
        contexts,
        workers.defer,
        RelayTerms(hello_name=config.hostname),
        dead=DeadHosts(reactor, dead_time),
    )
