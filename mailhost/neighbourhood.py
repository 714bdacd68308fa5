"""
Who is one client to a limit, and how often something came from it and from its neighbours.

One customer has an IPv4 address or an IPv6 /64; who attacks has a whole provider's network. What
one client may do is therefore counted for three networks at once: the client (/32, /64), its
neighbourhood (/26, /48) and its provider (/21, /32), and the wider ones may have three and nine
times as much. Connections from this machine itself are of its operator: they have no neighbours,
and rates do not count for them, because a webmail program may log all its users in from there.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, ip_address

SHARES = (1, 3, 9)
"""What a client, its neighbourhood and its provider may have, in clients."""


def networks(peer: str) -> tuple[str, ...]:
    """
    Return the names of the client's networks, narrowest first, as `SHARES` has them.

    Only one for what is no address, and for an address of this machine.
    """
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return (peer,)
    if not isinstance(address, IPv4Address):
        if address.ipv4_mapped is None:
            number = int(address)
            client = f"{number >> 64:x}/64"
            if address.is_loopback:
                return (client,)
            return (client, f"{number >> 80:x}/48", f"{number >> 96:x}/32")
        address = address.ipv4_mapped
    if address.is_loopback:
        return (str(address),)
    number = int(address)
    return (str(address), f"{number >> 6:x}/26", f"{number >> 11:x}/21")


def is_local(peer: str) -> bool:
    """Whether the peer is this machine."""
    return len(networks(peer)) == 1


class Frequency:
    """
    Counts what happened in the last `span` seconds, by name, in bounded memory.

    The count is exact within a span and interpolated from one to the next.

    Args:
        seconds: the time, in seconds, which does not go back.
        capacity: names of one span at most; with more, older ones are forgotten early.
    """

    def __init__(
        self, seconds: Callable[[], float], span: float = 60.0, capacity: int = 100_000
    ) -> None:
        self._seconds = seconds
        self._span = span
        self._capacity = capacity
        self._began = seconds()
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._now) + len(self._before)

    def add(self, name: str) -> None:
        """Count one."""
        self._turn()
        if name not in self._now and len(self._now) >= self._capacity:
            self._before, self._now = self._now, {}
        self._now[name] = self._now.get(name, 0) + 1

    def count(self, name: str) -> float:
        """Return how many there were."""
        left = self._turn()
        return self._now.get(name, 0) + self._before.get(name, 0) * left

    def exceeded(self, names: tuple[str, ...], limit: float) -> bool:
        """Whether a client (its `networks`) has used up its share or that of its neighbours."""
        return any(
            self.count(name) >= limit * share for name, share in zip(names, SHARES, strict=False)
        )

    def _turn(self) -> float:
        """Begin a new span when it is time, and return how much of the one before still counts."""
        passed = self._seconds() - self._began
        if passed >= self._span:
            self._before = self._now if passed < 2 * self._span else {}
            self._now = {}
            self._began += passed - passed % self._span
            passed %= self._span
        return max(0.0, 1.0 - passed / self._span)
