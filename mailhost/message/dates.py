"""
Dates of messages: RFC 5322 fields read leniently, IMAP's internal date, and writing both.

Times are Unix seconds and a zone in minutes east of UTC. Years run from 1 to 9999; what would fall
outside when written is written as the nearest day inside (a Date field may say anything).
"""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from mailhost.errors import SyntaxFault

_EPOCH = date(1970, 1, 1).toordinal()
_LAST = date.max.toordinal()
_DAY = 86400
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = {name.lower().encode(): number for number, name in enumerate(_MONTHS, 1)}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# RFC 5322 4.3: other letters say nothing of the offset; J is no zone.
_ZONES = {
    b"est": -300,
    b"edt": -240,
    b"cst": -360,
    b"cdt": -300,
    b"mst": -420,
    b"mdt": -360,
    b"pst": -480,
    b"pdt": -420,
    b"cet": 60,
    b"cest": 120,
    b"bst": 60,
    b"jst": 540,
}
_MAX_ZONE = 24 * 60 - 1
_MAX_FIELD = 200

# [day-name ,] day month year hour:minute[:second] [zone], obsolete forms included.
_DATE = re.compile(
    rb"\s*+(?:[A-Za-z]{2,9}\.?,?\s*+)?([0-9]{1,2})[ \t\-./]++([A-Za-z]{3})[A-Za-z]*+[ \t\-./,]++"
    rb"([0-9]{1,5})[ \t,]++([0-9]{1,2})\s*+[:.]\s*+([0-9]{2})"
    rb"(?:\s*+[:.]\s*+([0-9]{2})(?:\.[0-9]++)?)?"
    rb"\s*+(?:(?:UTC|GMT)?([+\-])\s?([0-9]{2}):?([0-9]{2})|([A-Za-z]{1,5}))?"
)
# asctime and date(1): [day-name] month day hour:minute:second [zone] year
_ASCTIME = re.compile(
    rb"\s*+(?:[A-Za-z]{2,9}\.?,?\s++)?([A-Za-z]{3})[a-z]*+\.?\s++([0-9]{1,2}),?\s++"
    rb"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\s++(?:([A-Za-z]{1,5})\s++)?([0-9]{4})"
)
_ISO = re.compile(
    rb"\s*+([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?(?:\.[0-9]++)?"
    rb"\s?(?:([+\-])([0-9]{2}):?([0-9]{2})|([A-Za-z]{1,5}))?"
)
_COMMENT = re.compile(rb"\([^()]*+\)")
# RFC 9051 9 date-time, without its quotes.
_INTERNAL = re.compile(
    rb"([ 0-9][0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) "
    rb"([+\-])([0-9]{2})([0-9]{2})\Z"
)


class Moment(NamedTuple):
    """Unix seconds, and minutes east of UTC in which the time was written."""

    seconds: int
    zone: int

    @property
    def day(self) -> int:
        """The day in its own zone as a proleptic ordinal (1 January of year 1 is 1)."""
        return (self.seconds + self.zone * 60) // _DAY + _EPOCH


def parse_date(value: bytes) -> Moment | None:
    """Return what a Date field says, obsolete and common wrong forms included, or None."""
    value = value[:_MAX_FIELD]
    match = _DATE.match(value)
    if match is None and b"(" in value:
        value = _COMMENT.sub(b" ", value)
        match = _DATE.match(value)
    if match is not None:
        day, month, year, hour, minute, second, sign, zh, zm, name = match.groups()
        return _moment(
            (_year(year), _MONTH.get(month.lower(), 0), int(day)),
            (int(hour), int(minute), int(second or 0)),
            _zone(sign, zh, zm, name),
        )
    match = _ASCTIME.match(value)
    if match is not None:
        month, day, hour, minute, second, name, year = match.groups()
        return _moment(
            (int(year), _MONTH.get(month.lower(), 0), int(day)),
            (int(hour), int(minute), int(second or 0)),
            _zone(None, None, None, name),
        )
    match = _ISO.match(value)
    if match is not None:
        year, month, day, hour, minute, second, sign, zh, zm, name = match.groups()
        return _moment(
            (int(year), int(month), int(day)),
            (int(hour), int(minute), int(second or 0)),
            _zone(sign, zh, zm, name),
        )
    return None


def _year(text: bytes) -> int:
    # RFC 5322 4.3
    year = int(text)
    if len(text) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(text) == 3 else year


def _zone(
    sign: bytes | None, hours: bytes | None, minutes: bytes | None, name: bytes | None
) -> int:
    if sign is None or hours is None or minutes is None:
        return _ZONES.get(name.lower(), 0) if name else 0
    zone = int(hours) * 60 + int(minutes)
    if zone > _MAX_ZONE:
        return 0
    return -zone if sign == b"-" else zone


def _moment(day: tuple[int, int, int], time: tuple[int, int, int], zone: int) -> Moment | None:
    ordinal = _ordinal(*day)
    hour, minute, second = time
    # 60 is a leap second; 24:00 is written by some.
    if not ordinal or hour > 24 or minute > 59 or second > 60:
        return None
    seconds = (ordinal - _EPOCH) * _DAY + hour * 3600 + minute * 60 + second - zone * 60
    return Moment(seconds, zone)


@lru_cache(maxsize=4096)
def _ordinal(year: int, month: int, day: int) -> int:
    try:
        return date(year, month, day).toordinal()
    except ValueError:
        return 0


def format_date(seconds: float, zone: int = 0) -> str:
    """Return an RFC 5322 3.3 date-time, ``Mon, 1 Jan 2024 00:00:00 +0000``."""
    day, rest = _local(seconds, zone)
    year, month, number = _civil(day)
    return (
        f"{_DAYS[(day - 1) % 7]}, {number} {_MONTHS[month - 1]} {year:04} "
        f"{_clock(rest)} {_offset(zone)}"
    )


def format_internal_date(seconds: int, zone: int = 0) -> bytes:
    """Return IMAP's date-time without its quotes, ``" 1-Jan-2024 00:00:00 +0000"``."""
    day, rest = _local(seconds, zone)
    return f"{_internal_day(day)} {_clock(rest)} {_offset(zone)}".encode("ascii")


def parse_internal_date(text: bytes) -> Moment:
    """
    Return what IMAP's date-time says, without its quotes (RFC 9051 9).

    Raises:
        SyntaxFault: it is not one, or no such day or time exists.
    """
    match = _INTERNAL.match(text)
    if match is None:
        raise SyntaxFault(0, "date-time")
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
    moment = _moment(
        (int(year), _MONTH.get(month.lower(), 0), int(day)),
        (int(hour), int(minute), int(second)),
        _zone(sign, zone_hours, zone_minutes, None),
    )
    if moment is None:
        raise SyntaxFault(0, "a date and time that exist")
    return moment


def _local(seconds: float, zone: int) -> tuple[int, int]:
    day, rest = divmod(int(seconds // 1) + zone * 60, _DAY)
    return min(max(day + _EPOCH, 1), _LAST), rest


@lru_cache(maxsize=4096)
def _civil(day: int) -> tuple[int, int, int]:
    value = date.fromordinal(day)
    return value.year, value.month, value.day


@lru_cache(maxsize=4096)
def _internal_day(day: int) -> str:
    year, month, number = _civil(day)
    return f"{number:2}-{_MONTHS[month - 1]}-{year:04}"


def _clock(rest: int) -> str:
    return f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def _offset(zone: int) -> str:
    sign, zone = ("-", -zone) if zone < 0 else ("+", zone)
    return f"{sign}{zone // 60 % 100:02}{zone % 60:02}"
