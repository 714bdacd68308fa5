"""CREATE (RFC 9051 6.3.4), also with a special use (RFC 6154 3)."""

from __future__ import annotations

from mailhost.errors import MailboxExists
from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry, offered
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar

SPECIAL_USES = {
    use.lower().encode(): use for use in ("\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash")
}


async def run(session: IMAPSession, command: grammar.Create) -> Answer:
    """Make a mailbox and the parents it lacks."""
    if not SPECIAL_USES.keys() >= set(command.special_use):
        return b"NO [USEATTR] That use is not supported"
    # RFC 9051 6.3.4: a trailing separator says that names below will follow; they may anyway.
    name = command.mailbox.removesuffix("/")
    if name == "INBOX":
        raise MailboxExists(name)
    await session.mail().create(name, tuple(SPECIAL_USES[use] for use in command.special_use))
    return b"OK CREATE completed"


COMMAND = CommandEntry(
    b"CREATE",
    grammar.create,
    run,
    LOGGED_IN,
    capabilities=offered(b"CREATE-SPECIAL-USE"),
)
