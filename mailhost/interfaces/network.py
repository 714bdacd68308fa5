"""Names of the network, and what a next hop must offer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import Interface


class AnswerStatus(Enum):
    """What became of a look-up."""

    FOUND = "found"
    NO_DATA = "no data"
    """The name exists and has no such record."""
    NO_NAME = "no such name"
    FAILED = "failed"
    """No server gave a usable answer; always temporary."""


@dataclass(frozen=True, slots=True)
class MXRecord:
    """A mail exchanger; the host is a lower-case A-label name, empty for the null MX."""

    preference: int
    host: str


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What the DNS says.

    Args:
        records: `MXRecord`, address texts, TXT octets: by the method that was called.
        secure: the resolver is trusted and says that the answer is validated (AD).
        problem: for `FAILED`, what went wrong, for people.
    """

    status: AnswerStatus
    records: tuple[Any, ...] = ()
    secure: bool = False
    problem: str = ""


class IResolver(Interface):
    """Names to records. No Deferred fails: trouble is the status FAILED. All can be cancelled."""

    def mx(domain: str) -> Deferred[Answer]:
        """MX records as `MXRecord`, as the DNS gave them."""

    def addresses(host: str) -> Deferred[Answer]:
        """AAAA and A records as texts; FOUND if either has any."""

    def txt(name: str) -> Deferred[Answer]:
        """TXT records as octets, strings of one record joined."""

    def names(address: str) -> Deferred[Answer]:
        """PTR records of an IP address as host names."""


class TLSDemand(Enum):
    """What a next hop must offer."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    """Used when offered, certificates not checked; clear text when TLS fails (RFC 7435)."""
    VERIFIED = "verified"
    """TLS with a certificate for the host's name, or no delivery."""


class ITLSPolicy(Interface):
    """Says what a next hop must offer before mail is given to it."""

    def demand(next_hop: str, host: str) -> TLSDemand | Deferred[TLSDemand]:
        """The demand for a host of a next hop."""
