"""
Message files and the index rows that stand for them.

A file that is not known yet is *examined* (read once) without the account's lock, then *placed* in
a transaction. A file that cannot be a message, because it is empty or shorter than its name says,
is put into the account's ``damaged/`` directory and told of: it never stops the rest (R-89).
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from twisted.logger import Logger

from mailhost.files import FileOperations
from mailhost.ids import LENGTH, is_id
from mailhost.message.digest import Digest, digest
from mailhost.message.headers import header_end
from mailhost.storage import cache_database
from mailhost.storage.account_database import LF, Folder, Message, PlacementRow
from mailhost.storage.account_store import AccountStore
from mailhost.storage.file_names import (
    DELETED,
    SEEN,
    SYSTEM_BITS,
    sizes_of,
    split_name,
    time_of,
)

MAX_REFERENCES = 40
"""Message ids of one message that can join it to a thread."""

LARGE = 256 * 1024 * 1024
"""Octets of a file that another program made from which on it is not read as a whole."""
_HEAD = 1024 * 1024
_PIECE = 1024 * 1024

_log = Logger(namespace="mailhost.storage.placing")


@dataclass(slots=True)
class NewPlacement:
    """
    A message that is to be placed.

    Args:
        location: where its file lies.
        date, zone: as in `Record`.
        uid: the one to use, or 0 for the next.
        message: the message it is a further placement of; with its `size`. Else `digest` is given.
    """

    key: str
    location: str
    flags: int
    digest: Digest | None
    date: int = 0
    zone: int = 0
    uid: int = 0
    message: int = 0
    size: int = 0
    state: int = 0


def safe_digest(octets: bytes) -> Digest:
    """Return the digest of a message, or a plain one where ours fails: mail is not lost for it."""
    try:
        return digest(octets)
    except Exception:
        _log.failure("digest", event="storage.digest.failed", size=len(octets))
    lines, line_ends = octets.count(b"\n"), octets.count(b"\r\n")
    return _plain_digest(
        len(octets), lines, lines - line_ends, blake2b(octets, digest_size=32).digest()
    )


def _plain_digest(size: int, lines: int, bare_lf: int, blob: bytes) -> Digest:
    """Return the digest of a message of which nothing is said but its size."""
    structure = b'("TEXT" "PLAIN" NIL NIL NIL "8BIT" %d %d' % (size + bare_lf, lines)
    return Digest(
        size=size + bare_lf,
        file_size=size,
        bare_lf=bare_lf > 0,
        header_size=0,
        envelope=b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)",
        body_structure=structure + b" NIL NIL NIL NIL)",
        body=structure + b")",
        message_id="",
        in_reply_to=(),
        references=(),
        date=None,
        day=0,
        base_subject="",
        is_reply=False,
        subject="",
        sender="",
        to="",
        cc="",
        bcc="",
        from_key="",
        to_key="",
        cc_key="",
        display_from="",
        display_to="",
        usual_fields=b"",
        blob=blob,
    )


def large_digest(files: FileOperations, path: str | Path, size: int) -> Digest:
    """
    Return the digest of a file that is too large for memory: its header is read, its parts are not.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = files.open(path)
    try:
        head = files.read(descriptor, 0, _HEAD)
        blob = blake2b(digest_size=32)
        offset = lines = line_ends = 0
        before = b""
        while piece := files.read(descriptor, offset, _PIECE):
            offset += len(piece)
            blob.update(piece)
            lines += piece.count(b"\n")
            line_ends += piece.count(b"\r\n") + (before == b"\r" and piece[:1] == b"\n")
            before = piece[-1:]
    finally:
        files.close(descriptor)
    if offset < size:
        raise OSError(errno.EIO, "the file became shorter")
    plain = _plain_digest(offset, lines, lines - line_ends, blob.digest())
    seen = safe_digest(head[: header_end(head)])
    return replace(
        seen,
        size=plain.size,
        file_size=plain.file_size,
        bare_lf=plain.bare_lf,
        body_structure=plain.body_structure,
        body=plain.body,
        blob=plain.blob,
    )


def examine(account: AccountStore, folder: Folder, location: str) -> tuple[Digest, int] | None:
    """
    Read a file that is new to us; return its digest and its time, or None when it is not a message.

    Raises:
        FileNotFoundError: it is gone, or was renamed.
    """
    path = account.file(folder, location)
    base = location.partition("/")[2].partition(":")[0]
    try:
        facts = account.files.stat(path)
        modified = int(facts.st_mtime)
        if stat.S_ISREG(facts.st_mode) and facts.st_size > LARGE:
            return large_digest(account.files, path, facts.st_size), file_time(base, modified)
        octets = account.files.read_file(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        # A directory, a link, a device, or a bad sector.
        set_aside(account, folder, location, error.strerror or str(error))
        return None
    claimed = sizes_of(base).get("S", 0)
    if not octets or len(octets) < claimed:
        set_aside(account, folder, location, f"{len(octets)} octets of {claimed or 'a message'}")
        return None
    return safe_digest(octets), file_time(base, modified)


def file_time(base: str, modified: int) -> int:
    """Return the internal date of a file: our names carry it, others have it as their mtime."""
    parts = base.split(".", 2)
    if len(parts) == 3 and is_id(parts[1][:LENGTH]):
        return time_of(base) or max(modified, 0)
    return max(modified, 0)


def set_aside(account: AccountStore, folder: Folder, location: str, reason: str) -> None:
    """Move what is not a message into ``damaged/``; what cannot be moved stays, and is told of."""
    name = f"{folder.row}.{account.new_identifier()}.{location.partition('/')[2]}"[:255]
    try:
        account.files.make_directory(account.directory / "damaged")
        account.files.rename(account.file(folder, location), account.directory / "damaged" / name)
    except OSError:
        _log.failure("quarantine", event="storage.quarantine.failed", account=account.account_id)
        return
    _log.warn(
        event="storage.message.quarantined",
        account=account.account_id,
        mailbox=folder.mailbox_id,
        file=location,
        kept=name,
        reason=reason,
    )


def place(
    account: AccountStore, folder: Folder, news: Sequence[NewPlacement], mod_seq: int
) -> list[PlacementRow]:
    """
    Add placements to a mailbox, in a transaction and with UIDs reserved; return the rows.

    Counters, threads and the cache are kept with them.
    """
    database = account.database
    digests: list[tuple[int, bytes, Digest]] = []
    rows: list[PlacementRow] = []
    for new in news:
        message = new.message
        if new.digest is not None and not message:
            message = database.insert_message(_message(account, new, new.digest))
            new.size = new.digest.size
            digests.append((message, new.digest.blob, new.digest))
        uid = new.uid or folder.uid_next
        folder.uid_next = max(folder.uid_next, uid + 1)
        rows.append(
            PlacementRow(
                uid, message, new.flags, mod_seq, mod_seq, new.state, new.key, new.location
            )
        )
        count(folder, new.flags, new.size, 1)
    database.insert_placements(folder.row, rows)
    cache_database.put_digests(database.connection, digests)
    folder.mod_seq = mod_seq
    folder.changed = True
    return rows


def index_arrived(account: AccountStore) -> None:
    """
    Write the rows of what arrived, in one transaction; under the account's lock.

    Raises OSError or sqlite3.Error; then all of it waits on.
    """
    database = account.database
    by_folder: dict[int, list[NewPlacement]] = {}
    for row, new in account.arrived:
        # A mailbox that was deleted meanwhile took its files along.
        if row in database.folders:
            by_folder.setdefault(row, []).append(new)
    placed: list[tuple[Folder, list[PlacementRow]]] = []
    try:
        for row, news in by_folder.items():
            account.reserve(database.folders[row], sum([not new.uid for new in news]))
        if by_folder:
            with database.transaction():
                mod_seq = database.next_mod_seq()
                for row, news in by_folder.items():
                    folder = database.folders[row]
                    placed.append((folder, place(account, folder, news, mod_seq)))
    except BaseException:
        for _, new in account.arrived:
            # Behind what others place before the next attempt: UIDs must appear in order.
            new.uid = 0
        raise
    account.arrived = []
    for folder, rows in placed:
        if account.searched:
            account.texts_wanted.extend([(folder.row, row.uid) for row in rows])
        account.list_uids(folder, [(row.uid, split_name(row.location[4:])[0]) for row in rows])


def recognise(account: AccountStore, folder: Folder, new: NewPlacement) -> None:
    """
    Make a file that was moved or linked here from another mailbox the same message.

    Its email id and keywords stay with it. In a transaction.
    """
    database = account.database
    elsewhere = database.placed(new.key)
    numbers = [row.message for _, row in elsewhere]
    numbers += [message for _, _, message in database.buried(new.key)]
    for number in numbers:
        message = database.message(number)
        if message is not None and new.digest is not None and message.blob == new.digest.blob:
            new.message, new.size = number, message.size
            words = frozenset[str]().union(
                *[database.words.keywords(r.flags) for _, r in elsewhere]
            )
            if words:
                new.flags = database.words.value(
                    new.flags & SYSTEM_BITS, database.words.keywords(new.flags) | words
                )
                account.learn_keywords(folder, words)
            return


def count(folder: Folder, flags: int, size: int, sign: int) -> None:
    """Take a placement into, or out of, the counters of a mailbox."""
    folder.messages += sign
    folder.size += sign * size
    folder.unseen += sign * (not flags & SEEN)
    folder.deleted += sign * bool(flags & DELETED)
    folder.changed = True


def state_of(digest: Digest) -> int:
    """Return the state bits of a file with this digest."""
    return LF if digest.bare_lf else 0


def email_id_of(key: str) -> str:
    """Return the email id (RFC 8474 5.1) of a message first placed under a key."""
    if is_id(key[:LENGTH]) and key.replace("-", "").isalnum() and key.isascii() and len(key) < 64:
        return "M" + key
    return "F" + blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _message(account: AccountStore, new: NewPlacement, found: Digest) -> Message:
    references = found.references or found.in_reply_to
    if len(references) > MAX_REFERENCES:
        references = references[:1] + references[1 - MAX_REFERENCES :]
    hashes = list(dict.fromkeys(_hashes((*references, found.message_id))))
    if hashes:
        thread = account.database.thread_of(hashes, hashes[0])
    else:
        thread = int.from_bytes(account.surroundings.random_bytes(8), "big") >> 1
    return Message(
        0, email_id_of(new.key), found.blob, found.size, new.date, new.zone, thread, found.day
    )


def _hashes(references: Iterable[str]) -> Iterable[int]:
    for reference in references:
        if reference:
            octets = reference.encode("utf-8", "surrogateescape")
            yield int.from_bytes(blake2b(octets, digest_size=8).digest(), "big") >> 1
