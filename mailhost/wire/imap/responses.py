"""
Octets that an IMAP server writes (RFC 9051 7 and 9).

Every function returns octets or builds on others here; nothing is written to a peer. Text that
comes from outside goes through `quoted`, `literal` or `astring`, so that it can never end a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

from mailhost.wire.imap import utf7

_ATOM = re.compile(rb'[^(){ \x00-\x1f\x7f-\xff%*"\\\]]+\Z')
_ASTRING = re.compile(rb'[^(){ \x00-\x1f\x7f-\xff%*"\\]+\Z')
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*\Z")
_SPECIAL = re.compile(rb'(["\\])')
_MAX_QUOTED = 1000
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def literal(data: bytes) -> bytes:
    """Return the octets as a literal."""
    return b"{%d}\r\n%b" % (len(data), data)


def quoted(data: bytes) -> bytes:
    """Return the octets as a quoted string, or as a literal where quoting cannot hold them."""
    if len(data) > _MAX_QUOTED or not _QUOTABLE.match(data):
        return literal(data)
    return b'"' + _SPECIAL.sub(rb"\\\1", data) + b'"'


def nstring(data: bytes | None) -> bytes:
    """Return a string, or NIL for None."""
    return b"NIL" if data is None else quoted(data)


def astring(data: bytes) -> bytes:
    """Return the octets as an atom where they are one, else as a string."""
    return data if _ASTRING.match(data) else quoted(data)


@lru_cache(maxsize=4096)
def mailbox(name: str) -> bytes:
    """Return a mailbox name as it is written."""
    data = utf7.encode(name)
    # A plain atom would do where it is one; quotes are what every client expects of a name.
    return data if _ATOM.match(data) and data.upper() != b"NIL" else quoted(data)


def flag_list(flags: Iterable[str]) -> bytes:
    """Return flags in parentheses."""
    return b"(" + " ".join(flags).encode("ascii", "replace") + b")"


@lru_cache(maxsize=4096)
def internal_date(seconds: int, zone: int) -> bytes:
    """Return a date-time in quotes from Unix seconds and minutes east of UTC."""
    try:
        moment = datetime.fromtimestamp(seconds, timezone(timedelta(minutes=zone)))
    except (ValueError, OverflowError, OSError):
        # RFC 9051 has four-digit years only: what lies outside is shown as the epoch.
        zone, moment = 0, datetime.fromtimestamp(0, UTC)
    sign, minutes = ("-", -zone) if zone < 0 else ("+", zone)
    return (
        f'"{moment.day:2d}-{_MONTHS[moment.month - 1]}-{moment.year:04d} '
        f"{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d} "
        f'{sign}{minutes // 60:02d}{minutes % 60:02d}"'
    ).encode("ascii")


def listed(
    kind: bytes, attributes: Sequence[bytes], name: str, extended: Sequence[bytes] = ()
) -> bytes:
    """Return a LIST or LSUB response; `extended` are finished extended data items."""
    more = b" (" + b" ".join(extended) + b")" if extended else b""
    return b'* %b (%b) "/" %b%b\r\n' % (kind, b" ".join(attributes), mailbox(name), more)


def status(name: str, items: Sequence[tuple[bytes, int]]) -> bytes:
    """Return a STATUS response."""
    values = b" ".join([b"%b %d" % item for item in items])
    return b"* STATUS %b (%b)\r\n" % (mailbox(name), values)


def search(numbers: Sequence[int], mod_seq: int | None) -> bytes:
    """Return a SEARCH response (RFC 7162 3.1.5 for the mod-sequence)."""
    line = b"* SEARCH"
    if numbers:
        line += b" " + " ".join(map(str, numbers)).encode("ascii")
    if mod_seq is not None and numbers:
        line += b" (MODSEQ %d)" % mod_seq
    return line + b"\r\n"


def esearch(tag: bytes, uid: bool, results: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return an ESEARCH response (RFC 4731 3.1)."""
    line = b"* ESEARCH (TAG %b)" % quoted(tag)
    if uid:
        line += b" UID"
    for name, value in results:
        line += b" " + name + b" " + value
    return line + b"\r\n"
