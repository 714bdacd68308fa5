"""
Connections that are kept after a transaction, and hosts that were found dead.

A kept connection serves the next message for the same host under the same demand. It is given up
after `idle` seconds, after `max_uses` transactions, when there are too many, and when the server
says anything or closes. Dead addresses are not tried again for some seconds, so that a thousand
messages for a host that is down do not each wait for a connection that does not come.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from mailhost.interfaces.network import TLSDemand
from mailhost.reply import DeliveryStatus
from mailhost.smtp.client.session import SMTPClientSession

IDLE = 15.0
MAX_USES = 100
MAX_KEPT = 64
MAX_KEPT_PER_HOST = 4
DEAD_TIME = 30.0
MAX_DEAD = 5000


@dataclass(frozen=True, slots=True)
class ConnectionKey:
    """What makes one connection as good as another. `user` is who logged in, empty for nobody."""

    host: str
    port: int
    demand: TLSDemand
    user: str = ""


@dataclass(slots=True)
class _Kept:
    session: SMTPClientSession
    timer: IDelayedCall


class SessionPool:
    """
    Idle sessions, each ready for one more transaction.

    Args:
        clock: for the idle time.
        idle: seconds; servers close after minutes, and a connection held costs them too.
        max_uses: transactions on one connection.
        max_kept, max_per_host: idle sessions in all, and for one key; the oldest goes first.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        idle: float = IDLE,
        max_uses: int = MAX_USES,
        max_kept: int = MAX_KEPT,
        max_per_host: int = MAX_KEPT_PER_HOST,
    ) -> None:
        self._clock = clock
        self._idle = idle
        self._max_uses = max_uses
        self._max_kept = max_kept
        self._max_per_host = max_per_host
        self._kept: dict[ConnectionKey, list[_Kept]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: ConnectionKey) -> bool:
        return key in self._kept

    def take(self, key: ConnectionKey) -> SMTPClientSession | None:
        """Return a session, which is the caller's now, or None. The one used last comes first."""
        kept = self._kept.get(key)
        return self._remove(key, kept[-1]) if kept else None

    def keep(self, key: ConnectionKey, session: SMTPClientSession) -> None:
        """Take a session over, or end it if it may not be used again."""
        if not session.usable:
            return
        if session.uses >= self._max_uses or self._max_per_host < 1 or self._max_kept < 1:
            session.quit()
            return
        if len(self._kept.get(key, ())) >= self._max_per_host:
            self._end(key, self._kept[key][0])
        elif self._count >= self._max_kept:
            oldest = next(iter(self._kept))
            self._end(oldest, self._kept[oldest][0])
        entry = _Kept(session, self._clock.callLater(self._idle, lambda: self._end(key, entry)))
        session.connection.on_failed = partial(self._lost, key, entry)
        self._kept.setdefault(key, []).append(entry)
        self._count += 1

    def close(self) -> None:
        """End every session."""
        for key in list(self._kept):
            for entry in list(self._kept.get(key, ())):
                self._end(key, entry)

    def _remove(self, key: ConnectionKey, entry: _Kept) -> SMTPClientSession:
        kept = self._kept[key]
        kept.remove(entry)
        if not kept:
            del self._kept[key]
        self._count -= 1
        entry.session.connection.on_failed = _nothing
        if entry.timer.active():
            entry.timer.cancel()
        return entry.session

    def _end(self, key: ConnectionKey, entry: _Kept) -> None:
        self._remove(key, entry).quit()

    def _lost(self, key: ConnectionKey, entry: _Kept) -> None:
        self._remove(key, entry)


def _nothing() -> None:
    """Do nothing."""


class DeadHosts:
    """
    Addresses that could not be connected to a moment ago, and why.

    Args:
        clock: for the time.
        seconds: how long an address counts as dead.
    """

    def __init__(
        self, clock: IReactorTime, seconds: float = DEAD_TIME, max_entries: int = MAX_DEAD
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._max_entries = max_entries
        self._dead: dict[tuple[str, int], tuple[float, DeliveryStatus]] = {}

    def mark(self, address: str, port: int, status: DeliveryStatus) -> None:
        """Remember that nobody answers there."""
        self._dead.pop((address, port), None)
        self._dead[address, port] = (self._clock.seconds(), status)
        if len(self._dead) > self._max_entries:
            del self._dead[next(iter(self._dead))]

    def clear(self) -> None:
        """Forget them all."""
        self._dead.clear()

    def get(self, address: str, port: int) -> DeliveryStatus | None:
        """Return what was found out, if that is not long ago."""
        found = self._dead.get((address, port))
        if found is None:
            return None
        if 0 <= self._clock.seconds() - found[0] < self._seconds:
            return found[1]
        del self._dead[address, port]
        return None
