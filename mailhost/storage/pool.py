"""Where blocking work is done: what the store wants of a bounded pool of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")


class Pool(Protocol):
    """Takes blocking calls off the event thread."""

    def defer(self, function: Callable[..., T], *args: Any, **named: Any) -> Deferred[T]:
        """Call the function elsewhere; fire on the event thread with what it returns or raises."""
