"""How many sessions one account may have from one address."""

from __future__ import annotations


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
