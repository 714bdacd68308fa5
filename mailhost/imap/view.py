"""
One session's view of its mailbox: which sequence number means which UID (RFC 9051 2.3.1.2).

The numbers change only when the session says so to its client. What changes meanwhile in the
mailbox is merged with `merge`: new messages come at the end at once, vanished ones wait until
`take_expunges`, because EXPUNGE must not be sent while FETCH, STORE or SEARCH is answered
(RFC 9051 7.5.1). Four octets for each message; idle sessions hold nothing else.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

from mailhost.errors import SyntaxFault
from mailhost.interfaces.access import Changes, Listing
from mailhost.units import ModSeq
from mailhost.wire.imap.sequence_set import STAR, SequenceSet

_FEW = 8
"""One of so many is looked for by itself; of more than that a table is made."""


@dataclass(frozen=True, slots=True)
class Updates:
    """
    What a merge has for the client, besides expunges.

    Args:
        grown: there are new messages.
        flagged: UID, flags and mod-sequence of messages that changed and are still shown.
        new_keywords: the mailbox has keywords that the client was not told of.
    """

    grown: bool
    flagged: tuple[tuple[int, tuple[str, ...], int], ...]
    new_keywords: bool


class View:
    """
    Sequence numbers of one session.

    Args:
        listing: the mailbox when it was selected.
        recent_from: messages from this UID on are recent in this session (RFC 3501 2.3.2).

    Attributes:
        uids: of all messages the client knows of, ascending.
        mod_seq: everything up to this change is merged.
        keywords: those the client was told of.
        saved: UIDs of the last SEARCH RETURN (SAVE) (RFC 5182).
    """

    __slots__ = ("_gone", "_told", "keywords", "mod_seq", "recent_from", "saved", "uids")

    def __init__(self, listing: Listing, recent_from: int) -> None:
        # A copy: the listing may be shared, and this one grows.
        self.uids: array[int] = array("I", listing.uids)
        self.recent_from = recent_from
        self.mod_seq = listing.highest_mod_seq
        self.keywords = dict.fromkeys(listing.keywords)
        self.saved: array[int] = array("I")
        self._gone: set[int] = set()
        self._told: dict[int, int] = {}

    @property
    def exists(self) -> int:
        """How many messages the client knows of."""
        return len(self.uids)

    @property
    def recent(self) -> int:
        """How many of them are recent."""
        return len(self.uids) - bisect_left(self.uids, self.recent_from)

    def number(self, uid: int) -> int:
        """Return the sequence number of a UID, 0 if the client knows none."""
        at = bisect_left(self.uids, uid)
        return at + 1 if at < len(self.uids) and self.uids[at] == uid else 0

    def numbers(self, uids: Sequence[int]) -> Sequence[int]:
        """Return the sequence numbers of ascending UIDs, 0 for those without."""
        if not uids:
            return ()
        at = bisect_left(self.uids, uids[0])
        # The usual case, a run of neighbours, costs one comparison of memory.
        if self.uids[at : at + len(uids)] == array("I", uids):
            return range(at + 1, at + len(uids) + 1)
        if len(uids) * _FEW < len(self.uids):
            return [self.number(uid) for uid in uids]
        places = dict(zip(self.uids, count(1)))
        return [places.get(uid, 0) for uid in uids]

    def select(self, numbers: SequenceSet, uid: bool) -> array[int]:
        """
        Return the UIDs, ascending, of the messages in a set of sequence numbers or UIDs.

        Raises:
            SyntaxFault: a sequence number is beyond the last (RFC 9051 4.1.1); UIDs that do not
                exist are left out.
        """
        if numbers.saved:
            return array("I", [each for each in self.saved if self.number(each)])
        chosen: array[int] = array("I")
        for low, high in self._positions(numbers, uid):
            chosen += self.uids[low:high]
        return chosen

    def ranges(self, numbers: SequenceSet, uid: bool) -> tuple[tuple[int, int], ...]:
        """Return the same as closed ranges of UIDs, for a search."""
        if numbers.saved:
            return tuple((each, each) for each in self.select(numbers, uid))
        return tuple(
            (self.uids[low], self.uids[high - 1])
            for low, high in self._positions(numbers, uid)
            if low < high
        )

    def _positions(self, numbers: SequenceSet, uid: bool) -> list[tuple[int, int]]:
        uids = self.uids
        if uid:
            return [
                (bisect_left(uids, low), bisect_right(uids, high))
                for low, high in numbers.within(uids[-1] if uids else 0)
            ]
        exists = len(uids)
        for first, last in numbers.ranges:
            # "n:*" beyond the end means the last message, as it does with UIDs.
            if STAR not in (first, last) and max(first, last) > exists:
                raise SyntaxFault(0, "a sequence number of a message")
        return [
            (min(low, exists) - 1, min(high, exists))
            for low, high in numbers.within(exists)
            if exists
        ]

    def told(self, changed: Iterable[tuple[int, tuple[str, ...], int]]) -> None:
        """Note flag changes that the client knows of, so that `merge` does not repeat them."""
        for uid, _, mod_seq in changed:
            if mod_seq > self.mod_seq:
                self._told[uid] = mod_seq

    def learn_keywords(self, flags: Iterable[str]) -> bool:
        """Note keywords; whether one of them is new to the client."""
        new = [flag for flag in flags if not flag.startswith("\\") and flag not in self.keywords]
        self.keywords.update(dict.fromkeys(new))
        return bool(new)

    def merge(self, changes: Changes) -> Updates:
        """Take over what `IMailbox.changes` says has happened after `mod_seq`."""
        last = self.uids[-1] if self.uids else 0
        gone = set(changes.vanished)
        added = [uid for uid in changes.added if uid > last and uid not in gone]
        self.uids.extend(added)
        self._gone.update(uid for uid in gone if self.number(uid))
        flagged = [
            (uid, flags, mod_seq)
            for uid, flags, mod_seq in changes.flagged
            if uid not in self._gone and mod_seq > self._told.get(uid, 0) and self.number(uid)
        ]
        self.mod_seq = ModSeq(max(self.mod_seq, changes.highest_mod_seq))
        self._told = {uid: told for uid, told in self._told.items() if told > self.mod_seq}
        return Updates(bool(added), tuple(flagged), self.learn_keywords(changes.keywords))

    def take_expunges(self) -> list[int]:
        """Forget the vanished messages; return what EXPUNGE has to say for each, in order."""
        return self.remove(()) if self._gone else []

    def remove(self, uids: Iterable[int]) -> list[int]:
        """The same, with further UIDs that are gone now."""
        gone = {uid for uid in uids if self.number(uid)} | self._gone
        self._gone.clear()
        if not gone:
            return []
        positions = sorted(bisect_left(self.uids, uid) for uid in gone)
        if len(gone) == 1:
            del self.uids[positions[0]]
        else:
            self.uids = array("I", [uid for uid in self.uids if uid not in gone])
        # Each EXPUNGE lowers the numbers behind it by one.
        return [position + 1 - before for before, position in enumerate(positions)]
