"""The spool's thread: it gathers jobs into turns of the journal, and sleeps when there are none."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mailhost.queue.journal import Commit, Job, Journal
from mailhost.queue.lanes import CallFromThread, Lane, ThreadLane

TURN_JOBS = 256
TURN_OCTETS = 8 * 1024 * 1024
"""What one turn takes at most, so that the first 250 does not wait for the last."""


class JournalRunner(Protocol):
    """Runs a journal's turns."""

    def put(self, job: Job) -> None:
        """Give the next turn a job."""

    def stop(self) -> Deferred[None]:
        """Do what was given so far, close the journal, and fire."""


class Threads(Protocol):
    """Where the spool's blocking work runs. Tests have their own, without threads."""

    def answer(self, call: Callable[[], None], /) -> None:
        """Run a call on the event thread; may be called on any thread."""

    def lane(self, name: str) -> Lane:
        """Return a lane."""

    def journal(self, journal: Journal) -> JournalRunner:
        """Return the runner of a journal."""


class JournalThread:
    """A runner that is a daemon thread, started at its first job."""

    def __init__(self, journal: Journal, call_from_thread: CallFromThread) -> None:
        self._journal = journal
        self._answer = call_from_thread
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._stopped: Deferred[None] = Deferred()

    def put(self, job: Job) -> None:
        """Give the next turn a job."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name="mailhost-spool", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def stop(self) -> Deferred[None]:
        """Do what was given so far, close the journal, and fire."""
        if self._thread is None:
            self._stopped.callback(None)
        else:
            self._jobs.put(None)
        return self._stopped

    def _work(self) -> None:
        going = True
        while going:
            jobs = self._take()
            if jobs and jobs[-1] is None:
                going = False
                jobs.pop()
            self._journal.turn(jobs)  # type: ignore[arg-type]
            del jobs
        try:
            self._journal.close()
        except Exception:
            failure = Failure()
            self._answer(lambda: self._stopped.errback(failure))
        else:
            self._answer(lambda: self._stopped.callback(None))

    def _take(self) -> list[Job | None]:
        try:
            job = self._jobs.get(timeout=self._journal.wait())
        except Empty:
            return []
        jobs = [job]
        octets = 0
        try:
            while job is not None and len(jobs) < TURN_JOBS and octets < TURN_OCTETS:
                if isinstance(job, Commit) and job.content is not None:
                    octets += job.size
                job = self._jobs.get_nowait()
                jobs.append(job)
        except Empty:
            return jobs
        return jobs


class RealThreads:
    """
    Threads, for real.

    Args:
        call_from_thread: the reactor's.
    """

    def __init__(self, call_from_thread: CallFromThread) -> None:
        self.answer = call_from_thread

    def lane(self, name: str) -> Lane:
        """Return a lane with a thread of its own."""
        return ThreadLane(name, self.answer)

    def journal(self, journal: Journal) -> JournalRunner:
        """Return the thread of a journal."""
        return JournalThread(journal, self.answer)
