"""Wall-clock time that never jumps while the process runs (R-94)."""

from __future__ import annotations

from collections.abc import Callable


class SteadyClock:
    """
    Unix time taken once, and carried on by a monotonic clock.

    All times that the queue writes are of this clock: when somebody sets the system's clock an
    hour back or a year on, no retry is lost and nothing expires. The next start takes the wall
    clock anew; what it then finds too far in the future is due at once.

    Args:
        wall: Unix time in seconds.
        monotonic: seconds since some moment, never set.
    """

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._start = monotonic()
        self._offset = wall() - self._start

    def now(self) -> float:
        """Return steady Unix time in seconds."""
        return self._monotonic() + self._offset

    def uptime(self) -> float:
        """Return the seconds since this clock was made."""
        return self._monotonic() - self._start
