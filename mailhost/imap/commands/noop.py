"""NOOP and CHECK (RFC 9051 6.1.2, RFC 3501 6.4.1): a moment to tell the client what changed."""

from __future__ import annotations

from mailhost.imap.entry import ANY, Answer, CommandEntry, State
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


def noop(session: IMAPSession, command: grammar.Plain) -> Answer:
    """Do nothing; the session shows the changes."""
    return b"OK NOOP completed"


def check(session: IMAPSession, command: grammar.Plain) -> Answer:
    """Do nothing: what was answered before is kept already."""
    return b"OK CHECK completed"


NOOP = CommandEntry(b"NOOP", grammar.plain, noop, ANY, polls=True)
CHECK = CommandEntry(b"CHECK", grammar.plain, check, State.SELECTED, polls=True)
