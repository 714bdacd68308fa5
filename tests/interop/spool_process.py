"""
A process with a real spool, real threads and a small file store, to be killed by a test.

``load DIRECTORY`` accepts mail as fast as it can and writes the id of each acknowledged message as
a line; ``recover DIRECTORY`` starts, settles, stops and says ``done``.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor
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

SESSIONS = 12
SIZES = (300, 4000, 20_000, 200_000)


@implementer(ILocalStore)
class FileStore:
    """Copies as files in ``new``; now and then one is moved to ``cur``, as a reader does."""

    def __init__(self, directory: Path) -> None:
        self._new = directory / "new"
        self._cur = directory / "cur"
        for path in (self._new, self._cur):
            path.mkdir(parents=True, exist_ok=True)

    def deposit(self, deposits: Sequence[Deposit]) -> Sequence[tuple[PlacementResult, ...]]:
        return [tuple(self._place(d, t, anew=False) for t in d.targets) for d in deposits]

    def recover(self, deposits: Sequence[Deposit]) -> Sequence[tuple[PlacementResult, ...]]:
        return [tuple(self._place(d, t, anew=True) for t in d.targets) for d in deposits]

    def _place(self, deposit: Deposit, target: LocalTarget, *, anew: bool) -> Placement:
        name = f"{target.account_id}.{deposit.queue_id}"
        content = deposit.content
        octets = content.read_bytes() if isinstance(content, Path) else content
        path = self._cur / name
        if not path.exists():
            path = self._new / name
        if anew or not path.exists():
            path.write_bytes(deposit.prefix + octets)
        if random.random() < 0.2:
            path.rename(self._cur / name)
        return Placement(target.account_id, MailboxID("m"), UIDValidity(1), UID(1))

    def sync(self) -> None:
        time.sleep(0.01)

    def settled(self, queue_ids: Sequence[QueueID]) -> None:
        return None


def body(queue_id: str) -> bytes:
    """The content of a message, known from its id."""
    size = SIZES[sum(queue_id.encode()) % len(SIZES)]
    return (queue_id.encode() + b"\r\n") * (size // 28)


def accounts(queue_id: str) -> list[str]:
    """Who gets it."""
    return ["ann", "bob", "eve"][: 1 + sum(queue_id.encode()) % 3]


class Load:
    """Some sessions that send one message after the other."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def start(self, _: Any = None) -> None:
        for _ in range(SESSIONS):
            self.send()

    def send(self) -> None:
        queue_id = new_id(time.time(), os.urandom)
        writer = self._spool.begin(QueueID(queue_id))
        writer.write(body(queue_id))
        targets = tuple(LocalTarget(AccountID(name)) for name in accounts(queue_id))
        recipient = Recipient(Address.parse("x@here.example"), targets)
        sent = writer.commit(Envelope(QueueID(queue_id), None, (recipient,), time.time()), b"P\r\n")
        sent.addCallback(self._acknowledged, queue_id)

    def _acknowledged(self, _: None, queue_id: str) -> None:
        os.write(1, queue_id.encode() + b"\n")
        self.send()


def main() -> None:
    mode, directory = sys.argv[1], Path(sys.argv[2])
    clock = SteadyClock(time.time, time.monotonic)
    threads = RealThreads(reactor.callFromThread)
    spool = Spool(directory / "spool", FileStore(directory / "mail"), reactor, threads, clock)
    started = spool.start()
    if mode == "load":
        started.addCallback(Load(spool).start)
    else:
        started.addCallback(lambda _: spool.stop())
        started.addCallback(lambda _: os.write(1, b"done\n"))
        started.addCallback(lambda _: reactor.stop())
    started.addErrback(lambda failure: (failure.printTraceback(), os._exit(1)))
    reactor.run()


if __name__ == "__main__":
    main()
