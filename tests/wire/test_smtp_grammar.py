"""Arguments of commands: what the transcripts do not reach."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.address import Address
from mailhost.errors import SyntaxFault
from mailhost.wire.smtp_grammar import (
    MailArguments,
    RcptArguments,
    parse_bdat,
    parse_ehlo,
    parse_mail,
    parse_rcpt,
)

POSTMASTER = Address("postmaster", "mx.example.org")
paths = st.lists(
    st.sampled_from(
        [b"FROM:", b"TO:", b"<", b">", b"a", b"@", b"b.c", b'"', b"\\", b" ", b"[", b"]", b"SIZE=1",
         b"BODY=8BITMIME", b"SMTPUTF8", b"=", b"NOTIFY=NEVER", b"\xc3\xbc", b"\xff", b":", b",",
         b"\0"]
    ),
    max_size=14,
).map(b"".join)  # fmt: skip


class GrammarTests(SynchronousTestCase):
    """Values out of octets."""

    def test_values(self) -> None:
        """What the parameters say stands in the value."""
        self.assertEqual(
            parse_mail(b"FROM:<a@B.example>  SIZE=12  body=8bitmime RET=full ENVID=x SMTPUTF8"),
            MailArguments(Address("a", "b.example"), 12, "8BITMIME", True, "FULL", "x"),
        )
        self.assertEqual(
            parse_rcpt(b"to:<@x.y:a@b.example> NOTIFY=failure ORCPT=rfc822;a", False, POSTMASTER),
            RcptArguments(Address("a", "b.example"), "rfc822;a", ("FAILURE",)),
        )
        self.assertEqual(parse_rcpt(b"TO:<POSTMASTER>", False, POSTMASTER).forward_path, POSTMASTER)

    def test_ehlo(self) -> None:
        """Names and literals, underscores too; nothing that could harm a log or a field."""
        for name in (b"c", b"a-b.c_d.", b"[192.0.2.1]", b"[IPv6:2001:db8::1]", b" c "):
            self.assertEqual(parse_ehlo(name).encode(), name.strip())
        for name in (b"", b"a b", b"a(b)", b"<a>", b"a\0", b"\xc3\xbc", b"a\r", b"[]", b"x" * 256):
            self.assertRaises(SyntaxFault, parse_ehlo, name)

    @given(paths)
    @settings(max_examples=200, deadline=None)
    def test_any_octets_are_a_value_or_a_fault(self, argument: bytes) -> None:
        """Nothing but SyntaxFault is raised, and every path that results can be written again."""
        for parse in (
            parse_mail,
            lambda octets: parse_rcpt(octets, True, POSTMASTER),
            lambda octets: parse_rcpt(octets, False, POSTMASTER),
            parse_bdat,
            parse_ehlo,
        ):
            try:
                value = parse(argument)
            except SyntaxFault:
                continue
            path = getattr(value, "forward_path", None) or getattr(value, "reverse_path", None)
            if path is not None:
                self.assertEqual(Address.parse(str(path)), path)
