"""
The header of a message on its way in: kept back until it is whole, checked, and for our own
users' mail completed (RFC 6409 8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailhost.address import Address, quote_local_part
from mailhost.errors import SyntaxFault
from mailhost.message.addresses import parse_addresses
from mailhost.message.dates import format_date
from mailhost.message.headers import Header
from mailhost.message.trace import count_received, safe_text

_END = b"\r\n\r\n"
# RFC 5322 2.2: a field name is printable US-ASCII without the colon.
_FIELD_LINE = re.compile(rb"[!-9;-~]+[ \t]*:")
_MAX_MESSAGE_ID = 200


class HeaderCollector:
    """
    Keeps octets back until the header's end is among them.

    Args:
        limit: octets kept at most.
    """

    __slots__ = ("_kept", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()

    def feed(self, chunk: bytes) -> tuple[bytes, bytes] | None:
        """
        Return the header and what follows it, beginning with the empty line; None for not yet.

        Raises:
            SyntaxFault: the header is larger than the limit.
        """
        kept = self._kept
        if not kept:
            # Nearly always the whole header is in the first chunk.
            end = 0 if chunk.startswith(b"\r\n") else chunk.find(_END) + 2
            if end != 1:
                return self._whole(chunk, end)
        searched = max(0, len(kept) - 3)
        kept += chunk
        end = 0 if kept.startswith(b"\r\n") else kept.find(_END, searched) + 2
        if end != 1:
            return self._whole(bytes(kept), end)
        if len(kept) > self._limit:
            raise SyntaxFault(self._limit, "the end of the header")
        return None

    def finish(self) -> tuple[bytes, bytes]:
        """Return what was kept: a message without an empty line is header alone."""
        return bytes(self._kept), b""

    def _whole(self, octets: bytes, end: int) -> tuple[bytes, bytes]:
        if end > self._limit:
            raise SyntaxFault(self._limit, "the end of the header")
        return octets[:end], octets[end:]


def has_too_many_hops(header: bytes, limit: int) -> bool:
    """Whether more than so many Received fields stand in the header (RFC 5321 6.3)."""
    # The exact count is dear and nearly never needed.
    return header.lower().count(b"received") > limit and count_received(header) > limit


def message_id(header: bytes) -> str:
    """Return the Message-ID field's text, cut and without controls, or empty."""
    lower = header.lower()
    start = 0 if lower.startswith(b"message-id:") else lower.find(b"\nmessage-id:") + 1
    if start == 0 and not lower.startswith(b"message-id:"):
        return ""
    start += len(b"message-id:")
    end = lower.find(b"\r\n", start)
    # The value may stand on the next line.
    if end >= 0 and not header[start:end].strip() and header[end + 2 : end + 3] in (b" ", b"\t"):
        start, end = end + 2, lower.find(b"\r\n", end + 2)
    value = header[start : end if end >= 0 else None].strip()
    return safe_text(value.decode("utf-8", "replace"), _MAX_MESSAGE_ID)


@dataclass(frozen=True, slots=True)
class Submitted:
    """
    A submitted message's header, made fit to be sent on.

    Args:
        header: as it came, without Bcc.
        added: fields that were missing, to stand before it.
        authors: the addresses of From.
    """

    header: bytes
    added: bytes
    authors: tuple[Address, ...]


class FromFault(SyntaxFault):
    """The From field is there more than once, or names no address."""


def complete(
    header: bytes, *, sender: Address, now: float, message_id: str, zone: int = 0
) -> Submitted:
    """
    Complete the header of a message that one of our users submits (RFC 6409 8.1 to 8.4).

    Date, Message-ID and From are added when missing, Bcc and Resent-Bcc are taken out.

    Args:
        header: the header as it came, without its empty line.
        sender: who submits, for a missing From.
        now: Unix time in seconds.
        message_id: the Message-ID to give, without brackets.
        zone: minutes east of UTC to write the date in.

    Raises:
        FromFault: From is there more than once or names no address.
    """
    fields = Header(header)
    added = []
    if fields.first(b"date") is None:
        added.append(f"Date: {format_date(now, zone)}\r\n")
    if fields.first(b"message-id") is None:
        added.append(f"Message-ID: <{message_id}>\r\n")
    values = fields.all(b"from")
    if len(values) > 1:
        raise FromFault(0, "one From field")
    if values:
        authors = _authors(values[0])
    else:
        authors = (sender,)
        added.append(f"From: {sender}\r\n")
    if header and not _FIELD_LINE.match(header):
        # No header at all: what came is the body.
        added.append("\r\n")
    return Submitted(_without_bcc(header, fields), "".join(added).encode(), authors)


def _without_bcc(header: bytes, fields: Header) -> bytes:
    if fields.first(b"bcc") is None and fields.first(b"resent-bcc") is None:
        return header
    parts = []
    position = 0
    for name, start, _, end in fields.fields:
        if name in (b"bcc", b"resent-bcc"):
            parts.append(header[position:start])
            position = end
    parts.append(header[position:])
    return b"".join(parts)


def _authors(value: bytes) -> tuple[Address, ...]:
    authors = []
    for entry in parse_addresses(value):
        if entry.mailbox is None or entry.host is None:
            # The begin or end of a group.
            continue
        try:
            local_part = quote_local_part(entry.mailbox.decode("utf-8"))
            authors.append(Address.parse(f"{local_part}@{entry.host.decode('utf-8')}"))
        except (SyntaxFault, UnicodeDecodeError):
            raise FromFault(0, "an address in From") from None
    if not authors:
        raise FromFault(0, "an address in From")
    return tuple(authors)
