"""smtplib and poplib, further than the main job goes."""

from __future__ import annotations

import poplib
import smtplib

from tests.interop.case import ALICE, BOB, InteropCase, message
from tests.interop.server import PASSWORD


class SmtplibTests(InteropCase):
    """Python's client on the SMTP and submission ports."""

    def smtp(self) -> smtplib.SMTP:
        """Return a client that said EHLO."""
        client = smtplib.SMTP("127.0.0.1", self.ports["smtp"], "client.example", timeout=20)
        self.addCleanup(client.close)
        client.ehlo("client.example")
        return client

    def test_extensions(self) -> None:
        """What EHLO offers, before and after STARTTLS."""
        client = self.smtp()
        for name in ("pipelining", "8bitmime", "smtputf8", "chunking", "enhancedstatuscodes"):
            self.assertTrue(client.has_extn(name), name)
        self.assertGreater(int(client.esmtp_features["size"]), 10_000_000)
        self.assertTrue(client.has_extn("starttls"))
        client.starttls(context=self.trusting())
        client.ehlo("client.example")
        self.assertFalse(client.has_extn("starttls"))

    def test_many_messages_on_one_connection(self) -> None:
        """Transactions follow one another, also after one that was given up."""
        client = self.smtp()
        for number in range(20):
            if number % 5 == 0:
                client.mail("a@else.example")
                client.rset()
            client.sendmail("a@else.example", [ALICE, BOB], message(f"{number}").as_bytes())
        self.arrived(20)
        self.arrived(20, BOB)

    def test_some_recipients_refused(self) -> None:
        """The good recipients get the message, the bad one is named."""
        refused = self.smtp().sendmail(
            "a@else.example", [ALICE, "nobody@test.example"], message("x").as_bytes()
        )
        self.assertEqual(
            {name: code for name, (code, _) in refused.items()}, {"nobody@test.example": 550}
        )
        self.arrived()

    def test_chunks(self) -> None:
        """BDAT in several pieces makes one message; a bare LF in it is refused."""
        client = self.smtp()
        client.mail("a@else.example")
        client.rcpt(ALICE)
        pieces = (b"Subject: in chunks\r\n\r", b"\nfirst\r\n.\r\n", b"last\r\n")
        for number, piece in enumerate(pieces, 1):
            last = b" LAST" if number == len(pieces) else b""
            client.sock.sendall(b"BDAT %d%b\r\n%b" % (len(piece), last, piece))
            self.assertEqual(client.getreply()[0], 250)
        (text,) = self.arrived()
        self.assertTrue(text.endswith(b"Subject: in chunks\r\n\r\nfirst\r\n.\r\nlast\r\n"))

    def test_internationalized_message(self) -> None:
        """SMTPUTF8: a header in UTF-8 arrives as it was."""
        client = self.smtp()
        client.sendmail(
            "jörg@else.example",
            [ALICE],
            "From: Jörg <jörg@else.example>\r\nSubject: Grüße\r\n\r\nä\r\n".encode(),
            mail_options=["SMTPUTF8", "BODY=8BITMIME"],
        )
        (text,) = self.arrived()
        self.assertIn("Subject: Grüße\r\n".encode(), text)
        self.assertIn(b"with UTF8SMTP", text)

    def test_too_large(self) -> None:
        """A declared size beyond the limit is refused at once."""
        client = self.smtp()
        size = int(client.esmtp_features["size"]) + 1
        self.assertEqual(client.mail("a@else.example", [f"SIZE={size}"])[0], 552)

    def test_smuggled_end_of_data(self) -> None:
        """Half an end-of-data inside a message is refused and makes no second message."""
        client = self.smtp()
        client.mail("a@else.example")
        client.rcpt(ALICE)
        client.docmd("DATA")
        client.sock.sendall(
            b"Subject: one\r\n\r\nx\n.\nMAIL FROM:<b@else.example>\r\nRCPT TO:<%b>\r\n"
            b"DATA\r\nSubject: two\r\n\r\ny\r\n.\r\n" % ALICE.encode()
        )
        self.assertEqual(client.getreply()[0], 550)
        self.assertEqual(client.noop()[0], 250)
        self.assertEqual(self.count(), 0)

    def test_clear_text_behind_starttls_is_dropped(self) -> None:
        """A command smuggled in behind STARTTLS is never run."""
        client = self.smtp()
        client.sock.sendall(b"STARTTLS\r\nMAIL FROM:<evil@else.example>\r\n")
        self.assertIn(client.getreply()[0], (220, 421, 501, 503, 554))
        client.sock.settimeout(1)
        try:
            self.assertEqual(client.sock.recv(1000), b"")
        except (TimeoutError, ConnectionResetError):
            pass


class PoplibTests(InteropCase):
    """Python's client over POP3."""

    def pop(self) -> poplib.POP3_SSL:
        """Return a client that logged in."""
        client = poplib.POP3_SSL(
            "127.0.0.1", self.ports["pop3s"], context=self.trusting(), timeout=20
        )
        self.addCleanup(client.close)
        client.user(ALICE)
        client.pass_(PASSWORD)
        return client

    def test_capabilities_and_stls(self) -> None:
        """CAPA before and after STLS."""
        client = poplib.POP3("127.0.0.1", self.ports["pop3"], timeout=20)
        self.addCleanup(client.close)
        self.assertIn("STLS", client.capa())
        client.stls(self.trusting())
        offered = client.capa()
        self.assertNotIn("STLS", offered)
        for name in ("TOP", "UIDL", "USER", "SASL", "RESP-CODES", "PIPELINING", "UTF8", "EXPIRE"):
            self.assertIn(name, offered)

    def test_listing_and_reading(self) -> None:
        """STAT, LIST, UIDL, TOP and RETR agree with each other."""
        self.deliver(*(message(f"number {number}", "a\n.b\nc\n") for number in range(5)))
        client = self.pop()
        count, size = client.stat()
        sizes = [int(line.split()[1]) for line in client.list()[1]]
        self.assertEqual((count, size), (5, sum(sizes)))
        uids = [line.split()[1] for line in client.uidl()[1]]
        self.assertEqual(len(set(uids)), 5)
        for number in range(1, 6):
            _, lines, octets = client.retr(number)
            self.assertEqual(octets, sizes[number - 1])
            self.assertEqual(lines[-3:], [b"a", b".b", b"c"])
            self.assertEqual(client.top(number, 1)[1][-1], b"a")

    def test_deletions_and_their_ends(self) -> None:
        """RSET and a lost connection keep messages; QUIT removes; UIDL stays the same."""
        self.deliver(message("one"), message("two"), message("three"))
        client = self.pop()
        uids = [line.split()[1] for line in client.uidl()[1]]
        client.dele(1)
        client.rset()
        client.dele(2)
        self.assertRaises(poplib.error_proto, client.retr, 2)
        client.close()
        client = self.pop()
        self.assertEqual([line.split()[1] for line in client.uidl()[1]], uids)
        client.dele(2)
        client.quit()
        client = self.pop()
        self.assertEqual([line.split()[1] for line in client.uidl()[1]], [uids[0], uids[2]])

    def test_login_failure_tells_nothing(self) -> None:
        """Unknown users and wrong passwords get the same words."""
        said = set()
        for user in (ALICE, "nobody@test.example"):
            client = poplib.POP3_SSL(
                "127.0.0.1", self.ports["pop3s"], context=self.trusting(), timeout=20
            )
            self.addCleanup(client.close)
            client.user(user)
            said.add(str(self.assertRaises(poplib.error_proto, client.pass_, "guess")))
        self.assertEqual(len(said), 1)
        self.assertIn("[AUTH]", said.pop())
