"""Stand-ins for the other side of each seam; `tests.contracts` holds them to the real thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, execute
from zope.interface import implementer

from mailhost.address import Address, parse_domain
from mailhost.directory.passwords import check_password
from mailhost.directory.roster import Identity, OwnNames, Roster
from mailhost.errors import DirectoryError, EntryExists, NoSuchEntry
from mailhost.interfaces.directory import (
    Account,
    AddressClass,
    Alias,
    Classification,
    Domain,
    IDirectory,
)
from mailhost.units import AccountID

# --- Directory --------------------------------------------------------------------------------


@implementer(IDirectory)
class FakeDirectory:
    """A directory without a database; `passwords` shows what was set, by account id."""

    def __init__(self, names: OwnNames | None = None) -> None:
        self.roster = Roster(names or OwnNames())
        self.passwords: dict[AccountID, str] = {}
        self._made = 0.0

    def classify(self, address: Address) -> Classification:
        return self.roster.classify(address)

    def is_local_domain(self, domain: str) -> bool:
        return self.roster.is_local(domain)

    def may_send_as(self, account_id: AccountID, address: Address) -> bool:
        found = self.classify(address)
        owners = [target.account_id for target in found.local]
        return found.address_class is AddressClass.LOCAL and (owners, found.remote) == (
            [account_id],
            (),
        )

    def account(self, account_id: AccountID) -> Deferred[Account]:
        return execute(lambda: self._identity(account_id).account)

    def account_by_address(self, address: Address) -> Deferred[Account]:
        def find() -> Account:
            identity = self.roster.identity_of(address)
            if identity is None:
                raise NoSuchEntry(str(address))
            return identity.account

        return execute(find)

    def accounts(self, domain: str | None = None) -> Deferred[tuple[Account, ...]]:
        return execute(lambda: self.roster.accounts(self._known(domain)))

    def add_account(
        self, address: Address, password: str, display_name: str = ""
    ) -> Deferred[Account]:
        def add() -> Account:
            self._free(address)
            check_password(password)
            account_id = AccountID(f"account{int(self._next()):019d}")
            account = Account(account_id, address, display_name, True, self._made)
            self.roster.put_account(Identity(account, 1))
            self.passwords[account_id] = password
            return account

        return execute(add)

    def set_password(self, account_id: AccountID, password: str) -> Deferred[None]:
        def replace() -> None:
            self._identity(account_id)
            self.passwords[account_id] = check_password(password)

        return execute(replace)

    def set_enabled(self, account_id: AccountID, enabled: bool) -> Deferred[None]:
        def change() -> None:
            old = self._identity(account_id)
            was = old.account
            account = Account(account_id, was.address, was.display_name, enabled, was.created_at)
            self.roster.put_account(Identity(account, old.version + 1))

        return execute(change)

    def delete_account(self, account_id: AccountID) -> Deferred[None]:
        def delete() -> None:
            self._identity(account_id)
            self.roster.remove_account(account_id)

        return execute(delete)

    def domains(self) -> Deferred[tuple[Domain, ...]]:
        return execute(self.roster.domains)

    def add_domain(self, name: str) -> Deferred[Domain]:
        def add() -> Domain:
            domain = Domain(parse_domain(name), self._next())
            if domain.name.startswith("["):
                raise DirectoryError(name)
            if domain.name in self._names():
                raise EntryExists(name)
            self.roster.put_domain(domain)
            return domain

        return execute(add)

    def delete_domain(self, name: str) -> Deferred[None]:
        def delete() -> None:
            known = self._known(name)
            if self.roster.accounts(known) or self.roster.aliases(known):
                raise DirectoryError(f"{known} is in use")
            self.roster.remove_domain(str(known))

        return execute(delete)

    def aliases(self, domain: str | None = None) -> Deferred[tuple[Alias, ...]]:
        return execute(lambda: self.roster.aliases(self._known(domain)))

    def add_alias(self, address: Address, targets: Sequence[Address]) -> Deferred[Alias]:
        def add() -> Alias:
            self._free(address)
            distinct = {target.key: target for target in targets}
            if not distinct or address.key in distinct:
                raise DirectoryError(str(address))
            alias = Alias(address, tuple(distinct.values()), self._next())
            self.roster.put_alias(alias)
            return alias

        return execute(add)

    def delete_alias(self, address: Address) -> Deferred[None]:
        def delete() -> None:
            if all(alias.address.key != address.key for alias in self.roster.aliases(None)):
                raise NoSuchEntry(str(address))
            self.roster.remove_alias(address)

        return execute(delete)

    def _names(self) -> list[str]:
        return [domain.name for domain in self.roster.domains()]

    def _next(self) -> float:
        self._made += 1
        return self._made

    def _known(self, domain: str | None) -> str | None:
        if domain is None:
            return None
        name = parse_domain(domain)
        if name not in self._names():
            raise NoSuchEntry(name)
        return name

    def _free(self, address: Address) -> None:
        if set("%!@").intersection(address.local_part):
            raise DirectoryError(str(address))
        self._known(address.domain)
        keys: list[Any] = [*self.roster.accounts(None), *self.roster.aliases(None)]
        if any(entry.address.key == address.key for entry in keys):
            raise EntryExists(str(address))

    def _identity(self, account_id: AccountID) -> Identity:
        identity = self.roster.identity(account_id)
        if identity is None:
            raise NoSuchEntry(account_id)
        return identity
