"""
CPU of the SMTP dialogue alone: protocol, session and receiver with a spool that keeps nothing.

    PYTHONPATH=. python benchmarks/smtp_dialogue.py [messages]

Prints microseconds of CPU for a transaction of one recipient with 4 KB whose client waits for each
reply, the same with the envelope pipelined, and milliseconds for a megabyte of data.
"""

from __future__ import annotations

import os
import sys
import time

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from mailhost.address import Address
from mailhost.interfaces.login import ISubmission
from mailhost.interfaces.spool import (
    Envelope,
    ISpool,
    ISpoolWriter,
    LocalTarget,
    PlacementResult,
    Recipient,
)
from mailhost.reply import Reply
from mailhost.smtp.protocol import SMTPServerFactory
from mailhost.smtp.settings import SMTPServerParts, SMTPServerSettings
from mailhost.units import AccountID, QueueID

TARGET = (LocalTarget(AccountID("a")),)


@implementer(ISpoolWriter)
class NullWriter:
    """Takes octets and forgets them."""

    size = 0

    def write(self, data: bytes) -> None:
        """Forget."""

    def commit(self, envelope: Envelope, prefix: bytes) -> Deferred[None]:
        """Have it done at once."""
        return succeed(None)

    def commit_placed(
        self, envelope: Envelope, prefix: bytes
    ) -> Deferred[tuple[PlacementResult, ...]]:
        """Have it done at once."""
        return succeed(())

    def abort(self) -> None:
        """Forget."""


@implementer(ISpool)
class NullSpool:
    """Keeps nothing."""

    def begin(self, queue_id: QueueID) -> NullWriter:
        """Return a writer."""
        return NullWriter()

    def settle(self, queue_ids: object) -> Deferred[None]:
        """Do nothing."""
        return succeed(None)

    def room(self) -> Reply | None:
        """There always is."""
        return None


class Everyone:
    """Takes every recipient."""

    def recipient(self, forward_path: Address, submission: ISubmission | None) -> Recipient:
        """Take it."""
        return Recipient(forward_path, TARGET)


class NullTransport:
    """Forgets what is written."""

    disconnecting = False

    def write(self, data: bytes) -> None:
        """Forget."""

    def getPeer(self) -> IPv4Address:
        """Some client."""
        return IPv4Address("TCP", "192.0.2.1", 2525)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Never stop it."""

    def loseConnection(self) -> None:
        """Go."""


class RealClock(Clock):
    """Real seconds, no calls."""

    def seconds(self) -> float:
        """Now."""
        return time.time()


def measure(reads: list[bytes], count: int) -> float:
    """Return CPU seconds for the reads, the best of five."""
    clock = RealClock()
    factory = SMTPServerFactory(
        SMTPServerSettings(hostname="mx.example.org"),
        SMTPServerParts(
            clock=clock, random_bytes=os.urandom, spool=NullSpool(), recipients=Everyone()
        ),
    )
    best = float("inf")
    for _ in range(5):
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(NullTransport())  # type: ignore[arg-type]
        protocol.dataReceived(b"EHLO client.example\r\n")
        start = time.process_time()
        for _ in range(count):
            for read in reads:
                protocol.dataReceived(read)
        best = min(best, (time.process_time() - start) / count)
        session = protocol._session
        assert session is not None and session.accepted == count
        protocol.connectionLost()
    return best


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    body = b"Subject: hello\r\nFrom: a@b\r\nMessage-ID: <1@b>\r\nDate: x\r\n\r\n"
    body += (b"x" * 70 + b"\r\n") * 56
    envelope = [b"MAIL FROM:<a@client.example> SIZE=4096\r\n", b"RCPT TO:<bob@example.org>\r\n"]
    data = [b"DATA\r\n", body + b".\r\n"]
    print(f"4 KB, each command answered:  {measure(envelope + data, count) * 1e6:.1f} us")
    piped = [b"".join([*envelope, data[0]]), data[1]]
    print(f"4 KB, envelope pipelined:     {measure(piped, count) * 1e6:.1f} us")
    line = b"The quick brown fox jumps over the lazy dog, again and again and again.\r\n"
    block = (line * 900)[:65536]
    large = [*envelope, data[0], b"A: b\r\n\r\n", *[block] * 160, b"\r\n.\r\n"]
    print(f"data, 64 KB reads:            {measure(large, 2) * 100:.2f} ms/MB")


main()
