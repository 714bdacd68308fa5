"""Tests of `mailhost.message.digest` and `mailhost.message.search_text`."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict
from hashlib import blake2b

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.message.digest import USUAL_FIELDS, base_subject_of, digest
from mailhost.message.headers import fold, select_fields
from mailhost.message.mime import parse, to_crlf
from mailhost.message.search_text import (
    file_name,
    html_to_text,
    searchable_header,
    searchable_text,
)

MAIL = (
    b"Received: from x by y; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"From: =?utf-8?q?J=C3=B6rg?= <Joerg@Example.org>\r\n"
    b"To: G: One <one@example.org>, two@example.org;\r\n"
    b"To: Three <three@example.org>\r\n"
    b"Subject: Re: [list] =?utf-8?q?=C3=84rger?= (fwd)\r\n"
    b"Date: Mon, 1 Jan 2024 00:30:00 +0100\r\n"
    b"Message-ID: <1@example.org>\r\n"
    b"In-Reply-To: <0@example.org>\r\n"
    b"References: <a@example.org>\r\n <0@example.org>\r\n"
    b"X-Private: secret\r\n"
    b"\r\n"
    b"Hello\r\n world\r\n"
)


class DigestTests(SynchronousTestCase):
    """What is kept of a message."""

    def test_fields(self) -> None:
        """Every value of a plain mail."""
        facts = digest(MAIL)
        self.assertEqual(
            (facts.size, facts.file_size, facts.bare_lf), (len(MAIL), len(MAIL), False)
        )
        self.assertEqual(facts.header_size, MAIL.index(b"Hello"))
        self.assertEqual(facts.message_id, "<1@example.org>")
        self.assertEqual(facts.in_reply_to, ("<0@example.org>",))
        self.assertEqual(facts.references, ("<a@example.org>", "<0@example.org>"))
        self.assertEqual((facts.date, facts.day), (1704065400, 738886))
        self.assertEqual((facts.base_subject, facts.is_reply), ("ärger", True))
        self.assertEqual(facts.subject, "re: [list] ärger (fwd)")
        self.assertEqual(facts.sender, "jörg <joerg@example.org>")
        self.assertIn("two@example.org", facts.to)
        self.assertIn("three@example.org", facts.to)
        self.assertEqual((facts.cc, facts.bcc, facts.cc_key), ("", "", ""))
        self.assertEqual((facts.from_key, facts.display_from), ("joerg", "jörg"))
        self.assertEqual((facts.to_key, facts.display_to), ("g", "g"))
        self.assertEqual(facts.blob, blake2b(MAIL, digest_size=32).digest())

    def test_usual_fields_answer_header_fields(self) -> None:
        """Selecting usual names from the kept block gives what the message gives."""
        facts = digest(MAIL)
        names = {b"from", b"to", b"subject", b"date", b"references"}
        self.assertTrue(names <= USUAL_FIELDS)
        self.assertEqual(select_fields(facts.usual_fields, names), select_fields(MAIL, names))
        self.assertNotIn(b"X-Private", facts.usual_fields)

    def test_bare_lf_counts_as_crlf(self) -> None:
        """A file of another program has the digest of its CRLF form, and a mark."""
        bare = MAIL.replace(b"\r\n", b"\n")
        ours, theirs = asdict(digest(MAIL)), asdict(digest(bare))
        self.assertTrue(theirs["bare_lf"])
        self.assertEqual(theirs["file_size"], len(bare))
        differing = {name for name in ours if ours[name] != theirs[name]}
        self.assertEqual(differing, {"bare_lf", "file_size", "blob"})

    def test_last_field_without_line_end(self) -> None:
        """A header that stops short is kept whole."""
        self.assertEqual(digest(b"Subject: x").usual_fields, b"Subject: x")

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"From: ",
                    b"To: ",
                    b"Subject: ",
                    b"Date: ",
                    b"Content-Type: text/html\r\n",
                    b"Content-Transfer-Encoding: base64\r\n",
                    b"a@b",
                    b"re: ",
                    b"[",
                    b"]",
                    b"\r\n",
                    b"\n",
                    b"=?utf-8?q?=C3?=",
                    b"<p>",
                    b"&amp",
                    b"<x>",
                ]
            )
            | st.binary(max_size=8),
            max_size=30,
        ).map(b"".join)
    )
    def test_any_octets_have_a_digest(self, octets: bytes) -> None:
        """Nothing raises; sizes agree with the CRLF form; texts can be stored."""
        facts = digest(octets)
        self.assertEqual(facts.size, len(to_crlf(octets)))
        self.assertLessEqual(facts.header_size, facts.size)
        for text in (
            facts.subject,
            facts.sender,
            facts.to,
            facts.base_subject,
            searchable_text(octets),
            searchable_header(octets),
        ):
            text.encode("utf-8")


class BaseSubjectTests(SynchronousTestCase):
    """RFC 5256 2.1."""

    def test_marks_are_taken_off(self) -> None:
        """Replies, forwards, blobs and trailers go, as often as they come."""
        for subject, base in {
            "re: a": ("a", True),
            "re[2]: a": ("a", True),
            "fwd: re: fw: a": ("a", True),
            "[x] re: [y] a": ("a", True),
            "[x] a": ("a", False),
            "[x]": ("[x]", False),
            "[x] [y]": ("[y]", False),
            "a (fwd) (fwd)": ("a", True),
            "[fwd: re: a]": ("a", True),
            "[fwd: [fwd: a] (fwd)]": ("a", True),
            "re : a": ("a", True),
            "regarding: a": ("regarding: a", False),
            "re:": ("", True),
            "": ("", False),
            "[x": ("[x", False),
            "[a][b]re:": ("", True),
        }.items():
            self.assertEqual(base_subject_of(subject), base, subject)

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(st.sampled_from(["re:", "[fwd:", "]", "[", "(fwd)", " ", "a", ":"])).map("".join)
    )
    def test_a_base_subject_is_its_own(self, subject: str) -> None:
        """Taking the base of a base changes nothing."""
        base, _ = base_subject_of(subject)
        self.assertEqual(base_subject_of(base)[0], base)


class SearchTextTests(SynchronousTestCase):
    """What SEARCH finds."""

    def test_header(self) -> None:
        """Decoded fields, one a line, folded."""
        lines = searchable_header(MAIL).split("\n")
        self.assertEqual(lines[1], "from: jörg <joerg@example.org>")
        self.assertEqual(len(lines), 10)

    def test_encodings_and_charsets(self) -> None:
        """Base64, quoted-printable and charsets are undone."""
        for field, content in {
            b"": b"Gr\xc3\xbcn",
            b"Content-Transfer-Encoding: quoted-printable\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n": b"Gr=C3=\r\n=BCn",
            b"Content-Transfer-Encoding: base64\r\n"
            b"Content-Type: text/plain; charset=iso-8859-15\r\n": b64encode(b"Gr\xfcn"),
            b"Content-Transfer-Encoding: BASE64\r\n": b"R3 LD!vG4===garbage",
        }.items():
            self.assertIn("grün", searchable_text(field + b"\r\n" + content), field)

    def test_phrases_cross_lines(self) -> None:
        """A phrase is found although the sender broke the line in it."""
        self.assertIn(fold("hello  World"), searchable_text(MAIL))

    def test_all_texts_names_and_enclosed_headers(self) -> None:
        """Parts, file names and the headers of enclosed messages can be found."""
        octets = (
            b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
            b"--b\r\n\r\nfirst\r\n"
            b"--b\r\nContent-Type: image/png; name=Pic.png\r\n\r\nPIXELS\r\n"
            b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
            b"Subject: =?utf-8?q?Inn=C3=A9r?=\r\n\r\nlast\r\n"
            b"--b--\r\n"
        )
        text = searchable_text(octets)
        self.assertEqual(text, "first\npic.png\nsubject: innér\nlast")

    def test_html(self) -> None:
        """Tags, scripts, styles and comments go; entities become characters."""
        for html, text in {
            "<p>a<b>b</b>c</p>d": "abc d",
            "a<script>x<p></script >b<STYLE>y</STYLE>c": "a b c",
            "a<!-- > -->b": "a b",
            "x &lt; y &amp;&nbsp;z": "x < y & z",
            "1 < 2": "1 < 2",
            "<a href='>'>x": "'>x",
            "<!doctype html><br/>x<": "x<",
            "a<!-- unended": "a",
            "<script>unended": "",
        }.items():
            self.assertEqual(" ".join(html_to_text(html).split()), text, html)

    def test_hostile_html(self) -> None:
        """Nested and unended markup of megabytes is read once (R-30)."""
        for html in (
            "<div>" * 600_000,
            "<" * 3_000_000,
            "<!--" * 700_000,
            "<script" * 400_000,
            "<a " * 900_000,
            "&" * 3_000_000,
        ):
            self.assertLessEqual(len(html_to_text(html)), len(html))

    def test_one_file_name(self) -> None:
        """Whatever the sender wrote, one name counts, and it is not a path we follow (R-27)."""
        part = parse(
            b"Content-Type: a/b; name=wrong.exe\r\n"
            b"Content-Disposition: attachment; filename=other.exe;"
            b" filename*=utf-8''%2E%2E%2Fetc%2Fpasswd; filename=third\r\n\r\n"
        )
        self.assertEqual(file_name(part), "../etc/passwd")
        self.assertIsNone(file_name(parse(b"\r\n")))
