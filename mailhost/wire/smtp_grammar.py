"""
The arguments of SMTP commands, understood.

Every function takes the octets after the verb and returns a value, or raises a `SyntaxFault` whose
class says which enhanced status fits. Brackets around paths are demanded, source routes are dropped
(RFC 5321 3.3), a parameter that no extension of ours defines is refused (RFC 5321 4.1.1.11).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from mailhost.address import Address
from mailhost.errors import SyntaxFault

MAX_ENVID = 100
MAX_ORCPT = 500


class PathFault(SyntaxFault):
    """A reverse-path or forward-path is none (501 5.1.7, 501 5.1.3)."""


class UTF8Fault(SyntaxFault):
    """8-bit octets that SMTPUTF8 does not allow, or that are no UTF-8 (553 5.6.7)."""


class UnknownParameter(SyntaxFault):
    """A parameter that no offered extension has (555 5.5.4)."""


@dataclass(frozen=True, slots=True)
class MailArguments:
    """
    What MAIL says.

    Args:
        size: of the message as declared (RFC 1870), 0 if not.
        body: ``7BIT`` or ``8BITMIME`` (RFC 6152).
        ret, envid: of RFC 3461, empty if absent.
    """

    reverse_path: Address | None
    size: int = 0
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class RcptArguments:
    """What RCPT says: `orcpt` and `notify` are of RFC 3461, empty if absent."""

    forward_path: Address
    orcpt: str = ""
    notify: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BdatArguments:
    """What BDAT says (RFC 3030 2)."""

    size: int
    last: bool


# RFC 5321 4.1.2: Path = "<" [ A-d-l ":" ] Mailbox ">". Space after the colon is no SMTP, but so
# common that it is let pass. The address itself is left to `Address.parse`.
_PATH = re.compile(
    rb"(?P<keyword>FROM|TO):[ ]*"
    rb"<(?:@[A-Za-z0-9.\-]+(?:,@[A-Za-z0-9.\-]+)*:)?"
    rb'(?P<address>"(?:[^"\\]|\\.)*"(?:@[^<>" ]*)?|[^<>" ]*)>'
    rb"(?:[ ]+(?P<parameters>.*))?\Z",
    re.IGNORECASE | re.DOTALL,
)
# RFC 5321 4.1.2: esmtp-param = esmtp-keyword ["=" esmtp-value], with RFC 6531 3.3.
_PARAMETER = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9\-]*)(?:=([\x21-\x3c\x3e-\x7e\u0080-\U0010ffff]+))?\Z"
)
# RFC 3461 4: xtext = *( xchar / hexchar ).
_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*\Z")
# RFC 3461 4.2: original-recipient-address = addr-type ";" xtext; RFC 6533 3 allows UTF-8.
_ORCPT = re.compile(r"[A-Za-z0-9\-]+;[\x21-\x3c\x3e-\x7e\u0080-\U0010ffff]+\Z")
_SIZE = re.compile(r"[0-9]{1,20}\Z")
_BDAT = re.compile(rb"([0-9]{1,20})(?:[ ]+(LAST))?[ ]*\Z", re.IGNORECASE)
_EHLO = re.compile(rb"(?:[A-Za-z0-9_.\-]{1,255}|\[[A-Za-z0-9:.\-]{2,64}\])\Z")

_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")


def parse_ehlo(argument: bytes) -> str:
    """
    Return what the client calls itself: a domain, an address literal or what resembles one.

    RFC 5321 4.1.4 forbids to refuse mail for a wrong name, so only the form is looked at.

    Raises:
        SyntaxFault: it is no name.
    """
    name = argument.strip(b" ")
    if not _EHLO.match(name):
        raise SyntaxFault(0, "a host name or an address literal")
    return name.decode("ascii")


def parse_mail(argument: bytes) -> MailArguments:
    """
    Understand ``FROM:<path> parameters``.

    Raises:
        SyntaxFault: one of the kinds above, or a parameter's value is wrong.
    """
    return _parse_mail(argument) if len(argument) < 200 else _parse_mail.__wrapped__(argument)


def parse_rcpt(argument: bytes, smtputf8: bool, postmaster: Address) -> RcptArguments:
    """
    Understand ``TO:<path> parameters``.

    Args:
        argument: what follows RCPT.
        smtputf8: whether MAIL had that parameter.
        postmaster: what ``<Postmaster>`` without a domain stands for (RFC 5321 4.1.1.3).

    Raises:
        SyntaxFault: one of the kinds above, or a parameter's value is wrong.
    """
    text, parameters = _split(argument, b"to")
    if not (smtputf8 or argument.isascii()):
        raise UTF8Fault(0, "ASCII, or SMTPUTF8 with MAIL")
    if text.lower() == "postmaster":
        path = postmaster
    elif not text:
        raise PathFault(4, "a recipient")
    else:
        path = _address(text)
    if not parameters:
        return RcptArguments(path)
    orcpt = ""
    notify: tuple[str, ...] = ()
    for name, value in _parameters(parameters):
        if name == "ORCPT":
            orcpt = _matching(_ORCPT, value, MAX_ORCPT, "ORCPT=type;address")
        elif name == "NOTIFY":
            notify = _notify(value)
        else:
            raise UnknownParameter(0, f"no parameter {name}")
    return RcptArguments(path, orcpt, notify)


def parse_bdat(argument: bytes) -> BdatArguments:
    """
    Understand ``size [LAST]``.

    Raises:
        SyntaxFault: it is not that; how many octets follow is then unknown.
    """
    found = _BDAT.match(argument)
    if found is None:
        raise SyntaxFault(0, "a size and perhaps LAST")
    return BdatArguments(int(found[1]), found[2] is not None)


@lru_cache(maxsize=512)
def _parse_mail(argument: bytes) -> MailArguments:
    text, parameters = _split(argument, b"from")
    reverse_path = _address(text) if text else None
    if not parameters:
        if not argument.isascii():
            raise UTF8Fault(0, "ASCII, or SMTPUTF8")
        return MailArguments(reverse_path)
    values = dict(_parameters(parameters))
    size, body, ret, envid = 0, "7BIT", "", ""
    for name, value in values.items():
        if name == "SIZE":
            # RFC 1870 3: size-value ::= 1*20DIGIT
            size = int(_matching(_SIZE, value, 20, "SIZE=octets"))
        elif name == "BODY":
            body = _one_of(value, ("7BIT", "8BITMIME"), "BODY=7BIT or BODY=8BITMIME")
        elif name == "SMTPUTF8":
            if value is not None:
                raise SyntaxFault(0, "SMTPUTF8 without a value")
        elif name == "AUTH":
            # RFC 4954 5: understood, and not trusted: who logged in is known.
            _matching(_XTEXT, value, MAX_ORCPT, "AUTH=<> or AUTH=address")
        elif name == "RET":
            ret = _one_of(value, ("FULL", "HDRS"), "RET=FULL or RET=HDRS")
        elif name == "ENVID":
            envid = _matching(_XTEXT, value, MAX_ENVID, "ENVID=xtext")
        else:
            raise UnknownParameter(0, f"no parameter {name}")
    smtputf8 = "SMTPUTF8" in values
    if not (smtputf8 or argument.isascii()):
        raise UTF8Fault(0, "ASCII, or SMTPUTF8")
    return MailArguments(reverse_path, size, body, smtputf8, ret, envid)


def _split(argument: bytes, keyword: bytes) -> tuple[str, str]:
    """Return the text of the path without brackets and route, and the parameters."""
    found = _PATH.match(argument)
    if found is None or found["keyword"].lower() != keyword:
        raise PathFault(0, f"{keyword.decode().upper()}:<address>")
    try:
        parameters = found["parameters"]
        return found["address"].decode("utf-8"), parameters.decode("utf-8") if parameters else ""
    except UnicodeDecodeError:
        raise UTF8Fault(0, "UTF-8") from None


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except SyntaxFault as fault:
        raise PathFault(fault.position, fault.expected) from None


def _parameters(text: str) -> list[tuple[str, str | None]]:
    parameters: list[tuple[str, str | None]] = []
    names: set[str] = set()
    for word in text.split(" "):
        if not word:
            continue
        found = _PARAMETER.match(word)
        if found is None:
            raise SyntaxFault(0, "KEYWORD or KEYWORD=value")
        name = found[1].upper()
        if name in names:
            raise SyntaxFault(0, f"{name} once")
        names.add(name)
        parameters.append((name, found[2]))
    return parameters


def _matching(pattern: re.Pattern[str], value: str | None, limit: int, expected: str) -> str:
    if value is None or len(value) > limit or not pattern.match(value):
        raise SyntaxFault(0, expected)
    return value


def _one_of(value: str | None, choices: tuple[str, ...], expected: str) -> str:
    word = (value or "").upper()
    if word not in choices:
        raise SyntaxFault(0, expected)
    return word


def _notify(value: str | None) -> tuple[str, ...]:
    # RFC 3461 4.1: "NEVER" / 1#( "SUCCESS" / "FAILURE" / "DELAY" )
    words = tuple((value or "").upper().split(","))
    if words == ("NEVER",):
        return words
    if len(set(words)) != len(words) or any(word not in _NOTIFY for word in words):
        raise SyntaxFault(0, "NOTIFY=NEVER or a list of SUCCESS, FAILURE, DELAY")
    return words
