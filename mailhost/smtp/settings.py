"""What an SMTP listener is told at the start, and the neighbours its sessions talk to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mailhost.address import Address
from mailhost.interfaces.directory import IRecipientPolicy
from mailhost.interfaces.login import IAuthenticator
from mailhost.interfaces.spool import ISpool
from mailhost.smtp.limits import ConnectionLimits


class Mode(Enum):
    """Whom a listener serves."""

    MX = "mx"
    """Other servers, for our own domains; nobody logs in (RFC 5321)."""
    SUBMISSION = "submission"
    """Our own users, after login only (RFC 6409, RFC 8314)."""
    LOCAL = "local"
    """Both, for programs on this machine: login is offered and not demanded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SMTPServerSettings:
    """
    The settings of one listener.

    Args:
        hostname: our name in greeting, EHLO and Received.
        postmaster: what ``<Postmaster>`` means; postmaster at the host name when None.
        max_size: octets of a message.
        max_recipients: of one message.
        max_header: octets of a message's header.
        max_header_lines: lines of it.
        max_hops: Received fields (RFC 5321 6.3).
        require_tls: mail is refused on a connection without TLS.
        cleartext_login: passwords are taken without TLS (loopback only).
        greet_delay: seconds before the greeting; a client that talks first is dropped (R-05).
        command_timeout: seconds to wait for a command or data (RFC 5321 4.5.3.2.7).
        handshake_timeout: seconds for a TLS handshake.
        anonymous_lifetime: seconds that a session may last without login.
        data_rate: octets a second that message data must come with, over `data_window` seconds.
        soft_errors: failed commands after which each further failure is answered late.
        hard_errors: failed commands after which the connection is closed.
        junk_commands: commands that move no mail, after which the connection is closed.
        error_delay: seconds that such an answer is kept back.
        max_login_failures: failed logins after which the connection is closed.
    """

    hostname: str
    mode: Mode = Mode.MX
    postmaster: Address | None = None
    max_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    max_header: int = 256 * 1024
    max_header_lines: int = 2000
    max_hops: int = 50
    require_tls: bool = False
    cleartext_login: bool = False
    greet_delay: float = 0.0
    command_timeout: float = 300.0
    handshake_timeout: float = 30.0
    anonymous_lifetime: float = 1800.0
    data_rate: int = 500
    data_window: float = 60.0
    soft_errors: int = 10
    hard_errors: int = 20
    junk_commands: int = 100
    error_delay: float = 1.0
    max_login_failures: int = 5

    @property
    def protocol(self) -> str:
        """The name that `ConnectionFacts` carries."""
        return "submission" if self.mode is Mode.SUBMISSION else "smtp"


@dataclass(frozen=True, slots=True, kw_only=True)
class SMTPServerParts:
    """
    What the sessions of a listener work with.

    Args:
        clock: IReactorTime; its seconds are Unix time.
        random_bytes: as ``os.urandom``.
        authenticator: None where nobody can log in.
        tls_context: gives the context factory for STARTTLS at the moment it is needed, so that a
            renewed certificate serves new handshakes; None where STARTTLS is not offered.
        wall: Unix time for Received and Date, which follows the system's clock when that is set;
            the clock's own time when None.
        limits: connection counts, shared or not.
    """

    clock: Any
    random_bytes: Callable[[int], bytes]
    spool: ISpool
    recipients: IRecipientPolicy
    authenticator: IAuthenticator | None = None
    tls_context: Callable[[], Any] | None = None
    wall: Callable[[], float] | None = None
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
