"""NAMESPACE (RFC 2342)."""

from __future__ import annotations

from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry, offered
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


def run(session: IMAPSession, command: grammar.Plain) -> Answer:
    """One personal namespace without prefix, none of others, none shared."""
    session.write(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
    return b"OK NAMESPACE completed"


COMMAND = CommandEntry(
    b"NAMESPACE", grammar.plain, run, LOGGED_IN, capabilities=offered(b"NAMESPACE")
)
