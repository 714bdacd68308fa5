"""One process at a time, versions, and whether the last stop was clean (R-98, R-100)."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import DataDirectoryError
from mailhost.storage.data_directory import DataDirectory
from tests.storage.support import FaultyFiles


class DataDirectoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "below" / "data"
        self.files = FaultyFiles()

    def directory(self, boot: str = "one") -> DataDirectory:
        """Return a data directory that is released in the end."""
        directory = DataDirectory(self.path, self.files, boot)
        self.addCleanup(directory.abandon)
        return directory

    def test_first_start(self) -> None:
        """The directory is made, for its owner only, whatever the umask."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        directory = self.directory()
        directory.open()
        self.assertEqual((directory.epoch, directory.was_clean), (1, True))
        for path in (self.path, self.path / "accounts"):
            self.assertEqual(path.stat().st_mode & 0o777, 0o700)
        for name in ("lock", "state"):
            self.assertEqual((self.path / name).stat().st_mode & 0o777, 0o600)

    def test_second_process_is_refused(self) -> None:
        """Who comes second is told who holds it, and changes nothing."""
        self.directory().open()
        state = (self.path / "state").read_bytes()
        error = self.assertRaises(DataDirectoryError, self.directory().open)
        self.assertIn(f"process {os.getpid()}", str(error))
        self.assertEqual((self.path / "state").read_bytes(), state)

    def test_clean_stop(self) -> None:
        """After a clean stop the epoch stays."""
        directory = self.directory()
        directory.open()
        directory.close()
        again = self.directory("two")
        again.open()
        self.assertEqual((again.epoch, again.was_clean, again.power_lost), (1, True, False))

    def test_unclean_stop(self) -> None:
        """After any other stop the epoch is another, durably before anything is used."""
        for boot, lost in (("one", False), ("two", True)):
            directory = self.directory()
            directory.open()
            epoch = directory.epoch
            directory.abandon()
            again = self.directory(boot)
            again.open()
            self.assertEqual((again.epoch, again.was_clean), (epoch + 1, False))
            self.assertEqual(again.power_lost, lost)
            names = [name for name, _ in self.files.operations]
            self.assertEqual(names[-2:], ["rename", "sync_directory"])
            again.abandon()

    def test_removed_state(self) -> None:
        """Without its state file nothing that was reserved is used."""
        directory = self.directory()
        directory.open()
        directory.close()
        (self.path / "state").unlink()
        again = self.directory()
        again.open()
        self.assertFalse(again.was_clean)
        self.assertGreater(again.epoch, directory.epoch)

    def test_newer_layout_is_refused(self) -> None:
        """A directory of a newer mailhost is not touched, and is let go of."""
        directory = self.directory()
        directory.open()
        directory.close()
        state = self.path / "state"
        state.write_text(state.read_text().replace("version 1", "version 9"))
        for _ in range(2):
            error = self.assertRaises(DataDirectoryError, self.directory().open)
            self.assertIn("has layout 9", str(error))

    def test_damaged_state(self) -> None:
        """A state that says nothing is told of with the remedy."""
        self.directory().open()
        self.directory()
        (self.path / "state").write_bytes(b"\xff\xfe")
        fresh = DataDirectory(self.path, self.files)
        self.doCleanups()
        error = self.assertRaises(DataDirectoryError, fresh.open)
        self.assertIn("remove it", str(error))

    def test_not_a_directory(self) -> None:
        """A file in its place is one clear line."""
        self.path.parent.mkdir(parents=True)
        self.path.write_text("")
        error = self.assertRaises(DataDirectoryError, self.directory().open)
        self.assertIn(str(self.path), str(error))
