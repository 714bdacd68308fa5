"""
imapflow and nodemailer, the mail packages of Node.js.

``npm install imapflow nodemailer`` in a directory outside of the tree, and name its
``node_modules`` in the environment variable MAILHOST_NODE_MODULES.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SkipTest

from tests.interop.case import ALICE, BOB, InteropCase, message
from tests.interop.server import PASSWORD

SCRIPTS = Path(__file__).parent / "node"


class NodeCase(InteropCase):
    """Runs scripts that answer in JSON."""

    programs = ("node",)
    package: ClassVar[str] = ""

    def setUp(self) -> None:
        modules = os.environ.get("MAILHOST_NODE_MODULES", "")
        if not modules or not (Path(modules) / self.package).is_dir():
            raise SkipTest(f"MAILHOST_NODE_MODULES names no directory with {self.package}")
        super().setUp()

    def script(self, name: str, **options: Any) -> Any:
        """Run a script as alice and return its answer."""
        options = {"user": ALICE, "certificate": str(self.certificate), **options}
        said = self.run_program(
            *("node", SCRIPTS / name, json.dumps(options)),
            environment={"MAILHOST_NODE_MODULES": os.environ["MAILHOST_NODE_MODULES"]},
        )
        return json.loads(said.stdout)


class NodemailerTests(NodeCase):
    """nodemailer sends."""

    package = "nodemailer"

    def test_each_way_to_log_in(self) -> None:
        """STARTTLS and implicit TLS, PLAIN and LOGIN, and a pool that keeps its connections."""
        ways = [
            {"port": self.ports[name], "secure": secure, "method": method, "password": PASSWORD}
            for name, secure in (("submission", False), ("submissions", True))
            for method in ("PLAIN", "LOGIN")
        ]
        ways.append({**ways[-1], "pool": True, "count": 10})
        results = self.script("send.mjs", to=BOB, ways=ways)
        for said in results:
            self.assertIsInstance(said, list, said)
            for line in said:
                self.assertTrue(line.startswith("250 2.0.0 "), line)
        for text in self.arrived(14, BOB):
            self.assertGreater(len(text), 130_000)

    def test_refusals(self) -> None:
        """A wrong password and an unknown recipient are told by their codes."""
        way = {"port": self.ports["submissions"], "secure": True, "password": "guess"}
        (refused,) = self.script("send.mjs", to=BOB, ways=[way])
        self.assertEqual((refused["code"], refused["responseCode"]), ("EAUTH", 535))
        way["password"] = PASSWORD
        (refused,) = self.script("send.mjs", to="nobody@test.example", ways=[way])
        self.assertEqual((refused["code"], refused["responseCode"]), ("EENVELOPE", 550))


class ImapflowTests(NodeCase):
    """imapflow reads."""

    package = "imapflow"

    def step(self, name: str) -> Any:
        """Run one step of the script."""
        return self.script(
            "read.mjs",
            step=name,
            password=PASSWORD,
            imap=self.ports["imap"],
            imaps=self.ports["imaps"],
        )

    def test_folders(self) -> None:
        """Special use, status, and folders with other letters made, renamed and removed."""
        self.deliver(message("one"))
        answer = self.step("folders")
        self.assertTrue(answer["made"])
        self.assertIn("Projekte/Blau", answer["renamed"])
        self.assertNotIn("Projekte/Grün", answer["renamed"])
        self.assertEqual(
            {name: answer["special"][f"\\{name}"] for name in ("Sent", "Drafts", "Trash", "Junk")},
            {name: name for name in ("Sent", "Drafts", "Trash", "Junk")},
        )
        self.assertEqual(answer["status"]["messages"], 1)

    def test_messages(self) -> None:
        """Envelopes, structure, parts, search, flags, copy, move and deletion."""
        self.deliver(message("Grüße"), message("two", "a needle\n"), message("three"))
        answer = self.step("messages")
        self.assertEqual([each["subject"] for each in answer["found"]], ["Grüße", "two", "three"])
        self.assertEqual({each["from"] for each in answer["found"]}, {"someone@else.example"})
        self.assertEqual({each["type"] for each in answer["found"]}, {"text/plain"})
        self.assertEqual(answer["text"], "Good day.\r\n")
        self.assertEqual(answer["source"], answer["found"][0]["size"])
        self.assertEqual(answer["searched"], [answer["found"][1]["uid"]])
        self.assertLessEqual({"\\Flagged", "$Label1"}, set(answer["flags"]))
        self.assertEqual((answer["copied"], answer["moved"], answer["left"]), (1, 1, 1))
        self.assertEqual(self.count(folder="Archive"), 1)
        self.assertEqual(self.count(folder="Trash"), 1)

    def test_append(self) -> None:
        """Flags and date of an appended message are those that were given."""
        answer = self.step("append")
        self.assertEqual(answer["date"], "2020-02-02T03:04:05.000Z")
        self.assertEqual(answer["flags"], ["\\Draft", "\\Recent", "\\Seen"])

    def test_idle(self) -> None:
        """A session that waits hears of mail, flags and expunges within seconds."""
        answer = self.step("idle")
        self.assertIn("\\Answered", answer.pop("flags"))
        self.assertEqual(answer, {"count": 1, "expunged": 1})

    def test_changes_since(self) -> None:
        """Only what changed since a mod-sequence is fetched."""
        self.deliver(message("one"), message("two"), message("three"))
        self.assertEqual(self.step("changes"), {"changed": [2]})

    def test_wrong_password(self) -> None:
        """A wrong password is told by its response code."""
        answer = self.step("refused")
        self.assertTrue(answer["failed"] and answer["authentication"])
        self.assertEqual(answer["code"], "AUTHENTICATIONFAILED")
