"""
One account's mail: its Maildir, its index, and the lock under which both change.

    accounts/<account id>/
        Maildir/          INBOX: cur, new, tmp; folders ``.Sent``, ``.Archive.2024`` likewise
        expunged/         files of expunged messages, and directories of deleted mailboxes
        damaged/          files that cannot be messages, out of the way
        account.sqlite    the index (`account_schema`)
        cache.sqlite      what can be computed again (`cache_database`)

A directory without ``account.sqlite`` is either new or has lost it; both are *rebuilt*: every
folder found becomes a mailbox, with the UIDs its list names (`uid_list`). A crash during that
leaves an index without its account row, and the next opening does it again.

Opening also finishes what a crash left: journalled renames are carried through, files of a COPY
that was not committed are unlinked, directories of deleted mailboxes are moved out; under a new
epoch UIDs and mod-sequences continue behind what was reserved, and every folder is looked through.

Delivered mail has its file at once and its index row a little later: `AccountStore.arrived` keeps
what the row needs until somebody takes the lock, or the spool asks for all to be made durable. So a
mailbox that nobody looks at is written once a second, not once a message. Whoever holds the lock
finds everything in the index. A crash leaves the file, which the spool has written again.

Everything here blocks. `AccountStore.lock` is held for every use of the index, never while message
content is read.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger

from mailhost.errors import NoSuchMailbox
from mailhost.files import FileOperations
from mailhost.ids import new_id
from mailhost.interfaces.access import FlagOperation
from mailhost.storage.account_database import AccountDatabase, Folder
from mailhost.storage.file_names import queue_id_of
from mailhost.storage.uid_list import append_uids, write_keywords
from mailhost.units import AccountID, MailboxID

if TYPE_CHECKING:
    from mailhost.storage.snapshot import Snapshot

UID_BLOCK = 1000
"""UIDs of a mailbox reserved at a time."""
MOD_SEQ_BLOCK = 10_000
"""Mod-sequences of an account reserved at a time."""
MAX_UID = 0xFFFFFFFF

DEFAULT_FOLDERS = (
    ("INBOX", ""),
    ("Drafts", "\\Drafts"),
    ("Sent", "\\Sent"),
    ("Trash", "\\Trash"),
    ("Junk", "\\Junk"),
    ("Archive", "\\Archive"),
)
"""Mailboxes that a new account has, with their special use (RFC 6154)."""


class Notices(Protocol):
    """Where changes are told."""

    def changed(self, account_id: AccountID, mailbox_id: MailboxID, mod_seq: int) -> None:
        """Tell of a change that is committed."""


class Unsettled:
    """The queue ids of mail whose only durable copy is in the spool. Any thread."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._lock = Lock()

    def add(self, ids: Sequence[str]) -> None:
        """The spool holds these."""
        with self._lock:
            self._ids.update(ids)

    def discard(self, ids: Sequence[str]) -> None:
        """The spool holds these no longer."""
        with self._lock:
            self._ids.difference_update(ids)

    def among(self, keys: Sequence[str]) -> list[str]:
        """Return the queue ids that the spool holds, of placements with these keys."""
        with self._lock:
            if not self._ids:
                return []
            return sorted({queue_id_of(key) for key in keys} & self._ids)

    def all(self) -> set[str]:
        """Return all of them."""
        with self._lock:
            return set(self._ids)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """
    What every account store is given.

    Args:
        files: file access.
        now: Unix time in seconds; may jump (R-94).
        random_bytes: as ``os.urandom``.
        host: our name, for file names.
        epoch: of the data directory.
        notices: where changes are told.
        unsettled: what the spool holds.
        touched: called under the lock when there is work for the next pass over an account.
        arrived: called under the lock when an account has mail without index rows.
    """

    files: FileOperations
    now: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    host: str
    epoch: int
    notices: Notices
    unsettled: Unsettled
    touched: Callable[[AccountID], None]
    arrived: Callable[[AccountStore], None]


class AccountLock:
    """
    The lock of an account; who takes it finds all that arrived in the index.

    Where that fails, because the disk is full for example, what arrived waits on and the index is
    right without it: reading must not fail for it. `MailStore.sync` insists.
    """

    log = Logger()

    def __init__(self, account: AccountStore) -> None:
        self.bare = RLock()
        """The lock alone, for adding to what arrived."""
        self._account = account

    def __enter__(self) -> None:
        """Take the lock; may be nested."""
        self.bare.acquire()
        account = self._account
        if account.arrived and not account.database.connection.in_transaction:
            try:
                account.index_arrived()
            except (OSError, sqlite3.Error):
                self.log.failure(
                    "arrived", event="storage.arrival.waits", account=account.account_id
                )
            except BaseException:
                self.bare.release()
                raise

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        self.bare.release()


class AccountStore:
    """
    The open files and counters of one account; made by `opening.open_account`.

    Args:
        account_id: also the name of its directory.
        directory: the account's directory.
        surroundings: what all accounts share.
    """

    log = Logger()

    def __init__(self, account_id: AccountID, directory: Path, surroundings: Surroundings) -> None:
        self.account_id = account_id
        self.directory = directory
        self.maildir = directory / "Maildir"
        self.surroundings = surroundings
        self.files = surroundings.files
        self.lock = AccountLock(self)
        self.arrived: list[tuple[int, Any]] = []
        """(mailbox row, `placing.NewPlacement`) of files that have no index row yet."""
        self.index_arrived: Callable[[], None]
        """Gives them their rows or raises; under the lock. Set by `opening.open_account`."""
        self.unwritten: set[tuple[int, int]] = set()
        """Placements (mailbox row, uid) whose file name does not show their flags yet."""
        self.renamed: dict[tuple[int, int], str] = {}
        """Locations that are so on disk, but not in the index yet."""
        self.undurable = False
        """Flags were committed that may not be on stable storage yet."""
        self.lists_behind: set[int] = set()
        """Mailboxes whose UID list must be written anew."""
        self.searched = False
        """Somebody searches texts here: those of new mail are kept before they are asked for."""
        self.texts_wanted: deque[tuple[int, int]] = deque(maxlen=10_000)
        """Placements whose searchable text is to be kept."""
        self.snapshots: dict[int, Snapshot] = {}
        """The last snapshot of some mailboxes by row, the one used last at the end."""
        self.database: AccountDatabase
        """Set by `opening.open_account`."""

    def close(self) -> None:
        """Close the databases. Work for the next pass must be done before."""
        with self.lock:
            try:
                self.index_arrived()
                # What is only noted in memory: how the directories were left.
                with self.database.transaction():
                    pass
            finally:
                self.database.close()

    # Mailboxes and their places

    def folder(self, mailbox_id: MailboxID) -> Folder:
        """Return a mailbox, or raise NoSuchMailbox."""
        try:
            return self.database.by_id[mailbox_id]
        except KeyError:
            raise NoSuchMailbox(mailbox_id) from None

    def path(self, folder: Folder) -> Path:
        """Return the directory of a mailbox."""
        return self.maildir / folder.directory if folder.directory else self.maildir

    def file(self, folder: Folder, location: str) -> str:
        """Return the path of a message file."""
        if folder.directory:
            return f"{self.maildir}/{folder.directory}/{location}"
        return f"{self.maildir}/{location}"

    def location(self, folder: Folder, uid: int, indexed: str) -> str:
        """Return where a file lies now, given what the index says."""
        return self.renamed.get((folder.row, uid), indexed)

    def make_folder_directories(self, directory: str) -> Path:
        """Make the directories of a mailbox, which may exist."""
        path = self.maildir / directory if directory else self.maildir
        self.files.make_directory(path)
        for part in ("tmp", "new", "cur"):
            self.files.make_directory(path / part)
        return path

    def new_identifier(self) -> str:
        """Return a fresh identifier."""
        return new_id(self.surroundings.now(), self.surroundings.random_bytes)

    # Reservations

    def reserve(self, folder: Folder | None, count: int) -> None:
        """
        Make sure that the next UIDs and ten mod-sequences are durably reserved.

        Call before a transaction, without a mailbox when it takes no UID. Raises OSError or
        sqlite3.Error; then nothing was given out.
        """
        database = self.database
        last = folder.uid_next + count - 1 if folder is not None else 0
        if last > MAX_UID:
            raise OverflowError("a mailbox has no UID left")
        more_uids = folder is not None and last > folder.uid_reserved
        if not more_uids and database.mod_seq + 10 <= database.mod_seq_reserved:
            return
        if folder is not None and more_uids:
            reserved = min(last + UID_BLOCK, MAX_UID)
            append_uids(
                self.files, self.path(folder), (), reserved=reserved, first=not folder.listed
            )
            folder.listed = True
            folder.uid_reserved = reserved
            folder.changed = True
        if database.mod_seq + 10 > database.mod_seq_reserved:
            database.mod_seq_reserved = database.mod_seq + MOD_SEQ_BLOCK
        with database.transaction(durable=True):
            pass

    def new_uid_validity(self) -> int:
        """Return a UIDVALIDITY that no mailbox of the account ever had; commit durably."""
        now = min(max(int(self.surroundings.now()), 1), MAX_UID - 1)
        self.database.uid_validity = max(now, self.database.uid_validity + 1)
        return self.database.uid_validity

    # Keywords

    def learn_keywords(self, folder: Folder, words: frozenset[str]) -> None:
        """Give keywords that a mailbox does not know yet their numbers, in a transaction."""
        missing = sorted(words.difference(folder.keywords))
        for word in missing:
            self.database.add_keyword(folder, word)
        if missing:
            try:
                write_keywords(self.files, self.path(folder), folder.keywords)
            except OSError:
                # The index has them; only a rebuild would miss the names of the letters.
                self.log.failure(
                    "keywords", event="storage.keywords.failed", account=self.account_id
                )

    def combined(
        self, flags: int, operation: FlagOperation, bits: int, keywords: frozenset[str]
    ) -> int:
        """Return the flags after a STORE operation with these bits and keywords."""
        words = self.database.words
        if operation is FlagOperation.REPLACE:
            return words.value(bits, keywords)
        before = words.keywords(flags)
        if operation is FlagOperation.ADD:
            return words.value(flags & 63 | bits, before | keywords)
        return words.value(flags & 63 & ~bits, before - keywords)

    def list_uids(self, folder: Folder, placements: Sequence[tuple[int, str]]) -> None:
        """Add (uid, base name) to a mailbox's list; one that cannot be written is made up later."""
        try:
            append_uids(self.files, self.path(folder), placements, first=not folder.listed)
            folder.listed = True
        except OSError:
            self.log.failure("UID list", event="storage.uid_list.failed", account=self.account_id)
            self.lists_behind.add(folder.row)
            self.surroundings.touched(self.account_id)

    # Directories as we left them

    def directory_times(self, folder: Folder) -> tuple[int, int]:
        """Return when ``new`` and ``cur`` were last changed, in nanoseconds; 0 when missing."""
        path = self.path(folder)
        times = []
        for part in ("new", "cur"):
            try:
                times.append(self.files.stat(f"{path}/{part}").st_mtime_ns)
            except FileNotFoundError:
                times.append(0)
        return times[0], times[1]

    def note_listed(self, folder: Folder, times: tuple[int, int]) -> None:
        """What a mailbox's directories held at these times is in the index; in a transaction."""
        folder.seen_new, folder.seen_cur = times
        # Something else may have come within the same tick: looked at once more later.
        folder.own_change = self.surroundings.now()
        folder.changed = True

    @contextmanager
    def own_change(self, folder: Folder) -> Iterator[None]:
        """
        Change a mailbox's directories without taking it for another program's doing.

        When they are not as we left them before, they stay known as different. A change that
        another program makes meanwhile is missed until the next full look (`foreign`).
        """
        before = self.directory_times(folder)
        yield
        if before == (folder.seen_new, folder.seen_cur):
            folder.seen_new, folder.seen_cur = self.directory_times(folder)
            folder.own_change = folder.own_change or self.surroundings.now()
            folder.changed = True

    def tell(self, folder: Folder) -> None:
        """Tell that a mailbox changed, after the commit."""
        self.surroundings.notices.changed(self.account_id, folder.mailbox_id, folder.mod_seq)

    def tell_arrived(self, folder: Folder) -> None:
        """Tell that mail arrived, under the mod-sequence that it will have at least."""
        self.surroundings.notices.changed(
            self.account_id, folder.mailbox_id, self.database.mod_seq + 1
        )

    def sync_names(self, *folders: Folder) -> None:
        """Return when the names in these mailboxes are on stable storage."""
        for folder in folders:
            path = self.path(folder)
            self.files.sync_directory(path / "new")
            self.files.sync_directory(path / "cur")
