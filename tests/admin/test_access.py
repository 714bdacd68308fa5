"""The way of a command: through the server, or under the lock."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailhost.admin import access
from mailhost.admin.access import locked, perform
from mailhost.control import CallFailure, ControlBroken, ControlUnreachable
from mailhost.errors import DataDirectoryBusy, DataDirectoryError, NoSuchEntry
from mailhost.files import FileOperations
from mailhost.storage.data_directory import DataDirectory

LIST = ("account", "list", {"domain": "a.example"})


class AccessTests(SynchronousTestCase):
    """What is tried, in which order."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.now = 0.0
        self.calls = 0
        self.server: Any = ControlUnreachable("none")
        self.patch(access, "call", self.call)

    def call(self, directory: Path, noun: str, verb: str, arguments: Mapping[str, object]) -> Any:
        self.calls += 1
        self.assertEqual((directory, noun, verb, arguments), (self.directory, *LIST))
        answer = self.server() if callable(self.server) else self.server
        if isinstance(answer, Exception):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def perform(self) -> Any:
        return perform(
            self.directory, *LIST, self.offline, clock=lambda: self.now, sleep=self.sleep
        )

    def offline(self, noun: str, verb: str, arguments: Mapping[str, object]) -> Any:
        with locked(self.directory) as holder:
            self.assertIsNotNone(holder, "the lock was not held")
        return [{"offline": noun}]

    def hold(self) -> int:
        self.directory.mkdir()
        lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        os.write(lock, b"process 4711\n")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock

    def test_a_running_server_does_it(self) -> None:
        """The files are not touched, not even to lock them."""
        self.server = [{"online": 1}]
        self.assertEqual(self.perform(), [{"online": 1}])
        self.assertFalse(self.directory.exists())

    def test_the_servers_refusal_is_passed_on(self) -> None:
        """And nothing is tried on the files."""
        self.server = CallFailure(65, "no-such-entry", "there is none")
        self.assertEqual(self.assertRaises(CallFailure, self.perform).status, 65)
        self.assertFalse(self.directory.exists())

    def test_a_broken_server_is_unavailable(self) -> None:
        """Nobody knows what it did, so nothing is tried on the files."""
        self.server = ControlBroken("no answer")
        self.assertEqual(self.assertRaises(CallFailure, self.perform).status, 69)

    def test_without_a_server_the_files_are_used_under_the_lock(self) -> None:
        """The data directory is made, private; afterwards the lock is free."""
        self.assertEqual(self.perform(), [{"offline": "account"}])
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)
        with locked(self.directory) as holder:
            self.assertIsNone(holder)

    def test_an_error_frees_the_lock(self) -> None:
        """The verb's own error comes out, and the next command can work."""

        def failing(noun: str, verb: str, arguments: Mapping[str, object]) -> Any:
            raise NoSuchEntry("there is none")

        self.assertRaises(NoSuchEntry, perform, self.directory, *LIST, failing)
        with locked(self.directory) as holder:
            self.assertIsNone(holder)

    def test_a_server_that_is_starting_is_waited_for(self) -> None:
        """It holds the lock, and after a moment it answers."""
        lock = self.hold()
        self.addCleanup(os.close, lock)

        def later() -> Any:
            return ["answer"] if self.calls > 3 else ControlUnreachable("not yet")

        self.server = later
        self.assertEqual(self.perform(), ["answer"])

    def test_a_server_that_is_stopping_is_waited_for(self) -> None:
        """When it is gone the files are used."""
        lock = self.hold()

        def later() -> Any:
            if self.calls == 4:
                os.close(lock)
            return ControlUnreachable("no longer")

        self.server = later
        self.assertEqual(self.perform(), [{"offline": "account"}])

    def test_patience_has_an_end(self) -> None:
        """Who holds the lock is named, and the status says to try again."""
        self.addCleanup(os.close, self.hold())
        failure = self.assertRaises(CallFailure, self.perform)
        self.assertEqual(failure.status, 75)
        self.assertIn("process 4711", failure.message)
        self.assertGreaterEqual(self.now, access.PATIENCE)

    def test_a_directory_that_cannot_be_made(self) -> None:
        """One line that names it."""
        self.directory.write_bytes(b"")
        error = self.assertRaises(DataDirectoryError, self.perform)
        self.assertIn(str(self.directory), str(error))


class LockTests(SynchronousTestCase):
    """The lock is the server's."""

    def test_a_server_and_a_command_exclude_each_other(self) -> None:
        """Whoever is first has the directory."""
        path = Path(self.mktemp())
        server = DataDirectory(path, FileOperations())
        server.open()
        with locked(path) as holder:
            self.assertEqual(holder, f"process {os.getpid()}")
        server.close()
        with locked(path) as holder:
            self.assertIsNone(holder)
            self.assertRaises(DataDirectoryBusy, DataDirectory(path, FileOperations()).open)
        server.open()
        server.close()

    def test_a_command_does_not_hide_an_unclean_stop(self) -> None:
        """The next start of the server recovers as if no command had run (P9)."""
        path = Path(self.mktemp())
        crashed = DataDirectory(path, FileOperations(), "boot 1")
        crashed.open()
        crashed.abandon()
        with locked(path) as holder:
            self.assertIsNone(holder)
        server = DataDirectory(path, FileOperations(), "boot 2")
        server.open()
        self.addCleanup(server.close)
        self.assertFalse(server.was_clean)
        self.assertTrue(server.power_lost)
