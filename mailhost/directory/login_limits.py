"""
How long an address that guesses passwords waits, and when it is not listened to at all.

The first failed login is answered after a second, each further one after twice as long, up to a
limit; what lies back long enough is forgotten. A client with too many failures in a minute or a
day, its own or its neighbours' (`mailhost.neighbourhood`), is refused without a look at the
password, whatever it is, so that more connections do not make more guesses (R-39). Whoever logged
in from there before goes on: for that account and that client nothing is refused, however many
others guess; and nothing is refused to this machine, from where a webmail program brings everyone.
"""

from __future__ import annotations

from collections import OrderedDict

from twisted.internet.interfaces import IReactorTime

from mailhost.neighbourhood import Frequency, is_local, networks

DAY = 86400.0
DAILY = 5
"""Times the failures of a minute that a day may have."""


class LoginLimits:
    """
    Counts failed logins by client address, in bounded memory.

    Args:
        failures: of one client in a minute before it is refused; five times as many in a day; 0
            for no limit. May be changed at any time.
        first: seconds for the first failure.
        longest: seconds at most.
        memory: seconds after which an address without a failure is forgotten.
        capacity: addresses at most; the one whose last failure lies back longest goes first.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        failures: int = 0,
        first: float = 1.0,
        longest: float = 15.0,
        memory: float = 900.0,
        capacity: int = 10_000,
    ) -> None:
        self.failures = failures
        self._clock = clock
        self._first = first
        self._longest = longest
        self._memory = memory
        self._capacity = capacity
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._minute = Frequency(clock.seconds, 60.0)
        self._day = Frequency(clock.seconds, DAY)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def failed(self, peer: str) -> float:
        """Count a failed login of a client and return how many seconds its answer waits."""
        names = networks(peer)
        for name in names:
            self._minute.add(name)
            self._day.add(name)
        key = names[0]
        now = self._clock.seconds()
        count, last = self._failures.pop(key, (0, now))
        if now - last > self._memory:
            count = 0
        self._failures[key] = (count + 1, now)
        while len(self._failures) > self._capacity:
            self._failures.popitem(last=False)
        return min(self._first * 2.0 ** min(count, 30), self._longest)

    def succeeded(self, peer: str, account: str) -> None:
        """Remember that an account's owner comes from there."""
        key = networks(peer)[0], account
        self._known.pop(key, None)
        self._known[key] = None
        while len(self._known) > self._capacity:
            self._known.popitem(last=False)

    def refuses(self, peer: str, account: str) -> bool:
        """Whether a login for that account is not even looked at; `account` is a login key."""
        if not self.failures or is_local(peer):
            return False
        names = networks(peer)
        if (names[0], account) in self._known:
            return False
        return self._minute.exceeded(names, self.failures) or self._day.exceeded(
            names, self.failures * DAILY
        )
