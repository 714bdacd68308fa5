"""IMAP BODY and BODYSTRUCTURE as finished octets."""

from __future__ import annotations

from mailhost.message.headers import Octets
from mailhost.message.mime import Part


def structures(octets: Octets, part: Part) -> tuple[bytes, bytes]:
    """Return the octets of BODY and of BODYSTRUCTURE (RFC 9051 7.5.2)."""
    raise NotImplementedError
