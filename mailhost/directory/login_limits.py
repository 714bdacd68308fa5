"""
How long an address that guesses passwords waits for each answer.

The first failed login is answered after a second, each further one after twice as long, up to a
limit; what lies back long enough is forgotten. A success is never delayed, so that the owner of
an account behind the same address still gets in. IPv6 clients count by their /64.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from twisted.internet.interfaces import IReactorTime


class LoginLimits:
    """
    Counts failed logins by client address, in bounded memory.

    Args:
        first: seconds for the first failure.
        longest: seconds at most.
        memory: seconds after which an address without a failure is forgotten.
        capacity: addresses at most; the one whose last failure lies back longest goes first.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        first: float = 1.0,
        longest: float = 15.0,
        memory: float = 900.0,
        capacity: int = 10_000,
    ) -> None:
        self._clock = clock
        self._first = first
        self._longest = longest
        self._memory = memory
        self._capacity = capacity
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, peer: str) -> float:
        """Count a failed login of a client and return how many seconds its answer waits."""
        key = network(peer)
        now = self._clock.seconds()
        count, last = self._failures.pop(key, (0, now))
        if now - last > self._memory:
            count = 0
        self._failures[key] = (count + 1, now)
        while len(self._failures) > self._capacity:
            self._failures.popitem(last=False)
        return min(self._first * 2.0 ** min(count, 30), self._longest)


def network(peer: str) -> str:
    """Return what a client is counted as: an IPv4 address, the /64 of an IPv6 address."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
    return str(address)
