"""A session's view against a plain model, and mailbox patterns against a plain matcher."""

from __future__ import annotations

import re
from array import array

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxFault
from mailhost.imap.list_pattern import ListPattern
from mailhost.imap.view import View
from mailhost.interfaces.access import Changes, Listing
from mailhost.units import UID, ModSeq
from mailhost.wire.imap import sequence_set

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 4)),
        st.tuples(st.just("gone"), st.lists(st.integers(1, 30), max_size=5)),
        st.tuples(st.just("show"), st.just(0)),
        st.tuples(st.just("remove"), st.lists(st.integers(1, 30), max_size=5)),
    ),
    max_size=20,
)


def listing(uids: list[int], mod_seq: int = 1) -> Listing:
    """A mailbox of those messages."""
    return Listing(array("I", uids), UID(max(uids, default=0) + 1), ModSeq(mod_seq), (), None)


def changes(
    mod_seq: int,
    added: tuple[int, ...] = (),
    vanished: tuple[int, ...] = (),
    flagged: tuple[tuple[int, tuple[str, ...], int], ...] = (),
) -> Changes:
    """What a mailbox says has happened."""
    return Changes(added, flagged, vanished, ModSeq(mod_seq), UID(99), ())


class ViewTests(SynchronousTestCase):
    """Sequence numbers."""

    @settings(max_examples=200, deadline=None)
    @given(STEPS)
    def test_client_and_server_agree(self, steps: list[tuple[str, object]]) -> None:
        """
        A client that keeps a list as RFC 9051 7.5.1 says always has the server's numbers, and
        ends with the messages that are there.
        """
        there = [1, 2, 3, 5, 8]
        view = View(listing(there), 1)
        client = list(there)
        next_uid, mod_seq = 9, 1
        for verb, value in steps:
            mod_seq += 1
            if verb == "add":
                assert isinstance(value, int)
                new = tuple(range(next_uid, next_uid + value))
                next_uid += value
                there.extend(new)
                if view.merge(changes(mod_seq, added=new)).grown:
                    client.extend(new)
            elif verb in ("gone", "remove"):
                assert isinstance(value, list)
                gone = tuple(uid for uid in there if uid in value)
                there = [uid for uid in there if uid not in gone]
                if verb == "gone":
                    view.merge(changes(mod_seq, vanished=gone))
                else:
                    for number in view.remove(gone):
                        del client[number - 1]
            else:
                for number in view.take_expunges():
                    del client[number - 1]
            self.assertEqual(client, list(view.uids))
            self.assertEqual([view.number(uid) for uid in client], list(range(1, len(client) + 1)))
            self.assertEqual(list(view.numbers(client)), list(range(1, len(client) + 1)))
        for number in view.take_expunges():
            del client[number - 1]
        self.assertEqual(client, there)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.integers(1, 40), unique=True, max_size=12).map(sorted),
        st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=4),
    )
    def test_uid_sets(self, uids: list[int], ranges: list[tuple[int, int]]) -> None:
        """A set of UIDs is those of them that exist."""
        view = View(listing(uids), 1)
        chosen = view.select(sequence_set.SequenceSet(tuple(ranges)), True)
        expected = [u for u in uids if any(min(a, b) <= u <= max(a, b) for a, b in ranges)]
        self.assertEqual(list(chosen), expected)
        spans = view.ranges(sequence_set.SequenceSet(tuple(ranges)), True)
        self.assertEqual([u for u in uids if any(a <= u <= b for a, b in spans)], expected)

    def test_numbers_of_runs_of_few_and_of_many(self) -> None:
        """However they are looked up, UIDs have their numbers, and 0 where there is none."""
        uids = list(range(1, 200, 2))
        view = View(listing(uids), 1)
        for asked in ([], uids, uids[3:9], [5, 6, 199], uids[::2], list(range(1, 150))):
            expected = [uids.index(uid) + 1 if uid in uids else 0 for uid in asked]
            self.assertEqual(list(view.numbers(asked)), expected)

    def test_sequence_numbers_must_exist(self) -> None:
        """Beyond the last is a fault, except through a star."""
        view = View(listing([4, 7, 9]), 1)
        self.assertEqual(list(view.select(sequence_set.parse(b"2:3"), False)), [7, 9])
        self.assertEqual(list(view.select(sequence_set.parse(b"5:*"), False)), [9])
        self.assertRaises(SyntaxFault, view.select, sequence_set.parse(b"2:4"), False)
        empty = View(listing([]), 1)
        self.assertEqual(list(empty.select(sequence_set.parse(b"1:*"), False)), [])
        self.assertRaises(SyntaxFault, empty.select, sequence_set.parse(b"1"), False)

    def test_own_changes_are_not_repeated_but_later_ones_are_shown(self) -> None:
        """A change that the client knows of is silent; one after it is not."""
        view = View(listing([1, 2]), 1)
        view.told(((1, ("\\Seen",), 5), (2, ("\\Seen",), 5)))
        updates = view.merge(changes(6, flagged=((1, ("\\Seen",), 5), (2, ("\\Flagged",), 6))))
        self.assertEqual(updates.flagged, ((2, ("\\Flagged",), 6),))

    def test_a_listing_is_not_changed(self) -> None:
        """The store may share one listing among sessions."""
        shared = array("I", [1, 2])
        view = View(Listing(shared, UID(3), ModSeq(1), (), None), 1)
        view.merge(changes(2, added=(3,)))
        self.assertEqual(list(shared), [1, 2])

    def test_a_large_mailbox_stays_small(self) -> None:
        """Four octets for each message."""
        view = View(listing(list(range(1, 100_001))), 1)
        self.assertEqual(len(view.uids) * view.uids.itemsize, 400_000)
        self.assertEqual(view.remove(range(1, 100_001)), [1] * 100_000)


class ListPatternTests(SynchronousTestCase):
    """RFC 9051 6.3.9."""

    @settings(max_examples=200, deadline=None)
    @given(st.text("ab/*%", max_size=8), st.text("ab/", max_size=8))
    def test_like_a_regular_expression(self, pattern: str, name: str) -> None:
        """The automaton says what a backtracking matcher says."""
        expression = "".join({"*": ".*", "%": "[^/]*"}.get(c, re.escape(c)) for c in pattern)
        self.assertEqual(
            ListPattern(pattern).matches(name), re.fullmatch(expression, name) is not None
        )

    def test_hostile_patterns_are_one_pass(self) -> None:
        """R-44: a thousand wildcards against a long name; a matcher that goes back never ends."""
        for pattern in ("%*" * 500 + "b", "*a" * 500 + "b", "%a" * 500 + "b", "*%a/" * 250 + "b"):
            self.assertFalse(ListPattern(pattern).matches("a" * 2000 + "c"), pattern[:10])
        self.assertTrue(ListPattern("*a" * 500).matches("a" * 2000))
