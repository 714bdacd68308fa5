"""
One value for every outcome that a peer or a sender is told of.

`Reply` is what an SMTP server says. `DeliveryStatus` is what became of one recipient in one
delivery attempt, whoever made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An SMTP reply (RFC 5321 4.2) with its enhanced status code (RFC 3463).

    Args:
        code: three digits.
        enhanced: such as ``5.1.1``, or empty where none belongs (greeting, EHLO, 354, RFC 2034 4).
        lines: the text, one element a line, without line ends.
        close: the server closes the connection after this reply.
    """

    code: int
    enhanced: str
    lines: tuple[str, ...]
    close: bool = False

    @classmethod
    def of(cls, code: int, enhanced: str, text: str, *, close: bool = False) -> Reply:
        """Return a one-line reply."""
        return cls(code, enhanced, (text,), close)

    @property
    def positive(self) -> bool:
        """Whether the command succeeded, or may go on."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """Whether the same command may succeed later."""
        return 400 <= self.code < 500

    def encode(self) -> bytes:
        """Return the octets for the wire, every line with its CRLF."""
        return _encode(self)

    def __str__(self) -> str:
        status = f"{self.enhanced} " if self.enhanced else ""
        return f"{self.code} {status}{' '.join(self.lines)}"


@lru_cache(maxsize=1024)
def _encode(reply: Reply) -> bytes:
    status = f"{reply.enhanced} " if reply.enhanced else ""
    last = len(reply.lines) - 1
    return "".join(
        f"{reply.code}{' ' if number == last else '-'}{status}{line}\r\n"
        for number, line in enumerate(reply.lines)
    ).encode("utf-8", "replace")


class Action(Enum):
    """What a delivery attempt did for a recipient (RFC 3464 2.3.3)."""

    DELIVERED = "delivered"
    RELAYED = "relayed"
    DELAYED = "delayed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """
    What one delivery attempt did for one recipient.

    Args:
        action: done (delivered, relayed), to be tried again (delayed), or given up (failed).
        status: the enhanced status code, ``2.0.0``, ``4.4.1``, ``5.1.1`` (RFC 3463).
        diagnostic: the words of whoever decided, one line, for people and the DSN.
        remote_mta: the host that said so, empty if it was us.
        reply_code: that host's SMTP reply code, 0 if it was us.
        tls: what protected the transport, e.g. ``TLSv1.3 TLS_AES_256_GCM_SHA384``; empty for none.
    """

    action: Action
    status: str
    diagnostic: str
    remote_mta: str = ""
    reply_code: int = 0
    tls: str = ""

    @property
    def done(self) -> bool:
        """Whether the recipient needs no further attempt because the mail has arrived."""
        return self.action in (Action.DELIVERED, Action.RELAYED)

    def __str__(self) -> str:
        host = f" ({self.remote_mta})" if self.remote_mta else ""
        return f"{self.action.value} {self.status}{host}: {self.diagnostic}"
