"""How many connections there may be, in all and from one client."""

from __future__ import annotations

from ipaddress import IPv6Address


class ConnectionLimits:
    """
    Counts open connections; one object serves every listener that shares the limits.

    An IPv6 client is its /64 network, which is what one customer has.

    Args:
        total: connections in all.
        per_client: connections of one client.
    """

    def __init__(self, total: int = 5000, per_client: int = 100) -> None:
        self.total = total
        self.per_client = per_client
        self.open = 0
        self._clients: dict[str, int] = {}

    def admit(self, peer: str) -> bool:
        """Count a new connection and return True, or return False because a limit is reached."""
        client = _client(peer)
        count = self._clients.get(client, 0)
        if self.open >= self.total or count >= self.per_client:
            return False
        self.open += 1
        self._clients[client] = count + 1
        return True

    def leave(self, peer: str) -> None:
        """An admitted connection is gone."""
        client = _client(peer)
        self.open -= 1
        count = self._clients[client] - 1
        if count:
            self._clients[client] = count
        else:
            del self._clients[client]


def _client(peer: str) -> str:
    if ":" not in peer:
        return peer
    try:
        address = IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer
    return str(address.ipv4_mapped or (int(address) >> 64))
