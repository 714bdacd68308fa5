"""
Opening an account: its index as it was left, finished where a crash cut in, or rebuilt.

    index found                        what happens
    sound, same epoch                  used as it is; journals are finished
    sound, earlier epoch               UIDs and mod-sequences go on behind what was reserved
    none, empty, without account row   rebuilt from the folders and their UID lists
    damaged                            moved aside as ``account.sqlite.damaged-<id>``, then rebuilt

A rebuild is one durable transaction; a crash before its end leaves an index without account row,
which is rebuilt again. UID lists are written anew, and synced, before it is committed.
"""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

from twisted.logger import Logger

from mailhost.storage import cache_database, placing
from mailhost.storage.account_database import AccountDatabase, Folder, is_damage
from mailhost.storage.account_store import (
    DEFAULT_FOLDERS,
    MOD_SEQ_BLOCK,
    UID_BLOCK,
    AccountStore,
    Surroundings,
)
from mailhost.storage.file_names import key_of, split_name
from mailhost.storage.folder_names import INBOX, directory_of, name_of
from mailhost.storage.placing import NewPlacement
from mailhost.storage.uid_list import UIDList, read_keywords, read_uid_list, write_uid_list
from mailhost.units import AccountID, MailboxID

_log = Logger(namespace="mailhost.storage.opening")

SUBSCRIPTIONS = "subscriptions"
"""The file in the Maildir that repeats the subscription list, as Dovecot writes it."""


def open_account(
    account_id: AccountID, directory: Path, surroundings: Surroundings
) -> AccountStore:
    """
    Open an account, or make it, whatever state it is in. The caller closes it.

    Raises:
        OSError: it cannot be opened now.
        sqlite3.Error: likewise.
        DataDirectoryError: a newer mailhost wrote it.
    """
    account = AccountStore(account_id, directory, surroundings)
    account.index_arrived = partial(placing.index_arrived, account)
    account.database = _open_database(account)
    account.searched = cache_database.has_texts(account.database.connection)
    try:
        _finish(account)
    except BaseException:
        account.database.close()
        raise
    return account


def _open_database(account: AccountStore) -> AccountDatabase:
    _make(account, account.directory)
    epoch = account.surroundings.epoch
    try:
        database = AccountDatabase(account.directory, account.files)
        if database.account_id and database.epoch != epoch:
            _check(database)
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        set_aside(account)
        database = AccountDatabase(account.directory, account.files)
    account.database = database
    try:
        if not database.account_id:
            _rebuild(account, database)
        elif database.epoch != epoch:
            _begin_epoch(account, database)
    except BaseException:
        database.close()
        raise
    return database


def _make(account: AccountStore, directory: Path) -> None:
    account.files.make_directory(directory)
    account.files.make_directory(directory / "expunged")


def _check(database: AccountDatabase) -> None:
    answer = database.connection.execute("PRAGMA main.quick_check(1)").fetchone()[0]
    if answer != "ok":
        database.close()
        error = sqlite3.DatabaseError(str(answer))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def set_aside(account: AccountStore) -> None:
    """Move a damaged index out of the way, and forget the cache that belongs to it."""
    stamp = account.new_identifier()
    for suffix in ("", "-wal", "-shm"):
        path = account.directory / f"account.sqlite{suffix}"
        try:
            account.files.rename(
                path, account.directory / f"account.sqlite.damaged-{stamp}{suffix}"
            )
        except FileNotFoundError:
            continue
    cache_database.remove(account.directory / "cache.sqlite", account.files)
    _log.error(event="storage.index.damaged", account=account.account_id, kept=stamp)


def _begin_epoch(account: AccountStore, database: AccountDatabase) -> None:
    # What was given out after the last sync may be forgotten, but not given out again.
    with database.transaction(durable=True):
        database.epoch = account.surroundings.epoch
        database.mod_seq = database.mod_seq_reserved
        for folder in database.folders.values():
            folder.uid_next = max(folder.uid_next, folder.uid_reserved + 1)
            folder.seen_new = folder.seen_cur = 0
            folder.changed = True


def _finish(account: AccountStore) -> None:
    # What a crash left in the journals, and names that do not show their flags.
    database = account.database
    finish_deletions(account)
    renames = database.pending_renames()
    if renames:
        for source, target in renames:
            rename_directory(account, source, target)
        account.files.sync_directory(account.maildir)
        with database.transaction(durable=True):
            database.clear_pending_renames()
    copies = database.pending_copies()
    if copies:
        for row, location in copies:
            if row in database.folders:
                unlink(account, account.file(database.folders[row], location))
        with database.transaction():
            database.clear_pending_copies()
    for folder in database.folders.values():
        if not folder.seen_new:
            _find_unwritten(account, folder)


def finish_deletions(account: AccountStore) -> None:
    """Move the directories of deleted mailboxes out of the Maildir."""
    database = account.database
    for mailbox_id, directory, file in database.unfinished_deletions():
        rename_directory(account, directory, f"../expunged/{file}")
        account.files.sync_directory(account.maildir)
        with database.transaction():
            database.deletion_moved(mailbox_id)


def rename_directory(account: AccountStore, source: str, target: str) -> None:
    """Rename a mailbox's directory, unless that was done."""
    try:
        account.files.rename(account.maildir / source, account.maildir / target)
    except FileNotFoundError:
        if not (account.maildir / target).exists():
            raise


def unlink(account: AccountStore, path: str) -> None:
    """Remove a file that may be gone."""
    try:
        account.files.unlink(path)
    except FileNotFoundError:
        return


def _find_unwritten(account: AccountStore, folder: Folder) -> None:
    words = account.database.words
    for row in account.database.placements(folder.row):
        _, letters = split_name(row.location)
        if letters != words.letters(row.flags, folder.keywords):
            account.unwritten.add((folder.row, row.uid))
    if account.unwritten:
        account.surroundings.touched(account.account_id)


# Rebuilding


def _rebuild(account: AccountStore, database: AccountDatabase) -> None:
    now = account.surroundings.now()
    fresh = not account.maildir.exists()
    account.make_folder_directories("")
    if not fresh:
        cache = account.directory / "cache.sqlite"
        cache_database.detach(database.connection)
        cache_database.remove(cache, account.files)
        cache_database.attach(database.connection, cache, account.files)
    with database.transaction(durable=True):
        # Milliseconds are ahead of what any earlier index can have counted to.
        database.create_account(account.account_id, account.surroundings.epoch, int(now * 1000))
        heads = _read_heads(account)
        database.uid_validity = max([head.uid_validity for head in heads.values()], default=0)
        for directory, head in heads.items():
            rebuild_folder(account, directory, head)
        _add_default_folders(account)
        _read_subscriptions(account)
        database.mod_seq_reserved = database.mod_seq + MOD_SEQ_BLOCK
        account.files.sync_file_system(account.directory)
    _log.info(
        event="storage.account.created" if fresh else "storage.account.rebuilt",
        account=account.account_id,
        messages=sum(folder.messages for folder in database.folders.values()),
        mailboxes=len(database.folders),
    )


def _read_heads(account: AccountStore) -> dict[str, UIDList]:
    names = sorted(account.files.names(account.maildir))
    heads = {"": read_uid_list(account.files, account.maildir)}
    for directory in names:
        path = account.maildir / directory
        if not directory.startswith(".") or not path.is_dir() or path.is_symlink():
            continue
        if name_of(directory) is None:
            _log.warn(
                event="storage.directory.ignored", account=account.account_id, directory=directory
            )
            continue
        heads[directory] = read_uid_list(account.files, path)
    return heads


def new_folder(
    account: AccountStore, name: str, directory: str, special_use: tuple[str, ...], head: UIDList
) -> Folder:
    """Insert a mailbox, in a durable transaction, as far as its UID list knows it."""
    database = account.database
    known = head.mailbox_id and MailboxID(head.mailbox_id) not in database.by_id
    uid_next = head.highest + 1
    folder = Folder(
        row=0,
        mailbox_id=MailboxID(head.mailbox_id if known else account.new_identifier()),
        name=name,
        directory=directory,
        special_use=special_use or tuple(head.special_use),
        uid_validity=head.uid_validity or account.new_uid_validity(),
        uid_next=uid_next,
        uid_reserved=uid_next + UID_BLOCK,
        mod_seq=database.next_mod_seq(),
        vanished_floor=0,
        recent_from=1,
        messages=0,
        unseen=0,
        deleted=0,
        size=0,
        seen_new=0,
        seen_cur=0,
        keywords=read_keywords(account.files, account.maildir / directory),
    )
    database.insert_mailbox(folder)
    return folder


def write_list(account: AccountStore, folder: Folder, *, durable: bool) -> None:
    """Write a mailbox's UID list anew from the index."""
    head = UIDList(
        folder.uid_validity, folder.mailbox_id, list(folder.special_use), folder.uid_reserved
    )
    rows = account.database.placements(folder.row) if folder.messages else []
    write_uid_list(
        account.files,
        account.path(folder),
        head,
        [(row.uid, row.location.partition("/")[2].partition(":")[0]) for row in rows],
        durable=durable,
    )
    folder.listed = True


def rebuild_folder(account: AccountStore, directory: str, head: UIDList) -> None:
    """Make a mailbox of a directory and what its list says, in a durable transaction."""
    account.make_folder_directories(directory)
    name = (name_of(directory) if directory else INBOX) or directory
    if name in account.database.by_name:
        _log.warn(
            event="storage.directory.ignored", account=account.account_id, directory=directory
        )
        return
    folder = new_folder(account, name, directory, (), head)
    times = account.directory_times(folder)
    used: set[int] = set()
    listed: list[NewPlacement] = []
    others: list[NewPlacement] = []
    for location in list_files(account, folder):
        try:
            found = placing.examine(account, folder, location)
        except FileNotFoundError:
            continue
        if found is None:
            continue
        base, letters = split_name(location.partition("/")[2])
        flags = account.database.words.from_letters(letters, folder.keywords)
        uid = head.uids.get(base, 0)
        if uid in used:
            uid = 0
        used.add(uid)
        new = NewPlacement(key_of(base), location, flags, found[0], found[1], uid=uid)
        new.state = placing.state_of(found[0])
        (listed if uid else others).append(new)
    listed.sort(key=lambda new: new.uid)
    others.sort(key=lambda new: (new.date, new.key))
    placing.place(account, folder, listed + others, account.database.next_mod_seq(folder))
    folder.recent_from = folder.uid_next
    folder.uid_reserved = folder.uid_next + UID_BLOCK
    if account.directory_times(folder) == times:
        account.note_listed(folder, times)
    write_list(account, folder, durable=False)


def list_files(account: AccountStore, folder: Folder) -> list[str]:
    """
    Return the locations of all message files of a mailbox, ``new`` before ``cur``.

    A file that another program renames meanwhile may be missed, or be there twice.
    """
    path = account.path(folder)
    found: list[str] = []
    for part in ("new", "cur"):
        try:
            names = account.files.names(path / part)
        except FileNotFoundError:
            account.files.make_directory(path)
            account.files.make_directory(path / part)
            names = []
        for name in names:
            if not name.isascii():
                name = _usable_name(account, path / part, name)
            if not name.startswith("."):
                found.append(f"{part}/{name}")
    return found


def _usable_name(account: AccountStore, directory: Path, name: str) -> str:
    """Give a file whose name is no UTF-8 another that the index can hold; return its name then."""
    try:
        name.encode()
    except UnicodeEncodeError:
        new = "".join(letter if letter < "\x80" else "_" for letter in name)
        try:
            account.files.link(directory / name, directory / new)
            account.files.unlink(directory / name)
        except OSError:
            # Passed over until there is room for it, or somebody renames it.
            _log.failure("name", event="storage.name.unusable", account=account.account_id)
            return "."
        return new
    return name


def _add_default_folders(account: AccountStore) -> None:
    for name, special_use in DEFAULT_FOLDERS:
        if name not in account.database.by_name:
            directory = directory_of(name)
            account.make_folder_directories(directory)
            uses = (special_use,) if special_use else ()
            folder = new_folder(account, name, directory, uses, UIDList())
            account.note_listed(folder, account.directory_times(folder))
            write_list(account, folder, durable=False)


def _read_subscriptions(account: AccountStore) -> None:
    try:
        text = account.files.read_file(account.maildir / SUBSCRIPTIONS).decode("utf-8", "replace")
    except FileNotFoundError:
        for folder in account.database.folders.values():
            account.database.subscribe(folder.name, True)
        return
    for name in text.splitlines():
        if name:
            account.database.subscribe(name, True)
