"""The main job with Python's own clients: mail comes in, is read, and goes out."""

from __future__ import annotations

import imaplib
import poplib
import smtplib
import ssl
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.interop.server import PASSWORD, MailhostProcess, eventually

MAIL = (
    b"From: someone@else.example\r\nTo: alice@test.example\r\nSubject: Hello\r\n\r\nGood day.\r\n"
)


def unchecked() -> ssl.SSLContext:
    """A client context that takes the self-signed certificate of the test."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class MainJobTests(TestCase):
    """smtplib, imaplib and poplib against a server in its own process."""

    timeout = 120

    def setUp(self) -> None:
        self.server = MailhostProcess(Path(self.mktemp()).resolve())
        self.server.populate()
        self.server.start()
        self.addCleanup(self.server.stop)

    def deliver(self, data: bytes = MAIL, to: str = "alice@test.example") -> None:
        """Send a message from elsewhere."""
        with smtplib.SMTP("127.0.0.1", self.server.ports["smtp"], "client.example") as smtp:
            smtp.sendmail("someone@else.example", [to], data)

    def imap(self) -> imaplib.IMAP4_SSL:
        """Log in as alice over TLS."""
        client = imaplib.IMAP4_SSL(
            "127.0.0.1", self.server.ports["imaps"], ssl_context=unchecked(), timeout=20
        )
        client.login("alice@test.example", PASSWORD)
        self.addCleanup(client.shutdown)
        return client

    def test_mail_comes_in_and_is_read_over_imap(self) -> None:
        """A delivered message is in INBOX with its content, flags and envelope."""
        self.deliver()
        client = self.imap()
        eventually(lambda: client.select()[1] == [b"1"])
        kind, data = client.fetch("1", "(FLAGS ENVELOPE BODY[])")
        self.assertEqual(kind, "OK")
        self.assertIn(b'"Hello"', data[0][0])
        self.assertTrue(data[0][1].endswith(b"\r\n\r\nGood day.\r\n"))
        self.assertIn(b"Return-Path: <someone@else.example>\r\n", data[0][1])

    def test_mail_is_read_and_deleted_over_pop3(self) -> None:
        """RETR gives the message, DELE removes it for IMAP too."""
        self.deliver()
        client = self.imap()
        eventually(lambda: client.select()[1] == [b"1"])
        pop = poplib.POP3_SSL(
            "127.0.0.1", self.server.ports["pop3s"], context=unchecked(), timeout=20
        )
        pop.user("alice@test.example")
        pop.pass_(PASSWORD)
        self.assertEqual(pop.stat()[0], 1)
        self.assertEqual(pop.retr(1)[1][-1], b"Good day.")
        pop.dele(1)
        pop.quit()
        self.assertEqual(client.select()[1], [b"0"])

    def test_submission_needs_a_login_and_delivers_locally(self) -> None:
        """Port 587 refuses without a login, and takes mail after STARTTLS and AUTH."""
        with smtplib.SMTP("127.0.0.1", self.server.ports["submission"], timeout=20) as smtp:
            smtp.ehlo("client.example")
            self.assertEqual(smtp.mail("alice@test.example")[0], 530)
        with smtplib.SMTP("127.0.0.1", self.server.ports["submission"], timeout=20) as smtp:
            smtp.starttls(context=unchecked())
            smtp.login("bob@test.example", PASSWORD)
            smtp.sendmail("bob@test.example", ["alice@test.example"], b"Subject: hi\r\n\r\nhi\r\n")
        client = self.imap()
        eventually(lambda: client.select()[1] == [b"1"])
        header = client.fetch("1", "(BODY[HEADER])")[1][0][1]
        self.assertIn(b"Message-ID:", header)
        self.assertIn(b"Date:", header)

    def test_unknown_recipients_and_relaying_are_refused(self) -> None:
        """Mail from elsewhere is taken for our own accounts only."""
        with smtplib.SMTP("127.0.0.1", self.server.ports["smtp"], timeout=20) as smtp:
            smtp.ehlo("client.example")
            smtp.mail("someone@else.example")
            self.assertEqual(smtp.rcpt("nobody@test.example")[0], 550)
            self.assertIn(smtp.rcpt("someone@third.example")[0], (550, 554))

    def test_everything_is_there_after_kill_and_restart(self) -> None:
        """A killed server comes back with its mail and UIDs."""
        for number in range(5):
            self.deliver(MAIL.replace(b"Hello", b"Hello %d" % number))
        client = self.imap()
        eventually(lambda: client.select()[1] == [b"5"])
        before = client.uid("FETCH", "1:*", "(ENVELOPE)")[1]
        self.server.kill()
        self.server.start()
        client = self.imap()
        self.assertEqual(client.select()[1], [b"5"])
        self.assertEqual(client.uid("FETCH", "1:*", "(ENVELOPE)")[1], before)
