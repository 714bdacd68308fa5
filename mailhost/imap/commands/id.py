"""ID (RFC 2971)."""

from __future__ import annotations

from mailhost import __version__
from mailhost.imap.entry import ANY, Answer, CommandEntry, offered
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar
from mailhost.wire.imap import responses

_LOGGED = {b"name": "client", b"version": "client_version"}
_VERSION = responses.quoted(__version__.encode("ascii"))


def run(session: IMAPSession, command: grammar.Id) -> Answer:
    """Tell names: the version only to those who logged in."""
    told = {
        _LOGGED[name.lower()]: value.decode("utf-8", "replace")
        for name, value in command.fields
        if value and name.lower() in _LOGGED
    }
    if told:
        facts = session.connection.facts()
        session.log.info(
            event="imap.client.identified",
            session=facts.session,
            account=session.account,
            client=told.get("client", ""),
            client_version=told.get("client_version", ""),
        )
    version = b' "version" ' + _VERSION if session.account else b""
    session.write(b'* ID ("name" "mailhost"%b)\r\n' % version)
    return b"OK ID completed"


COMMAND = CommandEntry(b"ID", grammar.id_, run, ANY, capabilities=offered(b"ID", states=ANY))
