"""Waiting for several look-ups that run at the same time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


async def together(work: Iterable[Deferred[T]]) -> list[T]:
    """
    Return the results in order.

    The first failure, or being cancelled, cancels all that is still on its way and is raised as it
    is (`gatherResults` would wrap it).
    """
    pending = list(work)
    try:
        return [await deferred for deferred in pending]
    except BaseException:
        for deferred in pending:
            deferred.addErrback(_expected)
            deferred.cancel()
        raise


def _expected(failure: Failure) -> None:
    failure.trap(CancelledError)
