"""
Which recipients are taken: mail from elsewhere for ourselves only, so that this is no open relay.

Nothing but a login lets anybody send to other domains: neither the client's address nor the form
of the recipient's. A source route was dropped by the grammar, so that what it leads to is judged
(RFC 5321 3.3, C); ``%`` and ``!`` in a local part mean nothing here, and no address of ours has
them (R-73). What is refused is refused at RCPT, never bounced later (R-74).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.address import Address
from mailhost.interfaces.directory import (
    AddressClass,
    Classification,
    IDirectory,
    IRecipientPolicy,
)
from mailhost.interfaces.login import ISubmission
from mailhost.interfaces.spool import Recipient
from mailhost.reply import Reply

UNKNOWN = Reply.of(550, "5.1.1", "No such mailbox here")
DENIED = Reply.of(550, "5.7.1", "Relaying denied")
DISABLED = Reply.of(550, "5.2.1", "Mailbox disabled")
DISABLED_FOR_NOW = Reply.of(450, "4.2.1", "Mailbox disabled, try later")

Ruling: TypeAlias = Recipient | Reply


def refusal(address_class: AddressClass, *, disabled_is_temporary: bool = False) -> Reply:
    """Return the reply for an address of ours that takes no mail."""
    if address_class is AddressClass.DISABLED:
        return DISABLED_FOR_NOW if disabled_is_temporary else DISABLED
    return UNKNOWN


def when_classified(
    directory: IDirectory,
    address: Address,
    rule: Callable[[Classification], Ruling | Deferred[Ruling]],
) -> Ruling | Deferred[Ruling]:
    """Return what the rule makes of an address's class, at once if the directory knows at once."""
    found = directory.classify(address)
    if isinstance(found, Deferred):
        return found.addCallback(rule)
    return rule(found)


@implementer(IRecipientPolicy)
class RecipientPolicy:
    """
    The policy of a server on the Internet.

    Args:
        directory: says what each address is.
        disabled_is_temporary: mail for a disabled account is to be tried again later.
    """

    def __init__(self, directory: IDirectory, *, disabled_is_temporary: bool = False) -> None:
        self._directory = directory
        self._disabled_is_temporary = disabled_is_temporary

    def recipient(
        self, forward_path: Address, submission: ISubmission | None
    ) -> Ruling | Deferred[Ruling]:
        """Accept the recipient with what it expands to, or refuse it with a reply."""
        return when_classified(
            self._directory, forward_path, lambda found: self._rule(found, forward_path, submission)
        )

    def _rule(
        self, found: Classification, forward_path: Address, submission: ISubmission | None
    ) -> Ruling:
        if found.address_class is AddressClass.LOCAL:
            return Recipient(forward_path, found.local, found.remote)
        if found.address_class is AddressClass.REMOTE:
            if submission is None:
                return DENIED
            return Recipient(forward_path, remote=(forward_path,))
        return refusal(found.address_class, disabled_is_temporary=self._disabled_is_temporary)
