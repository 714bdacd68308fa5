"""
All domains, accounts and aliases in memory, and what an address becomes.

A `Roster` is built from the database on a thread and then belongs to the event thread, which
applies each later change to it; no look-up waits for anything.

How an address is understood, first match counts:

1. an account or alias of exactly this address, case not considered;
2. at one of the server's own names (host name, address literals), the same local part in the
   default domain;
3. ``user+tag`` as ``user``;
4. ``postmaster`` in a domain that has none (RFC 5321 4.5.1): postmaster of the default domain,
   else the oldest enabled account of the domain, else the oldest enabled account of all. The same
   when an account of that name is disabled.

An alias that leads back to itself adds nothing, so that one with no other target is UNKNOWN.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from mailhost.address import Address
from mailhost.interfaces.directory import Account, AddressClass, Alias, Classification, Domain
from mailhost.interfaces.spool import LocalTarget
from mailhost.units import AccountID

POSTMASTER = "postmaster"

UNKNOWN = Classification(AddressClass.UNKNOWN)
DISABLED = Classification(AddressClass.DISABLED)


def lookup_key(address: Address) -> str:
    """The form under which an address is kept and looked up: case and composition do not count."""
    if address.local_part.isascii():
        return address.key
    folded = unicodedata.normalize("NFC", address.local_part).casefold()
    return f"{unicodedata.normalize('NFC', folded)}@{address.domain}"


@dataclass(frozen=True, slots=True)
class Identity:
    """
    An account as a login sees it.

    Args:
        version: of its credentials; a proof for another version is worth nothing.
    """

    account: Account
    version: int


@dataclass(frozen=True, slots=True)
class OwnNames:
    """
    Names of this server itself.

    Args:
        hosts: host names and address literals (``[192.0.2.1]``) as an Address has them.
        default_domain: where their mail goes; empty: the domain that a host name lies in, else
            the oldest domain.
        separator: between user and tag; empty: there are no tags.
    """

    hosts: frozenset[str] = frozenset()
    default_domain: str = ""
    separator: str = "+"


@dataclass(slots=True)
class _Expansion:
    accounts: dict[AccountID, None] = field(default_factory=dict)
    remote: dict[Address, None] = field(default_factory=dict)
    disabled: bool = False


class Roster:
    """
    Everything the directory knows, without secrets.

    Args:
        generation: of the database when it was read.
    """

    def __init__(
        self,
        names: OwnNames,
        generation: int = 0,
        domains: Iterable[Domain] = (),
        identities: Iterable[Identity] = (),
        aliases: Iterable[Alias] = (),
    ) -> None:
        self.generation = generation
        self._names = names
        self._domains = {domain.name: domain for domain in domains}
        self._by_id = {identity.account.account_id: identity for identity in identities}
        self._by_key: dict[str, Identity] = {}
        self._direct: dict[str, Classification] = {}
        for identity in self._by_id.values():
            self._enter(identity)
        self._aliases = {lookup_key(alias.address): alias for alias in aliases}
        # What is worked out from the above; emptied by every change.
        self._expanded: dict[str, _Expansion] = {}
        self._oldest: dict[str, AccountID] | None = None
        self._default_domain: str | None = None

    # Changes, each after its commit.

    def put_domain(self, domain: Domain) -> None:
        """Add a domain."""
        self._domains[domain.name] = domain
        self._changed()

    def remove_domain(self, name: str) -> None:
        """Remove a domain that nothing uses."""
        self._domains.pop(name, None)
        self._changed()

    def put_account(self, identity: Identity) -> None:
        """Add an account, or replace what is known of it."""
        self._by_id[identity.account.account_id] = identity
        self._enter(identity)
        self._changed()

    def remove_account(self, account_id: AccountID) -> None:
        """Remove an account."""
        identity = self._by_id.pop(account_id, None)
        if identity is not None:
            key = lookup_key(identity.account.address)
            del self._by_key[key], self._direct[key]
        self._changed()

    def put_alias(self, alias: Alias) -> None:
        """Add an alias."""
        self._aliases[lookup_key(alias.address)] = alias
        self._changed()

    def remove_alias(self, address: Address) -> None:
        """Remove an alias."""
        self._aliases.pop(lookup_key(address), None)
        self._changed()

    def _enter(self, identity: Identity) -> None:
        account = identity.account
        key = lookup_key(account.address)
        self._by_key[key] = identity
        self._direct[key] = (
            Classification(AddressClass.LOCAL, (LocalTarget(account.account_id),))
            if account.enabled
            else DISABLED
        )

    def _changed(self) -> None:
        self._expanded.clear()
        self._oldest = None
        self._default_domain = None

    # Look-ups.

    def domains(self) -> tuple[Domain, ...]:
        """All domains, by name."""
        return tuple(self._domains[name] for name in sorted(self._domains))

    def accounts(self, domain: str | None) -> tuple[Account, ...]:
        """All accounts, or those of a domain, by address."""
        found = [
            identity.account
            for identity in self._by_id.values()
            if domain is None or identity.account.address.domain == domain
        ]
        return tuple(sorted(found, key=lambda account: _order(account.address)))

    def aliases(self, domain: str | None) -> tuple[Alias, ...]:
        """All aliases, or those of a domain, by address."""
        found = [
            alias
            for alias in self._aliases.values()
            if domain is None or alias.address.domain == domain
        ]
        return tuple(sorted(found, key=lambda alias: _order(alias.address)))

    def identity(self, account_id: AccountID) -> Identity | None:
        """The account of an id."""
        return self._by_id.get(account_id)

    def identity_of(self, address: Address) -> Identity | None:
        """The account whose primary address this is."""
        return self._by_key.get(lookup_key(address))

    def is_local(self, domain: str) -> bool:
        """Whether mail for the domain is for us."""
        return domain in self._domains or (domain in self._names.hosts and bool(self._domains))

    @property
    def only_domain(self) -> str | None:
        """The name of the only domain, or None if there is not exactly one."""
        return next(iter(self._domains)) if len(self._domains) == 1 else None

    @property
    def default_domain(self) -> str:
        """Where mail for the server's own names goes; empty while there is no domain."""
        if self._default_domain is None:
            self._default_domain = self._choose_default_domain()
        return self._default_domain

    def classify(self, address: Address) -> Classification:
        """Say what mail for the address becomes; see the module's text."""
        direct = self._direct.get(lookup_key(address))
        if direct is not None and (
            direct is not DISABLED or address.local_part.lower() != POSTMASTER
        ):
            return direct
        if not self.is_local(address.domain):
            return Classification(AddressClass.REMOTE, remote=(address,))
        found = self._expand(address)
        if not found.accounts and not found.remote:
            return DISABLED if found.disabled else UNKNOWN
        return Classification(
            AddressClass.LOCAL,
            tuple(LocalTarget(account_id, delivered_to=address) for account_id in found.accounts),
            tuple(found.remote),
        )

    def _expand(self, address: Address) -> _Expansion:
        # Only aliases are remembered: a peer chooses tags, and memory must not grow with them.
        key = lookup_key(address)
        found = self._expanded.get(key)
        if found is None:
            found = _Expansion()
            self._follow(address, found)
            if key in self._aliases:
                self._expanded[key] = found
        return found

    def _follow(self, start: Address, found: _Expansion) -> None:
        waiting = [start]
        seen: set[str] = set()
        while waiting:
            address = waiting.pop()
            key = lookup_key(address)
            if key in seen:
                continue
            seen.add(key)
            waiting.extend(self._step(address, key, found))

    def _step(self, address: Address, key: str, found: _Expansion) -> tuple[Address, ...]:
        # What is to be looked at next, in reverse order; or the expansion grows.
        identity = self._by_key.get(key)
        if identity is not None and identity.account.enabled:
            found.accounts[identity.account.account_id] = None
            return ()
        if identity is not None and address.local_part.lower() != POSTMASTER:
            found.disabled = True
            return ()
        alias = self._aliases.get(key)
        if alias is not None:
            return alias.targets[::-1]
        if not self.is_local(address.domain):
            found.remote[address] = None
            return ()
        if address.domain not in self._domains:
            return (Address(address.local_part, self.default_domain),)
        user, tag, _ = (
            address.local_part.partition(self._names.separator)
            if self._names.separator
            else (address.local_part, "", "")
        )
        if user and tag:
            return (Address(user, address.domain),)
        if address.local_part.lower() == POSTMASTER:
            return self._postmaster(address.domain, found)
        return ()

    def _postmaster(self, domain: str, found: _Expansion) -> tuple[Address, ...]:
        if domain != self.default_domain:
            there = Address(POSTMASTER, self.default_domain)
            identity = self._by_key.get(there.key)
            if there.key in self._aliases or (identity is not None and identity.account.enabled):
                return (there,)
        if self._oldest is None:
            self._oldest = self._find_oldest()
        oldest = self._oldest.get(domain) or self._oldest.get("")
        if oldest is not None:
            found.accounts[oldest] = None
        return ()

    def _find_oldest(self) -> dict[str, AccountID]:
        oldest: dict[str, AccountID] = {}
        for identity in sorted(
            self._by_id.values(),
            key=lambda each: (each.account.created_at, each.account.account_id),
        ):
            if identity.account.enabled:
                oldest.setdefault(identity.account.address.domain, identity.account.account_id)
                oldest.setdefault("", identity.account.account_id)
        return oldest

    def _choose_default_domain(self) -> str:
        if self._names.default_domain in self._domains:
            return self._names.default_domain
        around = [
            name
            for name in self._domains
            for host in self._names.hosts
            if host == name or host.endswith("." + name)
        ]
        if around:
            return max(around, key=lambda name: (len(name), name))
        return min(
            self._domains, key=lambda name: (self._domains[name].created_at, name), default=""
        )


def _order(address: Address) -> tuple[str, str]:
    return address.domain, lookup_key(address)
