"""APPEND (RFC 9051 6.3.12, RFC 4315 3): the message goes to the store while it comes in."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from mailhost.errors import NoSuchMailbox, SyntaxFault
from mailhost.imap.commands.copy import target
from mailhost.imap.entry import LOGGED_IN, Answer, CommandEntry, offered
from mailhost.imap.refusals import TRY_CREATE, No
from mailhost.imap.session import IMAPSession
from mailhost.interfaces.access import IAppend
from mailhost.wire.imap import commands as grammar
from mailhost.wire.imap.cursor import Cursor

_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")


class _Lines:
    """
    Passes octets on with every line end as CRLF, for relays must never see another (R-02).

    Args:
        writer: takes them.
    """

    def __init__(self, writer: IAppend) -> None:
        self._writer = writer
        self._pending = b""
        self.size = 0

    def write(self, data: bytes) -> Deferred[None] | None:
        """Take a piece."""
        data = self._pending + data
        # What a CR at the end means is known with the next piece.
        self._pending = b"\r" if data.endswith(b"\r") else b""
        if self._pending:
            data = data[:-1]
        return self._pass_on(data)

    def end(self) -> Deferred[None] | None:
        """Take the end."""
        data, self._pending = self._pending, b""
        return self._pass_on(data)

    def _pass_on(self, data: bytes) -> Deferred[None] | None:
        crlf = data.count(b"\r\n")
        if data.count(b"\n") != crlf or data.count(b"\r") != crlf:
            data = _BARE.sub(b"\r\n", data)
        self.size += len(data)
        return self._writer.write(data) if data else None


async def _take(session: IMAPSession, command: grammar.Append, size: int) -> Answer:
    if size > session.settings.max_message:
        return b"NO [TOOBIG] The message is too large"
    if not size:
        return b"NO [CANNOT] A message has at least one octet"
    mailbox_id = await target(session, command.mailbox)
    try:
        writer = await session.mail().append(mailbox_id)
    except NoSuchMailbox:
        raise No(TRY_CREATE) from None
    try:
        lines = _Lines(writer)
        tail = await session.receive(lines.write)
        if tail:
            raise SyntaxFault(0, "the end of the command")
        waiting = lines.end()
        if waiting is not None:
            await waiting
    except BaseException:
        writer.abort()
        raise
    date, zone = command.date or (None, 0)
    try:
        placement = await writer.commit(command.flags, date, zone)
    except NoSuchMailbox:
        raise No(TRY_CREATE) from None
    session.touched(mailbox_id)
    facts = session.connection.facts()
    session.log.info(
        event="imap.append.accepted",
        session=facts.session,
        account=session.account,
        mailbox_id=mailbox_id,
        uid=placement.uid,
        size=lines.size,
    )
    return b"OK [APPENDUID %d %d] APPEND completed" % (placement.uid_validity, placement.uid)


def stream(session: IMAPSession, cursor: Cursor, size: int) -> Coroutine[Any, Any, Answer] | None:
    """Begin to take a message; None when the literal is not it but the mailbox name."""
    command = grammar.append(cursor)
    return None if command is None else _take(session, command, size)


def run(session: IMAPSession, command: Any) -> Answer:
    """Refuse a command that came to its end without a message."""
    return b"BAD A literal is expected"


COMMAND = CommandEntry(
    b"APPEND",
    lambda cursor: None,
    run,
    LOGGED_IN,
    offers=lambda session: (
        (b"APPENDLIMIT=%d" % session.settings.max_message,) if session.state in LOGGED_IN else ()
    ),
    capabilities=offered(b"UIDPLUS"),
    stream=stream,
)
