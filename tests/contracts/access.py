"""
What every mail store does for its sessions, whatever it keeps the mail in.

Mix `MailAccessContract` into a test case and give it `make_access`; a store whose answers are late
overrides `pump`, which is called before an answer is expected.
"""

# The mixin has the methods of SynchronousTestCase.
# mypy: ignore-errors
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from mailhost.criteria import (
    All,
    And,
    ChangedSince,
    Comparison,
    Contains,
    DateIs,
    HasFlag,
    HeaderContains,
    InSet,
    IsRecent,
    Not,
    Or,
    SizeIs,
    TextScope,
)
from mailhost.errors import (
    MailboxExists,
    MailboxNameRefused,
    MailboxReadOnly,
    NoSuchEntry,
    NoSuchMailbox,
)
from mailhost.interfaces.access import Column, FlagOperation, IMailAccess, IMailbox
from mailhost.message.digest import USUAL_FIELDS
from mailhost.message.headers import select_fields
from mailhost.units import MailboxID, ModSeq

DATE = 1_700_000_000
"""14 November 2023, 22:13:20 UTC."""
DAY = 738838

MESSAGE = (
    b"From: Ann <ann@example.org>\r\n"
    b"To: bob@example.net\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from here\r\n"
    b"Date: Sun, 12 Nov 2023 23:30:00 -0500\r\n"
    b"Message-ID: <one@example.org>\r\n"
    b"\r\n"
    b"The quick brown fox.\r\n"
)
SECOND = (
    b"From: Cid <cid@example.org>\r\n"
    b"Subject: second\r\n"
    b"Message-ID: <two@example.org>\r\n"
    b"In-Reply-To: <one@example.org>\r\n"
    b"References: <one@example.org>\r\n"
    b"\r\n"
    b"Lazy dogs sleep.\r\n"
)


class MailAccessContract(ABC):
    """The contract of `IMailAccess` and `IMailbox`."""

    @abstractmethod
    def make_access(self) -> Any:
        """Return the mail of a fresh account with INBOX."""

    def pump(self) -> None:  # noqa: B027 - what answers at once has nothing to let come
        """Let late answers come."""

    def got(self, answer: Any) -> Any:
        """Return what a call gave, now or later."""
        self.pump()
        return self.successResultOf(answer) if isinstance(answer, Deferred) else answer

    def refused(self, answer: Any, error: type[Exception]) -> None:
        """Hold that a call failed so."""
        self.pump()
        self.failureResultOf(answer, error)

    # Shorthands

    def names(self) -> dict[str, MailboxID]:
        facts = self.got(self.access.mailboxes())
        return {each.name: each.mailbox_id for each in facts}

    def box(self, name: str = "INBOX", read_only: bool = False) -> Any:
        return self.got(self.access.open(self.names()[name], read_only))

    def add(
        self, octets: bytes = MESSAGE, flags: Sequence[str] = (), name: str = "INBOX", **date: int
    ) -> int:
        append = self.got(self.access.append(self.names()[name]))
        half = len(octets) // 2
        self.got(append.write(octets[:half]))
        self.got(append.write(octets[half:]))
        placed = self.got(append.commit(flags, date.get("date", DATE), date.get("zone", 0)))
        return placed.uid

    def flags(self, box: Any) -> dict[int, set[str]]:
        uids = self.got(box.listing()).uids
        records = self.got(box.records(uids, Column.FLAGS))
        return {each.uid: set(each.flags) for each in records}

    def uids(self, box: Any) -> list[int]:
        return list(self.got(box.listing()).uids)

    def search(self, criterion: Any, box: Any | None = None, recent_from: int = 1) -> list[int]:
        return list(self.got((box or self.box()).search(criterion, recent_from)))

    def setUp(self) -> None:
        super().setUp()
        self.access = self.make_access()

    # Mailboxes

    def test_provides_its_interfaces(self) -> None:
        """Avatar and mailbox have every method their interfaces name."""
        verifyObject(IMailAccess, self.access)
        verifyObject(IMailbox, self.box())

    def test_inbox_is_first(self) -> None:
        """INBOX is always there, and listed before the others."""
        self.got(self.access.create("Aardvark"))
        facts = self.got(self.access.mailboxes())
        self.assertEqual(facts[0].name, "INBOX")
        self.assertEqual([each.name for each in facts[1:]], sorted(e.name for e in facts[1:]))

    def test_create_makes_parents(self) -> None:
        """A mailbox below missing ones brings them along."""
        made = self.got(self.access.create("Work/2024/März"))
        names = self.names()
        self.assertEqual(names["Work/2024/März"], made)
        self.assertIsNotNone(names["Work"])
        self.assertIsNotNone(names["Work/2024"])

    def test_create_twice_is_refused(self) -> None:
        """A name belongs to one mailbox, in whatever normal form it is written."""
        self.got(self.access.create("é"))
        self.refused(self.access.create("é"), MailboxExists)
        self.refused(self.access.create("é"), MailboxExists)

    def test_special_use(self) -> None:
        """What a mailbox is for is told with its name."""
        self.got(self.access.create("Spam", ("\\Junk",)))
        facts = {each.name: each for each in self.got(self.access.mailboxes())}
        self.assertEqual(facts["Spam"].special_use, ("\\Junk",))

    def test_bad_names_are_refused(self) -> None:
        """No name leads out of the account, or cannot be written (R-46)."""
        for name in ("", "..", "a/../b", "/a", "a//b", "a\0b", "a\nb", "x" * 10_240, "a/" * 1000):
            self.refused(self.access.create(name), MailboxNameRefused)

    def test_delete_keeps_children(self) -> None:
        """Deleting a mailbox leaves those below it."""
        self.got(self.access.create("a/b"))
        names = self.names()
        self.got(self.access.delete(names["a"]))
        self.assertEqual(self.names()["a/b"], names["a/b"])
        self.refused(self.access.status(names["a"]), NoSuchMailbox)
        self.refused(self.access.delete(names["a"]), NoSuchMailbox)

    def test_inbox_cannot_be_deleted(self) -> None:
        """INBOX is always there."""
        self.refused(self.access.delete(self.names()["INBOX"]), MailboxReadOnly)

    def test_uid_validity_is_not_reused(self) -> None:
        """A name that was deleted and made again has another UIDVALIDITY and another id."""
        first = self.got(self.access.create("a"))
        before = self.got(self.access.status(first)).uid_validity
        self.got(self.access.delete(first))
        second = self.got(self.access.create("a"))
        self.assertNotEqual(first, second)
        self.assertGreater(self.got(self.access.status(second)).uid_validity, before)

    def test_rename_takes_the_subtree(self) -> None:
        """What is below a mailbox goes with it, ids and mail unchanged."""
        self.got(self.access.create("a/b/c"))
        self.add(name="a/b")
        before = self.names()
        self.got(self.access.rename(before["a"], "x/y"))
        after = self.names()
        self.assertEqual(after["x/y/b/c"], before["a/b/c"])
        self.assertNotIn("a/b", after)
        self.assertEqual(self.uids(self.box("x/y/b")), [1])

    def test_rename_to_a_taken_name(self) -> None:
        """A rename does not replace a mailbox, nor put one below itself."""
        self.got(self.access.create("a"))
        self.got(self.access.create("b"))
        self.refused(self.access.rename(self.names()["a"], "b"), MailboxExists)
        self.refused(self.access.rename(self.names()["a"], "a/b"), MailboxNameRefused)

    def test_rename_inbox_empties_it(self) -> None:
        """INBOX stays, its messages go to the new mailbox (RFC 9051 6.3.6)."""
        self.got(self.access.create("INBOX/child"))
        self.add(flags=("\\Seen",))
        self.got(self.access.rename(self.names()["INBOX"], "old"))
        self.assertEqual(self.uids(self.box()), [])
        self.assertEqual(self.flags(self.box("old")), {1: {"\\Seen"}})
        self.assertIn("INBOX/child", self.names())

    def test_subscriptions_outlive_mailboxes(self) -> None:
        """A subscribed name is listed without a mailbox (RFC 9051 6.3.7)."""
        self.got(self.access.subscribe("not/there", True))
        facts = {each.name: each for each in self.got(self.access.mailboxes())}
        self.assertTrue(facts["not/there"].subscribed)
        self.assertIsNone(facts["not/there"].mailbox_id)
        self.got(self.access.subscribe("not/there", False))
        self.assertNotIn("not/there", self.names())

    def test_no_such_mailbox(self) -> None:
        """An id that does not exist is refused everywhere."""
        nowhere = MailboxID("0" * 26)
        self.refused(self.access.open(nowhere, False), NoSuchMailbox)
        self.refused(self.access.status(nowhere), NoSuchMailbox)
        self.refused(self.access.rename(nowhere, "a"), NoSuchMailbox)
        self.refused(self.access.append(nowhere), NoSuchMailbox)

    # Adding and reading

    def test_append_and_read(self) -> None:
        """What was stored comes back, octet for octet, with its flags and date."""
        uid = self.add(flags=("\\Seen", "$Label1"), zone=-300)
        box = self.box()
        columns = (
            Column.FLAGS
            | Column.DATE
            | Column.SIZE
            | Column.HEADER
            | Column.CONTENT
            | Column.EMAIL_ID
            | Column.MOD_SEQ
        )
        (record,) = self.got(box.records([uid], columns))
        self.assertEqual(set(record.flags), {"\\Seen", "$Label1"})
        self.assertEqual((record.date, record.zone), (DATE, -300))
        self.assertEqual((record.size, record.content), (len(MESSAGE), MESSAGE))
        self.assertEqual(record.header, MESSAGE[: MESSAGE.index(b"\r\n\r\n") + 4])
        self.assertTrue(record.email_id)
        self.assertGreater(record.mod_seq, 0)

    def test_finished_octets(self) -> None:
        """ENVELOPE, BODYSTRUCTURE and BODY are lists ready for the wire."""
        uid = self.add()
        columns = Column.ENVELOPE | Column.BODY_STRUCTURE | Column.BODY
        (record,) = self.got(self.box().records([uid], columns))
        for octets in (record.envelope, record.body_structure, record.body):
            self.assertEqual((octets[:1], octets[-1:]), (b"(", b")"))

    def test_records_pass_over_what_is_not_there(self) -> None:
        """UIDs without a message are no error; the answer ascends."""
        first, second = self.add(), self.add(SECOND)
        records = self.got(self.box().records([second, 999, first], Column.FLAGS))
        self.assertEqual([each.uid for each in records], [first, second])

    def test_content_is_read_in_pieces(self) -> None:
        """Any slice of a message can be had, fewer octets at the end."""
        octets = MESSAGE + b"0123456789abcdef\r\n" * 40_000
        uid = self.add(octets)
        content = self.got(self.box().content(uid))
        self.assertEqual(content.size, len(octets))
        self.assertEqual(self.got(content.read(0, 100)), octets[:100])
        self.assertEqual(self.got(content.read(700_000, 10)), octets[700_000:700_010])
        self.assertEqual(self.got(content.read(content.size - 3, 100)), octets[-3:])
        content.close()
        (record,) = self.got(self.box().records([uid], Column.CONTENT | Column.HEADER))
        self.assertIsNone(record.content)
        self.assertTrue(record.header.endswith(b"\r\n\r\n"))

    def test_content_of_nothing(self) -> None:
        """A UID without a message has no content."""
        self.refused(self.box().content(77), NoSuchEntry)

    def test_aborted_append_leaves_nothing(self) -> None:
        """What was not committed is not there."""
        append = self.got(self.access.append(self.names()["INBOX"]))
        self.got(append.write(MESSAGE))
        append.abort()
        self.assertEqual(self.uids(self.box()), [])

    def test_uids_ascend_and_are_never_reused(self) -> None:
        """The UID of an expunged message is not given out again (P4)."""
        self.assertEqual([self.add(), self.add()], [1, 2])
        box = self.box()
        self.got(box.expunge([2], marked=False))
        self.assertEqual(self.add(), 3)
        listing = self.got(box.listing())
        self.assertEqual((list(listing.uids), listing.uid_next), ([1, 3], 4))

    def test_status_counts(self) -> None:
        """The counters agree with what is there."""
        self.add(flags=("\\Seen", "\\Deleted"))
        self.add(SECOND)
        status = self.got(self.access.status(self.names()["INBOX"]))
        self.assertEqual((status.messages, status.unseen, status.deleted), (2, 1, 1))
        self.assertEqual((status.recent, status.uid_next), (2, 3))
        self.assertEqual(status.size, len(MESSAGE) + len(SECOND))

    def test_first_unseen(self) -> None:
        """A listing names the first message without \\Seen, if any."""
        self.add(flags=("\\Seen",))
        self.assertIsNone(self.got(self.box().listing()).first_unseen)
        self.add()
        self.assertEqual(self.got(self.box().listing()).first_unseen, 2)

    def test_recent_is_told_once(self) -> None:
        """The first session that may is told which messages are recent (RFC 3501 2.3.2)."""
        self.add()
        self.assertEqual(self.got(self.box(read_only=True).claim_recent()), 1)
        self.assertEqual(self.got(self.box().claim_recent()), 1)
        self.assertEqual(self.got(self.box().claim_recent()), 2)
        self.assertEqual(self.got(self.access.status(self.names()["INBOX"])).recent, 0)

    def test_select_opens_claims_and_lists(self) -> None:
        """SELECT's one call is the same as finding, opening, claiming and listing."""
        self.add(flags=("\\Seen",))
        self.add()
        self.refused(self.access.select("Nowhere", False), NoSuchMailbox)
        looked = self.got(self.access.select("INBOX", True))
        self.assertEqual((looked.recent_from, looked.mailbox.read_only), (1, True))
        chosen = self.got(self.access.select("INBOX", False))
        self.assertEqual(chosen.mailbox.mailbox_id, self.names()["INBOX"])
        self.assertEqual(chosen.mailbox.uid_validity, self.box().uid_validity)
        self.assertEqual((chosen.recent_from, list(chosen.listing.uids)), (1, [1, 2]))
        self.assertEqual((chosen.listing.first_unseen, chosen.listing.uid_next), (2, 3))
        self.assertEqual(self.got(self.access.select("INBOX", False)).recent_from, 3)
        looked.mailbox.close()

    def test_usual_fields(self) -> None:
        """The usual header fields are given as they stand, of messages near and far apart."""
        for _ in range(4):
            self.add(MESSAGE)
        self.got(self.box().expunge([2], marked=False))
        for uids in ([1], [3, 4], [1, 3, 4], [1, 4]):
            records = self.got(self.box().records(uids, Column.USUAL_FIELDS))
            self.assertEqual([record.uid for record in records], uids)
            (whole,) = self.got(self.box().records([1], Column.HEADER))
            wanted = select_fields(whole.header, USUAL_FIELDS)
            self.assertEqual({record.header for record in records}, {wanted})

    # Flags

    def test_store_operations(self) -> None:
        """FLAGS, +FLAGS and -FLAGS replace, add and remove."""
        uid = self.add(flags=("\\Flagged",))
        box = self.box()
        result = self.got(box.store([uid], FlagOperation.ADD, ("\\Seen", "$Junk")))
        self.assertEqual(set(result.stored[0][1]), {"\\Flagged", "\\Seen", "$Junk"})
        self.got(box.store([uid], FlagOperation.REMOVE, ("\\flagged", "$junk")))
        self.assertEqual(self.flags(box), {uid: {"\\Seen"}})
        self.got(box.store([uid, 99], FlagOperation.REPLACE, ("\\Draft", "\\Recent")))
        self.assertEqual(self.flags(box), {uid: {"\\Draft"}})

    def test_keywords_keep_their_first_spelling(self) -> None:
        """Keywords compare caseless; the first spelling stays."""
        uid = self.add(flags=("NonJunk",))
        box = self.box()
        self.got(box.store([uid], FlagOperation.ADD, ("NONJUNK",)))
        self.assertEqual(self.flags(box), {uid: {"NonJunk"}})
        self.assertIn("NonJunk", self.got(box.listing()).keywords)

    def test_many_keywords(self) -> None:
        """There may be more keywords than there are letters."""
        words = {f"word{number}" for number in range(70)}
        uid = self.add(flags=sorted(words))
        self.assertEqual(self.flags(self.box()), {uid: words})

    def test_store_unchanged_since(self) -> None:
        """A message changed since is left alone and named (RFC 7162 3.1.3)."""
        first, second = self.add(), self.add()
        box = self.box()
        before = self.got(box.listing()).highest_mod_seq
        self.got(box.store([second], FlagOperation.ADD, ("\\Seen",)))
        result = self.got(box.store([first, second], FlagOperation.ADD, ("\\Flagged",), before))
        self.assertEqual(result.modified, (second,))
        self.assertEqual([each[0] for each in result.stored], [first])

    def test_no_change_is_no_change(self) -> None:
        """Storing what is there leaves the mod-sequence as it is."""
        uid = self.add(flags=("\\Seen",))
        box = self.box()
        before = self.got(box.listing()).highest_mod_seq
        result = self.got(box.store([uid], FlagOperation.ADD, ("\\Seen",)))
        self.assertEqual(len(result.stored), 1)
        self.assertEqual(self.got(box.listing()).highest_mod_seq, before)

    def test_read_only(self) -> None:
        """A mailbox that was opened read-only is not changed."""
        uid = self.add()
        box = self.box(read_only=True)
        self.assertTrue(box.read_only)
        self.refused(box.store([uid], FlagOperation.ADD, ("\\Seen",)), MailboxReadOnly)
        self.refused(box.expunge(None), MailboxReadOnly)
        self.refused(box.move([uid], self.names()["INBOX"]), MailboxReadOnly)

    # Changes

    def test_changes_tell_all_three_kinds(self) -> None:
        """What came, what changed and what went since a mod-sequence, each once."""
        first, second, third = self.add(), self.add(), self.add()
        box = self.box()
        before = self.got(box.listing()).highest_mod_seq
        fourth = self.add()
        self.got(box.store([first], FlagOperation.ADD, ("\\Seen",)))
        self.got(box.store([fourth], FlagOperation.ADD, ("\\Seen",)))
        self.got(box.expunge([second], marked=False))
        changes = self.got(box.changes(before))
        self.assertEqual(changes.added, (fourth,))
        self.assertEqual([each[:2] for each in changes.flagged], [(first, ("\\Seen",))])
        self.assertEqual(changes.vanished, (second,))
        self.assertEqual(changes.uid_next, fourth + 1)
        self.assertEqual(self.uids(box), [first, third, fourth])
        again = self.got(box.changes(changes.highest_mod_seq))
        self.assertEqual((again.added, again.flagged, again.vanished), ((), (), ()))

    def test_mod_seq_only_rises(self) -> None:
        """Every change has a higher mod-sequence than the one before."""
        seen = []
        box = self.box()
        uid = self.add()
        seen.append(self.got(box.listing()).highest_mod_seq)
        self.got(box.store([uid], FlagOperation.ADD, ("\\Seen",)))
        seen.append(self.got(box.listing()).highest_mod_seq)
        self.got(box.expunge([uid], marked=False))
        seen.append(self.got(box.listing()).highest_mod_seq)
        self.add()
        seen.append(self.got(box.listing()).highest_mod_seq)
        self.assertEqual(seen, sorted(set(seen)))

    def test_watch(self) -> None:
        """A listener hears of a change with a mod-sequence at which it can be seen, until ended."""
        heard: list[tuple[MailboxID, ModSeq]] = []
        end = self.access.watch(lambda *change: heard.append(change))
        inbox = self.names()["INBOX"]
        self.add()
        self.pump()
        highest = self.got(self.access.status(inbox)).highest_mod_seq
        self.assertEqual(heard[-1], (inbox, highest))
        end()
        del heard[:]
        self.add()
        self.pump()
        self.assertEqual(heard, [])

    def test_deleted_mailbox_refuses(self) -> None:
        """A session whose mailbox is deleted is told so."""
        self.got(self.access.create("a"))
        box = self.box("a")
        self.got(self.access.delete(box.mailbox_id))
        self.refused(box.listing(), NoSuchMailbox)

    # Expunge, copy, move

    def test_expunge_takes_only_what_is_marked(self) -> None:
        """EXPUNGE removes \\Deleted messages, UID EXPUNGE those of them that are named."""
        for number in range(4):
            self.add(flags=("\\Deleted",) if number else ())
        box = self.box()
        self.assertEqual(self.got(box.expunge([1, 2, 77])).uids, (2,))
        self.assertEqual(self.got(box.expunge(None)).uids, (3, 4))
        self.assertEqual(self.got(box.expunge(None)).uids, ())
        self.assertEqual(self.uids(box), [1])
        self.assertEqual(self.got(self.access.status(box.mailbox_id)).deleted, 0)

    def test_copy_keeps_flags_date_and_email_id(self) -> None:
        """A copy has a new UID, and all else of its original."""
        self.got(self.access.create("there"))
        self.add()
        uid = self.add(SECOND, flags=("\\Seen", "$Work"))
        box = self.box()
        there = self.names()["there"]
        result = self.got(box.copy([uid, 99], there))
        self.assertEqual((result.source, result.copies), ((uid,), (1,)))
        self.assertEqual(result.highest_mod_seq, 0)
        target = self.box("there")
        self.assertEqual(result.uid_validity, target.uid_validity)
        columns = Column.FLAGS | Column.DATE | Column.EMAIL_ID | Column.CONTENT
        (original,) = self.got(box.records([uid], columns))
        (copy,) = self.got(target.records([1], columns))
        self.assertEqual(set(copy.flags), {"\\Seen", "$Work"})
        self.assertEqual((copy.date, copy.email_id), (original.date, original.email_id))
        self.assertEqual(copy.content, SECOND)
        self.assertEqual(self.uids(box), [1, 2])

    def test_copy_into_the_same_mailbox(self) -> None:
        """A mailbox may hold a message twice."""
        self.add()
        box = self.box()
        self.assertEqual(self.got(box.copy([1], box.mailbox_id)).copies, (2,))
        self.got(box.expunge([1], marked=False))
        (record,) = self.got(box.records([2], Column.CONTENT))
        self.assertEqual(record.content, MESSAGE)

    def test_copy_to_nowhere(self) -> None:
        """A target that is not there is refused, and nothing changes."""
        self.add()
        box = self.box()
        self.refused(box.copy([1], MailboxID("0" * 26)), NoSuchMailbox)
        self.refused(box.move([1], MailboxID("0" * 26)), NoSuchMailbox)
        self.assertEqual(self.uids(box), [1])

    def test_move(self) -> None:
        """A moved message is in one place, and its move is a change of both mailboxes."""
        self.got(self.access.create("there"))
        uid = self.add(flags=("\\Flagged",))
        self.add(SECOND)
        box = self.box()
        before = self.got(box.listing()).highest_mod_seq
        result = self.got(box.move([uid], self.names()["there"]))
        self.assertEqual((result.source, result.copies), ((uid,), (1,)))
        changes = self.got(box.changes(before))
        self.assertEqual(changes.vanished, (uid,))
        self.assertEqual(result.highest_mod_seq, changes.highest_mod_seq)
        target = self.box("there")
        self.assertEqual(self.flags(target), {1: {"\\Flagged"}})
        (record,) = self.got(target.records([1], Column.CONTENT))
        self.assertEqual(record.content, MESSAGE)

    def test_move_there_and_back(self) -> None:
        """A message that comes back has a new UID."""
        self.got(self.access.create("there"))
        self.add()
        box, there = self.box(), self.box("there")
        self.got(box.move([1], there.mailbox_id))
        self.assertEqual(self.got(there.move([1], box.mailbox_id)).copies, (2,))
        self.assertEqual((self.uids(box), self.uids(there)), ([2], []))
        (record,) = self.got(box.records([2], Column.CONTENT))
        self.assertEqual(record.content, MESSAGE)

    # Search

    def test_search_by_index(self) -> None:
        """Keys that need no text."""
        self.add(flags=("\\Seen", "$Work"))
        self.add(SECOND)
        self.assertEqual(self.search(All()), [1, 2])
        self.assertEqual(self.search(HasFlag("\\seen")), [1])
        self.assertEqual(self.search(HasFlag("$WORK")), [1])
        self.assertEqual(self.search(Not(HasFlag("$Nothing"))), [1, 2])
        self.assertEqual(self.search(InSet(((2, 9),))), [2])
        self.assertEqual(self.search(InSet(())), [])
        self.assertEqual(self.search(IsRecent(), recent_from=2), [2])
        self.assertEqual(self.search(SizeIs(Comparison.ABOVE, len(SECOND))), [1])
        self.assertEqual(self.search(SizeIs(Comparison.BELOW, len(SECOND))), [])
        self.assertEqual(self.search(SizeIs(Comparison.ABOVE, 1 << 70)), [])

    def test_search_by_date(self) -> None:
        """The internal date's day counts in its own zone, and the Date field's in its own."""
        self.add()
        self.add(SECOND, zone=120)
        self.assertEqual(self.search(DateIs(Comparison.EQUAL, DAY, False)), [1])
        self.assertEqual(self.search(DateIs(Comparison.AT_LEAST, DAY + 1, False)), [2])
        self.assertEqual(self.search(DateIs(Comparison.EQUAL, DAY - 2, True)), [1])
        self.assertEqual(self.search(DateIs(Comparison.BELOW, DAY + 9, True)), [1])

    def test_search_by_mod_seq(self) -> None:
        """Changed at or after a mod-sequence (RFC 7162 3.1.5)."""
        self.add()
        self.add(SECOND)
        box = self.box()
        self.got(box.store([1], FlagOperation.ADD, ("\\Seen",)))
        highest = self.got(box.listing()).highest_mod_seq
        self.assertEqual(self.search(ChangedSince(highest)), [1])

    def test_search_texts(self) -> None:
        """Substrings, caseless, of what the reader sees, in header and body."""
        self.add()
        self.add(SECOND)
        body, text = TextScope.BODY, TextScope.TEXT
        self.assertEqual(self.search(Contains(body, "UICK BRO")), [1])
        self.assertEqual(self.search(Contains(body, "grüsse")), [])
        self.assertEqual(self.search(Contains(text, "grüsse")), [1])
        self.assertEqual(self.search(Contains(text, "example.org")), [1, 2])
        self.assertEqual(self.search(HeaderContains("subject", "SECOND")), [2])
        self.assertEqual(self.search(HeaderContains("subject", "ann")), [])
        self.assertEqual(self.search(HeaderContains("to", "")), [1])

    def test_search_combined(self) -> None:
        """AND, OR and NOT over keys of both kinds."""
        self.add(flags=("\\Seen",))
        self.add(SECOND)
        self.add(SECOND, flags=("\\Seen",))
        dogs = Contains(TextScope.BODY, "dogs")
        self.assertEqual(self.search(And((HasFlag("\\Seen"), dogs))), [3])
        self.assertEqual(self.search(Or((dogs, HasFlag("\\Seen")))), [1, 2, 3])
        self.assertEqual(self.search(Not(Or((dogs, InSet(((9, 9),)))))), [1])
        self.assertEqual(self.search(And((Not(dogs), Not(HasFlag("\\Answered"))))), [1])
        self.assertEqual(self.search(And(())), [1, 2, 3])

    def test_search_many_ranges(self) -> None:
        """A set of very many ranges is no fault."""
        self.add()
        self.add(SECOND)
        ranges = tuple((number, number) for number in range(2, 6000, 2))
        self.assertEqual(self.search(InSet(ranges)), [2])
        self.assertEqual(self.search(Not(InSet(ranges))), [1])
