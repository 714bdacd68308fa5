"""Documents say what the code does: RFC table, commands, settings, the unit file."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailhost.admin.verbs import VERBS
from tests.rfc_table import README, ROOT, entries, split, table

CITED = re.compile(r"\bRFC[ -]?(\d{3,5})\b")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs")


def documents() -> list[Path]:
    found: list[Path] = []
    for name in DOCUMENTS:
        path = ROOT / name
        found += sorted(path.rglob("*.md")) if path.is_dir() else [path]
    return found


class RFCTests(SynchronousTestCase):
    """What is claimed about standards."""

    def test_every_cited_rfc_is_listed(self) -> None:
        """Code that cites an RFC says in ``rfc.toml`` how far it goes."""
        listed = {entry.number for entry in entries()}
        wrong = sorted(
            f"{path.relative_to(ROOT)} cites RFC {number}: add it to tests/rfc.toml"
            for path in (ROOT / "mailhost").rglob("*.py")
            for number in set(CITED.findall(path.read_text()))
            if int(number) not in listed
        )
        self.assertEqual(wrong, [])

    def test_what_is_supported_has_tests(self) -> None:
        """A claim names files that show it, and they exist."""
        for entry in entries():
            self.assertIn(entry.status, ("yes", "partial", "no"))
            if entry.status != "no":
                self.assertTrue(entry.tests, f"RFC {entry.number} has no tests")
            if entry.status == "partial":
                self.assertTrue(entry.note, f"RFC {entry.number}: which part?")
            for name in entry.tests:
                self.assertTrue((ROOT / name).exists(), f"RFC {entry.number}: no {name}")

    def test_numbers_are_in_order_and_once(self) -> None:
        """Nobody adds one twice."""
        numbers = [entry.number for entry in entries()]
        self.assertEqual(numbers, sorted(set(numbers)))

    def test_readme_has_the_table(self) -> None:
        """After a change of ``rfc.toml``: ``python -m tests.rfc_table``."""
        self.assertEqual(split(README.read_text())[1], table())


class CommandTests(SynchronousTestCase):
    """Commands in the documents exist."""

    def test_every_verb_that_is_shown_exists(self) -> None:
        """``mailhost noun verb`` in a document is one that can be typed."""
        known = {f"{noun} {verb}" for noun, verb in VERBS}
        known |= {"config check", "config show", "config sample"}
        nouns = "|".join({noun for noun, _ in VERBS} | {"config"})
        shown = set()
        for path in documents():
            for noun, verb in re.findall(
                rf"(?:mailhost|admin) ({nouns}) ([a-z]+)", path.read_text()
            ):
                shown.add(f"{noun} {verb}")
        self.assertEqual(shown - known, set())
        self.assertGreaterEqual(len(shown), 5)

    def test_readme_lists_every_verb(self) -> None:
        """The table of commands is the table of verbs."""
        rows = re.findall(r"(?m)^\| `([a-z]+)` \| (`[a-z]+`(?: `[a-z]+`)*) \|$", README.read_text())
        listed = {(noun, verb) for noun, verbs in rows for verb in re.findall("[a-z]+", verbs)}
        extra = {("config", verb) for verb in ("check", "show", "sample")}
        self.assertEqual(listed, set(VERBS) | extra)

    def test_links_lead_somewhere(self) -> None:
        """Relative links name files of the project."""
        wrong = [
            f"{path.relative_to(ROOT)}: {target}"
            for path in documents()
            for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text())
            if not (path.parent / target).exists()
        ]
        self.assertEqual(wrong, [])

    def test_readme_begins_with_two_commands(self) -> None:
        """Each one line, to be pasted in a checkout on a fresh machine."""
        first, second = [
            line for line in README.read_text().splitlines()[:30] if line.startswith("python3 -m")
        ]
        self.assertTrue(first.endswith("twistd -n mailhost"), first)
        self.assertRegex(second, r"trial [a-z0-9 -]*tests\Z")


class UnitTests(SynchronousTestCase):
    """``etc/mailhost.service``."""

    REQUIRED = (
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("ProtectProc", "invisible"),
        ("ProtectClock", "yes"),
        ("ProtectHostname", "yes"),
        ("ProtectKernelLogs", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("RestrictNamespaces", "yes"),
        ("RestrictRealtime", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("LockPersonality", "yes"),
        ("SystemCallArchitectures", "native"),
        ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
        ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
        ("UMask", "0077"),
        ("LimitNOFILE", "131072"),
        ("KillMode", "mixed"),
    )

    def test_the_sandbox_is_whole(self) -> None:
        """Each flag is there; the one that breaks TLS is not (R-102)."""
        parser = ConfigParser(strict=False, interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(ROOT / "etc" / "mailhost.service")
        service = dict(parser["Service"])
        for name, value in self.REQUIRED:
            self.assertEqual(service.get(name), value, name)
        self.assertNotIn("MemoryDenyWriteExecute", service)
        self.assertIn("78", service["RestartPreventExitStatus"].split())
        self.assertNotIn(service["User"], ("root", ""))
