"""What a POP3 listener is told at the start, and the neighbours its sessions talk to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mailhost.interfaces.login import IAuthenticator


class ConnectionCount(Protocol):
    """Counts connections by client; one object may serve listeners of several protocols."""

    def admit(self, peer: str) -> bool:
        """Count a new connection in and return True, or return False: there are too many."""

    def leave(self, peer: str) -> None:
        """An admitted connection is gone."""


class SessionCount(Protocol):
    """Counts sessions by account and client; one object may serve several protocols."""

    def enter(self, account: str, peer: str) -> bool:
        """Count a session in and return True, or return False: there are too many."""

    def leave(self, account: str, peer: str) -> None:
        """A session that was let in has ended."""


class Unlimited:
    """No limit, for tests and for listeners that are counted elsewhere."""

    def admit(self, peer: str) -> bool:
        """Always."""
        return True

    def enter(self, account: str, peer: str) -> bool:
        """Always."""
        return True

    def leave(self, *_: str) -> None:
        """Nothing was counted."""


_UNLIMITED = Unlimited()


@dataclass(frozen=True, slots=True, kw_only=True)
class POP3Settings:
    """
    The settings of one listener. Times in seconds.

    Args:
        hostname: our name in the greeting.
        implicit_tls: the transport has TLS from the start (RFC 8314 3.3).
        cleartext_login: passwords are taken without TLS (loopback only).
        login_timeout: silence before login.
        login_deadline: the whole time until a login must have succeeded.
        idle_timeout: silence after login (RFC 1939 3: at least ten minutes).
        handshake_timeout: for a TLS handshake.
        output_timeout: how long a client may take nothing of what is sent to it.
        max_bad_commands: commands that are none, after which the session is ended.
        max_failed_logins: logins after which the session is ended.
    """

    hostname: str
    implicit_tls: bool = False
    cleartext_login: bool = False
    login_timeout: float = 60.0
    login_deadline: float = 180.0
    idle_timeout: float = 600.0
    handshake_timeout: float = 30.0
    output_timeout: float = 300.0
    max_bad_commands: int = 10
    max_failed_logins: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class POP3Parts:
    """
    What the sessions of a listener work with.

    Args:
        clock: IReactorTime; its seconds are Unix time.
        random_bytes: as ``os.urandom``.
        authenticator: gives `IMailAccess` avatars.
        tls_context: gives the context factory for STLS at the moment it is needed, so that a
            renewed certificate serves new handshakes; None where STLS is not offered.
        connections: counts connections.
        sessions: counts logged-in sessions.
    """

    clock: Any
    random_bytes: Callable[[int], bytes]
    authenticator: IAuthenticator
    tls_context: Callable[[], Any] | None = None
    connections: ConnectionCount = _UNLIMITED
    sessions: SessionCount = _UNLIMITED
