"""Tests of `mailhost.message.trace` and `mailhost.message.dsn`."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.address import Address
from mailhost.message.dsn import Original, ReportedRecipient, report
from mailhost.message.headers import Header
from mailhost.message.trace import (
    count_received,
    delivered_to,
    is_delivered_to,
    received,
    return_path,
    safe_text,
)
from mailhost.reply import Action, DeliveryStatus

HOSTILE = st.text(
    st.sampled_from('a1 ()\\<>;:"\r\n\t\0\u2028\u0085ä-.') | st.characters(codec="utf-8"),
    max_size=40,
)
ALICE = Address.parse("alice@example.org")
BOB = Address.parse("bob@example.net")


class TraceTests(SynchronousTestCase):
    """Received, Return-Path, Delivered-To."""

    def test_received(self) -> None:
        """All facts in the order of RFC 5321 4.4."""
        field = received(
            helo="mx.example.org",
            peer="192.0.2.1",
            host="mail.example.net",
            protocol="ESMTPS",
            queue_id="abc",
            now=1704065400,
            tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
            forward_path=BOB,
            reverse_name="mx.example.org",
            zone=60,
        )
        self.assertEqual(
            field,
            b"Received: from mx.example.org (mx.example.org [192.0.2.1])\r\n"
            b"\t(using TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
            b"\tby mail.example.net (mailhost) with ESMTPS\r\n"
            b"\tid abc\r\n"
            b"\tfor <bob@example.net>;\r\n"
            b"\tMon, 1 Jan 2024 00:30:00 +0100\r\n",
        )

    def test_ipv6_and_odd_names(self) -> None:
        """An IPv6 peer has its tag; a greeting that is no name goes into the comment."""
        field = received(
            helo="my pc (x)", peer="2001:db8::1", host="h", protocol="SMTP", queue_id="q", now=0
        )
        self.assertTrue(
            field.startswith(b"Received: from unknown ([IPv6:2001:db8::1] helo my pc ?x?)\r\n"),
            field,
        )

    @settings(max_examples=150, deadline=None)
    @given(HOSTILE, HOSTILE, HOSTILE)
    def test_nothing_can_be_injected(self, helo: str, tls: str, name: str) -> None:
        """Whatever a peer says, the block has one field, and comments stay balanced (R-33)."""
        field = received(
            helo=helo,
            peer="192.0.2.1",
            host="h",
            protocol="ESMTP",
            queue_id="q",
            now=0,
            tls=tls,
            reverse_name=name,
        )
        fields = Header(field + b"\r\n").fields
        self.assertEqual(len(fields), 1)
        self.assertEqual(fields[0][3], len(field))
        self.assertEqual(field.count(b"("), field.count(b")"))
        for line in field.split(b"\r\n")[1:-1]:
            self.assertTrue(line.startswith(b"\t"))
        self.assertNotIn(b"\0", field)

    def test_paths(self) -> None:
        """The null reverse-path is <>; local parts are quoted as needed."""
        self.assertEqual(return_path(None), b"Return-Path: <>\r\n")
        self.assertEqual(return_path(Address("a b", "c.d")), b'Return-Path: <"a b"@c.d>\r\n')
        self.assertEqual(delivered_to(BOB), b"Delivered-To: bob@example.net\r\n")

    def test_loops_are_seen(self) -> None:
        """Received fields are counted, Delivered-To is found again (R-13)."""
        block = b"Received: a\r\nRECEIVED : b\r\nX-Received: c\r\nSubject: x\r\n received: y\r\n"
        self.assertEqual(count_received(block), 2)
        self.assertTrue(is_delivered_to(delivered_to(BOB), Address.parse("BOB@example.net")))
        self.assertFalse(is_delivered_to(delivered_to(BOB), ALICE))

    def test_safe_text(self) -> None:
        """Line ends of every kind become one space, length is bounded."""
        self.assertEqual(safe_text("a\r\n\u2028\x85b\0"), "a b")
        self.assertEqual(safe_text("x" * 500, 10), "x" * 10)


def failure(diagnostic: str = "550 5.1.1 no such user") -> ReportedRecipient:
    return ReportedRecipient(
        BOB,
        DeliveryStatus(Action.FAILED, "5.1.1", diagnostic, "mx.example.net", 550),
        "rfc822;Bob+2Bx@example.net",
        1704065400,
    )


def build(
    *recipients: ReportedRecipient, to: Address = ALICE, content: bytes = b"", **facts: str
) -> bytes:
    original = Original(
        "q1",
        1704065000,
        content or b"Subject: hi\r\nFrom: x\r\n\r\nbody\r\n",
        **facts,  # type: ignore[arg-type]
    )
    return report(
        host="mail.example.org",
        to=to,
        recipients=recipients,
        original=original,
        now=1704065400,
        unique="u1",
    )


def parts(octets: bytes) -> list[Message]:
    message = message_from_bytes(octets)
    payload = message.get_payload()
    assert isinstance(payload, list)
    return payload


class ReportTests(SynchronousTestCase):
    """RFC 3464."""

    def test_failure(self) -> None:
        """A failure has plain words, the facts and the header of the original."""
        octets = build(failure(), envid="QQ+2B1", ret="HDRS")
        message = message_from_bytes(octets)
        self.assertEqual(message["Auto-Submitted"], "auto-replied")
        self.assertEqual(message["To"], "<alice@example.org>")
        self.assertEqual(message.get_content_type(), "multipart/report")
        self.assertEqual(message.get_param("report-type"), "delivery-status")
        words, facts, returned = parts(octets)
        self.assertIn("could not be delivered", str(words.get_payload()))
        self.assertIn("550 5.1.1 no such user", str(words.get_payload()))
        per_message, per_recipient = facts.get_payload()  # type: ignore[misc]
        self.assertEqual(per_message["Reporting-MTA"], "dns; mail.example.org")
        self.assertEqual(per_message["Original-Envelope-Id"], "QQ+1")
        self.assertEqual(
            dict(per_recipient.items()),
            {
                "Original-Recipient": "rfc822; Bob+x@example.net",
                "Final-Recipient": "rfc822; bob@example.net",
                "Action": "failed",
                "Status": "5.1.1",
                "Remote-MTA": "dns; mx.example.net",
                "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
                "Last-Attempt-Date": "Sun, 31 Dec 2023 23:30:00 +0000",
            },
        )
        self.assertEqual(returned.get_content_type(), "text/rfc822-headers")
        self.assertNotIn("body", str(returned.get_payload()))

    def test_delay(self) -> None:
        """A delay says that nothing need be done, and until when it is tried."""
        octets = build(
            ReportedRecipient(
                BOB, DeliveryStatus(Action.DELAYED, "4.4.1", "timed out"), retry_until=1704465400
            )
        )
        words, facts, _ = parts(octets)
        self.assertIn("keeps trying", str(words.get_payload()))
        self.assertIn("Trying until Fri, 5 Jan 2024", str(words.get_payload()))
        fields = facts.get_payload()[1]  # type: ignore[index]
        self.assertEqual((fields["Action"], fields["Status"]), ("delayed", "4.4.1"))
        self.assertEqual(fields["Will-Retry-Until"], "Fri, 5 Jan 2024 14:36:40 +0000")
        self.assertEqual(fields["Diagnostic-Code"], "x-mailhost; timed out")

    def test_ret_full_returns_the_message(self) -> None:
        """RET=FULL gives the whole message back, unless it is large or incomplete."""
        content = b"Subject: hi\r\n\r\nbody\r\n"
        returned = parts(build(failure(), content=content, ret="FULL"))[2]
        self.assertEqual(returned.get_content_type(), "message/rfc822")
        self.assertIn(b"body", returned.as_bytes())
        large = build(failure(), content=content + b"x" * 60_000, ret="FULL")
        self.assertEqual(parts(large)[2].get_content_type(), "text/rfc822-headers")

    def test_a_status_of_the_wrong_class_is_replaced(self) -> None:
        """The status has the class of the action (RFC 3464 2.3.4)."""
        octets = build(ReportedRecipient(BOB, DeliveryStatus(Action.FAILED, "2.0.0", "odd")))
        self.assertIn(b"\r\nStatus: 5.0.0\r\n", octets)
        octets = build(ReportedRecipient(BOB, DeliveryStatus(Action.FAILED, "4.4.7", "too old")))
        self.assertIn(b"\r\nStatus: 4.4.7\r\n", octets)

    def test_internationalised(self) -> None:
        """Addresses beyond ASCII need the types of RFC 6533."""
        address = Address("jörg", "example.net")
        octets = build(ReportedRecipient(address, DeliveryStatus(Action.FAILED, "5.1.1", "nö")))
        self.assertIn(b"Content-Type: message/global-delivery-status\r\n", octets)
        self.assertIn("Final-Recipient: utf-8; jörg@example.net\r\n".encode(), octets)
        octets = build(failure(), content="Subject: ä\r\n\r\n".encode())
        self.assertIn(b"Content-Type: message/global-headers\r\n", octets)
        self.assertIn(b"Content-Transfer-Encoding: 8bit\r\n", octets)

    @settings(max_examples=150, deadline=None)
    @given(HOSTILE, HOSTILE, HOSTILE, st.binary(max_size=80))
    def test_nothing_can_be_injected(
        self, diagnostic: str, mta: str, orcpt: str, content: bytes
    ) -> None:
        """Three parts, one group of fields a recipient, CRLF only, no long line (R-33)."""
        recipient = ReportedRecipient(
            BOB, DeliveryStatus(Action.FAILED, "5.0.0", diagnostic * 50, mta, 550), orcpt
        )
        octets = build(recipient, content=b"A: b\r\n" + content, envid=orcpt)
        self.assertNotIn(b"\0", octets)
        self.assertEqual(octets.count(b"\r\n"), octets.count(b"\n"))
        self.assertEqual(octets.count(b"\r\n"), octets.count(b"\r"))
        self.assertLessEqual(max(map(len, octets.split(b"\r\n"))), 998)
        pieces = octets.split(b"\r\n--=_u1")
        self.assertEqual(len(pieces), 5)
        facts = pieces[2].split(b"\r\n\r\n", 1)[1]
        blocks = [Header(block + b"\r\n\r\n").fields for block in facts.strip().split(b"\r\n\r\n")]
        self.assertEqual(len(blocks), 2)
        self.assertTrue(
            {name for name, *_ in blocks[1]}
            <= {
                b"original-recipient",
                b"final-recipient",
                b"action",
                b"status",
                b"remote-mta",
                b"diagnostic-code",
            }
        )

    def test_the_boundary_is_not_in_the_content(self) -> None:
        """A returned message that contains the boundary does not end the part."""
        octets = build(failure(), content=b"A: b\r\n\r\n--=_u1\r\nX: y\r\n\r\n", ret="FULL")
        self.assertEqual(len(parts(octets)), 3)
