"""Logins: what a protocol shows an authenticator, and the avatars it gets back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from mailhost.address import Address


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """
    What is known about a connection before anyone logs in.

    Args:
        protocol: ``smtp``, ``submission``, ``imap`` or ``pop3``.
        peer: the client's address, without port.
        tls: what protects it, such as ``TLSv1.3 TLS_AES_256_GCM_SHA384``; empty if nothing does.
        cleartext_login: a password may be sent although nothing protects it.
        channel_bindings: octets by binding type, for SCRAM -PLUS (RFC 5929, RFC 9266).
    """

    session: str
    protocol: str
    peer: str
    tls: str = ""
    cleartext_login: bool = False
    channel_bindings: tuple[tuple[str, bytes], ...] = ()


class LoginFailure(Enum):
    """Why a login did not succeed; the first two are never told apart to the peer."""

    CREDENTIALS = "credentials"
    """Unknown user, wrong password, or an identity that was not granted."""
    DISABLED = "disabled"
    """The proof was right; the account is disabled."""
    MALFORMED = "malformed"
    """The exchange does not follow its mechanism's grammar."""
    CANCELLED = "cancelled"
    """The client gave up with ``*``."""
    TEMPORARY = "temporary"
    """It could not be decided now."""
    ENCRYPTION_NEEDED = "encryption needed"
    """The mechanism is not offered without TLS (RFC 5034 4, 530 / 538, PRIVACYREQUIRED)."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's next message in a SASL exchange, not yet base64."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """
    A login that succeeded.

    Args:
        avatar: provides the interface that was asked for.
        logout: to be called once when the session ends.
        final: what the mechanism still has to say with success (SCRAM), or None.
    """

    avatar: Any
    logout: Callable[[], None]
    account: str
    final: bytes | None = None


LoginOutcome: TypeAlias = LoggedIn | LoginFailure


class IAuthenticator(Interface):
    """Logins of every protocol: one SASL engine over a cred portal."""

    def mechanisms(facts: ConnectionFacts) -> tuple[bytes, ...]:
        """The SASL mechanisms to offer on this connection, best first; none means no login."""

    def begin(mechanism: bytes, facts: ConnectionFacts, interface: Any) -> IAuthentication | None:
        """Start an exchange that ends in an avatar for the interface; None if not offered."""

    def login(
        user: bytes, password: bytes, facts: ConnectionFacts, interface: Any
    ) -> Deferred[LoginOutcome]:
        """A login by name and password (IMAP LOGIN, POP3 USER and PASS)."""


class IAuthentication(Interface):
    """One SASL exchange, as the server."""

    def respond(
        data: bytes | None,
    ) -> Challenge | LoginOutcome | Deferred[Challenge | LoginOutcome]:
        """
        Take the client's message, decoded; None for the start without an initial response.

        Not called again before the answer is there, nor after an outcome.
        """

    def cancel() -> None:
        """The client gave up or went away."""


class ISubmission(Interface):
    """The avatar of an account that sends mail."""

    account_id = Attribute("AccountID")
    address = Attribute("The account's primary Address.")

    def may_send_as(address: Address) -> bool | Deferred[bool]:
        """Whether the account may use the address as reverse-path or From."""


class IAdministration(Interface):
    """The avatar of an administrator: the stores whose verbs the admin commands are."""

    directory = Attribute("IDirectory")
    queue = Attribute("IQueue")
