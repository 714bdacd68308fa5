"""
What sessions read: listings, changes, records, content.

Index rows are read under the account's lock, files without it. A file that another program renames
between the two is looked for once more; one that is missing or not what was stored is marked in the
index, told of once, and raises MessageDamaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import repeat
from typing import Any

from twisted.logger import Logger

from mailhost.errors import MessageDamaged, NoSuchEntry
from mailhost.interfaces.access import (
    CONTENT_LIMIT,
    Changes,
    Column,
    Listing,
    Record,
)
from mailhost.message.digest import Digest
from mailhost.message.headers import header_end
from mailhost.message.mime import to_crlf
from mailhost.storage import cache_database, foreign, placing
from mailhost.storage.account_database import DAMAGED, LF, is_damage
from mailhost.storage.account_store import AccountStore
from mailhost.storage.flag_words import FlagWords
from mailhost.storage.snapshot import snapshot
from mailhost.units import UID, MailboxID, ModSeq

_BEGINNING = 16 * 1024 * 1024
HEADER_PIECE = 16 * 1024
"""Octets of a file first read for its header."""

_INDEX = (
    Column.FLAGS | Column.MOD_SEQ | Column.DATE | Column.SIZE | Column.EMAIL_ID | Column.THREAD_ID
)
_DIGEST = Column.ENVELOPE | Column.BODY_STRUCTURE | Column.BODY | Column.USUAL_FIELDS
_FILES = Column.HEADER | Column.CONTENT

_log = Logger(namespace="mailhost.storage.reading")


def listing(account: AccountStore, mailbox_id: MailboxID) -> Listing:
    """Return what a mailbox holds now."""
    with account.lock:
        folder = account.folder(mailbox_id)
        found = snapshot(account, folder)
        unseen = found.first_unseen if folder.unseen else None
        return Listing(
            found.uids,
            UID(folder.uid_next),
            ModSeq(folder.mod_seq),
            tuple(folder.keywords),
            None if unseen is None else UID(unseen),
        )


def changes(account: AccountStore, mailbox_id: MailboxID, mod_seq: ModSeq) -> Changes:
    """Return what changed after a mod-sequence."""
    with account.lock:
        folder = account.folder(mailbox_id)
        words = account.database.words
        added: list[int] = []
        flagged: list[tuple[int, tuple[str, ...], int]] = []
        vanished: list[int] = []
        if folder.mod_seq > mod_seq:
            for uid, flags, changed, since in account.database.changed(folder.row, mod_seq):
                if since > mod_seq:
                    added.append(uid)
                else:
                    flagged.append((uid, words[flags], changed))
            vanished = account.database.vanished(folder.row, mod_seq)
        return Changes(
            tuple(added),
            tuple(flagged),
            tuple(vanished),
            ModSeq(folder.mod_seq),
            UID(folder.uid_next),
            tuple(folder.keywords),
        )


def claim_recent(account: AccountStore, mailbox_id: MailboxID, *, mark: bool) -> int:
    """Return the lowest UID that no session was told of as recent."""
    with account.lock:
        folder = account.folder(mailbox_id)
        lowest = folder.recent_from
        if mark and lowest != folder.uid_next:
            try:
                with account.database.transaction():
                    folder.recent_from = folder.uid_next
                    folder.changed = True
            except sqlite3.OperationalError as error:
                if is_damage(error):
                    raise
                # A full disk must not keep anyone from reading; these will be recent again.
                _log.failure("recent", event="storage.recent.failed", account=account.account_id)
        return lowest


def records(
    account: AccountStore, mailbox_id: MailboxID, uids: Sequence[int], columns: Column
) -> list[Record]:
    """Return those messages by UID, with the columns filled in."""
    wanted = columns & (_INDEX | _DIGEST)
    with account.lock:
        folder = account.folder(mailbox_id)
        words = account.database.words
        kept = snapshot(account, folder)
        if wanted & ~Column.FLAGS:
            values = account.database.records(folder.row, kept.chosen(uids), wanted)
        else:
            there, flags = kept.flags_of(uids)
            values = {"uid": there, "flags": flags} if wanted else {"uid": there}
        found = _records(values, words) if values else []
    # A row of the cache has all that it can have, or there is none.
    computed = next((values[name] for name in _COMPUTED if name in values), ())
    missing = [record for record, each in zip(found, computed, strict=False) if each is None]
    if missing:
        _digest_missing(account, mailbox_id, missing, columns)
    if columns & _FILES:
        places = _places(account, mailbox_id, uids)
        header, content = bool(columns & Column.HEADER), bool(columns & Column.CONTENT)
        for record in found:
            place = places.get(record.uid)
            _read_file(account, mailbox_id, record, place, header=header, content=content)
    return found


_COMPUTED = ("envelope", "body_structure", "body", "header")
_FIELDS = tuple((each.name, each.default) for each in fields(Record))


def _records(values: dict[str, Sequence[Any]], words: FlagWords) -> list[Record]:
    # Column by column: what is done for each message by itself costs more than its rows.
    shown: dict[str, Iterable[Any]] = dict(values)
    if "flags" in values:
        shown["flags"] = map(words.__getitem__, values["flags"])
    if "thread_id" in values:
        shown["thread_id"] = [f"T{each:016x}" if each else "" for each in values["thread_id"]]
    if "header" in values:
        shown["header"] = [b"" if each is None else each + b"\r\n" for each in values["header"]]
    return list(map(Record, *[shown.get(name, repeat(default)) for name, default in _FIELDS]))


_Place = tuple[str, int, int]
"""Path, state bits, size in CRLF form."""


def _places(account: AccountStore, mailbox_id: MailboxID, uids: Sequence[int]) -> dict[int, _Place]:
    with account.lock:
        folder = account.folder(mailbox_id)
        chosen = snapshot(account, folder).chosen(uids) if len(uids) > 1 else uids
        rows = account.database.locations(folder.row, chosen)
        return {
            uid: (account.file(folder, account.location(folder, uid, location)), state, size)
            for uid, (location, state, size) in rows.items()
        }


def _digest_missing(
    account: AccountStore, mailbox_id: MailboxID, missing: list[Record], columns: Column
) -> None:
    # Not in the cache: the mail is foreign, or the cache was removed.
    for start in range(0, len(missing), foreign.PORTION):
        portion = missing[start : start + foreign.PORTION]
        digests: dict[int, Digest] = {}
        for record in portion:
            try:
                digest = placing.safe_digest(octets_of(account, mailbox_id, record.uid))
            except (MessageDamaged, NoSuchEntry):
                digest = placing.safe_digest(b"")
            else:
                digests[record.uid] = digest
                if columns & Column.USUAL_FIELDS:
                    record.header = digest.usual_fields + b"\r\n"
            record.envelope = digest.envelope if columns & Column.ENVELOPE else b""
            record.body = digest.body if columns & Column.BODY else b""
            record.body_structure = (
                digest.body_structure if columns & Column.BODY_STRUCTURE else b""
            )
        _keep(account, mailbox_id, digests)


def _keep(account: AccountStore, mailbox_id: MailboxID, digests: dict[int, Digest]) -> None:
    with account.lock:
        folder = account.folder(mailbox_id)
        database = account.database
        messages = database.messages_of(folder.row, list(digests))
        rows = []
        for uid, message in messages.items():
            digest = digests[uid]
            # The digest of a converted file is of other octets than the file's.
            if digest.blob == message.blob or digest.size == message.size:
                rows.append((message.id, message.blob, digest))
        with database.transaction():
            cache_database.put_digests(database.connection, rows)


def _read_file(
    account: AccountStore,
    mailbox_id: MailboxID,
    record: Record,
    place: _Place | None,
    *,
    header: bool,
    content: bool,
) -> None:
    try:
        if content:
            octets = _small(account, mailbox_id, record.uid, place)
            if octets is not None:
                record.content = octets
                if header:
                    record.header = octets[: header_end(octets)]
                return
        if header:
            record.header = _header(account, mailbox_id, record.uid, place)
    except (MessageDamaged, NoSuchEntry):
        record.header, record.size = b"", 0
        if content:
            record.content = b""


def _small(
    account: AccountStore, mailbox_id: MailboxID, uid: int, place: _Place | None
) -> bytes | None:
    if place is not None and place[2] <= CONTENT_LIMIT and not place[1] & LF:
        octets = _as_stored(account, place[0], place[2])
        if octets is not None:
            return octets
    descriptor, state, size = open_file(account, mailbox_id, uid, place)
    try:
        if size > CONTENT_LIMIT:
            return None
        return whole(account, mailbox_id, uid, descriptor, state, size)
    finally:
        account.files.close(descriptor)


def _as_stored(account: AccountStore, path: str, size: int) -> bytes | None:
    # The usual case in few calls of the system; None: look more closely.
    try:
        descriptor = account.files.open(path)
    except OSError:
        return None
    try:
        octets = account.files.read(descriptor, 0, size + 1)
        return octets if len(octets) == size else None
    except OSError:
        return None
    finally:
        account.files.close(descriptor)


def _header(account: AccountStore, mailbox_id: MailboxID, uid: int, place: _Place | None) -> bytes:
    descriptor, state, size = open_file(account, mailbox_id, uid, place)
    try:
        if not state & LF:
            octets = account.files.read(descriptor, 0, min(HEADER_PIECE, size))
            end = header_end(octets)
            if end < len(octets) or len(octets) == size or octets.endswith(b"\r\n\r\n"):
                return octets[:end]
        octets = whole(account, mailbox_id, uid, descriptor, state, size)
        return octets[: header_end(octets)]
    finally:
        account.files.close(descriptor)


def octets_of(
    account: AccountStore, mailbox_id: MailboxID, uid: int, most: int | None = None
) -> bytes:
    """
    Return the octets of a message in CRLF form, of one above `most` octets the first 16 MiB.

    Raises:
        MessageDamaged, NoSuchEntry: it cannot be read.
    """
    descriptor, state, size = open_file(account, mailbox_id, uid)
    try:
        if most is not None and size > most:
            head = account.files.read(descriptor, 0, _BEGINNING)
            return to_crlf(head) if state & LF else head
        return whole(account, mailbox_id, uid, descriptor, state, size)
    finally:
        account.files.close(descriptor)


def whole(
    account: AccountStore,
    mailbox_id: MailboxID,
    uid: int,
    descriptor: int,
    state: int,
    size: int,
) -> bytes:
    """Return all octets of an open message file in CRLF form: MessageDamaged."""
    length = account.files.size(descriptor)
    try:
        octets = account.files.read(descriptor, 0, length)
        while len(octets) < length:
            more = account.files.read(descriptor, len(octets), length - len(octets))
            if not more:
                break
            octets += more
    except OSError as error:
        raise mark_damaged(account, mailbox_id, uid, error.strerror or str(error)) from error
    if state & LF:
        octets = to_crlf(octets)
    if len(octets) != size:
        raise mark_damaged(account, mailbox_id, uid, f"{len(octets)} octets instead of {size}")
    return octets


def open_file(
    account: AccountStore, mailbox_id: MailboxID, uid: int, place: _Place | None = None
) -> tuple[int, int, int]:
    """
    Open a message's file; return (descriptor, state bits, size in CRLF form).

    Args:
        account: whose it is.
        mailbox_id: where it is.
        uid: which it is.
        place: where it lay a moment ago, if the caller knows.

    Raises:
        NoSuchEntry: the message is gone.
        MessageDamaged: its file cannot be opened, or has another size.
    """
    for attempt in (1, 2):
        place = place or _places(account, mailbox_id, (uid,)).get(uid)
        if place is None:
            raise NoSuchEntry(str(uid))
        path, state, size = place
        try:
            descriptor = account.files.open(path)
        except FileNotFoundError:
            # Renamed since, or by another program.
            if attempt == 1:
                foreign.look(account, mailbox_id, force=True)
                place = None
            continue
        except OSError as error:
            reason = error.strerror or str(error)
            raise mark_damaged(account, mailbox_id, uid, reason) from error
        length = account.files.size(descriptor)
        if length == size or (state & LF and length < size):
            return descriptor, state, size
        account.files.close(descriptor)
        raise mark_damaged(account, mailbox_id, uid, f"{length} octets instead of {size}")
    raise mark_damaged(account, mailbox_id, uid, "no file")


def mark_damaged(
    account: AccountStore, mailbox_id: MailboxID, uid: int, reason: str
) -> MessageDamaged:
    """Note in the index that a message's file is not what was stored; return what to raise."""
    with account.lock:
        folder = account.folder(mailbox_id)
        row = account.database.locations(folder.row, (uid,)).get(uid)
        if row is not None and not row[1] & DAMAGED:
            with account.database.transaction():
                account.database.set_state(folder.row, uid, row[1] | DAMAGED)
            _log.error(
                event="storage.message.damaged",
                account=account.account_id,
                mailbox=mailbox_id,
                uid=uid,
                file=row[0],
                reason=reason,
            )
    return MessageDamaged(f"{mailbox_id} {uid}: {reason}")
