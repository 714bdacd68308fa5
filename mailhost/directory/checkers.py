"""
Credentials checkers of the cred portal: who somebody is, once proven.

An avatar id is an account id, or `OPERATOR`. Failures: UnauthorizedLogin for an unknown user and a
wrong password alike, `AccountDisabled` after a right proof, `TooManyChecks` when it cannot be
decided now.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials
from twisted.cred.error import LoginDenied, UnauthorizedLogin
from twisted.internet.defer import Deferred
from zope.interface import Attribute, implementer

from mailhost.directory.credentials import CredentialSource, PasswordCheck
from mailhost.directory.roster import Identity

OPERATOR = "operator"
"""The avatar id of whoever administers this machine; no account id is so short."""


class AccountDisabled(LoginDenied):
    """The proof is right and the account is disabled."""


class IPasswordLogin(ICredentials):
    """A name and a password, as a client sent them."""

    user = Attribute("The name.")
    password = Attribute("The password.")
    protocol = Attribute("For which protocol, as ConnectionFacts has it.")


class IProvenLogin(ICredentials):
    """An account whose secret the client was shown to know by a SASL mechanism."""

    identity = Attribute("The account as it was when the exchange began.")


class ILocalOperator(ICredentials):
    """A process of this machine at the other end of the control socket."""

    uid = Attribute("Its user id, as the kernel reports it.")


@implementer(IPasswordLogin)
@dataclass(frozen=True, slots=True)
class PasswordLogin:
    """A login by name and password."""

    user: str
    password: str
    protocol: str

    def __repr__(self) -> str:
        return f"PasswordLogin(user={self.user!r})"


@implementer(IProvenLogin)
@dataclass(frozen=True, slots=True)
class ProvenLogin:
    """A login whose proof a SASL mechanism has checked."""

    identity: Identity


@implementer(ILocalOperator)
@dataclass(frozen=True, slots=True)
class LocalOperator:
    """A login over the control socket."""

    uid: int


@implementer(ICredentialsChecker)
class PasswordChecker:
    """Checks names and passwords against a directory."""

    credentialInterfaces = (IPasswordLogin,)

    def __init__(self, source: CredentialSource, passwords: PasswordCheck) -> None:
        self._source = source
        self._passwords = passwords

    def requestAvatarId(self, credentials: Any) -> Deferred[Any]:
        """Return the account id."""
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: PasswordLogin) -> str:
        found = self._source.find(credentials.user)
        identity = await found if isinstance(found, Deferred) else found
        right = self._passwords.check(
            identity,
            self._source.login_key(credentials.user),
            credentials.password,
            credentials.protocol,
        )
        if isinstance(right, Deferred):
            right = await right
        if identity is None or not right:
            raise UnauthorizedLogin("unknown user or wrong password")
        return _still_valid(self._source, identity)


@implementer(ICredentialsChecker)
class ProvenChecker:
    """Lets in who has already proven who they are, if the account is still what it was."""

    credentialInterfaces = (IProvenLogin,)

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    def requestAvatarId(self, credentials: Any) -> Any:
        """Return the account id."""
        return _still_valid(self._source, credentials.identity)


@implementer(ICredentialsChecker)
class OperatorChecker:
    """Lets in processes of certain users of this machine."""

    credentialInterfaces = (ILocalOperator,)

    def __init__(self, uids: Collection[int]) -> None:
        self._uids = frozenset(uids)

    def requestAvatarId(self, credentials: Any) -> Any:
        """Return `OPERATOR`."""
        if credentials.uid not in self._uids:
            raise UnauthorizedLogin(f"uid {credentials.uid} may not administer")
        return OPERATOR


def _still_valid(source: CredentialSource, identity: Identity) -> str:
    # The proof took a while; in the meantime the password may have been changed.
    now = source.current(identity.account.account_id)
    if now is not None and not now.account.enabled:
        raise AccountDisabled("account disabled")
    if now is None or now.version != identity.version:
        raise UnauthorizedLogin("the account changed during the login")
    return now.account.account_id
