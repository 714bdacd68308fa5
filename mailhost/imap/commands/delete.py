"""DELETE (RFC 9051 6.3.5)."""

from __future__ import annotations

from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


async def run(session: IMAPSession, command: grammar.Mailbox) -> Answer:
    """Delete a mailbox; names below it stay."""
    if command.mailbox == "INBOX":
        return b"NO [CANNOT] INBOX cannot be deleted"
    mailbox_id = await session.mailbox_id(command.mailbox)
    await session.mail().delete(mailbox_id)
    if session.mailbox is not None and session.mailbox.mailbox_id == mailbox_id:
        session.close_mailbox()
    return b"OK DELETE completed"


COMMAND = CommandEntry(b"DELETE", grammar.mailbox, run, LOGGED_IN)
