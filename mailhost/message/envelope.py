"""The IMAP ENVELOPE of a message as finished octets, and IMAP's strings."""

from __future__ import annotations

import re

from mailhost.message.addresses import Mailbox, parse_addresses
from mailhost.message.headers import Header

# RFC 9051 9 quoted: TEXT-CHAR without quoted-specials. Octets above 127 need UTF8=ACCEPT and
# controls surprise clients: both go into a literal.
_PLAIN = re.compile(rb"[\t\x20\x21\x23-\x5b\x5d-\x7e]*\Z")
_QUOTABLE = re.compile(rb"[\t\x20-\x7e]*\Z")
_SPECIAL = re.compile(rb'(["\\])')


def string(value: bytes) -> bytes:
    """Return a quoted string, or a literal where quoting cannot say it; NUL becomes ``?``."""
    if _PLAIN.match(value):
        return b'"%b"' % value
    if _QUOTABLE.match(value):
        return b'"%b"' % _SPECIAL.sub(rb"\\\1", value)
    # RFC 9051 9 CHAR8: a literal holds no NUL.
    value = value.replace(b"\0", b"?")
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    """Return NIL for None, else a string."""
    return b"NIL" if value is None else string(value)


def address_list(addresses: list[Mailbox]) -> bytes:
    """Return the parenthesised list of addresses, NIL if it is empty (RFC 9051 7.5.2)."""
    if not addresses:
        return b"NIL"
    pieces = [
        b"(%b %b %b %b)" % (nstring(name), nstring(route), nstring(mailbox), nstring(host))
        for name, route, mailbox, host in addresses
    ]
    return b"(%b)" % b"".join(pieces)


def envelope(header: Header) -> bytes:
    """Return the octets of ``envelope`` (RFC 9051 7.5.2), parentheses included."""
    return envelope_with(
        header, {name: addresses(header, name) for name in (b"from", b"to", b"cc", b"bcc")}
    )


def addresses(header: Header, name: bytes) -> list[Mailbox]:
    """Return the entries of the first address field of that lower-case name."""
    value = header.first(name)
    return parse_addresses(value) if value else []


def envelope_with(header: Header, parsed: dict[bytes, list[Mailbox]]) -> bytes:
    """Return the envelope, given the parsed From, To, Cc and Bcc fields."""
    first = header.first
    sender = address_list(parsed[b"from"])
    # RFC 9051 7.5.2: an absent or empty Sender or Reply-To is the From.
    others = [
        address_list(parse_addresses(value)) if (value := first(name)) else b"NIL"
        for name in (b"sender", b"reply-to")
    ]
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(first(b"date")),
        nstring(first(b"subject")),
        sender,
        sender if others[0] == b"NIL" else others[0],
        sender if others[1] == b"NIL" else others[1],
        address_list(parsed[b"to"]),
        address_list(parsed[b"cc"]),
        address_list(parsed[b"bcc"]),
        nstring(first(b"in-reply-to")),
        nstring(first(b"message-id")),
    )
