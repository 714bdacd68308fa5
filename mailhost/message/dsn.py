"""Delivery status notifications: multipart/report messages (RFC 3464, RFC 6533)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailhost.address import Address
from mailhost.reply import DeliveryStatus


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """
    What became of one recipient.

    Args:
        address: where delivery was attempted (Final-Recipient).
        orcpt: as the sender gave it (RFC 3461 4.2), shown as Original-Recipient if well-formed.
        last_attempt, retry_until: Unix seconds, None if there is none.
    """

    address: Address
    status: DeliveryStatus
    orcpt: str = ""
    last_attempt: float | None = None
    retry_until: float | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """
    The message that the report is about.

    Args:
        content: its octets, or their beginning; the whole is returned with ``ret`` FULL only.
        complete: `content` is the whole message.
    """

    queue_id: str
    received_at: float
    content: bytes
    complete: bool = True
    envid: str = ""
    ret: str = ""


def report(
    *,
    host: str,
    to: Address,
    recipients: Sequence[ReportedRecipient],
    original: Original,
    now: float,
    unique: str,
) -> bytes:
    """
    Return a finished message, CRLF line ends, to be sent with the null reverse-path.

    Its kind follows from the recipients: any failed makes it a failure, else any delayed a delay,
    else a success notice.

    Args:
        host: our name: Reporting-MTA, and domain of the sender and Message-ID.
        to: the reverse-path of the original.
        unique: an id (`mailhost.ids.new_id`) for Message-ID and boundary.
    """
    raise NotImplementedError
