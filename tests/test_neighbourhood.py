"""Networks of a client, and frequencies."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.neighbourhood import Frequency, is_local, networks


class NetworksTests(SynchronousTestCase):
    """Who is one client."""

    def test_three_networks(self) -> None:
        """An IPv4 address, its /26 and /21; an IPv6 /64, its /48 and /32; mapped ones as IPv4."""
        a, b, c = networks("203.0.113.5")
        self.assertEqual(networks("203.0.113.63")[1:], (b, c))
        self.assertNotEqual(networks("203.0.113.64")[1], b)
        self.assertEqual(networks("203.0.112.1")[2], c)
        self.assertNotEqual(networks("203.0.120.1")[2], c)
        self.assertEqual(networks("::ffff:203.0.113.5"), (a, b, c))
        six = networks("2001:db8::1")
        self.assertEqual(networks("2001:db8::ffff:1:2:3"), six)
        self.assertEqual(networks("2001:db8:0:1::1")[1:], six[1:])
        self.assertNotEqual(networks("2001:db8:0:1::1")[0], six[0])
        self.assertEqual(networks("2001:db8:1::1")[2], six[2])
        self.assertNotEqual(networks("2001:db9::1")[2], six[2])
        self.assertEqual(len({a, b, c, *six}), 6)
        self.assertEqual(networks("fe80::1%eth0"), networks("fe80::1"))

    def test_this_machine_has_no_neighbours(self) -> None:
        """Loopback addresses and what is no address stand alone."""
        for peer in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "", "/run/socket"):
            self.assertTrue(is_local(peer), peer)
        self.assertFalse(is_local("192.0.2.1") or is_local("2001:db8::1"))


class FrequencyTests(SynchronousTestCase):
    """Counting in a span of time."""

    def test_counts_fade(self) -> None:
        """What lies a span back is forgotten little by little, two spans back altogether."""
        clock = Clock()
        often = Frequency(clock.seconds, 60)
        for _ in range(10):
            often.add("a")
        self.assertEqual((often.count("a"), often.count("b")), (10, 0))
        clock.advance(90)
        self.assertEqual(often.count("a"), 5)
        often.add("a")
        clock.advance(1000)
        self.assertEqual((often.count("a"), len(often)), (0, 0))

    def test_shares(self) -> None:
        """A neighbourhood may have three times, a provider nine times what a client may."""
        often = Frequency(Clock().seconds)
        names = networks("192.0.2.1")
        often.add(names[0])
        self.assertTrue(often.exceeded(names, 1))
        self.assertFalse(often.exceeded(networks("192.0.2.2"), 1))
        for _ in range(3):
            often.add(names[1])
        self.assertTrue(often.exceeded(networks("192.0.2.2"), 1))

    def test_memory_is_bounded(self) -> None:
        """A flood of addresses costs no more than twice the capacity."""
        often = Frequency(Clock().seconds, capacity=100)
        for number in range(10_000):
            often.add(str(number))
        self.assertLessEqual(len(often), 200)
