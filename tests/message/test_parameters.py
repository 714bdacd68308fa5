"""Tests of `mailhost.message.parameters`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.message.parameters import (
    decoded,
    parameter,
    parse_disposition,
    parse_media_type,
)


class MediaTypeTests(SynchronousTestCase):
    """Content-Type (RFC 2045 5.1)."""

    def test_forms(self) -> None:
        """Case, white space, quotes, comments and missing quotes are understood."""
        for value, expected in {
            b"text/plain": (b"text", b"plain", ()),
            b"TEXT / HTML ; Charset = UTF-8": (b"text", b"html", ((b"charset", b"UTF-8"),)),
            b"text/plain; charset=us-ascii (Plain text)": (
                b"text",
                b"plain",
                ((b"charset", b"us-ascii"),),
            ),
            b'a/b; x="q;\\"z"; y=1;': (b"a", b"b", ((b"x", b'q;"z'), (b"y", b"1"))),
            b"a/b;x=;y": (b"a", b"b", ((b"x", b""),)),
            b'multipart/mixed; boundary="=_a(b)"': (
                b"multipart",
                b"mixed",
                ((b"boundary", b"=_a(b)"),),
            ),
            b"image/png; name=my file.png": (b"image", b"png", ((b"name", b"my"),)),
        }.items():
            self.assertEqual(parse_media_type(value), expected, value)

    def test_what_is_none(self) -> None:
        """No type, no subtype or garbage is None."""
        for value in (b"", b"text", b"/plain", b"text/", b";", b'"text"/plain'):
            self.assertIsNone(parse_media_type(value), value)

    def test_disposition(self) -> None:
        """Content-Disposition (RFC 2183)."""
        self.assertEqual(
            parse_disposition(b'Attachment; FileName="a b.txt"; size=3'),
            (b"attachment", ((b"filename", b"a b.txt"), (b"size", b"3"))),
        )
        self.assertIsNone(parse_disposition(b" ;filename=x"))

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"a/b",
                    b";",
                    b"=",
                    b'"',
                    b"\\",
                    b" ",
                    b"x",
                    b"(",
                    b")",
                    b"*0",
                    b"*",
                    b"'",
                    b"%C3",
                    b"\xff",
                    b"\n",
                ]
            )
        ).map(b"".join)
    )
    def test_any_value_is_read(self, value: bytes) -> None:
        """Nothing raises, and names are lower case."""
        media = parse_media_type(b"a/b;" + value)
        assert media is not None
        for name, _ in media[2]:
            self.assertEqual(name, name.lower())
            decoded(media[2], name)

    def test_hostile_values_end_soon(self) -> None:
        """Long values take linear time (R-27)."""
        for value in (
            b"a/b" + b";" * 500_000,
            b'a/b;x="' + b"\\a" * 300_000,
            b"a/b;x=" * 100_000,
            b"a/b;x " * 100_000,
            b"a/b" + b"(" * 500_000,
            b"a/b;" + b" " * 500_000,
        ):
            parse_media_type(value)


class Rfc2231Tests(SynchronousTestCase):
    """Continued and encoded parameters."""

    def text(self, value: bytes) -> str | None:
        media = parse_media_type(b"a/b; " + value)
        assert media is not None
        return decoded(media[2], b"name")

    def test_examples_of_the_rfc(self) -> None:
        """RFC 2231 3, 4 and 4.1."""
        self.assertEqual(self.text(b'name*0="ftp://"; name*1="cs.utk.edu/x"'), "ftp://cs.utk.edu/x")
        self.assertEqual(
            self.text(b"name*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A"),
            "This is ***fun***",
        )
        self.assertEqual(
            self.text(
                b"name*0*=us-ascii'en'This%20is%20even%20more%20;\r\n"
                b' name*1*=%2A%2A%2Afun%2A%2A%2A%20; name*2="isn\'t it!"'
            ),
            "This is even more ***fun*** isn't it!",
        )

    def test_order_gaps_and_garbage(self) -> None:
        """Pieces count by number up to the first gap; garbage stays harmless (R-27)."""
        self.assertEqual(self.text(b"name*1=b; name*0=a; name*5=z"), "ab")
        self.assertEqual(self.text(b"name*5=z; name=plain"), "plain")
        self.assertEqual(self.text(b"name*=utf-8''%C3%A4%zz%"), "ä%zz%")
        self.assertEqual(self.text(b"name*=rot13''uryyb"), "uryyb")
        self.assertEqual(self.text(b"name*=utf-8''a%0D%0Ab%00"), "a b ")
        self.assertIsNone(self.text(b"other=x"))

    def test_the_encoded_form_wins(self) -> None:
        """One canonical value when both forms stand there."""
        self.assertEqual(self.text(b"name=plain.txt; name*=utf-8''r%C3%A4t.txt"), "rät.txt")
        self.assertEqual(self.text(b'name="=?utf-8?q?r=C3=A4t?="'), "rät")
        self.assertEqual(parameter(((b"a", b"1"), (b"a", b"2")), b"a"), b"1")
