"""Results for people and programs."""

from __future__ import annotations

import json
import os
import time

from twisted.trial.unittest import SynchronousTestCase

from mailhost.admin.output import as_json, as_text, shown, table
from mailhost.admin.verbs import Column, Show

COLUMNS = (
    Column("address", "Address"),
    Column("enabled", "Enabled", Show.YES_NO),
    Column("created_at", "Created", Show.TIME),
)


class OutputTests(SynchronousTestCase):
    """Tables, details, JSON."""

    def setUp(self) -> None:
        old = os.environ.get("TZ")
        self.addCleanup(time.tzset)
        self.addCleanup(lambda: os.environ.pop("TZ") if old is None else os.putenv("TZ", old))
        os.environ["TZ"] = "UTC"
        time.tzset()

    def test_a_list_is_a_table(self) -> None:
        """Columns are aligned, lines have no white space at their end."""
        rows = [
            {"address": "a@b.example", "enabled": True, "created_at": 1_800_000_000.5},
            {"address": "long-name@b.example", "enabled": False, "created_at": 0},
        ]
        self.assertEqual(
            as_text(rows, COLUMNS),
            "Address              Enabled  Created\n"
            "a@b.example          yes      2027-01-15 08:00:00\n"
            "long-name@b.example  no\n",
        )

    def test_an_empty_list_is_nothing(self) -> None:
        """No heading without a table."""
        self.assertEqual(as_text([], COLUMNS), "")

    def test_one_entry_is_lines(self) -> None:
        """Values without a column follow, and lists of entries are tables."""
        entry = {
            "address": "a@b.example",
            "enabled": True,
            "password": "secret words",
            "next_attempt": 1_800_000_000,
            "targets": ["x@y.example", "z@y.example"],
            "recipients": [{"forward_path": "p@q.example", "attempts": 2, "done": False}],
        }
        self.assertEqual(
            as_text(entry, COLUMNS),
            "Address:       a@b.example\n"
            "Enabled:       yes\n"
            "Password:      secret words\n"
            "Next attempt:  2027-01-15 08:00:00\n"
            "Targets:       x@y.example, z@y.example\n"
            "\n"
            "Recipients:\n"
            "Forward path  Attempts  Done\n"
            "p@q.example   2         no\n",
        )

    def test_controls_cannot_reach_the_terminal(self) -> None:
        """A display name or a server's answer may be hostile."""
        rows = [{"address": "\x1b[31m\r\nforged", "enabled": True}]
        for text in (as_text(rows, COLUMNS), as_text(rows[0], COLUMNS), as_json(rows)):
            self.assertNotIn("\x1b", text)
            self.assertNotIn("\r", text)
        self.assertEqual(as_text(rows, COLUMNS).count("\n"), 2)

    def test_json_is_the_result(self) -> None:
        """Programs get what the verb returned."""
        result = [{"address": "\xe9@b.example", "x": None, "n": 1.5}]
        self.assertEqual(json.loads(as_json(result)), result)

    def test_kinds_of_values(self) -> None:
        """Each is shown in its way."""
        for value, show, expected in (
            (None, Show.TEXT, ""),
            (0, Show.SIZE, "0 B"),
            (1536, Show.SIZE, "1.5 KiB"),
            (3 << 40, Show.SIZE, "3.0 TiB"),
            ("x", Show.TIME, ""),
            (["a", "b"], Show.LIST, "a, b"),
            (0, Show.YES_NO, "no"),
        ):
            self.assertEqual(shown(value, show), expected)

    def test_wide_characters_keep_columns_straight(self) -> None:
        """What a terminal shows in two places counts two."""
        text = table(["Name", "X"], [["\u65e5\u672c", "1"], ["e\u0301", "2"], ["abcd", "3"]])
        self.assertEqual(
            text.splitlines(), ["Name  X", "\u65e5\u672c  1", "e\u0301     2", "abcd  3"]
        )

    def test_long_cells_are_cut(self) -> None:
        """A table stays a table."""
        self.assertIn("x" * 57 + "...\n", table(["T"], [["x" * 500]]))
