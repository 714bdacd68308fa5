"""ENABLE (RFC 9051 6.3.1)."""

from __future__ import annotations

from mailhost.imap.entry import ANY, LOGGED_IN, Answer, CommandEntry, offered
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


def run(session: IMAPSession, command: grammar.Enable) -> Answer:
    """Turn on those of the extensions that some command knows; the others are passed over."""
    enabled = [
        name for name in dict.fromkeys(command.extensions) if name in session.commands.enables
    ]
    if b"CONDSTORE" in enabled:
        session.enable_condstore()
        if session.view is not None:
            # RFC 7162 3.1.2.1: from here on the client may rely on it.
            session.write(b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % session.view.mod_seq)
    session.write(b"* ENABLED%b\r\n" % b"".join(b" " + name for name in enabled))
    return b"OK ENABLE completed"


COMMAND = CommandEntry(
    b"ENABLE", grammar.enable, run, LOGGED_IN, capabilities=offered(b"ENABLE", states=ANY)
)
