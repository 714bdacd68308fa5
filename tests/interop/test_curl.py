"""curl against every port, with each kind of TLS and login that it knows."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from subprocess import CompletedProcess

from mailhost.files import FileOperations
from mailhost.tls import self_signed
from tests.interop.case import ALICE, BOB, DEFAULT_FOLDERS, InteropCase, message
from tests.interop.server import PASSWORD

LOGIN_DENIED = 67
SEND_FAILED = 55
NOT_TRUSTED = 60


class CurlCase(InteropCase):
    """What curl's tests share."""

    programs = ("curl",)

    def curl(
        self,
        scheme: str,
        path: str,
        *words: str | Path,
        user: str = ALICE,
        password: str = PASSWORD,
        stdin: bytes = b"",
        expect: int | None = 0,
    ) -> CompletedProcess[str]:
        """Run curl against the port that belongs to a scheme, trusting its certificate."""
        port = {"smtp": "submission", "smtps": "submissions"}.get(scheme, scheme)
        return self.run_program(
            *("curl", "--silent", "--show-error", "--max-time", "30"),
            *("--ssl-reqd", "--cacert", self.certificate, "--user", f"{user}:{password}"),
            *(*words, f"{scheme}://localhost:{self.ports[port]}/{path}"),
            stdin=stdin,
            expect=expect,
        )

    def mechanisms(self) -> list[str]:
        """Return the SASL mechanisms that this curl and the server have in common."""
        features = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout
        return ["PLAIN", "LOGIN", *(["SCRAM-SHA-256"] if "gsasl" in features else [])]


class CurlSMTPTests(CurlCase):
    """curl sends."""

    def send(self, scheme: str, *words: str, expect: int | None = 0, **login: str) -> str:
        """Send a message from alice to bob."""
        return self.curl(
            *(scheme, "client.example", *words),
            *("--mail-from", ALICE, "--mail-rcpt", BOB, "--upload-file", "-"),
            stdin=b"Subject: from curl\r\n\r\n.dots\r\n..more\r\n",
            expect=expect,
            **login,
        ).stderr

    def test_submission(self) -> None:
        """STARTTLS and implicit TLS with each mechanism; lines that begin with dots survive."""
        for scheme in ("smtp", "smtps"):
            for mechanism in self.mechanisms():
                self.send(scheme, "--login-options", f"AUTH={mechanism}")
        for text in self.arrived(2 * len(self.mechanisms()), BOB):
            self.assertTrue(text.endswith(b"\r\n\r\n.dots\r\n..more\r\n"), text)

    def test_initial_response(self) -> None:
        """A mechanism's first words may come with the command."""
        self.send("smtps", "--sasl-ir", "--login-options", "AUTH=PLAIN")
        self.arrived(1, BOB)

    def test_wrong_password(self) -> None:
        """A wrong password is a login that is denied."""
        self.send("smtps", password="guess", expect=LOGIN_DENIED)
        self.assertEqual(self.count(BOB), 0)

    def test_without_login(self) -> None:
        """The submission port takes nothing from who did not log in."""
        said = self.run_program(
            *("curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", self.certificate),
            *("--mail-from", ALICE, "--mail-rcpt", BOB, "--upload-file", "-"),
            f"smtps://localhost:{self.ports['submissions']}/client.example",
            stdin="Subject: x\r\n\r\nx\r\n",
            expect=SEND_FAILED,
        )
        self.assertIn("530", said.stderr)

    def test_large_message(self) -> None:
        """Ten megabytes arrive octet by octet."""
        large = b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 4 * 160_000
        text = b"\r\n".join(large[i : i + 900] for i in range(0, len(large), 900)) + b"\r\n"
        path = self.home / "large"
        path.write_bytes(text)
        self.curl(
            *("smtps", "client.example", "--mail-from", ALICE, "--mail-rcpt", BOB),
            *("--upload-file", path),
        )
        (found,) = self.arrived(1, BOB)
        self.assertTrue(found.endswith(text[len(b"Subject: large\r\n") :]))


class CurlIMAPTests(CurlCase):
    """curl reads over IMAP."""

    def test_logins(self) -> None:
        """STARTTLS and implicit TLS with each mechanism, with and without an initial response."""
        for scheme in ("imap", "imaps"):
            for mechanism in self.mechanisms():
                for early in ((), ("--sasl-ir",)):
                    listed = self.curl(
                        scheme, "", "--login-options", f"AUTH={mechanism}", *early
                    ).stdout
                    self.assertIn("INBOX", listed)

    def test_folders(self) -> None:
        """The default folders are listed."""
        listed = self.curl("imaps", "").stdout.splitlines()
        self.assertEqual({line.rsplit(" ", 1)[1].strip('"') for line in listed}, DEFAULT_FOLDERS)

    def test_reading(self) -> None:
        """A message by number, by UID, in part, and the searches that find it."""
        self.deliver(message("first"), message("second", "the needle is here\n"))
        self.assertIn("Subject: second", self.curl("imaps", "INBOX;MAILINDEX=2").stdout)
        self.assertEqual(self.curl("imaps", "INBOX?SUBJECT%20second").stdout, "* SEARCH 2\r\n")
        self.assertEqual(self.curl("imaps", "INBOX?TEXT%20needle").stdout, "* SEARCH 2\r\n")
        uid = self.curl("imaps", "INBOX", "-X", "UID SEARCH SUBJECT second").stdout.split()[-1]
        found = self.curl("imaps", f"INBOX;UID={uid};SECTION=TEXT").stdout
        self.assertEqual(found, "the needle is here\r\n")
        self.assertIn(r"\Seen", self.curl("imaps", "INBOX", "-X", "FETCH 1:* FLAGS").stdout)

    def test_append(self) -> None:
        """A message that is uploaded into a folder is there."""
        path = self.home / "draft"
        path.write_bytes(b"Subject: draft\r\n\r\nnot done\r\n")
        self.curl("imaps", "Drafts", "--upload-file", path)
        self.assertEqual(self.contents(folder="Drafts"), [path.read_bytes()])

    def test_delete(self) -> None:
        """A flag is set by a command of its own, and EXPUNGE removes the message."""
        self.deliver(message("first"), message("second"))
        self.curl("imaps", "INBOX", "-X", r"STORE 1 +FLAGS \Deleted")
        self.curl("imaps", "INBOX", "-X", "EXPUNGE")
        (left,) = self.contents()
        self.assertIn(b"Subject: second", left)

    def test_wrong_password(self) -> None:
        """A wrong password is a login that is denied."""
        self.curl("imaps", "", password="guess", expect=LOGIN_DENIED)

    def test_missing_folder(self) -> None:
        """A folder that is not there is an error, and no other one is opened."""
        said = self.curl("imaps", "Nowhere;MAILINDEX=1", expect=None)
        self.assertNotEqual(said.returncode, 0)


class CurlPOP3Tests(CurlCase):
    """curl reads over POP3."""

    def test_logins(self) -> None:
        """STARTTLS and implicit TLS with each mechanism."""
        self.deliver(message("first"))
        for scheme in ("pop3", "pop3s"):
            for mechanism in self.mechanisms():
                listed = self.curl(scheme, "", "--login-options", f"AUTH={mechanism}").stdout
                self.assertRegex(listed, r"\A1 \d+\r?\n\Z")

    def test_reading(self) -> None:
        """LIST, UIDL, TOP and RETR; dots at the beginning of lines are not doubled."""
        self.deliver(message("first"), message("second", ".one\n..two\n"))
        self.assertEqual(len(self.curl("pop3s", "").stdout.splitlines()), 2)
        self.assertEqual(len(self.curl("pop3s", "", "-X", "UIDL").stdout.splitlines()), 2)
        self.assertIn("Subject: first", self.curl("pop3s", "", "-X", "TOP 1 0").stdout)
        text = self.curl("pop3s", "2").stdout
        self.assertTrue(text.endswith(".one\r\n..two\r\n"), text)

    def test_deleting(self) -> None:
        """DELE removes the message for good."""
        self.deliver(message("first"), message("second"))
        self.curl("pop3s", "1", "-X", "DELE", "--list-only")
        (left,) = self.arrived(1)
        self.assertIn(b"Subject: second", left)

    def test_wrong_password(self) -> None:
        """A wrong password is a login that is denied."""
        self.curl("pop3s", "", password="guess", expect=LOGIN_DENIED)


class CurlWithoutTrustTests(CurlCase):
    """The certificate is nobody's whom a client trusts by itself."""

    def test_refused_without_its_certificate(self) -> None:
        """A client that verifies does not talk to us unless it was told to."""
        other = self_signed(self.home / "other", "else.example", time.time(), FileOperations())
        for scheme in ("smtps", "imaps", "pop3s"):
            port = self.ports["submissions" if scheme == "smtps" else scheme]
            self.run_program(
                *("curl", "--silent", "--user", f"{ALICE}:{PASSWORD}", "--cacert", other),
                f"{scheme}://localhost:{port}/",
                expect=NOT_TRUSTED,
            )
