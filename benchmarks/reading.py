"""
Reading 10,000 mails over IMAP and POP3: what each operation takes, and that it answered in full.

Both servers hold the same messages. Before anything is timed every message is fetched from both and
compared octet by octet, except the trace fields that a delivery puts in front. Every operation
counts what came back. Servers take turns, and what other work does to this machine meets both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.imap_client import IMAPClient, literals
from benchmarks.mails import mixed
from benchmarks.ours import Mailhost
from benchmarks.pop3_client import POP3Client
from benchmarks.rivals import Dovecot, free_ports

FIELDS = "BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID REFERENCES)]"
USER, PASSWORD = "u0@bench.test", "secret-0"
POP3_MESSAGES = 1000
LOGINS = 300

Operation = Callable[["Reader", IMAPClient], int]
"""Does something on a selected mailbox and returns a figure that servers must agree on."""


@dataclass
class Cell:
    """One line of the table: what is timed on a connection whose mailbox is selected."""

    name: str
    run: Operation
    once: bool = False
    prepare: Callable[[Reader, IMAPClient], Any] | None = None
    alike: bool = True
    """The figures of the servers must be equal."""
    figure: str = ""


@dataclass
class Measured:
    """What one server took for one cell: milliseconds of each round, CPU and its figure."""

    times: list[float] = field(default_factory=list)
    cpus: list[float] = field(default_factory=list)
    value: int = 0


class Reader:
    """One server's mailbox of `count` messages."""

    def __init__(self, server: Any, imap_port: int, pop3_port: int, count: int) -> None:
        self.server, self.name, self.count = server, server.name, count
        self.imap_port, self.pop3_port = imap_port, pop3_port

    def client(self) -> IMAPClient:
        """Return a connection that has logged in."""
        client = IMAPClient(self.imap_port)
        client.command(f'LOGIN "{USER}" "{PASSWORD}"')
        return client

    def measure(self, cell: Cell) -> tuple[float, float, int]:
        """Run a cell once; return seconds, CPU seconds of the server, and the figure."""
        client = self.client()
        client.command("SELECT INBOX")
        if cell.prepare is not None:
            cell.prepare(self, client)
        time.sleep(0.3)
        before = processes.cpu_seconds(self.server.pid)
        began = time.perf_counter()
        value = cell.run(self, client)
        seconds = time.perf_counter() - began
        time.sleep(0.1)
        cpu = processes.cpu_seconds(self.server.pid) - before
        client.command("LOGOUT")
        client.close()
        return seconds, cpu, value


def fetch(items: str, mark: bytes) -> Operation:
    """Return an operation that fetches items of every message and counts the answers."""

    def run(reader: Reader, client: IMAPClient) -> int:
        found = client.command(f"FETCH 1:* {items}").count(mark)
        if found < reader.count:
            raise RuntimeError(f"{items}: {found} of {reader.count} messages answered")
        return reader.count

    return run


def bodies(reader: Reader, client: IMAPClient) -> int:
    """Fetch every message whole; return how many there were."""
    return len(literals(client.command("FETCH 1:* BODY.PEEK[]")))


def search(keys: str) -> Operation:
    """Return an operation that searches and counts the hits."""

    def run(_: Reader, client: IMAPClient) -> int:
        answer = client.command(f"SEARCH {keys}")
        return len(answer.partition(b"* SEARCH")[2].partition(b"\r\n")[0].split())

    return run


def select(_: Reader, client: IMAPClient) -> int:
    """Select the mailbox again; return how many messages it has."""
    answer = client.command("SELECT INBOX")
    return int(answer.partition(b" EXISTS")[0].rpartition(b"* ")[2])


def ten(reader: Reader, client: IMAPClient) -> int:
    """Store flags of ten messages one by one."""
    for number in range(1, 11):
        client.command(f"STORE {number} +FLAGS.SILENT (\\Flagged)")
    return 10


def store_all(reader: Reader, client: IMAPClient) -> int:
    """Flip a flag of every message."""
    sign = "-" if getattr(reader, "flipped", False) else "+"
    reader.flipped = sign == "+"  # type: ignore[attr-defined]
    client.command(f"STORE 1:* {sign}FLAGS.SILENT (\\Answered)")
    return reader.count


def copy_all(reader: Reader, client: IMAPClient) -> int:
    """Copy every message into another mailbox."""
    client.command("COPY 1:* Copies")
    answer = client.command("STATUS Copies (MESSAGES)")
    return int(answer.partition(b"MESSAGES ")[2].partition(b")")[0])


def _new_copies(_: Reader, client: IMAPClient) -> None:
    try:
        client.command("DELETE Copies")
    except RuntimeError as error:
        if "exist" not in str(error).lower():
            raise
    client.command("CREATE Copies")


def append_some(_: Reader, client: IMAPClient) -> int:
    """Append a hundred messages one by one."""
    for number in range(100):
        client.append("Copies", mixed(number * 10))
    return 100


def expunge(reader: Reader, client: IMAPClient) -> int:
    """Expunge a thousand messages of the copies."""
    return client.command("EXPUNGE").count(b" EXPUNGE\r\n")


def _mark_copies(reader: Reader, client: IMAPClient) -> None:
    _new_copies(reader, client)
    client.command(f"COPY 1:{min(1000, reader.count)} Copies")
    client.command("SELECT Copies")
    client.command("STORE 1:* +FLAGS.SILENT (\\Deleted)")


def logins(reader: Reader, _: IMAPClient, at_once: int = 10) -> int:
    """Log in, select and log out three hundred times, ten at a time."""

    def session(_: int) -> None:
        client = reader.client()
        client.command("SELECT INBOX")
        client.command("LOGOUT")
        client.close()

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(session, range(LOGINS)))
    return LOGINS


def retrieve(reader: Reader, _: IMAPClient) -> int:
    """Retrieve messages over POP3 on one connection, commands pipelined; return how many."""
    client = POP3Client(reader.pop3_port, USER, PASSWORD)
    octets = client.retrieve(min(POP3_MESSAGES, reader.count))
    client.close()
    return len(octets)


ENVELOPES = fetch("(ENVELOPE BODYSTRUCTURE)", b"ENVELOPE")
CELLS = (
    Cell("FETCH ENVELOPE+BODYSTRUCTURE, first", ENVELOPES, once=True),
    Cell("SEARCH TEXT, first", search('TEXT "niversal"'), once=True),
    Cell("SELECT, warm", select),
    Cell("FETCH FLAGS", fetch("(FLAGS)", b"FLAGS")),
    Cell("FETCH UID+FLAGS+SIZE+DATE", fetch("(UID FLAGS RFC822.SIZE INTERNALDATE)", b"DATE")),
    Cell("FETCH ENVELOPE+BODYSTRUCTURE, again", ENVELOPES),
    Cell("FETCH 6 header fields", fetch(f"({FIELDS})", b"HEADER.FIELDS")),
    Cell("FETCH BODY.PEEK[]", bodies),
    Cell("SEARCH UNSEEN", search("UNSEEN")),
    Cell("SEARCH FROM", search("FROM mallory")),
    Cell("SEARCH SUBJECT", search("SUBJECT budget")),
    Cell("SEARCH TEXT", search('TEXT "niversal"')),
    Cell("SEARCH TEXT, many hits", search('TEXT "nvoic"')),
    Cell("SEARCH BODY", search('BODY "questio"')),
    Cell(f"{LOGINS} x login+SELECT+LOGOUT, 10 at a time", logins),
    Cell("STORE, 10 one by one", ten),
    Cell("STORE of all", store_all),
    Cell("COPY of all", copy_all, prepare=_new_copies),
    Cell("EXPUNGE of 1000", expunge, prepare=_mark_copies),
    Cell("APPEND, 100 one by one", append_some, prepare=_new_copies),
    Cell(f"POP3 RETR of {POP3_MESSAGES}", retrieve),
)


def fill(server: Mailhost, mails: int) -> None:
    """Deliver the messages over SMTP, and return when they are settled and kept for searching."""
    task = {
        "host": "127.0.0.1",
        "port": server.port,
        "size": 0,
        "mixed": True,
        "sessions": 1,
        "per_session": mails,
        "recipients": 1,
        "accounts": 1,
        "count": mails,
        "first": 0,
    }
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("smtp_load.py"))],
        input=json.dumps(task),
        text=True,
        check=True,
        capture_output=True,
    )
    deadline = time.monotonic() + 300
    while not server.settled():
        if time.monotonic() > deadline:
            raise RuntimeError("the spool does not become empty")
        time.sleep(0.1)
    found = sum(len(os.listdir(directory)) for directory in server.new_directories())
    if found != mails:
        raise RuntimeError(f"{found} of {mails} mails arrived")


def fill_dovecot(server: Dovecot, mails: int) -> None:
    """Write the messages into a Maildir, in the order of their delivery."""
    folder = server.base / "mail/u0/Maildir"
    for part in ("cur", "new", "tmp"):
        (folder / part).mkdir(parents=True)
    for number in range(mails):
        name = f"{1700000000 + number}.m{number}.bench"
        (folder / "new" / name).write_bytes(mixed(number))
    owner = (server.base / "mail/u0").stat()
    for directory, _, names in os.walk(folder):
        for path in (directory, *(os.path.join(directory, name) for name in names)):
            os.chown(path, owner.st_uid, owner.st_gid)


def check(reader: Reader) -> None:
    """Compare every message a server gives with what was delivered, trace fields aside."""
    client = reader.client()
    client.command("EXAMINE INBOX")
    wanted = {mixed(number) for number in range(reader.count)}
    for first in range(1, reader.count + 1, 500):
        last = min(first + 499, reader.count)
        for octets in literals(client.command(f"FETCH {first}:{last} BODY.PEEK[]")):
            start = octets.find(b"From: ")
            if octets[start:] not in wanted:
                raise RuntimeError(f"{reader.name}: not what was sent: {octets[:300]!r}")
            wanted.discard(octets[start:])
    client.close()
    if wanted:
        raise RuntimeError(f"{reader.name}: {len(wanted)} messages are missing")


def read_all(readers: list[Reader], rounds: int, only: str) -> Iterator[str]:
    """Measure every cell, servers in turn, and yield the lines of the table."""
    heads = " | ".join(f"{reader.name} ms (range), CPU ms" for reader in readers)
    yield f"| operation | {heads} | time ratio (range) | CPU ratio |"
    yield "|---|" + "---|" * (len(readers) + 2)
    for cell in CELLS:
        if only and not any(part in cell.name for part in only.split(",")):
            continue
        found = [Measured() for _ in readers]
        for number in range(1 if cell.once else rounds):
            for index in range(len(readers)) if number % 2 else reversed(range(len(readers))):
                seconds, cpu, value = readers[index].measure(cell)
                found[index].times.append(seconds * 1000)
                found[index].cpus.append(cpu * 1000)
                found[index].value = value
        if cell.alike and len({each.value for each in found}) > 1:
            raise RuntimeError(f"{cell.name}: {[each.value for each in found]} differ")
        yield _row(cell.name, found)


def _row(name: str, found: list[Measured]) -> str:
    cells = [
        f"{statistics.median(each.times):.1f} ({min(each.times):.1f}-{max(each.times):.1f}), "
        f"{statistics.median(each.cpus):.0f}"
        for each in found
    ]
    ours, theirs = found[0], found[-1]
    ratios = [a / b for a, b in zip(ours.times, theirs.times, strict=True)]
    cpu = statistics.median(ours.cpus) / max(statistics.median(theirs.cpus), 1e-9)
    return (
        f"| {name} [{ours.value}] | {' | '.join(cells)} | {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f}) | {cpu:.2f} |"
    )


def held(server: Mailhost) -> list[str]:
    """Return what the watchdog said of the event thread."""
    lines = (server.base / "log").read_text().splitlines()
    return [line for line in lines if "service.held" in line or " error " in line]


def reading(base: Path, rounds: int, mails: int, only: str) -> None:
    """Measure reading a mailbox of so many mails, and print the table."""
    smtp, imap, pop3, rival_imap, rival_pop3 = free_ports(5)
    ours = Mailhost(base / "mailhost", smtp, imap, pop3, 1)
    started: list[Any] = []
    try:
        ours.start()
        started.append(ours)
        fill(ours, mails)
        readers = [Reader(ours, imap, pop3, mails)]
        if Dovecot.available():
            rival = Dovecot(base / "dovecot", rival_imap, rival_pop3, 1)
            (rival.base / "mail/u0").mkdir(parents=True)
            rival.start()
            started.append(rival)
            fill_dovecot(rival, mails)
            readers.append(Reader(rival, rival_imap, rival_pop3, mails))
        for line in _lines(readers, rounds, only):
            print(line, flush=True)
        for line in held(ours):
            print(f"<!-- {line} -->")
        memory = processes.memory_mb(ours.pid)
        print(f"<!-- mailhost held {memory:.0f} MB after it -->", flush=True)
    finally:
        for server in started:
            server.stop()


def _lines(readers: list[Reader], rounds: int, only: str) -> Iterator[str]:
    # The first fetch of envelopes comes before anything that would warm a cache by it.
    lines = read_all(readers, rounds, only)
    yield from lines
    for reader in readers:
        check(reader)
    yield "<!-- every message compared equal -->"
