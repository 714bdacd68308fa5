"""
What a server did to its disk before it said 250, read from a trace of its system calls.

    strace -D -f -yy -x -s 300000 -e trace=... -o FILE server

`read` turns the file into calls with their octets; `acknowledgements` finds every reply that
followed the end of a message; `violations` says of each what was not on stable storage when it
was sent:

- the frames of SQLite's log from the message's row to the end of its transaction must be written,
  and the log synced after them;
- a content that lies in a file of its own must be written and synced before that transaction is
  written, and so must the directory be that names the file.

A sync counts when it begins after the write it is for has ended, and ends before the reply begins.
Nothing here knows how the server does it, but for the names in the spool's directory and the form
of SQLite's log (24 octets of frame header, of which 4 to 7 are not zero in the last of a
transaction).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from twisted.trial.unittest import SkipTest

CALLS = "write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,openat"
WRITES = frozenset({"write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg"})
SYNCS = frozenset({"fsync", "fdatasync"})

_LINE = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)\Z", re.DOTALL)
_UNFINISHED = re.compile(r" *<unfinished \.\.\.>\Z")
_PATH = re.compile(r"\d+<((?:->|[^<>]|<[^<>]*>)*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|[0-7]{1,3}|.)")
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b"f": b"\f"}


@dataclass(frozen=True)
class Call:
    """
    One system call that did not fail.

    Args:
        name: as in the kernel.
        target: the path or the connection of its descriptor; for openat of what it opened.
        octets: what it wrote.
        begun, ended: positions in the trace.
        arguments: as they stand there.
    """

    name: str
    target: str
    octets: bytes
    begun: int
    ended: int
    arguments: str


def strace() -> str:
    """Return the path of strace; SkipTest if it is missing or not permitted."""
    path = shutil.which("strace")
    if path is None:
        raise SkipTest("strace is not installed")
    tried = subprocess.run(
        [path, "-f", "-o", "/dev/null", "true"], capture_output=True, timeout=20, check=False
    )
    if tried.returncode != 0:
        raise SkipTest(f"strace may not trace here: {tried.stderr.decode(errors='replace')[:200]}")
    return path


def command(trace: Path) -> list[str]:
    """Return what a program is to be run under, itself in the foreground."""
    options = ["-D", "-f", "-yy", "-x", "-s", "300000", "-e", f"trace={CALLS}", "-o", str(trace)]
    return [strace(), *options]


def read(lines: Iterable[str]) -> Iterator[Call]:
    """Yield the calls in the order in which they ended."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        match = _LINE.match(line.rstrip("\n"))
        if match is None:
            continue
        thread, name, rest = match.groups()
        if _UNFINISHED.search(rest):
            begun[thread] = number, _UNFINISHED.sub("", rest)
            continue
        start, before = begun.pop(thread, (number, "")) if " resumed>" in line else (number, "")
        call = _call(name, before + rest, start, number)
        if call is not None:
            yield call


def _call(name: str, arguments: str, begun: int, ended: int) -> Call | None:
    body, _, result = arguments.rpartition(" = ")
    if result.startswith("-") or not result[:1].isdigit():
        return None
    path = _PATH.match(result if name == "openat" else body)
    octets = b""
    if name in WRITES:
        octets = b"".join(_octets(text) for text in _TEXT.findall(body))
    return Call(name, path[1] if path else "", octets, begun, ended, body)


def _octets(text: str) -> bytes:
    def meant(match: re.Match[bytes]) -> bytes:
        escape = match[1]
        if escape[:1] == b"x":
            return bytes([int(escape[1:], 16)])
        if escape[:1].isdigit():
            return bytes([int(escape, 8)])
        return _LETTERS.get(escape, escape)

    return _ESCAPE.sub(meant, text.encode("latin-1", "replace"))


@dataclass(frozen=True)
class Acknowledgement:
    """A reply to the end of a message's data."""

    queue_id: bytes
    client_port: int
    call: Call


def acknowledgements(calls: Iterable[Call]) -> list[Acknowledgement]:
    """Return every 250 that followed a 354 on its connection."""
    asked: set[str] = set()
    found: list[Acknowledgement] = []
    for call in calls:
        if not call.target.startswith("TCP"):
            continue
        if call.octets.startswith(b"354"):
            asked.add(call.target)
        elif call.target in asked:
            asked.discard(call.target)
            match = re.match(rb"250 2\.0\.0 Queued as (\w+)", call.octets)
            port = re.search(r"->[^\]]*:(\d+)\]", call.target)
            if match and port:
                found.append(Acknowledgement(match[1], int(port[1]), call))
    return found


@dataclass(frozen=True)
class Frame:
    """A page in SQLite's log."""

    page: bytes
    last: bool
    begun: int
    ended: int


@dataclass
class Disk:
    """What was done below the spool's directory."""

    spool: str
    calls: list[Call]
    log: list[Frame] = field(default_factory=list)

    def __post_init__(self) -> None:
        header: Call | None = None
        for call in self.calls:
            if call.target != f"{self.spool}/spool.sqlite-wal" or call.name not in WRITES:
                continue
            if len(call.octets) == 24:
                header = call
            elif header is not None:
                last = any(header.octets[4:8])
                self.log.append(Frame(call.octets, last, header.begun, call.ended))
                header = None

    def synced(self, target: str, after: int, before: int) -> bool:
        """Whether the file or directory was synced between two positions."""
        return any(
            call.name in SYNCS
            and call.target == target
            and call.begun > after
            and call.ended < before
            for call in self.calls
        )

    def transaction(self, text: bytes) -> list[Frame]:
        """Return the frames from the first with the text to the end of its transaction."""
        found: list[Frame] = []
        for frame in self.log:
            if found or text in frame.page:
                found.append(frame)
                if frame.last:
                    return found
        return []

    def content_files(self, marker: bytes) -> list[str]:
        """Return the files beside the database that the marker was written to."""
        return sorted(
            {
                call.target
                for call in self.calls
                if call.name in WRITES
                and call.target.startswith(f"{self.spool}/content/")
                and marker in call.octets
            }
        )


def violations(disk: Disk, told: Acknowledgement, marker: bytes) -> list[str]:
    """Return what was not durable of the message with the marker when its 250 was sent."""
    name = told.queue_id.decode()
    frames = disk.transaction(told.queue_id)
    if not frames:
        return [f"{name}: no transaction was written"]
    problems = []
    end = frames[-1].ended
    if end > told.call.begun:
        problems.append(f"{name}: acknowledged before its transaction was written")
    elif not disk.synced(f"{disk.spool}/spool.sqlite-wal", end, told.call.begun):
        problems.append(f"{name}: acknowledged before its transaction was synced")
    files = disk.content_files(marker)
    if not files and not any(marker in frame.page for frame in frames):
        problems.append(f"{name}: its content was not in the transaction")
    for path in files:
        written = max(c.ended for c in disk.calls if c.target == path and c.name in WRITES)
        made = max(
            call.ended
            for call in disk.calls
            if call.name == "openat" and call.target == path and "O_CREAT" in call.arguments
        )
        if not disk.synced(path, written, frames[0].begun):
            problems.append(f"{name}: its file was not synced before its row was written")
        if not disk.synced(f"{disk.spool}/content", made, frames[0].begun):
            problems.append(f"{name}: its file's name was not synced before its row was written")
    return problems
