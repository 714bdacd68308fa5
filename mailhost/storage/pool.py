"""Where blocking work is done: a bounded pool of threads, or at once in a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class Pool(Protocol):
    """Takes blocking calls off the event thread."""

    def defer(self, function: Callable[..., T], *args: Any, **named: Any) -> Deferred[T]:
        """Call the function elsewhere; fire on the event thread with what it returns or raises."""


class ThreadedPool:
    """
    A pool of threads.

    Args:
        reactor: the event loop on whose thread results are told.
        threads: a started pool; its owner stops it.
    """

    def __init__(self, reactor: Any, threads: ThreadPool) -> None:
        self._reactor, self._threads = reactor, threads

    def defer(self, function: Callable[..., T], *args: Any, **named: Any) -> Deferred[T]:
        """Call the function on a thread of the pool."""
        return deferToThreadPool(self._reactor, self._threads, function, *args, **named)
