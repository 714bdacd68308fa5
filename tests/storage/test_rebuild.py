"""Starting on what is left: reservations, lost and damaged indexes, journals."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from mailhost.database import connect
from mailhost.errors import DataDirectoryError, StorageError
from mailhost.interfaces.access import Column, FlagOperation
from mailhost.interfaces.spool import LocalTarget
from tests.storage.support import ANN, StoreTestCase


class EpochTests(StoreTestCase):
    """UIDs never repeat or fall, whatever was lost (P4)."""

    def test_clean_stop_leaves_no_gap(self) -> None:
        """After a clean stop UIDs go on where they were."""
        self.deliver()
        self.settle()
        self.stop()
        self.start()
        self.assertEqual(self.uid(self.deliver()[0]), 2)

    def test_unclean_start_goes_on_behind_the_reservation(self) -> None:
        """After an unclean stop the next UID is one that was never given out."""
        self.deliver()
        self.restart()
        uid = self.uid(self.deliver()[0])
        self.assertGreater(uid, 1000)
        self.restart()
        self.assertGreater(self.uid(self.deliver()[0]), uid + 999)

    def test_power_cut_never_reuses_a_uid(self) -> None:
        """When all unsynced of the index is lost, UIDs and mod-sequences go on above."""
        account = self.path / "accounts" / ANN
        uids = [self.uid(self.deliver()[0])]
        # The last durable state: reservations are made before the first UID is used.
        before = {path: path.read_bytes() for path in account.glob("*.sqlite*")}
        uids += [self.uid(self.deliver()[0]) for _ in range(3)]
        highest = self.successResultOf(self.box().listing()).highest_mod_seq
        self.kill()
        for path in account.glob("*.sqlite*"):
            path.unlink()
        for path, octets in before.items():
            path.write_bytes(octets)
        self.start()
        self.recover()
        listing = self.successResultOf(self.box().listing())
        self.assertEqual(len(listing.uids), 4)
        self.assertGreater(listing.highest_mod_seq, highest)
        for uid in listing.uids[1:]:
            self.assertNotIn(uid, uids)

    def test_block_is_reserved_before_it_is_used(self) -> None:
        """The thousand-and-first UID is given out after the next block is durable."""
        inbox = self.mailbox_ids()["INBOX"]
        self.store.deposit([self.deposit_for() for _ in range(1050)])
        self.settle()
        text = (self.maildir() / "mailhost-uidlist").read_text()
        reserved = [int(line.split()[1]) for line in text.splitlines() if line[:8] == "reserved"]
        self.assertGreaterEqual(max(reserved), 1050)
        status = self.successResultOf(self.access().status(inbox))
        self.assertEqual(status.uid_next, 1051)

    def test_clock_set_back(self) -> None:
        """A clock that goes back gives no old UIDVALIDITY and no doubled file name (R-94)."""
        made = self.successResultOf(self.access().create("a"))
        before = self.successResultOf(self.access().status(made)).uid_validity
        self.deliver()
        self.now -= 365 * 86400
        self.successResultOf(self.access().delete(made))
        made = self.successResultOf(self.access().create("a"))
        self.assertGreater(self.successResultOf(self.access().status(made)).uid_validity, before)
        self.deliver()
        self.assertEqual(len(self.contents()), 2)
        self.now += 2 * 365 * 86400
        self.deliver()
        self.assertEqual(sorted(self.contents()), [1, 2, 3])


class RebuildTests(StoreTestCase):
    """Any index can be rebuilt (P5)."""

    def fill(self) -> dict[str, dict[int, bytes]]:
        """Make mailboxes with mail and flags; return their contents."""
        self.successResultOf(self.access().create("Work/März.2024", ("\\Archive",)))
        names = self.mailbox_ids()
        for number in range(4):
            self.deliver(content=b"Subject: %d\r\n\r\nx\r\n" % number)
        self.deliver(LocalTarget(ANN, names["Work/März.2024"]))
        box = self.box()
        self.successResultOf(box.expunge([2], marked=False))
        self.successResultOf(box.store([3], FlagOperation.ADD, ("\\Seen", "$Work", "Other")))
        self.successResultOf(self.access().subscribe("Elsewhere", True))
        self.settle()
        self.pass_time()
        return {name: self.contents(name) for name in ("INBOX", "Work/März.2024")}

    def held(self) -> None:
        """Hold that after the loss all of it is as `fill` left it."""
        self.assertEqual(
            {name: self.contents(name) for name in self.before}, self.before, "UIDs or octets"
        )
        self.assertEqual(self.mailbox_ids(), self.ids)
        self.assertEqual(self.flags()[3], {"\\Seen", "$Work", "Other"})
        status = self.successResultOf(self.access().status(self.ids["INBOX"]))
        self.assertEqual(status.uid_validity, self.status.uid_validity)
        self.assertGreaterEqual(status.uid_next, self.status.uid_next)
        self.assertGreaterEqual(status.highest_mod_seq, self.status.highest_mod_seq)
        self.assertEqual((status.messages, status.unseen), (3, 2))
        uid = self.uid(self.deliver()[0])
        self.assertGreater(uid, 4)

    def setUp(self) -> None:
        super().setUp()
        self.before = self.fill()
        self.ids = self.mailbox_ids()
        self.status = self.successResultOf(self.access().status(self.ids["INBOX"]))
        self.account = self.path / "accounts" / ANN

    def lose(self, *patterns: str) -> None:
        """Stop, remove files, start."""
        self.stop()
        for pattern in patterns:
            for path in self.account.glob(pattern):
                path.unlink()
        self.start()

    def test_cache_lost(self) -> None:
        """Without the cache everything is there, and is computed again."""
        box = self.box()
        columns = Column.ENVELOPE | Column.BODY_STRUCTURE | Column.BODY
        before = self.successResultOf(box.records([1, 3, 4], columns))
        self.lose("cache.sqlite*")
        self.assertEqual(self.successResultOf(self.box().records([1, 3, 4], columns)), before)
        self.assertEqual(self.successResultOf(self.box().records([1, 3, 4], columns)), before)
        self.held()

    def test_index_lost(self) -> None:
        """Without the index mailboxes, ids, UIDs, written flags and keywords return."""
        self.lose("account.sqlite*")
        self.held()
        facts = {each.name: each for each in self.successResultOf(self.access().mailboxes())}
        self.assertEqual(facts["Work/März.2024"].special_use, ("\\Archive",))
        self.assertIn("Elsewhere", facts)

    def test_all_databases_lost(self) -> None:
        """Without either database the same."""
        self.lose("*.sqlite*")
        self.held()

    def test_index_damaged(self) -> None:
        """An index that is no database is kept aside, and the Maildir gives a new one."""
        self.stop()
        path = self.account / "account.sqlite"
        path.write_bytes(b"not a database" * 4096)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        self.start()
        self.held()
        self.assertEqual(len(list(self.account.glob("account.sqlite.damaged-*"))), 1)

    def test_index_emptied(self) -> None:
        """An index of no octets is one that is not there."""
        self.stop()
        (self.account / "account.sqlite").write_bytes(b"")
        self.start()
        self.held()

    def test_index_damaged_under_way(self) -> None:
        """Damage that is met while serving is repaired, and the operation done."""
        self.stop()
        path = self.account / "account.sqlite"
        octets = bytearray(path.read_bytes())
        octets[8192:] = b"\xa5" * (len(octets) - 8192)
        path.write_bytes(octets)
        self.start()
        self.held()
        self.flushLoggedErrors()

    def test_cache_damaged(self) -> None:
        """A damaged cache is made anew."""
        self.stop()
        (self.account / "cache.sqlite").write_bytes(b"x" * 40_960)
        self.start()
        columns = Column.ENVELOPE
        (record,) = self.successResultOf(self.box().records([1], columns))
        self.assertIn(b'"0"', record.envelope)
        self.held()

    def test_cache_of_another_age(self) -> None:
        """A cache that belongs to another state of the index is not believed."""
        connection = connect(self.account / "account.sqlite")
        connection.execute("UPDATE message SET blob = x'00' WHERE id = 1")
        connection.close()
        self.stop()
        self.start()
        cache = connect(self.account / "cache.sqlite")
        cache.execute("UPDATE digest SET envelope = 'wrong' WHERE message = 1")
        cache.close()
        (record,) = self.successResultOf(self.box().records([1], Column.ENVELOPE))
        self.assertIn(b'"0"', record.envelope)

    def test_newer_index_is_refused(self) -> None:
        """An index of a newer mailhost is neither used nor replaced."""
        self.stop()
        connection = connect(self.account / "account.sqlite")
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        self.start()
        self.failureResultOf(self.access().mailboxes(), DataDirectoryError)
        self.assertEqual(list(self.account.glob("account.sqlite.damaged-*")), [])

    def test_torn_uid_list(self) -> None:
        """A torn last line, or rubbish, costs only what it said."""
        path = self.maildir() / "mailhost-uidlist"
        self.stop()
        with path.open("ab") as file:
            file.write(b"\n\xff\xfe rubbish\n-3 x\n5 170000")
        self.start()
        self.deliver()
        self.settle()
        before = self.contents()
        self.lose("account.sqlite*")
        self.assertEqual(self.contents(), before)

    def test_index_locked(self) -> None:
        """An index that another program has locked is a passing fault (R-90)."""
        self.stop()
        self.patch_timeout()
        self.start()
        self.mailbox_ids()
        other = sqlite3.connect(self.account / "account.sqlite", isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        self.failureResultOf(self.access().create("x"), StorageError)
        self.flushLoggedErrors()
        other.execute("ROLLBACK")
        self.successResultOf(self.access().create("x"))

    def patch_timeout(self) -> None:
        """Do not wait for locks."""
        self.patch(__import__("mailhost.database", fromlist=["x"]), "BUSY_TIMEOUT", 0.01)


class ForeignMaildirTests(StoreTestCase):
    """A Maildir++ that another server left."""

    def test_it_becomes_an_account(self) -> None:
        """Folders, messages, flags and keywords of a Dovecot Maildir are there."""
        maildir = self.maildir()
        for folder in ("", ".Sent", ".Lists.Tw&AOk-", ".&broken"):
            for part in ("new", "cur", "tmp"):
                (maildir / folder / part).mkdir(parents=True, exist_ok=True)
        (maildir / "cur" / "1600000002.M1P2.host,S=6,W=7:2,Sb").write_bytes(b"A: b\n\n")
        (maildir / "new" / "1600000001.M2P2.host").write_bytes(b"A: c\r\n\r\n")
        (maildir / "dovecot-keywords").write_text("0 $Forwarded\n1 Work\n")
        (maildir / ".Lists.Tw&AOk-" / "cur" / "1.x.y:2,").write_bytes(b"A: d\r\n\r\n")
        (maildir / "subscriptions").write_text("Lists/Twé\n")
        names = self.mailbox_ids()
        self.assertIn("Lists/Twé", names)
        self.assertIn("Lists", names)
        self.assertEqual(len(names), 8)
        contents = self.contents()
        self.assertEqual(sorted(contents.values()), [b"A: b\r\n\r\n", b"A: c\r\n\r\n"])
        self.assertIn({"\\Seen", "Work"}, self.flags().values())

    def test_symbolic_links_are_not_followed(self) -> None:
        """A link in place of a message or a folder leads nowhere (R-89)."""
        self.mailbox_ids()
        secret = self.path / "secret"
        secret.write_bytes(b"A: secret\r\n\r\n")
        (self.maildir() / "cur" / "1.link.host:2,").symlink_to(secret)
        (self.maildir() / ".Link").symlink_to(self.path)
        self.assertEqual(self.contents(), {})
        self.assertNotIn("Link", self.mailbox_ids())
        self.assertTrue(secret.exists())
        self.assertEqual(Path(secret).read_bytes(), b"A: secret\r\n\r\n")
