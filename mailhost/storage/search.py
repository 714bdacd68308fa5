"""
SEARCH over one mailbox (D4): what the index can answer is SQL, texts are scanned.

A criterion is taken apart: a part without texts is one query; in an AND those parts narrow what is
scanned. Texts are compared with the decoded, folded texts in ``cache.sqlite``, which are written
after delivery once the account was searched; for a message whose text is not there yet the file is
read, and the text is kept. So nothing that is there is missed. The account's lock is held for a
portion at a time.
"""

# Statements are put together from constants of this module only.
# ruff: noqa: S608
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import chain

from mailhost.criteria import (
    All,
    And,
    ChangedSince,
    Comparison,
    Contains,
    Criterion,
    DateIs,
    HasFlag,
    HeaderContains,
    InSet,
    IsRecent,
    Not,
    Or,
    SizeIs,
    TextScope,
)
from mailhost.errors import MessageDamaged, NoSuchEntry
from mailhost.message.headers import fold
from mailhost.message.search_text import searchable_header, searchable_text
from mailhost.storage import cache_database, reading
from mailhost.storage.account_database import Folder
from mailhost.storage.account_store import AccountStore
from mailhost.storage.cache_database import HEADINGS, SearchText
from mailhost.storage.flag_words import SHIFT, system_bit
from mailhost.storage.placing import LARGE
from mailhost.storage.snapshot import snapshot
from mailhost.units import MailboxID

PORTION = 256
"""Messages whose texts are looked at under one hold of the lock."""

HEADING_PORTION = 2000
"""The same for the fields that are kept by themselves."""

MAX_RANGES = 400
"""Ranges of UIDs that go into one query: SQLite limits the depth of an expression."""

_LARGEST = (1 << 63) - 1
_EPOCH_DAY = 719163
"""The proleptic ordinal of 1 January 1970."""

_OPERATORS = {
    Comparison.BELOW: "<",
    Comparison.EQUAL: "=",
    Comparison.ABOVE: ">",
    Comparison.AT_LEAST: ">=",
}

_Matcher = Callable[[str, str], bool]


def search(
    account: AccountStore, mailbox_id: MailboxID, criterion: Criterion, recent_from: int
) -> Sequence[int]:
    """Return the UIDs of the messages that match, ascending."""
    return sorted(_Search(account, mailbox_id, recent_from).matching(criterion, None))


class _Search:
    """One search: where, and what is recent."""

    def __init__(self, account: AccountStore, mailbox_id: MailboxID, recent_from: int) -> None:
        self._account, self._mailbox_id = account, mailbox_id
        self._recent_from = recent_from

    def matching(self, criterion: Criterion, within: set[int] | None) -> set[int]:
        """Return the UIDs that match, of `within` or of the whole mailbox."""
        if _is_indexed(criterion):
            return self._query(criterion, within)
        match criterion:
            case And(criteria):
                indexed = tuple(each for each in criteria if _is_indexed(each))
                found = self._query(And(indexed), within)
                for each in criteria:
                    if found and not _is_indexed(each):
                        found = self.matching(each, found)
                return found
            case Or(criteria):
                left = self._all(within)
                found = set()
                for each in criteria:
                    found |= self.matching(each, left - found)
                return found
            case Not(inner):
                left = self._all(within)
                return left - self.matching(inner, left)
            case InSet(ranges):
                return _in_many_ranges(ranges, self._all(within))
            case HeaderContains(name, text) if fold(text) and fold(name) in HEADINGS:
                return self._headings(criterion, fold(name), fold(text), self._all(within))
            case _:
                return self._scan(_matcher(criterion), self._all(within))

    def _all(self, within: set[int] | None) -> set[int]:
        if within is not None:
            return within
        with self._account.lock:
            return set(snapshot(self._account, self._account.folder(self._mailbox_id)).uids)

    def _query(self, criterion: Criterion, within: set[int] | None) -> set[int]:
        if within is not None and not within:
            return set()
        with self._account.lock:
            folder = self._account.folder(self._mailbox_id)
            found = self._in_memory(folder, criterion)
            if found is not None:
                return found if within is None else found & within
            condition, parameters = self._condition(criterion)
            joined = " JOIN message m ON m.id = p.message" if "m." in condition else ""
            rows = self._account.database.connection.execute(
                f"SELECT p.uid FROM placement p{joined} WHERE p.mailbox = ? AND {condition}",
                (folder.row, *parameters),
            )
            found = set(chain.from_iterable(rows))
        return found if within is None else found & within

    def _in_memory(self, folder: Folder, criterion: Criterion) -> set[int] | None:
        match criterion:
            case HasFlag(flag) if bit := system_bit(flag):
                return snapshot(self._account, folder).with_bit(bit, True)
            case Not(HasFlag(flag)) if bit := system_bit(flag):
                return snapshot(self._account, folder).with_bit(bit, False)
            case All() | And(()):
                return set(snapshot(self._account, folder).uids)
        return None

    def _condition(self, criterion: Criterion) -> tuple[str, list[int]]:
        match criterion:
            case All():
                return "1", []
            case InSet(ranges):
                return _in_ranges(ranges)
            case HasFlag(flag):
                return self._has_flag(flag)
            case IsRecent():
                return "p.uid >= ?", [self._recent_from]
            case SizeIs(comparison, size):
                return f"m.size {_OPERATORS[comparison]} ?", [min(size, _LARGEST)]
            case DateIs(comparison, day, True):
                # A message without a Date field has no sent day to compare.
                return f"(m.sent_day != 0 AND m.sent_day {_OPERATORS[comparison]} ?)", [day]
            case DateIs(comparison, day, False):
                return _on_day(comparison, day)
            case ChangedSince(mod_seq):
                return "p.mod_seq >= ?", [min(mod_seq, _LARGEST)]
            case Not(inner):
                condition, parameters = self._condition(inner)
                return f"NOT {condition}", parameters
            case And(criteria):
                return self._joined(criteria, " AND ", "1")
            case Or(criteria):
                return self._joined(criteria, " OR ", "0")
            case _:
                raise TypeError(f"{criterion!r} is not answered by the index")

    def _joined(self, criteria: Sequence[Criterion], word: str, none: str) -> tuple[str, list[int]]:
        if not criteria:
            return none, []
        parts = [self._condition(each) for each in criteria]
        return (
            "(" + word.join([condition for condition, _ in parts]) + ")",
            [parameter for _, parameters in parts for parameter in parameters],
        )

    def _has_flag(self, flag: str) -> tuple[str, list[int]]:
        bit = system_bit(flag)
        if bit:
            return "p.flags & ? != 0", [bit]
        numbers = self._account.database.words.sets_with(flag)
        if not numbers:
            return "0", []
        return f"p.flags >> {SHIFT} IN ({','.join('?' * len(numbers))})", numbers

    def _headings(
        self, criterion: Criterion, name: str, needle: str, candidates: Collection[int]
    ) -> set[int]:
        ordered = sorted(candidates)
        found: set[int] = set()
        absent: list[int] = []
        for start in range(0, len(ordered), HEADING_PORTION):
            portion = ordered[start : start + HEADING_PORTION]
            with self._account.lock:
                folder = self._account.folder(self._mailbox_id)
                rows = cache_database.headings(
                    self._account.database.connection,
                    portion[0],
                    portion[-1],
                    folder.row,
                    name,
                    needle,
                )
            found.update([uid for uid, message in rows if message is not None])
            absent += [uid for uid, message in rows if message is None]
        found.intersection_update(candidates)
        missing = set(candidates).intersection(absent)
        return found | self._scan(_matcher(criterion), missing) if missing else found

    def _scan(self, matches: _Matcher, candidates: Collection[int]) -> set[int]:
        ordered = sorted(candidates)
        found: set[int] = set()
        self._account.searched = True
        for start in range(0, len(ordered), PORTION):
            portion = ordered[start : start + PORTION]
            with self._account.lock:
                folder = self._account.folder(self._mailbox_id)
                rows = cache_database.texts(
                    self._account.database.connection, portion[0], portion[-1], folder.row
                )
            wanted = set(portion)
            absent = []
            for uid, header, body in rows:
                if uid in wanted:
                    if header is None or body is None:
                        absent.append(uid)
                    elif matches(header, body):
                        found.add(uid)
            for uid, text in keep_texts(self._account, self._mailbox_id, absent).items():
                if matches(text.header, text.body):
                    found.add(uid)
        return found


def keep_texts(
    account: AccountStore, mailbox_id: MailboxID, uids: Sequence[int]
) -> dict[int, SearchText]:
    """
    Read the searchable texts of messages from their files, keep them in the cache, return them.

    Damaged messages have no text, and none is kept. Of one too large for memory the beginning
    is read.
    """
    texts: dict[int, SearchText] = {}
    for uid in uids:
        try:
            octets = reading.octets_of(account, mailbox_id, uid, LARGE)
        except (MessageDamaged, NoSuchEntry):
            continue
        texts[uid] = SearchText(searchable_header(octets), searchable_text(octets))
    if texts:
        with account.lock:
            folder: Folder = account.folder(mailbox_id)
            database = account.database
            messages = database.messages_of(folder.row, list(texts))
            with database.transaction():
                cache_database.put_texts(
                    database.connection,
                    [(each.id, each.blob, texts[uid]) for uid, each in messages.items()],
                )
    return texts


def _is_indexed(criterion: Criterion) -> bool:
    match criterion:
        case Contains() | HeaderContains():
            return False
        case InSet(ranges):
            return len(ranges) <= MAX_RANGES
        case Not(inner):
            return _is_indexed(inner)
        case And(criteria) | Or(criteria):
            return all(map(_is_indexed, criteria))
        case _:
            return True


def _in_ranges(ranges: Sequence[tuple[int, int]]) -> tuple[str, list[int]]:
    if not ranges:
        return "0", []
    condition = " OR ".join(["p.uid BETWEEN ? AND ?"] * len(ranges))
    return f"({condition})", [end for each in ranges for end in each]


def _in_many_ranges(ranges: Sequence[tuple[int, int]], candidates: set[int]) -> set[int]:
    found: set[int] = set()
    ordered = sorted(candidates)
    for low, high in ranges:
        found.update(ordered[bisect_left(ordered, low) : bisect_right(ordered, high)])
    return found


def _on_day(comparison: Comparison, day: int) -> tuple[str, list[int]]:
    # The day in the zone of the internal date; dates are not negative.
    expression = f"((m.date + m.zone * 60) / 86400 + {_EPOCH_DAY})"
    return f"{expression} {_OPERATORS[comparison]} ?", [day]


def _matcher(criterion: Criterion) -> _Matcher:
    match criterion:
        case Contains(TextScope.BODY, text):
            needle = fold(text)
            return lambda header, body: needle in body
        case Contains(_, text):
            needle = fold(text)
            return lambda header, body: needle in body or needle in header
        case HeaderContains(name, text):
            return _header_matcher(name, fold(text))
        case _:
            raise TypeError(f"{criterion!r} does not look for a text")


def _header_matcher(name: str, needle: str) -> _Matcher:
    start = f"{fold(name)}:"

    def matches(header: str, _: str) -> bool:
        if needle not in header:
            return False
        return any(
            line.startswith(start) and needle in line[len(start) :] for line in header.split("\n")
        )

    return matches
