"""How many connections there may be: in all, from one client, from its networks, in a minute."""

from __future__ import annotations

from collections.abc import Callable

from mailhost.neighbourhood import SHARES, Frequency, networks


class ConnectionLimits:
    """
    Counts connections; one object serves every listener that shares the limits.

    A client is an IPv4 address or an IPv6 /64; its neighbourhood and its provider may have three
    and nine times as much as it (`mailhost.neighbourhood`). A limit may be changed at any time.

    Args:
        total: connections in all.
        per_client: connections of one client at a time.
        per_minute: new connections of one client in a minute, not counted for this machine
            itself; 0 for no limit.
        seconds: the time, for the minute.
    """

    def __init__(
        self,
        total: int = 5000,
        per_client: int = 100,
        per_minute: int = 0,
        seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.total = total
        self.per_client = per_client
        self.per_minute = per_minute
        self.open = 0
        self._clients: dict[str, int] = {}
        self._attempts = Frequency(seconds)

    def admit(self, peer: str) -> bool:
        """Count a new connection and return True, or return False because a limit is reached."""
        names = networks(peer)
        if self.open >= self.total or not self._in_time(names):
            return False
        clients = self._clients
        for name, share in zip(names, SHARES, strict=False):
            if clients.get(name, 0) >= self.per_client * share:
                return False
        self.open += 1
        for name in names:
            clients[name] = clients.get(name, 0) + 1
        return True

    def _in_time(self, names: tuple[str, ...]) -> bool:
        if not self.per_minute or len(names) == 1:
            return True
        if self._attempts.exceeded(names, self.per_minute):
            # Not counted: who keeps trying gets in again when the minute is over.
            return False
        for name in names:
            self._attempts.add(name)
        return True

    def leave(self, peer: str) -> None:
        """An admitted connection is gone."""
        self.open -= 1
        for name in networks(peer):
            count = self._clients[name] - 1
            if count:
                self._clients[name] = count
            else:
                del self._clients[name]
