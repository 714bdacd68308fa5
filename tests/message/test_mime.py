"""Tests of `mailhost.message.mime`."""

from __future__ import annotations

import mmap

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.message.mime import (
    MAX_DEPTH,
    MAX_PARTS,
    Part,
    Text,
    has_bare_lf,
    parse,
    to_crlf,
)

# The structure of the example in RFC 3501 6.4.5.
NUMBERED = b"""\
Subject: outer
Content-Type: multipart/mixed; boundary=outer

preamble
--outer
Content-Type: text/plain

one
--outer
Content-Type: application/octet-stream

two
--outer
Content-Type: message/rfc822

Subject: three
Content-Type: multipart/mixed; boundary=three

--three

three.one
--three
Content-Type: application/octet-stream

three.two
--three--

--outer
Content-Type: multipart/mixed; boundary=four

--four
Content-Type: image/gif
Content-ID: <gif>

four.one
--four
Content-Type: message/rfc822

Subject: four.two
Content-Type: multipart/mixed; boundary=fourtwo

--fourtwo

four.two.one
--fourtwo
Content-Type: multipart/alternative; boundary=deep

--deep

four.two.two.one
--deep
Content-Type: text/richtext

four.two.two.two
--deep--
--fourtwo--
--four--
--outer--
epilogue
""".replace(b"\n", b"\r\n")


def slice_of(octets: bytes, path: tuple[int, ...], text: Text = Text.BODY) -> bytes | None:
    found = parse(octets).section(path, text)
    return None if found is None else octets[found[0] : found[1]]


def multipart(boundary: str, *parts: str, subtype: str = "mixed") -> str:
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    return (
        f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n{body}--{boundary}--\r\n'
    )


def walk(part: Part) -> list[Part]:
    found, waiting = [], [part]
    while waiting:
        part = waiting.pop()
        found.append(part)
        waiting += part.children
        if part.message is not None:
            waiting.append(part.message)
    return found


class NumberingTests(SynchronousTestCase):
    """RFC 3501 6.4.5."""

    def test_numbered_parts_of_the_rfc_example(self) -> None:
        """Each number of the example names its part."""
        for path, content in {
            (1,): b"one",
            (2,): b"two",
            (3, 1): b"three.one",
            (3, 2): b"three.two",
            (4, 1): b"four.one",
            (4, 2, 1): b"four.two.one",
            (4, 2, 2, 1): b"four.two.two.one",
            (4, 2, 2, 2): b"four.two.two.two",
        }.items():
            self.assertEqual(slice_of(NUMBERED, path), content, path)

    def test_sections_of_enclosed_messages(self) -> None:
        """HEADER and TEXT of a message/rfc822 part are those of the message in it."""
        self.assertEqual(
            slice_of(NUMBERED, (3,), Text.HEADER),
            b"Subject: three\r\nContent-Type: multipart/mixed; boundary=three\r\n\r\n",
        )
        text = slice_of(NUMBERED, (3,), Text.TEXT)
        assert text is not None
        self.assertTrue(text.startswith(b"--three\r\n") and text.endswith(b"--three--\r\n"))
        self.assertTrue((slice_of(NUMBERED, (4, 2), Text.HEADER) or b"").startswith(b"Subject: f"))

    def test_mime_is_the_header_of_the_part(self) -> None:
        """MIME gives the part's own header with its empty line."""
        self.assertEqual(
            slice_of(NUMBERED, (4, 1), Text.MIME),
            b"Content-Type: image/gif\r\nContent-ID: <gif>\r\n\r\n",
        )
        self.assertIsNone(slice_of(NUMBERED, (), Text.MIME))

    def test_whole_message_sections(self) -> None:
        """The empty path is the whole message, its header and its text."""
        self.assertEqual(slice_of(NUMBERED, ()), NUMBERED)
        header, text = slice_of(NUMBERED, (), Text.HEADER), slice_of(NUMBERED, (), Text.TEXT)
        self.assertEqual((header or b"") + (text or b""), NUMBERED)
        self.assertTrue((text or b"").startswith(b"preamble"))

    def test_sections_that_do_not_exist(self) -> None:
        """Numbers beyond the parts, and HEADER of what is no message, are None."""
        for path in ((5,), (0,), (1, 1), (3, 3), (4, 2, 2, 3), (4, 1, 1)):
            self.assertIsNone(slice_of(NUMBERED, path), path)
        for path in ((1,), (4,), (4, 1)):
            self.assertIsNone(slice_of(NUMBERED, path, Text.HEADER), path)
            self.assertIsNone(slice_of(NUMBERED, path, Text.TEXT), path)

    def test_a_message_without_parts_is_its_own_part_1(self) -> None:
        """BODY[1] of a plain message is its body, BODY[1.1] is nothing."""
        plain = b"Subject: x\r\n\r\nbody\r\n"
        self.assertEqual(slice_of(plain, (1,)), b"body\r\n")
        self.assertEqual(slice_of(plain, (1,), Text.MIME), b"Subject: x\r\n\r\n")
        self.assertIsNone(slice_of(plain, (1, 1)))
        self.assertIsNone(slice_of(plain, (2,)))

    def test_a_message_that_is_a_message(self) -> None:
        """Part 1 of a message/rfc822 message is the enclosed message, 1.1 its body."""
        octets = b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner body"
        self.assertEqual(slice_of(octets, (1,)), b"Subject: inner\r\n\r\ninner body")
        self.assertEqual(slice_of(octets, (1,), Text.HEADER), b"Subject: inner\r\n\r\n")
        self.assertEqual(slice_of(octets, (1, 1)), b"inner body")


class StructureTests(SynchronousTestCase):
    """What octets become."""

    def test_line_ends_of_either_kind_give_the_same_tree(self) -> None:
        """A file with bare LF has the same parts, and becomes the other by `to_crlf`."""
        bare = NUMBERED.replace(b"\r\n", b"\n")
        self.assertEqual(slice_of(bare, (4, 2, 2, 1)), b"four.two.two.one")
        self.assertEqual(to_crlf(bare), NUMBERED)
        self.assertTrue(has_bare_lf(bare) and not has_bare_lf(NUMBERED))

    def test_a_mapped_file_gives_the_same_tree(self) -> None:
        """Octets may be a memory map."""
        path = self.mktemp()
        with open(path, "wb+") as file:
            file.write(NUMBERED)
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                self.assertEqual(parse(mapped), parse(NUMBERED))
                self.assertFalse(has_bare_lf(mapped))

    def test_defaults(self) -> None:
        """No Content-Type, or one that is none, means text/plain in US-ASCII (RFC 2045 5.2)."""
        for field in (
            b"",
            b"Content-Type: text\r\n",
            b"Content-Type:\r\n",
            b"Content-Type: ;;\r\n",
        ):
            part = parse(field + b"\r\nx\r\ny\r\n")
            self.assertEqual((part.type, part.subtype), (b"text", b"plain"), field)
            self.assertEqual(part.params, ((b"charset", b"US-ASCII"),))
            self.assertEqual((part.encoding, part.lines, part.size), (b"7bit", 2, 6))

    def test_parts_of_a_digest_are_messages(self) -> None:
        """The default type inside multipart/digest is message/rfc822 (RFC 2046 5.1.5)."""
        octets = multipart("b", "\r\nSubject: one\r\n\r\nbody", subtype="digest").encode()
        part = parse(octets).children[0]
        self.assertEqual((part.type, part.subtype), (b"message", b"rfc822"))
        self.assertEqual(slice_of(octets, (1, 1)), b"body")

    def test_an_outer_boundary_ends_the_inner_parts(self) -> None:
        """A multipart that never ends stops where its container goes on (RFC 2046 5.1.2)."""
        inner = 'Content-Type: multipart/mixed; boundary="in"\r\n\r\n--in\r\n\r\na'
        octets = multipart("out", inner, "\r\nb").encode()
        root = parse(octets)
        self.assertEqual(len(root.children), 2)
        self.assertEqual(slice_of(octets, (1, 1)), b"a")
        self.assertEqual(slice_of(octets, (2,)), b"b")

    def test_a_boundary_is_a_whole_line(self) -> None:
        """A line that only begins with the boundary is content; white space behind it is not."""
        octets = multipart("b", "\r\na\r\n--bc\r\n--b--x\r\nz").encode()
        self.assertEqual(slice_of(octets, (1,)), b"a\r\n--bc\r\n--b--x\r\nz")
        spaced = octets.replace(b"\r\n--b\r\n", b"\r\n--b \t\r\n").replace(
            b"--b--\r\n", b"--b-- \r\n"
        )
        self.assertEqual(slice_of(spaced, (1,)), b"a\r\n--bc\r\n--b--x\r\nz")

    def test_broken_multiparts_are_text(self) -> None:
        """Without a boundary that occurs the body is shown as text (R-24)."""
        long = "x" * 10_000
        for boundary in ("", '; boundary=""', f'; boundary="{long}"', "; boundary=other"):
            octets = f"Content-Type: multipart/mixed{boundary}\r\n\r\n--b\r\n\r\nx".encode()
            part = parse(octets)
            self.assertEqual((part.type, part.subtype, part.children), (b"text", b"plain", ()))

    def test_a_missing_end_is_the_end_of_the_message(self) -> None:
        """The last part runs to the end when nothing closes it."""
        octets = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nrest\r\n"
        self.assertEqual(slice_of(octets, (1,)), b"rest\r\n")

    def test_an_encoded_message_is_a_file(self) -> None:
        """A message/rfc822 part in base64 has no offsets inside and is shown opaque."""
        octets = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA"
        part = parse(octets)
        self.assertEqual((part.type, part.subtype), (b"application", b"octet-stream"))
        self.assertIsNone(part.message)

    def test_first_field_counts(self) -> None:
        """Of two Content-Type fields the first is taken (R-32)."""
        part = parse(b"Content-Type: image/png\r\nContent-Type: text/html\r\n\r\n")
        self.assertEqual(part.type, b"image")


class LimitTests(SynchronousTestCase):
    """R-24, R-25: hostile structures end at limits, and soon."""

    def test_multiparts_nest_a_hundred_deep(self) -> None:
        """The hundred and first multipart is one opaque part."""
        octets = b"\r\nx"
        for number in range(MAX_DEPTH + 20):
            octets = multipart(f"b{number}", octets.decode()).encode()
        part, depth = parse(octets), 0
        while part.children:
            part, depth = part.children[0], depth + 1
        self.assertEqual(depth, MAX_DEPTH)
        self.assertEqual((part.type, part.subtype), (b"application", b"octet-stream"))

    def test_messages_nest_a_hundred_deep(self) -> None:
        """Messages within messages end too."""
        octets = b"Content-Type: message/rfc822\r\n\r\n" * 1000
        part, depth = parse(octets), 0
        while part.message is not None:
            part, depth = part.message, depth + 1
        self.assertEqual(depth, MAX_DEPTH)

    def test_a_hundred_thousand_parts(self) -> None:
        """Parts beyond the limit are one opaque part with the rest of the octets."""
        octets = (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 100_000
        )
        part = parse(octets)
        self.assertEqual(len(walk(part)), MAX_PARTS + 1)
        self.assertEqual(part.children[-1].subtype, b"octet-stream")
        self.assertEqual(part.children[-1].end, len(octets))

    def test_parameters_are_limited(self) -> None:
        """Of 10,000 parameters a hundred are kept (R-27)."""
        parameters = b"".join(b"; p%d=x" % number for number in range(10_000))
        part = parse(b"Content-Type: text/plain" + parameters + b"\r\n\r\n")
        self.assertEqual(len(part.params), 100)

    def test_deep_and_large_stays_quick(self) -> None:
        """Depth does not multiply the size without end: the work has a budget."""
        head = "".join(
            f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n" for n in range(100)
        )
        octets = head.encode() + b"\r\n" + b"\n--b" * 1_000_000
        parse(octets)


PIECES = st.lists(
    st.sampled_from(
        [
            b"Content-Type: multipart/mixed; boundary=b\r\n",
            b'Content-Type: multipart/digest; boundary="c d"\n',
            b"Content-Type: message/rfc822\r\n",
            b"Content-Transfer-Encoding: base64\r\n",
            b"\r\n",
            b"\n",
            b"--b\r\n",
            b"--b--\r\n",
            b"--c d\n",
            b"text",
            b"\r",
            b"--",
            b" folded\r\n",
        ]
    )
    | st.binary(max_size=12),
    max_size=40,
).map(b"".join)


class PropertyTests(SynchronousTestCase):
    """Any octets have a sound structure."""

    @settings(max_examples=200, deadline=None)
    @given(PIECES)
    def test_offsets_are_ordered_and_nested(self, octets: bytes) -> None:
        """Parts lie inside their containers, in order, without overlap."""
        root = parse(octets)
        self.assertEqual((root.header_start, root.end), (0, len(octets)))
        for part in walk(root):
            self.assertLessEqual(part.header_start, part.body_start)
            self.assertLessEqual(part.body_start, part.end)
            position = part.body_start
            for child in part.children:
                self.assertLessEqual(position, child.header_start)
                position = child.end
            self.assertLessEqual(position, part.end)
            if part.message is not None:
                self.assertEqual(
                    (part.message.header_start, part.message.end), (part.body_start, part.end)
                )
            self.assertNotEqual(part.type == b"multipart", part.children == ())

    @settings(max_examples=100, deadline=None)
    @given(PIECES)
    def test_every_part_can_be_found_by_its_number(self, octets: bytes) -> None:
        """Walking the children by number finds the same parts."""
        root = parse(octets)
        for number, child in enumerate(root.children, 1):
            self.assertIs(root.find((number,)), child)
            for inner, grandchild in enumerate(child.children, 1):
                self.assertIs(root.find((number, inner)), grandchild)
