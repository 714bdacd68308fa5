"""Tests of `mailhost.message.addresses`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.message.addresses import GROUP_END, MAX_ADDRESSES, Mailbox, _Parser, parse_addresses


def box(mailbox: bytes, host: bytes | None, name: bytes | None = None) -> Mailbox:
    return Mailbox(name, None, mailbox, host)


# Forms from RFC 5322 A.1, A.5 and A.6.
EXAMPLES: dict[bytes, list[Mailbox]] = {
    b"John Doe <jdoe@machine.example>": [box(b"jdoe", b"machine.example", b"John Doe")],
    b'"Joe Q. Public" <john.q.public@example.com>': [
        box(b"john.q.public", b"example.com", b"Joe Q. Public")
    ],
    b"Mary Smith <mary@x.test>, jdoe@example.org, Who? <one@y.test>": [
        box(b"mary", b"x.test", b"Mary Smith"),
        box(b"jdoe", b"example.org"),
        box(b"one", b"y.test", b"Who?"),
    ],
    b'<boss@nil.test>, "Giant; \\"Big\\" Box" <sysservices@example.net>': [
        box(b"boss", b"nil.test"),
        box(b"sysservices", b"example.net", b'Giant; "Big" Box'),
    ],
    b"A Group:Ed Jones <joe@where.test>,joe@where.test,John <jdoe@one.test>;": [
        box(b"A Group", None),
        box(b"joe", b"where.test", b"Ed Jones"),
        box(b"joe", b"where.test"),
        box(b"jdoe", b"one.test", b"John"),
        GROUP_END,
    ],
    b"Undisclosed recipients:;": [box(b"Undisclosed recipients", None), GROUP_END],
    b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>": [
        box(b"pete", b"silly.test", b"Pete")
    ],
    b"Joe Q. Public <john.q.public@example.com>": [
        box(b"john.q.public", b"example.com", b"Joe Q. Public")
    ],
    b"Mary Smith <@node.test,@b.test:mary@example.net>, , jdoe@test  . example": [
        Mailbox(b"Mary Smith", b"@node.test,@b.test", b"mary", b"example.net"),
        box(b"jdoe", b"test.example"),
    ],
    b"john . doe @ example . net": [box(b"john.doe", b"example.net")],
    b"jdoe@example.org (John Doe)": [box(b"jdoe", b"example.org", b"John Doe")],
    b'"quoted local"@example.org': [box(b"quoted local", b"example.org")],
    b"x@[192.0.2.1]": [box(b"x", b"[192.0.2.1]")],
    # Faults that are seen.
    b"a@b.c; d@e.f": [box(b"a", b"b.c"), box(b"d", b"e.f")],
    b"John Doe john@example.org": [box(b"john", b"example.org", b"John Doe")],
    b"<a@b.c, d@e.f": [box(b"a", b"b.c"), box(b"d", b"e.f")],
    b"nobody": [box(b"nobody", b"")],
    b"<>": [box(b"", b"")],
    b"": [],
    b" , ,": [],
    b"(only a comment)": [],
    b'"unended': [box(b"unended", b"")],
}


class AddressTests(SynchronousTestCase):
    """What a field means."""

    def test_examples(self) -> None:
        """Each form is understood."""
        for value, entries in EXAMPLES.items():
            self.assertEqual(parse_addresses(value), entries, value)

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"a",
                    b"b.c",
                    b"@",
                    b"<",
                    b">",
                    b",",
                    b";",
                    b":",
                    b'"',
                    b"(",
                    b")",
                    b"\\",
                    b" ",
                    b"[",
                    b"]",
                    b"a@b.c",
                    b"N <x@y.z>",
                    b'"q" <x@y>',
                    b"\xc3\xa4",
                    b"=?utf-8?q?a?=",
                ]
            ),
            max_size=20,
        ).map(b"".join)
    )
    def test_the_short_way_agrees_with_the_long_one(self, value: bytes) -> None:
        """The fast expressions and the general parser give the same for any field."""
        self.assertEqual(parse_addresses(value), _Parser(value).parse())

    def test_limits(self) -> None:
        """A million addresses, deep comments and endless routes end soon (R-26)."""
        self.assertEqual(len(parse_addresses(b"a@b.c," * 1_000_000)), MAX_ADDRESSES)
        self.assertLessEqual(len(parse_addresses(b"g:a@b;" * 100_000)), MAX_ADDRESSES + 1)
        for value in (
            b"(" * 10_000 + b")" * 9_000,
            b"(" * 300_000,
            b"(a\\",
            b'"\\',
            b"<" + b"@a," * 100_000,
            b"a " * 100_000 + b"@" + b":" * 100_000,
            b"a." * 100_000 + b"@b",
            b'"' + b'\\"' * 200_000,
            b"[" * 200_000,
            b"a <" * 100_000,
            b" " * 200_000 + b"x" + b" " * 200_000 + b"<",
        ):
            parse_addresses(value)
