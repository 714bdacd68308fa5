"""
An account's mailboxes: listing, creating, deleting, renaming.

    operation  order                                              a crash before the end leaves
    create     directories; UID list; sync; row, durable          a directory without row, that a
                                                                  later create uses; `discover`
                                                                  makes it a mailbox
    delete     rows out, deletion noted, durable; the directory   a directory that the next opening
               is moved into ``expunged/``                        moves out
    rename     names and journal, durable; directories; journal   directories that the next opening
               emptied, durable                                   renames
    subscribe  row, durable; file ``subscriptions``               a file that is behind, which only
                                                                  a rebuild reads
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Sequence
from pathlib import Path

from twisted.logger import Logger

from mailhost.errors import (
    MailboxExists,
    MailboxNameRefused,
    MailboxReadOnly,
    MailhostError,
)
from mailhost.interfaces.access import MailboxFacts, MailboxStatus
from mailhost.storage import message_changes
from mailhost.storage.account_database import Folder
from mailhost.storage.account_store import AccountStore
from mailhost.storage.data_directory import replace_file
from mailhost.storage.folder_names import INBOX, directory_of, name_of, normalize, parents
from mailhost.storage.foreign import TOMBSTONE_LIFE
from mailhost.storage.opening import (
    SUBSCRIPTIONS,
    finish_deletions,
    list_files,
    new_folder,
    rebuild_folder,
    rename_directory,
    write_list,
)
from mailhost.storage.uid_list import UIDList, read_uid_list
from mailhost.units import UID, MailboxID, ModSeq, UIDValidity

MAX_MAILBOXES = 10_000
"""Mailboxes of one account."""

_log = Logger(namespace="mailhost.storage.folders")


def mailboxes(account: AccountStore) -> tuple[MailboxFacts, ...]:
    """Return every mailbox, and every name without one that has children or a subscription."""
    with account.lock:
        discover(account)
        subscribed = account.database.subscriptions()
        facts = {
            folder.name: MailboxFacts(
                folder.mailbox_id, folder.name, folder.special_use, folder.name in subscribed
            )
            for folder in account.database.folders.values()
        }
    for above in [above for name in facts for above in parents(name)]:
        facts.setdefault(above, MailboxFacts(None, above, (), above in subscribed))
    for name in subscribed:
        facts.setdefault(name, MailboxFacts(None, name, (), True))
    return tuple(sorted(facts.values(), key=lambda each: (each.name != INBOX, each.name)))


def discover(account: AccountStore) -> None:
    """Make mailboxes of directories that another program made."""
    finish_deletions(account)
    known = {folder.directory for folder in account.database.folders.values()}
    for directory in sorted(account.files.names(account.maildir)):
        if not directory.startswith(".") or directory in known:
            continue
        name = name_of(directory)
        path = account.maildir / directory
        if name is None or name in account.database.by_name or not _is_maildir(account, path):
            continue
        try:
            account.reserve(None, 0)
            with account.database.transaction(durable=True):
                rebuild_folder(account, directory, read_uid_list(account.files, path))
        except (OSError, sqlite3.Error, MailhostError):
            # No room, or not readable: the mailboxes that are known are of use without it, and
            # the next look tries again.
            _log.failure("found", event="storage.mailbox.unusable", account=account.account_id)
            continue
        folder = account.database.by_name[name]
        account.tell(folder)
        _log.info(
            event="storage.mailbox.found", account=account.account_id, mailbox=folder.mailbox_id
        )


def _is_maildir(account: AccountStore, path: Path) -> bool:
    """Whether these are directories and no links: what others put here leads nowhere else."""
    try:
        return all(stat.S_ISDIR(account.files.stat(each).st_mode) for each in (path, path / "cur"))
    except OSError:
        return False


def status(account: AccountStore, mailbox_id: MailboxID) -> MailboxStatus:
    """Return the counters of a mailbox."""
    with account.lock:
        folder = account.folder(mailbox_id)
        recent = account.database.count_from(folder.row, folder.recent_from)
        return MailboxStatus(
            folder.messages,
            folder.unseen,
            folder.deleted,
            recent,
            folder.size,
            UID(folder.uid_next),
            UIDValidity(folder.uid_validity),
            ModSeq(folder.mod_seq),
        )


def create(account: AccountStore, name: str, special_use: Sequence[str]) -> MailboxID:
    """Create a mailbox, with those above it that are missing."""
    name = normalize(name)
    with account.lock:
        if name in account.database.by_name:
            raise MailboxExists(name)
        if len(account.database.folders) >= MAX_MAILBOXES:
            raise MailboxNameRefused(f"more than {MAX_MAILBOXES} mailboxes")
        missing = [each for each in parents(name) if each not in account.database.by_name]
        made = [_create(account, each, ()) for each in missing]
        made.append(_create(account, name, tuple(special_use)))
        for folder in made:
            account.tell(folder)
        return made[-1].mailbox_id


def _create(account: AccountStore, name: str, special_use: tuple[str, ...]) -> Folder:
    account.reserve(None, 0)
    finish_deletions(account)
    directory = directory_of(name)
    path = account.make_folder_directories(directory)
    with account.database.transaction(durable=True):
        # What lies there from an unfinished create, or from another program, becomes its content;
        # a list of a mailbox that had the name before is not believed.
        folder = new_folder(account, name, directory, special_use, UIDList())
        times = account.directory_times(folder)
        if not list_files(account, folder):
            account.note_listed(folder, times)
        write_list(account, folder, durable=True)
        account.files.sync_directory(path)
        account.files.sync_directory(account.maildir)
    _log.info(
        event="storage.mailbox.created", account=account.account_id, mailbox=folder.mailbox_id
    )
    return folder


def delete(account: AccountStore, mailbox_id: MailboxID) -> None:
    """Delete a mailbox, not its children; its messages must be settled."""
    with account.lock:
        folder = account.folder(mailbox_id)
        if folder.name == INBOX:
            raise MailboxReadOnly(INBOX)
        file = f"mailbox-{folder.mailbox_id}"
        directory = folder.directory
        account.reserve(None, 0)
        with account.database.transaction(durable=True):
            mod_seq = account.database.next_mod_seq()
            expires = int(account.surroundings.now()) + TOMBSTONE_LIFE
            account.database.delete_mailbox(folder, file, expires)
        folder.mod_seq = mod_seq
        account.tell(folder)
        try:
            rename_directory(account, directory, f"../expunged/{file}")
            with account.database.transaction():
                account.database.deletion_moved(mailbox_id)
        except OSError:
            # It is deleted; the next opening moves the directory, and so does a new create.
            _log.failure("move", event="storage.delete.unfinished", account=account.account_id)
    _log.info(event="storage.mailbox.deleted", account=account.account_id, mailbox=mailbox_id)


def rename(account: AccountStore, mailbox_id: MailboxID, name: str) -> None:
    """Rename a mailbox and all below it; INBOX is emptied into a new one instead."""
    name = normalize(name)
    with account.lock:
        folder = account.folder(mailbox_id)
        old = folder.name
        if name in account.database.by_name:
            raise MailboxExists(name)
        if old == INBOX:
            _empty_inbox(account, folder, name)
            return
        if name.startswith(old + "/"):
            raise MailboxNameRefused("a mailbox cannot become its own child")
        renamed = _renamed(account, old, name)
        for above in parents(name):
            if above not in account.database.by_name:
                _create(account, above, ())
        _rename_all(account, [(account.folder(each), new) for each, new in renamed])
    _log.info(event="storage.mailbox.renamed", account=account.account_id, mailbox=mailbox_id)


def _renamed(account: AccountStore, old: str, name: str) -> list[tuple[MailboxID, str]]:
    renamed = []
    for folder in account.database.folders.values():
        if folder.name == old or folder.name.startswith(old + "/"):
            new = normalize(name + folder.name[len(old) :])
            taken = account.database.by_name.get(new)
            if taken is not None:
                raise MailboxExists(new)
            renamed.append((folder.mailbox_id, new))
    return renamed


def _rename_all(account: AccountStore, renamed: list[tuple[Folder, str]]) -> None:
    database = account.database
    for folder, name in renamed:
        target = account.maildir / directory_of(name)
        if target.exists():
            # Not a mailbox of ours, or it would have been found by name.
            raise MailboxExists(name)
        assert folder.directory, "INBOX is not renamed"
    before = [(folder.mailbox_id, folder.name, folder.directory) for folder, _ in renamed]
    pairs = [(folder.directory, directory_of(name)) for folder, name in renamed]
    account.reserve(None, 0)
    with database.transaction(durable=True):
        database.put_pending_renames(pairs)
        mod_seq = database.next_mod_seq()
        for folder, name in renamed:
            folder.mod_seq = mod_seq
            database.rename_mailbox(folder, name, directory_of(name))
    try:
        for source, target_name in pairs:
            rename_directory(account, source, target_name)
        account.files.sync_directory(account.maildir)
    except OSError:
        _undo_renames(account, before, pairs)
        raise
    with database.transaction():
        database.clear_pending_renames()
    for folder, _ in renamed:
        account.tell(folder)


def _undo_renames(
    account: AccountStore,
    before: list[tuple[MailboxID, str, str]],
    pairs: list[tuple[str, str]],
) -> None:
    # If this fails too the journal stands, and the next opening carries the rename through.
    for source, target in reversed(pairs):
        if (account.maildir / target).exists():
            account.files.rename(account.maildir / target, account.maildir / source)
    with account.database.transaction(durable=True):
        for mailbox_id, name, directory in before:
            account.database.rename_mailbox(account.folder(mailbox_id), name, directory)
        account.database.clear_pending_renames()


def _empty_inbox(account: AccountStore, inbox: Folder, name: str) -> None:
    # RFC 9051 6.3.6: what is below INBOX stays.
    target = create(account, name, ())
    uids = [uid for (uid,) in account.database.uids(inbox.row)]
    message_changes.move(account, inbox.mailbox_id, uids, target)


def subscribe(account: AccountStore, name: str, subscribed: bool) -> None:
    """Add or remove a name of the subscription list."""
    if subscribed:
        name = normalize(name)
    with account.lock:
        with account.database.transaction(durable=True):
            account.database.subscribe(name, subscribed)
        text = "".join([f"{each}\n" for each in sorted(account.database.subscriptions())])
        replace_file(account.files, account.maildir / SUBSCRIPTIONS, text.encode(), durable=False)
