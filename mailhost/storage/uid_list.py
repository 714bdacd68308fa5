"""
The list of UIDs in each folder, from which they return when ``account.sqlite`` is lost.

``mailhost-uidlist`` is text, one fact a line, only ever appended to between compactions:

    mailhost-uidlist 1
    validity <uid validity>
    mailbox <mailbox id>
    use <special use>                 (none, or one line for each)
    reserved <uid>                    UIDs up to this may have been given out
    <uid> <base name>                 a message came; a later line for the same name wins

A ``reserved`` line is synced before a UID it covers is used; the other lines are not synced, since
the index has them. A crash may leave the last line torn or lines missing: a line without its end,
or of another form, is passed over, and each first append after a start begins with a line end.
Compaction replaces the file by rename; a crash leaves the old or the new one. Lines of messages
that are gone are harmless, as their files are not there.

Beside it ``dovecot-keywords`` gives the keywords that the letters a to z stand for in this folder's
file names, as Dovecot writes it: ``<number> <keyword>``. It is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mailhost.files import FileOperations
from mailhost.ids import is_id
from mailhost.storage.data_directory import replace_file

UID_LIST = "mailhost-uidlist"
KEYWORDS = "dovecot-keywords"

_FORM = "mailhost-uidlist 1"
_MAX = 0xFFFFFFFF


@dataclass(slots=True)
class UIDList:
    """What a folder's list says; zero or empty is what it does not say."""

    uid_validity: int = 0
    mailbox_id: str = ""
    special_use: list[str] = field(default_factory=list)
    reserved: int = 0
    uids: dict[str, int] = field(default_factory=dict)

    @property
    def highest(self) -> int:
        """The highest UID that may have been given out."""
        return max(self.reserved, max(self.uids.values(), default=0))


def read_uid_list(files: FileOperations, folder: Path) -> UIDList:
    """Return what the list in a folder says; an absent or damaged one says less."""
    found = UIDList()
    try:
        text = files.read_file(folder / UID_LIST).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return found
    # What follows the last line end was torn.
    for line in text.split("\n")[:-1]:
        word, _, rest = line.partition(" ")
        if word.isascii() and word.isdigit():
            uid = int(word)
            if 0 < uid <= _MAX and rest:
                found.uids[rest] = uid
        elif word == "validity" and _is_number(rest):
            found.uid_validity = int(rest)
        elif word == "reserved" and _is_number(rest):
            found.reserved = max(found.reserved, int(rest))
        elif word == "mailbox" and is_id(rest):
            found.mailbox_id = rest
        elif word == "use" and rest and rest not in found.special_use:
            found.special_use.append(rest)
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) <= _MAX


def write_uid_list(
    files: FileOperations,
    folder: Path,
    head: UIDList,
    placements: Iterable[tuple[int, str]] = (),
    *,
    durable: bool = True,
) -> None:
    """Replace a folder's list; `placements` are (uid, base name)."""
    lines = [_FORM, f"validity {head.uid_validity}", f"mailbox {head.mailbox_id}"]
    lines += [f"use {use}" for use in head.special_use]
    lines.append(f"reserved {head.reserved}")
    lines += [f"{uid} {base}" for uid, base in placements]
    text = "\n".join(lines) + "\n"
    octets = text.encode("utf-8", "surrogateescape")
    replace_file(files, folder / UID_LIST, octets, durable=durable)


def append_uids(
    files: FileOperations,
    folder: Path,
    placements: Sequence[tuple[int, str]],
    *,
    reserved: int = 0,
    first: bool = False,
) -> None:
    """
    Add to a folder's list.

    Args:
        files: file access.
        folder: the folder's directory.
        placements: (uid, base name).
        reserved: a new limit, durable on return; 0 for none.
        first: nothing was appended since the account was opened: end a torn line.
    """
    text = "\n" if first else ""
    if reserved:
        text += f"reserved {reserved}\n"
    text += "".join([f"{uid} {base}\n" for uid, base in placements])
    descriptor = files.append_to(folder / UID_LIST)
    try:
        files.write(descriptor, [text.encode("utf-8", "surrogateescape")])
        if reserved:
            files.sync_data(descriptor)
    finally:
        files.close(descriptor)


def read_keywords(files: FileOperations, folder: Path) -> list[str]:
    """Return the keywords of a folder by number; the list ends before the first gap."""
    try:
        text = files.read_file(folder / KEYWORDS).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    numbered: dict[int, str] = {}
    for line in text.splitlines():
        number, _, keyword = line.partition(" ")
        if number.isascii() and number.isdigit() and keyword.isascii() and " " not in keyword:
            numbered[int(number)] = keyword
    keywords: list[str] = []
    while numbered.get(len(keywords)):
        keywords.append(numbered[len(keywords)])
    return keywords


def write_keywords(files: FileOperations, folder: Path, keywords: Sequence[str]) -> None:
    """Replace the keywords of a folder, not durably: the index has them."""
    text = "".join([f"{number} {keyword}\n" for number, keyword in enumerate(keywords)])
    replace_file(files, folder / KEYWORDS, text.encode(), durable=False)
