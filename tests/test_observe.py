"""Log lines: their form, what they never contain, and the list of events."""

from __future__ import annotations

import ast
import json
import os
import stat
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailhost import observe
from mailhost.observe import (
    EVENTS,
    Counters,
    JSONObserver,
    LogFile,
    TextObserver,
    observer_for,
    safe_text,
    stream_writer,
)

PACKAGE = Path(observe.__file__).parent
METHODS = {"debug", "info", "warn", "error", "critical", "failure", "emit"}


def lines_of(observer_class: Any, level: str = "info") -> tuple[Logger, list[str]]:
    lines: list[str] = []
    publisher = LogPublisher(observer_class(lines.append, level))
    return Logger(namespace="test", observer=publisher), lines


class RegistryTests(SynchronousTestCase):
    """Every event of the source is listed with its fields."""

    def test_every_event_and_field_is_listed(self) -> None:
        """An event that nobody can look up is of no use to an operator."""
        wrong = []
        for where, name, fields in events_of_source():
            if name not in EVENTS:
                wrong.append(f'{where}: add "{name}": "{" ".join(sorted(fields))}" to observe.py')
            elif fields - EVENTS[name]:
                wrong.append(f"{where}: {name} has no field {', '.join(fields - EVENTS[name])}")
        self.assertEqual(wrong, [])

    def test_every_listed_event_has_a_use(self) -> None:
        """What nobody logs any more is not in the list."""
        constants = {
            node.value
            for path in PACKAGE.rglob("*.py")
            if path.name != "observe.py"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        self.assertEqual(set(EVENTS) - constants, set())

    def test_names_are_dotted_lower_case(self) -> None:
        """Names can be filtered by prefix."""
        for name, fields in EVENTS.items():
            self.assertRegex(name, r"\A[a-z0-9_]+(\.[a-z0-9_]+)+\Z")
            for field in fields:
                self.assertRegex(field, r"\A[a-z][a-z0-9_]*\Z")
                self.assertFalse(field.startswith("log_") or field == "event", field)

    def test_the_search_finds_events(self) -> None:
        """The test above would fail for an unlisted event."""
        tree = ast.parse('self.log.info(event="a.b", x=1)\nlog.failure("", event="c.d")\nx.info(1)')
        found = [(name, fields) for _, name, fields in events_of_tree(tree, "x")]
        self.assertEqual(found, [("a.b", {"x"}), ("c.d", set())])

    def test_the_search_follows_a_name_that_is_passed_on(self) -> None:
        """A method that takes the event's name is looked at where it is called."""
        tree = ast.parse('def tell(self, event, x): pass\nself.tell("a.b", 1)\nself.other("c.d")')
        self.assertEqual([name for _, name, _ in events_of_tree(tree, "x")], ["a.b"])


def events_of_source() -> Iterator[tuple[str, str, set[str]]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield from events_of_tree(ast.parse(path.read_text()), str(path.relative_to(PACKAGE)))


def events_of_tree(tree: ast.AST, where: str) -> Iterator[tuple[str, str, set[str]]]:
    passing = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(arg.arg == "event" for arg in node.args.args)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in passing and node.args and isinstance(node.args[0], ast.Constant):
            yield f"{where}:{node.lineno}", node.args[0].value, set()
        if node.func.attr not in METHODS:
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if "event" not in keywords:
            continue
        fields = {name for name in keywords if name and name not in ("event", "failure")}
        names = [
            constant.value
            for constant in ast.walk(keywords["event"])
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
        ]
        for name in names:
            yield f"{where}:{node.lineno}", name, fields


class TextTests(SynchronousTestCase):
    """The form for people."""

    def test_a_line_has_time_level_name_and_fields(self) -> None:
        """Fields stand in the order of the call, what is None is left out."""
        log, lines = lines_of(TextObserver)
        log.info(
            event="smtp.transaction.accepted",
            session="abc",
            size=12,
            delay=0.12345,
            peer=None,
            tls=True,
            forward_path=("a@b.example", "c@d.example"),
            reverse_path="",
            reply=b"250 2.0.0 ok",
        )
        (line,) = lines
        self.assertRegex(
            line,
            r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info smtp\.transaction\.accepted "
            r"session=abc size=12 delay=0\.123 tls=yes "
            r'forward_path=a@b\.example,c@d\.example reverse_path="" reply="250 2\.0\.0 ok"\n\Z',
        )

    def test_control_characters_are_escaped(self) -> None:
        """A peer cannot forge a line, colour a terminal or turn the text around (R-81)."""
        log, lines = lines_of(TextObserver)
        hostile = 'x\r\n2026-01-01 info \x1b[31mred\x9b\u2028\u202e"\\\ud800'
        log.info(event="a.b", value=hostile, octets=hostile.encode("utf-8", "replace"))
        (line,) = lines
        self.assertEqual(line.count("\n"), 1)
        self.assertIn(
            'value="x\\x0d\\x0a2026-01-01 info \\x1b[31mred\\x9b\\u2028\\u202e\\"\\\\\\ud800"', line
        )
        self.assertTrue(line[:-1].isprintable())

    def test_long_values_are_cut(self) -> None:
        """A megabyte in a field does not fill the disk, and its length is told (R-81)."""
        log, lines = lines_of(TextObserver)
        for value in ("a" * 1_000_000, b"a" * 1_000_000, ["a" * 1000] * 1000, "\x1b" * 1_000_000):
            log.info(event="a.b", value=value)
        for line in lines:
            self.assertLess(len(line), 5 * observe.MAX_VALUE)
            self.assertRegex(line, r"\.\.\.\(\+\d+\)")

    @settings(max_examples=200, deadline=None)
    @given(st.text() | st.binary() | st.lists(st.text()) | st.floats() | st.none())
    def test_any_value_stays_on_its_line(self, value: object) -> None:
        """Whatever a field holds: one printable line."""
        for observer_class in (TextObserver, JSONObserver):
            log, lines = lines_of(observer_class)
            log.info(event="a.b", value=value)
            self.assertEqual(len(lines), 1)
            self.assertTrue(lines[0][:-1].isprintable(), lines[0])
            lines[0].encode("utf-8")

    def test_levels_are_filtered(self) -> None:
        """Below the threshold nothing is written."""
        for level, expected in (("debug", 5), ("info", 4), ("warn", 3), ("error", 2)):
            for observer_class in (TextObserver, JSONObserver):
                log, lines = lines_of(observer_class, level)
                for method in (log.debug, log.info, log.warn, log.error, log.critical):
                    method(event="a.b")
                self.assertEqual(len(lines), expected)

    def test_events_without_a_name_have_their_words(self) -> None:
        """What Twisted itself logs is shown as one safe line."""
        log, lines = lines_of(TextObserver)
        log.info("Got {thing!r}\n", thing="x\x1b")
        self.assertIn("info Got 'x\\\\x1b'\\x0a\n", lines[0])

    def test_ports_that_twisted_opens_are_for_debugging(self) -> None:
        """What Twisted says in its old way of logging is shown at debug, errors always."""
        for level, expected in (("debug", 2), ("info", 1)):
            for observer_class in (TextObserver, JSONObserver):
                log, lines = lines_of(observer_class, level)
                legacy = Logger(namespace="log_legacy", observer=log.observer)
                legacy.info("(TCP Port 25 Closed)")
                legacy.error("Unhandled")
                self.assertEqual(len(lines), expected)

    def test_a_failure_shows_its_traceback_indented(self) -> None:
        """Lines of a traceback cannot be taken for events, whatever the exception says."""
        log, lines = lines_of(TextObserver)
        try:
            raise ValueError("bad\n2026-01-01T00:00:00.000Z info forged \x1b[0m")
        except ValueError:
            log.failure("", event="service.failed", session="abc")
        text = lines[0].splitlines()
        self.assertTrue(text[0].endswith("error service.failed session=abc"))
        self.assertIn("ValueError", lines[0])
        self.assertTrue(all(line.startswith("    ") for line in text[1:]))
        self.assertNotIn("\x1b", lines[0])

    def test_a_long_traceback_is_cut_in_the_middle(self) -> None:
        """Endless recursion is one screen."""
        log, lines = lines_of(TextObserver)

        def deeper(depth: int) -> None:
            if depth == 0:
                raise RuntimeError("the end")
            deeper(depth - 1)

        try:
            deeper(200)
        except RuntimeError:
            log.failure("deep")
        self.assertLess(lines[0].count("\n"), observe.MAX_TRACEBACK_LINES + 5)
        self.assertIn("the end", lines[0])

    def test_safe_text_of_octets(self) -> None:
        """Octets that are not UTF-8 are shown by number."""
        self.assertEqual(safe_text(b"\xff\xc3\xa9"), "\\\\xff\xe9")


class JSONTests(SynchronousTestCase):
    """The form for programs."""

    def test_a_line_is_an_object(self) -> None:
        """Numbers stay numbers, lists lists."""
        log, lines = lines_of(JSONObserver)
        log.warn(event="a.b", size=1, delay=0.5, ok=True, to=("x", "y"), none=None, raw=b"\xff")
        (line,) = lines
        document = json.loads(line)
        self.assertRegex(document.pop("time"), r"\A\d{4}-.*Z\Z")
        self.assertEqual(
            document,
            {
                "level": "warn",
                "event": "a.b",
                "size": 1,
                "delay": 0.5,
                "ok": True,
                "to": ["x", "y"],
                "raw": "\\xff",
            },
        )

    def test_long_values_are_cut(self) -> None:
        """The same limit as for people."""
        log, lines = lines_of(JSONObserver)
        log.info(event="a.b", value="a" * 1_000_000)
        self.assertLess(len(lines[0]), 2 * observe.MAX_VALUE)

    def test_prose_and_failures(self) -> None:
        """Words and traceback have keys of their own."""
        log, lines = lines_of(JSONObserver)
        try:
            raise ValueError("why")
        except ValueError:
            log.failure("while trying")
        document = json.loads(lines[0])
        self.assertIn("while trying", document["text"])
        self.assertIn("ValueError: why", document["traceback"])


class CountersTests(SynchronousTestCase):
    """Counts by event."""

    def test_named_events_are_counted_at_every_level(self) -> None:
        """Also those that are not written."""
        counters, stream = Counters(), StringIO()
        observer = observer_for("text", "error", stream_writer(stream), counters)
        log = Logger(namespace="test", observer=LogPublisher(observer))
        for _ in range(3):
            log.info(event="b.c")
        log.debug(event="a.b")
        log.info("no name")
        self.assertEqual(counters.counts(), {"a.b": 1, "b.c": 3})
        self.assertEqual(stream.getvalue(), "")

    def test_the_format_is_chosen_by_its_word(self) -> None:
        """``json`` gives objects, ``text`` lines."""
        for word, start in (("json", "{"), ("text", "2")):
            stream = StringIO()
            observer = observer_for(word, "info", stream_writer(stream), Counters())
            Logger(namespace="test", observer=LogPublisher(observer)).info(event="a.b")
            self.assertTrue(stream.getvalue().startswith(start))


class LogFileTests(SynchronousTestCase):
    """Log files."""

    def test_it_appends_and_is_private(self) -> None:
        """Mode 0600 whatever the umask; what was there stays (R-100)."""
        path = Path(self.mktemp())
        self.addCleanup(os.umask, os.umask(0))
        for line in ("one\n", "two\n"):
            file = LogFile(path)
            file.write(line)
            file.close()
        self.assertEqual(path.read_text(), "one\ntwo\n")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    def test_it_can_be_rotated_by_others(self) -> None:
        """After a rename and `reopen` lines go to a new file of the name."""
        path = Path(self.mktemp())
        file = LogFile(path)
        self.addCleanup(file.close)
        file.write("old\n")
        path.rename(f"{path}.1")
        file.write("still old\n")
        file.reopen()
        file.write("new\n")
        self.assertEqual(Path(f"{path}.1").read_text(), "old\nstill old\n")
        self.assertEqual(path.read_text(), "new\n")

    def test_a_failed_reopen_keeps_the_old_file(self) -> None:
        """No line is lost because a directory is gone."""
        directory = Path(self.mktemp())
        directory.mkdir()
        file = LogFile(directory / "log")
        self.addCleanup(file.close)
        moved = Path(self.mktemp())
        directory.rename(moved)
        self.assertRaises(OSError, file.reopen)
        file.write("line\n")
        self.assertEqual((moved / "log").read_text(), "line\n")
