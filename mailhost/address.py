"""
Mail addresses as values: what stands on both sides of the ``@``, already understood.

An `Address` that exists is legal: its local part is unquoted text within RFC 5321 4.5.3.1.1, its
domain is a lower-case A-label host name or an address literal in brackets. The null reverse-path
is ``None``. Parsing of whole paths with parameters is in `mailhost.wire.smtp`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

import idna

from mailhost.errors import SyntaxFault

MAX_LOCAL_PART = 64
MAX_DOMAIN = 255
MAX_PATH = 256

# RFC 5321 4.1.2 Dot-string, with RFC 6531 3.3 UTF8-non-ascii.
_DOT_STRING = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
    r"(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+)*\Z"
)
# RFC 5321 4.1.2 Quoted-string: qtextSMTP or a quoted pair of printable ASCII.
_QUOTED = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u0080-\U0010ffff]|\\[\x20-\x7e])*"\Z')
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?\Z")
# Controls that Python's own white space and line rules would treat as a line end.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Address:
    """
    A mailbox address, ``local_part@domain`` (RFC 5321 4.1.2 Mailbox).

    Args:
        local_part: unquoted text; its case is the sender's.
        domain: a lower-case A-label domain name, or an address literal such as ``[192.0.2.1]``.
    """

    local_part: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        Return the address that the text spells, as RFC 5321 4.1.2 and RFC 6531 3.3 write it.

        Raises:
            SyntaxFault: the text is not an address within the limits of RFC 5321 4.5.3.1.
        """
        return _parse(text)

    @property
    def is_ascii(self) -> bool:
        """Whether the address can be sent without SMTPUTF8."""
        return self.local_part.isascii()

    @property
    def key(self) -> str:
        """The form under which the directory looks the address up: case does not count."""
        return f"{self.local_part.casefold()}@{self.domain}"

    def __str__(self) -> str:
        return f"{quote_local_part(self.local_part)}@{self.domain}"


ForwardPath: TypeAlias = Address
"""Where a message goes. Source routes are read and dropped (RFC 5321 3.3)."""

ReversePath: TypeAlias = Address | None
"""Where failures are reported; None is the null reverse-path (RFC 5321 4.5.5)."""


def quote_local_part(local_part: str) -> str:
    """Return the local part as it is written on the wire, quoted where it must be."""
    if _DOT_STRING.match(local_part):
        return local_part
    return '"' + re.sub(r'(["\\])', r"\\\1", local_part) + '"'


def split_address(text: str) -> tuple[str, str]:
    """
    Return the local part, still quoted, and the domain of an address.

    Raises:
        SyntaxFault: there is no ``@`` outside quotes with something on both sides.
    """
    if text.startswith('"'):
        end = re.match(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL)
        at = end.end() if end else -1
        if at < 0 or text[at : at + 1] != "@":
            raise SyntaxFault(max(at, 0), "a quoted local part and @")
    else:
        at = text.rfind("@")
        if at <= 0:
            raise SyntaxFault(0, "local-part@domain")
    if at == len(text) - 1:
        raise SyntaxFault(at + 1, "a domain")
    return text[:at], text[at + 1 :]


def parse_local_part(text: str) -> str:
    """
    Return the unquoted local part.

    Raises:
        SyntaxFault: it is neither a dot-string nor a quoted string, or too long.
    """
    if _FORBIDDEN.search(text):
        raise SyntaxFault(0, "a local part without control characters")
    if _DOT_STRING.match(text):
        value = text
    elif _QUOTED.match(text):
        value = _QUOTED_PAIR.sub(r"\1", text[1:-1])
    else:
        raise SyntaxFault(0, "a local part")
    # RFC 5321 4.5.3.1.1: 64 octets.
    if not value or len(text.encode()) > MAX_LOCAL_PART:
        raise SyntaxFault(0, "a local part of 1 to 64 octets")
    return value


@lru_cache(maxsize=4096)
def parse_domain(text: str) -> str:
    """
    Return a domain name as lower-case A-labels, or an address literal in canonical form.

    Raises:
        SyntaxFault: it is neither.
    """
    if text.startswith("["):
        return _parse_literal(text)
    name = text.lower()
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            raise SyntaxFault(0, "an internationalised domain name") from None
    labels = name.split(".")
    if len(name) > MAX_DOMAIN or not all(map(_LABEL.match, labels)):
        raise SyntaxFault(0, "a domain name")
    return name


def _parse_literal(text: str) -> str:
    # RFC 5321 4.1.3: IPv4 alone, or a tag; General-address-literal has no registered use.
    if not text.endswith("]"):
        raise SyntaxFault(len(text), "]")
    inner = text[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            if "%" in inner:
                raise ValueError(inner)
            return f"[IPv6:{IPv6Address(inner[5:])}]"
        return f"[{IPv4Address(inner)}]"
    except ValueError:
        raise SyntaxFault(1, "an IPv4 address or IPv6: and an IPv6 address") from None


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address:
    # RFC 5321 4.5.3.1.3: a path has at most 256 octets, brackets included.
    if len(text.encode("utf-8", "replace")) > MAX_PATH - 2:
        raise SyntaxFault(0, "an address of at most 254 octets")
    local_part, domain = split_address(text)
    return Address(parse_local_part(local_part), parse_domain(domain))
