"""
What other programs did in a Maildir (D3, R-91).

Any program may add, rename (flags) and remove files at any time. Whether one did is seen from the
modification times of ``new`` and ``cur``: each `AccountStore.own_change` keeps them as we left
them, so that a difference is another's doing. Two things hide a difference: a change in the same
clock tick as our look, and one between the two readings of an own change. A mailbox that we
changed, or looked at within `TICK` of a change, is therefore looked through once more later, at
most as often as costs half a percent of the time.

    file                                        what is done
    known key, other letters than we wrote      the difference is merged into the flags
    known key, other place                      the place is noted
    key of a tombstone here                     an expunge was cut short: it is finished
    key placed elsewhere, whose file is gone    a move: the message keeps its email id and flags
    unknown key                                 a new message, examined and given the next UID
    placement without file                      expunged, after a second listing agrees

Nothing here trusts a name or a file to stay; what is gone when it is reached is left to the next
look. A crash anywhere leaves the times not noted, and the next look finds the same again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field

from twisted.logger import Logger

from mailhost.storage import placing
from mailhost.storage.account_database import Folder, PlacementRow, is_damage
from mailhost.storage.account_store import AccountStore
from mailhost.storage.file_names import key_of, split_name, time_of
from mailhost.storage.opening import list_files
from mailhost.storage.placing import NewPlacement
from mailhost.units import MailboxID

TICK = 0.05
"""Seconds within which two changes of a directory may carry the same time."""
PORTION = 200
"""Files examined between two transactions."""
TOMBSTONE_LIFE = 14 * 86400
"""Seconds for which an expunged message can be brought back."""
_LEAST_WAIT = 5.0
_COST_FACTOR = 200

_log = Logger(namespace="mailhost.storage.foreign")


@dataclass(slots=True)
class _Difference:
    """What one look found."""

    fresh: list[str] = field(default_factory=list)
    unburied: list[tuple[str, str]] = field(default_factory=list)
    relocated: list[tuple[int, str]] = field(default_factory=list)
    reflagged: list[tuple[PlacementRow, int]] = field(default_factory=list)
    missing: list[PlacementRow] = field(default_factory=list)


def look(
    account: AccountStore, mailbox_id: MailboxID, *, force: bool = False, again: bool = True
) -> bool:
    """
    Bring a mailbox up to date with its directories, when they may have changed.

    Takes the account's lock by itself; do not hold it. Returns whether it should be called once
    more later though the times stay as they are.

    Args:
        account: whose mailbox.
        mailbox_id: which one.
        force: look whatever the times say.
        again: do the later look that follows changes of our own, when it is due.

    Raises:
        NoSuchMailbox: there is none.
        OSError: the directories cannot be read.
        sqlite3.Error: the index cannot be changed.
    """
    now = account.surroundings.now()
    with account.lock:
        folder = account.folder(mailbox_id)
        times = account.directory_times(folder)
        if not force and times == (folder.seen_new, folder.seen_cur) and times[0] and times[1]:
            wait = max(_LEAST_WAIT, _COST_FACTOR * folder.look_cost)
            # A clock that was set back must not put the look off for long.
            if not again or not folder.own_change or 0 <= now - folder.looked_at < wait:
                return folder.own_change > 0
        difference = _compare(account, folder)
        changed = _apply(account, folder, difference)
        done = account.surroundings.now()
        folder.looked_at, folder.look_cost = done, max(done - now, 0.0)
        settled = max(times) / 1e9 < now - TICK
        folder.own_change = 0.0 if settled else folder.own_change or now
    if difference.fresh:
        changed = _adopt(account, mailbox_id, difference.fresh) or changed
    with account.lock:
        folder = account.folder(mailbox_id)
        after = account.directory_times(folder)
        # Ours: files moved out of the way. Another's are seen by the second listing's times.
        if after != times and (difference.fresh or difference.unburied):
            times = after
            folder.own_change = folder.own_change or now
        if (folder.seen_new, folder.seen_cur) != times:
            with account.database.transaction():
                folder.seen_new, folder.seen_cur = times
                folder.changed = True
        if changed:
            account.tell(folder)
        return folder.own_change > 0


def try_to_look(account: AccountStore, mailbox_id: MailboxID) -> None:
    """
    As `look`, for who only reads.

    On a disk that takes no changes, what is known is shown (R-88). The look that follows our own
    changes is left to the background: SELECT does not wait for a scan without cause.

    Raises:
        NoSuchMailbox: there is none.
        sqlite3.Error: the index is damaged.
    """
    try:
        look(account, mailbox_id, again=False)
    except (OSError, sqlite3.OperationalError) as error:
        if isinstance(error, sqlite3.Error) and is_damage(error):
            raise
        _log.failure("look", event="storage.look.failed", account=account.account_id)


def _compare(account: AccountStore, folder: Folder) -> _Difference:
    rows = account.database.placements(folder.row)
    known: dict[str, list[PlacementRow]] = {}
    for row in rows:
        known.setdefault(row.key, []).append(row)
    found = _by_key(list_files(account, folder))
    difference = _Difference()
    buried = account.database.tombstone_files(folder.row)
    for key, locations in found.items():
        placements = known.get(key)
        if placements:
            _match(account, folder, placements, locations, difference)
        elif buried.get(key) and not _is_file(account, buried[key]):
            difference.unburied += [(location, buried[key]) for location in locations]
        else:
            difference.fresh += locations[:1]
    lost = [row for key, placements in known.items() if key not in found for row in placements]
    if lost:
        # A file that is renamed while a directory is read may be missed.
        again = _by_key(list_files(account, folder))
        for row in lost:
            if row.key in again:
                _match(account, folder, [row], again[row.key], difference)
            else:
                difference.missing.append(row)
    return difference


def _is_file(account: AccountStore, expunged: str) -> bool:
    try:
        account.files.stat(account.directory / "expunged" / expunged)
    except FileNotFoundError:
        return False
    return True


def _by_key(locations: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for location in locations:
        found.setdefault(key_of(split_name(location[4:])[0]), []).append(location)
    return found


def _match(
    account: AccountStore,
    folder: Folder,
    placements: list[PlacementRow],
    locations: list[str],
    difference: _Difference,
) -> None:
    row = placements[0]
    written = account.location(folder, row.uid, row.location)
    # Two names for one message: a rename was seen from both sides; the later one is in cur.
    location = written if written in locations else locations[-1]
    if location == row.location:
        return
    difference.relocated.append((row.uid, location))
    account.renamed.pop((folder.row, row.uid), None)
    if location == written:
        return
    _, before = split_name(written[4:])
    _, letters = split_name(location[4:])
    flags = account.database.words.merged(row.flags, before, letters, folder.keywords)
    if flags != row.flags:
        difference.reflagged.append((row, flags))
    if account.database.words.letters(flags, folder.keywords) != letters:
        account.unwritten.add((folder.row, row.uid))
        account.surroundings.touched(account.account_id)


def _apply(account: AccountStore, folder: Folder, difference: _Difference) -> bool:
    for location, file in difference.unburied:
        _finish_expunge(account, folder, location, file)
    changed = bool(difference.reflagged or difference.missing)
    if not (changed or difference.relocated):
        return False
    database = account.database
    account.reserve(folder, 0)
    with database.transaction():
        database.set_locations(folder.row, difference.relocated)
        if difference.reflagged:
            mod_seq = database.next_mod_seq(folder)
            for row, flags in difference.reflagged:
                placing.count(folder, row.flags, 0, -1)
                placing.count(folder, flags, 0, 1)
            database.set_flags(
                folder.row, [(row.uid, flags, mod_seq) for row, flags in difference.reflagged]
            )
        if difference.missing:
            _bury_missing(account, folder, difference.missing)
    _log.info(
        event="storage.foreign.changed",
        account=account.account_id,
        mailbox=folder.mailbox_id,
        flagged=len(difference.reflagged),
        vanished=len(difference.missing),
    )
    return changed


def _bury_missing(account: AccountStore, folder: Folder, rows: list[PlacementRow]) -> None:
    database = account.database
    mod_seq = database.next_mod_seq(folder)
    sizes = database.messages_of(folder.row, [row.uid for row in rows])
    for row in rows:
        placing.count(folder, row.flags, sizes[row.uid].size if row.uid in sizes else 0, -1)
        account.unwritten.discard((folder.row, row.uid))
        account.renamed.pop((folder.row, row.uid), None)
    expires = int(account.surroundings.now()) + TOMBSTONE_LIFE
    database.bury(folder.row, [(row, "") for row in rows], mod_seq, expires)


def _finish_expunge(account: AccountStore, folder: Folder, location: str, file: str) -> None:
    try:
        account.files.rename(account.file(folder, location), account.directory / "expunged" / file)
    except FileNotFoundError:
        return


def _adopt(account: AccountStore, mailbox_id: MailboxID, locations: list[str]) -> bool:
    # Maildir names begin with the time, and UIDs should follow it.
    locations.sort(key=_order)
    added = 0
    for start in range(0, len(locations), PORTION):
        news: list[NewPlacement] = []
        for location in locations[start : start + PORTION]:
            with account.lock:
                folder = account.folder(mailbox_id)
            try:
                found = placing.examine(account, folder, location)
            except FileNotFoundError:
                continue
            if found is not None:
                key = key_of(split_name(location[4:])[0])
                news.append(NewPlacement(key, location, 0, found[0], found[1]))
        if news:
            added += _place(account, mailbox_id, news)
    if added:
        _log.info(
            event="storage.foreign.added",
            account=account.account_id,
            mailbox=mailbox_id,
            messages=added,
        )
    return added > 0


def _order(location: str) -> tuple[int, str]:
    base = location[4:]
    return time_of(base) or 0, base


def _place(account: AccountStore, mailbox_id: MailboxID, news: list[NewPlacement]) -> int:
    with account.lock:
        folder = account.folder(mailbox_id)
        database = account.database
        # A delivery or another look may have been faster.
        news = [
            new for new in news if all(row != folder.row for row, _ in database.placed(new.key))
        ]
        if not news:
            return 0
        account.reserve(folder, len(news))
        with database.transaction():
            for new in news:
                letters = split_name(new.location[4:])[1]
                new.flags = database.words.from_letters(letters, folder.keywords)
                assert new.digest is not None
                new.state = placing.state_of(new.digest)
                placing.recognise(account, folder, new)
            rows = placing.place(account, folder, news, database.next_mod_seq(folder))
        account.list_uids(folder, [(row.uid, split_name(row.location[4:])[0]) for row in rows])
        return len(rows)
