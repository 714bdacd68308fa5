"""
What the spool holds, as values, and the form in which an envelope stands in its row.

An envelope is one JSON array (`pack`, `unpack`), its recipients in it: rows of their own exist
only for recipients that the first delivery did not finish.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeAlias

from mailhost.address import Address
from mailhost.interfaces.spool import (
    Body,
    Deposit,
    Envelope,
    LocalTarget,
    Placement,
    PlacementResult,
    Recipient,
)
from mailhost.reply import Action, DeliveryStatus
from mailhost.units import AccountID, MailboxID, QueueID

LOCAL = ""
"""The next hop of recipients that stay here."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


class State(IntEnum):
    """Of a recipient row."""

    WAITING = 0
    """For its next attempt, or in one."""
    FAILED = 1
    """Given up; the row goes when the sender has been told."""


@dataclass(frozen=True, slots=True)
class QueueRecipient:
    """
    A recipient that needs more than the first delivery.

    Args:
        number: of its row.
        message: number of the message's row.
        next_hop: what it is dispatched by; `LOCAL` with a `target`.
        address: where delivery is attempted.
        forward_path: what the sender gave; for a local target the same as `address`.
        next_attempt: steady Unix time.
        last: what the last attempt brought, None before the first.
    """

    number: int
    message: int
    next_hop: str
    address: str
    forward_path: str
    target: LocalTarget | None = None
    orcpt: str = ""
    notify: tuple[str, ...] = ()
    state: State = State.WAITING
    attempts: int = 0
    next_attempt: float = 0.0
    warned: bool = False
    last: DeliveryStatus | None = None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """
    A message as its row has it.

    Args:
        accepted_at: steady Unix time of the commit; ages are counted from it.
        content: the octets, or the file that holds them.
        size: of the content in octets.
    """

    number: int
    queue_id: QueueID
    accepted_at: float
    envelope: Envelope
    size: int
    prefix: bytes
    content: bytes | Path

    def deposit(self, targets: tuple[LocalTarget, ...], *, first: bool = False) -> Deposit:
        """Return the message as the local store takes it; `first`: as in `Deposit`."""
        envelope = self.envelope
        return Deposit(
            self.queue_id,
            envelope.reverse_path,
            self.prefix,
            self.content,
            self.size,
            envelope.received_at,
            targets,
            first,
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A message with those of its recipients that one attempt is for."""

    message: StoredMessage
    next_hop: str
    recipients: tuple[QueueRecipient, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """The recipient is done: delivered, or its sender has been told."""

    recipient: int


@dataclass(frozen=True, slots=True)
class Defer:
    """The recipient is tried again."""

    recipient: int
    attempts: int
    next_attempt: float
    status: DeliveryStatus


@dataclass(frozen=True, slots=True)
class Fail:
    """The recipient is given up, its sender not told yet."""

    recipient: int
    attempts: int
    status: DeliveryStatus


@dataclass(frozen=True, slots=True)
class Warned:
    """The sender has been told of the delay."""

    recipient: int


@dataclass(frozen=True, slots=True)
class Redate:
    """The message was accepted while the clock was ahead; its age counts from here (R-94)."""

    message: int
    accepted_at: float


Change: TypeAlias = Remove | Defer | Fail | Warned | Redate


def pack(envelope: Envelope) -> str:
    """Return the envelope, without its queue id, as text for its row."""
    reverse_path = envelope.reverse_path
    return _encode(
        [
            None if reverse_path is None else str(reverse_path),
            envelope.received_at,
            envelope.body.value,
            envelope.smtputf8,
            envelope.account_id,
            envelope.message_id,
            envelope.ret,
            envelope.envid,
            [
                [
                    str(recipient.forward_path),
                    [_target_fields(target) for target in recipient.local],
                    [str(address) for address in recipient.remote],
                    recipient.orcpt,
                    recipient.notify,
                ]
                for recipient in envelope.recipients
            ],
        ]
    )


def unpack(queue_id: QueueID, text: str) -> Envelope:
    """
    Return the envelope that `pack` wrote.

    Raises:
        ValueError, TypeError, IndexError, SyntaxFault: the text is not one.
    """
    reverse_path, received_at, body, smtputf8, account_id, message_id, ret, envid, rows = (
        json.loads(text)
    )
    return Envelope(
        queue_id,
        None if reverse_path is None else Address.parse(reverse_path),
        tuple(
            Recipient(
                Address.parse(forward_path),
                tuple(_target(fields) for fields in local),
                tuple(map(Address.parse, remote)),
                orcpt,
                tuple(notify),
            )
            for forward_path, local, remote, orcpt, notify in rows
        ),
        received_at,
        Body(body),
        smtputf8,
        None if account_id is None else AccountID(account_id),
        message_id,
        ret,
        envid,
    )


def pack_target(target: LocalTarget | None) -> str | None:
    """Return a local target as text for a recipient's row."""
    return None if target is None else _encode(_target_fields(target))


def unpack_target(text: str | None) -> LocalTarget | None:
    """Return the target that `pack_target` wrote."""
    return None if text is None else _target(json.loads(text))


def _target_fields(target: LocalTarget) -> list[Any]:
    delivered_to = target.delivered_to
    return [
        target.account_id,
        target.mailbox_id,
        None if delivered_to is None else str(delivered_to),
        target.flags,
        target.internal_date,
        target.zone,
    ]


def _target(fields: list[Any]) -> LocalTarget:
    account_id, mailbox_id, delivered_to, flags, internal_date, zone = fields
    return LocalTarget(
        AccountID(account_id),
        None if mailbox_id is None else MailboxID(mailbox_id),
        None if delivered_to is None else Address.parse(delivered_to),
        tuple(flags),
        internal_date,
        zone,
    )


def local_targets(envelope: Envelope) -> tuple[LocalTarget, ...]:
    """
    Return the places where copies stay here, in order.

    Recipients that lead to the same mailbox share one copy, as the first of them asks for it.
    """
    recipients = envelope.recipients
    if len(recipients) == 1 and len(recipients[0].local) == 1:
        return recipients[0].local
    places: dict[tuple[AccountID, MailboxID | None], LocalTarget] = {}
    for recipient in recipients:
        for target in recipient.local:
            places.setdefault((target.account_id, target.mailbox_id), target)
    return tuple(places.values())


def spread(
    envelope: Envelope,
    results: tuple[PlacementResult, ...],
) -> tuple[PlacementResult, ...]:
    """Return one result for every local target of the envelope, shared copies counted again."""
    by_place = {
        (target.account_id, target.mailbox_id): result
        for target, result in zip(local_targets(envelope), results, strict=True)
    }
    return tuple(
        by_place[target.account_id, target.mailbox_id]
        for recipient in envelope.recipients
        for target in recipient.local
    )


def remote_recipients(
    envelope: Envelope, next_hop: Callable[[Address], str], due: float
) -> list[QueueRecipient]:
    """
    Return rows, not numbered yet, for the addresses that are relayed, each address once.

    `next_hop` says what an address is dispatched by, never `LOCAL`; the first attempt is at `due`.
    """
    rows: dict[str, QueueRecipient] = {}
    for recipient in envelope.recipients:
        for address in recipient.remote:
            text = str(address)
            if text not in rows:
                rows[text] = QueueRecipient(
                    0,
                    0,
                    next_hop(address),
                    text,
                    str(recipient.forward_path),
                    None,
                    recipient.orcpt,
                    tuple(map(str.upper, recipient.notify)),
                    next_attempt=due,
                )
    return list(rows.values())


def unplaced_recipients(
    envelope: Envelope, results: tuple[PlacementResult, ...], due: float
) -> list[QueueRecipient]:
    """
    Return rows, not numbered yet, for the local targets that got no copy.

    There is one result for each of `local_targets`; what is only delayed is tried again at `due`.
    """
    rows = []
    for target, result in zip(local_targets(envelope), results, strict=True):
        if isinstance(result, Placement):
            continue
        recipient = next(r for r in envelope.recipients if target in r.local)
        path = str(recipient.forward_path)
        rows.append(
            QueueRecipient(
                0,
                0,
                LOCAL,
                path,
                path,
                target,
                recipient.orcpt,
                tuple(map(str.upper, recipient.notify)),
                State.FAILED if result.action is Action.FAILED else State.WAITING,
                attempts=1,
                next_attempt=due,
                last=result,
            )
        )
    return rows
