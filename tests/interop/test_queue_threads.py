"""The whole queue on the real reactor, with its threads."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from mailhost.ids import new_id
from mailhost.interfaces.spool import DeliveryRequest, IDeliveryAgent, Recipient
from mailhost.queue.bounce import Bouncer
from mailhost.queue.clock import SteadyClock
from mailhost.queue.dispatch import Dispatcher
from mailhost.queue.mail_queue import MailQueue
from mailhost.queue.runner import RealThreads
from mailhost.queue.schedule import RetrySchedule
from mailhost.queue.spool import Spool
from mailhost.reply import DeliveryStatus
from mailhost.units import QueueID
from tests.queue.rig import (
    BUSY,
    DELIVERED,
    LOCKED,
    UNKNOWN_USER,
    MemoryStore,
    envelope,
    local,
    remote,
)


@implementer(IDeliveryAgent)
class MoodyAgent:
    """Defers everything once, then delivers or refuses by the address."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.relayed: list[str] = []

    def deliver(self, request: DeliveryRequest) -> Deferred[tuple[DeliveryStatus, ...]]:
        return deferLater(reactor, random.uniform(0, 0.02), self._answer, request)

    def _answer(self, request: DeliveryRequest) -> tuple[DeliveryStatus, ...]:
        content = request.content
        octets = content.read_bytes() if isinstance(content, Path) else content
        assert len(octets) == request.size
        if request.queue_id not in self.seen:
            self.seen.add(request.queue_id)
            return (BUSY,) * len(request.recipients)
        if request.next_hop == "rude.example":
            return (UNKNOWN_USER,) * len(request.recipients)
        self.relayed.append(request.queue_id)
        return (DELIVERED,) * len(request.recipients)


class QueueThreadTests(TestCase):
    """Accept, deliver, defer, relay, bounce, stop: all at once."""

    timeout = 60

    def build(self, store: MemoryStore, agent: MoodyAgent) -> tuple[Spool, MailQueue]:
        clock = SteadyClock(time.time, time.monotonic)
        schedule = RetrySchedule(delays=(0.2,))
        threads = RealThreads(reactor.callFromThread)
        spool = Spool(self.directory, store, reactor, threads, clock, schedule=schedule)
        bouncer = Bouncer(
            spool,
            lambda address: local(str(address), "sender"),
            reactor,
            clock,
            host="mx.here.example",
            wall=time.time,
            random_bytes=os.urandom,
            schedule=schedule,
        )
        dispatcher = Dispatcher(
            spool, agent, bouncer, reactor, clock, random=random.random, schedule=schedule
        )
        return spool, MailQueue(spool, dispatcher, bouncer)

    def send(self, spool: Spool, kind: int) -> Deferred[Any]:
        queue_id = new_id(time.time(), os.urandom)
        writer = spool.begin(QueueID(queue_id))
        for _ in range(30 if kind % 5 == 0 else 1):
            writer.write(b"x" * 8000)
        recipients: tuple[Recipient, ...] = (
            (local("a@here.example", "a"),),
            (remote("x@polite.example"),),
            (remote("x@rude.example"),),
            (local("b@here.example", "b"), remote("y@polite.example")),
        )[kind % 4]
        return writer.commit(envelope(queue_id, *recipients), b"P: p\r\n")

    def test_everything_ends(self) -> Deferred[None]:
        """Two hundred messages of every kind end delivered, relayed or bounced, each once."""
        self.directory = Path(self.mktemp())
        store, agent = MemoryStore(), MoodyAgent()
        store.refusals["b"] = [LOCKED]
        spool, queue = self.build(store, agent)

        async def run() -> None:
            await queue.start()
            await gatherResults([self.send(spool, kind) for kind in range(200)])
            await deferLater(reactor, 1.2)
            del store.refusals["b"]
            for _ in range(200):
                if not await queue.messages():
                    break
                await deferLater(reactor, 0.1)
            self.assertEqual(await queue.messages(), ())
            await queue.stop()
            counts: dict[str, int] = {}
            for account, _ in store.durable:
                counts[account] = counts.get(account, 0) + 1
            self.assertEqual(counts, {"a": 50, "b": 50, "sender": 50})
            self.assertEqual(len(agent.relayed), 100)
            self.assertEqual(len(set(agent.relayed)), 100)
            self.assertEqual(list((self.directory / "content").iterdir()), [])
            self.assertFalse((self.directory / "spool.sqlite-wal").exists())

        return Deferred.fromCoroutine(run())
