"""
Whether a password, or a SCRAM proof, belongs to an account.

`PasswordCheck` runs argon2id on a few threads, with a bounded number of checks waiting, and
remembers proofs that succeeded. What it remembers is an HMAC under a key that lives as long as the
process, over the account, the version of its credentials, the protocol and the password: nothing
that is remembered for one account or password can ever answer for another, and a change of
password makes it worthless even before it is emptied. Clients open many connections at once with
one password: the same check under way is waited for, not repeated.

A user who does not exist costs what a wrong password costs: one look into the database, one
argon2id (R-40). A SCRAM exchange with one shows a salt that is always the same for that name.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from mailhost.directory.passwords import SALT_LENGTH, PasswordHash, prepare
from mailhost.directory.roster import Identity
from mailhost.directory.store import (
    ARGON2ID,
    SCRAM_ITERATIONS,
    SCRAM_SHA_256,
    Credential,
)
from mailhost.errors import MailhostError
from mailhost.units import AccountID
from mailhost.wire.sasl import SCRAMVerifier

NOBODY = AccountID("")
"""An account id that no account has, for the same work when there is no account."""


class TooManyChecks(MailhostError):
    """As many password checks wait as may; the login is to be tried again later."""


class CredentialSource(Protocol):
    """What logins ask of a directory, whichever kind it is."""

    secret: bytes

    def login_key(self, name: str) -> str:
        """Return what stands for a login name, whether or not there is such an account."""
        ...

    def loggable(self, name: str) -> str:
        """Return the login name if it may stand in a log, else nothing."""
        ...

    def find(self, name: str) -> Identity | Deferred[Identity | None] | None:
        """Return the account of a login name."""
        ...

    def current(self, account_id: AccountID) -> Identity | None:
        """Return what is known of an account now."""
        ...

    def credentials(self, account_id: AccountID, kind: str) -> Deferred[tuple[Credential, ...]]:
        """Return the account's credentials of a kind; none for `NOBODY`."""
        ...


class RememberedProofs:
    """
    Digests of logins that succeeded, at most `capacity`, each for `lifetime` seconds.

    Args:
        now: a clock in seconds.
    """

    def __init__(
        self,
        now: Callable[[], float],
        lifetime: float,
        capacity: int,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._now = now
        self._lifetime = lifetime
        self._capacity = capacity
        self._key = random_bytes(32)
        # The oldest first; all live equally long, unless a credential expires sooner.
        self._until: OrderedDict[bytes, tuple[float, AccountID]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def digest(self, who: str, version: int, protocol: str, password: str) -> bytes:
        """Return what is remembered in place of a password."""
        parts = [part.encode("utf-8", "surrogatepass") for part in (who, protocol, password)]
        message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, version.to_bytes(8, "big") + message, "sha256")

    def knows(self, digest: bytes) -> bool:
        """Whether that login succeeded lately."""
        entry = self._until.get(digest)
        if entry is None:
            return False
        if self._now() < entry[0]:
            return True
        del self._until[digest]
        return False

    def add(self, digest: bytes, account_id: AccountID, seconds: float) -> None:
        """Remember that it succeeded, for at most so many seconds."""
        if self._lifetime <= 0 or self._capacity <= 0:
            return
        self._until.pop(digest, None)
        while len(self._until) >= self._capacity:
            self._until.popitem(last=False)
        self._until[digest] = (self._now() + min(self._lifetime, seconds), account_id)

    def forget(self, account_id: AccountID | None) -> None:
        """Forget an account's logins, or everybody's."""
        if account_id is None:
            self._until.clear()
            return
        for digest in [key for key, entry in self._until.items() if entry[1] == account_id]:
            del self._until[digest]


class PasswordCheck:
    """
    Checks passwords against argon2id credentials.

    Args:
        defer: runs a blocking function on one of the hashing threads.
        clock: of the reactor; lifetimes are measured with it.
        now: Unix time, against which credentials expire.
        waiting: how many checks may be under way or wait; one more fails with `TooManyChecks`.
        lifetime: seconds for which a success is remembered; 0: not at all.
        capacity: how many successes are remembered.
    """

    def __init__(
        self,
        source: CredentialSource,
        defer: Callable[..., Deferred[Any]],
        clock: IReactorTime,
        now: Callable[[], float],
        *,
        password_hash: PasswordHash | None = None,
        waiting: int = 64,
        lifetime: float = 3600.0,
        capacity: int = 10_000,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._source = source
        self._defer = defer
        self._now = now
        self._hash = password_hash or PasswordHash()
        self._waiting = waiting
        self._proofs = RememberedProofs(clock.seconds, lifetime, capacity, random_bytes)
        self._under_way: dict[bytes, list[Deferred[bool]]] = {}

    @property
    def under_way(self) -> int:
        """How many checks run or wait for a thread."""
        return len(self._under_way)

    def forget(self, account_id: AccountID | None) -> None:
        """Forget what was proven for an account, or for all (`Directory.watch_credentials`)."""
        self._proofs.forget(account_id)

    def check(
        self, identity: Identity | None, name: str, password: str, protocol: str
    ) -> bool | Deferred[bool]:
        """
        Say whether the password is the account's, True at once if that is remembered.

        Without an account it costs the same, and is False. The Deferred may be cancelled; the
        thread still ends what it began. It fails with what the credential source or argon2 raise.

        Raises:
            TooManyChecks: try again later.
        """
        prepared = prepare(password)
        # Ids are never empty, so that a name of a user who does not exist is never taken for one.
        who = identity.account.account_id if identity else f"\0{name}"
        digest = self._proofs.digest(who, identity.version if identity else 0, protocol, prepared)
        if self._proofs.knows(digest):
            return True
        listeners = self._under_way.get(digest)
        if listeners is None:
            if len(self._under_way) >= self._waiting:
                raise TooManyChecks("password checks")
            listeners = self._under_way[digest] = []
            waiter = self._wait(listeners)
            self._begin(digest, identity, prepared, protocol)
            return waiter
        return self._wait(listeners)

    def _wait(self, listeners: list[Deferred[bool]]) -> Deferred[bool]:
        # A listener that gives up leaves the others and the check alone.
        waiter: Deferred[bool] = Deferred(listeners.remove)
        listeners.append(waiter)
        return waiter

    def _begin(
        self, digest: bytes, identity: Identity | None, prepared: str, protocol: str
    ) -> None:
        account_id = identity.account.account_id if identity else NOBODY

        def hash_all(credentials: Sequence[Credential]) -> Deferred[float | None]:
            usable = [each for each in credentials if each.covers(protocol, self._now())]
            return self._defer(self._verify, usable, prepared)

        def verified(seconds: float | None) -> bool:
            if seconds is None or identity is None:
                return False
            self._proofs.add(digest, account_id, seconds)
            return True

        def finish(outcome: bool | Failure) -> Failure | None:
            listeners = tuple(self._under_way.pop(digest))
            for listener in listeners:
                # One may have been cancelled by what another did.
                if not listener.called:
                    listener.callback(outcome)
            return outcome if isinstance(outcome, Failure) and not listeners else None

        found = self._source.credentials(account_id, ARGON2ID)
        found.addCallback(hash_all).addCallback(verified).addBoth(finish)

    def _verify(self, credentials: Sequence[Credential], prepared: str) -> float | None:
        # On a hashing thread. Returns for how long the proof is good.
        if not credentials:
            self._hash.waste(prepared)
        for credential in credentials:
            if self._hash.verify(credential.verifier, prepared):
                if credential.expires is None:
                    return float("inf")
                return credential.expires - self._now()
        return None


class SCRAMCredentials:
    """
    Verifiers for SCRAM.

    Args:
        now: Unix time, against which credentials expire.
        iterations: shown for users that do not exist; what passwords are set with.
    """

    def __init__(
        self,
        source: CredentialSource,
        now: Callable[[], float],
        iterations: int = SCRAM_ITERATIONS,
    ) -> None:
        self._source = source
        self._now = now
        self._iterations = iterations

    def verifier(
        self, identity: Identity | None, name: str, protocol: str
    ) -> Deferred[SCRAMVerifier]:
        """Return the account's verifier, or one of the same looks that nobody can match."""

        def choose(credentials: Sequence[Credential]) -> SCRAMVerifier:
            for credential in credentials:
                if credential.covers(protocol, self._now()):
                    return credential.scram()
            return self._pretence(name)

        account_id = identity.account.account_id if identity else NOBODY
        return self._source.credentials(account_id, SCRAM_SHA_256).addCallback(choose)

    def _pretence(self, name: str) -> SCRAMVerifier:
        secret, key = self._source.secret, self._source.login_key(name)
        parts = [
            hmac.digest(secret, label + key.encode("utf-8", "surrogatepass"), "sha256")
            for label in (b"salt\0", b"stored key\0", b"server key\0")
        ]
        return SCRAMVerifier(parts[0][:SALT_LENGTH], self._iterations, parts[1], parts[2])
