"""Tests of `mailhost.message.dates`."""

from __future__ import annotations

from datetime import date
from email.utils import parsedate_to_datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxFault
from mailhost.message.dates import (
    Moment,
    format_date,
    format_internal_date,
    parse_date,
    parse_internal_date,
)


class DateFieldTests(SynchronousTestCase):
    """RFC 5322 3.3 and what is sent instead of it."""

    def test_forms(self) -> None:
        """Standard, obsolete and common wrong forms mean the same moment."""
        moment = 880127706
        for text, zone in {
            b"Fri, 21 Nov 1997 09:55:06 -0600": -360,
            b"21 Nov 97 09:55:06 CST": -360,
            b"Fri,21 Nov 1997 15:55:06 GMT": 0,
            b"Fri, 21 Nov 1997 15:55:06 +0000 (UTC)": 0,
            b"Fri, 21 Nov 1997 15(comment):55:06 +0000": 0,
            b"Fri, 21 Nov 1997 15:55:06 -0000": 0,
            b"Friday, 21-Nov-97 15:55:06 GMT": 0,
            b"Fri Nov 21 15:55:06 1997": 0,
            b"Fri Nov 21 10:55:06 EST 1997": -300,
            b"1997-11-21T15:55:06Z": 0,
            b"1997-11-21 16:55:06.123 +01:00": 60,
            b"Fri, 21 November 1997 15:55:06 GMT": 0,
            b"Fri, 21 Nov 97 15:55:06 GMT+0000": 0,
            b"Fri, 21 Nov 1997 15.55.06 GMT": 0,
            b"  Fri, 21  Nov 1997\t15:55:06 XYZ": 0,
        }.items():
            self.assertEqual(parse_date(text), (moment, zone), text)

    def test_without_seconds(self) -> None:
        """Seconds may be missing; a leap second is the next one."""
        self.assertEqual(parse_date(b"1 Jan 1970 00:01 +0000"), (60, 0))
        self.assertEqual(parse_date(b"31 Dec 1969 23:59:60 +0000"), (0, 0))

    def test_extremes(self) -> None:
        """Year 0 is no date, year 9999 is one, wild zones count as none (R-31)."""
        self.assertIsNone(parse_date(b"Mon, 1 Jan 0 00:00:00 +0000"[:12] + b"0000 00:00:00 +0000"))
        self.assertIsNone(parse_date(b"1 Jan 10000 00:00:00 +0000"))
        last = parse_date(b"31 Dec 9999 23:59:59 -2359")
        assert last is not None
        self.assertEqual(last.day, date.max.toordinal())
        self.assertEqual(format_date(last.seconds), "Fri, 31 Dec 9999 23:58:59 +0000")
        self.assertEqual(parse_date(b"1 Jan 1970 00:00:00 -9999"), (0, 0))
        for text in (
            b"",
            b"yesterday",
            b"32 Jan 2000 00:00 +0000",
            b"1 Foo 2000 00:00 +0000",
            b"1 Jan 2000 25:00 +0000",
            b"29 Feb 2001 00:00 +0000",
            b"\xff" * 300,
        ):
            self.assertIsNone(parse_date(text), text)

    def test_day_is_of_the_zone(self) -> None:
        """The day is the one that was written, not the one in UTC."""
        moment = parse_date(b"1 Jan 2024 00:30:00 +0200")
        assert moment is not None
        self.assertEqual(moment.day, date(2024, 1, 1).toordinal())

    @settings(max_examples=200, deadline=None)
    @given(st.integers(-62_000_000_000, 253_000_000_000), st.integers(-1439, 1439))
    def test_what_is_written_is_read(self, seconds: int, zone: int) -> None:
        """Reading a written date gives moment and zone again, as Python's email reads it too."""
        text = format_date(seconds, zone)
        self.assertEqual(parse_date(text.encode()), (seconds, zone))
        if int(text.split()[3]) >= 1000:
            self.assertEqual(parsedate_to_datetime(text).timestamp(), seconds)

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=40) | st.from_regex(rb"[0-9A-Za-z:, +\-]{0,40}", fullmatch=True))
    def test_any_octets(self, octets: bytes) -> None:
        """Nothing raises, and what is read can be written."""
        moment = parse_date(octets)
        if moment is not None:
            format_date(moment.seconds, moment.zone)
            format_internal_date(moment.seconds, moment.zone)


class InternalDateTests(SynchronousTestCase):
    """IMAP's date-time (RFC 9051 9)."""

    def test_example(self) -> None:
        """The INTERNALDATE of RFC 3501 8, and a day of one digit."""
        self.assertEqual(parse_internal_date(b"17-Jul-1996 02:44:25 -0700"), (837596665, -420))
        self.assertEqual(format_internal_date(837596665, -420), b"17-Jul-1996 02:44:25 -0700")
        self.assertEqual(format_internal_date(0), b" 1-Jan-1970 00:00:00 +0000")

    def test_faults(self) -> None:
        """What is no date-time is a SyntaxFault."""
        for text in (
            b"",
            b"1-Jan-1970 00:00:00 +0000",
            b"31-Feb-1970 00:00:00 +0000",
            b"01-Xxx-1970 00:00:00 +0000",
            b"01-Jan-1970 00:61:00 +0000",
            b"01-Jan-0000 00:00:00 +0000",
            b"01-Jan-1970 00:00:00 +0000 ",
        ):
            self.assertRaises(SyntaxFault, parse_internal_date, text)

    @settings(max_examples=200, deadline=None)
    @given(st.integers(-62_000_000_000, 253_000_000_000), st.integers(-1439, 1439))
    def test_round_trip(self, seconds: int, zone: int) -> None:
        """Reading what was written gives it again."""
        self.assertEqual(
            parse_internal_date(format_internal_date(seconds, zone)), Moment(seconds, zone)
        )

    def test_outside_of_the_calendar(self) -> None:
        """Moments before year 1 and after 9999 are written as the nearest day."""
        self.assertIn(b"-Jan-0001 ", format_internal_date(-(10**12)))
        self.assertIn(b"31-Dec-9999 ", format_internal_date(10**12))
