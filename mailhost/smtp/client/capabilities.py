"""What a server says of itself in reply to EHLO."""

from __future__ import annotations

from dataclasses import dataclass

from mailhost.wire.smtp_client import ServerReply


@dataclass(frozen=True, slots=True)
class Capabilities:
    """
    Extensions that a server offers (RFC 5321 4.1.1.1).

    Args:
        size: the largest message it takes in octets; 0 for no stated limit, None when it does not
            know SIZE (RFC 1870).
        auth: SASL mechanisms in upper case.
    """

    pipelining: bool = False
    size: int | None = None
    eight_bit: bool = False
    binary: bool = False
    chunking: bool = False
    smtputf8: bool = False
    starttls: bool = False
    dsn: bool = False
    auth: tuple[bytes, ...] = ()


def parse_capabilities(reply: ServerReply) -> Capabilities:
    """Return what the lines of an EHLO reply say; what is not understood is passed over."""
    words: dict[str, list[str]] = {}
    # The first line names the server.
    for line in reply.lines[1:]:
        # Some servers write AUTH=LOGIN beside AUTH, for clients of long ago.
        keyword, *parameters = line.upper().replace("AUTH=", "AUTH ", 1).split()[:64] or [""]
        words.setdefault(keyword, []).extend(parameters)
    size = None
    if "SIZE" in words:
        text = (words["SIZE"] or ["0"])[0]
        size = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0
    mechanisms = dict.fromkeys(name.encode("ascii", "replace") for name in words.get("AUTH", ()))
    return Capabilities(
        pipelining="PIPELINING" in words,
        size=size,
        eight_bit="8BITMIME" in words,
        binary="BINARYMIME" in words,
        chunking="CHUNKING" in words,
        smtputf8="SMTPUTF8" in words,
        starttls="STARTTLS" in words,
        dsn="DSN" in words,
        auth=tuple(mechanisms),
    )
