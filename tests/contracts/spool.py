"""What every `ISpool` does, the real one and the fake."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from mailhost.address import Address
from mailhost.errors import SpoolFault, SpoolFull
from mailhost.interfaces.spool import Envelope, ISpool, ISpoolWriter, LocalTarget, Recipient
from mailhost.units import AccountID, QueueID


class SpoolContract(ABC):
    """
    A mixin for `SynchronousTestCase`.

    The test case gives `spool`, and the three methods that follow.
    """

    spool: Any

    @abstractmethod
    def settle(self) -> None:
        """Let everything that waits happen."""

    @abstractmethod
    def kept(self) -> dict[str, bytes]:
        """Return prefix and content of every message that was kept, by queue id."""

    @abstractmethod
    def break_commits(self, error: Exception | None) -> None:
        """Make commits fail with an error of that class, or work again."""

    def envelope(self, queue_id: str) -> Envelope:
        """Return an envelope for one mailbox here."""
        recipient = Recipient(Address.parse("user@here.example"), (LocalTarget(AccountID("user")),))
        return Envelope(QueueID(queue_id), None, (recipient,), 1_800_000_000.0)

    def fill(self, queue_id: str, *chunks: bytes) -> Any:
        """Begin a message and write the chunks, waiting where the writer asks for it."""
        writer = self.spool.begin(QueueID(queue_id))
        for chunk in chunks:
            patience = writer.write(chunk)
            if patience is not None:
                self.settle()
                self.successResultOf(patience)
        return writer

    def test_interfaces(self) -> None:
        """Spool and writer provide what the seams say."""
        verifyObject(ISpool, self.spool)
        verifyObject(ISpoolWriter, self.spool.begin(QueueID("q1")))

    def test_commit_keeps_prefix_and_content(self) -> None:
        """What was written comes out octet by octet, small or large."""
        contents = {"q1": [b"a"], "q2": [b"\r\n.", b"\0\xff" * 40_000, b"end"], "q3": []}
        for queue_id, chunks in contents.items():
            writer = self.fill(queue_id, *chunks)
            self.assertEqual(writer.size, sum(map(len, chunks)))
            done = writer.commit(self.envelope(queue_id), b"P: p\r\n")
            self.assertIsInstance(done, Deferred)
            self.settle()
            self.assertIsNone(self.successResultOf(done))
        self.assertEqual(
            self.kept(), {key: b"P: p\r\n" + b"".join(value) for key, value in contents.items()}
        )

    def test_nothing_is_kept_without_commit(self) -> None:
        """An aborted or forgotten message leaves nothing."""
        self.fill("q1", b"x" * 100_000).abort()
        self.fill("q2", b"x")
        self.settle()
        self.assertEqual(self.kept(), {})

    def test_abort_after_commit_is_harmless(self) -> None:
        """The promise stands."""
        writer = self.fill("q1", b"x")
        done = writer.commit(self.envelope("q1"), b"")
        writer.abort()
        self.settle()
        self.successResultOf(done)
        self.assertEqual(self.kept(), {"q1": b"x"})

    def test_failed_commit_keeps_nothing_and_the_next_one_works(self) -> None:
        """SpoolFull and SpoolFault reach the caller; then all goes on."""
        for kind in (SpoolFull, SpoolFault):
            self.break_commits(kind("set by the test"))
            done = self.fill("q1", b"x").commit(self.envelope("q1"), b"")
            self.settle()
            self.failureResultOf(done, kind)
            self.assertEqual(self.kept(), {})
        self.break_commits(None)
        done = self.fill("q2", b"y").commit(self.envelope("q2"), b"")
        self.settle()
        self.successResultOf(done)
        self.assertEqual(self.kept(), {"q2": b"y"})

    def test_settle_fires(self) -> None:
        """For what is held, and for what is not."""
        self.fill("q1", b"x").commit(self.envelope("q1"), b"")
        self.settle()
        done = self.spool.settle([QueueID("q1"), QueueID("unknown")])
        self.settle()
        self.assertIsNone(self.successResultOf(done))

    def test_there_is_room(self) -> None:
        """Nothing is refused while there is room."""
        self.assertIsNone(self.spool.room())
