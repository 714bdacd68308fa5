"""What goes wrong in a server's life: each time one clear line, and nothing is lost."""

from __future__ import annotations

import contextlib
import imaplib
import os
import shutil
import smtplib
import socket
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.case import ALICE, LIMITS, hang_up, message
from tests.interop.server import PASSWORD, MailhostProcess, environment, eventually, twistd

USAGE, DATA, UNAVAILABLE, TEMPORARY, CONFIG = 64, 65, 69, 75, 78
NOT_A_DATABASE = b"this was a database once\n" * 400


class WrongInputCase(TestCase):
    """Each test has a server of its own, which it mistreats."""

    timeout = 120

    def make(self, tables: str = LIMITS, **options: Any) -> MailhostProcess:
        """Return a server that is not started, stopped when the test ends."""
        base = Path(self.mktemp()).resolve()
        server = MailhostProcess(base, tables=tables, accounts=(ALICE,), **options)
        self.addCleanup(server.stop)
        return server

    def started(self, **options: Any) -> MailhostProcess:
        """Return a server that runs."""
        server = self.make(**options)
        server.populate()
        server.start()
        return server

    def start_fails(self, server: MailhostProcess, status: int) -> str:
        """Start a server that cannot start; return the one line that says why."""
        done = subprocess.run(
            [twistd(), "-n", "--pidfile=", "mailhost", "--config", str(server.config)],
            capture_output=True,
            text=True,
            timeout=30,
            env=environment(),
            cwd=server.base,
        )
        self.assertEqual(done.returncode, status, done.stderr + done.stdout)
        return self.one_line(done.stderr)

    def one_line(self, text: str) -> str:
        """Return the line that a text is."""
        self.assertNotIn("Traceback", text)
        lines = text.strip().splitlines()
        self.assertEqual(len(lines), 1, text)
        self.assertTrue(lines[0].startswith("mailhost: "), text)
        return lines[0]

    def deliver(self, server: MailhostProcess, *subjects: str) -> None:
        """Send messages to alice."""
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"], "client.example", timeout=20) as smtp:
            for subject in subjects:
                text = message(subject, "A line of text.\n" * 20).as_bytes()
                smtp.sendmail("a@else.example", [ALICE], text)

    def imap(self, server: MailhostProcess) -> imaplib.IMAP4:
        """Return alice's client with INBOX selected."""
        client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20)
        self.addCleanup(hang_up, client)
        client.login(ALICE, PASSWORD)
        kind, said = client.select("INBOX")
        self.assertEqual(kind, "OK", said)
        return client

    def subjects(self, server: MailhostProcess) -> dict[int, bytes]:
        """Return the subject of each message in INBOX by UID."""
        client = self.imap(server)
        found = {}
        kind, data = client.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        self.assertEqual(kind, "OK", data)
        for item in data:
            if isinstance(item, tuple):
                uid = int(item[0].split(b"UID ")[1].split()[0])
                found[uid] = item[1].strip().removeprefix(b"Subject: ")
        hang_up(client)
        return found

    def delivered(self, server: MailhostProcess, count: int) -> dict[int, bytes]:
        """Wait for that many messages."""
        eventually(lambda: len(self.subjects(server)) == count)
        return self.subjects(server)

    def account_directory(self, server: MailhostProcess) -> Path:
        """Where alice's mail lies."""
        (found,) = (server.data / "accounts").iterdir()
        return found


class StartTests(WrongInputCase):
    """A start that fails."""

    def test_bad_configuration(self) -> None:
        """Each mistake is named by its key with a remedy; the status is 78, nothing is made."""
        good = self.make().config.read_text()
        for bad, wanted in (
            (good.replace("version = 1", "version = 99"), "version"),
            (good.replace("hostname =", "hostnam ="), "hostnam"),
            (good.replace('protocol = "imap"', 'protocol = "imab"', 1), "listeners[3].protocol"),
            (good + "\n[relay]\nport = 'x'\n", "relay.port"),
            (good + "\n[[[\n", "line"),
            ("", "version"),
        ):
            server = self.make()
            server.config.write_text(bad)
            self.assertIn(wanted, self.start_fails(server, CONFIG))
            self.assertEqual(list(server.data.iterdir()), [])

    def test_missing_configuration(self) -> None:
        """A file that was named and is not there is an error, not local mode."""
        server = self.make()
        server.config.unlink()
        self.assertIn(str(server.config), self.start_fails(server, CONFIG))

    def test_taken_port(self) -> None:
        """The port and its listener are named; the status says that it may work later."""
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            server = self.make(fixed={"imap": port})
            server.populate()
            line = self.start_fails(server, TEMPORARY)
            self.assertIn(f"127.0.0.1:{port} (imap)", line)

    def test_two_instances(self) -> None:
        """The second one leaves the data directory alone and says who has it."""
        server = self.started()
        self.deliver(server, "one")
        config = server.config.read_text()
        for port in server.ports.values():
            config = config.replace(f"port = {port}\n", "port = 0\n")
        server.config.write_text(config)
        line = self.start_fails(server, TEMPORARY)
        self.assertIn(str(server.data), line)
        self.assertEqual(list(self.delivered(server, 1).values()), [b"one"])

    def test_wrong_admin_commands(self) -> None:
        """Unknown verbs, nouns and options are 64; wrong names are 65."""
        server = self.started()
        for words, status in (
            (("frobnicate",), USAGE),
            (("account", "frobnicate"), USAGE),
            (("account",), USAGE),
            (("account", "add"), USAGE),
            (("account", "list", "--frob"), USAGE),
            (("account", "add", "x@nowhere.example", "--generate"), DATA),
            (("account", "add", ALICE, "--generate"), DATA),
            (("account", "show", "nobody@test.example"), DATA),
            (("account", "add", "no address", "--generate"), DATA),
            (("queue", "show", "nothing"), DATA),
        ):
            done = server.admin(*words, check=False)
            self.assertEqual(done.returncode, status, (words, done.stderr))
            self.one_line(done.stderr)
        self.assertEqual(len(server.admin_json("account", "list")), 1)

    def test_admin_when_the_server_is_down(self) -> None:
        """Commands work on the files; their work is there after the start."""
        server = self.make()
        server.populate()
        server.admin("account", "add", "carol@test.example", "--password-stdin", stdin="x" * 20)
        server.start()
        self.assertEqual(len(server.admin_json("account", "list")), 2)


class DamageTests(WrongInputCase):
    """Files that somebody or something spoiled."""

    def test_damaged_message_file(self) -> None:
        """One damaged file never stops the others: they are listed, read and searched."""
        server = self.started()
        self.deliver(server, "one", "two", "three")
        before = self.delivered(server, 3)
        server.stop()
        files = sorted((self.account_directory(server) / "Maildir").glob("[cn]*/*"))
        self.assertEqual(len(files), 3)
        for path, damage in ((files[0], b""), (files[1], bytes(range(256)))):
            path.write_bytes(damage)
        server.start()
        client = self.imap(server)
        uids = client.uid("SEARCH", "ALL")[1][0].split()
        self.assertEqual([int(uid) for uid in uids], list(before))
        whole = client.uid("FETCH", str(max(before)), "(BODY.PEEK[])")
        self.assertIn(b"Subject: three", whole[1][0][1])
        for uid in uids:
            kind, _ = client.uid("FETCH", uid.decode(), "(FLAGS ENVELOPE BODY.PEEK[])")
            self.assertIn(kind, ("OK", "NO"))
        self.assertEqual(client.uid("SEARCH", "TEXT", "line")[0], "OK")
        self.deliver(server, "four")
        eventually(lambda: client.noop()[0] == "OK" and client.select()[1] == [b"4"])
        self.assertNotIn("Traceback", server.log_text())

    def test_removed_message_file(self) -> None:
        """A message whose file is gone is expunged; the others stay as they were."""
        server = self.started()
        self.deliver(server, "one", "two", "three")
        before = self.delivered(server, 3)
        client = self.imap(server)
        files = sorted((self.account_directory(server) / "Maildir").glob("[cn]*/*"))
        files[1].unlink()
        gone = sorted(before)[1]
        eventually(lambda: gone not in self.subjects(server))
        self.assertEqual(
            self.subjects(server), {uid: name for uid, name in before.items() if uid != gone}
        )
        client.noop()

    def damage_index(self, name: str) -> None:
        """Overwrite an index of a stopped server; nothing is lost, no UID changes."""
        server = self.started()
        self.deliver(server, *(f"number {number}" for number in range(10)))
        self.delivered(server, 10)
        client = self.imap(server)
        client.store("2", "+FLAGS", r"(\Flagged)")
        client.store("3", "+FLAGS", r"(\Deleted)")
        client.expunge()
        client.create("Work")
        client.copy("1:5", "Work")
        validity = client.response("UIDVALIDITY")[1]
        hang_up(client)
        before = self.subjects(server)
        time.sleep(1.5)  # flags are in the file names within a second
        server.stop()
        directory = self.account_directory(server)
        for suffix in ("-wal", "-shm"):
            (directory / (name + suffix)).unlink(missing_ok=True)
        self.assertTrue((directory / name).exists())
        (directory / name).write_bytes(NOT_A_DATABASE)
        server.start()
        client = self.imap(server)
        self.assertEqual(client.response("UIDVALIDITY")[1], validity)
        self.assertEqual(self.subjects(server), before)
        self.assertEqual(client.search(None, "FLAGGED")[1], [b"2"])
        kind, found = client.fetch("1:*", "(ENVELOPE BODYSTRUCTURE)")
        self.assertEqual((kind, len(found)), ("OK", 9))
        self.assertIn(b'"number 0"', found[0])
        self.assertEqual(client.select("Work")[1], [b"5"])
        self.deliver(server, "later")
        after = self.delivered(server, 10)
        self.assertGreater(max(after), max(before))
        with contextlib.closing(sqlite3.connect(directory / name)) as database:
            self.assertEqual(database.execute("PRAGMA integrity_check").fetchone(), ("ok",))
        self.assertNotIn("Traceback", server.log_text())

    def test_damaged_account_index(self) -> None:
        """account.sqlite is rebuilt from the Maildir: mail, flags, folders and UIDs return."""
        self.damage_index("account.sqlite")

    def test_damaged_cache(self) -> None:
        """cache.sqlite is made again from the messages."""
        self.damage_index("cache.sqlite")

    def test_cache_removed_while_running(self) -> None:
        """The cache may be deleted at any time."""
        server = self.started()
        self.deliver(server, "one", "two")
        before = self.delivered(server, 2)
        for path in self.account_directory(server).glob("cache.sqlite*"):
            path.unlink()
        self.assertEqual(self.subjects(server), before)
        self.deliver(server, "three")
        self.delivered(server, 3)
        client = self.imap(server)
        self.assertEqual(client.fetch("1:3", "(ENVELOPE)")[0], "OK")


class FullDiskTests(WrongInputCase):
    """A small file system that fills up."""

    def test_full_disk(self) -> None:
        """Mail is refused for now, reading goes on, and it recovers when there is room."""
        if os.getuid() != 0:
            raise SkipTest("only root can mount a small file system")
        server = self.make(tables=LIMITS + "free_space = 0\n")
        server.data.mkdir(exist_ok=True)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(server.data)],
            capture_output=True,
            text=True,
        )
        if mounted.returncode != 0:
            raise SkipTest(f"a small file system cannot be mounted: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(server.data)])
        self.addCleanup(server.stop)
        server.populate()
        server.start()
        self.deliver(server, "one", "two")
        before = self.delivered(server, 2)
        ballast = server.data / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
        accepted = self.send_until_refused(server)
        self.assertLessEqual(set(before.items()), set(self.subjects(server).items()))
        client = self.imap(server)
        kind, said = client.append("INBOX", None, None, b"Subject: x\r\n\r\n" + b"y" * 300_000)
        self.assertEqual(kind, "NO", said)
        self.assertIsNone(server.process and server.process.poll(), "the server ended")

        ballast.unlink()

        def taken() -> bool:
            try:
                self.deliver(server, "after")
            except smtplib.SMTPResponseException as error:
                self.assertIn(error.smtp_code, (451, 452))
                return False
            return True

        eventually(taken, 30, 1)
        after = self.delivered(server, 2 + accepted + 1)
        self.assertIn(b"after", after.values())
        self.assertEqual({uid: after[uid] for uid in before}, before)
        server.stop()
        server.start()
        self.assertEqual(self.subjects(server), after)

    def send_until_refused(self, server: MailhostProcess) -> int:
        """Send 200 KB messages until one is refused with 452; return how many were taken."""
        text = message("big", "A line of text.\n" * 12_000).as_bytes()
        for number in range(200):
            try:
                with smtplib.SMTP(
                    "127.0.0.1", server.ports["smtp"], "client.example", timeout=20
                ) as smtp:
                    smtp.sendmail("a@else.example", [ALICE], text)
            except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
                self.assertEqual(error.smtp_code, 452, error.smtp_error)
                self.assertTrue(error.smtp_error.startswith(b"4.3.1"), error.smtp_error)
                return number
            except smtplib.SMTPRecipientsRefused as error:
                self.assertEqual({code for code, _ in error.recipients.values()}, {452})
                return number
        raise AssertionError("everything was taken")


class DiskSpaceTests(WrongInputCase):
    """The limit of free space."""

    def test_mail_is_refused_before_the_disk_is_full(self) -> None:
        """With less room than limits.free_space mail is refused with 452."""
        room = shutil.disk_usage(Path.cwd()).free
        if room > 1 << 39:
            raise SkipTest("the disk has more room than the limit can be set to")
        server = self.started(tables=LIMITS + f"free_space = {room * 2}\n")
        error = self.assertRaises(smtplib.SMTPException, self.deliver, server, "one")
        self.assertIn("452", str(error))
        self.assertEqual(self.subjects(server), {})
