"""
IMAP commands as values, and the parsers that read their arguments.

`split` takes tag and name off a command; the table of `mailhost.imap.table` then names the parser,
which reads the arguments from the cursor, the space before them included, up to the end. Parsers
know no state and no policy. They raise SyntaxFault, and MailboxNameRefused for a name that is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Flag, auto

from mailhost.errors import SyntaxFault
from mailhost.wire.imap import fetch_items
from mailhost.wire.imap.cursor import MAX_NUMBER, Cursor
from mailhost.wire.imap.fetch_items import FetchItem
from mailhost.wire.imap.sequence_set import SequenceSet

MAX_PATTERNS = 50
"""Mailbox patterns of one LIST."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A command without arguments."""


@dataclass(frozen=True, slots=True)
class Login:
    """LOGIN (RFC 9051 6.2.3)."""

    user: bytes
    password: bytes


@dataclass(frozen=True, slots=True)
class Authenticate:
    """AUTHENTICATE (RFC 9051 6.2.2); `initial` is still base64, None if there is none."""

    mechanism: bytes
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class Enable:
    """ENABLE (RFC 9051 6.3.1), names in upper case."""

    extensions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Id:
    """ID (RFC 2971)."""

    fields: tuple[tuple[bytes, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Select:
    """SELECT and EXAMINE (RFC 9051 6.3.2, RFC 7162 3.1.8)."""

    mailbox: str
    condstore: bool = False


@dataclass(frozen=True, slots=True)
class Create:
    """CREATE with attributes such as ``\\Sent`` (RFC 6154 3), lower case."""

    mailbox: str
    special_use: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Mailbox:
    """DELETE, SUBSCRIBE, UNSUBSCRIBE: a name alone."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class Rename:
    """RENAME (RFC 9051 6.3.6)."""

    mailbox: str
    new_name: str


class ListSelect(Flag):
    """Selection options of LIST (RFC 5258 3.1, RFC 6154 2)."""

    SUBSCRIBED = auto()
    REMOTE = auto()
    RECURSIVEMATCH = auto()
    SPECIAL_USE = auto()


class ListReturn(Flag):
    """Return options of LIST without arguments (RFC 5258 3.2, RFC 6154 2)."""

    SUBSCRIBED = auto()
    CHILDREN = auto()
    SPECIAL_USE = auto()


NO_SELECTION = ListSelect(0)
NO_RETURN = ListReturn(0)


@dataclass(frozen=True, slots=True)
class List:
    """
    LIST and LSUB (RFC 9051 6.3.9, RFC 5258, RFC 5819).

    Args:
        extended: written with options or several patterns.
        status: items of the STATUS return option, None if it was not asked for.
    """

    reference: str
    patterns: tuple[str, ...]
    select: ListSelect = NO_SELECTION
    returns: ListReturn = NO_RETURN
    status: tuple[bytes, ...] | None = None
    extended: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS (RFC 9051 6.3.11); items are names in upper case."""

    mailbox: str
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND up to its message (RFC 9051 6.3.12); `date` is Unix seconds and zone minutes."""

    mailbox: str
    flags: tuple[str, ...]
    date: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Expunge:
    """EXPUNGE, or UID EXPUNGE with a set (RFC 4315 2.1)."""

    uids: SequenceSet | None = None


class SearchReturn(Flag):
    """Result options of SEARCH (RFC 4731 3.1, RFC 5182)."""

    MIN = auto()
    MAX = auto()
    ALL = auto()
    COUNT = auto()
    SAVE = auto()


@dataclass(frozen=True, slots=True)
class Search:
    """
    SEARCH and UID SEARCH (RFC 9051 6.4.4).

    Args:
        returns: None without RETURN: the answer is an untagged SEARCH.
        keys: still unread, for `search_keys.parse`: sets in them mean something in a session only.
    """

    uid: bool
    returns: SearchReturn | None
    charset: bytes
    keys: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH and UID FETCH (RFC 9051 6.4.5, RFC 7162 3.1.4.1)."""

    uid: bool
    numbers: SequenceSet
    items: tuple[FetchItem, ...]
    changed_since: int | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """
    STORE and UID STORE (RFC 9051 6.4.6, RFC 7162 3.1.3).

    Args:
        operation: ``FLAGS``, ``+FLAGS`` or ``-FLAGS``.
    """

    uid: bool
    numbers: SequenceSet
    operation: bytes
    silent: bool
    flags: tuple[str, ...]
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY, MOVE and their UID forms (RFC 9051 6.4.7, 6.4.8)."""

    uid: bool
    numbers: SequenceSet
    mailbox: str


def split(data: bytes) -> tuple[bytes, bytes, Cursor]:
    """
    Return tag and name, in upper case, and the cursor behind the name.

    The name of a command that begins with ``UID`` has two words.

    Raises:
        SyntaxFault: there is no tag (then the position is 0), or no name.
    """
    cursor = Cursor(data)
    tag = cursor.tag()
    cursor.space()
    name = cursor.keyword()
    if name == b"UID":
        cursor.space()
        name = b"UID " + cursor.keyword()
    return tag, name, cursor


def plain(cursor: Cursor) -> Plain:
    """Read no arguments."""
    cursor.end()
    return _PLAIN


_PLAIN = Plain()


def login(cursor: Cursor) -> Login:
    """Read ``SP userid SP password``."""
    cursor.space()
    user = cursor.astring()
    cursor.space()
    password = cursor.astring()
    cursor.end()
    return Login(user, password)


def authenticate(cursor: Cursor) -> Authenticate:
    """Read ``SP auth-type [SP initial-resp]`` (RFC 4959)."""
    cursor.space()
    mechanism = cursor.atom().upper()
    initial = None
    if cursor.accept(b" "):
        initial = cursor.rest()
    cursor.end()
    return Authenticate(mechanism, initial)


def enable(cursor: Cursor) -> Enable:
    """Read ``1*(SP capability)``."""
    names: list[bytes] = []
    while not names or not cursor.at_end():
        cursor.space()
        names.append(cursor.atom().upper())
    return Enable(tuple(names))


def id_(cursor: Cursor) -> Id:
    """Read ``SP id_params_list``: NIL, or string and nstring in turns (RFC 2971 4)."""
    cursor.space()
    if cursor.peek() != b"(":
        if cursor.nstring() is not None:
            raise cursor.fault("a list or NIL")
        cursor.end()
        return Id(())

    def pair() -> tuple[bytes, bytes | None]:
        name = cursor.string()
        cursor.space()
        return name, cursor.nstring()

    fields = cursor.items(pair, empty=True)
    cursor.end()
    # RFC 2971 3.3: at most 30 pairs, names of 30 octets, values of 1024.
    return Id(tuple((name[:30], value and value[:1024]) for name, value in fields[:30]))


def select(cursor: Cursor) -> Select:
    """Read ``SP mailbox [SP "(" select-param *(SP select-param) ")"]``."""
    cursor.space()
    mailbox = cursor.mailbox()
    condstore = False
    if cursor.accept(b" "):
        for word in cursor.items(cursor.keyword):
            if word != b"CONDSTORE":
                raise cursor.fault("CONDSTORE")
            condstore = True
    cursor.end()
    return Select(mailbox, condstore)


def create(cursor: Cursor) -> Create:
    """Read ``SP mailbox [SP "(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")"]``."""
    cursor.space()
    mailbox = cursor.mailbox()
    special_use: list[bytes] = []
    if cursor.accept(b" "):
        cursor.expect(b"(")
        if cursor.keyword() != b"USE":
            raise cursor.fault("USE")
        cursor.space()

        def attribute() -> bytes:
            cursor.expect(b"\\")
            return b"\\" + cursor.atom().lower()

        special_use = cursor.items(attribute, empty=True)
        cursor.expect(b")")
    cursor.end()
    return Create(mailbox, tuple(dict.fromkeys(special_use)))


def mailbox(cursor: Cursor) -> Mailbox:
    """Read ``SP mailbox``."""
    cursor.space()
    name = cursor.mailbox()
    cursor.end()
    return Mailbox(name)


def rename(cursor: Cursor) -> Rename:
    """Read ``SP mailbox SP mailbox``."""
    cursor.space()
    name = cursor.mailbox()
    cursor.space()
    new_name = cursor.mailbox()
    cursor.end()
    return Rename(name, new_name)


_SELECT_OPTIONS = {
    b"SUBSCRIBED": ListSelect.SUBSCRIBED,
    b"REMOTE": ListSelect.REMOTE,
    b"RECURSIVEMATCH": ListSelect.RECURSIVEMATCH,
    b"SPECIAL-USE": ListSelect.SPECIAL_USE,
}
_RETURN_OPTIONS = {
    b"SUBSCRIBED": ListReturn.SUBSCRIBED,
    b"CHILDREN": ListReturn.CHILDREN,
    b"SPECIAL-USE": ListReturn.SPECIAL_USE,
}


def list_(cursor: Cursor) -> List:
    """
    Read the arguments of LIST.

    list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP "RETURN" SP "(" ... ")"]
    """
    cursor.space()
    chosen = ListSelect(0)
    extended = False
    if cursor.peek() == b"(":
        extended = True
        for word in cursor.items(cursor.keyword, empty=True):
            if word not in _SELECT_OPTIONS:
                raise cursor.fault("a selection option of LIST")
            chosen |= _SELECT_OPTIONS[word]
        # RFC 5258 3.1: it only changes what another option selects.
        if chosen & ListSelect.RECURSIVEMATCH and not chosen & ~(
            ListSelect.RECURSIVEMATCH | ListSelect.REMOTE
        ):
            raise cursor.fault("another option beside RECURSIVEMATCH")
        cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    if cursor.peek() == b"(":
        extended = True
        patterns = cursor.items(cursor.list_mailbox)
        if len(patterns) > MAX_PATTERNS:
            raise cursor.fault(f"at most {MAX_PATTERNS} patterns")
    else:
        patterns = [cursor.list_mailbox()]
    returns, status_items = ListReturn(0), None
    if cursor.accept(b" "):
        extended = True
        if cursor.keyword() != b"RETURN":
            raise cursor.fault("RETURN")
        cursor.space()
        returns, status_items = _list_return(cursor)
    cursor.end()
    return List(reference, tuple(patterns), chosen, returns, status_items, extended)


def _list_return(cursor: Cursor) -> tuple[ListReturn, tuple[bytes, ...] | None]:
    status_items: list[tuple[bytes, ...]] = []

    def option() -> ListReturn:
        word = cursor.keyword()
        if word == b"STATUS":
            cursor.space()
            status_items.append(_status_items(cursor))
            return ListReturn(0)
        if word not in _RETURN_OPTIONS:
            raise cursor.fault("a return option of LIST")
        return _RETURN_OPTIONS[word]

    returns = ListReturn(0)
    for chosen in cursor.items(option, empty=True):
        returns |= chosen
    return returns, status_items[-1] if status_items else None


def lsub(cursor: Cursor) -> List:
    """Read ``SP mailbox SP list-mailbox``."""
    cursor.space()
    reference = cursor.mailbox()
    cursor.space()
    pattern = cursor.list_mailbox()
    cursor.end()
    return List(reference, (pattern,), ListSelect.SUBSCRIBED)


STATUS_ITEMS = frozenset(
    b"MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ APPENDLIMIT".split()
)


def _status_items(cursor: Cursor) -> tuple[bytes, ...]:
    start = cursor.position
    items = cursor.items(cursor.keyword)
    if not STATUS_ITEMS.issuperset(items):
        raise SyntaxFault(start, "items of STATUS")
    return tuple(dict.fromkeys(items))


def status(cursor: Cursor) -> Status:
    """Read ``SP mailbox SP "(" status-att *(SP status-att) ")"``."""
    cursor.space()
    name = cursor.mailbox()
    cursor.space()
    items = _status_items(cursor)
    cursor.end()
    return Status(name, items)


def append(cursor: Cursor) -> Append | None:
    """
    Read ``SP mailbox [SP flag-list] [SP date-time] SP``: what stands before the message.

    Returns None when the literal that comes next is the mailbox name.
    """
    cursor.space()
    if cursor.at_end():
        return None
    name = cursor.mailbox()
    cursor.space()
    flags: tuple[str, ...] = ()
    date = None
    if cursor.peek() == b"(":
        flags = cursor.flags()
        cursor.space()
    if cursor.peek() == b'"':
        date = cursor.date_time()
        cursor.space()
    cursor.end()
    return Append(name, flags, date)


def expunge_uids(cursor: Cursor) -> Expunge:
    """Read ``SP sequence-set``."""
    cursor.space()
    numbers = cursor.sequence_set()
    cursor.end()
    return Expunge(numbers)


def expunge(cursor: Cursor) -> Expunge:
    """Read no arguments."""
    cursor.end()
    return Expunge()


_RESULTS = {option.name.encode(): option for option in SearchReturn if option.name is not None}


def search(uid: bool) -> Callable[[Cursor], Search]:
    """Return the parser of SEARCH or UID SEARCH."""

    def parse(cursor: Cursor) -> Search:
        """Read ``[SP "RETURN" SP "(" ... ")"] [SP "CHARSET" SP charset] SP keys``."""
        cursor.space()
        returns = None
        if cursor.data[cursor.position : cursor.position + 7].upper() == b"RETURN ":
            cursor.position += 7
            returns = SearchReturn(0)
            for word in cursor.items(cursor.keyword, empty=True):
                if word not in _RESULTS:
                    raise cursor.fault("a result option of SEARCH")
                returns |= _RESULTS[word]
            # RFC 4731 3.1: no options mean ALL.
            returns = returns or SearchReturn.ALL
            cursor.space()
        # RFC 9051 6.4.4; RFC 3501 has US-ASCII, a part of it.
        charset = b"UTF-8"
        if cursor.data[cursor.position : cursor.position + 8].upper() == b"CHARSET ":
            cursor.position += 8
            charset = cursor.astring()
            cursor.space()
        return Search(uid, returns, charset, cursor.rest())

    return parse


def _modifier(cursor: Cursor, name: bytes, least: int) -> int | None:
    """Read ``"(" name SP mod-sequence ")"``."""
    cursor.expect(b"(")
    if cursor.keyword() != name:
        raise cursor.fault(name.decode("ascii"))
    cursor.space()
    value = cursor.number(MAX_NUMBER)
    if value < least:
        raise cursor.fault("a mod-sequence")
    cursor.expect(b")")
    return value


def fetch(uid: bool) -> Callable[[Cursor], Fetch]:
    """Return the parser of FETCH or UID FETCH."""

    def parse(cursor: Cursor) -> Fetch:
        """Read ``SP sequence-set SP items [SP "(" "CHANGEDSINCE" SP mod-sequence ")"]``."""
        cursor.space()
        numbers = cursor.sequence_set()
        cursor.space()
        items = fetch_items.parse(cursor)
        changed_since = None
        if cursor.accept(b" "):
            changed_since = _modifier(cursor, b"CHANGEDSINCE", 1)
        cursor.end()
        return Fetch(uid, numbers, items, changed_since)

    return parse


def store(uid: bool) -> Callable[[Cursor], Store]:
    """Return the parser of STORE or UID STORE."""

    def parse(cursor: Cursor) -> Store:
        """Read ``SP sequence-set [SP "(UNCHANGEDSINCE n)"] SP store-att-flags``."""
        cursor.space()
        numbers = cursor.sequence_set()
        cursor.space()
        unchanged_since = None
        if cursor.peek() == b"(":
            unchanged_since = _modifier(cursor, b"UNCHANGEDSINCE", 0)
            cursor.space()
        sign = b"+" if cursor.accept(b"+") else b"-" if cursor.accept(b"-") else b""
        word = cursor.keyword()
        if word not in (b"FLAGS", b"FLAGS.SILENT"):
            raise cursor.fault("FLAGS")
        cursor.space()
        flags = cursor.store_flags()
        cursor.end()
        silent = word == b"FLAGS.SILENT"
        return Store(uid, numbers, sign + b"FLAGS", silent, flags, unchanged_since)

    return parse


def copy(uid: bool) -> Callable[[Cursor], Copy]:
    """Return the parser of COPY and MOVE, or of their UID forms."""

    def parse(cursor: Cursor) -> Copy:
        """Read ``SP sequence-set SP mailbox``."""
        cursor.space()
        numbers = cursor.sequence_set()
        cursor.space()
        name = cursor.mailbox()
        cursor.end()
        return Copy(uid, numbers, name)

    return parse
