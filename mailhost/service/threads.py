"""Bounded pools of threads, as the packages below take them: a `defer` that gives a Deferred."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """
    So many threads, started when first needed.

    Work waits in order while all are busy. After `stop` nothing runs any more; what was asked for
    before is finished first.

    Args:
        reactor: where answers are delivered.
        name: of the threads, for debuggers.
        threads: how many at most.
    """

    def __init__(self, reactor: Any, name: str, threads: int) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=threads, name=f"mailhost-{name}")

    def start(self) -> None:
        """Allow work."""
        self._pool.start()

    def stop(self) -> None:
        """Finish what was asked for and end the threads; blocks until then."""
        if self._pool.started:
            self._pool.stop()

    def defer(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run a blocking function on one of the threads; its answer fires on the event thread."""
        return deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)
