"""The stores of a stopped server."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.address import Address
from mailhost.admin.offline import OfflineQueue, finished, stores
from mailhost.config.sections import Config, Login
from mailhost.errors import MailhostError, NoSuchEntry
from mailhost.interfaces.login import IAdministration
from mailhost.interfaces.spool import IQueue
from mailhost.reply import Action, DeliveryStatus
from mailhost.units import QueueID
from tests.queue.rig import Rig, local, remote

BUSY = DeliveryStatus(Action.DELAYED, "4.2.0", "450 try later", "mx.far.example", reply_code=450)


class FinishedTests(SynchronousTestCase):
    """Results that are there at once."""

    def test_value_error_and_neither(self) -> None:
        """A value is returned, an error raised, and what is late is a fault."""
        self.assertEqual(finished(succeed(1)), 1)
        self.assertRaises(NoSuchEntry, finished, fail(NoSuchEntry("none")))
        self.assertRaises(MailhostError, finished, Deferred())


class StoresTests(SynchronousTestCase):
    """Opening and closing."""

    def test_they_are_an_administration(self) -> None:
        """The verbs work with them as with a server's."""
        data = Path(self.mktemp()).absolute()
        data.mkdir()
        for scram in (True, False):
            config = Config(hostname="a.example", data_directory=data, login=Login(scram=scram))
            with stores(config) as administration:
                verifyObject(IAdministration, administration)
                verifyObject(IQueue, administration.queue)
                name = f"{scram}.example".lower()
                finished(administration.directory.add_domain(name))
                account = finished(
                    administration.directory.add_account(Address("x", name), "long password")
                )
                self.assertTrue(account.enabled)


class OfflineQueueTests(SynchronousTestCase):
    """The queue of a stopped server."""

    def test_it_is_made_when_absent(self) -> None:
        """Before the first start there is an empty queue."""
        queue = OfflineQueue(Path(self.mktemp()))
        self.addCleanup(queue.close)
        self.assertEqual(finished(queue.messages()), ())
        self.assertEqual(finished(queue.retry(None)), 0)

    def stopped(self) -> tuple[Path, Rig]:
        """Return the directory of a queue that was stopped with two messages in it."""
        directory = Path(self.mktemp())
        rig = Rig(directory).start()
        rig.agent.answer = lambda request, address: BUSY
        rig.accept("q1", remote("x@far.example"), content=bytes(100_000))
        rig.accept("q2", remote("y@far.example"))
        rig.run()
        rig.stop()
        return directory, rig

    def test_what_a_server_left_is_listed(self) -> None:
        """With the last answer of each next hop."""
        directory, _ = self.stopped()
        queue = OfflineQueue(directory)
        self.addCleanup(queue.close)
        first, second = finished(queue.messages())
        self.assertEqual((first.queue_id, second.queue_id), ("q1", "q2"))
        self.assertEqual(first.recipients[0].last_diagnostic, "450 try later")
        self.assertEqual(finished(queue.message(QueueID("q2"))), second)
        self.assertRaises(NoSuchEntry, finished, queue.message(QueueID("q9")))

    def test_what_is_retried_is_attempted_by_the_next_server(self) -> None:
        """The attempt is due when it starts; others wait for their time."""
        directory, rig = self.stopped()
        queue = OfflineQueue(directory, rig.wall)
        self.assertEqual(finished(queue.retry([QueueID("q2")])), 1)
        queue.close()
        after = Rig(directory, clock=rig.clock).start()
        after.run()
        self.assertEqual([request.queue_id for request in after.agent.requests], ["q2"])
        after.stop()

    def test_what_is_deleted_is_gone(self) -> None:
        """Without a bounce, and the next start sweeps its content."""
        directory, rig = self.stopped()
        queue = OfflineQueue(directory)
        self.assertEqual(finished(queue.delete([QueueID("q1"), QueueID("q9")])), 1)
        self.assertEqual([each.queue_id for each in finished(queue.messages())], ["q2"])
        queue.close()
        after = Rig(directory, clock=rig.clock).start()
        self.assertEqual([each.queue_id for each in after.messages()], ["q2"])
        self.assertEqual(list((directory / "content").iterdir()), [])
        after.stop()

    def test_unsettled_mail_is_left_to_recovery(self) -> None:
        """A copy that is not durable in its mailbox yet stays in the spool (P1)."""
        directory = Path(self.mktemp())
        rig = Rig(directory).start()
        rig.accept("q1", local("a@here.example", "a"), remote("x@far.example"))
        rig.threads.runner.journal._database.close()
        queue = OfflineQueue(directory)
        finished(queue.delete([QueueID("q1")]))
        queue.close()
        after = Rig(directory, clock=rig.clock, store=rig.store.after_kill()).start()
        after.advance(5)
        self.assertIn(("a", "q1"), after.store.durable)
        after.stop()
