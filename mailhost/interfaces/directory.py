"""Who exists, and which recipients are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from twisted.internet.defer import Deferred
from zope.interface import Interface

from mailhost.address import Address
from mailhost.interfaces.login import ISubmission
from mailhost.interfaces.spool import LocalTarget, Recipient
from mailhost.reply import Reply
from mailhost.units import AccountID


class AddressClass(Enum):
    """What the directory knows of an address."""

    LOCAL = "local"
    """Mail for it goes to accounts here, or through an alias to other addresses too."""
    REMOTE = "remote"
    """Its domain is not ours."""
    UNKNOWN = "unknown"
    """Its domain is ours, the address does not exist."""
    DISABLED = "disabled"
    """Its account exists and takes no mail now."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The class of an address, and the accounts and outside addresses it expands to."""

    address_class: AddressClass
    local: tuple[LocalTarget, ...] = ()
    remote: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain whose mail we keep; `name` is the A-label form."""

    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Account:
    """A person or program that can log in and receive mail."""

    account_id: AccountID
    address: Address
    display_name: str
    enabled: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class Alias:
    """An address whose mail goes to other addresses, ours or not."""

    address: Address
    targets: tuple[Address, ...]
    created_at: float


class IDirectory(Interface):
    """Who exists. Reads answer at once from memory or Deferred; changes are durable when fired."""

    def classify(address: Address) -> Classification | Deferred[Classification]:
        """Say what mail for the address becomes. Aliases are followed, loops end as UNKNOWN."""

    def is_local_domain(domain: str) -> bool | Deferred[bool]:
        """Whether we keep mail for the domain."""

    def may_send_as(account_id: AccountID, address: Address) -> bool | Deferred[bool]:
        """Whether the account owns the address: its own, or an alias that leads to it alone."""

    def account(account_id: AccountID) -> Deferred[Account]:
        """The account, or NoSuchEntry."""

    def account_by_address(address: Address) -> Deferred[Account]:
        """The account whose primary address this is, or NoSuchEntry."""

    def accounts(domain: str | None = None) -> Deferred[tuple[Account, ...]]:
        """All accounts, or those of a domain, by address."""

    def add_account(address: Address, password: str, display_name: str = "") -> Deferred[Account]:
        """Create an account in an existing domain: EntryExists, NoSuchEntry."""

    def set_password(account_id: AccountID, password: str) -> Deferred[None]:
        """Replace the password; every cached proof of the old one is forgotten."""

    def set_enabled(account_id: AccountID, enabled: bool) -> Deferred[None]:
        """Allow or forbid logins and mail."""

    def delete_account(account_id: AccountID) -> Deferred[None]:
        """Remove the account from the directory; its mail stays on disk under its id."""

    def domains() -> Deferred[tuple[Domain, ...]]:
        """All domains, by name."""

    def add_domain(name: str) -> Deferred[Domain]:
        """Take a domain: EntryExists."""

    def delete_domain(name: str) -> Deferred[None]:
        """Give up a domain: NoSuchEntry, or DirectoryError while accounts or aliases use it."""

    def aliases(domain: str | None = None) -> Deferred[tuple[Alias, ...]]:
        """All aliases, or those of a domain, by address."""

    def add_alias(address: Address, targets: Sequence[Address]) -> Deferred[Alias]:
        """Create an alias in an existing domain: EntryExists, NoSuchEntry."""

    def delete_alias(address: Address) -> Deferred[None]:
        """Remove an alias: NoSuchEntry."""


class IRecipientPolicy(Interface):
    """Decides about each RCPT."""

    def recipient(
        forward_path: Address, submission: ISubmission | None
    ) -> Recipient | Reply | Deferred[Recipient | Reply]:
        """
        Accept the recipient with what it expands to, or refuse it with a reply.

        `submission` is who logged in, None for mail from elsewhere: such mail is taken for our own
        domains only, so that this is no open relay.
        """
