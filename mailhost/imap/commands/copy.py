"""COPY and UID COPY (RFC 9051 6.4.7, RFC 4315 3)."""

from __future__ import annotations

from mailhost.errors import NoSuchMailbox
from mailhost.imap.entry import Answer, CommandEntry, State
from mailhost.imap.refusals import TRY_CREATE, No
from mailhost.imap.session import IMAPSession
from mailhost.interfaces.access import CopyResult
from mailhost.units import MailboxID
from mailhost.wire.imap import commands as grammar
from mailhost.wire.imap import sequence_set


async def target(session: IMAPSession, name: str) -> MailboxID:
    """Return the mailbox that messages are to go to; NO [TRYCREATE] if there is none."""
    try:
        return await session.mailbox_id(name)
    except NoSuchMailbox:
        raise No(TRY_CREATE) from None


def copy_uid(result: CopyResult) -> bytes:
    """Return the COPYUID response code (RFC 4315 3)."""
    return b"[COPYUID %d %b %b]" % (
        result.uid_validity,
        sequence_set.encode(result.source),
        sequence_set.encode(result.copies),
    )


async def run(session: IMAPSession, command: grammar.Copy) -> Answer:
    """Copy messages to the end of another mailbox, all or none."""
    mailbox, view = session.selected()
    uids = view.select(command.numbers, command.uid)
    mailbox_id = await target(session, command.mailbox)
    if not uids:
        return b"OK COPY completed"
    try:
        result = await mailbox.copy(uids, mailbox_id)
    except NoSuchMailbox:
        raise No(TRY_CREATE) from None
    session.touched(mailbox_id)
    if not result.source:
        return b"NO [EXPUNGEISSUED] The messages no longer exist"
    return b"OK %b COPY completed" % copy_uid(result)


COPY = CommandEntry(b"COPY", grammar.copy(False), run, State.SELECTED)
UID_COPY = CommandEntry(b"UID COPY", grammar.copy(True), run, State.SELECTED)
