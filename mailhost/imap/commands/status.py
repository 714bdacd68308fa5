"""STATUS (RFC 9051 6.3.11, RFC 7162 3.1.7, RFC 7889, RFC 8438)."""

from __future__ import annotations

from collections.abc import Sequence

from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry, offered
from mailhost.imap.session import IMAPSession
from mailhost.units import MailboxID
from mailhost.wire.imap import commands as grammar
from mailhost.wire.imap import responses

_FIELDS = {
    b"MESSAGES": "messages",
    b"RECENT": "recent",
    b"UIDNEXT": "uid_next",
    b"UIDVALIDITY": "uid_validity",
    b"UNSEEN": "unseen",
    b"DELETED": "deleted",
    b"SIZE": "size",
    b"HIGHESTMODSEQ": "highest_mod_seq",
}


async def write_status(
    session: IMAPSession, name: str, mailbox_id: MailboxID, items: Sequence[bytes]
) -> None:
    """Write a STATUS response."""
    if b"HIGHESTMODSEQ" in items:
        session.enable_condstore()
    found = await session.mail().status(mailbox_id)
    limit = session.settings.max_message
    values = [
        (item, limit if item == b"APPENDLIMIT" else getattr(found, _FIELDS[item])) for item in items
    ]
    session.write(responses.status(name, values))


async def run(session: IMAPSession, command: grammar.Status) -> Answer:
    """Show the counters of a mailbox without selecting it."""
    mailbox_id = await session.mailbox_id(command.mailbox)
    await write_status(session, command.mailbox, mailbox_id, command.items)
    return b"OK STATUS completed"


COMMAND = CommandEntry(
    b"STATUS",
    grammar.status,
    run,
    LOGGED_IN,
    capabilities=offered(b"STATUS=SIZE"),
)
