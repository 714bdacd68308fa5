"""The cache's bounds."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.dns.cache import TTLCache


class TTLCacheTests(SynchronousTestCase):
    """Time, number and weight."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.cache: TTLCache[str, int] = TTLCache(
            self.clock, max_entries=3, max_weight=100, max_ttl=50
        )

    def test_value_lives_for_its_ttl(self) -> None:
        """It is there until the last moment, and not after."""
        self.cache.put("a", 1, 10)
        self.clock.advance(9.9)
        self.assertEqual(self.cache.get("a"), 1)
        self.clock.advance(0.1)
        self.assertIsNone(self.cache.get("a"))
        self.assertEqual((len(self.cache), self.cache.weight), (0, 0))

    def test_ttl_is_cut(self) -> None:
        """Nothing lives longer than the bound."""
        self.cache.put("a", 1, 10**9)
        self.clock.advance(50)
        self.assertIsNone(self.cache.get("a"))

    def test_ttl_of_zero_is_not_kept(self) -> None:
        """Zero means for this one question only; it also removes what was there."""
        self.cache.put("a", 1, 10)
        self.cache.put("a", 2, 0)
        self.assertIsNone(self.cache.get("a"))

    def test_clock_set_back_expires(self) -> None:
        """An entry from the future is not believed."""
        self.clock.advance(1000)
        self.cache.put("a", 1, 10)
        self.clock.rightNow = 5.0
        self.assertIsNone(self.cache.get("a"))

    def test_least_recently_used_goes_first(self) -> None:
        """Over the number, the one that nobody asked for goes."""
        for key in "abc":
            self.cache.put(key, 1, 10)
        self.cache.get("a")
        self.cache.put("d", 1, 10)
        self.assertEqual([key for key in "abcd" if self.cache.get(key)], ["a", "c", "d"])

    def test_weight_is_bounded(self) -> None:
        """Heavy entries push others out, and one over the whole bound is not taken."""
        self.cache.put("a", 1, 10, 60)
        self.cache.put("b", 1, 10, 60)
        self.assertIsNone(self.cache.get("a"))
        self.cache.put("c", 1, 10, 101)
        self.assertIsNone(self.cache.get("c"))
        self.assertEqual(self.cache.weight, 60)
        self.cache.put("b", 2, 10, 10)
        self.assertEqual(self.cache.weight, 10)

    def test_clear(self) -> None:
        """Everything can be forgotten."""
        self.cache.put("a", 1, 10, 60)
        self.cache.clear()
        self.assertEqual((len(self.cache), self.cache.weight), (0, 0))
