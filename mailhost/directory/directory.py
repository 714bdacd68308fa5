"""
The directory of a running server: answers from memory, changes on its own thread.

Everything but credentials is kept in a `Roster`. A change runs on the directory's thread; when its
Deferred fires it is on stable storage and every answer knows of it. Commits of other processes
are looked for at most once a second by mail, and at every login; what they changed is then read on
the thread, and until that is done answers are those of before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.address import Address, parse_domain
from mailhost.directory.roster import Identity, OwnNames, Roster, lookup_key
from mailhost.directory.store import Credential, DirectoryStore
from mailhost.errors import NoSuchEntry, SyntaxFault
from mailhost.interfaces.directory import (
    Account,
    AddressClass,
    Alias,
    Classification,
    Domain,
    IDirectory,
)
from mailhost.units import AccountID

LOOK_INTERVAL = 1.0
"""Seconds between looks for commits of other processes."""

T = TypeVar("T")
Defer: TypeAlias = Callable[..., Deferred[Any]]
"""Runs a function with arguments on one certain thread, calls in order."""


@implementer(IDirectory)
class Directory:
    """
    The directory over a `DirectoryStore`.

    Building one reads the store on the calling thread.

    Args:
        store: owned from now on, and closed by `close`.
        defer: runs a blocking function on the directory's one thread and gives its answer.
        clock: tells when to look for commits of other processes.
        names: the server's own names and its subaddress separator.
    """

    log = Logger()

    def __init__(
        self,
        store: DirectoryStore,
        defer: Defer,
        clock: IReactorTime,
        names: OwnNames = OwnNames(),  # noqa: B008 - frozen
    ) -> None:
        self._store = store
        self._defer = defer
        self._clock = clock
        self._names = names
        self._watch = store.watch()
        self._next_look = clock.seconds() + LOOK_INTERVAL
        self._roster = store.load(names)
        self._stale = False
        self._listeners: list[Callable[[AccountID | None], None]] = []
        self.secret = store.secret()
        """From which salts of users that do not exist are made."""

    def close(self) -> Deferred[None]:
        """Let go of the file after what was asked for before."""
        self._watch.close()
        return self._defer(self._store.close)

    # IDirectory: reading.

    def classify(self, address: Address) -> Classification:
        """Say what mail for the address becomes; from memory."""
        return self._current().classify(address)

    def is_local_domain(self, domain: str) -> bool:
        """Whether we keep mail for the domain."""
        return self._current().is_local(domain)

    def may_send_as(self, account_id: AccountID, address: Address) -> bool:
        """Whether mail for the address would reach this account and nobody else."""
        found = self._current().classify(address)
        return (
            found.address_class is AddressClass.LOCAL
            and not found.remote
            and len(found.local) == 1
            and found.local[0].account_id == account_id
        )

    def account(self, account_id: AccountID) -> Deferred[Account]:
        """The account, or NoSuchEntry."""
        identity = self._current().identity(account_id)
        if identity is None:
            return fail(NoSuchEntry(f"there is no account {account_id}"))
        return succeed(identity.account)

    def account_by_address(self, address: Address) -> Deferred[Account]:
        """The account whose primary address this is, or NoSuchEntry."""
        identity = self._current().identity_of(address)
        if identity is None:
            return fail(NoSuchEntry(f"there is no account {address}"))
        return succeed(identity.account)

    def accounts(self, domain: str | None = None) -> Deferred[tuple[Account, ...]]:
        """All accounts, or those of a domain, by address; NoSuchEntry for no domain of ours."""
        return self._listed(domain, self._current().accounts)

    def domains(self) -> Deferred[tuple[Domain, ...]]:
        """All domains, by name."""
        return succeed(self._current().domains())

    def aliases(self, domain: str | None = None) -> Deferred[tuple[Alias, ...]]:
        """All aliases, or those of a domain, by address; NoSuchEntry for no domain of ours."""
        return self._listed(domain, self._current().aliases)

    # IDirectory: changing.

    def add_account(
        self, address: Address, password: str, display_name: str = ""
    ) -> Deferred[Account]:
        """Create an account in an existing domain."""
        return self._change(
            "account.added",
            address,
            Roster.put_account,
            self._store.add_account,
            address,
            password,
            display_name,
        ).addCallback(_account_of)

    def set_password(self, account_id: AccountID, password: str) -> Deferred[None]:
        """Replace the password; every cached proof of the old one is forgotten."""
        return self._change(
            "account.password",
            account_id,
            Roster.put_account,
            self._store.set_password,
            account_id,
            password,
        ).addCallback(self._credentials_changed, account_id)

    def set_enabled(self, account_id: AccountID, enabled: bool) -> Deferred[None]:
        """Allow or forbid logins and mail."""
        return self._change(
            "account.enabled" if enabled else "account.disabled",
            account_id,
            Roster.put_account,
            self._store.set_enabled,
            account_id,
            enabled,
        ).addCallback(self._credentials_changed, account_id)

    def delete_account(self, account_id: AccountID) -> Deferred[None]:
        """Remove the account; its mail stays on disk under its id."""
        return self._change(
            "account.deleted",
            account_id,
            Roster.remove_account,
            self._store.delete_account,
            account_id,
        ).addCallback(self._credentials_changed, account_id)

    def add_domain(self, name: str) -> Deferred[Domain]:
        """Take a domain."""
        return self._change("domain.added", name, Roster.put_domain, self._store.add_domain, name)

    def delete_domain(self, name: str) -> Deferred[None]:
        """Give up a domain that nothing uses."""
        return self._change(
            "domain.deleted", name, Roster.remove_domain, self._store.delete_domain, name
        ).addCallback(_nothing)

    def add_alias(self, address: Address, targets: Sequence[Address]) -> Deferred[Alias]:
        """Create an alias in an existing domain."""
        return self._change(
            "alias.added",
            address,
            Roster.put_alias,
            self._store.add_alias,
            address,
            tuple(targets),
        )

    def delete_alias(self, address: Address) -> Deferred[None]:
        """Remove an alias."""
        return self._change(
            "alias.deleted", address, Roster.remove_alias, self._store.delete_alias, address
        ).addCallback(_nothing)

    # For logins (`mailhost.directory.credentials.CredentialSource`).

    def login_key(self, name: str) -> str:
        """
        Return what stands for a login name, whether or not there is such an account.

        A name is a full address. A bare local part is taken for one in the only domain, if there
        is exactly one; names that can be neither stand for themselves.
        """
        address = self._login_address(name)
        return name if address is None else lookup_key(address)

    def loggable(self, name: str) -> str:
        """The name if it is an address in a domain of ours: anything else may be a password."""
        address = self._login_address(name) if "@" in name else None
        return str(address) if address is not None and self.is_local_domain(address.domain) else ""

    def find(self, name: str) -> Identity | Deferred[Identity | None] | None:
        """The account of a login name, as of this moment: other processes' commits count."""
        if self._look():
            return self.refresh().addCallback(lambda _: self._find(name))
        return self._find(name)

    def current(self, account_id: AccountID) -> Identity | None:
        """What is known of an account now."""
        return self._roster.identity(account_id)

    def credentials(self, account_id: AccountID, kind: str) -> Deferred[tuple[Credential, ...]]:
        """The account's credentials of a kind."""
        return self._defer(self._store.credentials, account_id, kind)

    def watch_credentials(self, listener: Callable[[AccountID | None], None]) -> None:
        """Call the listener when an account's credentials changed; None: perhaps anybody's."""
        self._listeners.append(listener)

    # Keeping up.

    def refresh(self) -> Deferred[None]:
        """Read what other processes committed; fires when answers know of it."""
        self._stale = False
        return self._defer(self._store.load, self._names).addCallbacks(self._take, self._unread)

    def _look(self) -> bool:
        # Whether the database has, or may have, what the roster has not.
        if self._watch.changed():
            self._stale = True
        return self._stale

    def _current(self) -> Roster:
        now = self._clock.seconds()
        if now >= self._next_look:
            self._next_look = now + LOOK_INTERVAL
            try:
                if self._look():
                    self.refresh().addErrback(self._log_failure)
            except sqlite3.Error:
                self._log_failure(Failure())
        return self._roster

    def _unread(self, failure: Failure) -> Failure:
        self._stale = True
        return failure

    def _log_failure(self, failure: Failure) -> None:
        # Mail is still taken for those who were there before; the next look tries again.
        self.log.failure("directory.refresh", failure, event="directory.refresh.failed")

    def _take(self, roster: Roster) -> None:
        if roster.generation > self._roster.generation:
            self._roster = roster
            self._notify(None)

    def _change(
        self,
        change: str,
        entry: object,
        apply: Callable[[Roster, Any], None],
        function: Callable[..., tuple[int, Any]],
        *arguments: Any,
    ) -> Deferred[Any]:
        def took(answer: tuple[int, Any]) -> Any:
            generation, value = answer
            self.log.info(event="directory.changed", change=change, entry=str(entry))
            if generation == self._roster.generation + 1:
                apply(self._roster, value)
                self._roster.generation = generation
                return value
            # Another process committed between; read it all.
            return self.refresh().addCallback(lambda _: value)

        return self._defer(function, *arguments).addCallback(took)

    def _credentials_changed(self, value: object, account_id: AccountID) -> None:
        self._notify(account_id)

    def _notify(self, account_id: AccountID | None) -> None:
        for listener in self._listeners:
            listener(account_id)

    def _listed(
        self, domain: str | None, select: Callable[[str | None], tuple[T, ...]]
    ) -> Deferred[tuple[T, ...]]:
        if domain is None:
            return succeed(select(None))
        try:
            name = parse_domain(domain)
        except SyntaxFault as fault:
            return fail(fault)
        if all(each.name != name for each in self._roster.domains()):
            return fail(NoSuchEntry(f"there is no domain {name}"))
        return succeed(select(name))

    def _login_address(self, name: str) -> Address | None:
        domain = self._roster.only_domain
        try:
            if "@" not in name and domain is not None:
                return Address.parse(f"{name}@{domain}")
            return Address.parse(name)
        except SyntaxFault:
            return None

    def _find(self, name: str) -> Identity | None:
        address = self._login_address(name)
        return None if address is None else self._roster.identity_of(address)


def _account_of(identity: Identity) -> Account:
    return identity.account


def _nothing(value: object) -> None:
    return None
