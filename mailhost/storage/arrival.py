"""
Mail that the spool puts into an account (D2, the store's side).

    state of one copy           what a crash leaves
    nothing done                the spool's row: recovered
    written in ``tmp``          the row, and a file that the next writing replaces
    renamed into place          the row, and a file that may be empty after a power cut: recovered
    index row in memory         the same; the UID was not shown to anybody
    index row committed         the same; the row may be forgotten by a power cut
    settled                     all of it; `MailStore.sync` came before

The file's name is made from the queue id (`key_for`), so that doing it twice gives one message.
Copies with equal octets are one file with several names, across accounts; a large file of the spool
itself gets a further name when nothing stands before its content (APPEND). So a file that recovery
finds may *be* the spool's, and is then right as it is.
"""

from __future__ import annotations

import errno
import sqlite3
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from twisted.logger import Logger

from mailhost.errors import MailhostError, NoSuchMailbox
from mailhost.files import FileOperations
from mailhost.interfaces.spool import Deposit, LocalTarget, Placement, PlacementResult
from mailhost.message.digest import Digest
from mailhost.message.trace import delivered_to, return_path
from mailhost.reply import Action, DeliveryStatus
from mailhost.storage import placing
from mailhost.storage.account_database import DAMAGED, Folder, PlacementRow
from mailhost.storage.account_store import AccountStore
from mailhost.storage.file_names import (
    SYSTEM_BITS,
    base_name,
    key_of,
    letters_of,
    location,
    split_name,
)
from mailhost.storage.folder_names import INBOX
from mailhost.storage.opening import list_files
from mailhost.storage.placing import NewPlacement
from mailhost.units import UID, UIDValidity

_log = Logger(namespace="mailhost.storage.arrival")


class Copy:
    """
    The octets that one or more placements share.

    Args:
        head: what stands before the content.
        deposit: whose content it is.
        files: file access.
    """

    __slots__ = ("_digest", "_files", "_octets", "deposit", "file", "head", "size")

    def __init__(self, head: bytes, deposit: Deposit, files: FileOperations) -> None:
        self.head, self.deposit = head, deposit
        self.size = len(head) + deposit.size
        self.file: str | None = None
        """A file that holds these octets, once one is written."""
        self._files = files
        self._octets: bytes | None = None
        self._digest: Digest | None = None

    @property
    def octets(self) -> bytes:
        """All octets; OSError."""
        if self._octets is None:
            content = self.deposit.content
            if isinstance(content, Path):
                content = self._files.read_file(content)
                if len(content) != self.deposit.size:
                    raise OSError(errno.EIO, "the spool file has another size")
            self._octets = self.head + content
        return self._octets

    @property
    def digest(self) -> Digest:
        """The digest of the octets, computed once."""
        if self._digest is None:
            self._digest = placing.safe_digest(self.octets)
        return self._digest

    @property
    def linkable(self) -> str | None:
        """A file that has just these octets, or None."""
        if self.file is None and not self.head and isinstance(self.deposit.content, Path):
            return str(self.deposit.content)
        return self.file


@dataclass(slots=True)
class Arrival:
    """One copy on its way into one account, and what became of it."""

    copy: Copy
    target: LocalTarget
    key: str = ""
    result: PlacementResult | None = None
    base: str = field(default="", repr=False)
    flags: int = 0


def head_for(deposit: Deposit, target: LocalTarget) -> bytes:
    """Return what stands before the content in the copy for a target."""
    # What its owner stored (APPEND) has a date of its own and stays as it is; it was not delivered.
    if target.internal_date is not None:
        return deposit.prefix
    head = return_path(deposit.reverse_path)
    if target.delivered_to is not None:
        head += delivered_to(target.delivered_to)
    return head + deposit.prefix


def key_for(deposit: Deposit, target: LocalTarget) -> str:
    """Return the key of a copy: the same whenever, and with whatever others, it is delivered."""
    if target.mailbox_id is None and target.delivered_to is None:
        return deposit.queue_id
    place = f"{target.mailbox_id or ''} {target.delivered_to or ''}"
    return f"{deposit.queue_id}-{blake2b(place.encode(), digest_size=5).hexdigest()}"


def failure(error: Exception) -> DeliveryStatus:
    """Return the status of a copy that could not be placed; it is always tried again."""
    full = (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE)
    ) or (
        isinstance(error, sqlite3.Error)
        and (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL
    )
    if full:
        return DeliveryStatus(Action.DELAYED, "4.3.1", "the mail store has no room")
    return DeliveryStatus(Action.DELAYED, "4.3.0", "the mail store has a fault")


def deposit(account: AccountStore, arrivals: Sequence[Arrival]) -> None:
    """Place copies in one account; sets every `result`. Raises only sqlite3.Error of damage."""
    with account.lock.bare if all(map(_may_wait, arrivals)) else account.lock:
        for folder, chosen in _by_folder(account, arrivals).items():
            waiting = [
                each for each in chosen if each.copy.deposit.first or not _known(account, each)
            ]
            if waiting:
                _place(account, account.database.folders[folder], waiting)


def _may_wait(arrival: Arrival) -> bool:
    # Who stores is told the UID; keywords change the mailbox; what may be there must be looked for.
    target = arrival.target
    return arrival.copy.deposit.first and target.internal_date is None and not target.flags


def _by_folder(account: AccountStore, arrivals: Sequence[Arrival]) -> dict[int, list[Arrival]]:
    folders: dict[int, list[Arrival]] = {}
    for arrival in arrivals:
        target = arrival.target
        if target.mailbox_id is None:
            folder = account.database.by_name[INBOX]
        else:
            try:
                folder = account.folder(target.mailbox_id)
            except NoSuchMailbox:
                # Who stores is told; mail that was accepted goes where it is found.
                if target.internal_date is not None:
                    arrival.result = DeliveryStatus(Action.FAILED, "5.2.0", "no such mailbox")
                    continue
                folder = account.database.by_name[INBOX]
        folders.setdefault(folder.row, []).append(arrival)
    return folders


def _known(account: AccountStore, arrival: Arrival) -> bool:
    # Placed before: give the place it has.
    for row, placement in account.database.placed(arrival.key):
        arrival.result = _placement(account, account.database.folders[row], placement.uid)
        return True
    for row, uid, _ in account.database.buried(arrival.key):
        if row in account.database.folders:
            arrival.result = _placement(account, account.database.folders[row], uid)
            return True
    return False


def _placement(account: AccountStore, folder: Folder, uid: int) -> Placement:
    return Placement(
        account.account_id, folder.mailbox_id, UIDValidity(folder.uid_validity), UID(uid)
    )


def _place(account: AccountStore, folder: Folder, arrivals: list[Arrival]) -> None:
    unique = {arrival.key: arrival for arrival in arrivals}
    written: list[Arrival] = []
    try:
        account.reserve(folder, len(unique))
        with account.own_change(folder):
            for arrival in unique.values():
                try:
                    _write(account, folder, arrival)
                    written.append(arrival)
                except (OSError, MailhostError) as error:
                    _failed(account, arrival, error)
        if written and all(map(_may_wait, written)):
            _hold(account, folder, written)
        elif written:
            _commit(account, folder, written)
    except Exception as error:
        for arrival in written:
            _withdraw(account, folder, arrival)
        for arrival in unique.values():
            if arrival.result is None:
                _failed(account, arrival, error)
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            raise
    for arrival in arrivals:
        arrival.result = unique[arrival.key].result


def _failed(account: AccountStore, arrival: Arrival, error: Exception) -> None:
    arrival.result = failure(error)
    _log.failure(
        "deposit",
        event="storage.deposit.failed",
        account=account.account_id,
        queue_id=arrival.copy.deposit.queue_id,
        status=str(arrival.result),
    )


def _withdraw(account: AccountStore, folder: Folder, arrival: Arrival) -> None:
    try:
        account.files.unlink(account.file(folder, _location(arrival)))
    except OSError:
        # The next look takes it for mail, and the next attempt finds it by its key.
        _log.failure("withdraw", event="storage.withdraw.failed", account=account.account_id)


def _location(arrival: Arrival) -> str:
    # Keywords get their letters with the next pass, when the mailbox has numbers for them.
    return location(arrival.base, letters_of(arrival.flags), new=True)


def _date(arrival: Arrival) -> int:
    date = arrival.target.internal_date
    return int(arrival.copy.deposit.received_at) if date is None else date


def _write(account: AccountStore, folder: Folder, arrival: Arrival) -> None:
    copy = arrival.copy
    digest = copy.digest
    arrival.base = base_name(
        max(_date(arrival), 0), arrival.key, account.surroundings.host, copy.size, digest.size
    )
    words = account.database.words
    arrival.flags = words.value(*words.parse(arrival.target.flags))
    write_copy(account, folder, copy, account.file(folder, _location(arrival)))


def write_copy(account: AccountStore, folder: Folder, copy: Copy, path: str) -> None:
    """Make a file of a copy's octets, replacing what has the name; a link where possible."""
    files = account.files
    existing = copy.linkable
    if existing is not None:
        try:
            _link(files, existing, path)
            return
        except OSError as error:
            # Too many names, another file system, or one without links.
            if error.errno not in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOENT):
                raise
    temporary = account.file(folder, f"tmp/{path.rpartition('/')[2].partition(':')[0]}")
    descriptor = files.rewrite(temporary)
    try:
        files.write(descriptor, [copy.octets])
    finally:
        files.close(descriptor)
    files.rename(temporary, path)
    copy.file = path


def _link(files: FileOperations, existing: str, path: str) -> None:
    try:
        files.link(existing, path)
    except FileExistsError:
        # Left by an attempt that was not committed.
        files.unlink(path)
        files.link(existing, path)


def _new_placement(arrival: Arrival) -> NewPlacement:
    digest = arrival.copy.digest
    return NewPlacement(
        arrival.key,
        _location(arrival),
        arrival.flags,
        digest,
        _date(arrival),
        arrival.target.zone,
        state=placing.state_of(digest),
    )


def _hold(account: AccountStore, folder: Folder, written: list[Arrival]) -> None:
    """Let the rows wait for the next who needs them."""
    for arrival in written:
        new = _new_placement(arrival)
        new.uid = folder.uid_next
        folder.uid_next += 1
        account.arrived.append((folder.row, new))
        arrival.result = _placement(account, folder, new.uid)
    account.surroundings.arrived(account)
    account.tell_arrived(folder)


def _commit(account: AccountStore, folder: Folder, written: list[Arrival]) -> None:
    database = account.database
    news = list(map(_new_placement, written))
    with database.transaction():
        for arrival in written:
            if arrival.flags > SYSTEM_BITS:
                account.learn_keywords(folder, database.words.keywords(arrival.flags))
        rows = placing.place(account, folder, news, database.next_mod_seq(folder))
    for arrival, row in zip(written, rows, strict=True):
        arrival.result = _placement(account, folder, row.uid)
        if account.searched:
            account.texts_wanted.append((folder.row, row.uid))
        if arrival.flags > SYSTEM_BITS:
            account.unwritten.add((folder.row, row.uid))
            account.surroundings.touched(account.account_id)
    account.list_uids(
        folder, [(row.uid, arrival.base) for arrival, row in zip(written, rows, strict=True)]
    )
    account.tell(folder)


def recover(account: AccountStore, arrivals: Sequence[Arrival]) -> None:
    """
    Place copies that may have been placed before; sets every `result`.

    Raises only sqlite3.Error of damage.
    """
    with account.lock:
        lying = _everything(account)
        fresh: list[Arrival] = []
        for arrival in arrivals:
            try:
                if not _recover(account, arrival, lying):
                    fresh.append(arrival)
            except (OSError, MailhostError) as error:
                _failed(account, arrival, error)
        deposit(account, fresh)
        # Rows that could not be written when the lock was taken: these have theirs now.
        placed = {each.key for each in arrivals if isinstance(each.result, Placement)}
        account.arrived = [each for each in account.arrived if each[1].key not in placed]


def _everything(account: AccountStore) -> dict[str, list[tuple[Folder, str]]]:
    found: dict[str, list[tuple[Folder, str]]] = {}
    for folder in account.database.folders.values():
        for place in list_files(account, folder):
            found.setdefault(key_of(split_name(place[4:])[0]), []).append((folder, place))
    return found


def _recover(
    account: AccountStore, arrival: Arrival, lying: dict[str, list[tuple[Folder, str]]]
) -> bool:
    database = account.database
    places = lying.get(arrival.key, [])
    rewritten = [
        (folder, place)
        for folder, place in places
        if _rewrite(account, folder, arrival.copy, place)
    ]
    placed = {row: placement for row, placement in database.placed(arrival.key)}
    for folder, _ in rewritten:
        if folder.row in placed:
            _mend(account, folder, placed[folder.row])
            arrival.result = _placement(account, folder, placed[folder.row].uid)
            return True
    if rewritten:
        # New to the index there; where it was before, the next look misses it.
        _adopt(account, arrival, *rewritten[0])
        return True
    for row, placement in placed.items():
        # The index was kept and the name was not.
        folder = database.folders[row]
        path = account.file(folder, account.location(folder, placement.uid, placement.location))
        with account.own_change(folder):
            write_copy(account, folder, arrival.copy, path)
        _mend(account, folder, placement)
        arrival.result = _placement(account, folder, placement.uid)
        return True
    return _known(account, arrival)


def _mend(account: AccountStore, folder: Folder, placement: PlacementRow) -> None:
    sound = placement.state & ~DAMAGED
    if sound != placement.state:
        with account.database.transaction():
            account.database.set_state(folder.row, placement.uid, sound)


def _rewrite(account: AccountStore, folder: Folder, copy: Copy, place: str) -> bool:
    # Whatever the file holds, it holds the copy's octets after; False: it is not a file.
    files = account.files
    path = account.file(folder, place)
    ours = files.stat(path)
    if not stat.S_ISREG(ours.st_mode):
        return False
    content = copy.deposit.content
    if isinstance(content, Path) and not copy.head:
        theirs = files.stat(content)
        if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino):
            return True
    # By rename, so that no reader sees half of it. Nothing else has the old file's data: what is
    # not settled is not copied.
    temporary = account.file(folder, f"tmp/{split_name(place[4:])[0]}")
    if copy.file is not None and copy.file != path:
        _link(files, copy.file, temporary)
    else:
        descriptor = files.rewrite(temporary)
        try:
            files.write(descriptor, [copy.octets])
        finally:
            files.close(descriptor)
    files.rename(temporary, path)
    try:
        # A rename between two names of one file does nothing.
        files.unlink(temporary)
    except FileNotFoundError:
        copy.file = path
    return True


def _adopt(account: AccountStore, arrival: Arrival, folder: Folder, place: str) -> None:
    # The name was kept and the index row was not.
    database = account.database
    base, letters = split_name(place[4:])
    bits, keywords = database.words.parse(arrival.target.flags)
    found = database.words.from_letters(letters, folder.keywords)
    new = NewPlacement(
        arrival.key,
        place,
        0,
        arrival.copy.digest,
        _date(arrival),
        arrival.target.zone,
        state=placing.state_of(arrival.copy.digest),
    )
    account.reserve(folder, 1)
    with database.transaction():
        new.flags = database.words.value(
            found & SYSTEM_BITS | bits, database.words.keywords(found) | keywords
        )
        account.learn_keywords(folder, database.words.keywords(new.flags))
        placing.recognise(account, folder, new)
        row = placing.place(account, folder, [new], database.next_mod_seq(folder))[0]
    if letters != database.words.letters(new.flags, folder.keywords):
        account.unwritten.add((folder.row, row.uid))
        account.surroundings.touched(account.account_id)
    account.list_uids(folder, [(row.uid, base)])
    arrival.result = _placement(account, folder, row.uid)
    account.tell(folder)
