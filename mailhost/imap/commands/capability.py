"""CAPABILITY (RFC 9051 6.1.1)."""

from __future__ import annotations

from mailhost.imap.entry import ANY, Answer, CommandEntry, offered
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


def run(session: IMAPSession, command: grammar.Plain) -> Answer:
    """List what is offered in this state."""
    session.write(b"* CAPABILITY %b\r\n" % session.capabilities())
    return b"OK CAPABILITY completed"


# LITERAL+ (RFC 7888) is how the receiver reads literals, whatever the command.
COMMAND = CommandEntry(
    b"CAPABILITY", grammar.plain, run, ANY, capabilities=offered(b"LITERAL+", states=ANY)
)
