"""LIST and LSUB (RFC 9051 6.3.9, RFC 3501 6.3.9, RFC 5258, RFC 5819, RFC 6154, RFC 3348)."""

from __future__ import annotations

from dataclasses import dataclass

from mailhost.errors import NoSuchMailbox
from mailhost.imap.commands.status import write_status
from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry, offered
from mailhost.imap.list_pattern import ListPattern
from mailhost.imap.session import IMAPSession
from mailhost.interfaces.access import MailboxFacts
from mailhost.wire.imap import commands as grammar
from mailhost.wire.imap import responses
from mailhost.wire.imap.commands import ListReturn, ListSelect

MAX_PATTERN = 1000
"""Characters of a pattern; no name is as long."""
_OUTPUT_PORTION = 16384


@dataclass(slots=True)
class _Name:
    """A name of the tree: a mailbox, or a level that only has others below it."""

    facts: MailboxFacts
    children: bool = False
    subscribed_below: bool = False
    special_below: bool = False


def _tree(mailboxes: tuple[MailboxFacts, ...]) -> dict[str, _Name]:
    names = {facts.name: _Name(facts) for facts in mailboxes}
    for facts in mailboxes:
        parent, slash, _ = facts.name.rpartition("/")
        while slash:
            above = names.get(parent)
            if above is None:
                above = names[parent] = _Name(MailboxFacts(None, parent))
            above.children = above.children or facts.mailbox_id is not None
            above.subscribed_below = above.subscribed_below or facts.subscribed
            above.special_below = above.special_below or bool(facts.special_use)
            parent, slash, _ = parent.rpartition("/")
    # The inbox first, then by name with what is below a name right after it.
    ordered = sorted(names.items(), key=lambda item: (item[0] != "INBOX", item[0].split("/")))
    return dict(ordered)


def _patterns(command: grammar.List) -> list[ListPattern]:
    # A reference is what stands before the pattern (RFC 9051 6.3.9); INBOX may come of both.
    texts = [command.reference + pattern for pattern in command.patterns]
    return [ListPattern(_inbox(text)) for text in texts if len(text) <= MAX_PATTERN]


def _inbox(text: str) -> str:
    first, slash, below = text.partition("/")
    return f"INBOX{slash}{below}" if first.upper() == "INBOX" else text


def _chosen(name: _Name, select: ListSelect) -> tuple[bool, list[bytes]]:
    """Return whether the selection options name it, and CHILDINFO for what is below it."""
    tests = []
    if ListSelect.SUBSCRIBED in select:
        tests.append((name.facts.subscribed, name.subscribed_below, b'"SUBSCRIBED"'))
    if ListSelect.SPECIAL_USE in select:
        tests.append((bool(name.facts.special_use), name.special_below, b'"SPECIAL-USE"'))
    if not tests:
        # Without a selection what is shown exists, or leads to something that does.
        return name.facts.mailbox_id is not None or name.children, []
    chosen = all(itself for itself, _, _ in tests)
    below = [word for _, under, word in tests if under]
    if ListSelect.RECURSIVEMATCH in select and len(below) == len(tests):
        return True, [b'"CHILDINFO" (' + b" ".join(below) + b")"]
    return chosen, []


def _attributes(name: _Name, command: grammar.List, subscribed: bool) -> list[bytes]:
    facts = name.facts
    attributes = []
    if facts.mailbox_id is None:
        # RFC 5258 3: \NonExistent says more than \Noselect, but only to those who know it.
        attributes.append(b"\\NonExistent" if command.extended else b"\\Noselect")
    if subscribed and facts.subscribed:
        attributes.append(b"\\Subscribed")
    attributes.append(b"\\HasChildren" if name.children else b"\\HasNoChildren")
    attributes += [use.encode("ascii") for use in facts.special_use]
    return attributes


async def list_(session: IMAPSession, command: grammar.List) -> Answer:
    """Show the names that match."""
    if command.patterns == ("",) and not command.extended:
        # RFC 9051 6.3.9: asked for the separator, and the root of the reference.
        session.write(b'* LIST (\\Noselect) "/" ""\r\n')
        return b"OK LIST completed"
    patterns = _patterns(command)
    names = _tree(await session.mail().mailboxes())
    subscribed = bool(
        ListSelect.SUBSCRIBED in command.select or ListReturn.SUBSCRIBED in command.returns
    )
    for text, name in names.items():
        chosen, below = _chosen(name, command.select)
        if not chosen or not any(pattern.matches(text) for pattern in patterns):
            continue
        attributes = _attributes(name, command, subscribed)
        session.write(responses.listed(b"LIST", attributes, text, below))
        if command.status is not None and name.facts.mailbox_id is not None:
            try:
                await write_status(session, text, name.facts.mailbox_id, command.status)
            except NoSuchMailbox:
                # Deleted since: RFC 5819 2 has no STATUS for what cannot be selected.
                continue
        if session.output_octets >= _OUTPUT_PORTION and (waiting := session.drain()) is not None:
            await waiting
    return b"OK LIST completed"


async def lsub(session: IMAPSession, command: grammar.List) -> Answer:
    """Show the subscribed names that match (RFC 3501 6.3.9)."""
    patterns = _patterns(command)
    names = _tree(await session.mail().mailboxes())
    # RFC 3501 6.3.9: with "%" a name that is not subscribed stands for those below it.
    levels = any(pattern.endswith("%") for pattern in command.patterns)
    for text, name in names.items():
        below = levels and name.subscribed_below
        if not (name.facts.subscribed or below):
            continue
        if not any(pattern.matches(text) for pattern in patterns):
            continue
        attributes = [] if name.facts.subscribed else [b"\\Noselect"]
        session.write(responses.listed(b"LSUB", attributes, text))
    return b"OK LSUB completed"


LIST = CommandEntry(
    b"LIST",
    grammar.list_,
    list_,
    LOGGED_IN,
    capabilities=offered(b"CHILDREN", b"SPECIAL-USE", b"LIST-EXTENDED", b"LIST-STATUS"),
)
LSUB = CommandEntry(b"LSUB", grammar.lsub, lsub, LOGGED_IN)
