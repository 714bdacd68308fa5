"""
Trace fields: building them so that nothing can be slipped in, and counting them.

Every value that a peer had a hand in passes `safe_text`: no field built here has more than the
line ends this module puts in it (R-33).
"""

from __future__ import annotations

import re

from mailhost.address import Address
from mailhost.message.dates import format_date

MAX_HOPS = 50
"""Received fields with which a message is taken to be in a loop (RFC 5321 6.3)."""

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
# RFC 5322 3.2.1 and 3.2.2: what would end or open a comment.
_COMMENT_SPECIAL = re.compile(r"[()\\]")
# What RFC 5321 4.1.2 lets stand after "from": a domain or an address literal.
_HELO = re.compile(r"(?:[A-Za-z0-9_\-.]{1,255}|\[[A-Za-z0-9.:]{1,60}\])\Z")
_RECEIVED = re.compile(rb"^received[ \t]*+:", re.IGNORECASE | re.MULTILINE)
_DELIVERED_TO = re.compile(
    rb"^delivered-to[ \t]*+:[ \t]*+([^\r\n]++)", re.IGNORECASE | re.MULTILINE
)


def safe_text(text: str, limit: int = 200) -> str:
    """Return the text as it may stand in a header field: one line, no controls, bounded (R-33)."""
    return _UNSAFE.sub(" ", text[:limit]).strip()


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
        helo: what the client called itself, any text.
        peer: the client's IP address; empty if mail was made here.
        host: our name.
        protocol: as ``ESMTPSA`` (RFC 3848).
        queue_id: the name of the message.
        now: Unix time in seconds.
        tls: what protected the connection, or empty.
        forward_path: only when the message has a single recipient.
        reverse_name: the client's verified host name, if known.
        zone: minutes east of UTC to write the time in.
    """
    helo = safe_text(helo, 255)
    # Anything that is no name goes into a comment, where it can mean nothing.
    name = helo if _HELO.match(helo) else "unknown"
    remark = "" if name == helo or not helo else f" helo {_comment(helo)}"
    lines = []
    if peer:
        literal = f"[IPv6:{safe_text(peer, 60)}]" if ":" in peer else f"[{safe_text(peer, 60)}]"
        verified = _comment(reverse_name) + " " if reverse_name else ""
        lines.append(f"Received: from {name} ({verified}{literal}{remark})")
    else:
        lines.append("Received: from localhost")
    if tls:
        lines.append(f"(using {_comment(tls)})")
    lines.append(f"by {safe_text(host)} (mailhost) with {safe_text(protocol, 40)}")
    lines.append(f"id {safe_text(queue_id, 100)}")
    if forward_path is not None:
        lines.append(f"for {path(forward_path)}")
    return ("\r\n\t".join(lines) + f";\r\n\t{format_date(now, zone)}\r\n").encode("utf-8")


def _comment(text: str) -> str:
    return _COMMENT_SPECIAL.sub("?", safe_text(text))


def path(address: Address | None) -> str:
    """Return a path in angle brackets, ``<>`` for the null reverse-path."""
    return "<>" if address is None else f"<{safe_text(str(address), 400)}>"


def return_path(reverse_path: Address | None) -> bytes:
    """Return a Return-Path field, ``<>`` for the null reverse-path (RFC 5321 4.4)."""
    return f"Return-Path: {path(reverse_path)}\r\n".encode()


def delivered_to(address: Address) -> bytes:
    """Return a Delivered-To field (RFC 9228)."""
    return f"Delivered-To: {safe_text(str(address), 400)}\r\n".encode()


def count_received(header: bytes) -> int:
    """Return how many Received fields a header block has, for finding loops (RFC 5321 6.3)."""
    return len(_RECEIVED.findall(header))


def is_delivered_to(header: bytes, address: Address) -> bool:
    """Whether the header says that the mail was delivered to the address before; case is equal."""
    wanted = str(address).lower().encode()
    return any(found.strip().lower() == wanted for found in _DELIVERED_TO.findall(header))
