"""
The one place where errors become tagged responses (RFC 9051 7.1, RFC 5530).

Their text never reaches the client. What is no error of `mailhost.errors` is our own bug:
NO [SERVERBUG], and the session lives.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from mailhost import errors
from mailhost.imap.entry import Answer
from mailhost.interfaces.login import LoginFailure
from mailhost.wire.imap.search_keys import CHARSETS, BadCharset


class Gone(errors.MailhostError):
    """The connection is lost: whatever runs for it has to end."""


class No(errors.MailhostError):
    """
    A command is refused in words of its own.

    Args:
        answer: the tagged response without the tag, such as ``NO [CANNOT] Not this one``.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.decode("ascii", "replace"))
        self.answer = answer


TRY_CREATE = b"NO [TRYCREATE] No such mailbox"
READ_ONLY = b"NO [READ-ONLY] The mailbox is open read-only"

_ANSWERS: tuple[tuple[type[BaseException], Answer], ...] = (
    (errors.NoSuchMailbox, b"NO [NONEXISTENT] No such mailbox"),
    (errors.MailboxExists, b"NO [ALREADYEXISTS] The mailbox exists already"),
    (errors.MailboxNameRefused, b"NO [CANNOT] Not a name for a mailbox"),
    (errors.MailboxReadOnly, b"NO [CANNOT] This mailbox cannot be changed so"),
    (errors.QuotaExceeded, b"NO [OVERQUOTA] Quota exceeded"),
    (errors.SpoolFull, b"NO [OVERQUOTA] No room on this server, try later"),
    (errors.MessageDamaged, b"NO [CORRUPTION] A message is damaged"),
    (errors.NoSuchEntry, b"NO [EXPUNGEISSUED] The message no longer exists"),
    (
        BadCharset,
        b"NO [BADCHARSET (" + b" ".join(CHARSETS) + b")] Charset not supported",
    ),
    (errors.StorageError, b"NO [UNAVAILABLE] Not possible now, try later"),
    (errors.SpoolFault, b"NO [UNAVAILABLE] Not possible now, try later"),
    (errors.DirectoryError, b"NO [UNAVAILABLE] Not possible now, try later"),
    (errors.ResolverFault, b"NO [UNAVAILABLE] Not possible now, try later"),
    (Gone, b"NO [UNAVAILABLE] The connection is lost"),
    (CancelledError, b"NO [UNAVAILABLE] Not possible now, try later"),
)
BUG = b"NO [SERVERBUG] Internal error"


def answer_for(error: BaseException) -> Answer:
    """Return the tagged response for an error; `BUG` for one that nobody meant to raise."""
    if isinstance(error, No):
        return error.answer
    if isinstance(error, errors.SyntaxFault):
        return b"BAD Syntax error in arguments"
    for kind, answer in _ANSWERS:
        if isinstance(error, kind):
            return answer
    return BUG


LOGIN_FAILURES: dict[LoginFailure, Answer] = {
    LoginFailure.CREDENTIALS: b"NO [AUTHENTICATIONFAILED] Authentication failed",
    LoginFailure.DISABLED: b"NO [AUTHENTICATIONFAILED] Authentication failed",
    LoginFailure.MALFORMED: b"BAD Malformed SASL exchange",
    LoginFailure.CANCELLED: b"BAD Authentication cancelled",
    LoginFailure.TEMPORARY: b"NO [UNAVAILABLE] Temporary authentication failure",
    LoginFailure.ENCRYPTION_NEEDED: b"NO [PRIVACYREQUIRED] Encryption needed",
}
