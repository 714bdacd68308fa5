"""Tests of `mailhost.message.envelope` and `mailhost.message.body_structure`."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.message.body_structure import structures
from mailhost.message.envelope import envelope, nstring, string
from mailhost.message.headers import Header
from mailhost.message.mime import parse

# The message of RFC 3501 8.
WG_SUMMARY = (
    b"Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n"
    b"From: Terry Gray <gray@cac.washington.edu>\r\n"
    b"Subject: IMAP4rev1 WG mtg summary and minutes\r\n"
    b"To: imap@cac.washington.edu\r\n"
    b"cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n"
    b"Message-Id: <B27397-0100000@cac.washington.edu>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n"
    b"\r\n" + (b"x" * 30 + b"\r\n") * 91 + b"x" * (3028 - 32 * 91 - 2) + b"\r\n"
)


def both(octets: bytes) -> tuple[bytes, bytes]:
    return structures(octets, parse(octets))


class StringTests(SynchronousTestCase):
    """nstring (RFC 9051 9)."""

    def test_forms(self) -> None:
        """NIL, empty, quoted, escaped, literal; NUL never comes out."""
        for value, encoded in {
            None: b"NIL",
            b"": b'""',
            b"a\tb": b'"a\tb"',
            b'a"b\\c': b'"a\\"b\\\\c"',
            b"a\r\nb": b"{4}\r\na\r\nb",
            b"\xc3\xa4": b"{2}\r\n\xc3\xa4",
            b"a\0b": b"{3}\r\na?b",
        }.items():
            self.assertEqual(nstring(value), encoded)


class EnvelopeTests(SynchronousTestCase):
    """ENVELOPE (RFC 3501 7.4.2)."""

    def test_example_of_the_rfc(self) -> None:
        """The envelope of RFC 3501 8, octet for octet."""
        self.assertEqual(
            envelope(Header(WG_SUMMARY)),
            b'("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" "IMAP4rev1 WG mtg summary and minutes" '
            b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
            b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
            b'(("Terry Gray" NIL "gray" "cac.washington.edu")) '
            b'((NIL NIL "imap" "cac.washington.edu")) '
            b'((NIL NIL "minutes" "CNRI.Reston.VA.US")'
            b'("John Klensin" NIL "KLENSIN" "MIT.EDU")) NIL NIL '
            b'"<B27397-0100000@cac.washington.edu>")',
        )

    def test_absent_is_nil_and_empty_is_empty(self) -> None:
        """Texts tell absent from empty, address lists do not; From stands in for the others."""
        self.assertEqual(envelope(Header(b"\r\n")), b"(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)")
        self.assertEqual(
            envelope(
                Header(
                    b"Subject:\r\nDate: \r\nTo:\r\nIn-Reply-To:\r\nMessage-ID:\r\n"
                    b"From: a@b\r\nSender:\r\nReply-To: c@d\r\n\r\n"
                )
            ),
            b'("" "" ((NIL NIL "a" "b")) ((NIL NIL "a" "b")) ((NIL NIL "c" "d")) '
            b'NIL NIL NIL "" "")',
        )

    def test_groups(self) -> None:
        """A group is framed by entries without host (RFC 3501 7.4.2)."""
        self.assertIn(
            b'((NIL NIL "G" NIL)(NIL NIL "a" "b")(NIL NIL NIL NIL))',
            envelope(Header(b"To: G: a@b;\r\n\r\n")),
        )

    def test_raw_values(self) -> None:
        """Encoded words stay, folds go, 8-bit octets become a literal."""
        shown = envelope(
            Header(b"Subject: =?utf-8?q?=C3=A4?=\r\n =?utf-8?q?b?=\r\nFrom: \xe4\xf6 <a@b>\r\n\r\n")
        )
        self.assertIn(b'"=?utf-8?q?=C3=A4?= =?utf-8?q?b?="', shown)
        self.assertIn(b'(({2}\r\n\xe4\xf6 NIL "a" "b"))', shown)


class BodyStructureTests(SynchronousTestCase):
    """BODY and BODYSTRUCTURE (RFC 3501 7.4.2)."""

    def test_example_of_the_rfc(self) -> None:
        """BODY of the message of RFC 3501 8, octet for octet."""
        self.assertEqual(
            both(WG_SUMMARY)[0],
            b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 3028 92)',
        )

    def test_multipart_example_of_the_rfc(self) -> None:
        """The two-part BODY of RFC 3501 7.4.2, octet for octet."""
        text = b"x" * (1152 - 46) + b"\r\n" * 23
        script = b"y" * (4554 - 146) + b"\r\n" * 73
        octets = (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
            + text
            + b"\r\n--b\r\nContent-Type: text/plain; charset=US-ASCII; name=cc.diff\r\n"
            b"Content-ID: <960723163407.20117h@cac.washington.edu>\r\n"
            b"Content-Description: Compiler diff\r\n"
            b"Content-Transfer-Encoding: BASE64\r\n\r\n" + script + b"\r\n--b--\r\n"
        )
        self.assertEqual(
            both(octets)[0],
            b'(("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1152 23)'
            b'("TEXT" "PLAIN" ("CHARSET" "US-ASCII" "NAME" "cc.diff")'
            b' "<960723163407.20117h@cac.washington.edu>" "Compiler diff" "BASE64" 4554 73)'
            b' "MIXED")',
        )

    def test_extension_data(self) -> None:
        """MD5, disposition, language and location follow in that order."""
        octets = (
            b"Content-Type: image/png\r\nContent-MD5: abc=\r\nContent-Location: http://x/\r\n"
            b'Content-Disposition: attachment; filename="a.png"\r\n'
            b"Content-Language: de, en\r\nContent-Transfer-Encoding: Base64\r\n\r\nAAAA"
        )
        self.assertEqual(
            both(octets),
            (
                b'("IMAGE" "PNG" NIL NIL NIL "BASE64" 4)',
                b'("IMAGE" "PNG" NIL NIL NIL "BASE64" 4 "abc=" '
                b'("ATTACHMENT" ("FILENAME" "a.png")) ("de" "en") "http://x/")',
            ),
        )

    def test_enclosed_message(self) -> None:
        """A message/rfc822 part shows envelope, structure and lines of what is in it."""
        inner = b"Subject: in\r\nContent-Type: text/html\r\n\r\nx\r\n"
        octets = b"Content-Type: message/rfc822\r\n\r\n" + inner
        body, structure = both(octets)
        self.assertEqual(
            body,
            b'("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 43 '
            b'(NIL "in" NIL NIL NIL NIL NIL NIL NIL NIL) '
            b'("TEXT" "HTML" NIL NIL NIL "7BIT" 3 1) 4)',
        )
        self.assertTrue(structure.endswith(b'"7BIT" 3 1 NIL NIL NIL NIL) 4 NIL NIL NIL NIL)'))

    def test_multipart_extension(self) -> None:
        """A multipart shows its parameters only in BODYSTRUCTURE."""
        octets = b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--"
        self.assertEqual(
            both(octets)[1],
            b'(("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1 0 NIL NIL NIL NIL) '
            b'"ALTERNATIVE" ("BOUNDARY" "b") NIL NIL NIL)',
        )

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"Content-Type: multipart/mixed; boundary=b\r\n",
                    b"Content-Type: message/rfc822\r\n",
                    b'Content-Disposition: x; a="(\\"\r\n',
                    b"Subject: \xff (\r\n",
                    b"From: a (b\r\n",
                    b"\r\n",
                    b"--b\r\n",
                    b"--b--\r\n",
                ]
            )
            | st.binary(max_size=10),
            max_size=25,
        ).map(b"".join)
    )
    def test_parentheses_always_match(self, octets: bytes) -> None:
        """A client's parser finds one list, and literals of the right size."""
        for shown in (*both(octets), envelope(Header(octets))):
            depth, position = 0, 0
            while position < len(shown):
                token = re.compile(
                    rb'"(?:[^"\\\r\n]|\\["\\])*"|\{([0-9]+)\}\r\n|[()]|[A-Z0-9]+| '
                ).match(shown, position)
                self.assertIsNotNone(token, shown[position:])
                assert token is not None
                position = token.end() + int(token[1] or 0)
                depth += {b"(": 1, b")": -1}.get(token[0], 0)
                self.assertTrue(depth > 0 or position == len(shown))
            self.assertEqual((depth, position), (0, len(shown)))

    def test_tokens_are_quoted(self) -> None:
        """A hostile subtype cannot break the syntax."""
        self.assertEqual(string(b'"'), b'"\\""')
        self.assertIn(b"{3}\r\nX\xff!", both(b"Content-Type: a/x\xff!\r\n\r\n")[0])
