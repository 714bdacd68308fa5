"""
The process stopped at every step: what was acknowledged is there exactly once afterwards.

The writer runs on this thread. Before each file operation, SQL statement, call of the local store
and answer, the spool's directory and the store's state are copied as a crash would leave them:
after ``kill -9`` all that was written, after a power cut only what was synced. Each copy is then
started.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailhost.files import FileOperations
from mailhost.interfaces.spool import Recipient
from mailhost.units import QueueID
from tests.queue.rig import LOCKED, UNKNOWN_USER, MemoryStore, Rig, local, remote


class SyncedFiles(FileOperations):
    """File operations that tell each step, and know which contents a power cut would leave."""

    def __init__(self, step: Callable[[str], None]) -> None:
        self._step = step
        self._open: dict[int, str] = {}
        self._data: set[str] = set()
        self.safe: set[str] = set()
        self.order: list[tuple[str, str]] = []

    def _tell(self, operation: str, name: str) -> None:
        self.order.append((operation, name))
        self._step(f"{operation} {name}")

    def create(self, path: Any) -> int:
        self._tell("create", Path(path).name)
        descriptor = super().create(path)
        self._open[descriptor] = Path(path).name
        return descriptor

    def write(self, descriptor: int, chunks: Any) -> int:
        self._tell("write", self._open[descriptor])
        return super().write(descriptor, chunks)

    def sync_data(self, descriptor: int) -> None:
        self._tell("sync_data", self._open[descriptor])
        super().sync_data(descriptor)
        self._data.add(self._open[descriptor])

    def sync_directory(self, path: Any) -> None:
        self._tell("sync_directory", Path(path).name)
        super().sync_directory(path)
        if Path(path).name == "content":
            self.safe |= self._data

    def unlink(self, path: Any) -> None:
        self._tell("unlink", Path(path).name)
        super().unlink(path)


@dataclass
class Moment:
    """The state of everything just before a step."""

    step: str
    directory: Path
    killed: MemoryStore
    cut: MemoryStore
    safe: set[str]
    acknowledged: set[str]
    relayed: list[tuple[str, str]]


class CrashTests(SynchronousTestCase):
    """Crash points, every one of them (R-84, R-85)."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp())
        self.base.mkdir()
        self.moments: list[Moment] = []
        self.count = 0
        self.acknowledged: set[str] = set()
        self.recording = False
        self.files = SyncedFiles(self.step)
        self.clock = task.Clock()
        self.rig = Rig(
            self.base / "spool",
            store=MemoryStore(self.step),
            clock=self.clock,
            files=self.files,
            before=lambda statement: self.step(statement.split(" VALUES")[0][:60]),
        )
        self.rig.threads.before_answer = lambda: self.step("answer")
        self.rig.start()
        self.recording = True

    def step(self, name: str) -> None:
        if not self.recording:
            return
        self.count += 1
        directory = self.base / f"moment-{self.count}"
        # Without the -shm file, as after a restart: the log is read anew.
        shutil.copytree(
            self.base / "spool", directory, ignore=shutil.ignore_patterns("*-shm", "reserve")
        )
        store = self.rig.store
        self.moments.append(
            Moment(
                name,
                directory,
                store.after_kill(),
                store.after_power_cut(),
                set(self.files.safe),
                set(self.acknowledged),
                list(self.rig.agent.relayed),
            )
        )

    def send(self, queue_id: str, *recipients: Recipient, size: int = 100) -> Deferred[Any]:
        result = self.rig.send(
            queue_id, *recipients, content=queue_id.encode() * size, prefix=b"P\r\n"
        )
        return result.addCallback(lambda _: self.acknowledged.add(queue_id))

    def restarts(self, moment: Moment) -> list[Rig]:
        """Start the moment twice: after a kill, and after a power cut."""
        cut = moment.directory.with_name(moment.directory.name + "-cut")
        shutil.copytree(moment.directory, cut)
        for path in (cut / "content").iterdir():
            if path.name not in moment.safe:
                path.write_bytes(b"")
        rigs = [
            Rig(moment.directory, store=moment.killed, clock=task.Clock()),
            Rig(cut, store=moment.cut, clock=task.Clock()),
        ]
        for rig in rigs:
            rig.start()
        return rigs

    def expect_local(
        self, rig: Rig, moment: Moment, copies: dict[str, tuple[int, list[str]]]
    ) -> None:
        """Every acknowledged copy is durable and whole; others are whole or absent."""
        self.assertEqual(rig.store.visible, rig.store.durable, moment.step)
        for queue_id, (size, accounts) in copies.items():
            for account in accounts:
                found = rig.store.durable.get((account, queue_id))
                if queue_id in moment.acknowledged or found is not None:
                    self.assertEqual(found, b"P\r\n" + queue_id.encode() * size, moment.step)

    def test_local_mail(self) -> None:
        """Small and large local mail, at every step from the first octet to the last unlink."""
        copies = {"s1": (100, ["a"]), "s2": (200, ["a", "b"]), "big1": (30_000, ["a", "b"])}
        for queue_id, (size, accounts) in copies.items():
            self.send(queue_id, local("a@here.example", *accounts), size=size)
        self.rig.advance(0.5)
        self.send("s3", local("a@here.example", "a"))
        copies["s3"] = (100, ["a"])
        self.rig.advance(2)
        self.recording = False
        self.assertEqual(self.acknowledged, set(copies))
        steps = [moment.step for moment in self.moments]
        for needed in (
            "INSERT INTO arrival",
            "COMMIT",
            "answer",
            "deposit",
            "sync",
            "settled",
            "create big1",
            "sync_data big1",
            "sync_directory content",
            "unlink big1",
        ):
            self.assertIn(needed, steps)
        for moment in self.moments:
            for rig in self.restarts(moment):
                self.expect_local(rig, moment, copies)
                rig.advance(2)
                self.assertEqual(rig.messages(), (), moment.step)
                self.assertEqual(list((rig.directory / "content").iterdir()), [], moment.step)

    def test_busy_mailbox(self) -> None:
        """A target that is retried: its copy is made once, before or after the crash."""
        self.rig.store.refusals["b"] = [LOCKED]
        self.send("m1", local("a@here.example", "a"), local("b@here.example", "b"))
        self.rig.advance(2)
        del self.rig.store.refusals["b"]
        self.rig.advance(301, 100)
        self.recording = False
        for moment in self.moments:
            for rig in self.restarts(moment):
                rig.advance(400, 100)
                self.expect_local(rig, moment, {"m1": (100, ["a", "b"])})
                self.assertEqual(rig.messages(), (), moment.step)

    def test_relayed_mail(self) -> None:
        """Mail for here and elsewhere: relayed once, or again where SMTP cannot avoid it (P3)."""
        self.send("m1", local("a@here.example", "a"), remote("x@far.example"))
        self.send("big", remote("y@far.example"), size=30_000)
        self.rig.advance(2)
        self.recording = False
        self.assertEqual(len(self.rig.agent.relayed), 2)
        self.assertEqual(self.acknowledged, {"m1", "big"})
        repeated: dict[str, list[int]] = {"m1": [], "big": []}
        for number, moment in enumerate(self.moments):
            for rig in self.restarts(moment):
                self.expect_local(rig, moment, {"m1": (100, ["a"])})
                rig.advance(2)
                self.assertEqual(rig.messages(), (), moment.step)
                for queue_id, _ in set(rig.agent.relayed) & set(moment.relayed):
                    repeated[queue_id].append(number)
                relayed = {queue_id for queue_id, _ in rig.agent.relayed + moment.relayed}
                self.assertLessEqual(moment.acknowledged, relayed, moment.step)
                self.assertEqual(len(rig.agent.relayed), len(set(rig.agent.relayed)), moment.step)
        for queue_id, numbers in repeated.items():
            # Only from the host's 250 to the commit of our record of it.
            first = next(
                number
                for number, moment in enumerate(self.moments)
                if queue_id in dict(moment.relayed)
            )
            commit = next(
                number
                for number in range(first, len(self.moments))
                if self.moments[number].step == "COMMIT"
            )
            self.assertEqual(sorted(set(numbers)), list(range(first, commit + 1)))

    def test_bounce(self) -> None:
        """A failure that is reported: the sender gets one report, whenever the crash was."""
        self.rig.agent.answer = lambda request, address: UNKNOWN_USER
        self.send("m1", remote("x@far.example"))
        self.rig.advance(2)
        self.recording = False
        for moment in self.moments:
            for rig in self.restarts(moment):
                rig.agent.answer = lambda request, address: UNKNOWN_USER
                # The agent of the start has relayed it if the failure was not recorded yet.
                rig.advance(2)
                reports = [key for key in rig.store.durable if key[0] == "sender"]
                ended = len(reports) + len(rig.agent.relayed)
                self.assertEqual(rig.messages(), (), moment.step)
                if "m1" in moment.acknowledged:
                    self.assertEqual(ended, 1, moment.step)

    def test_crash_during_recovery(self) -> None:
        """A start that is itself stopped anywhere loses nothing."""
        for number in range(3):
            self.send(f"s{number}", local("a@here.example", "a"))
        self.send("big", local("a@here.example", "a"), size=30_000)
        self.rig.run()
        self.recording = False
        crashed = self.moments[-1]
        self.moments.clear()
        store = self.rig.store.after_power_cut()
        store._step = self.step
        self.files.safe.add("big")
        directory = self.base / "spool"
        self.rig.threads.runner.journal._database.close()
        shutil.rmtree(directory)
        shutil.copytree(crashed.directory, directory)
        self.rig = Rig(directory, store=store, files=self.files, before=lambda s: self.step(s[:40]))
        self.recording = True
        self.rig.start()
        self.recording = False
        copies = {
            "s0": (100, ["a"]),
            "s1": (100, ["a"]),
            "s2": (100, ["a"]),
            "big": (30_000, ["a"]),
        }
        self.assertIn("recover", [moment.step for moment in self.moments])
        for moment in self.moments:
            for rig in self.restarts(moment):
                moment.acknowledged = set(copies)
                self.expect_local(rig, moment, copies)

    def test_fsync_order(self) -> None:
        """Content: written, synced, its directory synced, then the row, then the 250 (R-83)."""
        self.send("big", local("a@here.example", "a"), size=30_000)
        self.rig.advance(2)
        self.recording = False
        steps = [moment.step for moment in self.moments]
        acknowledged = next(
            number for number, moment in enumerate(self.moments) if moment.acknowledged
        )
        order = [
            steps.index("write big"),
            steps.index("sync_data big"),
            steps.index("sync_directory content"),
            steps.index("INSERT INTO arrival"),
            steps.index("COMMIT"),
            acknowledged,
        ]
        self.assertEqual(order, sorted(order))
        self.assertLess(steps.index("synced"), steps.index("DELETE FROM arrival WHERE number = ?"))
        last_commit = len(steps) - 1 - steps[::-1].index("COMMIT")
        self.assertLess(last_commit, steps.index("unlink big"))
        self.assertLess(steps.index("unlink big"), steps.index("settled"))

    def test_settled_means_safe_to_change(self) -> None:
        """After settle fired, no start touches the copy again (recovery rule c)."""
        self.send("m1", local("a@here.example", "a"), remote("x@far.example"))
        self.rig.wait(self.rig.spool.settle([QueueID("m1")]))
        self.recording = False
        del self.rig.store.visible["a", "m1"], self.rig.store.durable["a", "m1"]
        self.rig.threads.runner.journal._database.close()
        rig = Rig(self.base / "spool", store=self.rig.store.after_kill()).start()
        rig.advance(2)
        self.assertEqual(rig.store.durable, {})
