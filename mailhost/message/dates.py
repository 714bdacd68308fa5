"""Dates of messages: RFC 5322 fields, and IMAP's internal date."""

from __future__ import annotations

from typing import NamedTuple


class Moment(NamedTuple):
    """Unix seconds, and minutes east of UTC in which the time was written."""

    seconds: int
    zone: int

    @property
    def day(self) -> int:
        """The day in its own zone as a proleptic ordinal (1 January of year 1 is 1)."""
        raise NotImplementedError


def parse_date(value: bytes) -> Moment | None:
    """Return what a Date field says, obsolete and common wrong forms included, or None."""
    raise NotImplementedError


def format_date(seconds: float, zone: int = 0) -> str:
    """Return an RFC 5322 3.3 date-time, ``Mon, 1 Jan 2024 00:00:00 +0000``."""
    raise NotImplementedError


def parse_internal_date(text: bytes) -> Moment:
    """
    Return what IMAP's date-time says, without its quotes (RFC 9051 9).

    Raises:
        SyntaxFault: it is not one.
    """
    raise NotImplementedError


def format_internal_date(seconds: int, zone: int = 0) -> bytes:
    """Return IMAP's date-time without quotes, `` 1-Jan-2024 00:00:00 +0000``."""
    raise NotImplementedError
