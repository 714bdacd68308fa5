"""What a session may do to the connection below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Security:
    """
    What TLS says of a connection; all empty without it.

    Args:
        tls: protocol version and cipher.
        channel_bindings: octets by binding type.
    """

    tls: str = ""
    channel_bindings: tuple[tuple[str, bytes], ...] = ()


class SMTPChannel(Protocol):
    """
    The stream and transport under a session.

    The ``start`` methods say what the octets after the current command are; see
    `mailhost.wire.smtp.SMTPReceiver`.
    """

    @property
    def pending(self) -> bool:
        """Whether octets have come that were not looked at yet."""

    def security(self) -> Security:
        """What protects the connection now."""

    def start_data(self, mend: bool) -> None:
        """Message data up to CRLF.CRLF comes next."""

    def start_bdat(self, size: int, last: bool, mend: bool) -> None:
        """So many octets of message data come next."""

    def forget_chunks(self) -> None:
        """The next chunk begins another message."""

    def start_auth(self) -> None:
        """A response within AUTH comes next."""

    def start_tls(self) -> None:
        """After the reply to the current command TLS is started; what came before is dropped."""
