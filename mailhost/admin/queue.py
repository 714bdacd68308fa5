"""What an administrator does with mail that waits for delivery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mailhost.admin.errors import UsageFault
from mailhost.interfaces.login import IAdministration
from mailhost.interfaces.spool import IQueue, QueuedMessage
from mailhost.units import QueueID


async def list_all(
    administration: IAdministration,
    sender: str | None = None,
    recipient: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """
    Return the messages of the queue, oldest first.

    `sender` and `recipient` select by address, caseless; ``@domain`` selects a whole domain, and
    the sender ``<>`` bounces.
    """
    found = await administration.queue.messages()
    return [
        _document(message)
        for message in found
        if _matches(sender, (message.reverse_path,))
        and _matches(recipient, [each.forward_path for each in message.recipients])
    ][:limit]


async def show(administration: IAdministration, queue_id: str) -> dict[str, Any]:
    """Return one message with the state of each recipient."""
    message = await administration.queue.message(QueueID(queue_id))
    return _document(message) | {"recipients": [asdict(each) for each in message.recipients]}


async def retry(
    administration: IAdministration, queue_ids: Sequence[str] = (), all: bool = False
) -> dict[str, Any]:
    """Make the next attempt now; say for how many messages."""
    chosen = _choice(queue_ids, all)
    if chosen is not None:
        await _exist(administration.queue, chosen)
    return {"messages": await administration.queue.retry(chosen)}


async def delete(
    administration: IAdministration, queue_ids: Sequence[str] = (), all: bool = False
) -> dict[str, Any]:
    """Drop messages without a bounce; say how many there were."""
    chosen = _choice(queue_ids, all)
    if chosen is None:
        chosen = [message.queue_id for message in await administration.queue.messages()]
    else:
        await _exist(administration.queue, chosen)
    return {"messages": await administration.queue.delete(chosen)}


def _choice(queue_ids: Sequence[str], everything: bool) -> list[QueueID] | None:
    if bool(queue_ids) is everything:
        raise UsageFault("queue ids are needed, or --all, not both")
    return None if everything else [QueueID(queue_id) for queue_id in queue_ids]


async def _exist(queue: IQueue, queue_ids: Sequence[QueueID]) -> None:
    # A mistyped id is an error before anything is done, not a smaller number afterwards.
    for queue_id in queue_ids:
        await queue.message(queue_id)


def _matches(wanted: str | None, addresses: Sequence[str]) -> bool:
    if wanted is None:
        return True
    wanted = wanted.casefold()
    if wanted in ("", "<>"):
        return "" in addresses
    if wanted.startswith("@"):
        return any(address.casefold().endswith(wanted) for address in addresses)
    return any(address.casefold() == wanted for address in addresses)


def _document(message: QueuedMessage) -> dict[str, Any]:
    waiting = [each.next_attempt for each in message.recipients if each.next_attempt]
    latest = max(message.recipients, key=lambda each: each.attempts, default=None)
    return {
        "queue_id": message.queue_id,
        "received_at": message.received_at,
        "size": message.size,
        "reverse_path": message.reverse_path,
        "forward_paths": [each.forward_path for each in message.recipients],
        "message_id": message.message_id,
        "next_attempt": min(waiting, default=0.0),
        "last_diagnostic": latest.last_diagnostic if latest else "",
    }
