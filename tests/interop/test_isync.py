"""isync keeps a Maildir and an account equal in both directions."""

from __future__ import annotations

import mailbox
import re
from collections import Counter
from pathlib import Path

from tests.interop.case import ALICE, InteropCase, hang_up, message
from tests.interop.server import PASSWORD

COUNT = 200
LETTERS = {"\\Seen": "S", "\\Answered": "R", "\\Flagged": "F", "\\Draft": "D", "\\Deleted": "T"}

Side = Counter[tuple[str, str]]
"""What one side holds: subject and flags of each message."""


class IsyncTests(InteropCase):
    """mbsync between a Maildir of ours and the server."""

    programs = ("mbsync",)

    def setUp(self) -> None:
        super().setUp()
        self.near = self.home / "mail"
        self.near.mkdir()
        self.config = self.home / "mbsyncrc"

    def sync(self, port: str = "imaps") -> str:
        """Bring both sides together."""
        self.config.write_text(
            "IMAPAccount far\nHost localhost\n"
            f"Port {self.ports[port]}\nUser {ALICE}\n"
            f'Pass "{PASSWORD}"\nSSLType {"IMAPS" if port == "imaps" else "STARTTLS"}\n'
            f"CertificateFile {self.certificate}\n\n"
            "IMAPStore far\nAccount far\n\n"
            f"MaildirStore near\nPath {self.near}/\nInbox {self.near}/INBOX\n"
            "SubFolders Verbatim\n\n"
            "Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nRemove Both\n"
            "Expunge Both\nSyncState *\n"
        )
        said = self.run_program("mbsync", "--config", self.config, "--verbose", "all")
        self.assertNotIn("error", (said.stdout + said.stderr).lower())
        return said.stdout

    def near_side(self, folder: str = "INBOX") -> Side:
        """Return what the Maildir holds."""
        found: Side = Counter()
        for each in self.maildir(folder):
            found[str(each["Subject"]), "".join(sorted(each.get_flags()))] += 1
        return found

    def maildir(self, folder: str = "INBOX") -> mailbox.Maildir:
        """Return a folder of the near side."""
        return mailbox.Maildir(self.near / folder, create=False)

    def far_side(self, folder: str = "INBOX") -> Side:
        """Return what the server holds."""
        client = self.imap()
        found: Side = Counter()
        if int(client.select(f'"{folder}"', readonly=True)[1][0]):
            rows = client.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            for item in rows:
                if not isinstance(item, tuple):
                    continue
                flags = re.search(rb"FLAGS \(([^)]*)\)", item[0])[1].decode().split()
                letters = "".join(sorted(LETTERS[name] for name in flags if name in LETTERS))
                subject = item[1].decode().strip().removeprefix("Subject: ")
                found[subject, letters] += 1
        hang_up(client)
        return found

    def fill(self) -> None:
        """Put half of the messages on each side, with flags in many combinations."""
        client = self.imap()
        names = list(LETTERS)[:4]
        for number in range(COUNT // 2):
            flags = [name for bit, name in enumerate(names) if number >> bit & 1]
            text = message(f"far {number}", f"text {number}\n" * 20)
            kind, _ = client.append("INBOX", f"({' '.join(flags)})", None, text.as_bytes())
            self.assertEqual(kind, "OK")
        hang_up(client)
        near = mailbox.Maildir(self.near / "INBOX", create=True)
        for number in range(COUNT // 2):
            made = mailbox.MaildirMessage(message(f"near {number}", f"text {number}\n" * 20))
            made.set_subdir("cur")
            made.set_flags("".join(each for bit, each in enumerate("SRFD") if number >> bit & 1))
            near.add(made)

    def assert_equal_sides(self, folder: str = "INBOX") -> Side:
        """Fail unless both sides hold the same messages with the same flags."""
        near, far = self.near_side(folder), self.far_side(folder)
        self.assertEqual(near, far)
        return near

    def test_two_hundred_messages_in_both_directions(self) -> None:
        """Messages, flag changes and deletions go both ways, and both sides end up equal."""
        self.fill()
        self.sync()
        first = self.assert_equal_sides()
        self.assertEqual(first.total(), COUNT)

        client = self.imap()
        client.select("INBOX")
        client.store("1:20", "+FLAGS", r"(\Flagged)")
        client.store("10:30", "-FLAGS", r"(\Seen)")
        client.store("40:49", "+FLAGS", r"(\Deleted)")
        hang_up(client)
        near = self.maildir()
        keys = sorted(near.keys(), key=lambda key: near[key]["Subject"])
        for key in keys[120:150]:
            changed = near[key]
            changed.add_flag("R")
            near[key] = changed
        for key in keys[190:]:
            changed = near[key]
            changed.add_flag("T")
            near[key] = changed
        self.sync()
        second = self.assert_equal_sides()
        self.assertEqual(second.total(), COUNT - 20)
        self.assertNotEqual(first, second)

        self.assertEqual(self.sync("imap").count("Pulling"), 0)
        self.assertEqual(self.assert_equal_sides(), second)

    def test_new_and_removed_folders(self) -> None:
        """Folders made on one side appear on the other, nested and with other letters."""
        client = self.imap()
        for name in ("Work", "Work/Project 1", "Entw&APw-rfe"):
            self.assertEqual(client.create(f'"{name}"')[0], "OK")
            client.append(f'"{name}"', None, None, message(f"in {name[:4]}").as_bytes())
        for name in ("Home", "Home/Garden"):
            made = mailbox.Maildir(self.near / name, create=True)
            made.add(mailbox.MaildirMessage(message(f"in {name}")))
        self.sync()
        for name in ("Work", "Work/Project 1", "Home", "Home/Garden", "Drafts", "Sent"):
            self.assert_equal_sides(name)
        self.assertEqual(self.far_side("Home/Garden").total(), 1)
        self.assertEqual(len(list((self.near / "Work/Project 1/new").iterdir())), 1)
        self.assertEqual(self.far_side("Entw&APw-rfe").total(), 1)

        client.select('"Work/Project 1"')
        client.store("1", "+FLAGS", r"(\Deleted)")
        client.expunge()
        client.unselect()
        self.sync()
        client.delete('"Work/Project 1"')
        self.sync()
        self.assertFalse(Path(self.near / "Work/Project 1/cur").exists())

    def test_content_is_the_same_octet_by_octet(self) -> None:
        """What the server stored is what isync wrote, line ends aside."""
        text = "From: a@else.example\nSubject: odd\n\n\ttab, é \x7f, long " + "x" * 900 + "\n\n\n"
        near = mailbox.Maildir(self.near / "INBOX", create=True)
        near.add(text.encode())
        self.sync()
        (found,) = self.contents()
        lines = [line for line in found.split(b"\r\n") if not line.startswith(b"X-TUID")]
        self.assertEqual(b"\n".join(lines), text.encode())
