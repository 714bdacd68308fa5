"""Trace fields: building them safely and counting them."""

from __future__ import annotations

from mailhost.address import Address


def received(
    *,
    helo: str,
    peer: str,
    host: str,
    protocol: str,
    queue_id: str,
    now: float,
    tls: str = "",
    forward_path: Address | None = None,
    reverse_name: str = "",
    zone: int = 0,
) -> bytes:
    """
    Return a Received field with its line ends (RFC 5321 4.4).

    Args:
        helo: what the client called itself, any text. peer: its IP address.
        reverse_name: its verified host name, if known.
        host: our name. protocol: as ``ESMTPSA`` (RFC 3848).
        forward_path: only when the message has a single recipient.
    """
    raise NotImplementedError


def return_path(reverse_path: Address | None) -> bytes:
    """Return a Return-Path field, ``<>`` for the null reverse-path."""
    raise NotImplementedError


def delivered_to(address: Address) -> bytes:
    """Return a Delivered-To field."""
    raise NotImplementedError


def count_received(header: bytes) -> int:
    """Return how many Received fields a header block has, for finding loops (RFC 5321 6.3)."""
    raise NotImplementedError


def is_delivered_to(header: bytes, address: Address) -> bool:
    """Whether the header says that the mail was delivered to the address before."""
    raise NotImplementedError


def safe_text(text: str, limit: int = 200) -> str:
    """Return the text as it may stand in a header field: one line, no controls, bounded (R-33)."""
    raise NotImplementedError
