"""Other programs that change a Maildir at any time (R-91), and damaged files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mailhost.criteria import Contains, TextScope
from mailhost.errors import MessageDamaged
from mailhost.interfaces.access import Column, FlagOperation
from mailhost.interfaces.spool import LocalTarget
from mailhost.storage import placing, reading, search
from tests.storage.support import ANN, StoreTestCase

OTHER = b"Subject: other\r\n\r\nfrom elsewhere\r\n"


class ForeignTests(StoreTestCase):
    """Additions, renames and removals of others are seen, and no flag is lost."""

    def put(self, name: str, octets: bytes = OTHER, directory: str = "") -> Path:
        """Add a file as another program does."""
        self.mailbox_ids()
        temporary = self.maildir(directory) / "tmp" / name.partition("/")[2]
        temporary.write_bytes(octets)
        path = self.maildir(directory) / name
        temporary.rename(path)
        return path

    def test_a_file_too_large_for_memory(self) -> None:
        """P6: it is a message whose header is known, and is read in pieces."""
        self.patch(placing, "LARGE", 1000)
        self.patch(placing, "_PIECE", 7)
        octets = (
            b"Subject: huge\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + b"abc\n" * 400
        )
        self.put("new/1.big.h", octets)
        box = self.box()
        (record,) = self.successResultOf(
            box.records([1], Column.CONTENT | Column.ENVELOPE | Column.SIZE)
        )
        self.assertIn(b'"huge"', record.envelope)
        self.assertEqual(record.size, len(octets) + 400)
        self.assertEqual(record.content, octets.replace(b"abc\n", b"abc\r\n"))
        self.patch(search, "LARGE", 1000)
        self.patch(reading, "_BEGINNING", 500)
        found = self.successResultOf(box.search(Contains(TextScope.TEXT, "huge"), 1))
        self.assertEqual(list(found), [1])

    def one(self, directory: str = "") -> Path:
        """Return the only message file."""
        (path,) = self.message_files(directory)
        return path

    def test_added_files_get_uids_in_order(self) -> None:
        """New files are messages, in the order of their names."""
        self.deliver()
        self.put("new/1700000009.b.host")
        self.put("cur/1700000008.a.host:2,FS")
        self.assertEqual(list(self.contents()), [1, 2, 3])
        self.assertEqual(self.flags(), {1: set(), 2: {"\\Flagged", "\\Seen"}, 3: set()})

    def test_an_idle_session_hears_of_them(self) -> None:
        """A session that only waits is told, without asking."""
        box = self.box()
        heard: list[object] = []
        self.access().watch(lambda *change: heard.append(change))
        self.pass_time(5)
        self.put("new/1700000009.b.host")
        self.pass_time(5)
        self.assertEqual([change[0] for change in heard], [box.mailbox_id])  # type: ignore[index]

    def test_renamed_flags_are_merged(self) -> None:
        """The difference from the name we wrote counts, so that unwritten flags are kept."""
        self.deliver()
        box = self.box()
        self.successResultOf(box.store([1], FlagOperation.ADD, ("\\Flagged",)))
        self.pass_time()
        path = self.one()
        self.assertEqual(path.name[-4:], ":2,F"[-4:])
        # Ours is not written yet when theirs happens.
        self.successResultOf(box.store([1], FlagOperation.ADD, ("\\Answered",)))
        path.rename(path.with_name(path.name.replace(":2,F", ":2,S")))
        self.assertEqual(self.flags(), {1: {"\\Answered", "\\Seen"}})
        self.pass_time()
        self.assertTrue(self.one().name.endswith(":2,RS"))

    def test_seen_by_another_program(self) -> None:
        """A file moved from new to cur is the same message."""
        self.deliver()
        path = self.one()
        path.rename(self.maildir() / "cur" / f"{path.name}:2,S")
        self.assertEqual(self.flags(), {1: {"\\Seen"}})
        status = self.successResultOf(self.access().status(self.mailbox_ids()["INBOX"]))
        self.assertEqual((status.unseen, status.messages), (0, 1))

    def test_removed_files_are_expunged(self) -> None:
        """A file that is gone is a message that is gone."""
        self.deliver()
        self.deliver()
        box = self.box()
        before = self.successResultOf(box.listing()).highest_mod_seq
        self.message_files()[0].unlink()
        changes = self.successResultOf(box.changes(before))
        self.assertEqual(changes.vanished, (1,))
        self.assertEqual(list(self.contents()), [2])

    def test_moved_files_stay_the_same_message(self) -> None:
        """A file moved to another folder keeps its email id and its keywords."""
        self.deliver()
        box = self.box()
        self.successResultOf(box.store([1], FlagOperation.ADD, ("$Work",)))
        self.pass_time()
        (before,) = self.successResultOf(box.records([1], Column.EMAIL_ID))
        path = self.one()
        path.rename(self.maildir(".Trash") / "cur" / path.name)
        self.assertEqual(self.flags("Trash"), {1: {"$Work"}})
        trash = self.box("Trash")
        (after,) = self.successResultOf(trash.records([1], Column.EMAIL_ID))
        self.assertEqual(after.email_id, before.email_id)
        self.assertEqual(self.contents(), {})

    def test_folder_made_by_another_program(self) -> None:
        """A directory with cur is a mailbox."""
        self.mailbox_ids()
        for part in ("cur", "new", "tmp"):
            (self.maildir(".New&AOk-") / part).mkdir(parents=True)
        self.put("cur/1.a.host:2,T", directory=".New&AOk-")
        self.assertEqual(self.flags("Newé"), {1: {"\\Deleted"}})

    def test_a_missing_directory_is_an_empty_one(self) -> None:
        """A folder whose directories are gone loses its messages, and works."""
        work = self.successResultOf(self.access().create("Work"))
        self.deliver(LocalTarget(ANN, work))
        self.message_files(".Work")[0].unlink()
        for part in ("cur", "new", "tmp"):
            for name in (self.maildir(".Work") / part).iterdir():
                name.unlink()
            (self.maildir(".Work") / part).rmdir()
        self.assertEqual(self.contents("Work"), {})
        self.deliver(LocalTarget(ANN, work))
        self.flushLoggedErrors()

    def test_a_change_in_the_same_tick_is_seen_later(self) -> None:
        """What directory times hide is found by the look that follows our own change."""
        self.deliver()
        self.contents()
        path = self.put("new/1700000009.b.host")
        times = os.stat(path.parent)
        self.deliver()
        os.utime(path.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
        box = self.box()
        self.pass_time(3600)
        self.assertEqual(len(self.successResultOf(box.listing()).uids), 3)

    def test_line_ends(self) -> None:
        """A file of bare LF is read in CRLF form, at right offsets."""
        octets = b"Subject: x\n\n" + b"line\n" * 100_000
        self.put("new/1700000009.b.host", octets)
        wire = octets.replace(b"\n", b"\r\n")
        box = self.box()
        columns = Column.SIZE | Column.HEADER | Column.ENVELOPE
        (record,) = self.successResultOf(box.records([1], columns))
        self.assertEqual((record.size, record.header), (len(wire), b"Subject: x\r\n\r\n"))
        content = self.successResultOf(box.content(1))
        self.assertEqual(content.size, len(wire))
        self.assertEqual(content.read(12, 10), wire[12:22])
        content.close()

    def test_copy_of_a_foreign_file(self) -> None:
        """A copy of a file without sizes in its name survives a rebuild."""
        self.put("new/1700000009.b.host", b"Subject: x\n\nbody\n")
        box = self.box()
        self.successResultOf(box.copy([1], self.mailbox_ids()["Trash"]))
        self.stop()
        (self.path / "accounts" / ANN / "account.sqlite").unlink()
        self.start()
        self.assertEqual(self.contents("Trash"), {1: b"Subject: x\r\n\r\nbody\r\n"})

    def test_expunge_that_was_cut_short(self) -> None:
        """A file that a tombstone names is put away, not taken for new mail."""
        self.deliver()
        path = self.one()
        self.successResultOf(self.box().expunge([1], marked=False))
        (expunged,) = (self.path / "accounts" / ANN / "expunged").iterdir()
        expunged.rename(path)
        self.assertEqual(self.contents(), {})
        self.assertTrue(expunged.exists())


class DamageTests(StoreTestCase):
    """Damage to one file never stops the rest (R-89)."""

    def test_known_message(self) -> None:
        """A file of another size is told of as damaged, the others are read."""
        self.deliver()
        self.deliver()
        path = self.message_files()[0]
        path.write_bytes(path.read_bytes()[:-4])
        box = self.box()
        columns = Column.SIZE | Column.CONTENT | Column.HEADER | Column.ENVELOPE
        first, second = self.successResultOf(box.records([1, 2], columns))
        self.assertEqual((first.size, first.content, first.header), (0, b"", b""))
        self.assertTrue(second.content)
        self.failureResultOf(box.content(1), MessageDamaged)
        self.successResultOf(box.content(2)).close()

    def test_file_gone_under_a_session(self) -> None:
        """A message whose file was just removed is gone or damaged, never a fault of ours."""
        self.deliver()
        box = self.box()
        self.message_files()[0].unlink()
        (record,) = self.successResultOf(box.records([1], Column.CONTENT))
        self.assertEqual(record.content, b"")

    def test_unknown_files(self) -> None:
        """Empty files and files shorter than their name says are put aside."""
        self.deliver()
        for name, octets in (("1.a.h", b""), ("2.b.h,S=99", b"A: b\r\n\r\n"), ("3.c.h", OTHER)):
            (self.maildir() / "new" / name).write_bytes(octets)
        (self.maildir() / "cur" / "4.d.h:2,").mkdir()
        self.assertEqual(sorted(self.contents()), [1, 2])
        kept = [path.name for path in (self.path / "accounts" / ANN / "damaged").iterdir()]
        self.assertEqual(len(kept), 3)

    def test_pipe_link_and_device_in_place_of_a_message(self) -> None:
        """R-89: nothing that is no file is opened as one, followed, or waited for."""
        self.deliver()
        secret = self.path / "secret"
        secret.write_bytes(b"Subject: of another\r\n\r\nroot:x:0\r\n")
        cur = self.maildir() / "cur"
        os.mkfifo(cur / "1.pipe.h:2,")
        (cur / "2.link.h:2,").symlink_to(secret)
        (cur / "3.gone.h:2,").symlink_to("/nonexistent")
        (cur / ("4." + "n" * 240)).write_bytes(OTHER)
        (cur / "5.odd.h,S=99999999999999999999,W=-5:2,ZZSST").write_bytes(OTHER)
        with open(os.fsencode(cur) + b"/6.\xff\xfe\x1b.h:2,", "wb") as odd:
            odd.write(OTHER)
        contents = self.contents()
        self.assertEqual(list(contents.values())[1:].count(OTHER), len(contents) - 1)
        self.assertGreaterEqual(len(contents), 3)
        self.assertTrue(secret.exists())
        self.assertNotIn(b"root:x", b"".join(contents.values()))

    def test_links_in_place_of_mailboxes(self) -> None:
        """R-46: what others put among the mailboxes leads to no other place."""
        self.mailbox_ids()
        other = self.path / "elsewhere"
        for name in ("cur", "new", "tmp"):
            (other / name).mkdir(parents=True)
        (self.maildir() / ".Linked").symlink_to(other)
        (self.maildir() / ".Inside").mkdir()
        (self.maildir() / ".Inside" / "cur").symlink_to(other / "cur")
        names = self.mailbox_ids()
        self.assertFalse({"Linked", "Inside"} & set(names))

    def test_a_directory_that_cannot_be_indexed_hides_no_other(self) -> None:
        """R-87: without room for its list, a mailbox of others waits; the rest is there."""
        before = self.mailbox_ids()
        for part in ("cur", "new", "tmp"):
            (self.maildir() / ".Found" / part).mkdir(parents=True)

        def full(name: str, arguments: tuple[object, ...]) -> None:
            if name in ("write", "create", "rewrite"):
                raise OSError(errno.ENOSPC, "No space left on device")

        self.files.before = full
        self.assertEqual(self.mailbox_ids(), before)
        self.assertTrue(self.flushLoggedErrors())
        self.files.before = lambda name, arguments: None
        self.assertIn("Found", self.mailbox_ids())

    def test_search_passes_over_damage(self) -> None:
        """A text search leaves out what it cannot read."""
        self.deliver()
        self.deliver()
        self.message_files()[0].write_bytes(b"")
        box = self.box()
        found = self.successResultOf(box.search(Contains(TextScope.TEXT, "subject"), 1))
        self.assertEqual(list(found), [2])

    def test_directory_in_place_of_a_message(self) -> None:
        """What is not a regular file is damaged."""
        self.deliver()
        path = self.message_files()[0]
        path.unlink()
        path.mkdir()
        box = self.box()
        (record,) = self.successResultOf(box.records([1], Column.CONTENT))
        self.assertEqual(record.content, b"")


class RandomForeignTests(StoreTestCase):
    """Any mixture of their changes and ours ends in one view."""

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["add", "flag", "remove", "ours", "pass", "deliver"]),
                st.integers(0, 5),
                st.sampled_from(["", "F", "S", "FS", "RT"]),
            ),
            max_size=12,
        )
    )
    def test_view_agrees_with_the_directory(self, steps: list[tuple[str, int, str]]) -> None:
        """In the end each file is one message, with the flags that its name shows."""
        self.serial_foreign = getattr(self, "serial_foreign", 0)
        for act, number, letters in steps:
            self.step(act, number, letters)
        self.pass_time()
        self.flags()
        self.pass_time()
        flags = self.flags()
        files = self.message_files()
        self.assertEqual(len(flags), len(files))
        shown = sorted("".join(sorted(path.name.partition(":2,")[2])) for path in files)
        letters_of = {
            "\\Flagged": "F",
            "\\Seen": "S",
            "\\Answered": "R",
            "\\Deleted": "T",
        }
        held = sorted("".join(sorted(letters_of[f] for f in each)) for each in flags.values())
        self.assertEqual(held, shown)

    def step(self, act: str, number: int, letters: str) -> None:
        """Do one thing."""
        files = self.message_files() if self.maildir().exists() else []
        if act == "deliver":
            self.deliver()
        elif act == "pass":
            self.pass_time(10)
        elif act == "add":
            self.mailbox_ids()
            self.serial_foreign += 1
            name = f"17000000{self.serial_foreign:02d}.f{self.serial_foreign}.host:2,{letters}"
            (self.maildir() / "cur" / name).write_bytes(OTHER)
        elif act == "ours":
            uids = list(self.flags())
            if uids:
                box = self.box()
                self.successResultOf(
                    box.store([uids[number % len(uids)]], FlagOperation.ADD, ("\\Flagged",))
                )
        elif files:
            path = files[number % len(files)]
            if act == "remove":
                path.unlink()
            else:
                base = path.name.partition(":2,")[0]
                path.rename(self.maildir() / "cur" / f"{base}:2,{letters}")
