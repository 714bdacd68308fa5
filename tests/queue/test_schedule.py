"""Retry times."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.queue.clock import SteadyClock
from mailhost.queue.schedule import DAY, HOUR, MINUTE, Judgement, NextAttempt, RetrySchedule, judge

SCHEDULE = RetrySchedule()


def judged(**changes: object) -> NextAttempt:
    arguments: dict[str, object] = {
        "now": 1000.0,
        "accepted_at": 1000.0,
        "attempts": 1,
        "warned": False,
        "null_reverse_path": False,
        "may_expire": True,
        "random": lambda: 0.5,
    }
    return judge(SCHEDULE, **{**arguments, **changes})  # type: ignore[arg-type]


class ScheduleTests(SynchronousTestCase):
    """Delays, expiry and warnings."""

    def test_delays_grow_and_then_stay(self) -> None:
        """5, 10, 20, 40 minutes, then two hours each."""
        delays = [SCHEDULE.delay(attempts, lambda: 0.5) / MINUTE for attempts in range(1, 8)]
        self.assertEqual(delays, [5, 10, 20, 40, 120, 120, 120])

    def test_mail_expires_after_five_days_and_bounces_after_one(self) -> None:
        """The null reverse-path has the shorter life."""
        late = {"accepted_at": 0.0, "attempts": 30}
        self.assertEqual(judged(now=5 * DAY - 1, **late).judgement, Judgement.RETRY)
        self.assertEqual(judged(now=5 * DAY, **late).judgement, Judgement.EXPIRED)
        bounce = judged(now=DAY, null_reverse_path=True, **late)
        self.assertEqual(bounce.judgement, Judgement.EXPIRED)

    def test_last_attempt_is_at_expiry(self) -> None:
        """The last delay is cut so that the end is not missed by two hours."""
        self.assertEqual(judged(now=5 * DAY - 60, accepted_at=0.0, attempts=40).due, 5 * DAY)

    def test_nothing_expires_while_it_may_not(self) -> None:
        """After a long outage mail is tried again before it is given up."""
        following = judged(now=9 * DAY, accepted_at=0.0, attempts=9, may_expire=False)
        self.assertEqual(following, NextAttempt(Judgement.RETRY, 9 * DAY + 2 * HOUR, False))

    def test_warning_is_once_and_never_about_bounces(self) -> None:
        """Four hours after acceptance, if the sender exists and was not told."""
        late = {"now": 1000 + 4 * HOUR, "attempts": 6}
        self.assertFalse(judged(now=1000 + 4 * HOUR - 1).warn)
        self.assertTrue(judged(**late).warn)
        self.assertFalse(judged(warned=True, **late).warn)
        self.assertFalse(judged(null_reverse_path=True, **late).warn)

    @settings(max_examples=100, deadline=None)
    @given(st.integers(1, 100), st.floats(0, 0.999999))
    def test_jitter_stays_within_its_part(self, attempts: int, chance: float) -> None:
        """No delay is changed by more than a tenth."""
        plain = SCHEDULE.delay(attempts, lambda: 0.5)
        delay = SCHEDULE.delay(attempts, lambda: chance)
        self.assertLessEqual(abs(delay - plain), plain * 0.1 + 1e-6)


class ClockTests(SynchronousTestCase):
    """Steady time (R-94)."""

    def test_jumps_of_the_wall_clock_are_not_followed(self) -> None:
        """An hour back or a year on changes nothing while the process lives."""
        wall, monotonic = [1_000_000.0], [50.0]
        clock = SteadyClock(lambda: wall[0], lambda: monotonic[0])
        monotonic[0] += 10
        wall[0] -= 3600
        self.assertEqual(clock.now(), 1_000_010.0)
        wall[0] += 365 * DAY
        monotonic[0] += 10
        self.assertEqual((clock.now(), clock.uptime()), (1_000_020.0, 20.0))
