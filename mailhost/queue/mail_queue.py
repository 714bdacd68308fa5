"""The queue as administrators see it, and its parts as one service."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailhost.interfaces.spool import IQueue, QueuedMessage
from mailhost.queue.bounce import Bouncer
from mailhost.queue.dispatch import Dispatcher
from mailhost.queue.spool import Spool
from mailhost.units import QueueID


@implementer(IQueue)
class MailQueue:
    """
    Spool, dispatcher and bouncer together: start them with `start`, in order, and ask for them.

    Args:
        spool: not started yet.
        before_retry: called when an administrator wants attempts now, so that what is known of
            hosts that were down a moment ago does not stand in their way.
    """

    def __init__(
        self,
        spool: Spool,
        dispatcher: Dispatcher,
        bouncer: Bouncer,
        *,
        before_retry: Callable[[], None] = lambda: None,
    ) -> None:
        self._spool = spool
        self._dispatcher = dispatcher
        self._bouncer = bouncer
        self._before_retry = before_retry

    def start(self) -> Deferred[None]:
        """
        Recover what an unclean stop left, begin to dispatch, and fire when mail may come in.

        Fails as `Spool.start`.
        """

        async def start() -> None:
            await self._spool.start()
            await self._dispatcher.start()

        return Deferred.fromCoroutine(start())

    def stop(self) -> Deferred[None]:
        """Stop dispatching, commit and settle what is here, close; within about ten seconds."""

        async def stop() -> None:
            await self._dispatcher.stop()
            self._bouncer.stop()
            await self._spool.stop()

        return Deferred.fromCoroutine(stop())

    def messages(self) -> Deferred[tuple[QueuedMessage, ...]]:
        """Every message with a recipient that is not done, oldest first."""

        async def messages() -> tuple[QueuedMessage, ...]:
            found: list[QueuedMessage] = []
            after: int | None = 0
            while after is not None:
                start = after
                page, after = await self._spool.read(lambda reader: reader.listing(start))  # noqa: B023
                found += page
            return tuple(found)

        return Deferred.fromCoroutine(messages())

    def message(self, queue_id: QueueID) -> Deferred[QueuedMessage]:
        """One of them, or NoSuchEntry."""
        return self._spool.read(lambda reader: reader.queued(queue_id))

    def retry(self, queue_ids: Sequence[QueueID] | None) -> Deferred[int]:
        """Make the next attempt now, for these or for all; fire with how many messages."""

        async def retry() -> int:
            self._before_retry()
            count = await self._spool.make_due(queue_ids)
            await self._dispatcher.wake()
            return count

        return Deferred.fromCoroutine(retry())

    def delete(self, queue_ids: Sequence[QueueID]) -> Deferred[int]:
        """Drop them without a bounce; fire with how many there were."""

        async def delete() -> int:
            count = await self._spool.drop(queue_ids)
            self._dispatcher.cancel(queue_ids)
            return count

        return Deferred.fromCoroutine(delete())
