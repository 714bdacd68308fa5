"""The cred realm: what an account, or the operator, gets to work with after a login."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from twisted.cred.portal import IRealm
from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.address import Address
from mailhost.directory.checkers import OPERATOR, AccountDisabled
from mailhost.directory.credentials import CredentialSource
from mailhost.interfaces.access import IMailAccess, IMailStore
from mailhost.interfaces.directory import Account, IDirectory
from mailhost.interfaces.login import IAdministration, ISubmission
from mailhost.interfaces.spool import IQueue
from mailhost.units import AccountID

Granted: TypeAlias = tuple[Any, Any, Callable[[], None]]


@implementer(ISubmission)
@dataclass(frozen=True, slots=True)
class Submission:
    """The avatar of an account that sends mail."""

    account_id: AccountID
    address: Address
    directory: IDirectory

    def may_send_as(self, address: Address) -> bool | Deferred[bool]:
        """Whether the account may use the address as reverse-path or From."""
        return self.directory.may_send_as(self.account_id, address)


@implementer(IAdministration)
@dataclass(frozen=True, slots=True)
class Administration:
    """The avatar of an administrator, and what an administrator's command works on."""

    directory: IDirectory
    queue: IQueue


@implementer(IRealm)
class Realm:
    """
    Gives avatars.

    Args:
        source: knows the accounts of avatar ids; usually the directory itself.
        mail: all accounts' mail.
        queue: for the operator.
    """

    def __init__(
        self, source: CredentialSource, directory: IDirectory, mail: IMailStore, queue: IQueue
    ) -> None:
        self._source = source
        self._directory = directory
        self._mail = mail
        self._administration = Administration(directory, queue)
        self._granted: Mapping[Any, Callable[[Account], Any]] = {
            ISubmission: self._submission,
            IMailAccess: self._mail_access,
        }

    def requestAvatar(
        self,
        avatarId: Any,  # noqa: N803 - cred's name
        mind: Any,
        *interfaces: Any,
    ) -> Granted | Deferred[Granted]:
        """
        Return interface, avatar and logout for the first interface that can be had.

        Raises:
            NotImplementedError: the avatar id has none of them.
            AccountDisabled: the account was disabled or deleted a moment ago.
        """
        if avatarId == OPERATOR:
            if IAdministration in interfaces:
                return IAdministration, self._administration, _nothing
            raise NotImplementedError("the operator only administers")
        identity = self._source.current(avatarId)
        if identity is None or not identity.account.enabled:
            raise AccountDisabled("account disabled")
        for interface in interfaces:
            grant = self._granted.get(interface)
            if grant is not None:
                avatar = grant(identity.account)
                if isinstance(avatar, Deferred):
                    return avatar.addCallback(_grant, interface)
                return _grant(avatar, interface)
        raise NotImplementedError("an account sends and reads mail")

    def _submission(self, account: Account) -> ISubmission:
        return Submission(account.account_id, account.address, self._directory)

    def _mail_access(self, account: Account) -> IMailAccess | Deferred[IMailAccess]:
        return self._mail.access(account.account_id, account.address)


def _grant(avatar: Any, interface: Any) -> Granted:
    return interface, avatar, _nothing


def _nothing() -> None:
    return None
