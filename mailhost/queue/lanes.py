"""
Threads with one line of work each: what blocks runs here, in the order in which it was given.

A lane is told from the event thread only, and answers there. Tests put an object with the same
three methods in its place that runs the calls when the test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

CallFromThread = Callable[[Callable[[], None]], None]
"""Runs a call on the event thread, soon; may be called on any thread."""


class Lane(Protocol):
    """One line of work that may block."""

    def run(self, call: Callable[[], None]) -> None:
        """Do this after all that was given before. The call must not raise."""

    def defer(self, call: Callable[[], T]) -> Deferred[T]:
        """The same, and fire on the event thread with what the call returns or raises."""

    def stop(self) -> None:
        """End the thread after what was given so far; what comes later is not done."""


def deferred_call(
    call: Callable[[], T], run: Callable[[Callable[[], None]], None], answer: CallFromThread
) -> Deferred[T]:
    """Give the call to `run` and return a Deferred of its outcome, fired through `answer`."""
    result: Deferred[T] = Deferred()

    def work() -> None:
        try:
            value = call()
        except Exception:
            failure = Failure()
            answer(lambda: result.errback(failure))
        else:
            answer(lambda: result.callback(value))

    run(work)
    return result


class ThreadLane:
    """
    A lane that is a daemon thread, started at its first call; it sleeps while there is no work.

    Args:
        name: of the thread, for people.
        call_from_thread: the reactor's.
    """

    def __init__(self, name: str, call_from_thread: CallFromThread) -> None:
        self._name = name
        self._answer = call_from_thread
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._stopped = False

    def run(self, call: Callable[[], None]) -> None:
        """Do this after all that was given before. The call must not raise."""
        if self._stopped:
            return
        if self._thread is None:
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(call)

    def defer(self, call: Callable[[], T]) -> Deferred[T]:
        """The same, and fire on the event thread with what the call returns or raises."""
        return deferred_call(call, self.run, self._answer)

    def stop(self) -> None:
        """End the thread after what was given so far; what comes later is not done."""
        self._stopped = True
        if self._thread is not None:
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            # An idle thread must not keep the last message's octets alive.
            del call
