"""The process ends at each file operation, one after the other (R-84): P1, P4, P5 hold after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.python.failure import Failure

from mailhost.interfaces.access import Column, FlagOperation
from mailhost.interfaces.spool import LocalTarget
from tests.storage.support import ANN, BOB, Crash, StoreTestCase

CONTENT = b"Return-Path: <sender@example.com>\r\nReceived: x\r\nSubject: a\r\n\r\nb\r\n"


class CrashTests(StoreTestCase):
    """What was acknowledged is there, no UID means two things, all is whole."""

    def crash_at_each(
        self,
        prepare: Callable[[], None],
        act: Callable[[], Any],
        check: Callable[[bool], None],
        *,
        least: int,
    ) -> None:
        """
        Prepare, act with the process ending before the n-th operation, restart, check; for each n.

        `check` is told whether the act was done. `least`: operations there must be at least.
        """
        for stop in range(1, 200):
            self.serial = 0
            self.spool.rows.clear()
            self.path = self.path.with_name(f"data{stop}")
            self.end()
            self.start()
            prepare()
            done = self.run_until(stop, act)
            self.restart()
            self.recover()
            check(done)
            # And again from what that left.
            self.restart()
            check(done)
            if done:
                self.assertGreaterEqual(stop, least)
                return
        self.fail("the act has no end")

    def run_until(self, stop: int, act: Callable[[], Any]) -> bool:
        """Return whether the act was done before its n-th operation."""
        left = stop

        def before(name: str, arguments: object) -> None:
            nonlocal left
            left -= 1
            # Once ended, nothing is done any more, whoever tries.
            if left <= 0:
                raise Crash

        self.files.before = before
        try:
            result = act()
            outcome: list[Any] = []
            if result is not None:
                result.addBoth(outcome.append)
            done = left > 0
            if outcome and isinstance(outcome[0], Failure):
                self.assertFalse(done, outcome[0])
        except Crash:
            done = False
        self.files.before = lambda name, arguments: None
        self.flushLoggedErrors()
        return done

    def whole(self, name: str, uids: int, account_id: Any = ANN) -> None:
        """Hold that a mailbox has so many messages, each whole."""
        contents = self.contents(name, account_id)
        self.assertEqual([CONTENT] * uids, list(contents.values()))

    def test_deposit(self) -> None:
        """Each accepted message is there once, in both accounts, whole."""

        def check(done: bool) -> None:
            self.whole("INBOX", 2)
            self.whole("INBOX", 2, BOB)

        deposits: list[Any] = []

        def prepare() -> None:
            self.mailbox_ids()
            targets = (LocalTarget(ANN), LocalTarget(BOB))
            deposits[:] = [self.deposit_for(*targets) for _ in range(2)]

        self.crash_at_each(prepare, lambda: self.store.deposit(deposits) and None, check, least=20)

    def test_first_deposit(self) -> None:
        """The same when the rows wait until the store is synced."""
        deposits: list[Any] = []

        def prepare() -> None:
            self.mailbox_ids()
            targets = (LocalTarget(ANN), LocalTarget(BOB))
            deposits[:] = [replace(self.deposit_for(*targets), first=True) for _ in range(2)]

        def act() -> None:
            self.store.deposit(deposits)
            self.store.sync()

        def check(done: bool) -> None:
            self.whole("INBOX", 2)
            self.whole("INBOX", 2, BOB)

        self.crash_at_each(prepare, act, check, least=15)

    def test_recover(self) -> None:
        """Recovery itself may end anywhere."""

        def prepare() -> None:
            self.deliver_indexed(LocalTarget(ANN), LocalTarget(BOB))
            self.kill()
            self.message_files()[0].write_bytes(b"")
            self.start()

        def check(done: bool) -> None:
            self.whole("INBOX", 1)
            self.whole("INBOX", 1, BOB)
            self.assertEqual(list(self.contents()), [1])

        self.crash_at_each(
            prepare,
            lambda: self.store.recover(list(self.spool.rows.values())) and None,
            check,
            least=5,
        )

    def three(self) -> None:
        """Put three settled messages into INBOX."""
        for _ in range(3):
            self.deliver()
        self.settle()
        self.trash = self.mailbox_ids()["Trash"]
        self.inbox = self.box()

    def test_expunge(self) -> None:
        """An expunge that was acknowledged stays; else each message is there or not, whole."""

        def check(done: bool) -> None:
            left = list(self.contents())
            if done:
                self.assertEqual(left, [2])
            self.assertIn(left, ([2], [1, 2, 3]))
            self.whole("INBOX", len(left))

        self.crash_at_each(
            self.three, lambda: self.inbox.expunge([1, 3], marked=False), check, least=3
        )

    def test_copy(self) -> None:
        """A copy is there as a whole or not at all."""

        def check(done: bool) -> None:
            self.assertEqual(list(self.contents()), [1, 2, 3])
            copies = len(self.contents("Trash"))
            self.assertIn(copies, (2,) if done else (0, 2))
            self.whole("Trash", copies)

        self.crash_at_each(self.three, lambda: self.inbox.copy([1, 2], self.trash), check, least=6)

    def test_move(self) -> None:
        """No message is lost or doubled by a move; those that stay keep their UIDs."""
        identities: dict[str, Any] = {}

        def prepare() -> None:
            self.three()
            records = self.successResultOf(self.inbox.records([1, 2, 3], Column.EMAIL_ID))
            identities["before"] = sorted(each.email_id for each in records)

        def check(done: bool) -> None:
            there, here = self.contents("Trash"), self.contents()
            self.assertEqual(len(there) + len(here), 3)
            self.assertLessEqual(set(here), {1, 2, 3})
            if done:
                self.assertEqual((list(here), len(there)), ([3], 2))
            self.whole("Trash", len(there))
            found = []
            for box, uids in ((self.box("Trash"), there), (self.box(), here)):
                records = self.successResultOf(box.records(list(uids), Column.EMAIL_ID))
                found += [each.email_id for each in records]
            self.assertEqual(sorted(found), identities["before"])

        self.crash_at_each(prepare, lambda: self.inbox.move([1, 2], self.trash), check, least=4)

    def test_flags(self) -> None:
        """A flag whose pass is over is kept; none is half set."""

        def act() -> Any:
            stored = self.inbox.store([1, 2], FlagOperation.REPLACE, ("\\Seen", "$Work"))
            return stored.addCallback(lambda _: self.pass_time())

        both = {1: {"\\Seen", "$Work"}, 2: {"\\Seen", "$Work"}, 3: set()}

        def check(done: bool) -> None:
            flags = self.flags()
            self.assertIn(flags, (both,) if done else (both, {1: set(), 2: set(), 3: set()}))
            self.pass_time()
            names = sorted(path.name.partition(":2,")[2] for path in self.message_files())
            self.assertEqual(names, ["", "Sa", "Sa"] if flags == both else ["", "", ""])

        self.crash_at_each(self.three, act, check, least=5)

    def test_rename(self) -> None:
        """A subtree has its old names or its new ones, with all its mail."""

        def prepare() -> None:
            self.successResultOf(self.access().create("a/b/c"))
            names = self.mailbox_ids()
            self.deliver(LocalTarget(ANN, names["a/b/c"]))
            self.settle()
            self.renamed = names["a"]

        def check(done: bool) -> None:
            names = set(self.mailbox_ids())
            old, new = {"a", "a/b", "a/b/c"}, {"x/y", "x/y/b", "x/y/b/c"}
            self.assertEqual(len(names & (old | new)), 3)
            self.assertTrue(new <= names or (old <= names and not done))
            self.whole("x/y/b/c" if new <= names else "a/b/c", 1)

        self.crash_at_each(
            prepare, lambda: self.access().rename(self.renamed, "x/y"), check, least=5
        )

    def test_create_and_delete(self) -> None:
        """A mailbox that was made is there; one that was deleted does not come back."""

        def prepare() -> None:
            work = self.successResultOf(self.access().create("Work"))
            self.deliver(LocalTarget(ANN, work))
            self.settle()
            self.work = work

        def act() -> Any:
            deleted = self.access().delete(self.work)
            return deleted.addCallback(lambda _: self.access().create("Work/Sub"))

        def check(done: bool) -> None:
            names = self.mailbox_ids()
            if done:
                self.assertIn("Work/Sub", names)
            if names.get("Work") == self.work:
                self.whole("Work", 1)
            elif names.get("Work"):
                self.assertEqual(self.contents("Work"), {})

        self.crash_at_each(prepare, act, check, least=8)

    def test_creating_an_account(self) -> None:
        """An account whose making was cut short is made whole."""

        def check(done: bool) -> None:
            names = self.mailbox_ids()
            self.assertEqual(sorted(names), ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"])

        self.crash_at_each(lambda: None, lambda: self.access().mailboxes(), check, least=40)

    def test_rebuild(self) -> None:
        """A rebuild that was cut short is done again, with the same UIDs."""

        def prepare() -> None:
            self.three()
            self.kill()
            for path in (self.path / "accounts" / ANN).glob("*.sqlite*"):
                path.unlink()
            self.start()

        def check(done: bool) -> None:
            self.assertEqual(list(self.contents()), [1, 2, 3])

        self.crash_at_each(prepare, lambda: self.access().mailboxes(), check, least=30)
