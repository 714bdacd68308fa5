"""The IMAP ENVELOPE of a message, as finished octets."""

from __future__ import annotations

from mailhost.message.headers import Header


def envelope(header: Header) -> bytes:
    """Return the octets of ``envelope`` (RFC 9051 7.5.2), parentheses included."""
    raise NotImplementedError


def nstring(value: bytes | None) -> bytes:
    """Return NIL, a quoted string or a literal."""
    raise NotImplementedError
