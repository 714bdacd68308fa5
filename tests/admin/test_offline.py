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
