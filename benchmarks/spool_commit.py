"""
What accepting into the spool costs: messages a second and CPU microseconds a message.

    python -m benchmarks.spool_commit DIRECTORY [SECONDS]

The local store does nothing, so that only begin, write, commit and the settling transaction are
measured. Each committer sends its next message when the last one is acknowledged. Figures depend
on the disk's fdatasync; a file system without a journal misleads.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner
from zope.interface import implementer

from mailhost.address import Address
from mailhost.ids import new_id
from mailhost.interfaces.spool import (
    Deposit,
    Envelope,
    ILocalStore,
    LocalTarget,
    Placement,
    PlacementResult,
    Recipient,
)
from mailhost.queue.clock import SteadyClock
from mailhost.queue.runner import RealThreads
from mailhost.queue.spool import Spool
from mailhost.units import UID, AccountID, MailboxID, QueueID, UIDValidity

PLACED = (Placement(AccountID("a"), MailboxID("m"), UIDValidity(1), UID(1)),)
RECIPIENT = Recipient(Address.parse("user@here.example"), (LocalTarget(AccountID("a")),))


@implementer(ILocalStore)
class NullStore:
    """Says yes."""

    def deposit(self, deposits: Sequence[Deposit]) -> Sequence[tuple[PlacementResult, ...]]:
        """Place all of them nowhere."""
        return [PLACED] * len(deposits)

    recover = deposit

    def sync(self) -> None:
        """Nothing to sync."""

    def settled(self, queue_ids: Sequence[QueueID]) -> None:
        """Nothing to forget."""


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Run:
    """So many committers for so many seconds."""

    def __init__(self, spool: Spool, committers: int, size: int, seconds: float) -> None:
        self.spool = spool
        self.committers = committers
        self.content = (b"x" * 76 + b"\r\n") * (size // 78)
        self.seconds = seconds
        self.latencies: list[float] = []
        self.active = 0
        self.done: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        """Begin, and fire after the report."""
        self.begun, self.cpu = time.monotonic(), cpu()
        self.end = self.begun + self.seconds
        for _ in range(self.committers):
            self.active += 1
            self.send()
        return self.done

    def send(self) -> None:
        """Commit one message."""
        begun = time.monotonic()
        queue_id = QueueID(new_id(time.time(), os.urandom))
        writer = self.spool.begin(queue_id)
        for start in range(0, len(self.content), 65536):
            writer.write(self.content[start : start + 65536])
        writer.commit(
            Envelope(queue_id, None, (RECIPIENT,), time.time()), b"Received: x\r\n" * 12
        ).addCallback(self.sent, begun)

    def sent(self, _: Any, begun: float) -> None:
        """Go on, or end when the time is over."""
        now = time.monotonic()
        self.latencies.append(now - begun)
        if now < self.end:
            self.send()
            return
        self.active -= 1
        if not self.active:
            # The last settling belongs to the price.
            reactor.callLater(1.3, self.report)

    def report(self) -> None:
        """Print the figures."""
        count = len(self.latencies)
        spent = (cpu() - self.cpu) / count * 1e6
        late = sorted(self.latencies)[int(count * 0.99)] * 1000
        rate = count / (self.end - self.begun)
        print(
            f"{len(self.content):>8} octets {self.committers:>3} committers {rate:>8.0f}/s"
            f" {spent:>7.0f} us CPU  p99 {late:.1f} ms",
            flush=True,
        )
        self.done.callback(None)


async def measure(directory: Path, seconds: float) -> None:
    threads = RealThreads(reactor.callFromThread)
    clock = SteadyClock(time.time, time.monotonic)
    for size, committers in ((4000, 1), (4000, 10), (4000, 50), (50_000, 10), (1_000_000, 10)):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        spool = Spool(directory / "spool", NullStore(), reactor, threads, clock)
        await spool.start()
        await Run(spool, committers, size, seconds).start()
        await spool.stop()


def main() -> None:
    globalLogBeginner.beginLoggingTo([lambda event: None], redirectStandardIO=False)
    directory = Path(sys.argv[1]) / "spool-benchmark"
    done = Deferred.fromCoroutine(measure(directory, float((*sys.argv, "3")[2])))
    done.addErrback(lambda failure: failure.printTraceback()).addBoth(lambda _: reactor.stop())
    reactor.run()
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
