"""SELECT and EXAMINE (RFC 9051 6.3.2, 6.3.3, RFC 7162 3.1.2)."""

from __future__ import annotations

from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry, offered
from mailhost.imap.session import IMAPSession
from mailhost.imap.view import View
from mailhost.interfaces.access import Listing
from mailhost.wire.imap import commands as grammar


async def _open(session: IMAPSession, command: grammar.Select, read_only: bool) -> None:
    if session.mailbox is not None:
        # Whatever becomes of the new one, the old one is closed (RFC 9051 6.3.2).
        session.close_mailbox()
        session.write(b"* OK [CLOSED] The previous mailbox is closed\r\n")
    selected = await session.mail().select(command.mailbox, read_only)
    listing = selected.listing
    if command.condstore:
        session.enable_condstore()
    session.open_mailbox(selected.mailbox, View(listing, selected.recent_from))
    _describe(session, listing)
    facts = session.connection.facts()
    session.log.info(
        event="imap.mailbox.selected",
        session=facts.session,
        account=session.account,
        mailbox_id=selected.mailbox.mailbox_id,
        messages=len(listing.uids),
        read_only=read_only,
    )


def _describe(session: IMAPSession, listing: Listing) -> None:
    mailbox, view = session.selected()
    session.write_keywords()
    session.write(b"* %d EXISTS\r\n* %d RECENT\r\n" % (view.exists, view.recent))
    unseen = view.number(listing.first_unseen) if listing.first_unseen is not None else 0
    if unseen:
        session.write(b"* OK [UNSEEN %d] First unseen message\r\n" % unseen)
    session.write(b"* OK [UIDVALIDITY %d] UIDs valid\r\n" % mailbox.uid_validity)
    session.write(b"* OK [UIDNEXT %d] Predicted next UID\r\n" % listing.uid_next)
    session.write(b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % listing.highest_mod_seq)


async def select(session: IMAPSession, command: grammar.Select) -> Answer:
    """Open a mailbox to read and change."""
    await _open(session, command, read_only=False)
    return b"OK [READ-WRITE] SELECT completed"


async def examine(session: IMAPSession, command: grammar.Select) -> Answer:
    """Open a mailbox to read only."""
    await _open(session, command, read_only=True)
    return b"OK [READ-ONLY] EXAMINE completed"


SELECT = CommandEntry(
    b"SELECT",
    grammar.select,
    select,
    LOGGED_IN,
    capabilities=offered(b"CONDSTORE"),
    enables=(b"CONDSTORE",),
)
EXAMINE = CommandEntry(b"EXAMINE", grammar.select, examine, LOGGED_IN)
