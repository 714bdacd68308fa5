"""How many sessions one account may have from one address, and how connections are counted."""

from __future__ import annotations

from typing import Protocol


class ConnectionCount(Protocol):
    """Counts connections by client; one object may serve listeners of several protocols."""

    def admit(self, peer: str) -> bool:
        """Count a new connection in and return True, or return False: there are too many."""

    def leave(self, peer: str) -> None:
        """An admitted connection is gone."""


class Unlimited:
    """No limit, for tests and for listeners that are counted elsewhere."""

    def admit(self, _: str) -> bool:
        """Always."""
        return True

    def leave(self, _: str) -> None:
        """Nothing was counted."""


class Admission:
    """
    Counts sessions by account and peer; one object serves every listener.

    Args:
        limit: sessions of one account from one address at the same time; 0 for no limit.
    """

    def __init__(self, limit: int = 20) -> None:
        self.limit = limit
        self._sessions: dict[tuple[str, str], int] = {}

    def enter(self, account: str, peer: str) -> bool:
        """Count a session in; False when there are too many already."""
        count = self._sessions.get((account, peer), 0)
        if self.limit and count >= self.limit:
            return False
        self._sessions[account, peer] = count + 1
        return True

    def leave(self, account: str, peer: str) -> None:
        """Count a session out."""
        count = self._sessions.get((account, peer), 0) - 1
        if count > 0:
            self._sessions[account, peer] = count
        else:
            self._sessions.pop((account, peer), None)
