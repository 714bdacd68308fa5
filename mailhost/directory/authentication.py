"""
Logins of every protocol: SASL exchanges and plain name and password, over one cred portal.

Nothing is offered before TLS unless the listener allows it. An authorization identity other than
one's own is refused. Unknown user, wrong password and foreign identity have one answer, and it
comes later with every failure of that client address (`LoginLimits`). Whatever fails for reasons of
our own is `LoginFailure.TEMPORARY` and logged.

Events: ``login.succeeded`` (session, protocol, peer, tls, mechanism, account, account_id) and
``login.failed`` (session, protocol, peer, tls, mechanism, user, failure, delay). `user` is what the
client called itself only if that is an address in a domain of ours: people type passwords into the
wrong field.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias

from twisted.cred.error import LoginDenied, UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from mailhost.directory.checkers import AccountDisabled, PasswordLogin, ProvenLogin
from mailhost.directory.credentials import (
    CredentialSource,
    SCRAMCredentials,
    TooManyChecks,
)
from mailhost.directory.login_limits import LoginLimits
from mailhost.directory.roster import Identity
from mailhost.interfaces.login import (
    Challenge,
    ConnectionFacts,
    IAuthentication,
    IAuthenticator,
    LoggedIn,
    LoginFailure,
    LoginOutcome,
)
from mailhost.wire import sasl

Answer: TypeAlias = Challenge | LoginOutcome

CLEAR_MECHANISM = b"LOGIN command"
"""What logs call a login by name and password outside SASL."""


@implementer(IAuthenticator)
class Authenticator:
    """
    Logs people in.

    Args:
        portal: has checkers for `PasswordLogin` and `ProvenLogin`.
        source: knows accounts by login name.
        scram: gives verifiers; None switches SCRAM off.
        limits: says how long failures wait.
        clock: waits.
        channel_binding: offer the -PLUS variants of SCRAM inside TLS.
    """

    log = Logger()

    def __init__(
        self,
        portal: Portal,
        source: CredentialSource,
        scram: SCRAMCredentials | None,
        limits: LoginLimits,
        clock: IReactorTime,
        *,
        channel_binding: bool = True,
    ) -> None:
        self.portal = portal
        self.source = source
        self.scram = scram
        self.channel_binding = channel_binding
        self._limits = limits
        self._clock = clock

    def mechanisms(self, facts: ConnectionFacts) -> tuple[bytes, ...]:
        """The SASL mechanisms to offer on this connection, best first."""
        if not (facts.tls or facts.cleartext_login):
            return ()
        return tuple(
            name
            for name in sasl.SERVER_MECHANISMS
            if (self.scram is not None or not name.startswith(b"SCRAM-"))
            and (self._bindings(facts) or not name.endswith(b"-PLUS"))
        )

    def _bindings(self, facts: ConnectionFacts) -> tuple[tuple[str, bytes], ...]:
        return facts.channel_bindings if self.channel_binding else ()

    def begin(
        self, mechanism: bytes, facts: ConnectionFacts, interface: Any
    ) -> IAuthentication | None:
        """Start an exchange; None if the mechanism is not offered here."""
        name = mechanism.upper()
        if name not in self.mechanisms(facts):
            return None
        # RFC 5802 6: only what is advertised can have been removed by somebody in the middle.
        bindings = dict(self._bindings(facts))
        exchange = sasl.server_mechanism(name, bindings)
        if exchange is None:
            return None
        return Authentication(self, exchange, name, facts, interface)

    def login(
        self, user: bytes, password: bytes, facts: ConnectionFacts, interface: Any
    ) -> Deferred[LoginOutcome]:
        """A login by name and password (IMAP LOGIN, POP3 USER and PASS)."""
        return self.start(self._login(user, password, facts, interface), facts, CLEAR_MECHANISM)

    async def _login(
        self, user: bytes, password: bytes, facts: ConnectionFacts, interface: Any
    ) -> LoginOutcome:
        if not (facts.tls or facts.cleartext_login):
            return LoginFailure.ENCRYPTION_NEEDED
        name = user.decode("utf-8", "surrogateescape")
        if not 0 < len(user) <= sasl.MAX_ITEM or not 0 < len(password) <= sasl.MAX_ITEM:
            return await self.refuse(LoginFailure.CREDENTIALS, name, facts, CLEAR_MECHANISM)
        # Octets that are no UTF-8 stay in a form that no stored password has.
        question = sasl.AskPassword(name, "", password.decode("utf-8", "surrogateescape"))
        return await self.check_password(question, facts, interface, CLEAR_MECHANISM)

    async def check_password(
        self, question: sasl.AskPassword, facts: ConnectionFacts, interface: Any, mechanism: bytes
    ) -> LoginOutcome:
        """Answer `sasl.AskPassword`."""
        credentials = PasswordLogin(question.user, question.password, facts.protocol)
        return await self._enter(
            credentials, question.user, question.authzid, facts, interface, mechanism, None
        )

    async def accept_proof(
        self,
        proven: sasl.Proven,
        identity: Identity,
        facts: ConnectionFacts,
        interface: Any,
        mechanism: bytes,
    ) -> LoginOutcome:
        """Let in who has proven to be that account."""
        return await self._enter(
            ProvenLogin(identity),
            proven.user,
            proven.authzid,
            facts,
            interface,
            mechanism,
            proven.final,
        )

    async def _enter(
        self,
        credentials: PasswordLogin | ProvenLogin,
        user: str,
        authzid: str,
        facts: ConnectionFacts,
        interface: Any,
        mechanism: bytes,
        final: bytes | None,
    ) -> LoginOutcome:
        # Decided by names alone, so that it says nothing about who exists or what is right.
        own = not authzid or self.source.login_key(authzid) == self.source.login_key(user)
        if not own:
            return await self.refuse(LoginFailure.CREDENTIALS, user, facts, mechanism)
        if self.refused(user, facts, mechanism):
            return LoginFailure.TEMPORARY
        try:
            granted: Any = await self.portal.login(credentials, None, interface)
        except AccountDisabled:
            return await self.refuse(LoginFailure.DISABLED, user, facts, mechanism)
        except (UnauthorizedLogin, LoginDenied):
            return await self.refuse(LoginFailure.CREDENTIALS, user, facts, mechanism)
        _, avatar, logout = granted
        self._limits.succeeded(facts.peer, self.source.login_key(user))
        self.log.info(
            event="login.succeeded",
            **_fields(facts, mechanism),
            account=str(avatar.address),
            account_id=avatar.account_id,
        )
        return LoggedIn(avatar, logout, str(avatar.address), final)

    def refused(self, user: str, facts: ConnectionFacts, mechanism: bytes) -> bool:
        """Say, and log, that the client failed too often for a look at what it brings."""
        if not self._limits.refuses(facts.peer, self.source.login_key(user)):
            return False
        self.note_failure(LoginFailure.TEMPORARY, user, facts, mechanism)
        return True

    async def refuse(
        self, failure: LoginFailure, user: str, facts: ConnectionFacts, mechanism: bytes
    ) -> LoginFailure:
        """Return the failure after the time that the client's address has earned."""
        delay = 0.0
        if failure in (LoginFailure.CREDENTIALS, LoginFailure.DISABLED):
            delay = self._limits.failed(facts.peer)
        self.note_failure(failure, user, facts, mechanism, delay)
        if delay:
            await deferLater(self._clock, delay)
        return failure

    def note_failure(
        self,
        failure: LoginFailure,
        user: str,
        facts: ConnectionFacts,
        mechanism: bytes,
        delay: float = 0.0,
    ) -> None:
        """Log a login that did not succeed."""
        self.log.info(
            event="login.failed",
            **_fields(facts, mechanism),
            user=self.source.loggable(user),
            failure=failure.value,
            delay=delay,
        )

    def start(
        self, work: Coroutine[Any, Any, Any], facts: ConnectionFacts, mechanism: bytes
    ) -> Deferred[Any]:
        """Run the work of a login; what it raises becomes `LoginFailure.TEMPORARY`."""
        return Deferred.fromCoroutine(self._guard(work, facts, mechanism))

    async def _guard(
        self, work: Coroutine[Any, Any, Any], facts: ConnectionFacts, mechanism: bytes
    ) -> Any:
        try:
            return await work
        except CancelledError:
            return LoginFailure.CANCELLED
        except TooManyChecks:
            self.note_failure(LoginFailure.TEMPORARY, "", facts, mechanism)
            return LoginFailure.TEMPORARY
        except Exception:
            self.log.failure("login", event="login.error", **_fields(facts, mechanism))
            return LoginFailure.TEMPORARY


@implementer(IAuthentication)
class Authentication:
    """One SASL exchange, as the server."""

    def __init__(
        self,
        authenticator: Authenticator,
        exchange: sasl.ServerMechanism,
        mechanism: bytes,
        facts: ConnectionFacts,
        interface: Any,
    ) -> None:
        self._authenticator = authenticator
        self._exchange = exchange
        self._mechanism = mechanism
        self._facts = facts
        self._interface = interface
        self._identity: Identity | None = None
        self._user = ""
        self._pending: Deferred[Answer] | None = None

    def respond(self, data: bytes | None) -> Answer | Deferred[Answer]:
        """Take the client's message, decoded; None for the start without an initial response."""
        step = self._exchange.respond(data)
        if isinstance(step, sasl.Say):
            return Challenge(step.data)
        if isinstance(step, sasl.Malformed):
            failure = LoginFailure.MALFORMED
            self._authenticator.note_failure(failure, self._user, self._facts, self._mechanism)
            return failure
        work = _ANSWERS[type(step)](self, step)
        pending = self._authenticator.start(work, self._facts, self._mechanism)
        self._pending = pending
        return pending

    def cancel(self) -> None:
        """The client gave up or went away; an answer that is still awaited is CANCELLED."""
        if self._pending is not None:
            self._pending.cancel()

    async def _ask_password(self, step: sasl.AskPassword) -> Answer:
        return await self._authenticator.check_password(
            step, self._facts, self._interface, self._mechanism
        )

    async def _ask_verifier(self, step: sasl.AskVerifier) -> Answer:
        assert isinstance(self._exchange, sasl.SCRAMServer)
        assert self._authenticator.scram is not None
        self._user = step.user
        if self._authenticator.refused(step.user, self._facts, self._mechanism):
            return LoginFailure.TEMPORARY
        found = self._authenticator.source.find(step.user)
        self._identity = await found if isinstance(found, Deferred) else found
        verifier = await self._authenticator.scram.verifier(
            self._identity, step.user, self._facts.protocol
        )
        return Challenge(self._exchange.verify_against(verifier).data)

    async def _proven(self, step: sasl.Proven) -> Answer:
        # Nobody can match the verifier that a user who does not exist was given.
        assert self._identity is not None
        return await self._authenticator.accept_proof(
            step, self._identity, self._facts, self._interface, self._mechanism
        )

    async def _wrong(self, step: sasl.Wrong) -> Answer:
        return await self._authenticator.refuse(
            LoginFailure.CREDENTIALS, self._user, self._facts, self._mechanism
        )


_ANSWERS: Mapping[type, Callable[[Authentication, Any], Coroutine[Any, Any, Answer]]] = {
    sasl.AskPassword: Authentication._ask_password,
    sasl.AskVerifier: Authentication._ask_verifier,
    sasl.Proven: Authentication._proven,
    sasl.Wrong: Authentication._wrong,
}


def _fields(facts: ConnectionFacts, mechanism: bytes) -> dict[str, Any]:
    return {
        "session": facts.session,
        "protocol": facts.protocol,
        "peer": facts.peer,
        "tls": facts.tls,
        "mechanism": mechanism.decode("ascii", "replace"),
    }
