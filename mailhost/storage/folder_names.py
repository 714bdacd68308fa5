"""
Mailbox names, and the Maildir++ directories they stand for (architecture D12).

On the wire and in the index a name is Unicode in NFC with ``/`` between levels. Its directory is
``.`` and each level in modified UTF-7 (RFC 3501 5.1.3), joined with ``.``; a ``.`` inside a level
is written ``&AC4-``, so that it is told from a separator. INBOX is the Maildir itself. No name
leaves the account's directory: what could is refused here, before any path is made (R-46).
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from functools import lru_cache

from mailhost.errors import MailboxNameRefused

INBOX = "INBOX"
MAX_DIRECTORY = 255
"""Octets of one directory name on common file systems."""
MAX_LEVELS = 64

# Controls, line separators, lone surrogates, non-characters, and the wildcards of LIST.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f*%\u2028\u2029\ud800-\udfff\ufffd-\uffff]")


@lru_cache(maxsize=1024)
def normalize(name: str) -> str:
    """
    Return the one form of a mailbox name.

    Raises:
        MailboxNameRefused: no mailbox can have it.
    """
    if _REFUSED.search(name):
        raise MailboxNameRefused("a character that cannot stand in a mailbox name")
    name = unicodedata.normalize("NFC", name)
    levels = name.split("/")
    if levels[0].upper() == INBOX:
        levels[0] = INBOX
    if len(levels) > MAX_LEVELS:
        raise MailboxNameRefused(f"more than {MAX_LEVELS} levels")
    for level in levels:
        if level in ("", ".", ".."):
            raise MailboxNameRefused("a level that is empty, . or ..")
    if name.startswith("#"):
        raise MailboxNameRefused("# begins a namespace (RFC 9051 5.1.1)")
    name = "/".join(levels)
    if len(_directory(name).encode()) > MAX_DIRECTORY:
        raise MailboxNameRefused(f"more than {MAX_DIRECTORY} octets")
    return name


def directory_of(name: str) -> str:
    """Return the directory, below the Maildir, of a normalized name; empty for INBOX."""
    return _directory(name)


def name_of(directory: str) -> str | None:
    """Return the mailbox name of a Maildir++ directory that another program made, or None."""
    if not directory.startswith(".") or directory in (".", ".."):
        return None
    try:
        name = "/".join([_decode(level) for level in directory[1:].split(".")])
        name = normalize(name)
    except (MailboxNameRefused, ValueError):
        return None
    return None if name == INBOX else name


def parents(name: str) -> list[str]:
    """Return the names above a name, highest first."""
    levels = name.split("/")
    return ["/".join(levels[:depth]) for depth in range(1, len(levels))]


@lru_cache(maxsize=1024)
def _directory(name: str) -> str:
    if name == INBOX:
        return ""
    return "".join(["." + _encode(level) for level in name.split("/")])


def _encode(level: str) -> str:
    # RFC 3501 5.1.3, except that "." is among what is shifted.
    encoded: list[str] = []
    shifted = ""
    for character in level:
        if "\x20" <= character <= "\x7e" and character != ".":
            if shifted:
                encoded.append(_shift(shifted))
                shifted = ""
            encoded.append("&-" if character == "&" else character)
        else:
            shifted += character
    if shifted:
        encoded.append(_shift(shifted))
    return "".join(encoded)


def _shift(text: str) -> str:
    octets = binascii.b2a_base64(text.encode("utf-16-be"), newline=False).rstrip(b"=")
    return "&" + octets.replace(b"/", b",").decode("ascii") + "-"


def _decode(level: str) -> str:
    if not level.isascii():
        # Dovecot can be told to use UTF-8 names on disk.
        return level
    decoded: list[str] = []
    position = 0
    while (start := level.find("&", position)) >= 0:
        decoded.append(level[position:start])
        end = level.find("-", start)
        if end < 0:
            raise ValueError(level)
        decoded.append(_unshift(level[start + 1 : end]) if end > start + 1 else "&")
        position = end + 1
    decoded.append(level[position:])
    text = "".join(decoded)
    if "/" in text:
        raise ValueError(level)
    return text


def _unshift(text: str) -> str:
    octets = text.replace(",", "/") + "=" * (-len(text) % 4)
    try:
        return binascii.a2b_base64(octets, strict_mode=True).decode("utf-16-be")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError(text) from error
