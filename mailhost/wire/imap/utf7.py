"""
Modified UTF-7: how IMAP4rev1 writes mailbox names (RFC 3501 5.1.3).

Printable ASCII stands for itself, ``&`` is ``&-``, everything else is base64 of UTF-16BE between
``&`` and ``-`` with ``,`` for ``/``. A name has exactly one such form; `decode` takes no other, so
that two spellings can never name one mailbox.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

from mailhost.errors import SyntaxFault

_SHIFTED = re.compile("[^\x20-\x7e]+")
_UNSHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_PLAIN = re.compile(rb"[\x20-\x25\x27-\x7e]*\Z")


def _shift(match: re.Match[str]) -> str:
    octets = match[0].encode("utf-16-be", "surrogatepass")
    return "&" + b2a_base64(octets, newline=False).rstrip(b"=").replace(b"/", b",").decode() + "-"


def encode(name: str) -> bytes:
    """Return a name in modified UTF-7."""
    if name.isascii() and name.isprintable() and "&" not in name:
        return name.encode("ascii")
    return _SHIFTED.sub(_shift, name.replace("&", "&-")).encode("ascii")


def _unshift(match: re.Match[bytes]) -> bytes:
    if not match[1]:
        return b"&"
    text = match[1].replace(b",", b"/")
    try:
        octets = a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
        return octets.decode("utf-16-be").encode()
    except (Base64Error, UnicodeDecodeError):
        raise SyntaxFault(match.start(), "modified UTF-7") from None


def decode(data: bytes) -> str:
    """
    Return the name that stands in modified UTF-7.

    Raises:
        SyntaxFault: it is not, or not in the one form that `encode` gives.
    """
    if _PLAIN.match(data):
        return data.decode("ascii")
    name = _UNSHIFTED.sub(_unshift, data).decode("utf-8", "replace")
    if encode(name) != data:
        raise SyntaxFault(0, "modified UTF-7")
    return name
