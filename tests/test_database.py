"""Connections and migrations."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailhost.database import connect, migrate
from mailhost.errors import DataDirectoryError


class DatabaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def open(self, **options: object) -> sqlite3.Connection:
        connection = connect(self.path, **options)  # type: ignore[arg-type]
        self.addCleanup(connection.close)
        return connection

    def test_files_are_private_whatever_the_umask(self) -> None:
        """The database and its WAL are 0600 under an open umask."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        connection = self.open()
        connection.execute("CREATE TABLE t (a)")
        modes = {
            name.stat().st_mode & 0o777 for name in self.path.parent.glob(self.path.name + "*")
        }
        self.assertEqual(modes, {0o600})

    def test_synchronous_is_as_asked(self) -> None:
        """FULL is 2 and NORMAL is 1; both in WAL mode."""
        full = self.open(synchronous="FULL")
        normal = self.open(synchronous="NORMAL")
        self.assertEqual(full.execute("PRAGMA synchronous").fetchone(), (2,))
        self.assertEqual(normal.execute("PRAGMA synchronous").fetchone(), (1,))
        self.assertEqual(normal.execute("PRAGMA journal_mode").fetchone(), ("wal",))

    def test_read_only_refuses_changes_and_absence(self) -> None:
        """A read-only connection changes nothing and creates nothing."""
        self.assertRaises(sqlite3.OperationalError, self.open, read_only=True)
        self.assertFalse(self.path.exists())
        self.open().execute("CREATE TABLE t (a)")
        reader = self.open(read_only=True)
        self.assertRaises(sqlite3.OperationalError, reader.execute, "INSERT INTO t VALUES (1)")

    def test_steps_run_once_and_in_order(self) -> None:
        """A later start applies only what was appended."""
        connection = self.open()
        first = "CREATE TABLE t (a); INSERT INTO t VALUES ('x;y');"
        migrate(connection, [first], "t")
        migrate(connection, [first, "ALTER TABLE t ADD COLUMN b; UPDATE t SET b = 2"], "t")
        self.assertEqual(connection.execute("SELECT * FROM t").fetchall(), [("x;y", 2)])
        self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (2,))

    def test_trigger_bodies_are_one_statement(self) -> None:
        """A semicolon inside a trigger does not end the statement."""
        connection = self.open()
        migrate(
            connection,
            [
                "CREATE TABLE t (a);"
                "CREATE TRIGGER r AFTER INSERT ON t BEGIN UPDATE t SET a = 1; END;"
                "INSERT INTO t VALUES (0);"
            ],
            "t",
        )
        self.assertEqual(connection.execute("SELECT a FROM t").fetchall(), [(1,)])

    def test_failed_step_leaves_nothing(self) -> None:
        """A step is applied whole or not at all."""
        connection = self.open()
        self.assertRaises(
            sqlite3.Error, migrate, connection, ["CREATE TABLE t (a); CREATE TABLE t (a)"], "t"
        )
        self.assertEqual(connection.execute("SELECT name FROM sqlite_master").fetchall(), [])
        self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (0,))

    def test_newer_file_is_refused_and_kept(self) -> None:
        """A database of a newer program is named and not touched."""
        connection = self.open()
        connection.execute("PRAGMA user_version=7")
        error = self.assertRaises(DataDirectoryError, migrate, connection, ["SELECT 1"], "mail.db")
        self.assertIn("mail.db has version 7", str(error))
        self.assertEqual(connection.execute("PRAGMA user_version").fetchone(), (7,))

    def test_damaged_file_raises(self) -> None:
        """What is not a database is an sqlite3.Error, not an empty database."""
        self.path.write_bytes(b"no database" * 1000)
        self.assertRaises(sqlite3.DatabaseError, self.open)

    def test_odd_path_names(self) -> None:
        """Characters that mean something in a URI are part of the name."""
        self.path = Path(self.mktemp() + " %?#.sqlite")
        self.open().execute("CREATE TABLE t (a)")
        self.assertTrue(self.path.exists())
