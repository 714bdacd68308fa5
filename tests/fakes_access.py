"""
An in-memory mail store that keeps the contract of `mailhost.interfaces.access`, for tests.

`FakeMailStore` holds accounts; `FakeMailAccess` and `FakeMailbox` are what the protocols see. With
``late=True`` nothing is done when it is asked for: each operation waits, in order, until `settle`.
`FakeAuthenticator` logs people in with a dictionary of passwords.
"""

from __future__ import annotations

import email
import email.policy
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mailhost import criteria
from mailhost.address import Address
from mailhost.errors import (
    MailboxExists,
    MailboxNameRefused,
    MailboxReadOnly,
    MailhostError,
    MessageDamaged,
    NoSuchEntry,
    NoSuchMailbox,
)
from mailhost.interfaces import access as seam
from mailhost.interfaces.access import (
    Changes,
    Column,
    CopyResult,
    ExpungeResult,
    FlagOperation,
    Listing,
    MailboxFacts,
    MailboxStatus,
    Record,
    StoreResult,
)
from mailhost.interfaces.login import (
    Challenge,
    ConnectionFacts,
    IAuthentication,
    IAuthenticator,
    LoggedIn,
    LoginFailure,
    LoginOutcome,
)
from mailhost.interfaces.spool import Placement
from mailhost.message.digest import USUAL_FIELDS, digest
from mailhost.message.headers import select_fields
from mailhost.units import UID, AccountID, MailboxID, ModSeq, UIDValidity

DEFAULT_MAILBOXES = (
    ("INBOX", ()),
    ("Archive", ("\\Archive",)),
    ("Drafts", ("\\Drafts",)),
    ("Junk", ("\\Junk",)),
    ("Sent", ("\\Sent",)),
    ("Trash", ("\\Trash",)),
)
NOW = 1_700_000_000


class Answers:
    """Gives answers at once, or keeps the questions until `settle`."""

    def __init__(self, late: bool = False) -> None:
        self.late = late
        self.waiting: list[Callable[[], None]] = []

    def give(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Return a Deferred of what the work returns or raises."""
        if not self.late:
            try:
                return succeed(work())
            except MailhostError as error:
                return fail(error)
        answer: Deferred[Any] = Deferred(lambda _: None)

        def later() -> None:
            try:
                result = work()
            except MailhostError as error:
                answer.errback(error)
            else:
                answer.callback(result)

        self.waiting.append(later)
        return answer

    def tell(self, notice: Callable[[], None]) -> None:
        """Do something at once, or when its turn comes."""
        if self.late:
            self.waiting.append(notice)
        else:
            notice()

    def settle(self) -> None:
        """Answer all that waits, and all that comes of it."""
        while self.waiting:
            self.waiting.pop(0)()


def rendered(octets: bytes) -> tuple[bytes, bytes, bytes]:
    """Return finished ENVELOPE, BODYSTRUCTURE and BODY octets of a message."""
    facts = digest(octets)
    return facts.envelope, facts.body_structure, facts.body


def header_of(octets: bytes) -> bytes:
    """Return the header of a message with the empty line that ends it."""
    if octets.startswith(b"\r\n"):
        return b"\r\n"
    end = octets.find(b"\r\n\r\n")
    return octets if end < 0 else octets[: end + 4]


@dataclass
class FakeMessage:
    """One stored message; a test may change `damaged`, `envelope` and the like."""

    octets: bytes
    flags: tuple[str, ...]
    date: int
    zone: int
    mod_seq: int
    email_id: str
    envelope: bytes
    body_structure: bytes
    body: bytes
    damaged: bool = False


@dataclass
class FakeBox:
    """The state of one mailbox, shared by all sessions that have it open."""

    mailbox_id: MailboxID
    name: str
    uid_validity: UIDValidity
    special_use: tuple[str, ...] = ()
    uid_next: int = 1
    recent_from: int = 1
    mod_seq: int = 1
    messages: dict[int, FakeMessage] = field(default_factory=dict)
    vanished: list[tuple[int, int]] = field(default_factory=list)
    arrivals: dict[int, int] = field(default_factory=dict)
    keywords: dict[str, None] = field(default_factory=dict)
    deleted: bool = False


def _has(flags: Iterable[str], flag: str) -> bool:
    return flag.casefold() in {item.casefold() for item in flags}


def _text(value: object) -> str:
    try:
        return str(make_header(decode_header(str(value))))
    except (ValueError, LookupError):
        return str(value)


def _bodies(message: email.message.Message) -> str:
    texts = []
    for part in message.walk():
        if part.get_content_maintype() == "text":
            octets = part.get_payload(decode=True)
            assert isinstance(octets, bytes)
            charset = part.get_content_charset() or "us-ascii"
            try:
                texts.append(octets.decode(charset, "replace"))
            except LookupError:
                texts.append(octets.decode("latin-1"))
    return "\n".join(texts)


_COMPARE: dict[criteria.Comparison, Callable[[int, int], bool]] = {
    criteria.Comparison.BELOW: lambda a, b: a < b,
    criteria.Comparison.EQUAL: lambda a, b: a == b,
    criteria.Comparison.ABOVE: lambda a, b: a > b,
    criteria.Comparison.AT_LEAST: lambda a, b: a >= b,
}


def _day(message: FakeMessage, sent: bool) -> int:
    if sent:
        value = email.message_from_bytes(header_of(message.octets))["Date"]
        try:
            return parsedate_to_datetime(value).date().toordinal() if value else 0
        except (ValueError, TypeError):
            return 0
    moment = datetime.fromtimestamp(message.date, timezone(timedelta(minutes=message.zone)))
    return moment.date().toordinal()


def _header_contains(message: FakeMessage, name: str, text: str) -> bool:
    fields = email.message_from_bytes(header_of(message.octets)).get_all(name, [])
    wanted = text.casefold()
    return any(wanted in _text(value).casefold() for value in fields)


def _contains(message: FakeMessage, scope: criteria.TextScope, text: str) -> bool:
    parsed = email.message_from_bytes(message.octets)
    haystack = _bodies(parsed)
    if scope is criteria.TextScope.TEXT:
        haystack += "".join(f"{name}: {_text(value)}\n" for name, value in parsed.items())
    return text.casefold() in haystack.casefold()


def matches(wanted: criteria.Criterion, uid: int, message: FakeMessage, recent_from: int) -> bool:
    """Whether a message is what the criterion asks for."""
    match wanted:
        case criteria.All():
            return True
        case criteria.InSet(ranges):
            return any(low <= uid <= high for low, high in ranges)
        case criteria.HasFlag(flag):
            return _has(message.flags, flag)
        case criteria.IsRecent():
            return uid >= recent_from
        case criteria.Contains(scope, text):
            return _contains(message, scope, text)
        case criteria.HeaderContains(name, text):
            return _header_contains(message, name, text)
        case criteria.SizeIs(comparison, size):
            return _COMPARE[comparison](len(message.octets), size)
        case criteria.DateIs(comparison, day, sent):
            found = _day(message, sent)
            return bool(found) and _COMPARE[comparison](found, day)
        case criteria.ChangedSince(mod_seq):
            return message.mod_seq >= mod_seq
        case criteria.Not() | criteria.And() | criteria.Or():
            return _combined(wanted, uid, message, recent_from)


def _combined(
    wanted: criteria.Not | criteria.And | criteria.Or,
    uid: int,
    message: FakeMessage,
    recent_from: int,
) -> bool:
    match wanted:
        case criteria.Not(inner):
            return not matches(inner, uid, message, recent_from)
        case criteria.And(inner_all):
            return all(matches(each, uid, message, recent_from) for each in inner_all)
        case criteria.Or(inner_any):
            return any(matches(each, uid, message, recent_from) for each in inner_any)


@implementer(seam.IContent)
class FakeContent:
    """Octets in memory, read in pieces."""

    def __init__(self, octets: bytes, answers: Answers) -> None:
        self._octets, self._answers = octets, answers
        self.size = len(octets)
        self.closed = False

    def read(self, offset: int, length: int) -> bytes | Deferred[bytes]:
        """A piece of the octets."""
        assert not self.closed, "read after close"
        piece = self._octets[offset : offset + length]
        return self._answers.give(lambda: piece) if self._answers.late else piece

    def close(self) -> None:
        """Let go."""
        self.closed = True


@implementer(seam.IAppend)
class FakeAppend:
    """Collects one message for a mailbox."""

    def __init__(self, account: FakeMailAccess, box: FakeBox) -> None:
        self._account, self._box = account, box
        self.chunks: list[bytes] = []
        self.aborted = self.committed = False

    def write(self, data: bytes) -> Deferred[None] | None:
        """Keep octets."""
        assert not (self.aborted or self.committed), "write after the end"
        self._account.check_room()
        self.chunks.append(bytes(data))
        return self._account.answers.give(lambda: None) if self._account.answers.late else None

    def commit(
        self, flags: Sequence[str], internal_date: int | None, zone: int = 0
    ) -> Deferred[Placement]:
        """Put the message into the mailbox."""
        assert not (self.aborted or self.committed), "committed twice"
        self.committed = True

        def work() -> Placement:
            self._account.check_room()
            if self._box.deleted:
                raise NoSuchMailbox(self._box.name)
            date = NOW if internal_date is None else internal_date
            octets = b"".join(self.chunks)
            uid = self._account.put(self._box, octets, flags, date, zone)
            self._account.notify(self._box)
            box = self._box
            return Placement(self._account.account_id, box.mailbox_id, box.uid_validity, UID(uid))

        return self._account.answers.give(work)

    def abort(self) -> None:
        """Forget the octets."""
        self.aborted = True
        self.chunks.clear()


@implementer(seam.IMailbox)
class FakeMailbox:
    """A mailbox as one session sees it."""

    def __init__(self, account: FakeMailAccess, box: FakeBox, read_only: bool) -> None:
        self._account, self._box = account, box
        self._answers = account.answers
        self.mailbox_id = box.mailbox_id
        self.uid_validity = box.uid_validity
        self.read_only = read_only
        self.closed = False
        self.records_asked = 0
        """How many messages `records` was asked for, for tests of back-pressure."""

    def _give(self, work: Callable[[], Any]) -> Deferred[Any]:
        assert not self.closed, "used after close"

        def checked() -> Any:
            if self._box.deleted:
                raise NoSuchMailbox(self._box.name)
            return work()

        return self._answers.give(checked)

    def _change(self, work: Callable[[], Any]) -> Deferred[Any]:
        def checked() -> Any:
            if self.read_only:
                raise MailboxReadOnly(self._box.name)
            return work()

        return self._give(checked)

    def listing(self) -> Deferred[Listing]:
        """The state now."""
        return self._give(self.list_now)

    def list_now(self) -> Listing:
        """The state, for the fakes."""
        box = self._box
        unseen = [uid for uid, m in box.messages.items() if not _has(m.flags, "\\Seen")]
        return Listing(
            array("I", sorted(box.messages)),
            UID(box.uid_next),
            ModSeq(box.mod_seq),
            tuple(box.keywords),
            UID(min(unseen)) if unseen else None,
        )

    def changes(self, mod_seq: ModSeq) -> Deferred[Changes]:
        """What came after."""

        def work() -> Changes:
            box = self._box
            added = tuple(u for u in sorted(box.messages) if box.arrivals[u] > mod_seq)
            known = set(added)
            flagged = tuple(
                (uid, box.messages[uid].flags, box.messages[uid].mod_seq)
                for uid in sorted(box.messages)
                if box.messages[uid].mod_seq > mod_seq and uid not in known
            )
            gone = tuple(sorted(uid for uid, when in box.vanished if when > mod_seq))
            return Changes(
                added,
                flagged,
                gone,
                ModSeq(box.mod_seq),
                UID(box.uid_next),
                tuple(box.keywords),
            )

        return self._give(work)

    def claim_recent(self) -> Deferred[int]:
        """Which messages are new to everyone."""
        return self._give(self.claim_now)

    def claim_now(self) -> int:
        """The same, for the fakes."""
        lowest = self._box.recent_from
        if not self.read_only:
            self._box.recent_from = self._box.uid_next
        return lowest

    def records(self, uids: Sequence[int], columns: Column) -> Deferred[list[Record]]:
        """Those messages."""
        wanted = sorted(set(uids))
        self.records_asked += len(wanted)

        def work() -> list[Record]:
            held = self._box.messages
            return [_record(uid, held[uid], columns) for uid in wanted if uid in held]

        return self._give(work)

    def content(self, uid: int) -> Deferred[FakeContent]:
        """The octets of one."""

        def work() -> FakeContent:
            message = self._box.messages.get(uid)
            if message is None:
                raise NoSuchEntry(str(uid))
            if message.damaged:
                raise MessageDamaged(str(uid))
            return FakeContent(message.octets, self._answers)

        return self._give(work)

    def store(
        self,
        uids: Sequence[int],
        operation: FlagOperation,
        flags: Sequence[str],
        unchanged_since: ModSeq | None = None,
    ) -> Deferred[StoreResult]:
        """Change flags."""
        wanted = sorted(set(uids))
        return self._change(
            lambda: self._account.change_flags(self._box, wanted, operation, flags, unchanged_since)
        )

    def expunge(
        self, uids: Sequence[int] | None, *, marked: bool = True
    ) -> Deferred[ExpungeResult]:
        """Remove messages."""
        wanted = None if uids is None else set(uids)

        def work() -> ExpungeResult:
            box = self._box
            gone = [
                uid
                for uid, message in sorted(box.messages.items())
                if (wanted is None or uid in wanted)
                and (not marked or _has(message.flags, "\\Deleted"))
            ]
            self._account.remove(box, gone)
            return ExpungeResult(tuple(gone), ModSeq(box.mod_seq))

        return self._change(work)

    def copy(self, uids: Sequence[int], mailbox_id: MailboxID) -> Deferred[CopyResult]:
        """Copy messages."""
        return self._give(lambda: self._copied(sorted(set(uids)), mailbox_id, move=False))

    def move(self, uids: Sequence[int], mailbox_id: MailboxID) -> Deferred[CopyResult]:
        """Move messages."""
        return self._change(lambda: self._copied(sorted(set(uids)), mailbox_id, move=True))

    def _copied(self, uids: list[int], mailbox_id: MailboxID, *, move: bool) -> CopyResult:
        self._account.check_room()
        target = self._account.box(mailbox_id)
        source = [uid for uid in uids if uid in self._box.messages]
        copies = []
        for uid in source:
            message = self._box.messages[uid]
            new = self._account.put(
                target, message.octets, message.flags, message.date, message.zone, copy=message
            )
            copies.append(new)
        if source:
            self._account.notify(target)
        if move:
            self._account.remove(self._box, source)
        return CopyResult(
            target.uid_validity,
            tuple(source),
            tuple(copies),
            ModSeq(self._box.mod_seq if move else 0),
        )

    def search(self, criterion: criteria.Criterion, recent_from: int) -> Deferred[Sequence[int]]:
        """Look for messages."""

        def work() -> Sequence[int]:
            return [
                uid
                for uid, message in sorted(self._box.messages.items())
                if matches(criterion, uid, message, recent_from)
            ]

        return self._give(work)

    def close(self) -> None:
        """End of use."""
        self.closed = True


def _record(uid: int, message: FakeMessage, columns: Column) -> Record:
    record = Record(uid, email_id=message.email_id, thread_id="t" + message.email_id)
    if Column.FLAGS in columns:
        record.flags = message.flags
    if Column.MOD_SEQ in columns:
        record.mod_seq = message.mod_seq
    if Column.DATE in columns:
        record.date, record.zone = message.date, message.zone
    if Column.SIZE in columns:
        record.size = len(message.octets)
    if Column.ENVELOPE in columns:
        record.envelope = message.envelope
    if Column.BODY_STRUCTURE in columns:
        record.body_structure = message.body_structure
    if Column.BODY in columns:
        record.body = message.body
    if Column.USUAL_FIELDS in columns:
        record.header = select_fields(message.octets, USUAL_FIELDS)
    if Column.HEADER in columns:
        record.header = header_of(message.octets)
    if Column.CONTENT in columns and len(message.octets) <= seam.CONTENT_LIMIT:
        record.content = message.octets
    if message.damaged and columns & (Column.CONTENT | Column.HEADER | Column.USUAL_FIELDS):
        record.content, record.header, record.size = b"", b"", 0
    return record


# RFC 9051 5.1: what cannot be a mailbox name here.
_BAD_NAME = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff*%\u2028\u2029]")


def check_name(name: str) -> str:
    """Return the NFC form of a mailbox name, or raise MailboxNameRefused."""
    levels = name.split("/")
    if (
        _BAD_NAME.search(name)
        or "" in levels
        or "." in levels
        or ".." in levels
        or len(levels) > 64
        or len(name.encode("utf-8", "replace")) > 200
    ):
        raise MailboxNameRefused(name[:64])
    return unicodedata.normalize("NFC", name)


@implementer(seam.IMailAccess)
class FakeMailAccess:
    """An account's mailboxes, in memory."""

    def __init__(
        self,
        account_id: AccountID,
        address: Address,
        answers: Answers | None = None,
        mailboxes: Sequence[tuple[str, tuple[str, ...]]] = DEFAULT_MAILBOXES,
    ) -> None:
        self.account_id, self.address = account_id, address
        self.answers = answers or Answers()
        self.boxes: dict[MailboxID, FakeBox] = {}
        self.subscriptions: set[str] = set()
        self.full: MailhostError | None = None
        """Raised by whatever needs room, when set."""
        self._listeners: list[Callable[[MailboxID, ModSeq], None]] = []
        self._mod_seq = 1
        self._serial = count(1)
        self._validity = count(3857529045)
        for name, special_use in mailboxes:
            self._add(name, special_use)

    # The state behind the interfaces, also for tests that change it under a session.

    def _add(self, name: str, special_use: Sequence[str] = ()) -> FakeBox:
        box = FakeBox(
            MailboxID(f"m{next(self._serial)}"),
            name,
            UIDValidity(next(self._validity)),
            tuple(special_use),
            mod_seq=self._mod_seq,
        )
        self.boxes[box.mailbox_id] = box
        return box

    def named(self, name: str) -> FakeBox | None:
        """The mailbox of a name, for tests."""
        return next((box for box in self.boxes.values() if box.name == name), None)

    def box(self, mailbox_id: MailboxID) -> FakeBox:
        """The mailbox of an id, or NoSuchMailbox."""
        try:
            return self.boxes[mailbox_id]
        except KeyError:
            raise NoSuchMailbox(mailbox_id) from None

    def check_room(self) -> None:
        """Raise what `full` says."""
        if self.full is not None:
            raise self.full

    def _tick(self, box: FakeBox) -> int:
        self._mod_seq += 1
        box.mod_seq = self._mod_seq
        return self._mod_seq

    def put(
        self,
        box: FakeBox,
        octets: bytes,
        flags: Sequence[str] = (),
        date: int = NOW,
        zone: int = 0,
        copy: FakeMessage | None = None,
    ) -> int:
        """Add a message and return its UID."""
        mod_seq = self._tick(box)
        uid, box.uid_next = box.uid_next, box.uid_next + 1
        kept = self._normal(box, flags)
        if copy is not None:
            message = replace(copy, flags=kept, mod_seq=mod_seq)
        else:
            message = FakeMessage(
                octets, kept, date, zone, mod_seq, f"e{mod_seq}", *rendered(octets)
            )
        box.messages[uid] = message
        box.arrivals[uid] = mod_seq
        return uid

    def deliver(
        self, name: str, octets: bytes, flags: Sequence[str] = (), date: int = NOW, zone: int = 0
    ) -> int:
        """Add a message to a mailbox by name, as a delivery would, and tell the listeners."""
        box = self.named(name)
        assert box is not None, name
        uid = self.put(box, octets, flags, date, zone)
        self.notify(box)
        return uid

    def notify(self, box: FakeBox) -> None:
        """Tell the listeners that a mailbox changed."""
        mod_seq = ModSeq(box.mod_seq)
        for listener in tuple(self._listeners):

            def notice(
                told: Callable[[MailboxID, ModSeq], None] = listener,
            ) -> None:
                if told in self._listeners:
                    told(box.mailbox_id, mod_seq)

            self.answers.tell(notice)

    @property
    def listeners(self) -> int:
        """How many sessions watch."""
        return len(self._listeners)

    def remove(self, box: FakeBox, uids: Sequence[int]) -> None:
        """Expunge messages and tell the listeners."""
        if not uids:
            return
        mod_seq = self._tick(box)
        for uid in uids:
            del box.messages[uid]
            del box.arrivals[uid]
            box.vanished.append((uid, mod_seq))
        self.notify(box)

    @staticmethod
    def _normal(box: FakeBox, flags: Sequence[str]) -> tuple[str, ...]:
        kept: dict[str, str] = {}
        for flag in flags:
            if flag.casefold() == "\\recent":
                continue
            if not flag.startswith("\\"):
                known = {word.casefold(): word for word in box.keywords}
                flag = known.setdefault(flag.casefold(), flag)
                box.keywords.setdefault(flag)
            kept.setdefault(flag.casefold(), flag)
        return tuple(kept.values())

    def change_flags(
        self,
        box: FakeBox,
        uids: Sequence[int],
        operation: FlagOperation,
        flags: Sequence[str],
        unchanged_since: int | None = None,
    ) -> StoreResult:
        """Change flags and tell the listeners."""
        stored, modified = [], []
        named = self._normal(box, flags)
        new_mod_seq = 0
        for uid in uids:
            message = box.messages.get(uid)
            if message is None:
                continue
            if unchanged_since is not None and message.mod_seq > unchanged_since:
                modified.append(uid)
                continue
            if operation is FlagOperation.REPLACE:
                result = named
            elif operation is FlagOperation.ADD:
                result = self._normal(box, (*message.flags, *named))
            else:
                result = tuple(flag for flag in message.flags if not _has(named, flag))
            if {f.casefold() for f in result} != {f.casefold() for f in message.flags}:
                new_mod_seq = new_mod_seq or self._tick(box)
                message.flags, message.mod_seq = result, new_mod_seq
            stored.append((uid, message.flags, message.mod_seq))
        if new_mod_seq:
            self.notify(box)
        return StoreResult(tuple(stored), tuple(modified))

    # IMailAccess

    def mailboxes(self) -> Deferred[tuple[MailboxFacts, ...]]:
        """All of them."""

        def work() -> tuple[MailboxFacts, ...]:
            found = {
                box.name: MailboxFacts(
                    box.mailbox_id, box.name, box.special_use, box.name in self.subscriptions
                )
                for box in self.boxes.values()
            }
            for name in self.subscriptions:
                found.setdefault(name, MailboxFacts(None, name, (), True))
            return tuple(sorted(found.values(), key=lambda f: (f.name != "INBOX", f.name)))

        return self.answers.give(work)

    def status(self, mailbox_id: MailboxID) -> Deferred[MailboxStatus]:
        """Counters."""

        def work() -> MailboxStatus:
            box = self.box(mailbox_id)
            messages = box.messages.values()
            return MailboxStatus(
                len(messages),
                sum(not _has(m.flags, "\\Seen") for m in messages),
                sum(_has(m.flags, "\\Deleted") for m in messages),
                sum(uid >= box.recent_from for uid in box.messages),
                sum(len(m.octets) for m in messages),
                UID(box.uid_next),
                box.uid_validity,
                ModSeq(box.mod_seq),
            )

        return self.answers.give(work)

    def open(self, mailbox_id: MailboxID, read_only: bool) -> Deferred[FakeMailbox]:
        """Open one."""
        return self.answers.give(lambda: FakeMailbox(self, self.box(mailbox_id), read_only))

    def select(self, name: str, read_only: bool) -> Deferred[seam.Selected]:
        """Open one by name, with what SELECT wants to know."""

        def work() -> seam.Selected:
            box = self.named(name)
            if box is None:
                raise NoSuchMailbox(name)
            mailbox = FakeMailbox(self, box, read_only)
            return seam.Selected(mailbox, mailbox.claim_now(), mailbox.list_now())

        return self.answers.give(work)

    def _make(self, name: str, special_use: Sequence[str] = ()) -> FakeBox:
        name = check_name(name)
        if self.named(name) is not None:
            raise MailboxExists(name)
        levels = name.split("/")
        for depth in range(1, len(levels)):
            parent = "/".join(levels[:depth])
            if self.named(parent) is None:
                self._add(parent)
        return self._add(name, special_use)

    def create(self, name: str, special_use: Sequence[str] = ()) -> Deferred[MailboxID]:
        """Make one."""
        return self.answers.give(lambda: self._make(name, special_use).mailbox_id)

    def delete(self, mailbox_id: MailboxID) -> Deferred[None]:
        """Drop one."""

        def work() -> None:
            box = self.box(mailbox_id)
            if box.name == "INBOX":
                raise MailboxReadOnly(box.name)
            box.deleted = True
            self._tick(box)
            del self.boxes[mailbox_id]
            self.notify(box)

        return self.answers.give(work)

    def rename(self, mailbox_id: MailboxID, name: str) -> Deferred[None]:
        """Give another name to one and all below it."""

        def work() -> None:
            box = self.box(mailbox_id)
            old, new = box.name, check_name(name)
            if self.named(new) is not None:
                raise MailboxExists(new)
            if new.startswith(old + "/") and old != "INBOX":
                raise MailboxNameRefused(new)
            target = self._make(new)
            if old == "INBOX":
                uids = sorted(box.messages)
                for uid in uids:
                    message = box.messages[uid]
                    self.put(
                        target, message.octets, message.flags, message.date, message.zone, message
                    )
                self.remove(box, uids)
                return
            del self.boxes[target.mailbox_id]
            for each in self.boxes.values():
                if each.name == old or each.name.startswith(old + "/"):
                    each.name = new + each.name[len(old) :]

        return self.answers.give(work)

    def subscribe(self, name: str, subscribed: bool) -> Deferred[None]:
        """Change the subscription list."""

        def work() -> None:
            if subscribed:
                self.subscriptions.add(check_name(name))
            else:
                self.subscriptions.discard(name)

        return self.answers.give(work)

    def append(self, mailbox_id: MailboxID) -> Deferred[FakeAppend]:
        """Begin a message."""
        return self.answers.give(lambda: FakeAppend(self, self.box(mailbox_id)))

    def watch(self, listener: Callable[[MailboxID, ModSeq], None]) -> Callable[[], None]:
        """Hear of changes."""

        def told(mailbox_id: MailboxID, mod_seq: ModSeq) -> None:
            listener(mailbox_id, mod_seq)

        self._listeners.append(told)

        def end() -> None:
            if told in self._listeners:
                self._listeners.remove(told)

        return end


@implementer(seam.IMailStore)
class FakeMailStore:
    """Accounts by id, each made at first use."""

    def __init__(self, late: bool = False) -> None:
        self.answers = Answers(late)
        self.accounts: dict[AccountID, FakeMailAccess] = {}

    def access(self, account_id: AccountID, address: Address) -> FakeMailAccess:
        """The mail of an account."""
        if account_id not in self.accounts:
            self.accounts[account_id] = FakeMailAccess(account_id, address, self.answers)
        return self.accounts[account_id]


@implementer(IAuthentication)
class _FakeExchange:
    def __init__(
        self, owner: FakeAuthenticator, mechanism: bytes, facts: ConnectionFacts, interface: Any
    ) -> None:
        self._owner, self._mechanism = owner, mechanism
        self._facts, self._interface = facts, interface
        self._said: list[bytes] = []

    def respond(
        self, data: bytes | None
    ) -> Challenge | LoginOutcome | Deferred[Challenge | LoginOutcome]:
        if data is None:
            return Challenge({b"PLAIN": b"", b"LOGIN": b"Username:"}.get(self._mechanism, b""))
        self._said.append(data)
        if self._mechanism == b"PLAIN":
            parts = data.split(b"\0")
            if len(parts) != 3:
                return LoginFailure.MALFORMED
            identity, user, password = parts
            if identity not in (b"", user):
                return LoginFailure.CREDENTIALS
            return self._owner.login(user, password, self._facts, self._interface)
        if self._mechanism == b"LOGIN":
            if len(self._said) == 1:
                return Challenge(b"Password:")
            return self._owner.login(*self._said, self._facts, self._interface)
        # A stand-in for SCRAM: user, then the password, then a last word from the server.
        if len(self._said) == 1:
            return Challenge(b"r=nonce,s=c2FsdA==,i=4096")
        return self._owner.login(*self._said, self._facts, self._interface, final=b"v=verified")

    def cancel(self) -> None:
        self._owner.cancelled += 1


@implementer(IAuthenticator)
class FakeAuthenticator:
    """
    Logs in by a dictionary of passwords.

    Args:
        avatar: gives the avatar for a user name and an interface.
        outcome: answered instead of anything else, when set.
    """

    def __init__(
        self,
        passwords: dict[bytes, bytes],
        avatar: Callable[[bytes, Any], Any],
        answers: Answers | None = None,
    ) -> None:
        self.passwords, self._avatar = passwords, avatar
        self.answers = answers or Answers()
        self.outcome: LoginFailure | None = None
        self.logins = self.logouts = self.cancelled = 0
        self.facts: list[ConnectionFacts] = []

    def mechanisms(self, facts: ConnectionFacts) -> tuple[bytes, ...]:
        """What is offered."""
        if not facts.tls and not facts.cleartext_login:
            return (b"SCRAM-SHA-256",)
        return (b"SCRAM-SHA-256", b"PLAIN", b"LOGIN")

    def begin(
        self, mechanism: bytes, facts: ConnectionFacts, interface: Any
    ) -> _FakeExchange | None:
        """Start an exchange."""
        if mechanism.upper() not in self.mechanisms(facts):
            return None
        return _FakeExchange(self, mechanism.upper(), facts, interface)

    def _logout(self) -> None:
        self.logouts += 1

    def login(
        self,
        user: bytes,
        password: bytes,
        facts: ConnectionFacts,
        interface: Any,
        final: bytes | None = None,
    ) -> Deferred[Any]:
        """Check name and password."""
        self.facts.append(facts)

        def work() -> LoginOutcome:
            if self.outcome is not None:
                return self.outcome
            if not facts.tls and not facts.cleartext_login and final is None:
                return LoginFailure.ENCRYPTION_NEEDED
            if self.passwords.get(user) != password:
                return LoginFailure.CREDENTIALS
            self.logins += 1
            return LoggedIn(self._avatar(user, interface), self._logout, user.decode(), final)

        return self.answers.give(work)


def internal_date(text: str) -> tuple[int, int]:
    """Return Unix seconds and zone minutes of an ISO date with offset, for test data."""
    moment = datetime.fromisoformat(text)
    offset = moment.utcoffset() or timedelta()
    return int(moment.astimezone(UTC).timestamp()), int(offset.total_seconds() // 60)
