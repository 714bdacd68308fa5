"""
Measure mailhost and its rivals, interleaved, and print one table.

    python -m benchmarks.run mail-in [--rounds 3] [--where DIR] [--seconds 10]
    python -m benchmarks.run reading [--rounds 3] [--where DIR] [--mails 10000]

Each cell's figure counts only if every message arrived; a sample is compared octet by octet.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.mails import plain
from benchmarks.ours import Mailhost
from benchmarks.reading import reading
from benchmarks.rivals import Postfix
from benchmarks.workspace import file_system, machine, workspace

ACCOUNTS = 100
WARM_UP = 1 << 30
"""Numbers from here on are of messages that only open every mailbox once."""
HERE = Path(__file__).resolve().parent


@dataclass
class Cell:
    """One load: its name, and messages per second expected of the slowest, to size it."""

    name: str
    size: int
    sessions: int
    per_session: int = 1
    recipients: int = 1
    rate: int = 400


MAIL_IN = (
    Cell("4 KB, 1 session", 4096, 1, rate=350),
    Cell("4 KB, 10 sessions", 4096, 10, rate=800),
    Cell("4 KB, 50 sessions", 4096, 50, rate=800),
    Cell("4 KB, 10 sessions x 10", 4096, 10, per_session=10, rate=900),
    Cell("50 KB, 10 sessions", 51200, 10, rate=450),
    Cell("1 MB, 10 sessions", 1 << 20, 10, rate=100),
    Cell("4 KB, 50 recipients", 4096, 10, recipients=50, rate=60),
)


@dataclass
class Outcome:
    """What one run of a cell gave."""

    rate: float
    cpu_ms: float
    p50_ms: float
    p99_ms: float
    driver_share: float
    memory_mb: float


def count_visible(directories: list[Path]) -> int:
    """Count messages in Maildirs."""
    total = 0
    for directory in directories:
        with contextlib.suppress(FileNotFoundError):
            total += len(os.listdir(directory))
    return total


def check_sample(directories: list[Path], size: int) -> None:
    """Compare some delivered messages with what was sent, line ends aside."""
    paths = [
        path for directory in directories if directory.exists() for path in directory.iterdir()
    ]
    for path in random.sample(paths, min(100, len(paths))):
        data = path.read_bytes().replace(b"\r\n", b"\n")
        head, mark, rest = data.partition(b"X-Number: ")
        number, _, body = rest.partition(b"\n")
        if mark and int(number) >= WARM_UP:
            continue
        if not mark or body != plain(int(number) % 64, size).replace(b"\r\n", b"\n"):
            raise RuntimeError(f"{path} is not what was sent: {head[-200:]!r}")


def send(server: Any, cell: Cell, count: int, first: int, timeout: float) -> dict[str, float]:
    """Send so many messages of a cell's kind and return what the driver measured."""
    task = {
        "host": "127.0.0.1",
        "port": server.port,
        "size": cell.size,
        "sessions": cell.sessions,
        "per_session": cell.per_session,
        "recipients": cell.recipients,
        "accounts": server.accounts,
        "count": count,
        "first": first,
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "smtp_load.py")],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def wait_for(server: Any, copies: int) -> None:
    """Return when so many copies are visible and settled."""
    deadline = time.monotonic() + 120
    while count_visible(server.new_directories()) < copies or not server.settled():
        if time.monotonic() > deadline:
            seen = count_visible(server.new_directories())
            raise RuntimeError(f"{server.name}: {seen} of {copies} copies")
        time.sleep(0.05)


def run_cell(server: Any, cell: Cell, seconds: float) -> Outcome:
    """Send a cell's load and wait until every copy is visible and durable."""
    send(server, Cell("warm up", 1000, 4), server.accounts, WARM_UP, 60)
    wait_for(server, server.accounts)
    time.sleep(1.5)
    count = max(int(cell.rate * seconds) // cell.per_session, 1) * cell.per_session
    before = processes.cpu_seconds(server.pid)
    sent = send(server, cell, count, 0, seconds * 20 + 60)
    copies = count * cell.recipients
    wait_for(server, copies + server.accounts)
    elapsed = time.perf_counter() - sent["started"]
    memory = processes.memory_mb(server.pid)
    time.sleep(1.5)
    cpu = processes.cpu_seconds(server.pid) - before
    if count_visible(server.new_directories()) != copies + server.accounts:
        raise RuntimeError("more copies than were sent")
    check_sample(server.new_directories(), cell.size)
    return Outcome(
        copies / elapsed,
        cpu / copies * 1000,
        sent["p50"] * 1000,
        sent["p99"] * 1000,
        sent["cpu"] / sent["seconds"],
        memory,
    )


def median(outcomes: list[Outcome], field: str) -> float:
    """Return the median of one field."""
    return statistics.median(getattr(outcome, field) for outcome in outcomes)


def mail_in(base: Path, rounds: int, seconds: float, only: str) -> None:
    """Measure every cell of mail coming in."""
    starts: list[tuple[str, Callable[[Path], Any]]] = [
        ("mailhost", lambda path: Mailhost(path, 2525, 2143, 2110, ACCOUNTS)),
    ]
    if Postfix.available():
        starts.append(("Postfix", lambda path: Postfix(path, 2526, ACCOUNTS)))
        starts.append(("Postfix, no flow delay", lambda path: Postfix(path, 2527, ACCOUNTS, 0)))
    print("| cell | server | copies/s (range) | CPU ms/copy | p50 / p99 ms | ratio per round |")
    print("|---|---|---|---|---|---|", flush=True)
    for cell in MAIL_IN:
        if only and only not in cell.name:
            continue
        results: dict[str, list[Outcome]] = {name: [] for name, _ in starts}
        for number in range(rounds):
            for name, make in starts:
                path = base / f"{name.split(',')[0].lower()}-{len(name)}-{number}"
                server = make(path)
                server.start()
                try:
                    results[name].append(run_cell(server, cell, seconds))
                finally:
                    server.stop()
                    shutil.rmtree(path, ignore_errors=True)
        for name, outcomes in results.items():
            rates = [outcome.rate for outcome in outcomes]
            ratios = [
                f"{ours.rate / theirs.rate:.2f}"
                for ours, theirs in zip(results["mailhost"], outcomes, strict=True)
            ]
            print(
                f"| {cell.name} | {name} | {statistics.median(rates):.0f} "
                f"({min(rates):.0f}-{max(rates):.0f}) | {median(outcomes, 'cpu_ms'):.2f} | "
                f"{median(outcomes, 'p50_ms'):.1f} / {median(outcomes, 'p99_ms'):.1f} | "
                f"{' '.join(ratios) if name != 'mailhost' else ''} |",
                flush=True,
            )
        driver = max(median(outcomes, "driver_share") for outcomes in results.values())
        print(
            f"<!-- driver used at most {driver:.0%} of a core; mailhost held "
            f"{median(results['mailhost'], 'memory_mb'):.0f} MB after the load -->",
            flush=True,
        )


@contextlib.contextmanager
def _place(where: str) -> Iterator[Path]:
    with workspace(Path(where) if where else None) as base:
        print(f"machine: {machine()}\nfile system: {file_system(base)}\n", flush=True)
        yield base


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["mail-in", "reading"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument(
        "--only", default="", help="cells whose name contains this (reading: or one of these)"
    )
    parser.add_argument("--where", default="", help="directory to use instead of a new ext4 image")
    options = parser.parse_args()
    with _place(options.where) as base:
        if options.what == "mail-in":
            mail_in(base, options.rounds, options.seconds, options.only)
        else:
            reading(base, options.rounds, options.mails, options.only)


if __name__ == "__main__":
    main()
