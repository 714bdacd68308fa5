"""Full disks, failing disks, and what is done in the background."""

from __future__ import annotations

import errno
import os

from mailhost.errors import QuotaExceeded, StorageError
from mailhost.interfaces.access import Column, FlagOperation
from mailhost.interfaces.spool import LocalTarget
from mailhost.storage.content import FileContent
from mailhost.storage.foreign import TOMBSTONE_LIFE
from mailhost.units import AccountID
from tests.storage.support import ANN, BOB, StoreTestCase


class FaultTests(StoreTestCase):
    """A fault is told of, changes nothing, and is over when its cause is (R-86 to R-88, P8)."""

    def fail_at(self, number: int, *names: str) -> None:
        """Let file operations of these names fail."""

        def before(name: str, arguments: object) -> None:
            if name in names:
                raise OSError(number, os.strerror(number))

        self.files.before = before

    def test_every_change_on_a_full_disk(self) -> None:
        """Copy, move and create are refused as a whole, and work when there is room again."""
        for _ in range(3):
            self.deliver()
        self.settle()
        names = self.mailbox_ids()
        box = self.box()
        trash = names["Trash"]
        for operation in ("link", "rename", "append_to", "sync_directory"):
            self.fail_at(errno.ENOSPC, operation)
            if operation in ("link", "sync_directory"):
                self.failureResultOf(box.copy([1, 2], trash), QuotaExceeded)
            if operation in ("rename", "sync_directory"):
                self.failureResultOf(box.move([1, 2], trash), QuotaExceeded)
            self.files.before = lambda name, arguments: None
            self.flushLoggedErrors()
            self.assertEqual(list(self.contents()), [1, 2, 3])
            self.assertEqual(self.contents("Trash"), {})
        self.fail_at(errno.ENOSPC, "make_directory")
        self.failureResultOf(self.access().create("Work"), QuotaExceeded)
        self.files.before = lambda name, arguments: None
        self.flushLoggedErrors()
        self.successResultOf(self.access().create("Work"))
        self.assertEqual(len(self.successResultOf(box.move([1, 2], trash)).copies), 2)

    def test_failing_disk(self) -> None:
        """Another error is a storage error whose words are for the log."""
        self.deliver()
        self.settle()
        self.fail_at(errno.EIO, "link")
        trash = self.mailbox_ids()["Trash"]
        self.failureResultOf(self.box().copy([1], trash), StorageError)
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_expunge_on_a_read_only_disk(self) -> None:
        """Files that cannot be put away now are put away later; the messages are gone."""
        self.deliver()
        self.settle()
        self.fail_at(errno.EROFS, "rename")
        self.successResultOf(self.box().expunge([1], marked=False))
        self.files.before = lambda name, arguments: None
        self.flushLoggedErrors()
        self.assertEqual(self.contents(), {})
        self.assertEqual(self.message_files(), [])

    def test_reading_on_a_disk_that_takes_no_changes(self) -> None:
        """Who only reads is shown what is known (R-88)."""
        self.deliver()
        self.settle()
        names = self.mailbox_ids()
        connection = self.store._accounts._entries[ANN].store.database.connection  # type: ignore
        connection.execute("PRAGMA query_only = ON")
        self.fail_at(errno.EROFS, *self.files.CHANGING)
        (self.maildir() / "new" / "1.x.y").write_bytes(b"A: b\r\n\r\n")
        box = self.successResultOf(self.access().open(names["INBOX"], False))
        self.assertEqual(list(self.successResultOf(box.listing()).uids), [1])
        self.assertEqual(self.successResultOf(box.claim_recent()), 1)
        (record,) = self.successResultOf(box.records([1], Column.CONTENT))
        self.assertTrue(record.content)
        self.failureResultOf(box.store([1], FlagOperation.ADD, ("\\Seen",)), StorageError)
        connection.execute("PRAGMA query_only = OFF")
        self.files.before = lambda name, arguments: None
        self.flushLoggedErrors()
        self.assertEqual(list(self.contents()), [1, 2])

    def test_names_follow_later(self) -> None:
        """A pass that fails is tried again, without a new change."""
        self.deliver()
        box = self.box()
        self.successResultOf(box.store([1], FlagOperation.ADD, ("\\Seen",)))
        self.fail_at(errno.EIO, "rename")
        self.pass_time()
        self.assertTrue(self.flushLoggedErrors(OSError))
        self.files.before = lambda name, arguments: None
        self.pass_time()
        self.assertTrue(self.message_files()[0].name.endswith(":2,S"))

    def test_uid_list_is_made_up(self) -> None:
        """A list that could not be appended to is written anew."""
        self.mailbox_ids()
        self.deliver()
        self.mailbox_ids()
        self.fail_at(errno.ENOSPC, "append_to")
        self.deliver_indexed()
        self.files.before = lambda name, arguments: None
        self.flushLoggedErrors()
        self.pass_time()
        lines = (self.maildir() / "mailhost-uidlist").read_text().splitlines()
        self.assertEqual([line.split()[0] for line in lines[-2:]], ["1", "2"])

    def test_too_many_links(self) -> None:
        """Where a file can have no further name its octets are copied."""
        self.deliver(LocalTarget(ANN))
        self.settle()
        self.fail_at(errno.EMLINK, "link")
        self.deliver(LocalTarget(ANN), LocalTarget(BOB))
        trash = self.mailbox_ids()["Trash"]
        self.successResultOf(self.box().copy([1], trash))
        self.files.before = lambda name, arguments: None
        self.assertEqual(self.contents("Trash")[1], self.contents()[1])
        self.assertEqual(self.contents(account_id=BOB)[1], self.contents()[2])

    def test_bad_account_ids(self) -> None:
        """An account id that could be a path is refused (R-66)."""
        for name in ("..", "a/b", "", "a\0", "-x"):
            access = self.store.access(AccountID(name), self.access().address)
            self.failureResultOf(access.mailboxes(), StorageError)


class BackgroundTests(StoreTestCase):
    """What happens without being asked."""

    def test_flags_are_written_within_a_second(self) -> None:
        """A second after STORE the name shows the flags, and they are durable (P1)."""
        self.deliver()
        box = self.box()
        self.successResultOf(box.store([1], FlagOperation.ADD, ("\\Seen", "$Work")))
        self.pass_time(0.9)
        (path,) = self.message_files()
        self.assertTrue(path.name.endswith(":2,Sa"))
        self.assertEqual((self.maildir() / "dovecot-keywords").read_text(), "0 $Work\n")

    def test_sweep(self) -> None:
        """Expunged messages and deleted mailboxes stay for two weeks, then go."""
        work = self.successResultOf(self.access().create("Work"))
        self.deliver(LocalTarget(ANN, work))
        self.deliver()
        self.settle()
        self.successResultOf(self.box().expunge([1], marked=False))
        self.successResultOf(self.access().delete(work))
        expunged = self.path / "accounts" / ANN / "expunged"
        self.assertEqual(len(list(expunged.iterdir())), 2)
        self.now += TOMBSTONE_LIFE - 10
        self.store.sweep()
        self.assertEqual(len(list(expunged.iterdir())), 2)
        self.now += 20
        self.assertEqual(self.store.sweep(), 1)
        self.assertEqual(list(expunged.iterdir()), [])

    def test_search_text_is_kept_beforehand(self) -> None:
        """Where somebody searches, a later search reads no files after a while."""
        from mailhost.criteria import Contains, TextScope

        box = self.box()
        self.deliver()
        self.successResultOf(box.search(Contains(TextScope.BODY, "B"), 1))
        self.deliver()
        self.mailbox_ids()
        self.pass_time(5)
        for path in self.message_files():
            path.write_bytes(b"")
        found = self.successResultOf(box.search(Contains(TextScope.BODY, "B"), 1))
        self.assertEqual(list(found), [1, 2])

    def test_few_accounts_stay_open(self) -> None:
        """Sessions hold no files; more accounts than the limit take turns."""
        self.stop()
        self.start(open_limit=2)
        boxes = []
        for name in "abcdef":
            self.deliver(LocalTarget(AccountID(name)))
            boxes.append(self.box(account_id=AccountID(name)))
        self.assertLessEqual(len(self.store._accounts.open_ones()), 2)
        for box in boxes:
            self.assertEqual(list(self.successResultOf(box.listing()).uids), [1])

    def test_an_account_that_is_closed_has_written_its_names(self) -> None:
        """Flags changed just before an account is closed are in the names."""
        self.deliver()
        self.successResultOf(self.box().store([1], FlagOperation.ADD, ("\\Seen",)))
        self.stop()
        self.assertTrue(self.message_files()[0].name.endswith(":2,S"))
        self.start()

    def test_content_outlives_its_message(self) -> None:
        """What is being read stays readable after an expunge, and its file is let go of once."""
        big = b"Subject: a\r\n\r\n" + b"0123456789abcdef\r\n" * 30_000
        self.deliver(content=big)
        self.settle()
        box = self.box()
        content = self.successResultOf(box.content(1))
        self.assertIsInstance(content, FileContent)
        self.successResultOf(box.expunge([1], marked=False))
        self.assertEqual(self.successResultOf(content.read(content.size - 4, 9)), b"ef\r\n")
        content.close()
        content.close()

    def test_records_in_portions_of_any_shape(self) -> None:
        """Any choice of UIDs, in any order, gives those that exist, ascending."""
        self.store.deposit([self.deposit_for() for _ in range(20)])
        box = self.box()
        for uids in ([], [5], [3, 1, 2], range(15, 40), [1, 1, 20]):
            records = self.successResultOf(box.records(uids, Column.FLAGS | Column.SIZE))
            self.assertEqual([each.uid for each in records], sorted({*uids} & {*range(1, 21)}))
