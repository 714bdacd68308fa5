"""Mail that the spool puts into the store, and gets back after a crash."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from mailhost.address import Address
from mailhost.criteria import Contains, TextScope
from mailhost.interfaces.access import Column, FlagOperation
from mailhost.interfaces.spool import LocalTarget, Placement
from mailhost.reply import Action, DeliveryStatus
from mailhost.storage.store import LOOK_INTERVAL
from mailhost.units import AccountID, MailboxID
from tests.storage.support import ANN, BOB, StoreTestCase

HEAD = b"Return-Path: <sender@example.com>\r\n"
TEXT = b"Subject: a\r\n\r\nb\r\n"


class DepositTests(StoreTestCase):
    """`deposit`: visible at once, named by its queue id."""

    def test_trace_fields_stand_before_the_message(self) -> None:
        """Return-Path, Delivered-To where asked for, the prefix, the content."""
        self.deliver()
        self.deliver(LocalTarget(ANN, delivered_to=Address.parse("list@example.org")))
        self.assertEqual(
            self.contents(),
            {
                1: HEAD + b"Received: x\r\n" + TEXT,
                2: HEAD + b"Delivered-To: list@example.org\r\nReceived: x\r\n" + TEXT,
            },
        )

    def test_file_name(self) -> None:
        """Time, queue id, host and both sizes are in the name; new mail lies in new."""
        self.deliver()
        (path,) = self.message_files()
        size = len(HEAD + b"Received: x\r\n" + TEXT)
        name = f"1700000000.{1:026d}.mx.example.org,S={size},W={size}"
        self.assertEqual((path.parent.name, path.name), ("new", name))
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_modes_do_not_depend_on_the_umask(self) -> None:
        """Everything in the data directory is for its owner only (R-100)."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.deliver(LocalTarget(BOB))
        for path in self.path.rglob("*"):
            wanted = 0o700 if path.is_dir() else 0o600
            self.assertEqual(path.stat().st_mode & 0o777, wanted, path)

    def test_equal_copies_are_one_file(self) -> None:
        """Many recipients share one file; a copy with a field of its own does not."""
        other = AccountID("carl")
        self.deliver(
            LocalTarget(ANN),
            LocalTarget(BOB),
            LocalTarget(other, delivered_to=Address.parse("x@example.org")),
        )
        files = [self.message_files(account_id=each)[0] for each in (ANN, BOB, other)]
        inodes = [path.stat().st_ino for path in files]
        self.assertEqual(inodes[0], inodes[1])
        self.assertNotEqual(inodes[0], inodes[2])

    def test_large_spool_file_is_linked_for_append(self) -> None:
        """Where nothing stands before the content the spool's file gets a second name."""
        spooled = self.path / "spooled"
        spooled.write_bytes(TEXT * 1000)
        inbox = self.mailbox_ids()["INBOX"]
        target = LocalTarget(ANN, inbox, internal_date=1_600_000_000)
        self.deliver(target, content=spooled, prefix=b"")
        (path,) = self.message_files()
        self.assertEqual(path.stat().st_ino, spooled.stat().st_ino)
        self.assertEqual(self.contents(), {1: TEXT * 1000})

    def test_spool_file_is_copied_behind_trace_fields(self) -> None:
        """A delivered message from a file has its trace fields too."""
        spooled = self.path / "spooled"
        spooled.write_bytes(TEXT)
        self.deliver(content=spooled)
        self.assertEqual(self.contents(), {1: HEAD + b"Received: x\r\n" + TEXT})

    def test_twice_is_once(self) -> None:
        """Depositing again gives the place it has, wherever it was moved meanwhile."""
        deposit = self.deposit_for()
        ((first,),) = self.store.deposit([deposit])
        ((again,),) = self.store.deposit([deposit])
        self.assertEqual(first, again)
        box = self.box()
        self.successResultOf(box.move([1], self.mailbox_ids()["Trash"]))
        ((moved,),) = self.store.deposit([deposit])
        assert isinstance(moved, Placement)
        self.assertEqual(moved.mailbox_id, self.mailbox_ids()["Trash"])
        self.assertEqual(len(self.contents("Trash")), 1)
        self.assertEqual(self.contents(), {})

    def test_twice_after_expunge_is_never(self) -> None:
        """An expunged message does not come back."""
        deposit = self.deposit_for()
        self.store.deposit([deposit])
        self.successResultOf(self.box().expunge([1], marked=False))
        self.store.deposit([deposit])
        self.store.recover([deposit])
        self.assertEqual(self.contents(), {})

    def test_same_target_twice(self) -> None:
        """An address that leads to one account twice gives one message, or one for each field."""
        results = self.deliver(
            LocalTarget(ANN),
            LocalTarget(ANN),
            LocalTarget(ANN, delivered_to=Address.parse("x@example.org")),
        )
        self.assertEqual([self.uid(each) for each in results], [1, 1, 2])
        self.assertEqual(len(self.contents()), 2)

    def test_a_batch_is_one_transaction_for_each_account(self) -> None:
        """Many messages of a batch get ascending UIDs and one mod-sequence."""
        deposits = [self.deposit_for() for _ in range(5)]
        results = self.store.deposit(deposits)
        self.assertEqual([self.uid(each[0]) for each in results], [1, 2, 3, 4, 5])
        box = self.box()
        records = self.successResultOf(box.records(range(1, 6), Column.MOD_SEQ))
        self.assertEqual(len({each.mod_seq for each in records}), 1)

    def test_mailbox_that_is_gone(self) -> None:
        """Accepted mail for a mailbox that is gone goes to INBOX; what is stored there fails."""
        nowhere = MailboxID("0" * 26)
        (result,) = self.deliver(LocalTarget(ANN, nowhere))
        self.assertEqual(self.uid(result), 1)
        (result,) = self.deliver(LocalTarget(ANN, nowhere, internal_date=1))
        assert isinstance(result, DeliveryStatus)
        self.assertEqual((result.action, result.status), (Action.FAILED, "5.2.0"))

    def test_threads(self) -> None:
        """A reply is in the thread of what it refers to, from its arrival on."""
        self.deliver(content=b"Message-ID: <1@x>\r\n\r\n")
        self.deliver(content=b"Message-ID: <2@x>\r\nReferences: <1@x>\r\n\r\n")
        self.deliver(content=b"Message-ID: <3@x>\r\n\r\n")
        self.deliver(content=b"\r\n")
        box = self.box()
        records = self.successResultOf(box.records(range(1, 5), Column.THREAD_ID))
        threads = [each.thread_id for each in records]
        self.assertEqual(threads[0], threads[1])
        self.assertEqual(len(set(threads)), 3)

    def test_keywords_of_append(self) -> None:
        """Keywords given with APPEND are set, and are in the name after a pass."""
        inbox = self.mailbox_ids()["INBOX"]
        self.deliver(LocalTarget(ANN, inbox, flags=("\\Seen", "$Work"), internal_date=1))
        self.assertEqual(self.flags(), {1: {"\\Seen", "$Work"}})
        self.pass_time()
        (path,) = self.message_files()
        self.assertTrue(path.name.endswith(":2,Sa"), path.name)

    def test_one_fault_does_not_stop_the_others(self) -> None:
        """A message that cannot be written is delayed; those around it arrive (R-86, R-87)."""
        for number, status in ((errno.ENOSPC, "4.3.1"), (errno.EIO, "4.3.0")):
            deposits = [self.deposit_for() for _ in range(3)]
            second = deposits[1].queue_id

            def fail(
                name: str, arguments: object, queue_id: str = second, code: int = number
            ) -> None:
                if name == "rename" and queue_id in str(arguments):
                    raise OSError(code, os.strerror(code))

            self.files.before = fail
            results = [each[0] for each in self.store.deposit(deposits)]
            self.flushLoggedErrors(OSError)
            self.files.before = lambda name, arguments: None
            self.assertIsInstance(results[0], Placement)
            delayed = results[1]
            assert isinstance(delayed, DeliveryStatus)
            self.assertEqual((delayed.action, delayed.status), (Action.DELAYED, status))
            self.assertIsInstance(results[2], Placement)
            ((again,),) = self.store.deposit([deposits[1]])
            self.assertIsInstance(again, Placement)
        self.assertEqual(sorted(self.contents()), [1, 2, 3, 4, 5, 6])

    def test_account_that_cannot_be_opened(self) -> None:
        """A fault of one account delays its own mail only."""
        (self.path / "accounts" / BOB).write_text("no directory")
        results = self.deliver(LocalTarget(BOB), LocalTarget(ANN))
        self.flushLoggedErrors()
        self.assertIsInstance(results[0], DeliveryStatus)
        self.assertIsInstance(results[1], Placement)

    def test_bare_line_feeds(self) -> None:
        """Octets with bare LF are kept as they came and read in CRLF form."""
        inbox = self.mailbox_ids()["INBOX"]
        target = LocalTarget(ANN, inbox, internal_date=1)
        self.deliver(target, content=b"Subject: x\n\nbody\n", prefix=b"")
        self.assertEqual(self.contents(), {1: b"Subject: x\r\n\r\nbody\r\n"})
        (path,) = self.message_files()
        self.assertEqual(path.read_bytes(), b"Subject: x\n\nbody\n")
        self.assertIn(",S=17,W=20", path.name)


class SettlementTests(StoreTestCase):
    """What only the spool holds durably is settled before it is removed or moved."""

    def test_removal_settles_first(self) -> None:
        """Expunge, copy, move, deletion and the emptying of INBOX settle what they touch."""
        trash = self.mailbox_ids()["Trash"]
        work = self.successResultOf(self.access().create("Work"))
        acts = (
            lambda box: box.expunge([1], marked=False),
            lambda box: box.copy([2], trash),
            lambda box: box.move([3], trash),
            lambda box: self.access().delete(work),
            lambda box: self.access().rename(box.mailbox_id, "old"),
        )
        for number, act in enumerate(acts):
            target = LocalTarget(ANN, work) if number == 3 else LocalTarget(ANN)
            deposit = self.deposit_for(target)
            self.store.deposit([deposit])
            self.successResultOf(act(self.box()))
            self.assertEqual(self.spool.settlements[-1], [deposit.queue_id])

    def test_settled_mail_is_not_settled_again(self) -> None:
        """Mail that the spool let go of is changed at once."""
        self.deliver()
        self.settle()
        self.successResultOf(self.box().expunge([1], marked=False))
        self.assertEqual(self.spool.settlements, [])

    def test_flags_need_no_settlement(self) -> None:
        """Flags may change before, as recovery finds the file under any name."""
        self.deliver()
        self.successResultOf(self.box().store([1], FlagOperation.ADD, ("\\Seen",)))
        self.assertEqual(self.spool.settlements, [])

    def test_failed_sync_is_not_asked_again(self) -> None:
        """After a failed sync nothing is settled until all of it was written again (R-86)."""
        self.deliver()

        def fail(name: str, arguments: object) -> None:
            if name == "sync_file_system":
                raise OSError(errno.EIO, "no")

        self.files.before = fail
        self.assertRaises(OSError, self.store.sync)
        self.flushLoggedErrors(OSError)
        self.files.before = lambda name, arguments: None
        self.assertRaises(OSError, self.store.sync)
        self.recover()
        self.store.sync()
        self.assertEqual(len(self.contents()), 1)


class ArrivedTests(StoreTestCase):
    """Rows that wait for somebody who needs them."""

    def break_index(self) -> None:
        """Let no account's index be changed."""
        for name in self.store._accounts.open_ones():
            entry = self.store._accounts._entries[name]
            assert entry.store is not None
            entry.store.database.connection.execute("PRAGMA query_only=ON")

    def mend_index(self) -> None:
        """Let them be changed again."""
        for name in self.store._accounts.open_ones():
            entry = self.store._accounts._entries[name]
            assert entry.store is not None
            entry.store.database.connection.execute("PRAGMA query_only=OFF")

    def test_whoever_looks_finds_them(self) -> None:
        """A session that is open already finds what arrived, with the UIDs it was given."""
        box = self.box()
        uids = [self.uid(self.deliver()[0]) for _ in range(3)]
        self.assertEqual(list(self.successResultOf(box.listing()).uids), uids)

    def test_listeners_are_told(self) -> None:
        """Who watches the account is told, and finds what was told."""
        box = self.box()
        before = self.successResultOf(box.listing()).highest_mod_seq
        told: list[int] = []
        self.access().watch(lambda mailbox_id, mod_seq: told.append(mod_seq))
        self.deliver()
        self.assertEqual(len(told), 1)
        self.assertGreater(told[0], before)
        found = self.successResultOf(box.changes(before))
        self.assertEqual((list(found.added), found.highest_mod_seq), ([1], told[0]))

    def test_index_that_cannot_be_written(self) -> None:
        """Reading goes on, nothing is settled; later each is there once, UIDs in order."""
        self.deliver()
        self.assertEqual(list(self.contents()), [1])
        self.deliver()
        self.break_index()
        self.assertEqual(list(self.contents()), [1])
        self.assertRaises(sqlite3.OperationalError, self.store.sync)
        self.flushLoggedErrors(sqlite3.OperationalError)
        # What the spool does before it asks again.
        self.store.recover(list(self.spool.rows.values()))
        self.flushLoggedErrors()
        self.assertRaises(sqlite3.OperationalError, self.store.sync)
        self.mend_index()
        self.deliver()
        self.store.sync()
        found = self.contents()
        self.assertEqual(len(found), 3)
        self.assertEqual(list(found), sorted(found))

    def test_recovery_takes_over(self) -> None:
        """Mail that is recovered while its row waits has one row, and not two."""
        self.mailbox_ids()
        self.deliver()
        account = self.store._accounts._entries[ANN].store
        assert account is not None
        written = account.index_arrived

        def unwritable() -> None:
            raise sqlite3.OperationalError("full")

        account.index_arrived = unwritable
        self.assertRaises(sqlite3.OperationalError, self.store.sync)
        self.store.recover(list(self.spool.rows.values()))
        account.index_arrived = written
        self.store.sync()
        self.flushLoggedErrors(sqlite3.OperationalError)
        self.assertEqual(len(self.contents()), 1)

    def test_damaged_index_is_made_anew(self) -> None:
        """What waits is found by the new index, once."""
        self.deliver()
        self.mailbox_ids()
        self.deliver()
        account = self.store._accounts._entries[ANN].store
        assert account is not None

        def damaged() -> None:
            error = sqlite3.DatabaseError("malformed")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error

        account.index_arrived = damaged
        self.store.sync()
        self.flushLoggedErrors()
        self.assertEqual(len(self.contents()), 2)

    def test_texts_are_kept_where_somebody_searches(self) -> None:
        """Without a search of texts none is kept; then those of new mail are, also later."""
        box = self.box()
        for expected in (0, 2, 3):
            self.deliver()
            self.mailbox_ids()
            self.pass_time(LOOK_INTERVAL)
            account = self.store._accounts._entries[ANN].store
            assert account is not None
            (count,) = account.database.connection.execute(
                "SELECT count(*) FROM cache.text"
            ).fetchone()
            self.assertEqual(count, expected)
            if expected == 0:
                found = self.successResultOf(box.search(Contains(TextScope.TEXT, "b"), 1))
                self.assertEqual(list(found), [1])
            else:
                self.stop()
                self.start()

    def test_clean_stop_writes_them(self) -> None:
        """After a clean stop they are in the index, under their UIDs."""
        uid = self.uid(self.deliver()[0])
        self.stop()
        self.start()
        self.assertEqual(list(self.contents()), [uid])


class RecoveryTests(StoreTestCase):
    """`recover` trusts no file that it finds."""

    def whole(self, name: str = "INBOX") -> None:
        """Hold that the mailbox has the one message, whole."""
        self.assertEqual(list(self.contents(name).values()), [HEAD + b"Received: x\r\n" + TEXT])

    def test_nothing_was_done(self) -> None:
        """What was never deposited is."""
        self.deposit_for()
        self.restart()
        self.recover()
        self.whole()

    def test_empty_file(self) -> None:
        """A name whose data was lost is filled again, and keeps its UID."""
        self.deliver_indexed()
        (path,) = self.message_files()
        self.kill()
        path.write_bytes(b"")
        self.start()
        self.recover()
        self.whole()
        self.assertEqual(list(self.contents()), [1])

    def test_truncated_file_with_flags_elsewhere(self) -> None:
        """The file is found under any name in any folder."""
        self.deliver_indexed()
        (path,) = self.message_files()
        self.kill()
        moved = self.maildir(".Trash") / "cur" / f"{path.name}:2,FS"
        path.rename(moved)
        moved.write_bytes(b"Ret")
        self.start()
        self.recover()
        self.whole("Trash")
        self.assertEqual(list(self.flags("Trash").values()), [{"\\Flagged", "\\Seen"}])
        self.assertEqual(self.contents(), {})

    def test_name_was_lost_and_index_was_not(self) -> None:
        """A row without its file gets the file again."""
        self.deliver_indexed()
        self.kill()
        self.message_files()[0].unlink()
        self.start()
        self.recover()
        self.whole()
        self.assertEqual(list(self.contents()), [1])

    def test_index_was_lost_and_name_was_not(self) -> None:
        """A file without its row gets a row, with a UID that was never used."""
        self.mailbox_ids()
        self.kill()
        databases = {
            path: path.read_bytes() for path in (self.path / "accounts" / ANN).glob("*.sqlite*")
        }
        self.start()
        self.deliver()
        self.kill()
        for path in (self.path / "accounts" / ANN).glob("*.sqlite*"):
            path.unlink()
        for path, octets in databases.items():
            path.write_bytes(octets)
        (self.message_files()[0]).write_bytes(b"")
        self.start()
        self.recover()
        self.whole()
        self.assertNotEqual(list(self.contents()), [1])

    def test_row_was_not_written(self) -> None:
        """A file whose row was only in memory is filled, and gets a UID that was never used."""
        self.deliver()
        (path,) = self.message_files()
        self.kill()
        path.write_bytes(b"")
        self.start()
        self.recover()
        self.whole()
        self.assertGreater(min(self.contents()), 1)

    def test_linked_spool_file_is_not_emptied(self) -> None:
        """When the file found is the spool's own, it stays as it is."""
        spooled = self.path / "spooled"
        spooled.write_bytes(TEXT)
        inbox = self.mailbox_ids()["INBOX"]
        self.deliver(LocalTarget(ANN, inbox, internal_date=5), content=spooled, prefix=b"")
        self.restart()
        self.recover()
        self.assertEqual(self.contents(), {1: TEXT})
        self.assertEqual(spooled.read_bytes(), TEXT)

    def test_shared_file(self) -> None:
        """Copies that shared an empty file are whole again, each."""
        self.deliver_indexed(LocalTarget(ANN), LocalTarget(BOB))
        self.kill()
        self.message_files()[0].write_bytes(b"")
        self.start()
        self.recover()
        self.whole()
        self.assertEqual(list(self.contents(account_id=BOB)), [1])
        self.assertEqual(self.contents(account_id=BOB), self.contents())

    def test_recovering_again_changes_nothing(self) -> None:
        """Recovery may itself be cut short any number of times."""
        self.deliver_indexed()
        for _ in range(3):
            self.restart()
            for deposit in self.spool.rows.values():
                self.store.recover([deposit])
        self.whole()
        self.assertEqual(list(self.contents()), [1])

    def test_damage_mark_is_taken_back(self) -> None:
        """A message that was found damaged before its recovery is sound after."""
        self.deliver()
        path: Path = self.message_files()[0]
        path.write_bytes(b"short")
        box = self.box()
        (record,) = self.successResultOf(box.records([1], Column.CONTENT | Column.SIZE))
        self.assertEqual((record.content, record.size), (b"", 0))
        self.restart()
        self.recover()
        self.whole()

    def test_index_and_cache_lost(self) -> None:
        """With only the Maildir left, recovery and the lists give everything back."""
        self.deliver()
        self.kill()
        for path in (self.path / "accounts" / ANN).glob("*.sqlite*"):
            path.unlink()
        self.message_files()[0].write_bytes(b"")
        self.start()
        self.recover()
        self.flushLoggedErrors()
        self.whole()
