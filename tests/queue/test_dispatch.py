"""Dispatch: retries, fairness, dead destinations, reports."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.address import Address
from mailhost.errors import NoSuchEntry, SpoolFault
from mailhost.interfaces.spool import DeliveryRequest, IQueue, Recipient
from mailhost.queue.destinations import Concurrency, Destination
from mailhost.queue.mail_queue import MailQueue
from mailhost.queue.schedule import DAY, HOUR, MINUTE, RetrySchedule
from mailhost.reply import Action, DeliveryStatus
from mailhost.units import QueueID
from tests.queue.rig import (
    BUSY,
    DELIVERED,
    LOCKED,
    OVER_QUOTA,
    UNKNOWN_USER,
    UNREACHABLE,
    Rig,
    local,
    remote,
)


class DispatchTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.rig = self.make()

    def make(self, **options: Any) -> Rig:
        self.directory = Path(self.mktemp())
        return Rig(self.directory, **options).start()

    def again(self, **options: Any) -> Rig:
        """The next process on the same directory, without a clean stop of this one."""
        self.rig.threads.runner.journal._database.close()
        return Rig(
            self.directory, clock=self.rig.clock, store=self.rig.store.after_kill(), **options
        )

    def bounces(self, account: str = "sender") -> list[bytes]:
        return [
            octets for (who, _), octets in sorted(self.rig.store.visible.items()) if who == account
        ]


class AttemptTests(DispatchTestCase):
    """From acceptance to the next hop."""

    def test_remote_mail_is_attempted_at_once(self) -> None:
        """The agent is asked in the moment of the 250, and the row is gone with its answer."""
        self.rig.accept("q1", remote("x@far.example"), content=b"hello\r\n", prefix=b"P: p\r\n")
        (request,) = self.rig.agent.requests
        self.assertEqual(request.queue_id, "q1")
        self.assertEqual(request.recipients, (Address.parse("x@far.example"),))
        self.assertEqual((request.next_hop, request.prefix), ("far.example", b"P: p\r\n"))
        self.assertEqual((request.content, request.size), (b"hello\r\n", 7))
        self.assertEqual(self.rig.messages(), ())
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])

    def test_recipients_are_grouped_by_next_hop(self) -> None:
        """One attempt for all recipients of a domain, an address once."""
        self.rig.accept(
            "q1",
            remote("a@one.example"),
            remote("b@two.example"),
            remote("c@one.example"),
            remote("a@one.example"),
        )
        asked = {r.next_hop: tuple(map(str, r.recipients)) for r in self.rig.agent.requests}
        self.assertEqual(
            asked,
            {"one.example": ("a@one.example", "c@one.example"), "two.example": ("b@two.example",)},
        )

    def test_attempts_have_at_most_a_hundred_recipients(self) -> None:
        """A long list goes in several attempts."""
        self.rig.accept("q1", *(remote(f"u{n}@far.example") for n in range(250)))
        self.rig.run()
        self.assertEqual([len(r.recipients) for r in self.rig.agent.requests], [100, 100, 50])
        self.assertEqual(len(set(self.rig.agent.relayed)), 250)
        self.assertEqual(self.rig.messages(), ())

    def test_large_content_is_passed_as_a_file(self) -> None:
        """The agent reads the spool file, which goes after the last recipient."""
        seen: list[bool] = []

        def answer(request: DeliveryRequest, address: Address) -> DeliveryStatus:
            assert isinstance(request.content, Path)
            seen.append(request.content.stat().st_size == request.size == 100_000)
            return DELIVERED

        self.rig.agent.answer = answer
        self.rig.accept("q1", remote("x@far.example"), content=bytes(100_000))
        self.rig.run()
        self.assertEqual(seen, [True])
        self.assertEqual(list((self.directory / "content").iterdir()), [])

    def test_dsn_parameters_travel(self) -> None:
        """ORCPT and NOTIFY reach the agent, after a restart too."""
        self.rig.agent.duration = lambda request: 1000.0
        self.rig.accept(
            "q1",
            remote("x@far.example", orcpt="rfc822;y@z.example", notify=("FAILURE", "DELAY")),
            ret="HDRS",
            envid="e1",
        )
        self.rig = self.again().start()
        self.rig.run()
        (request,) = self.rig.agent.requests
        self.assertEqual(request.dsn, (("rfc822;y@z.example", ("FAILURE", "DELAY")),))
        self.assertEqual((request.ret, request.envid), ("HDRS", "e1"))

    def test_deferred_recipients_follow_the_schedule(self) -> None:
        """5, 10, 20, 40 minutes, then two hours between attempts."""
        self.rig.agent.answer = lambda request, address: BUSY
        self.rig.accept("q1", remote("x@far.example"), reverse_path=None)
        while self.rig.agent.times[-1] < 10 * HOUR:
            self.rig.next_event()
        gaps = [
            round((b - a) / MINUTE)
            for a, b in zip(self.rig.agent.times, self.rig.agent.times[1:], strict=False)
        ]
        self.assertEqual(gaps[:6], [5, 10, 20, 40, 120, 120])

    def test_only_what_was_deferred_is_tried_again(self) -> None:
        """Recipients have their own ends: delivered, deferred and failed in one attempt."""
        answers = {"a": DELIVERED, "b": BUSY, "c": UNKNOWN_USER}
        self.rig.agent.answer = lambda request, address: answers[address.local_part]
        self.rig.accept(
            "q1", remote("a@far.example"), remote("b@far.example"), remote("c@far.example")
        )
        self.rig.run()
        answers["b"] = DELIVERED
        self.assertEqual(len(self.bounces()), 1)
        self.assertIn(b"c@far.example", self.bounces()[0])
        self.assertNotIn(b"Final-Recipient: rfc822; b@far.example", self.bounces()[0])
        self.rig.advance(301, 20)
        self.assertEqual(
            tuple(map(str, self.rig.agent.requests[-1].recipients)), ("b@far.example",)
        )
        self.assertEqual(self.rig.messages(), ())
        self.assertEqual(len(self.bounces()), 1)

    def test_broken_agent_defers(self) -> None:
        """An agent that raises, or answers too few, is our bug: the mail waits (never 5xx)."""

        def deliver(request: DeliveryRequest) -> Any:
            raise ZeroDivisionError

        real, self.rig.agent.deliver = self.rig.agent.deliver, deliver  # type: ignore[method-assign]
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.run()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        (message,) = self.rig.messages()
        self.assertEqual(message.recipients[0].last_status, "4.3.0")
        self.rig.agent.deliver = real  # type: ignore[method-assign]
        self.rig.advance(301, 20)
        self.assertEqual(self.rig.agent.relayed, [("q1", "x@far.example")])

    def test_attempt_has_an_end(self) -> None:
        """An agent that never answers is cancelled and the mail tried again later."""
        self.rig.agent.duration = lambda request: 1e9
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.advance(7201, 600)
        self.assertEqual(self.rig.agent.cancelled, 1)
        self.assertEqual(self.rig.messages()[0].recipients[0].attempts, 1)

    def test_crash_returns_claims(self) -> None:
        """What was being attempted is attempted by the next process."""
        self.rig.agent.duration = lambda request: 1000.0
        self.rig.accept("q1", remote("x@far.example"))
        self.rig = self.again().start()
        self.rig.run()
        self.assertEqual(self.rig.agent.relayed, [("q1", "x@far.example")])

    def test_stop_lets_attempts_end(self) -> None:
        """An attempt that ends within the grace is recorded; none is started."""
        self.rig.agent.duration = lambda request: 2.0
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.stop()
        self.rig = self.again().start()
        self.rig.run()
        self.assertEqual(self.rig.agent.requests, [])

    def test_stop_cancels_long_attempts_without_a_trace(self) -> None:
        """The interrupted attempt does not count, and the next start repeats it at once."""
        self.rig.agent.duration = lambda request: 1000.0
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.stop()
        self.assertEqual(self.rig.agent.cancelled, 1)
        self.rig = self.again().start()
        self.rig.run()
        self.assertEqual(self.rig.agent.relayed, [("q1", "x@far.example")])

    def test_stop_does_not_wait_for_a_disk_that_takes_no_outcome(self) -> None:
        """Within five seconds the dispatcher ends, whatever cannot be written."""
        self.rig.spool.record = lambda message, changes: Deferred()  # type: ignore[method-assign]
        self.rig.accept("q1", remote("x@far.example"))
        stopping = self.rig.dispatcher.stop()
        self.rig.advance(4.9, 0.1)
        self.assertNoResult(stopping)
        self.rig.advance(0.2, 0.1)
        self.successResultOf(stopping)


class FairnessTests(DispatchTestCase):
    """Destinations do not disturb one another (R-71)."""

    def test_slow_destination_does_not_delay_others(self) -> None:
        """Mail for anyone else starts at once while one host has a thousand waiting."""
        self.rig.agent.duration = lambda r: 30.0 if r.next_hop == "slow.example" else 0.1
        for start in range(0, 1000, 100):
            for n in range(start, start + 100):
                self.rig.send(f"s{n}", remote("x@slow.example"))
            self.rig.run()
        self.rig.advance(120, 5)
        begun = self.rig.clock.seconds()
        for n in range(50):
            self.rig.send(f"f{n}", remote(f"x@fast{n % 10}.example"))
        self.rig.advance(4, 0.1)
        fast = {queue_id for queue_id, _ in self.rig.agent.relayed if queue_id.startswith("f")}
        self.assertEqual(len(fast), 50)
        first = [
            time
            for time, request in zip(self.rig.agent.times, self.rig.agent.requests, strict=True)
            if request.next_hop != "slow.example"
        ]
        self.assertLess(max(first) - begun, 5.0)
        self.assertLessEqual(self.rig.agent.most["slow.example"], 20)

    def test_many_slow_destinations_leave_places(self) -> None:
        """The last quarter of the total is kept for those with few attempts."""
        self.rig = self.make(concurrency=Concurrency(start=2, limit=20, total=40))
        self.rig.agent.duration = lambda r: 50.0 if r.next_hop.startswith("slow") else 0.1
        for n in range(200):
            self.rig.send(f"s{n}", remote(f"x@slow{n % 5}.example"))
        self.rig.advance(400, 10)
        self.rig.accept("f", remote("x@fast.example"))
        self.rig.advance(0.2, 0.1)
        self.assertIn(("f", "x@fast.example"), self.rig.agent.relayed)

    def test_concurrency_grows_with_success(self) -> None:
        """Two at first, twenty at most."""
        self.rig.agent.duration = lambda request: 1.0
        for n in range(400):
            self.rig.send(f"q{n}", remote("x@far.example"))
        self.rig.run()
        self.assertEqual(self.rig.agent.most["far.example"], 2)
        self.rig.advance(60, 0.5)
        self.assertEqual(self.rig.agent.most["far.example"], 20)
        self.assertEqual(len(self.rig.agent.relayed), 400)

    def test_window_shrinks_on_failure(self) -> None:
        """Unreachable hosts and 421 halve it, never below one."""
        destination = Destination("far.example", Concurrency())
        destination.window = 16.0
        destination.learn([UNREACHABLE], 0.0)
        self.assertEqual(destination.window, 8.0)
        destination.learn([DeliveryStatus(Action.DELAYED, "4.3.2", "421 busy", "mx", 421)], 0.0)
        self.assertEqual(destination.window, 4.0)
        for _ in range(9):
            destination.learn([UNREACHABLE], 0.0)
        self.assertEqual(destination.window, 1.0)

    def test_dead_destination_is_not_asked_for_every_message(self) -> None:
        """After three unreached attempts all that is due is put off with the same words."""
        self.rig.agent.answer = lambda request, address: UNREACHABLE
        self.rig.agent.duration = lambda request: 30.0
        for n in range(300):
            self.rig.send(f"q{n}", remote("x@dead.example"))
        self.rig.advance(150, 5)
        self.assertLess(len(self.rig.agent.requests), 8)
        queued = self.rig.messages()
        self.assertEqual(len(queued), 300)
        self.assertEqual({m.recipients[0].attempts for m in queued}, {1})
        self.assertEqual({m.recipients[0].last_diagnostic for m in queued}, {"connection refused"})
        self.rig.agent.answer = lambda request, address: DELIVERED
        self.rig.agent.duration = lambda request: 0.0
        self.rig.advance(400, 5)
        self.assertEqual(len(self.rig.agent.relayed), 300)

    def test_ten_thousand_waiting_are_not_in_memory(self) -> None:
        """A start reads one line per destination and loads messages when there is a place."""
        self.rig.agent.answer = lambda request, address: BUSY
        for start in range(0, 2000, 200):
            for n in range(start, start + 200):
                self.rig.send(f"q{n}", remote(f"x@d{n % 7}.example"))
            self.rig.run()
        self.rig = self.again()
        self.rig.agent.duration = lambda request: 1e6
        self.rig.start()
        self.rig.advance(320, 20)
        self.assertEqual(len(self.rig.dispatcher._destinations), 7)
        self.assertEqual(len(self.rig.agent.requests), 14)
        self.assertEqual(len(self.rig.dispatcher._attempts), 14)


class ReportTests(DispatchTestCase):
    """Bounces and warnings."""

    def test_failure_is_reported_to_a_local_sender(self) -> None:
        """The sender finds the report, with the host's words, and the queue is empty."""
        self.rig.agent.answer = lambda request, address: UNKNOWN_USER
        self.rig.accept("q1", remote("x@far.example"), content=b"Subject: hi\r\n\r\nsecret\r\n")
        self.rig.run()
        (bounce,) = self.bounces()
        self.assertIn(b"550 no such user", bounce)
        self.assertIn(b"Subject: hi", bounce)
        self.assertNotIn(b"secret", bounce)
        self.assertEqual(self.rig.messages(), ())

    def test_failure_is_reported_to_a_remote_sender(self) -> None:
        """The report leaves through the relay with the null reverse-path."""
        self.rig.agent.answer = lambda request, address: (
            UNKNOWN_USER if address.domain == "far.example" else DELIVERED
        )
        self.rig.accept("q1", remote("x@far.example"), reverse_path="y@other.example")
        self.rig.run()
        self.assertIsNone(self.rig.agent.requests[-1].reverse_path)
        self.assertEqual(str(self.rig.agent.requests[-1].recipients[0]), "y@other.example")

    def test_bounce_of_a_bounce_is_dropped(self) -> None:
        """A report that fails itself ends there (R-14)."""
        self.rig.agent.answer = lambda request, address: UNKNOWN_USER
        self.rig.accept("q1", remote("x@far.example"), reverse_path="y@other.example")
        self.rig.advance(10)
        self.assertEqual(len(self.rig.agent.requests), 2)
        self.assertEqual(self.rig.messages(), ())
        self.assertEqual(self.rig.store.visible, {})

    def test_null_reverse_path_is_never_answered(self) -> None:
        """No report about mail without a sender."""
        self.rig.agent.answer = lambda request, address: UNKNOWN_USER
        self.rig.accept("q1", remote("x@far.example"), reverse_path=None)
        self.rig.advance(10)
        self.assertEqual((len(self.rig.agent.requests), self.rig.messages()), (1, ()))

    def test_notify_never_is_kept(self) -> None:
        """Who asked for silence gets it (RFC 3461 4.1)."""
        self.rig.agent.answer = lambda request, address: UNKNOWN_USER
        self.rig.accept("q1", remote("x@far.example", notify=("never",)))
        self.rig.advance(2)
        self.assertEqual((self.bounces(), self.rig.messages()), ([], ()))

    def test_failures_of_one_round_share_a_report(self) -> None:
        """Two domains that fail while the message is in work give one report."""
        self.rig.agent.answer = lambda request, address: UNKNOWN_USER
        self.rig.agent.duration = lambda r: 5.0 if r.next_hop == "one.example" else 9.0
        self.rig.accept("q1", remote("x@one.example"), remote("y@two.example"))
        self.rig.advance(12)
        (bounce,) = self.bounces()
        self.assertIn(b"x@one.example", bounce)
        self.assertIn(b"y@two.example", bounce)

    def test_local_failure_is_reported(self) -> None:
        """A full mailbox bounces to the sender with the address that was asked for."""
        self.rig.store.refusals["a"] = [OVER_QUOTA]
        self.rig.accept("q1", local("a@here.example", "a"), local("b@here.example", "b"))
        self.rig.advance(2)
        (bounce,) = self.bounces()
        self.assertIn(b"a@here.example", bounce)
        self.assertIn(("b", "q1"), self.rig.store.durable)
        self.assertEqual(self.rig.messages(), ())

    def test_delay_is_warned_of_once(self) -> None:
        """After four hours one notice, and no second one in five days."""
        self.rig.agent.answer = lambda request, address: BUSY
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.advance(4 * HOUR - 600, 300)
        self.assertEqual(self.bounces(), [])
        self.rig.advance(4 * DAY, 1800)
        (warning,) = self.bounces()
        self.assertIn(b"Action: delayed", warning)
        self.rig.advance(2 * DAY, 1800)
        bounces = self.bounces()
        self.assertEqual(len(bounces), 2)
        self.assertEqual(sum(b"Action: failed" in bounce for bounce in bounces), 1)
        self.assertTrue(any(b"5.4.7" in bounce for bounce in bounces))
        self.assertEqual(self.rig.messages(), ())

    def test_mail_of_this_start_expires_in_time(self) -> None:
        """The grace after a start is for mail that lay still, not for what came since."""
        schedule = RetrySchedule(delays=(10.0,), lifetime=60.0, warning=0)
        self.rig = self.make(schedule=schedule)
        self.rig.agent.answer = lambda request, address: BUSY
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.advance(55)
        self.assertEqual(self.bounces(), [])
        self.rig.advance(10)
        (bounce,) = self.bounces()
        self.assertIn(b"5.4.7", bounce)

    def test_mail_from_before_the_start_is_tried_first(self) -> None:
        """What is too old when the server comes back still has an hour."""
        schedule = RetrySchedule(delays=(10.0,), lifetime=60.0, warning=0)
        self.rig = self.make(schedule=schedule)
        self.rig.agent.answer = lambda request, address: BUSY
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.run()
        self.rig.clock.advance(600)
        again = self.again(schedule=schedule)
        again.agent.answer = lambda request, address: BUSY
        again.start()
        again.advance(1800, 60)
        self.assertEqual(len(again.messages()), 1)
        again.advance(1860, 60)
        self.assertEqual(again.messages(), ())

    def test_report_waits_for_a_full_disk(self) -> None:
        """A report that cannot be committed is made later; nothing is forgotten meanwhile."""
        self.rig.agent.answer = lambda request, address: UNKNOWN_USER
        real = self.rig.spool.accept
        failing = [True]

        def accept(*arguments: Any, **options: Any) -> Any:
            if failing[0] and options.get("closes"):
                raise SpoolFault("set by the test")
            return real(*arguments, **options)

        self.rig.spool.accept = accept  # type: ignore[method-assign]
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.advance(30)
        self.assertEqual(self.rig.messages()[0].recipients[0].state, "failed")
        failing[0] = False
        self.rig.advance(61, 10)
        self.assertEqual((len(self.bounces()), self.rig.messages()), (1, ()))

    def test_report_is_made_after_a_crash_before_it(self) -> None:
        """A failure that was recorded is reported by the next process, once."""
        self.rig.bouncer.stop()
        self.rig.agent.answer = lambda request, address: UNKNOWN_USER
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.run()
        self.assertEqual(self.bounces(), [])
        self.rig = self.again().start()
        self.rig.advance(2)
        self.assertEqual((len(self.bounces()), self.rig.messages()), (1, ()))

    def test_sender_that_leads_nowhere_ends_in_the_log(self) -> None:
        """No report can be delivered, so the failure is dropped visibly."""
        self.rig.routes = lambda address: Recipient(address)
        self.rig.agent.answer = lambda request, address: UNKNOWN_USER
        self.rig.accept("q1", remote("x@far.example"))
        self.rig.advance(2)
        self.assertEqual(self.rig.messages(), ())


class EventTests(DispatchTestCase):
    """One structured event for each stage, with one id in all of them."""

    def test_each_stage_is_logged_with_the_queue_id(self) -> None:
        """Accepted, delivered here, deferred, relayed, removed: in that order."""
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.rig.agent.answer = lambda request, address: BUSY
        self.rig.accept("q1", local("a@here.example", "a"), remote("x@far.example"))
        self.rig.agent.answer = lambda request, address: DELIVERED
        self.rig.advance(302, 10)
        ours = [event for event in events if event.get("queue_id") == "q1"]
        self.assertEqual(
            [event["event"] for event in ours],
            [
                "queue.accepted",
                "queue.attempt",
                "queue.deferred",
                "queue.delivered",
                "queue.attempt",
                "queue.relayed",
                "queue.removed",
            ],
        )
        self.assertEqual((ours[2]["reply"], ours[2]["retry_in"]), (450, 300))
        self.assertEqual((ours[5]["relay_host"], ours[5]["attempts"]), ("mx.example", 2))


class QueueTests(DispatchTestCase):
    """What administrators do."""

    def test_provides_its_interface(self) -> None:
        """IQueue as the seams say."""
        verifyObject(IQueue, self.rig.queue)

    def test_messages_and_message(self) -> None:
        """What waits is shown with its last status; what does not exist is NoSuchEntry."""
        self.rig.agent.answer = lambda request, address: BUSY
        self.rig.accept("q1", remote("x@far.example"), message_id="<m@x>")
        self.rig.accept("q2", remote("y@far.example"), reverse_path=None)
        first, second = self.rig.messages()
        self.assertEqual((first.queue_id, first.reverse_path), ("q1", "sender@here.example"))
        self.assertEqual((first.message_id, second.reverse_path), ("<m@x>", ""))
        recipient = self.rig.wait(self.rig.queue.message(QueueID("q1"))).recipients[0]
        self.assertEqual(
            (recipient.forward_path, recipient.attempts, recipient.last_diagnostic),
            ("x@far.example", 1, "450 try later"),
        )
        self.assertRaises(NoSuchEntry, self.rig.wait, self.rig.queue.message(QueueID("q9")))

    def test_retry_is_now(self) -> None:
        """One message or all are attempted at once."""
        self.rig.agent.answer = lambda request, address: BUSY
        for n in range(3):
            self.rig.accept(f"q{n}", remote(f"x@d{n}.example"))
        self.rig.run()
        self.assertEqual(self.rig.wait(self.rig.queue.retry([QueueID("q1")])), 1)
        self.rig.run()
        self.assertEqual([r.queue_id for r in self.rig.agent.requests[3:]], ["q1"])
        self.assertEqual(self.rig.wait(self.rig.queue.retry(None)), 3)
        self.rig.run()
        self.assertEqual(len(self.rig.agent.requests), 7)

    def test_retry_forgets_what_was_found_before(self) -> None:
        """Who keeps dead hosts in mind is told first that attempts are wanted now."""
        told: list[int] = []
        rig = self.rig
        queue = MailQueue(
            rig.spool,
            rig.dispatcher,
            rig.bouncer,
            before_retry=lambda: told.append(len(rig.agent.requests)),
        )
        rig.agent.answer = lambda request, address: UNREACHABLE
        rig.accept("q1", remote("x@far.example"))
        rig.run()
        rig.wait(queue.retry(None))
        rig.run()
        self.assertEqual((told, len(rig.agent.requests)), ([1], 2))

    def test_delete_is_without_a_bounce(self) -> None:
        """A deleted message is gone with its file, its running attempt cancelled."""
        self.rig.agent.duration = lambda request: 100.0
        self.rig.accept("q1", remote("x@far.example"), content=bytes(100_000))
        self.rig.run()
        gone = self.rig.wait(self.rig.queue.delete([QueueID("q1"), QueueID("none")]))
        self.assertEqual((gone, self.rig.agent.cancelled), (1, 1))
        self.rig.advance(10)
        self.assertEqual((self.rig.messages(), self.bounces()), ((), []))
        self.assertEqual(list((self.directory / "content").iterdir()), [])

    def test_retry_of_a_busy_mailbox(self) -> None:
        """Local mail that waits is delivered when an administrator says so."""
        self.rig.store.refusals["a"] = [LOCKED]
        self.rig.accept("q1", local("a@here.example", "a"))
        self.rig.advance(1)
        del self.rig.store.refusals["a"]
        self.rig.wait(self.rig.queue.retry(None))
        self.rig.run()
        self.assertIn(("a", "q1"), self.rig.store.durable)


class ModelTests(DispatchTestCase):
    """A long simulated run against what must hold at its end (P2, P3)."""

    def test_every_message_ends_delivered_or_bounced(self) -> None:
        """A thousand messages, moody destinations, restarts: each ends once, none twice."""
        chance = random.Random(20)
        hops = [f"d{n}.example" for n in range(25)]
        mood = {hop: chance.choice(["good", "busy", "dead", "flaky", "rude"]) for hop in hops}
        mood["d0.example"], mood["d1.example"] = "busy", "dead"

        def answer(request: DeliveryRequest, address: Address) -> DeliveryStatus:
            kind = mood.get(request.next_hop, "good")
            if kind == "flaky":
                return chance.choice([DELIVERED, BUSY, UNREACHABLE])
            return {"good": DELIVERED, "busy": BUSY, "dead": UNREACHABLE, "rude": UNKNOWN_USER}[
                kind
            ]

        schedule = RetrySchedule(lifetime=DAY)

        def equip(rig: Rig) -> Rig:
            rig.agent.answer = answer
            rig.agent.duration = lambda request: chance.choice([0.0, 0.5, 3.0])
            return rig

        def listen(rig: Rig) -> None:
            relayed.extend(rig.agent.relayed)
            rig.agent.relayed.clear()

        relayed: list[tuple[str, str]] = []
        expected: set[tuple[str, str]] = set()
        self.rig = equip(self.make(schedule=schedule))
        for number in range(1000):
            hop = chance.choice(hops)
            self.rig.send(f"m{number:04}", remote(f"u{number}@{hop}"))
            expected.add((f"m{number:04}", f"u{number}@{hop}"))
            if number % 100 == 99:
                self.rig.advance(chance.choice([1, 30]), 1)
        for _ in range(2):
            self.rig.stop()
            listen(self.rig)
            self.rig = equip(
                Rig(self.directory, clock=self.rig.clock, store=self.rig.store, schedule=schedule)
            ).start()
            self.rig.advance(HOUR, 60)
        for _ in range(30_000):
            if not self.rig.next_event() or self.rig.clock.seconds() > 7 * DAY:
                break
        listen(self.rig)
        self.assertEqual(self.rig.messages(), ())
        self.assertEqual(self.rig.clock.getDelayedCalls(), [])
        bounced = self.bounced_addresses()
        self.assertEqual(len(relayed), len(set(relayed)))
        self.assertEqual(len(bounced), len(set(bounced)))
        self.assertEqual(
            sorted(bounced + [address for _, address in relayed]),
            sorted(address for _, address in expected),
        )
        certain = {"good": False, "busy": True, "dead": True, "rude": True}
        for _, address in expected:
            kind = mood[address.split("@")[1]]
            self.assertEqual(address in bounced, certain.get(kind, address in bounced))

    def bounced_addresses(self) -> list[str]:
        """The final recipients of every failure report in the sender's mailbox."""
        return [
            line.split()[-1].decode()
            for octets in self.bounces()
            if b"Action: failed" in octets
            for line in octets.split(b"\r\n")
            if line.startswith(b"Final-Recipient:")
        ]
