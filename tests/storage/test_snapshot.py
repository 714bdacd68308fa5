"""What is kept in memory of a mailbox is what its index says."""

from __future__ import annotations

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from mailhost.interfaces.access import FlagOperation
from mailhost.storage.account_database import Between
from mailhost.storage.snapshot import KEPT, Snapshot, snapshot
from tests.storage.support import ANN, StoreTestCase

STEPS = st.lists(
    st.tuples(
        st.sampled_from(("deliver", "flag", "unflag", "expunge", "copy", "look")),
        st.sets(st.integers(1, 12), min_size=1, max_size=4),
    ),
    max_size=12,
)


class SnapshotTests(StoreTestCase):
    """Renewed from changes, it is the same as when it is read anew."""

    def compare(self, name: str = "INBOX") -> None:
        """Hold that the kept snapshot and a new one are the same."""
        with self.store._accounts.use(ANN) as account, account.lock:
            folder = account.database.by_name[name]
            kept = snapshot(account, folder)
            self.assertIs(snapshot(account, folder), kept)
            account.snapshots.clear()
            fresh = snapshot(account, folder)
        self.assertEqual(
            (kept.mod_seq, kept.uids, kept.flags), (fresh.mod_seq, fresh.uids, fresh.flags)
        )
        self.assertEqual(kept.first_unseen, fresh.first_unseen)

    @settings(max_examples=15, deadline=None)
    @given(STEPS)
    def test_whatever_happens(self, steps: list[tuple[str, set[int]]]) -> None:
        """After any changes it is what the index says."""
        self.settle()
        box = self.box()
        archive = self.mailbox_ids()["Archive"]
        for action, uids in steps:
            chosen = sorted(uids)
            if action == "deliver":
                self.deliver()
            elif action == "expunge":
                self.settle()
                self.successResultOf(box.expunge(chosen, marked=False))
            elif action == "copy":
                self.settle()
                self.successResultOf(box.copy(chosen, archive))
            elif action == "look":
                self.successResultOf(box.listing())
                self.compare("Archive")
            else:
                operation = FlagOperation.ADD if action == "flag" else FlagOperation.REMOVE
                self.successResultOf(box.store(chosen, operation, ("\\Seen", "work")))
            self.compare()
        box.close()

    def test_runs_and_gaps(self) -> None:
        """Neighbours are asked for as a range; what does not exist is left out."""
        kept = Snapshot(1, array("I", [1, 3, 4, 9]), array("Q", [0, 1, 2, 3]))
        self.assertEqual(kept.chosen(array("I", [3, 4, 9])), Between(3, 9))
        self.assertEqual(kept.chosen([1, 4]), [1, 4])
        self.assertEqual(kept.chosen([]), [])
        self.assertEqual([list(each) for each in kept.flags_of([1, 2, 4, 20])], [[1, 4], [0, 2]])
        self.assertEqual([list(each) for each in kept.flags_of([20, 21])], [[], []])
        self.assertEqual([list(each) for each in kept.flags_of([9, 10])], [[9], [3]])
        self.assertEqual(kept.first_unseen, 1)
        self.assertEqual((kept.with_bit(1, True), kept.with_bit(1, False)), ({3, 9}, {1, 4}))

    def test_few_are_kept(self) -> None:
        """Memory for mailboxes that are not used is given back."""
        self.deliver()
        with self.store._accounts.use(ANN) as account, account.lock:
            for folder in account.database.folders.values():
                snapshot(account, folder)
            self.assertEqual(len(account.snapshots), KEPT)
