"""CLOSE and UNSELECT (RFC 9051 6.4.1, 6.4.2)."""

from __future__ import annotations

from mailhost.imap.entry import Answer, CommandEntry, State, offered
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


async def close(session: IMAPSession, command: grammar.Plain) -> Answer:
    """Remove what has \\Deleted, without a word of it, and leave the mailbox."""
    mailbox, _ = session.selected()
    try:
        if not mailbox.read_only:
            await mailbox.expunge(None)
    finally:
        session.close_mailbox()
    return b"OK CLOSE completed"


def unselect(session: IMAPSession, command: grammar.Plain) -> Answer:
    """Leave the mailbox as it is."""
    session.close_mailbox()
    return b"OK UNSELECT completed"


CLOSE = CommandEntry(b"CLOSE", grammar.plain, close, State.SELECTED)
UNSELECT = CommandEntry(
    b"UNSELECT", grammar.plain, unselect, State.SELECTED, capabilities=offered(b"UNSELECT")
)
