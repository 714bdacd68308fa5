"""The spool: accepting, local copies, settling, faults."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.address import Address
from mailhost.errors import DataDirectoryError, SpoolFault, SpoolFull
from mailhost.files import FileOperations
from mailhost.interfaces.spool import ISpool, ISpoolWriter, LocalTarget, Placement, Recipient
from mailhost.queue.spool import SpoolLimits
from mailhost.units import AccountID, MailboxID, QueueID
from tests.queue.rig import LOCKED, OVER_QUOTA, MemoryStore, Rig, envelope, local, remote


class FailingFiles(FileOperations):
    """Files whose named operations fail with an errno while the test wants it."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.free: tuple[int, int | None] = (1 << 40, None)
        self.calls: list[str] = []

    def _check(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise OSError(self.failing[name], "set by the test")

    def create(self, path: Any) -> int:
        self._check("create")
        return super().create(path)

    def write(self, descriptor: int, chunks: Any) -> int:
        self._check("write")
        return super().write(descriptor, chunks)

    def sync_data(self, descriptor: int) -> None:
        self._check("sync_data")
        super().sync_data(descriptor)

    def sync_directory(self, path: Any) -> None:
        self._check("sync_directory")
        super().sync_directory(path)

    def unlink(self, path: Any) -> None:
        self._check("unlink")
        super().unlink(path)

    def room(self, path: Any) -> tuple[int, int | None]:
        self._check("room")
        return self.free


class SQLFaults:
    """Fails statements that begin with a text, with an SQLite error code."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}
        self.statements: list[str] = []

    def __call__(self, statement: str) -> None:
        self.statements.append(statement)
        for beginning, code in self.failing.items():
            if statement.startswith(beginning):
                error = sqlite3.OperationalError("set by the test")
                error.sqlite_errorcode = code
                raise error


class SpoolTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.files = FailingFiles()
        self.faults = SQLFaults()
        self.rig = self.make()

    def make(self, **options: Any) -> Rig:
        options.setdefault("files", self.files)
        options.setdefault("before", self.faults)
        return Rig(self.directory, **options).start()

    def rows(self, table: str) -> int:
        connection = sqlite3.connect(self.directory / "spool.sqlite")
        try:
            return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        finally:
            connection.close()

    def contents(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "content").iterdir())

    def fails(self, deferred: Deferred[Any], kind: type[Exception]) -> None:
        self.rig.run()
        self.failureResultOf(deferred, kind)


class AcceptTests(SpoolTestCase):
    """From begin to the 250 and the mailbox."""

    def test_provides_its_interfaces(self) -> None:
        """Spool and writer are what the seams say."""
        verifyObject(ISpool, self.rig.spool)
        verifyObject(ISpoolWriter, self.rig.spool.begin(QueueID("q")))

    def test_commit_fires_after_the_row_is_committed(self) -> None:
        """Nothing is answered before the transaction."""
        result = self.rig.send("q1", local("a@here.example", "a"))
        self.assertNoResult(result)
        seen: list[int] = []
        result.addCallback(lambda _: seen.append(self.rows("arrival")))
        self.rig.run()
        self.assertEqual(seen, [1])

    def test_local_mail_is_visible_at_once_and_settled_within_a_second(self) -> None:
        """The copy does not wait for the pass; the row goes with it."""
        self.rig.accept("q1", local("a@here.example", "a", "b"), content=b"hello\r\n")
        octets = b"Received: x\r\nhello\r\n"
        self.assertEqual(self.rig.store.visible, {("a", "q1"): octets, ("b", "q1"): octets})
        self.assertEqual(self.rig.store.durable, {})
        self.rig.advance(1.0)
        self.assertEqual(self.rig.store.durable, self.rig.store.visible)
        self.assertEqual(self.rows("arrival"), 0)
        self.assertEqual(self.rig.store.settled_ids, ["q1"])

    def test_all_commits_of_a_moment_share_one_transaction(self) -> None:
        """Group commit: one COMMIT for every message that waited."""
        self.faults.statements.clear()
        results = [self.rig.send(f"q{n}", local("a@here.example", "a")) for n in range(37)]
        self.rig.run()
        for result in results:
            self.successResultOf(result)
        self.assertEqual(self.faults.statements.count("COMMIT"), 1)
        self.assertEqual(len(self.rig.store.visible), 37)

    def test_large_content_is_written_synced_and_linked_by_path(self) -> None:
        """Content above the limit goes to a file that is durable before its row."""
        content = bytes(range(256)) * 2000
        self.files.calls.clear()
        result = self.rig.send("big", local("a@here.example", "a"), content=content)
        self.rig.run()
        self.successResultOf(result)
        self.assertEqual(self.contents(), ["big"])
        calls = [name for name in self.files.calls if name not in ("room",)]
        self.assertLess(calls.index("write"), calls.index("sync_data"))
        self.assertLess(calls.index("sync_data"), calls.index("sync_directory"))
        self.assertEqual(self.rig.store.visible["a", "big"], b"Received: x\r\n" + content)
        self.rig.advance(1.0)
        self.assertEqual(self.contents(), [])

    def test_writer_asks_for_patience_while_much_is_unwritten(self) -> None:
        """A slow disk stops the sender, and its recovery lets it go on."""
        writer = self.rig.spool.begin(QueueID("big"))
        patience = None
        for _ in range(64):
            patience = writer.write(bytes(65536))
            if patience is not None:
                break
        assert patience is not None
        self.assertLess(writer.size, 3 * 1024 * 1024)
        self.assertNoResult(patience)
        self.rig.run()
        self.assertIsNone(self.successResultOf(patience))
        writer.abort()
        self.rig.run()
        self.assertEqual(self.contents(), [])

    def test_abort_leaves_nothing(self) -> None:
        """Small or large, before or after commit, abort is harmless."""
        small = self.rig.spool.begin(QueueID("small"))
        small.write(b"x")
        small.abort()
        small.abort()
        done = self.rig.spool.begin(QueueID("done"))
        done.write(bytes(200_000))
        result = done.commit(envelope("done", local("a@here.example", "a")), b"")
        done.abort()
        self.rig.run()
        self.successResultOf(result)
        self.assertEqual(self.contents(), ["done"])
        self.assertIn(("a", "done"), self.rig.store.visible)

    def test_commit_is_once_only(self) -> None:
        """A second commit is a mistake of the caller, said at once."""
        writer = self.rig.spool.begin(QueueID("q"))
        writer.commit(envelope("q", local("a@here.example", "a")), b"")
        with self.assertRaises(RuntimeError):
            writer.commit(envelope("q", local("a@here.example", "a")), b"")

    def test_queue_id_cannot_be_a_path(self) -> None:
        """The id names a file, so it has no separators."""
        for bad in ("../x", "", "a/b", "a\0b"):
            with self.assertRaises(ValueError):
                self.rig.spool.begin(QueueID(bad))

    def test_recipients_with_the_same_mailbox_share_a_copy(self) -> None:
        """Two addresses of one account bring one copy, and each its result."""
        writer = self.rig.spool.begin(QueueID("q"))
        writer.write(b"x")
        twice = (local("a@here.example", "a"), local("alias@here.example", "a", "b"))
        results = self.rig.wait(writer.commit_placed(envelope("q", *twice), b""))
        self.assertEqual([result.account_id for result in results], ["a", "a", "b"])
        self.assertEqual(results[0], results[1])
        self.assertEqual(set(self.rig.store.visible), {("a", "q"), ("b", "q")})

    def test_append_gets_its_placement(self) -> None:
        """commit_placed fires with where the copy lies, when it is visible."""
        target = LocalTarget(AccountID("a"), MailboxID("m"), flags=("\\Seen",), internal_date=5)
        writer = self.rig.spool.begin(QueueID("q"))
        writer.write(b"x")
        recipient = Recipient(Address.parse("a@here.example"), (target,))
        (result,) = self.rig.wait(writer.commit_placed(envelope("q", recipient), b""))
        self.assertIsInstance(result, Placement)

    def test_append_that_gets_no_copy_is_forgotten(self) -> None:
        """The client was told NO: nothing is retried and nobody gets a bounce."""
        self.rig.store.refusals["a"] = [OVER_QUOTA]
        writer = self.rig.spool.begin(QueueID("q"))
        (result,) = self.rig.wait(
            writer.commit_placed(envelope("q", local("a@here.example", "a")), b"")
        )
        self.assertEqual(result, OVER_QUOTA)
        self.rig.advance(2)
        self.assertEqual(self.rig.messages(), ())
        self.assertEqual((self.rows("arrival"), self.rows("message")), (0, 0))

    def test_append_to_elsewhere_is_refused(self) -> None:
        """commit_placed is for local targets only."""
        writer = self.rig.spool.begin(QueueID("q"))
        with self.assertRaises(ValueError):
            writer.commit_placed(envelope("q", remote("x@far.example")), b"")


class SettleTests(SpoolTestCase):
    """When copies count as durable."""

    def test_settle_forces_a_pass(self) -> None:
        """Whoever expunges does not wait for the second to end."""
        self.rig.accept("q1", local("a@here.example", "a"))
        self.rig.wait(self.rig.spool.settle([QueueID("q1")]))
        self.assertIn(("a", "q1"), self.rig.store.durable)
        self.assertEqual(self.rows("arrival"), 0)

    def test_settle_of_unknown_ids_fires(self) -> None:
        """What is not held needs no pass."""
        self.rig.accept("q1", local("a@here.example", "a"))
        self.rig.wait(self.rig.spool.settle([QueueID("other")]))
        self.assertEqual(self.rig.store.durable, {})

    def test_rows_stay_while_the_store_cannot_sync(self) -> None:
        """A failed sync keeps the rows, tells who waits, and is repeated."""
        self.rig.store.sync_error = OSError(errno.EIO, "set by the test")
        self.rig.accept("q1", local("a@here.example", "a"))
        self.fails(self.rig.spool.settle([QueueID("q1")]), SpoolFault)
        self.rig.advance(3)
        self.assertEqual(self.rows("arrival"), 1)
        self.rig.store.sync_error = None
        self.rig.advance(1)
        self.assertEqual(self.rows("arrival"), 0)

    def test_idle_spool_wants_no_turn(self) -> None:
        """With nothing unsettled and nothing queued no timer runs."""
        self.rig.accept("q1", local("a@here.example", "a"))
        self.rig.advance(1.5)
        self.assertIsNone(self.rig.threads.runner.journal.wait())
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])

    def test_failing_store_does_not_lose_mail(self) -> None:
        """A bug in the store makes the copies late, not lost."""
        self.rig.store.deposit_error = ZeroDivisionError()
        self.rig.accept("q1", local("a@here.example", "a"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.rig.advance(1)
        self.assertEqual(len(self.rig.messages()), 1)
        self.rig.store.deposit_error = None
        self.rig.advance(400, 10)
        self.assertIn(("a", "q1"), self.rig.store.durable)
        self.assertEqual(self.rig.messages(), ())

    def test_delayed_target_is_tried_again_alone(self) -> None:
        """One busy mailbox does not hold up the others, and gets its copy later."""
        self.rig.store.refusals["b"] = [LOCKED]
        self.rig.accept("q1", local("a@here.example", "a"), local("b@here.example", "b"))
        self.rig.advance(1)
        self.assertIn(("a", "q1"), self.rig.store.durable)
        (message,) = self.rig.messages()
        (recipient,) = message.recipients
        self.assertEqual(
            (recipient.forward_path, recipient.state, recipient.last_status),
            ("b@here.example", "waiting", "4.2.0"),
        )
        del self.rig.store.refusals["b"]
        before = self.rig.store.deposits
        self.rig.advance(301, 10)
        self.assertEqual(self.rig.store.deposits, before + 1)
        self.assertIn(("b", "q1"), self.rig.store.durable)
        self.assertEqual((self.rig.messages(), self.rows("message")), ((), 0))

    def test_delayed_target_of_a_large_message_keeps_its_file(self) -> None:
        """The content stays until the last copy is durable."""
        self.rig.store.refusals["b"] = [LOCKED]
        self.rig.accept("q1", local("b@here.example", "b"), content=bytes(100_000))
        self.rig.advance(1)
        self.assertEqual(self.contents(), ["q1"])
        del self.rig.store.refusals["b"]
        self.rig.advance(301, 10)
        self.assertEqual(self.contents(), [])
        self.assertIn(("b", "q1"), self.rig.store.durable)


class FaultTests(SpoolTestCase):
    """Full and failing disks (R-86, R-87)."""

    def test_full_database_refuses_whole_messages_and_recovers(self) -> None:
        """SQLITE_FULL is SpoolFull for all of the turn; the next message is taken."""
        self.faults.failing["INSERT INTO arrival"] = sqlite3.SQLITE_FULL
        results = [self.rig.send(f"q{n}", local("a@here.example", "a")) for n in range(3)]
        for result in results:
            self.fails(result, SpoolFull)
        self.assertEqual((self.rows("arrival"), self.rig.store.visible), (0, {}))
        self.faults.failing.clear()
        self.rig.accept("q9", local("a@here.example", "a"))
        self.assertEqual(list(self.rig.store.visible), [("a", "q9")])

    def test_really_full_database_rolls_back(self) -> None:
        """SQLite's own refusal at its page limit leaves nothing of the message."""

        def limit(statement: str) -> None:
            if statement == "BEGIN IMMEDIATE":
                connection = self.rig.threads.runner.journal._database._connection
                connection._connection.execute("PRAGMA max_page_count = 20")

        self.rig = self.make(before=limit)
        results = [
            self.rig.send(f"q{n}", local("a@here.example", "a"), content=bytes(60_000))
            for n in range(4)
        ]
        for result in results:
            self.fails(result, SpoolFull)
        self.assertEqual(self.rows("arrival"), 0)

    def test_commit_that_cannot_be_synced_is_a_fault_and_is_fenced(self) -> None:
        """EIO at COMMIT: 451, a new connection, and the log's tail is overwritten."""
        self.faults.failing["COMMIT"] = sqlite3.SQLITE_IOERR
        result = self.rig.send("q1", local("a@here.example", "a"))
        self.fails(result, SpoolFault)
        self.faults.failing.clear()
        self.faults.statements.clear()
        self.rig.accept("q2", local("a@here.example", "a"))
        self.assertTrue(any("UPDATE fence" in statement for statement in self.faults.statements))
        self.rig.advance(1)
        self.assertEqual(list(self.rig.store.durable), [("a", "q2")])

    def test_one_message_that_cannot_be_stored_does_not_take_others_with_it(self) -> None:
        """A duplicate id fails alone; the rest of the turn is committed."""
        self.rig.accept("same", remote("x@far.example"))
        self.rig.agent.duration = lambda request: 60.0
        self.rig.accept("held", remote("x@far.example"))
        good = self.rig.send("good", local("a@here.example", "a"))
        bad = self.rig.send("held", remote("x@far.example"))
        also = self.rig.send("also", local("a@here.example", "a"))
        self.rig.run()
        self.successResultOf(good)
        self.successResultOf(also)
        self.failureResultOf(bad, SpoolFault)

    def test_full_disk_under_a_large_content(self) -> None:
        """ENOSPC, EDQUOT or no inode in a content file is SpoolFull, and the file is gone."""
        for operation, number in (
            ("write", errno.ENOSPC),
            ("create", errno.ENOSPC),
            ("sync_data", errno.EDQUOT),
            ("sync_directory", errno.ENOSPC),
        ):
            self.files.failing = {operation: number}
            result = self.rig.send("big", local("a@here.example", "a"), content=bytes(200_000))
            self.fails(result, SpoolFull)
            self.files.failing.clear()
            self.assertEqual((self.contents(), self.rows("arrival")), ([], 0))
        self.rig.accept("big", local("a@here.example", "a"), content=bytes(200_000))

    def test_content_whose_sync_failed_is_never_used(self) -> None:
        """EIO at fdatasync: SpoolFault, file removed, no second sync of the same file (R-86)."""
        self.files.failing = {"sync_data": errno.EIO}
        self.files.calls.clear()
        result = self.rig.send("big", local("a@here.example", "a"), content=bytes(200_000))
        self.fails(result, SpoolFault)
        self.assertEqual(self.files.calls.count("sync_data"), 1)
        self.assertEqual(self.contents(), [])

    def test_file_of_another_message_is_not_touched(self) -> None:
        """When a content file exists already the newcomer fails and the old one stays."""
        self.rig.store.sync_error = OSError(errno.EIO, "set by the test")
        self.rig.accept("big", local("a@here.example", "a"), content=bytes(200_000))
        result = self.rig.send("big", local("a@here.example", "a"), content=bytes(300_000))
        self.fails(result, SpoolFault)
        self.assertEqual((self.directory / "content" / "big").stat().st_size, 200_000)

    def test_refused_row_takes_its_content_file_along(self) -> None:
        """A large message whose row is refused leaves no file."""
        self.faults.failing["INSERT INTO arrival"] = sqlite3.SQLITE_FULL
        self.fails(
            self.rig.send("big", local("a@here.example", "a"), content=bytes(200_000)), SpoolFull
        )
        self.assertEqual(self.contents(), [])

    def test_outcomes_are_kept_until_the_disk_takes_them(self) -> None:
        """A relayed message whose record fails is not relayed again (P3)."""
        self.faults.failing["DELETE FROM recipient"] = sqlite3.SQLITE_FULL
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.advance(5)
        self.assertFalse((self.directory / "reserve").exists())
        self.assertEqual(len(self.rig.messages()), 1)
        self.faults.failing.clear()
        self.rig.advance(400, 20)
        self.assertEqual(self.rig.messages(), ())
        self.assertEqual(len(self.rig.agent.requests), 1)

    def test_unusable_database_recovers_without_a_restart(self) -> None:
        """While nothing works every message is refused; then all goes on (P8)."""
        self.rig.accept("q1", local("a@here.example", "a"))
        self.faults.failing[""] = sqlite3.SQLITE_IOERR
        for name in ("q2", "q3"):
            self.fails(self.rig.send(name, local("a@here.example", "a")), SpoolFault)
        self.rig.advance(2)
        self.faults.failing.clear()
        self.rig.accept("q4", local("a@here.example", "a"))
        self.rig.advance(2)
        self.assertEqual(sorted(key[1] for key in self.rig.store.durable), ["q1", "q4"])
        self.assertEqual(self.rows("arrival"), 0)


class RoomTests(SpoolTestCase):
    """The watermark."""

    def make(self, **options: Any) -> Rig:
        limits = SpoolLimits(free_octets=1000, free_inodes=10)
        return super().make(limits=limits, **options)

    def ask(self) -> Any:
        self.rig.spool.room()
        self.rig.run()
        return self.rig.spool.room()

    def test_room_follows_the_file_system(self) -> None:
        """Too few octets or inodes refuse with 452 4.3.1, and room again takes mail."""
        self.assertIsNone(self.ask())
        for free in ((999, 1000), (10_000, 9)):
            self.files.free = free
            self.rig.clock.advance(1.5)
            reply = self.ask()
            self.assertEqual((reply.code, reply.enhanced), (452, "4.3.1"))
            self.files.free = (10_000, None)
            self.rig.clock.advance(1.5)
            self.assertIsNone(self.ask())

    def test_a_burst_does_not_pass_the_watermark(self) -> None:
        """R-87: what was taken since the last look is counted before the next one."""
        self.files.free = (10_000, None)
        self.rig.clock.advance(1.5)
        self.assertIsNone(self.ask())
        self.rig.accept("q1", local("a@here.example", "a"), content=b"x" * 2_500)
        self.assertIsNone(self.rig.spool.room())
        self.rig.accept("q2", local("a@here.example", "a"), content=b"x" * 600)
        reply = self.rig.spool.room()
        assert reply is not None
        self.assertEqual(reply.code, 452)
        self.rig.clock.advance(1.5)
        self.assertIsNone(self.ask())

    def test_answer_is_kept_for_a_second(self) -> None:
        """The file system is not asked for every message, and never on the event thread."""
        self.ask()
        self.files.calls.clear()
        for _ in range(100):
            self.rig.spool.room()
        self.assertEqual(self.files.calls, [])

    def test_unknown_room_takes_mail(self) -> None:
        """A failing question is not a full disk; the commit will tell."""
        self.files.failing["room"] = errno.EIO
        self.rig.clock.advance(2)
        self.assertIsNone(self.ask())


class StopTests(SpoolTestCase):
    """Clean ends."""

    def test_stop_settles_and_closes(self) -> None:
        """What was accepted is settled, and the database has no log left."""
        self.rig.accept("q1", local("a@here.example", "a"))
        waiting = self.rig.send("q2", local("a@here.example", "a"))
        big = self.rig.send("big", local("a@here.example", "a"), content=bytes(100_000))
        self.rig.stop()
        self.successResultOf(waiting)
        self.successResultOf(big)
        self.assertEqual(len(self.rig.store.durable), 3)
        self.assertFalse((self.directory / "spool.sqlite-wal").exists())

    def test_stopped_spool_refuses(self) -> None:
        """New mail gets a temporary refusal and a large one leaves no file."""
        writer = self.rig.spool.begin(QueueID("late"))
        writer.write(bytes(100_000))
        self.rig.run()
        stopping = self.rig.spool.stop()
        self.assertEqual(self.rig.spool.room().code, 451)
        self.failureResultOf(
            writer.commit(envelope("late", local("a@here.example", "a")), b""), SpoolFault
        )
        self.rig.run()
        self.successResultOf(stopping)

    def test_stop_does_not_wait_for_a_dead_disk(self) -> None:
        """When the thread hangs the stop ends nevertheless, and says so."""
        stopping = self.rig.spool.stop()
        self.rig.clock.advance(4.9)
        self.assertNoResult(stopping)
        self.rig.clock.advance(0.2)
        self.successResultOf(stopping)


class StartTests(SpoolTestCase):
    """What a start does with what it finds."""

    def crash(self, store: MemoryStore | None = None) -> Rig:
        self.rig.threads.runner.journal._database.close()
        return self.make(store=store or self.rig.store.after_kill())

    def test_orphans_are_swept(self) -> None:
        """A content file without a row goes; one with a row stays."""
        self.rig.agent.duration = lambda request: 1000.0
        self.rig.accept("kept", remote("x@far.example"), content=bytes(100_000))
        (self.directory / "content" / "orphan").write_bytes(b"x")
        self.rig.threads.runner.journal._database.close()
        self.rig = Rig(self.directory)
        self.rig.agent.duration = lambda request: 1000.0
        self.rig.start()
        self.assertEqual(self.contents(), ["kept"])

    def test_damaged_content_is_set_aside_and_bounced(self) -> None:
        """A short spool file never reaches a mailbox, never stops the start (R-89)."""
        self.rig.accept("big", local("a@here.example", "a"), content=bytes(100_000))
        self.rig.accept("ok", local("a@here.example", "a"))
        (self.directory / "content" / "big").write_bytes(b"short")
        self.rig = self.crash(MemoryStore())
        self.rig.advance(3)
        self.assertEqual([p.name for p in (self.directory / "damaged").iterdir()], ["big"])
        self.assertIn(("a", "ok"), self.rig.store.durable)
        self.assertNotIn(("a", "big"), self.rig.store.durable)
        (bounce,) = [o for (who, _), o in self.rig.store.durable.items() if who == "sender"]
        self.assertIn(b"5.3.0", bounce)

    def test_damaged_content_of_queued_mail_is_bounced_not_sent(self) -> None:
        """The relay never sees a file of the wrong size."""
        self.rig.agent.duration = lambda request: 1000.0
        self.rig.accept("big", remote("x@far.example"), content=bytes(100_000))
        (self.directory / "content" / "big").unlink()
        self.rig = self.crash(MemoryStore())
        self.rig.advance(3)
        self.assertEqual(self.rig.agent.requests, [])
        self.assertEqual([who for who, _ in self.rig.store.durable], ["sender"])
        self.assertEqual(self.rig.messages(), ())

    def test_damaged_database_is_said_clearly(self) -> None:
        """The start fails with an error that names the file."""
        self.rig.stop()
        (self.directory / "spool.sqlite").write_bytes(b"not a database, and long enough" * 200)
        rig = Rig(self.directory)
        self.assertIn("spool.sqlite", str(self.assertRaises(DataDirectoryError, rig.start)))

    def test_recovery_that_cannot_be_synced_fails_the_start(self) -> None:
        """No listener opens on copies that may be lost; the rows are kept for the next start."""
        self.rig.accept("q1", local("a@here.example", "a"))
        store = self.rig.store.after_power_cut()
        store.sync_error = OSError(errno.EIO, "set by the test")
        self.assertRaises(SpoolFault, self.crash, store)
        self.assertEqual(self.rows("arrival"), 1)

    def test_far_off_attempts_are_due_after_a_start(self) -> None:
        """A clock that was a year ahead does not hide mail for a year (R-94)."""
        self.rig.agent.answer = lambda request, address: LOCKED
        ahead = self.make(start=2_000_000_000.0)
        ahead.agent.answer = lambda request, address: LOCKED
        ahead.accept("q1", remote("x@far.example"))
        self.rig = ahead
        self.rig = self.crash()
        self.rig.run()
        self.assertEqual(self.rig.agent.relayed, [("q1", "x@far.example")])
