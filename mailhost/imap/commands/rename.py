"""RENAME (RFC 9051 6.3.6)."""

from __future__ import annotations

from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


async def run(session: IMAPSession, command: grammar.Rename) -> Answer:
    """Rename a mailbox and all below it; INBOX is emptied into a new one instead."""
    mailbox_id = await session.mailbox_id(command.mailbox)
    await session.mail().rename(mailbox_id, command.new_name.removesuffix("/"))
    session.touched(mailbox_id)
    return b"OK RENAME completed"


COMMAND = CommandEntry(b"RENAME", grammar.rename, run, LOGGED_IN)
