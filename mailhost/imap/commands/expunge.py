"""EXPUNGE and UID EXPUNGE (RFC 9051 6.4.3, 6.4.9, RFC 4315)."""

from __future__ import annotations

from mailhost.imap.entry import Answer, CommandEntry, State, offered
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


async def run(session: IMAPSession, command: grammar.Expunge) -> Answer:
    """Remove the messages that have \\Deleted, all of them or those in a set."""
    mailbox, view = session.writable_mailbox()
    uids = None if command.uids is None else view.select(command.uids, True)
    result = await mailbox.expunge(uids)
    session.write_expunges(view.remove(result.uids))
    if session.condstore and result.uids:
        # RFC 7162 3.2.7
        return b"OK [HIGHESTMODSEQ %d] EXPUNGE completed" % result.highest_mod_seq
    return b"OK EXPUNGE completed"


EXPUNGE = CommandEntry(b"EXPUNGE", grammar.expunge, run, State.SELECTED)
UID_EXPUNGE = CommandEntry(
    b"UID EXPUNGE",
    grammar.expunge_uids,
    run,
    State.SELECTED,
    capabilities=offered(b"UIDPLUS"),
)
