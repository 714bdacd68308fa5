"""MOVE and UID MOVE (RFC 9051 6.4.8, RFC 6851)."""

from __future__ import annotations

from mailhost.errors import NoSuchMailbox
from mailhost.imap.commands.copy import copy_uid, target
from mailhost.imap.entry import Answer, CommandEntry, State, offered
from mailhost.imap.refusals import TRY_CREATE, No
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


async def run(session: IMAPSession, command: grammar.Copy) -> Answer:
    """Move messages to the end of another mailbox, all or none."""
    mailbox, view = session.writable_mailbox()
    uids = view.select(command.numbers, command.uid)
    mailbox_id = await target(session, command.mailbox)
    if not uids:
        return b"OK MOVE completed"
    try:
        result = await mailbox.move(uids, mailbox_id)
    except NoSuchMailbox:
        raise No(TRY_CREATE) from None
    session.touched(mailbox_id)
    if not result.source:
        return b"NO [EXPUNGEISSUED] The messages no longer exist"
    # RFC 6851 4.3: where they went is said before they are gone.
    session.write(b"* OK %b Moved\r\n" % copy_uid(result))
    session.write_expunges(view.remove(result.source))
    if session.condstore:
        return b"OK [HIGHESTMODSEQ %d] MOVE completed" % result.highest_mod_seq
    return b"OK MOVE completed"


MOVE = CommandEntry(
    b"MOVE", grammar.copy(False), run, State.SELECTED, capabilities=offered(b"MOVE")
)
UID_MOVE = CommandEntry(b"UID MOVE", grammar.copy(True), run, State.SELECTED)
