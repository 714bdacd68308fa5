"""One next hop as the dispatcher sees it: how many attempts at once, and when the next is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from mailhost.queue.records import LOCAL
from mailhost.reply import Action, DeliveryStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Concurrency:
    """
    How many attempts run at once.

    Args:
        start: to a destination that nothing is known of.
        limit: to one destination at most.
        total: to all of them.
        dead_after: so many attempts in a row that reached nobody make a destination dead: what
            else is due for it is put off with the last one's words, without an attempt.
    """

    start: int = 2
    limit: int = 20
    total: int = 200
    dead_after: int = 3


@dataclass(slots=True, eq=False)
class Destination:
    """
    A next hop with mail, or in use.

    Args:
        earliest: when the first recipient is due that is not claimed, steady Unix time.
        claimed: the messages that attempts are running for, by number.
        loading: its next messages are being read.
        queued: it stands in the rotation.
        dead: the status of the attempt that made it dead, while what was due at that moment,
            `dead_at`, is put off with it.
    """

    next_hop: str
    concurrency: Concurrency
    window: float = 0.0
    earliest: float = inf
    claimed: set[int] = field(default_factory=set)
    loading: bool = False
    queued: bool = False
    unreached: int = 0
    dead: DeliveryStatus | None = None
    dead_at: float = 0.0

    def __post_init__(self) -> None:
        # There is nobody to spare: one turn of the spool's thread takes all local attempts.
        local = self.next_hop == LOCAL
        self.window = float(self.concurrency.limit if local else self.concurrency.start)

    @property
    def free(self) -> int:
        """How many more attempts may start."""
        return int(self.window) - len(self.claimed)

    @property
    def idle(self) -> bool:
        """Whether nothing is known of it that must be kept."""
        return not self.claimed and not self.loading and self.earliest == inf

    def revive(self) -> None:
        """Allow attempts again when all that was due at its death has been put off."""
        if self.earliest > self.dead_at and not self.loading:
            self.dead = None

    def learn(self, statuses: Sequence[DeliveryStatus], now: float) -> None:
        """Adapt to what an attempt brought."""
        if self.next_hop == LOCAL:
            return
        if is_unreachable(statuses):
            self.unreached += 1
            self.window = max(1.0, self.window / 2)
            if self.unreached >= self.concurrency.dead_after:
                self.dead = statuses[0]
                self.dead_at = now
        elif any(status.reply_code == 421 for status in statuses):
            # RFC 5321 3.8: the host shuts the channel; it has too much of us or of others.
            self.unreached = 0
            self.window = max(1.0, self.window / 2)
        else:
            self.unreached = 0
            self.dead = None
            self.window = min(float(self.concurrency.limit), self.window + 1.0 / self.window)


def is_unreachable(statuses: Sequence[DeliveryStatus]) -> bool:
    """Whether an attempt ended before any host said a word about the message (X.4.Y)."""
    return bool(statuses) and all(
        status.action is Action.DELAYED
        and status.reply_code == 0
        and status.status.startswith("4.4.")
        for status in statuses
    )
