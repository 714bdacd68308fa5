"""What becomes of a message's octets and envelope on the way into the spool."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailhost.address import Address
from mailhost.interfaces.spool import Body
from tests.smtp.peer import NOW, SMTPPeer

LOCAL = {"mode": "local", "cleartext_login": "yes"}
LOGIN = b"AUTH PLAIN AGFsaWNlAHNlY3JldA=="
DATE = b"Fri, 15 Jan 2027 08:00:00 +0000"


class TraceTests(SynchronousTestCase):
    """Received and the envelope."""

    def message(self, peer: SMTPPeer, *lines: bytes, mail: bytes = b"", rcpt: bytes = b"") -> None:
        """Send a message."""
        sender = b"alice@example.org" if peer.authenticator.open else b"a@client.example"
        peer.say(b"MAIL FROM:<" + sender + b">" + mail, b"RCPT TO:<bob@example.org>" + rcpt)
        peer.say(b"DATA")
        self.assertIn(b"250 2.0.0", peer.say(*lines, b"."))

    def test_received(self) -> None:
        """The prefix is one Received field, the content is as it came."""
        peer = SMTPPeer()
        peer.say(b"EHLO client.example")
        self.message(peer, b"Subject: x", b"", b"..y")
        envelope, prefix, content = peer.spool.messages[0]
        self.assertEqual(
            prefix,
            b"Received: from client.example ([192.168.1.1])\r\n"
            b"\tby mx.example.org (mailhost) with ESMTP\r\n"
            b"\tid " + envelope.queue_id.encode() + b"\r\n"
            b"\tfor <bob@example.org>;\r\n"
            b"\t" + DATE + b"\r\n",
        )
        self.assertEqual(content, b"Subject: x\r\n\r\n.y\r\n")
        self.assertEqual(envelope.reverse_path, Address("a", "client.example"))
        self.assertEqual(envelope.received_at, NOW)
        self.assertIsNone(envelope.account_id)

    def test_for_is_left_out_with_two_recipients(self) -> None:
        """Blind copies stay blind (RFC 5321 7.2)."""
        peer = SMTPPeer()
        peer.say(b"EHLO c", b"MAIL FROM:<>", b"RCPT TO:<bob@example.org>")
        peer.say(b"RCPT TO:<eve@example.org>", b"DATA")
        peer.say(b"x", b".")
        envelope, prefix, _ = peer.spool.messages[0]
        self.assertNotIn(b"for <", prefix)
        self.assertIsNone(envelope.reverse_path)
        self.assertEqual([str(r.forward_path) for r in envelope.recipients],
                         ["bob@example.org", "eve@example.org"])  # fmt: skip

    def test_protocol_names(self) -> None:
        """RFC 3848 and RFC 6531 4.3: S with TLS, A with a login, UTF8SMTP with SMTPUTF8."""
        for greet, tls, login, mail, name in (
            (b"HELO c", False, False, b"", b"SMTP"),
            (b"EHLO c", False, False, b"", b"ESMTP"),
            (b"EHLO c", True, False, b"", b"ESMTPS"),
            (b"EHLO c", False, True, b"", b"ESMTPA"),
            (b"EHLO c", True, True, b"", b"ESMTPSA"),
            (b"EHLO c", True, True, b" SMTPUTF8", b"UTF8SMTPSA"),
        ):
            peer = SMTPPeer(LOCAL)
            if tls:
                peer.say(b"EHLO c", b"STARTTLS")
                self.assertTrue(peer.start_tls())
            peer.say(greet)
            if login:
                peer.say(LOGIN)
            self.message(peer, b"x", mail=mail)
            prefix = peer.spool.messages[0][1]
            self.assertIn(b" with " + name + b"\r\n", prefix)
            self.assertEqual(b"(using TLSv1.3 TLS_AES_256_GCM_SHA384)" in prefix, tls)

    def test_parameters_reach_the_envelope(self) -> None:
        """BODY, SMTPUTF8 and what DSN says are kept."""
        peer = SMTPPeer()
        peer.say(b"EHLO c")
        self.message(peer, b"x", mail=b" BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=e1",
                     rcpt=b" NOTIFY=DELAY,FAILURE ORCPT=rfc822;b@x")  # fmt: skip
        envelope = peer.spool.messages[0][0]
        self.assertEqual(envelope.body, Body.EIGHT_BIT)
        self.assertTrue(envelope.smtputf8)
        self.assertEqual((envelope.ret, envelope.envid), ("HDRS", "e1"))
        recipient = envelope.recipients[0]
        self.assertEqual((recipient.orcpt, recipient.notify), ("rfc822;b@x", ("DELAY", "FAILURE")))

    def test_queue_ids_differ_and_sort(self) -> None:
        """Each message has its own id, later ones sort behind."""
        peer = SMTPPeer()
        peer.say(b"HELO c")
        ids = []
        for _ in range(3):
            self.message(peer, b"x")
            ids.append(peer.spool.messages[-1][0].queue_id)
            peer.advance(1)
        self.assertEqual(ids, sorted(set(ids)))

    def test_facts_for_the_authenticator(self) -> None:
        """It is told of TLS and its channel bindings."""
        peer = SMTPPeer({"mode": "submission"})
        peer.say(b"EHLO c", b"STARTTLS")
        peer.start_tls()
        peer.say(b"EHLO c", LOGIN)
        facts = peer.authenticator.facts[-1]
        self.assertEqual((facts.protocol, facts.peer), ("submission", "192.168.1.1"))
        self.assertEqual(facts.tls, "TLSv1.3 TLS_AES_256_GCM_SHA384")
        self.assertEqual(dict(facts.channel_bindings), {"tls-exporter": b"k" * 32})


class SubmittedTests(SynchronousTestCase):
    """What is done to the mail of our own users (RFC 6409 8)."""

    def submit(self, *lines: bytes, late: bool = False, sender: bytes = b"alice@example.org"):
        """Send a message as alice, and return prefix behind Received, and content."""
        peer = SMTPPeer(LOCAL, late)
        peer.say(b"EHLO c")
        peer.say(LOGIN)
        peer.say(b"MAIL FROM:<" + sender + b">", b"RCPT TO:<x@far.example>", b"DATA")
        answer = peer.say(*lines, b".")
        self.assertIn(b"250 2.0.0", answer)
        envelope, prefix, content = peer.spool.messages[0]
        self.assertEqual(envelope.account_id, "account-alice")
        received, end, added = prefix.partition(DATE + b"\r\n")
        self.assertTrue(received.startswith(b"Received: ") and end)
        return envelope, added, content

    def test_complete_mail_is_left_alone(self) -> None:
        """Nothing is added to a message that has all it needs."""
        lines = (b"Date: x", b"message-id: <1@a>", b"FROM: Alice <alice@example.org>", b"", b"y")
        for late in (False, True):
            envelope, added, content = self.submit(*lines, late=late)
            self.assertEqual((added, content), (b"", b"\r\n".join(lines) + b"\r\n"))
            self.assertEqual(envelope.message_id, "<1@a>")

    def test_missing_fields_are_added(self) -> None:
        """Date, Message-ID and From are made up for."""
        envelope, added, content = self.submit(b"Subject: x", b"", b"y")
        own_id = f"<{envelope.queue_id}@mx.example.org>"
        self.assertEqual(
            added,
            b"Date: " + DATE + b"\r\nMessage-ID: " + own_id.encode() + b"\r\n"
            b"From: alice@example.org\r\n",
        )
        self.assertEqual(envelope.message_id, own_id)
        self.assertEqual(content, b"Subject: x\r\n\r\ny\r\n")

    def test_null_reverse_path_has_the_account_as_author(self) -> None:
        """A missing From of a notification is the account's address."""
        _, added, _ = self.submit(b"Subject: x", b"", b"y", sender=b"")
        self.assertIn(b"From: alice@example.org\r\n", added)

    def test_bcc_is_taken_out(self) -> None:
        """Bcc goes with its folded lines, and with it only."""
        _, _, content = self.submit(
            b"Bcc: a@b", b"To: c@d", b"BCC : e@f,", b"\tg@h", b"Resent-Bcc: z@z", b"Cc: i@j",
            b"", b"Bcc: in the body",
        )  # fmt: skip
        self.assertEqual(content, b"To: c@d\r\nCc: i@j\r\n\r\nBcc: in the body\r\n")

    def test_message_without_header(self) -> None:
        """What has no header at all is body, and stands behind an empty line."""
        _, added, content = self.submit(b"just text, no header", b"more")
        self.assertTrue(added.endswith(b"\r\n\r\n"))
        self.assertEqual(content, b"just text, no header\r\nmore\r\n")
        _, added, content = self.submit(b"", b"body")
        self.assertEqual((added[-3:], content), (b"g\r\n", b"\r\nbody\r\n"))

    def test_empty_message(self) -> None:
        """A message of nothing gets a header."""
        _, added, content = self.submit()
        self.assertIn(b"Date: ", added)
        self.assertEqual(content, b"")

    def test_line_ends_are_mended(self) -> None:
        """LF from a program of ours becomes CRLF, also in the header."""
        _, added, content = self.submit(b"Date: x\nMessage-ID: <1@a>\nFrom: sales@example.org\n\ny")
        self.assertEqual(added, b"")
        self.assertTrue(content.endswith(b"<1@a>\r\nFrom: sales@example.org\r\n\r\ny\r\n"))

    def test_mail_without_login_is_not_touched(self) -> None:
        """Local mode completes only what an account submits."""
        peer = SMTPPeer(LOCAL)
        peer.say(b"HELO c", b"MAIL FROM:<a@b.example>", b"RCPT TO:<bob@example.org>", b"DATA")
        peer.say(b"Bcc: x", b"", b"y", b".")
        _, prefix, content = peer.spool.messages[0]
        self.assertTrue(prefix.endswith(DATE + b"\r\n"))
        self.assertEqual(content, b"Bcc: x\r\n\r\ny\r\n")
