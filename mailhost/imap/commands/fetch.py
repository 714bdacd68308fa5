"""
FETCH and UID FETCH (RFC 9051 6.4.5, RFC 7162 3.1.4).

Messages are asked of the store in portions and written as they come. Between portions the command
waits while the client does not read, so that a client that asks for everything and reads nothing
costs one portion (R-45). The octets of a large message go through in pieces.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from twisted.internet.defer import Deferred

from mailhost.errors import MessageDamaged, NoSuchEntry
from mailhost.imap.entry import Answer, CommandEntry, State
from mailhost.imap.fetch_plan import FetchPlan, SectionReader, Slice, choose_fields, partial
from mailhost.imap.session import IMAPSession
from mailhost.interfaces.access import Column, FlagOperation, IContent, Record
from mailhost.message import mime
from mailhost.units import ModSeq
from mailhost.wire.imap import commands as grammar
from mailhost.wire.imap import responses
from mailhost.wire.imap.fetch_items import Attribute, Section

_HEADER = attrgetter("header")
_PIECE = 65536
_PORTION_OCTETS = 1 << 20
"""Octets of messages that one portion should have, by the average of the one before."""


async def run(session: IMAPSession, command: grammar.Fetch) -> Answer:
    """Show messages, or parts of them."""
    _, view = session.selected()
    uids = view.select(command.numbers, command.uid)
    if command.changed_since is not None or Attribute.MODSEQ in command.items:
        session.enable_condstore()
    if command.changed_since is not None:
        uids = await _changed(session, uids, command.changed_since)
    plan = FetchPlan(
        command.items,
        uid=command.uid,
        mod_seq=command.changed_since is not None,
        condstore=session.condstore,
        flag_octets=session.flag_octets,
    )
    fetch = _Fetch(session, plan)
    await (fetch.sections(uids) if plan.sections else fetch.index(uids))
    if fetch.damaged:
        return b"NO [CORRUPTION] A message is damaged"
    if fetch.missing and not command.uid:
        return b"OK [EXPUNGEISSUED] Some of the messages no longer exist"
    return b"OK FETCH completed"


async def _changed(session: IMAPSession, uids: array[int], since: int) -> array[int]:
    mailbox, _ = session.selected()
    changes = await mailbox.changes(ModSeq(since))
    changed = {uid for uid, _, mod_seq in changes.flagged if mod_seq > since}
    changed.update(changes.added)
    return array("I", [uid for uid in uids if uid in changed])


class _Fetch:
    """One FETCH at work."""

    def __init__(self, session: IMAPSession, plan: FetchPlan) -> None:
        self.session = session
        self.mailbox, self.view = session.selected()
        self.plan = plan
        self.missing = self.damaged = False

    async def index(self, uids: array[int]) -> None:
        """Show what the store's index knows."""
        size = self.session.settings.portion
        asked = self._ask(uids[:size])
        try:
            for start in range(0, len(uids), size):
                records = await asked
                # The next portion is read while this one is sent; no more than that.
                following = uids[start + size : start + 2 * size]
                if following:
                    asked = self._ask(following)
                numbers = self._numbers(uids[start : start + size], records)
                if Column.USUAL_FIELDS in self.plan.columns and not all(map(_HEADER, records)):
                    self.damaged = True
                self.session.write(self.plan.rows(numbers, records))
                waiting = self.session.drain()
                if waiting is not None:
                    await waiting
        finally:
            # A portion that nobody waits for any more may fail unheard.
            asked.addErrback(lambda _: None)

    def _ask(self, uids: Sequence[int]) -> Deferred[list[Record]]:
        return self.mailbox.records(uids, self.plan.columns)

    def _numbers(self, uids: Sequence[int], records: Sequence[Record]) -> Sequence[int]:
        if len(records) == len(uids):
            return self.view.numbers(uids)
        self.missing = True
        return self.view.numbers([record.uid for record in records])

    async def sections(self, uids: array[int]) -> None:
        """Show octets of the messages."""
        settings = self.session.settings
        size = settings.content_portion if self.plan.needs_content else settings.portion
        start = 0
        asked = self._ask(uids[:size])
        try:
            while start < len(uids):
                portion = uids[start : start + size]
                start += size
                records = await asked
                if self.plan.needs_content and records:
                    total = sum([len(record.content or b"") for record in records])
                    size = _next_portion(total // len(records), settings.content_portion)
                # Files are read while the ones before are sent; no more than one portion.
                if start < len(uids):
                    asked = self._ask(uids[start : start + size])
                numbers = self._numbers(portion, records)
                seen = await self._set_seen(records)
                for number, record in zip(numbers, records, strict=True):
                    if number:
                        if self.plan.needs_content and record.content is None:
                            await self._large(number, record, record.uid in seen)
                        else:
                            self._small(number, record, record.uid in seen)
                        waiting = self._drain_when_much()
                        if waiting is not None:
                            await waiting
        finally:
            asked.addErrback(lambda _: None)

    async def _set_seen(self, records: Sequence[Record]) -> set[int]:
        """Set \\Seen on those that lack it; return their UIDs, their records changed."""
        if not self.plan.sets_seen or self.mailbox.read_only:
            return set()
        unseen = [record.uid for record in records if "\\Seen" not in record.flags]
        if not unseen:
            return set()
        result = await self.mailbox.store(unseen, FlagOperation.ADD, ("\\Seen",))
        self.view.told(result.stored)
        stored = {uid: (flags, mod_seq) for uid, flags, mod_seq in result.stored}
        for record in records:
            if record.uid in stored:
                record.flags, record.mod_seq = stored[record.uid]
        return stored.keys() & set(unseen)

    def _drain_when_much(self) -> Deferred[None] | None:
        return self.session.drain() if self.session.output_octets >= _PIECE else None

    def _small(self, number: int, record: Record, seen_now: bool) -> None:
        """Write the response of a message whose octets are in its record."""
        session = self.session
        session.write(self.plan.opening(number, record, seen_now))
        space = b" " if self.plan.has_items(seen_now) else b""
        damaged = self._is_damaged(record)
        self.damaged = self.damaged or damaged
        reader = SectionReader(
            record, record.size if record.content is None else len(record.content)
        )
        for section in self.plan.sections:
            octets = None if damaged else reader.find(section)
            if octets is None:
                session.write(space + section.label + b" NIL")
            else:
                octets = partial(octets, section)
                assert not isinstance(octets, Slice)
                session.write(b"%b%b {%d}\r\n" % (space, section.label, len(octets)))
                # By themselves: joined with the label they would be copied once more.
                session.write(octets)
            space = b" "
        session.write(b")\r\n")

    async def _large(self, number: int, record: Record, seen_now: bool) -> None:
        """Write the response of a message that is read in pieces."""
        try:
            content = await self.mailbox.content(record.uid)
        except MessageDamaged:
            record.content = record.header = b""
            self._small(number, record, seen_now)
            return
        except NoSuchEntry:
            self.missing = True
            return
        try:
            await self._write(number, record, seen_now, content, await self._find(record, content))
        finally:
            content.close()

    async def _find(
        self, record: Record, content: IContent
    ) -> list[tuple[Section, bytes | Slice | None]]:
        reader = SectionReader(record, content.size)
        found: list[tuple[Section, bytes | Slice | None]] = []
        for section in self.plan.sections:
            if reader.needs_structure(section):
                structure = await self._structure(record.uid, content)
                reader = SectionReader(record, content.size, structure)
            octets = reader.find(section)
            if isinstance(octets, Slice) and section.fields:
                octets = choose_fields(await _read(content, octets), section)
            found.append((section, None if octets is None else partial(octets, section)))
        return found

    def _is_damaged(self, record: Record) -> bool:
        # Every message has octets, and every header its empty line, unless the store says so.
        if self.plan.asks_content and record.content == b"":
            return True
        return self.plan.asks_header and record.header == b"" and not record.content

    async def _structure(self, uid: int, content: IContent) -> mime.Part:
        """Parse a large message; clients ask for its parts one after the other."""
        key = self.mailbox.mailbox_id, uid
        kept = self.session.structure
        if kept is not None and kept[0] == key:
            part: mime.Part = kept[1]
            return part
        octets = await _read(content, Slice(0, content.size))
        part = await self.session.connection.compute(lambda: mime.parse(octets))
        self.session.structure = key, part
        return part

    async def _write(
        self,
        number: int,
        record: Record,
        seen_now: bool,
        content: IContent,
        found: Sequence[tuple[Section, bytes | Slice | None]],
    ) -> None:
        session = self.session
        session.write(self.plan.opening(number, record, seen_now))
        space = b" " if self.plan.has_items(seen_now) else b""
        for section, value in found:
            label = space + section.label
            space = b" "
            if value is None:
                session.write(label + b" NIL")
            elif isinstance(value, Slice):
                session.write(label + b" {%d}\r\n" % (value.end - value.start))
                await self._pass_on(content, value)
            else:
                session.write(label + b" " + responses.literal(value))
        session.write(b")\r\n")

    async def _pass_on(self, content: IContent, octets: Slice) -> None:
        position = octets.start
        self.session.in_literal = True
        try:
            while position < octets.end:
                piece: Any = content.read(position, min(_PIECE, octets.end - position))
                if isinstance(piece, Deferred):
                    piece = await piece
                if not piece:
                    raise MessageDamaged("shorter than its size")
                position += len(piece)
                self.session.write(piece)
                waiting = self.session.drain()
                if waiting is not None:
                    await waiting
        except MessageDamaged:
            # The client waits for octets that nobody has: there is no way to say so.
            self.session.connection.abort()
            raise
        finally:
            self.session.in_literal = False


def _next_portion(average: int, largest: int) -> int:
    return max(1, min(4 * largest, _PORTION_OCTETS // max(average, 1)))


async def _read(content: IContent, octets: Slice) -> bytes:
    """Read octets of a message into memory."""
    pieces = []
    position = octets.start
    while position < octets.end:
        piece: Any = content.read(position, min(1 << 20, octets.end - position))
        if isinstance(piece, Deferred):
            piece = await piece
        if not piece:
            raise MessageDamaged("shorter than its size")
        position += len(piece)
        pieces.append(piece)
    return b"".join(pieces)


FETCH = CommandEntry(b"FETCH", grammar.fetch(False), run, State.SELECTED, expunges=False)
UID_FETCH = CommandEntry(b"UID FETCH", grammar.fetch(True), run, State.SELECTED)
