"""
The recipients' policy of local mode: nothing ever leaves this machine.

Mail for any domain that is not ours is delivered here: into the INBOX of who sent it, or of a
named account when nobody logged in, with the original recipient in Delivered-To. The same becomes
of outside targets of aliases. No `Recipient` that this policy gives has a remote address.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.address import Address
from mailhost.directory.recipient_policy import Ruling, refusal, when_classified
from mailhost.interfaces.directory import AddressClass, Classification, IDirectory, IRecipientPolicy
from mailhost.interfaces.login import ISubmission
from mailhost.interfaces.spool import LocalTarget, Recipient
from mailhost.reply import Reply

NOBODY_TO_TAKE_IT = Reply.of(450, "4.2.1", "No mailbox takes mail for other domains now")


@implementer(IRecipientPolicy)
class CapturePolicy:
    """
    Captures mail for the outside.

    Args:
        directory: says what each address is.
        taker: whose INBOX gets the mail of senders who did not log in, e.g. ``demo@localhost``.
    """

    def __init__(self, directory: IDirectory, taker: Address) -> None:
        self._directory = directory
        self._taker = taker

    def recipient(
        self, forward_path: Address, submission: ISubmission | None
    ) -> Ruling | Deferred[Ruling]:
        """Accept the recipient with local places only, or refuse it with a reply."""
        return when_classified(
            self._directory, forward_path, lambda found: self._rule(found, forward_path, submission)
        )

    def _rule(
        self, found: Classification, forward_path: Address, submission: ISubmission | None
    ) -> Ruling | Deferred[Ruling]:
        if found.address_class in (AddressClass.UNKNOWN, AddressClass.DISABLED):
            return refusal(found.address_class)
        outside = (forward_path,) if found.address_class is AddressClass.REMOTE else found.remote
        kept = Recipient(forward_path, found.local)
        if not outside:
            return kept
        if submission is not None:
            return _with(kept, (LocalTarget(submission.account_id),), outside)
        return when_classified(
            self._directory, self._taker, lambda takers: _with(kept, takers.local, outside)
        )


def _with(kept: Recipient, takers: tuple[LocalTarget, ...], outside: tuple[Address, ...]) -> Ruling:
    # One copy for each outside address: Delivered-To says which it was for.
    if not takers:
        return NOBODY_TO_TAKE_IT
    captured = tuple(
        LocalTarget(taker.account_id, delivered_to=address)
        for taker in takers
        for address in outside
    )
    return Recipient(kept.forward_path, kept.local + captured)
