"""The layer table, and the test that holds the imports to it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent / "mailhost"

BASE = frozenset({"address", "reply", "errors", "units", "ids", "criteria", "neighbourhood", ""})
"""Level 0, open to everyone; the empty name is the package itself (its version)."""

SEAMS = BASE | {"interfaces"}

MAY_IMPORT: dict[str, frozenset[str]] = {
    "units": frozenset(),
    "ids": frozenset(),
    "reply": frozenset(),
    "criteria": frozenset(),
    "neighbourhood": frozenset(),
    "errors": frozenset({"reply"}),
    "address": frozenset({"errors"}),
    "wire": BASE | {"wire"},
    "message": BASE | {"message"},
    "interfaces": BASE | {"interfaces"},
    "files": frozenset({"errors"}),
    "channel_binding": frozenset(),
    "sending": frozenset(),
    "database": BASE | {"files"},
    "dns": SEAMS | {"dns"},
    "directory": SEAMS | {"directory", "database", "wire.sasl", "wire.saslprep"},
    "storage": SEAMS | {"storage", "database", "files", "message"},
    "queue": SEAMS | {"queue", "database", "files", "message"},
    "smtp": SEAMS | {"smtp", "wire", "message", "channel_binding", "sending"},
    "imap": SEAMS | {"imap", "wire", "message", "channel_binding", "sending"},
    "pop3": SEAMS | {"pop3", "wire", "message", "channel_binding", "sending"},
    "relay": SEAMS | {"relay", "smtp.client", "dns.mx", "wire.sasl"},
    "config": BASE | {"config"},
    "observe": BASE,
    "tls": BASE | {"config", "interfaces", "files"},
    "control": SEAMS,
    "sockets": BASE | {"config"},
    "welcome": BASE | {"config"},
    "admin": SEAMS
    | {
        "admin",
        "config",
        "control",
        "database",
        "files",
        "directory",
        "queue",
        "storage",
        "observe",
        "tls",
    },
    "service": frozenset({"*"}),
    "tap": frozenset({"*"}),
}

GROUP_POSSESSIVE = re.compile(r"(?<!\\)\)[*+?]\+")

PURE = {
    "units",
    "ids",
    "reply",
    "errors",
    "address",
    "criteria",
    "neighbourhood",
    "wire",
    "message",
    "files",
    "channel_binding",
}
"""Packages that import nothing of Twisted."""

ONLY_DEFER = {"interfaces"}
"""Packages that import of Twisted only ``twisted.internet.defer``."""


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def _package(path: Path) -> str:
    relative = path.relative_to(ROOT).with_suffix("")
    return relative.parts[0] if relative.parts[0] != "__init__" else ""


def _allowed(target: str, allowed: frozenset[str]) -> bool:
    if "*" in allowed:
        return True
    inner = target.split(".")[1:]
    if len(inner) <= 1 and (not inner or inner[0].startswith("__")):
        return "" in allowed
    return any(".".join(inner[:length]) in allowed for length in range(1, len(inner) + 1))


class LayeringTests(SynchronousTestCase):
    """Imports go downward only."""

    def test_every_package_has_a_place(self) -> None:
        """A new package is entered in the table before it is used."""
        present = {
            path.stem
            for path in ROOT.iterdir()
            if (path.suffix == ".py" and path.stem != "__init__")
            or (path.is_dir() and (path / "__init__.py").exists())
        }
        self.assertEqual(present - set(MAY_IMPORT), set())

    def test_the_map_names_every_package(self) -> None:
        """Who reads what ``mailhost/__init__.py`` says of the layers finds each of them there."""
        layers = (ROOT / "__init__.py").read_text().partition("Imports go downward")[2]
        self.assertEqual([name for name in MAY_IMPORT if f"`{name}`" not in layers], [])

    def test_imports_go_downward(self) -> None:
        """No module imports what its line in the table does not name."""
        wrong = []
        for path in ROOT.rglob("*.py"):
            package = _package(path)
            if not package:
                continue
            for name, line in _imports(ast.parse(path.read_text())):
                top = name.split(".")[0]
                if top == "mailhost" and not _allowed(name, MAY_IMPORT[package]):
                    wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
                if top == "twisted" and (
                    package in PURE
                    or (package in ONLY_DEFER and not name.startswith("twisted.internet.defer"))
                ):
                    wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
        self.assertEqual(wrong, [])

    def test_no_module_level_reactor(self) -> None:
        """The reactor is an argument; only the outermost modules may look it up, in functions."""
        wrong = []
        for path in ROOT.rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ImportFrom | ast.Import):
                    for name, line in _imports(node):
                        if name == "twisted.internet.reactor":
                            wrong.append(f"{path.relative_to(ROOT)}:{line}")
        self.assertEqual(wrong, [])

    def test_package_files_hold_only_a_docstring(self) -> None:
        """An ``__init__.py`` below the top explains its package and does nothing."""
        wrong = [
            str(path.relative_to(ROOT))
            for path in ROOT.rglob("__init__.py")
            if path.parent != ROOT and len(ast.parse(path.read_text()).body) != 1
        ]
        self.assertEqual(wrong, [])

    def test_modules_and_functions_stay_small(self) -> None:
        """No module above 800 lines, no function above 80."""
        wrong = []
        for path in ROOT.rglob("*.py"):
            text = path.read_text()
            if text.count("\n") > 800:
                wrong.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    length = (node.end_lineno or 0) - node.lineno + 1
                    if length > 80:
                        wrong.append(f"{path.relative_to(ROOT)}: {node.name} has {length} lines")
        self.assertEqual(wrong, [])

    def test_no_dangerous_deserialisation_or_shell(self) -> None:
        """No pickle, marshal, shelve, eval, exec, os.system or shell=True anywhere (R-66, R-67)."""
        wrong = []
        for path in ROOT.rglob("*.py"):
            tree = ast.parse(path.read_text())
            for name, line in _imports(tree):
                if name.split(".")[0] in {"pickle", "marshal", "shelve", "dill", "yaml"}:
                    wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    shell = any(
                        keyword.arg == "shell" and ast.unparse(keyword.value) != "False"
                        for keyword in node.keywords
                    )
                    if called in {"eval", "exec", "os.system", "os.popen"} or shell:
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {called}")
        self.assertEqual(wrong, [])

    def test_no_possessive_repetition_of_a_group(self) -> None:
        """Before Python 3.11.5 such a pattern loses its place in the text (CPython gh-106052)."""
        wrong = [
            f"{path.relative_to(ROOT)}: {node.value!r}"
            for path in ROOT.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str | bytes)
            and GROUP_POSSESSIVE.search(str(node.value))
        ]
        self.assertEqual(wrong, [])
