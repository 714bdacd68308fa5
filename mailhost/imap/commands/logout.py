"""LOGOUT (RFC 9051 6.1.3)."""

from __future__ import annotations

from mailhost.imap.entry import ANY, Answer, CommandEntry
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


def run(session: IMAPSession, command: grammar.Plain) -> Answer:
    """Say good-bye; the connection ends after the answer."""
    session.close_mailbox()
    session.write(b"* BYE Logging out\r\n")
    session.after = session.close
    return b"OK LOGOUT completed"


COMMAND = CommandEntry(b"LOGOUT", grammar.plain, run, ANY)
