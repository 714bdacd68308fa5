"""
Changes of messages that sessions make: flags, expunge, copy, move.

    operation  order                                            a crash before the end leaves
    store      index row (durable within a second); the name    index row newer than the name: the
               follows in `write_names`: rename, sync of the    name is written after the next
               directory, location in the index                 start; or the name newer than its
                                                                location: merged, to no effect
    expunge    tombstone, durable; rename into ``expunged/``     a tombstone with the file in place:
                                                                the next look finishes it
    copy       journal, durable; links; sync of directory;      links that are in the journal: they
               placements, durable, journal emptied             are unlinked at the next opening
    move       renames; sync of both directories; placements    files that were renamed and not
               and tombstones, durable                          placed: the next look places them,
                                                                as the same messages

Expunge, copy and move need their messages settled: the caller asks `unsettled` first.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from twisted.logger import Logger

from mailhost.interfaces.access import (
    CopyResult,
    ExpungeResult,
    FlagOperation,
    StoreResult,
)
from mailhost.storage import placing
from mailhost.storage.account_database import Folder, Message, PlacementRow
from mailhost.storage.account_store import AccountStore
from mailhost.storage.file_names import DELETED, base_name, location, sizes_of, split_name
from mailhost.storage.foreign import TOMBSTONE_LIFE
from mailhost.storage.opening import unlink, write_list
from mailhost.storage.placing import NewPlacement
from mailhost.units import MailboxID, ModSeq, UIDValidity

_log = Logger(namespace="mailhost.storage.message_changes")


@dataclass(frozen=True, slots=True)
class NotSettled:
    """The answer instead of a change: these must be settled first."""

    queue_ids: list[str]


def unsettled(
    account: AccountStore, mailbox_id: MailboxID, uids: Sequence[int] | None, *, marked: bool
) -> list[str]:
    """Return the queue ids, of those placements, that only the spool holds durably."""
    with account.lock:
        folder = account.folder(mailbox_id)
        rows = account.database.placements(folder.row, uids, DELETED if marked else 0)
        return account.surroundings.unsettled.among([row.key for row in rows])


# STORE


def store(
    account: AccountStore,
    mailbox_id: MailboxID,
    uids: Sequence[int],
    operation: FlagOperation,
    flags: Sequence[str],
    unchanged_since: ModSeq | None,
) -> StoreResult:
    """Change flags in the index; the names follow."""
    with account.lock:
        folder = account.folder(mailbox_id)
        database = account.database
        account.reserve(folder, 0)
        stored: list[tuple[int, tuple[str, ...], int]] = []
        modified: list[int] = []
        with database.transaction():
            words = database.words
            bits, keywords = words.parse(flags)
            if operation is not FlagOperation.REMOVE:
                account.learn_keywords(folder, keywords)
            results: dict[int, int] = {}
            changed: list[tuple[int, int, int]] = []
            mod_seq = 0
            for row in database.placements(folder.row, uids):
                if unchanged_since is not None and row.mod_seq > unchanged_since:
                    modified.append(row.uid)
                    continue
                value = results.get(row.flags)
                if value is None:
                    value = account.combined(row.flags, operation, bits, keywords)
                    results[row.flags] = value
                if value == row.flags:
                    stored.append((row.uid, words[value], row.mod_seq))
                    continue
                mod_seq = mod_seq or database.next_mod_seq(folder)
                placing.count(folder, row.flags, 0, -1)
                placing.count(folder, value, 0, 1)
                changed.append((row.uid, value, mod_seq))
                stored.append((row.uid, words[value], mod_seq))
            database.set_flags(folder.row, changed)
        if changed:
            account.unwritten.update([(folder.row, uid) for uid, _, _ in changed])
            account.undurable = True
            account.surroundings.touched(account.account_id)
            account.tell(folder)
    return StoreResult(tuple(stored), tuple(modified))


def write_names(account: AccountStore) -> None:
    """
    Give files the names that show their flags, and make flag changes durable.

    Takes the lock by itself, and does not hold it while directories are synced.

    Raises:
        OSError: not all could be done; it is tried again with the next pass.
        sqlite3.Error: likewise.
    """
    try:
        with account.lock:
            if account.undurable:
                with account.database.transaction(durable=True):
                    account.undurable = False
            folders = _rename_unwritten(account)
        # One directory sync for all names of a mailbox; deliveries go on meanwhile.
        for folder in folders:
            account.sync_names(folder)
        with account.lock:
            _note_renamed(account)
            _mend_lists(account)
    except BaseException:
        account.undurable = True
        account.surroundings.touched(account.account_id)
        raise


def _rename_unwritten(account: AccountStore) -> list[Folder]:
    by_folder: dict[int, list[int]] = {}
    for row, uid in account.unwritten:
        by_folder.setdefault(row, []).append(uid)
    touched = []
    for row, uids in by_folder.items():
        folder = account.database.folders.get(row)
        if folder is None:
            account.unwritten.difference_update([(row, uid) for uid in uids])
            continue
        with account.own_change(folder):
            for placement in account.database.placements(row, sorted(uids)):
                _write_name(account, folder, placement)
        # Those that are gone by now have no name to write.
        account.unwritten.difference_update([(row, uid) for uid in uids])
        touched.append(folder)
    return touched


def _write_name(account: AccountStore, folder: Folder, placement: PlacementRow) -> None:
    now = account.location(folder, placement.uid, placement.location)
    base = split_name(now[4:])[0]
    letters = account.database.words.letters(placement.flags, folder.keywords)
    wanted = location(base, letters, new=now.startswith("new/"))
    if wanted != now:
        try:
            account.files.rename(account.file(folder, now), account.file(folder, wanted))
        except FileNotFoundError:
            # Another program was faster: the next look sees what it did.
            return
        account.renamed[folder.row, placement.uid] = wanted
    account.unwritten.discard((folder.row, placement.uid))


def _note_renamed(account: AccountStore) -> None:
    if not account.renamed:
        return
    by_folder: dict[int, list[tuple[int, str]]] = {}
    for (row, uid), where in account.renamed.items():
        by_folder.setdefault(row, []).append((uid, where))
    with account.database.transaction():
        for row, locations in by_folder.items():
            account.database.set_locations(row, locations)
    account.renamed.clear()


def _mend_lists(account: AccountStore) -> None:
    for row in sorted(account.lists_behind):
        if row in account.database.folders:
            write_list(account, account.database.folders[row], durable=True)
        account.lists_behind.discard(row)


# EXPUNGE


def expunge(
    account: AccountStore, mailbox_id: MailboxID, uids: Sequence[int] | None, *, marked: bool
) -> ExpungeResult:
    """Remove settled messages, durably."""
    with account.lock:
        folder = account.folder(mailbox_id)
        database = account.database
        rows = database.placements(folder.row, uids, DELETED if marked else 0)
        if not rows:
            return ExpungeResult((), ModSeq(folder.mod_seq))
        account.reserve(folder, 0)
        files = [(row, _expunged_name(folder, row)) for row in rows]
        where = [account.location(folder, row.uid, row.location) for row in rows]
        with database.transaction(durable=True):
            _bury(account, folder, files)
        with account.own_change(folder):
            for (row, file), place in zip(files, where, strict=True):
                _put_away(account, folder, row, place, file)
        account.tell(folder)
        return ExpungeResult(tuple([row.uid for row in rows]), ModSeq(folder.mod_seq))


def _expunged_name(folder: Folder, row: PlacementRow) -> str:
    name = f"{row.uid}.{folder.row}.{row.key}"
    return (
        name if len(name.encode("utf-8", "surrogateescape")) <= 255 else f"{row.uid}.{folder.row}"
    )


def _bury(account: AccountStore, folder: Folder, files: list[tuple[PlacementRow, str]]) -> None:
    database = account.database
    mod_seq = database.next_mod_seq(folder)
    messages = database.messages_of(folder.row, [row.uid for row, _ in files])
    for row, _ in files:
        placing.count(folder, row.flags, messages[row.uid].size, -1)
    expires = int(account.surroundings.now()) + TOMBSTONE_LIFE
    database.bury(folder.row, files, mod_seq, expires)


def _put_away(
    account: AccountStore, folder: Folder, row: PlacementRow, place: str, file: str
) -> None:
    account.unwritten.discard((folder.row, row.uid))
    account.renamed.pop((folder.row, row.uid), None)
    try:
        account.files.rename(account.file(folder, place), f"{account.directory}/expunged/{file}")
    except FileNotFoundError:
        # Another program removed or renamed it; what it renamed the next look puts away.
        return
    except OSError:
        # The tombstone is durable, so the message is gone; the next look moves the file.
        folder.seen_cur = 0
        _log.failure("put away", event="storage.expunge.unfinished", account=account.account_id)


# COPY and MOVE


@dataclass(frozen=True, slots=True)
class _Transfer:
    """One message on its way into another mailbox."""

    row: PlacementRow
    message: Message
    source: str
    new: NewPlacement


def copy(
    account: AccountStore, mailbox_id: MailboxID, uids: Sequence[int], target_id: MailboxID
) -> CopyResult:
    """Copy settled messages, all or none, durably."""
    with account.lock:
        folder, target = account.folder(mailbox_id), account.folder(target_id)
        transfers = _transfers(account, folder, target, uids, moved=False)
        if not transfers:
            return CopyResult(UIDValidity(target.uid_validity), (), (), ModSeq(0))
        account.reserve(target, len(transfers))
        database = account.database
        with database.transaction(durable=True):
            database.put_pending_copies(
                target.row, [(each.new.key, each.new.location) for each in transfers]
            )
        done: list[str] = []
        try:
            with account.own_change(target):
                for each in transfers:
                    path = account.file(target, each.new.location)
                    done.append(path)
                    _duplicate(account, account.file(folder, each.source), path)
            account.sync_names(target)
            rows = _settle_in(account, target, transfers)
        except BaseException:
            for path in done:
                unlink(account, path)
            with database.transaction():
                database.clear_pending_copies(target.row)
            raise
        _finish_transfer(account, target, rows)
        return _result(target, transfers, rows, 0)


def _duplicate(account: AccountStore, source: str, path: str) -> None:
    try:
        account.files.link(source, path)
    except OSError as error:
        # Too many names for one file, or a file system without links.
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.EXDEV):
            raise
        octets = account.files.read_file(source)
        descriptor = account.files.create(path)
        try:
            account.files.write(descriptor, [octets])
            account.files.sync_data(descriptor)
        finally:
            account.files.close(descriptor)


def _settle_in(
    account: AccountStore, target: Folder, transfers: list[_Transfer]
) -> list[PlacementRow]:
    database = account.database
    with database.transaction(durable=True):
        _learn(account, target, transfers)
        rows = placing.place(
            account, target, [each.new for each in transfers], database.next_mod_seq(target)
        )
        database.clear_pending_copies(target.row)
    return rows


def move(
    account: AccountStore, mailbox_id: MailboxID, uids: Sequence[int], target_id: MailboxID
) -> CopyResult:
    """Move settled messages, all or none, durably."""
    with account.lock:
        folder, target = account.folder(mailbox_id), account.folder(target_id)
        transfers = _transfers(account, folder, target, uids, moved=folder is not target)
        if not transfers:
            validity = UIDValidity(target.uid_validity)
            return CopyResult(validity, (), (), ModSeq(folder.mod_seq))
        account.reserve(target, len(transfers))
        done: list[tuple[str, str]] = []
        try:
            with account.own_change(folder), account.own_change(target):
                for each in transfers:
                    source = account.file(folder, each.source)
                    path = account.file(target, each.new.location)
                    account.files.rename(source, path)
                    done.append((source, path))
            account.sync_names(*({folder.row: folder, target.row: target}.values()))
            rows = _settle_moved(account, folder, target, transfers)
        except BaseException:
            for source, path in reversed(done):
                account.files.rename(path, source)
            raise
        for each in transfers:
            account.unwritten.discard((folder.row, each.row.uid))
            account.renamed.pop((folder.row, each.row.uid), None)
        _finish_transfer(account, target, rows)
        if folder is not target:
            account.tell(folder)
        return _result(target, transfers, rows, folder.mod_seq)


def _settle_moved(
    account: AccountStore, folder: Folder, target: Folder, transfers: list[_Transfer]
) -> list[PlacementRow]:
    database = account.database
    with database.transaction(durable=True):
        _learn(account, target, transfers)
        # Their files are not in expunged/: an empty name says so.
        _bury(account, folder, [(each.row, "") for each in transfers])
        return placing.place(
            account, target, [each.new for each in transfers], database.next_mod_seq(target)
        )


def _transfers(
    account: AccountStore, folder: Folder, target: Folder, uids: Sequence[int], *, moved: bool
) -> list[_Transfer]:
    words = account.database.words
    messages = account.database.messages_of(folder.row, uids)
    transfers = []
    for row in account.database.placements(folder.row, uids):
        message = messages[row.uid]
        source = account.location(folder, row.uid, row.location)
        key, base = row.key, split_name(source[4:])[0]
        if not moved or any(at == target.row for at, _ in account.database.placed(key)):
            key = account.new_identifier()
            size = _size(account, folder, source)
            host = account.surroundings.host
            base = base_name(max(message.date, 0), key, host, size, message.size)
        # Letters of keywords differ between mailboxes: they follow with the names.
        letters = words.letters(row.flags, [])
        new = NewPlacement(
            key,
            location(base, letters, new=source.startswith("new/")),
            row.flags,
            None,
            message=row.message,
            size=message.size,
            state=row.state,
        )
        transfers.append(_Transfer(row, message, source, new))
    return transfers


def _size(account: AccountStore, folder: Folder, source: str) -> int:
    claimed = sizes_of(split_name(source[4:])[0]).get("S")
    return account.files.stat(account.file(folder, source)).st_size if claimed is None else claimed


def _learn(account: AccountStore, target: Folder, transfers: list[_Transfer]) -> None:
    words = account.database.words
    for flags in {each.row.flags for each in transfers}:
        account.learn_keywords(target, words.keywords(flags))


def _finish_transfer(account: AccountStore, target: Folder, rows: list[PlacementRow]) -> None:
    with_letters = [row for row in rows if account.database.words.keywords(row.flags)]
    if with_letters:
        account.unwritten.update([(target.row, row.uid) for row in with_letters])
        account.surroundings.touched(account.account_id)
    account.list_uids(target, [(row.uid, split_name(row.location[4:])[0]) for row in rows])
    account.tell(target)


def _result(
    target: Folder, transfers: list[_Transfer], rows: list[PlacementRow], mod_seq: int
) -> CopyResult:
    return CopyResult(
        UIDValidity(target.uid_validity),
        tuple([each.row.uid for each in transfers]),
        tuple([row.uid for row in rows]),
        ModSeq(mod_seq),
    )
