"""STARTTLS (RFC 9051 6.2.1)."""

from __future__ import annotations

from collections.abc import Iterable

from mailhost.imap.entry import Answer, CommandEntry, State
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


def run(session: IMAPSession, command: grammar.Plain) -> Answer:
    """Begin TLS after the answer; what the client sent behind the command is forgotten."""
    if not session.connection.can_start_tls:
        return b"BAD STARTTLS is not possible now"
    session.after = session.start_tls
    return b"OK Begin TLS negotiation now"


def _offers(session: IMAPSession) -> Iterable[bytes]:
    if session.state is State.NOT_AUTHENTICATED and session.connection.can_start_tls:
        yield b"STARTTLS"


COMMAND = CommandEntry(b"STARTTLS", grammar.plain, run, State.NOT_AUTHENTICATED, offers=_offers)
