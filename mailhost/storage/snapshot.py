"""
What SELECT, FETCH FLAGS and the usual searches need of a mailbox, in memory.

UIDs and flags of a whole mailbox at one mod-sequence: twelve octets a message. A newer one is made
from the last one and what changed since, so that the index is read through once while the account
stays open. It is never changed in place: who holds one may read it without the account's lock.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import compress

from mailhost.storage.account_database import Between, Chosen, Folder
from mailhost.storage.account_store import AccountStore
from mailhost.storage.file_names import SEEN

KEPT = 4
"""Mailboxes of one open account whose last snapshot is kept."""


class Snapshot:
    """
    A mailbox at one moment.

    Args:
        mod_seq: of the last change that is in it.
        uids: ascending.
        flags: of the same messages, as the index has them (`flag_words`).
    """

    __slots__ = ("_first_unseen", "flags", "mod_seq", "uids")

    def __init__(self, mod_seq: int, uids: array[int], flags: array[int]) -> None:
        self.mod_seq, self.uids, self.flags = mod_seq, uids, flags
        self._first_unseen: int | None = -1

    @property
    def first_unseen(self) -> int | None:
        """The lowest UID without \\Seen, or None."""
        if self._first_unseen == -1:
            pairs = zip(self.uids, self.flags, strict=True)
            self._first_unseen = next((uid for uid, flags in pairs if not flags & SEEN), None)
        return self._first_unseen

    def flags_of(self, uids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Return those of some ascending UIDs that exist, and their flags."""
        if not uids:
            return (), ()
        at = bisect_left(self.uids, uids[0])
        run = self.uids[at : at + len(uids)]
        # The usual case, a run of neighbours, costs one comparison of memory.
        if run == (uids if isinstance(uids, array) else array("I", uids)):
            return run, self.flags[at : at + len(uids)]
        wanted = set(uids)
        chosen = [uid in wanted for uid in self.uids]
        return list(compress(self.uids, chosen)), list(compress(self.flags, chosen))

    def chosen(self, uids: Sequence[int]) -> Chosen:
        """Return the same UIDs for a query: the ends of a run, where they are one."""
        there, _ = self.flags_of(uids)
        return Between(there[0], there[-1]) if isinstance(there, array) and there else uids

    def with_bit(self, bit: int, is_set: bool) -> set[int]:
        """Return the UIDs of the messages that have a system flag, or lack it."""
        if is_set:
            return set(compress(self.uids, [flags & bit for flags in self.flags]))
        return set(compress(self.uids, [not flags & bit for flags in self.flags]))


def snapshot(account: AccountStore, folder: Folder) -> Snapshot:
    """Return a mailbox as it is now; under the account's lock, outside a transaction."""
    kept = account.snapshots.pop(folder.row, None)
    if kept is None or kept.mod_seq < folder.vanished_floor:
        kept = _read(account, folder)
    elif kept.mod_seq != folder.mod_seq:
        kept = _renewed(account, folder, kept)
    account.snapshots[folder.row] = kept
    if len(account.snapshots) > KEPT:
        del account.snapshots[next(iter(account.snapshots))]
    return kept


def _read(account: AccountStore, folder: Folder) -> Snapshot:
    rows = account.database.all_flags(folder.row)
    uids, flags = zip(*rows, strict=True) if rows else ((), ())
    return Snapshot(folder.mod_seq, array("I", uids), array("Q", flags))


def _renewed(account: AccountStore, folder: Folder, old: Snapshot) -> Snapshot:
    gone = account.database.vanished(folder.row, old.mod_seq)
    changed = account.database.changed(folder.row, old.mod_seq)
    uids, flags = old.uids[:], old.flags[:]
    last = uids[-1] if uids else 0
    for uid, value, _, _ in changed:
        if uid > last:
            uids.append(uid)
            flags.append(value)
            continue
        at = bisect_left(uids, uid)
        if uids[at] != uid:
            # Never seen here: UIDs are given in ascending order while an account is open.
            return _read(account, folder)
        flags[at] = value
    if gone:
        removed = set(gone)
        left = [uid not in removed for uid in uids]
        uids, flags = array("I", compress(uids, left)), array("Q", compress(flags, left))
    return Snapshot(folder.mod_seq, uids, flags)
