"""The factory of each listener: configuration and stores become settings and parts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from mailhost.config.sections import Config, Listener, Protocol, TLSMode
from mailhost.imap.admission import Admission
from mailhost.imap.protocol import IMAPServerFactory
from mailhost.imap.settings import IMAPSettings
from mailhost.interfaces.directory import IRecipientPolicy
from mailhost.interfaces.login import IAuthenticator
from mailhost.interfaces.spool import ISpool
from mailhost.pop3.protocol import POP3ServerFactory
from mailhost.pop3.settings import POP3Parts, POP3Settings
from mailhost.service.threads import Workers
from mailhost.smtp.limits import ConnectionLimits
from mailhost.smtp.protocol import SMTPServerFactory
from mailhost.smtp.settings import Mode, SMTPServerParts, SMTPServerSettings
from mailhost.tls import ServerTLS

ALPN_NAMES: Mapping[Protocol, str] = {
    Protocol.SMTP: "smtp",
    Protocol.SUBMISSION: "submission",
    Protocol.IMAP: "imap",
    Protocol.POP3: "pop3",
}

SILENCE = 60.0
"""Seconds at most that a client may be silent before it logged in, within its time for that."""


@dataclass(slots=True)
class Neighbours:
    """
    What the protocols talk to.

    Args:
        local: the safe local mode, where the SMTP port also serves programs of this machine.
    """

    reactor: Any
    config: Config
    local: bool
    spool: ISpool
    recipients: IRecipientPolicy
    authenticator: IAuthenticator
    tls: ServerTLS
    workers: Workers
    connections: ConnectionLimits = field(init=False)
    sessions: Admission = field(init=False)
    hostname: str = field(init=False)
    """Our name; a reload does not change it."""

    def __post_init__(self) -> None:
        limits = self.config.limits
        self.connections = ConnectionLimits(
            limits.connections,
            limits.connections_per_client,
            limits.connection_rate,
            self.reactor.seconds,
        )
        self.sessions = Admission(limits.imap_sessions_per_user)
        self.hostname = self.config.hostname

    def apply(self, config: Config) -> None:
        """Take the limits of a new configuration; sessions that are open keep theirs."""
        self.config = config
        self.connections.total = config.limits.connections
        self.connections.per_client = config.limits.connections_per_client
        self.connections.per_minute = config.limits.connection_rate
        self.sessions.limit = config.limits.imap_sessions_per_user


def _tls_context(near: Neighbours, listener: Listener) -> Callable[[], Any] | None:
    if listener.tls is not TLSMode.STARTTLS:
        return None
    name = ALPN_NAMES[listener.protocol]
    return lambda: near.tls.creator(name)


def _smtp_settings(near: Neighbours, listener: Listener) -> SMTPServerSettings:
    limits = near.config.limits
    submission = listener.protocol is Protocol.SUBMISSION
    return SMTPServerSettings(
        hostname=near.hostname,
        mode=Mode.SUBMISSION if submission else Mode.LOCAL if near.local else Mode.MX,
        max_size=limits.message_size,
        max_recipients=limits.recipients,
        max_header=limits.header_size,
        max_hops=limits.received_hops,
        cleartext_login=listener.cleartext_login,
        command_timeout=limits.smtp_timeout,
        anonymous_lifetime=limits.session_time,
    )


def _smtp(near: Neighbours, listener: Listener) -> SMTPServerFactory:
    settings = _smtp_settings(near, listener)
    parts = SMTPServerParts(
        clock=near.reactor,
        random_bytes=os.urandom,
        spool=near.spool,
        recipients=near.recipients,
        authenticator=near.authenticator if settings.mode is not Mode.MX else None,
        tls_context=_tls_context(near, listener),
        wall=time.time,
        limits=near.connections,
    )
    return SMTPServerFactory(settings, parts)


def _imap_settings(near: Neighbours, _: Listener) -> IMAPSettings:
    limits = near.config.limits
    return IMAPSettings(
        max_message=limits.message_size,
        login_timeout=min(limits.login_timeout, SILENCE),
        login_deadline=limits.login_timeout,
        idle_timeout=limits.imap_timeout,
    )


def _imap(near: Neighbours, listener: Listener) -> IMAPServerFactory:
    return IMAPServerFactory(
        near.authenticator,
        near.reactor,
        os.urandom,
        tls_options=_tls_context(near, listener),
        cleartext_login=listener.cleartext_login,
        settings=_imap_settings(near, listener),
        admission=near.sessions,
        connections=near.connections,
        compute=near.workers.defer,
    )


def _pop3_settings(near: Neighbours, listener: Listener) -> POP3Settings:
    limits = near.config.limits
    return POP3Settings(
        hostname=near.hostname,
        implicit_tls=listener.tls is TLSMode.IMPLICIT,
        cleartext_login=listener.cleartext_login,
        login_timeout=min(limits.login_timeout, SILENCE),
        login_deadline=limits.login_timeout,
        idle_timeout=limits.pop3_timeout,
    )


def _pop3(near: Neighbours, listener: Listener) -> POP3ServerFactory:
    settings = _pop3_settings(near, listener)
    parts = POP3Parts(
        clock=near.reactor,
        random_bytes=os.urandom,
        authenticator=near.authenticator,
        tls_context=_tls_context(near, listener),
        connections=near.connections,
        sessions=near.sessions,
    )
    return POP3ServerFactory(parts, settings)


_BUILDERS: Mapping[Protocol, Callable[[Neighbours, Listener], Any]] = {
    Protocol.SMTP: _smtp,
    Protocol.SUBMISSION: _smtp,
    Protocol.IMAP: _imap,
    Protocol.POP3: _pop3,
}

_SETTINGS: Mapping[Protocol, Callable[[Neighbours, Listener], Any]] = {
    Protocol.SMTP: _smtp_settings,
    Protocol.SUBMISSION: _smtp_settings,
    Protocol.IMAP: _imap_settings,
    Protocol.POP3: _pop3_settings,
}


@dataclass(slots=True)
class Server:
    """
    The factory of a listener, bare and as its port needs it.

    Args:
        inner: builds the protocols of the listener.
        outer: the same with TLS around it on an implicit port.
        listener: what it serves, as it was at the start.
    """

    inner: Any
    outer: IProtocolFactory
    listener: Listener

    def apply(self, near: Neighbours) -> None:
        """Take the limits of the configuration for connections from now on."""
        self.inner.settings = _SETTINGS[self.listener.protocol](near, self.listener)

    def end_sessions(self) -> None:
        """Say good-bye to every client in its protocol's words."""
        ending = getattr(self.inner, "shut_down", None) or self.inner.end_sessions
        ending()


def server_for(near: Neighbours, listener: Listener) -> Server:
    """Build the server of a listener."""
    inner = _BUILDERS[listener.protocol](near, listener)
    if listener.tls is not TLSMode.IMPLICIT:
        return Server(inner, inner, listener)
    creator = near.tls.creator(ALPN_NAMES[listener.protocol])
    return Server(inner, TLSMemoryBIOFactory(creator, False, inner, near.reactor), listener)
