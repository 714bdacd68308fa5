"""Mailbox names and directories (R-46), file names, flags, UID lists."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import MailboxNameRefused
from mailhost.files import FileOperations
from mailhost.storage import file_names
from mailhost.storage.flag_words import FlagWords
from mailhost.storage.folder_names import directory_of, name_of, normalize, parents
from mailhost.storage.uid_list import (
    UIDList,
    append_uids,
    read_keywords,
    read_uid_list,
    write_uid_list,
)


class FolderNameTests(SynchronousTestCase):
    """Every name that is taken has one directory, below the Maildir, and comes back from it."""

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=40) | st.text("aé&./~-\U0001f600,+", max_size=12))
    def test_round_trip(self, text: str) -> None:
        """Any text is refused, or is a directory name that leads nowhere else and back again."""
        try:
            name = normalize(text)
        except MailboxNameRefused:
            return
        self.assertEqual(normalize(name), name)
        directory = directory_of(name)
        if name == "INBOX":
            self.assertEqual(directory, "")
            return
        self.assertRegex(directory, r"\A(\.[ -~]+)+\Z")
        self.assertNotIn("/", directory)
        self.assertNotIn("..", directory)
        self.assertLessEqual(len(directory), 255)
        self.assertEqual(name_of(directory), name)

    def test_known_forms(self) -> None:
        """As other programs write them (RFC 3501 5.1.3), dots escaped."""
        for name, directory in (
            ("Sent", ".Sent"),
            ("Archive/2024", ".Archive.2024"),
            ("Entwürfe & mehr", ".Entw&APw-rfe &- mehr"),
            ("v1.2", ".v1&AC4-2"),
            ("台北", ".&U,BTFw-"),
            ("inbox/Sub", ".INBOX.Sub"),
        ):
            self.assertEqual(directory_of(normalize(name)), directory)
            self.assertEqual(name_of(directory), normalize(name))

    def test_refused(self) -> None:
        """Nothing that climbs, hides or cannot be written."""
        for name in (
            "", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a\0", "a\r\n", "a\x7f",
            "\ud800", "a*", "%", "#news", "x" * 256, "é" * 120, "/".join("a" * 65), "\u2028",
        ):  # fmt: skip
            self.assertRaises(MailboxNameRefused, normalize, name)

    def test_inbox_in_any_case(self) -> None:
        """INBOX is one mailbox however it is written, and no directory is taken for it."""
        self.assertEqual(normalize("iNbOx"), "INBOX")
        self.assertIsNone(name_of(".INBOX"))

    def test_undecodable_directories(self) -> None:
        """Directories that are no names are not mailboxes."""
        for directory in (".", "..", "cur", ".&", ".&AA-", ".a..b", ".&AC8-", ".&!-"):
            self.assertIsNone(name_of(directory))

    def test_parents(self) -> None:
        """What stands above, highest first."""
        self.assertEqual(parents("a/b/c"), ["a", "a/b"])


class FileNameTests(SynchronousTestCase):
    """Keys, sizes, times and letters in file names."""

    def test_our_own(self) -> None:
        """All that was put in comes out."""
        identifier = "01m8243nd0g93b2yk3kvvzzd8h"
        base = file_names.base_name(1700000000, identifier, "m/x:y", 10, 12)
        self.assertEqual(base, f"1700000000.{identifier}.m_x_y,S=10,W=12")
        self.assertEqual(file_names.key_of(base), identifier)
        self.assertEqual(file_names.sizes_of(base), {"S": 10, "W": 12})
        self.assertEqual(file_names.time_of(base), 1700000000)
        self.assertEqual(file_names.key_of(f"1.{identifier}-0a1b.h"), f"{identifier}-0a1b")

    def test_of_others(self) -> None:
        """Sizes that a program adds do not make another message."""
        self.assertEqual(file_names.key_of("1.M2P3.host,S=4,W=5"), "1.M2P3.host")
        self.assertEqual(file_names.key_of("1.M2P3.host"), "1.M2P3.host")
        self.assertEqual(file_names.split_name("1.x.y:2,SFS"), ("1.x.y", "FS"))
        self.assertEqual(file_names.split_name("1.x.y:1,S"), ("1.x.y", ""))
        self.assertIsNone(file_names.time_of("x.y"))

    def test_letters(self) -> None:
        """Flags are written in the order of ASCII."""
        bits = file_names.SEEN | file_names.DRAFT | file_names.DELETED
        self.assertEqual(file_names.letters_of(bits), "DST")
        self.assertEqual(file_names.bits_of("DSTz"), bits)


class FlagWordsTests(SynchronousTestCase):
    """Flags values, words and letters."""

    def test_words(self) -> None:
        """What was parsed is said again, without \\Recent and unknown system flags."""
        words = FlagWords({})
        value = words.value(*words.parse(["\\SEEN", "$forwarded", "b", "A", "\\Recent", "\\X"]))
        self.assertEqual(words[value], ("\\Seen", "$Forwarded", "A", "b"))
        self.assertEqual(words.added, [(1, "A b")])
        self.assertEqual(words.value(0, frozenset(["A", "b"])), 1 << 6)

    @settings(max_examples=100, deadline=None)
    @given(*[st.sets(st.sampled_from("DFPRSTabc")).map(sorted).map("".join)] * 3)
    def test_merge_is_the_difference(self, ours: str, before: str, now: str) -> None:
        """What another program added is set, what it removed is not, all else stays."""
        words = FlagWords({})
        keywords = ["x", "y", "z"]
        value = words.from_letters(ours, keywords)
        merged = words.merged(value, before, now, keywords)
        wanted = (set(ours) | (set(now) - set(before))) - (set(before) - set(now))
        self.assertEqual(words.letters(merged, keywords), "".join(sorted(wanted)))


class UIDListTests(SynchronousTestCase):
    """The list of UIDs beside the messages."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.files = FileOperations()

    def test_round_trip(self) -> None:
        """What was written and appended is read."""
        head = UIDList(7, "01m8243nd0g93b2yk3kvvzzd8h", ["\\Sent"], 1000)
        write_uid_list(self.files, self.folder, head, [(1, "a")])
        append_uids(self.files, self.folder, [(2, "b c")], reserved=2000)
        found = read_uid_list(self.files, self.folder)
        self.assertEqual(found.uids, {"a": 1, "b c": 2})
        self.assertEqual((found.uid_validity, found.special_use), (7, ["\\Sent"]))
        self.assertEqual((found.mailbox_id, found.highest), (head.mailbox_id, 2000))

    def test_absent(self) -> None:
        """No list says nothing."""
        self.assertEqual(read_uid_list(self.files, self.folder), UIDList())
        self.assertEqual(read_keywords(self.files, self.folder), [])

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=200), st.integers(0, 90))
    def test_torn_and_dirty(self, rubbish: bytes, cut: int) -> None:
        """Whatever is torn off or added, what follows on lines of its own is read."""
        path = self.folder / "mailhost-uidlist"
        write_uid_list(self.files, self.folder, UIDList(7, "", [], 9), [(1, "a")])
        path.write_bytes(path.read_bytes()[:cut] + rubbish)
        append_uids(self.files, self.folder, [(3, "last")], first=True)
        self.assertEqual(read_uid_list(self.files, self.folder).uids["last"], 3)
