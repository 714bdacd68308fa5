"""When the next attempt is due: pure arithmetic on numbers of seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """
    How long mail is tried, and how often (RFC 5321 4.5.4.1). All values are seconds.

    Args:
        delays: before the second, third, ... attempt; the last one repeats.
        lifetime: after which mail is returned to its sender.
        bounce_lifetime: the same for mail with the null reverse-path.
        warning: after which the sender is told once that mail is delayed; 0 for never.
        jitter: each delay is changed by up to this part of itself, so that mail that failed
            together is not tried together for ever.
    """

    delays: tuple[float, ...] = (5 * MINUTE, 10 * MINUTE, 20 * MINUTE, 40 * MINUTE, 2 * HOUR)
    lifetime: float = 5 * DAY
    bounce_lifetime: float = DAY
    warning: float = 4 * HOUR
    jitter: float = 0.1

    def delay(self, attempts: int, random: Callable[[], float]) -> float:
        """
        Return how long to wait after that many attempts, of which there was at least one.

        `random` returns a float in [0, 1).
        """
        base = self.delays[min(max(attempts, 1), len(self.delays)) - 1]
        return base * (1.0 + self.jitter * (2.0 * random() - 1.0))

    def expiry(self, accepted_at: float, *, null_reverse_path: bool) -> float:
        """Return the time at which a message accepted then is given up."""
        return accepted_at + (self.bounce_lifetime if null_reverse_path else self.lifetime)


class Judgement(Enum):
    """What to do with a recipient whose attempt did not succeed for now."""

    RETRY = "retry"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """The judgement, when the next attempt is due, and whether the sender is warned now."""

    judgement: Judgement
    due: float = 0.0
    warn: bool = False


def judge(
    schedule: RetrySchedule,
    *,
    now: float,
    accepted_at: float,
    attempts: int,
    warned: bool,
    null_reverse_path: bool,
    may_expire: bool,
    random: Callable[[], float],
) -> NextAttempt:
    """
    Return what follows after an attempt that deferred a recipient.

    The last attempt is made when the lifetime ends, not up to a whole delay later or earlier.
    `attempts` includes the one just made; `warned` says that the sender knows of the delay.
    `may_expire` is False shortly after a start: whoever was away for a week tries again first.
    """
    expiry = schedule.expiry(accepted_at, null_reverse_path=null_reverse_path)
    if now >= expiry and may_expire:
        return NextAttempt(Judgement.EXPIRED)
    due = now + schedule.delay(attempts, random)
    if now < expiry < due:
        due = expiry
    # Nobody is told of trouble with mail that has no sender; a warning just before the bounce
    # would say nothing.
    warn = (
        not warned
        and not null_reverse_path
        and 0 < schedule.warning <= now - accepted_at
        and now < expiry
    )
    return NextAttempt(Judgement.RETRY, due, warn)
