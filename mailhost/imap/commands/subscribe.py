"""SUBSCRIBE and UNSUBSCRIBE (RFC 9051 6.3.7, 6.3.8)."""

from __future__ import annotations

from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


async def subscribe(session: IMAPSession, command: grammar.Mailbox) -> Answer:
    """Put a name on the subscription list, whether or not it exists."""
    await session.mail().subscribe(command.mailbox, True)
    return b"OK SUBSCRIBE completed"


async def unsubscribe(session: IMAPSession, command: grammar.Mailbox) -> Answer:
    """Take a name off the subscription list."""
    await session.mail().subscribe(command.mailbox, False)
    return b"OK UNSUBSCRIBE completed"


SUBSCRIBE = CommandEntry(b"SUBSCRIBE", grammar.mailbox, subscribe, LOGGED_IN)
UNSUBSCRIBE = CommandEntry(b"UNSUBSCRIBE", grammar.mailbox, unsubscribe, LOGGED_IN)
