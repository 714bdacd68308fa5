"""
Names of message files: ``<time>.<delivery id>.<host>,S=<size>,W=<wire size>:2,<letters>``.

The part before ``:2,`` is the *base name*; it never changes while a message stays ours. Other
programs rename (letters, or ``S=`` added), so a message is known by its *key*: the delivery id of
our own names, the base name without its ``,X=`` parts otherwise. A *location* is ``new/<name>`` or
``cur/<name>``, below the folder's directory.
"""

from __future__ import annotations

import re

from mailhost.ids import LENGTH, is_id

SEEN, ANSWERED, FLAGGED, DELETED, DRAFT, FORWARDED = 1, 2, 4, 8, 16, 32
SYSTEM_BITS = 63

LETTERS = {"D": DRAFT, "F": FLAGGED, "P": FORWARDED, "R": ANSWERED, "S": SEEN, "T": DELETED}
"""System flags in names, in the order that Maildir wants (ASCII)."""

KEYWORD_LETTERS = "abcdefghijklmnopqrstuvwxyz"

_SIZES = re.compile(r",([SW])=(\d{1,18})(?=,|\Z)")
_HOST = re.compile(r"[^A-Za-z0-9.\-]")


def base_name(time: int, delivery_id: str, host: str, size: int, wire_size: int) -> str:
    """Return the base name of a message; time is the internal date in Unix seconds."""
    return f"{time}.{delivery_id}.{_HOST.sub('_', host)[:64]},S={size},W={wire_size}"


def split_name(name: str) -> tuple[str, str]:
    """Return the base name and the flag letters of a file name, sorted."""
    base, mark, letters = name.partition(":2,")
    if not mark:
        base = name.partition(":")[0]
    return base, "".join(sorted(set(letters.partition(",")[0])))


def key_of(base: str) -> str:
    """Return what names the message wherever it lies."""
    parts = base.split(".", 2)
    if len(parts) == 3:
        identifier = parts[1]
        if is_id(identifier[:LENGTH]) and (
            len(identifier) == LENGTH or identifier[LENGTH : LENGTH + 1] == "-"
        ):
            return identifier
    return base.partition(",")[0] or base


def queue_id_of(key: str) -> str:
    """Return the queue id under which a key was delivered, or what cannot be one."""
    return key[:LENGTH]


def sizes_of(base: str) -> dict[str, int]:
    """Return the sizes that a name claims: ``S`` octets in the file, ``W`` in CRLF form."""
    return {kind: int(value) for kind, value in _SIZES.findall(base)}


def time_of(base: str) -> int | None:
    """Return the time that the base name begins with, or None."""
    digits = base.partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 11 else None


def letters_of(bits: int) -> str:
    """Return the letters of system flags."""
    return _LETTERS[bits & SYSTEM_BITS]


def bits_of(letters: str) -> int:
    """Return the system flags that the letters stand for; others are passed over."""
    bits = 0
    for letter in letters:
        bits |= LETTERS.get(letter, 0)
    return bits


def location(base: str, letters: str, *, new: bool = False) -> str:
    """Return where a file with this base name and these letters lies in its folder."""
    return f"new/{base}" if new and not letters else f"cur/{base}:2,{letters}"


_LETTERS = [
    "".join([letter for letter, bit in LETTERS.items() if bits & bit]) for bits in range(64)
]
