"""swaks, the Swiss army knife for SMTP, against the SMTP ports."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

from tests.interop.case import ALICE, BOB, InteropCase
from tests.interop.server import PASSWORD

RCPT_REFUSED = 24
MAIL_REFUSED = 23
LOGIN_FAILED = 28


class SwaksTests(InteropCase):
    """Every way in that swaks knows."""

    programs = ("swaks",)

    def swaks(
        self, port: str, *words: str | Path, sender: str, to: str, expect: int | None = 0
    ) -> CompletedProcess[str]:
        """Send one message."""
        return self.run_program(
            *("swaks", "--server", "127.0.0.1", "--port", str(self.ports[port])),
            *("--helo", "client.example", "--timeout", "20"),
            *("--from", sender, "--to", to, *words),
            expect=expect,
        )

    def submit(
        self,
        port: str,
        *words: str | Path,
        sender: str = ALICE,
        password: str = PASSWORD,
        expect: int | None = 0,
    ) -> CompletedProcess[str]:
        """Send one message to bob as alice."""
        return self.swaks(
            port,
            *("--auth-user", ALICE, "--auth-password", password),
            *("--tls-verify", "--tls-ca-path", self.certificate, *words),
            sender=sender,
            to=BOB,
            expect=expect,
        )

    def test_mail_from_elsewhere(self) -> None:
        """A message is taken on the SMTP port and begins with its trace fields."""
        self.swaks("smtp", "--body", "one\n.two\n..three", sender="a@else.example", to=ALICE)
        (text,) = self.arrived()
        self.assertTrue(text.startswith(b"Return-Path: <a@else.example>\r\n"))
        self.assertIn(b"Received: from client.example", text)
        self.assertIn(b"\r\none\r\n.two\r\n..three\r\n", text)

    def test_mail_from_elsewhere_over_verified_tls(self) -> None:
        """STARTTLS on the SMTP port stands up to verification and is named in Received."""
        said = self.swaks(
            "smtp",
            *("--tls", "--tls-verify", "--tls-ca-path", self.certificate),
            sender="a@else.example",
            to=ALICE,
        )
        self.assertIn("TLS started", said.stdout)
        self.assertIn(b"with ESMTPS", self.arrived()[0])

    def test_pipelined_mail_for_two(self) -> None:
        """A pipelined transaction with two recipients reaches both."""
        self.swaks("smtp", "--pipeline", sender="a@else.example", to=f"{ALICE},{BOB}")
        self.arrived()
        self.arrived(account=BOB)

    def test_helo_only(self) -> None:
        """A client that knows no EHLO is served."""
        self.swaks("smtp", "--protocol", "SMTP", sender="a@else.example", to=ALICE)
        self.assertIn(b"with SMTP", self.arrived()[0])

    def test_null_reverse_path(self) -> None:
        """A delivery report is taken."""
        self.swaks("smtp", sender="<>", to=ALICE)
        self.assertTrue(self.arrived()[0].startswith(b"Return-Path: <>\r\n"))

    def test_attachment(self) -> None:
        """A message with a binary attachment arrives as it was sent."""
        picture = self.home / "picture.bin"
        picture.write_bytes(bytes(range(256)) * 2000)
        self.swaks(
            "smtp",
            *("--attach-type", "application/octet-stream", "--attach", f"@{picture}"),
            sender="a@else.example",
            to=ALICE,
        )
        self.assertGreater(len(self.arrived()[0]), 600_000)

    def test_unknown_recipient(self) -> None:
        """A recipient that does not exist is refused before the message is sent."""
        said = self.swaks(
            "smtp", sender="a@else.example", to="nobody@test.example", expect=RCPT_REFUSED
        )
        self.assertRegex(said.stdout, r"<\*\* 550 5\.1\.1 ")

    def test_submission_with_each_mechanism(self) -> None:
        """STARTTLS, then PLAIN and LOGIN."""
        for mechanism in ("PLAIN", "LOGIN"):
            self.submit("submission", "--tls", "--auth", mechanism)
        for text in self.arrived(2, BOB):
            self.assertIn(b"with ESMTPSA", text)

    def test_submission_with_implicit_tls(self) -> None:
        """TLS from the first octet."""
        self.submit("submissions", "--tls-on-connect", "--auth", "PLAIN")
        self.assertIn(b"with ESMTPSA", self.arrived(1, BOB)[0])

    def test_wrong_password(self) -> None:
        """A wrong password is refused by 535 with each mechanism."""
        for mechanism in ("PLAIN", "LOGIN"):
            said = self.submit(
                *("submission", "--tls", "--auth", mechanism),
                password="guess",
                expect=LOGIN_FAILED,
            )
            self.assertRegex(said.stdout, r"535 5\.7\.8 ")

    def test_sender_of_somebody_else(self) -> None:
        """Nobody sends under another account's address."""
        said = self.submit("submission", "--tls", sender=BOB, expect=None)
        self.assertIn(said.returncode, (MAIL_REFUSED, RCPT_REFUSED))
        self.assertRegex(said.stdout, r"<~\* 55[03] 5\.7\.1 ")
