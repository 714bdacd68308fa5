"""
Answers kept for as long as they say, within bounds of number, octets and time.

The least recently used entry goes first when there is no room. An entry is only as good as the
clock: one that seems to come from the future (the clock was set back) counts as expired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime

K = TypeVar("K")
V = TypeVar("V")

MAX_ENTRIES = 20_000
MAX_WEIGHT = 16 * 1024 * 1024
MAX_TTL = 86_400.0
"""Seconds; longer times to live are cut to this."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[V]):
    value: V
    stored_at: float
    expires_at: float
    weight: int


class TTLCache(Generic[K, V]):
    """
    A bounded map whose entries expire.

    Args:
        clock: gives the time; nothing is scheduled on it, an expired entry goes when it is met.
        max_entries: how many entries are kept.
        max_weight: how much they may weigh together, in octets as the caller counts them.
        max_ttl: seconds; no entry lives longer.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        max_entries: int = MAX_ENTRIES,
        max_weight: int = MAX_WEIGHT,
        max_ttl: float = MAX_TTL,
    ) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._max_weight = max_weight
        self._max_ttl = max_ttl
        self._entries: dict[K, _Entry[V]] = {}
        self._weight = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def weight(self) -> int:
        """What all entries weigh together."""
        return self._weight

    def get(self, key: K) -> V | None:
        """Return what is known under the key, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if not entry.stored_at <= self._clock.seconds() < entry.expires_at:
            self._drop(key)
            return None
        # A dict keeps the order of insertion: the entry becomes the youngest.
        del self._entries[key]
        self._entries[key] = entry
        return entry.value

    def put(self, key: K, value: V, ttl: float, weight: int = 1) -> None:
        """Keep a value for `ttl` seconds; one that may not be kept or is too heavy is not."""
        self._drop(key)
        if ttl <= 0 or weight > self._max_weight:
            return
        now = self._clock.seconds()
        self._entries[key] = _Entry(value, now, now + min(ttl, self._max_ttl), weight)
        self._weight += weight
        while len(self._entries) > self._max_entries or self._weight > self._max_weight:
            self._drop(next(iter(self._entries)))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._weight = 0

    def _drop(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry.weight
