"""Becoming the data directory's owner, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mailhost.admin.identity import take_identity
from mailhost.errors import DataDirectoryError

NOBODY = 65534

PROGRAM = """
import json, os, sys
from pathlib import Path
from mailhost.admin.identity import take_identity
take_identity(Path(sys.argv[1]))
try:
    os.setresuid(0, 0, 0)
    back = True
except PermissionError:
    back = False
print(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), back]))
"""


class IdentityTests(SynchronousTestCase):
    """What root becomes."""

    def run_on(self, directory: Path) -> list[object]:
        root = str(Path(__file__).resolve().parents[2])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(directory.absolute())],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        result: list[object] = json.loads(done.stdout)
        return result

    def directory(self, owner: int) -> Path:
        path = Path(self.mktemp())
        path.mkdir()
        os.chown(path, owner, owner)
        return path

    def test_root_becomes_the_owner_for_good(self) -> None:
        """All ids change, root's groups are gone, and there is no way back (R-101)."""
        if os.geteuid() != 0:
            raise SkipTest("only root can become someone else")
        ids, groups, more, back = self.run_on(self.directory(NOBODY))
        self.assertEqual((ids, groups), ([NOBODY] * 3, [NOBODY] * 3))
        self.assertNotIn(0, more)  # type: ignore[arg-type]
        self.assertFalse(back)

    def test_an_owner_without_an_entry(self) -> None:
        """A user id that has no name, as in a container, does as well."""
        if os.geteuid() != 0:
            raise SkipTest("only root can become someone else")
        self.assertEqual(self.run_on(self.directory(54321)), [[54321] * 3, [54321] * 3, [], False])

    def test_roots_own_directory(self) -> None:
        """Nothing changes."""
        if os.geteuid() != 0:
            raise SkipTest("only root owns such a directory")
        ids, *_ = self.run_on(self.directory(0))
        self.assertEqual(ids, [0, 0, 0])

    def test_other_users_stay_who_they_are(self) -> None:
        """Nothing is looked at, so that a missing directory can be made."""
        self.patch(os, "geteuid", lambda: 1000)
        take_identity(Path("/nonexistent"))

    def test_root_needs_a_directory(self) -> None:
        """Its owner cannot be guessed."""
        self.patch(os, "geteuid", lambda: 0)
        error = self.assertRaises(DataDirectoryError, take_identity, Path("/nonexistent/data"))
        self.assertIn("install -d -m 700", str(error))
        self.assertRaises(DataDirectoryError, take_identity, Path("/dev/null/data"))
