"""
What tests with foreign clients share: a server, mail, and programs run by argument.

To start a server and make its accounts takes seconds, so tests whose configuration is the same
use one after another. Each begins with empty accounts. It is stopped when a test wants another
configuration, or when the process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import imaplib
import os
import shutil
import smtplib
import ssl
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.server import PASSWORD, MailhostProcess, eventually

ALICE = "alice@test.example"
BOB = "bob@test.example"

LIMITS = """
[limits]
connections_per_client = 1000
connection_rate = 100000
imap_sessions_per_user = 1000
login_failures = 1000
"""
"""Everything comes from one address here, and in a hurry."""

DEFAULT_FOLDERS = frozenset({"INBOX", "Drafts", "Sent", "Trash", "Junk", "Archive"})


class Shared:
    """The server of the tests that run now."""

    tables: ClassVar[str | None] = None
    server: ClassVar[MailhostProcess | None] = None
    directory: ClassVar[Path | None] = None

    @classmethod
    def take(cls, tables: str) -> MailhostProcess:
        """Return a server with that configuration, started when none runs yet."""
        running = cls.server is not None and cls.server.process is not None
        if cls.tables != tables or not running or cls.server.process.poll() is not None:
            cls.release()
            cls.directory = Path(tempfile.mkdtemp(prefix="mailhost-interop-"))
            cls.tables = tables
            cls.server = MailhostProcess(cls.directory / "server", tables=tables)
            cls.server.populate()
            cls.server.start()
        return cls.server

    @classmethod
    def release(cls) -> None:
        """Stop the server and remove its files."""
        server, directory = cls.server, cls.directory
        cls.server = cls.tables = cls.directory = None
        if server is not None:
            server.stop()
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


atexit.register(Shared.release)


def message(subject: str, body: str = "Good day.\n", **fields: str) -> EmailMessage:
    """Return a message from elsewhere to alice."""
    made = EmailMessage(policy=SMTP)
    made["From"] = fields.pop("From", "Someone Else <someone@else.example>")
    made["To"] = fields.pop("To", ALICE)
    made["Subject"] = subject
    for name, value in fields.items():
        made[name.replace("_", "-")] = value
    made.set_content(body)
    return made


def hang_up(client: imaplib.IMAP4) -> None:
    """Log out, if that is still possible, and close the connection."""
    with contextlib.suppress(OSError, imaplib.IMAP4.error):
        client.logout()


class InteropCase(TestCase):
    """
    A test with a client that nobody here wrote.

    Class attributes:
        programs: what must be installed; the test is skipped otherwise.
        tables: for the server's configuration.
    """

    timeout = 240
    programs: ClassVar[Sequence[str]] = ()
    tables: ClassVar[str] = LIMITS

    def setUp(self) -> None:
        for program in self.programs:
            if shutil.which(program) is None:
                raise SkipTest(f"{program} is not installed")
        self.server = Shared.take(self.tables)
        self.home = Path(self.mktemp()).resolve()
        self.home.mkdir(parents=True)
        for account in (ALICE, BOB):
            self.empty(account)

    @property
    def ports(self) -> Mapping[str, int]:
        """The server's ports by name."""
        return self.server.ports

    @property
    def certificate(self) -> Path:
        """The server's certificate, for clients that can be told to trust it."""
        path = self.home / "server.pem"
        if not path.exists():
            text = (self.server.data / "tls/self-signed.pem").read_text()
            path.write_text(text[: text.index("-----BEGIN PRIVATE KEY-----")])
        return path

    def trusting(self) -> ssl.SSLContext:
        """Return a client context that trusts the server's certificate and checks its name."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def run_program(
        self,
        *words: str | Path,
        stdin: str | bytes = b"",
        expect: int | None = 0,
        environment: Mapping[str, str] | None = None,
        seconds: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run a client and return what it said; fail when it ends with another status."""
        done = subprocess.run(
            [str(word) for word in words],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            timeout=seconds,
            cwd=self.home,
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "HOME": str(self.home),
                "LC_ALL": "C.UTF-8",
                **(environment or {}),
            },
        )
        said = subprocess.CompletedProcess(
            done.args,
            done.returncode,
            done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"),
        )
        if expect is not None and said.returncode != expect:
            raise AssertionError(
                f"{words[0]} ended with {said.returncode}, not {expect}\n"
                f"{said.stdout[-4000:]}\n{said.stderr[-4000:]}\n"
                f"server: {self.server.log_text()[-3000:]}"
            )
        return said

    def imap(self, account: str = ALICE) -> imaplib.IMAP4_SSL:
        """Return Python's client, logged in over TLS, closed when the test ends."""
        client = imaplib.IMAP4_SSL(
            "127.0.0.1", self.ports["imaps"], ssl_context=self.trusting(), timeout=20
        )
        self.addCleanup(hang_up, client)
        client.login(account, PASSWORD)
        return client

    def empty(self, account: str) -> None:
        """Remove every message and every folder that a new account does not have."""
        client = self.imap(account)
        for row in client.list()[1]:
            name = row.decode().rsplit(' "/" ', 1)[1].strip('"')
            if name not in DEFAULT_FOLDERS:
                client.delete(f'"{name}"')
                continue
            if int(client.select(name)[1][0]):
                client.store("1:*", "+FLAGS.SILENT", r"(\Deleted)")
                client.expunge()
        hang_up(client)

    def deliver(self, *messages: EmailMessage | bytes, to: str = ALICE) -> None:
        """Send messages from elsewhere and wait until they can be read."""
        before = self.count(to)
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], "client.example", timeout=20) as smtp:
            for each in messages:
                data = each if isinstance(each, bytes) else each.as_bytes()
                smtp.sendmail("someone@else.example", [to], data)
        eventually(lambda: self.count(to) == before + len(messages))

    def count(self, account: str = ALICE, folder: str = "INBOX") -> int:
        """Return how many messages a folder holds."""
        client = self.imap(account)
        found = int(client.select(f'"{folder}"', readonly=True)[1][0])
        hang_up(client)
        return found

    def contents(self, account: str = ALICE, folder: str = "INBOX") -> list[bytes]:
        """Return the messages of a folder, without changing a flag."""
        client = self.imap(account)
        if not int(client.select(f'"{folder}"', readonly=True)[1][0]):
            return []
        found = client.fetch("1:*", "(BODY.PEEK[])")[1]
        hang_up(client)
        return [item[1] for item in found if isinstance(item, tuple)]

    def arrived(self, count: int = 1, account: str = ALICE, folder: str = "INBOX") -> list[bytes]:
        """Wait for that many messages and return them."""
        eventually(lambda: self.count(account, folder) == count)
        return self.contents(account, folder)
