"""One mail transaction as the client sees it: what is sent, and what became of each recipient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailhost.address import Address
from mailhost.interfaces.spool import Body
from mailhost.reply import DeliveryStatus
from mailhost.smtp.client.capabilities import Capabilities
from mailhost.smtp.client.content import Content

# RFC 3461 4.1 and 4.4: xtext, with the address type before it in ORCPT.
_PARAMETER = re.compile(r"[!-~]{1,500}\Z")
_NOTIFY = frozenset({"NEVER", "SUCCESS", "FAILURE", "DELAY"})


@dataclass(slots=True)
class Transaction:
    """
    One message for up to a hundred recipients.

    Args:
        dsn: (orcpt, notify) for each recipient, or empty.
        statuses: one for each recipient, None as long as nothing is known.
        content_sent: the end of the data was written. If the connection is lost after that,
            nobody knows whether the server has taken the message.
        refused: the server refused the transaction as a whole (MAIL, DATA or the message), so
            that another host may still take it.
    """

    reverse_path: Address | None
    recipients: Sequence[Address]
    content: Content
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    dsn: Sequence[tuple[str, tuple[str, ...]]] = ()
    statuses: list[DeliveryStatus | None] = field(default_factory=list)
    content_sent: bool = False
    refused: bool = False

    def __post_init__(self) -> None:
        self.statuses = [None] * len(self.recipients)

    @property
    def undecided(self) -> list[int]:
        """Indices of the recipients of which nothing is known."""
        return [number for number, status in enumerate(self.statuses) if status is None]

    @property
    def has_ascii_addresses(self) -> bool:
        """Whether no address needs SMTPUTF8."""
        return (self.reverse_path is None or self.reverse_path.is_ascii) and all(
            recipient.is_ascii for recipient in self.recipients
        )

    def settle(self, status: DeliveryStatus) -> None:
        """Give all that are undecided this status."""
        self.statuses = [status if known is None else known for known in self.statuses]


def mail_command(transaction: Transaction, offered: Capabilities, *, utf8: bool) -> bytes:
    """Return the MAIL line with every parameter that the server understands."""
    path = "" if transaction.reverse_path is None else str(transaction.reverse_path)
    words = [f"MAIL FROM:<{path}>"]
    if offered.size is not None:
        words.append(f"SIZE={transaction.content.size}")
    if transaction.body is not Body.SEVEN_BIT and offered.eight_bit:
        words.append(f"BODY={transaction.body.value}")
    if utf8:
        words.append("SMTPUTF8")
    if offered.dsn:
        if transaction.ret in ("FULL", "HDRS"):
            words.append(f"RET={transaction.ret}")
        if _PARAMETER.match(transaction.envid):
            words.append(f"ENVID={transaction.envid}")
    return " ".join(words).encode() + b"\r\n"


def rcpt_command(transaction: Transaction, number: int, offered: Capabilities) -> bytes:
    """Return the RCPT line of one recipient."""
    line = f"RCPT TO:<{transaction.recipients[number]}>"
    if offered.dsn and transaction.dsn:
        orcpt, notify = transaction.dsn[number]
        if notify and _NOTIFY.issuperset(notify):
            line += f" NOTIFY={','.join(notify)}"
        if _PARAMETER.match(orcpt):
            line += f" ORCPT={orcpt}"
    return line.encode() + b"\r\n"
