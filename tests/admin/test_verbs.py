"""Administrative verbs: arguments, results, refusals and exit statuses."""

from __future__ import annotations

import inspect
import json
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mailhost.admin.errors import CommandRefused, ExitStatus, UsageFault, failure_of
from mailhost.admin.verbs import VERBS, perform
from mailhost.directory.directory import Directory
from mailhost.directory.realm import Administration
from mailhost.errors import (
    ConfigError,
    DataDirectoryBusy,
    DataDirectoryError,
    DirectoryError,
    EntryExists,
    NoSuchEntry,
    SpoolFull,
    SyntaxFault,
)
from mailhost.interfaces.spool import IQueue, QueuedMessage, QueuedRecipient
from mailhost.units import QueueID
from tests.contracts.directory import PASSWORD
from tests.directory.test_directory import open_store


def queued(name: str, sender: str, *recipients: str) -> QueuedMessage:
    """A message with one failed attempt for each recipient."""
    return QueuedMessage(
        QueueID(name),
        sender,
        1_700_000_000.0,
        4096,
        f"<{name}@example.org>",
        tuple(
            QueuedRecipient(
                each,
                "far.example",
                "waiting",
                number,
                1_700_000_000.0 + 60 / number,
                "4.4.1",
                f"answer {number}",
                "mx.far.example",
            )
            for number, each in enumerate(recipients, 1)
        ),
    )


@implementer(IQueue)
class Queue:
    """Two messages that wait."""

    def __init__(self) -> None:
        self.held = {
            message.queue_id: message
            for message in (
                queued("m1", "ann@example.org", "x@far.example", "y@far.example"),
                queued("m2", "", "Ann@Example.org"),
            )
        }
        self.retried: list[Any] = []

    def messages(self) -> Deferred:
        return execute(lambda: tuple(self.held.values()))

    def message(self, queue_id) -> Deferred:
        def find() -> QueuedMessage:
            if queue_id not in self.held:
                raise NoSuchEntry(f"there is no message {queue_id} in the queue")
            return self.held[queue_id]

        return execute(find)

    def retry(self, queue_ids) -> Deferred:
        self.retried.append(queue_ids)
        return execute(lambda: len(self.held if queue_ids is None else queue_ids))

    def delete(self, queue_ids) -> Deferred:
        return execute(lambda: len([self.held.pop(each) for each in queue_ids]))


class VerbTestCase(SynchronousTestCase):
    """Verbs over a real directory and a queue of two."""

    def setUp(self) -> None:
        directory = Directory(open_store(self.mktemp()), execute, Clock())
        self.addCleanup(directory.close)
        self.queue = Queue()
        self.administration = Administration(directory, self.queue)

    def do(self, noun: str, verb: str, **given: Any) -> Any:
        """The result of a verb, which JSON can carry."""
        result = self.successResultOf(
            Deferred.fromCoroutine(perform(self.administration, noun, verb, given))
        )
        self.assertEqual(json.loads(json.dumps(result)), result)
        return result

    def fails(self, noun: str, verb: str, **given: Any) -> tuple[int, str]:
        """Exit status and kind with which a verb fails."""
        failure = self.failureResultOf(
            Deferred.fromCoroutine(perform(self.administration, noun, verb, given))
        )
        shown = failure_of(failure.value)
        self.assertNotIn("\n", shown.message)
        return shown.status, shown.kind

    def populate(self) -> None:
        """One domain, one account, one alias."""
        self.do("domain", "add", name="example.org")
        self.do("account", "add", address="ann@example.org", password=PASSWORD, display_name="Ann")
        self.do("alias", "add", address="info@example.org", targets=["ann@example.org"])


class TableTests(SynchronousTestCase):
    """The table itself."""

    def test_every_verb_of_every_noun(self) -> None:
        """The four words that mean the same everywhere are there, with queue's own add missing."""
        for noun in ("account", "domain", "alias"):
            for verb in ("list", "show", "add", "delete"):
                self.assertIn((noun, verb), VERBS)
        for verb in ("list", "show", "retry", "delete"):
            self.assertIn(("queue", verb), VERBS)
        for verb in ("passwd", "disable", "enable"):
            self.assertIn(("account", verb), VERBS)

    def test_signatures_agree(self) -> None:
        """What a verb says it takes, its function takes, and nothing else."""
        for verb in VERBS.values():
            parameters = inspect.signature(verb.run).parameters
            expected = {argument.name for argument in verb.arguments}
            expected |= {option.keyword for option in verb.options}
            expected |= {"password"} if verb.password else set()
            self.assertEqual(set(parameters) - {"administration"}, expected, verb.name)
            self.assertTrue(inspect.iscoroutinefunction(verb.run))
            self.assertTrue(verb.summary.endswith("."))
            self.assertFalse(any(each.many for each in verb.arguments[:-1]))

    def test_no_password_option(self) -> None:
        """A password is never a word of the command line."""
        for verb in VERBS.values():
            for named in (*verb.arguments, *verb.options):
                self.assertNotIn("password", named.name)


class BindTests(VerbTestCase):
    """Arguments from outside."""

    def test_usage(self) -> None:
        """Unknown verbs, unknown, missing and ill-typed arguments are usage errors."""
        for noun, verb, given in (
            ("account", "rename", {}),
            ("message", "list", {}),
            ("account", "show", {}),
            ("account", "show", {"address": None}),
            ("account", "show", {"address": 7}),
            ("account", "show", {"address": "a@b", "password": "x"}),
            ("account", "list", {"limit": "7"}),
            ("account", "list", {"limit": -1}),
            ("account", "list", {"limit": True}),
            ("account", "list", {"disabled": "yes"}),
            ("account", "add", {"address": "ann@example.org"}),
            ("account", "passwd", {"address": "ann@example.org", "generate": False}),
            ("alias", "add", {"address": "i@example.org"}),
            ("alias", "add", {"address": "i@example.org", "targets": []}),
            ("alias", "add", {"address": "i@example.org", "targets": ["a@b", 7]}),
            ("alias", "add", {"address": "i@example.org", "targets": "a@b"}),
            ("queue", "retry", {}),
            ("queue", "delete", {"queue_ids": []}),
            ("queue", "delete", {"queue_ids": ["m1"], "all": True}),
        ):
            status = self.fails(noun, verb, **given)
            self.assertEqual(status, (ExitStatus.USAGE, "usage"), (noun, verb, given))


class AccountVerbTests(VerbTestCase):
    """Accounts."""

    def test_life_of_an_account(self) -> None:
        """Add, show, list, change, disable, enable and delete."""
        self.populate()
        shown = self.do("account", "show", address="ANN@example.org")
        self.assertEqual(shown["address"], "ann@example.org")
        self.assertEqual(shown["display_name"], "Ann")
        self.assertTrue(shown["enabled"])
        self.assertNotIn("password", shown)
        self.assertEqual(self.do("account", "show", address=shown["account_id"]), shown)
        self.assertEqual(self.do("account", "list"), [shown])
        self.assertNotIn(
            "password", self.do("account", "passwd", address="ann@example.org", password="12345678")
        )
        self.assertFalse(self.do("account", "disable", address="ann@example.org")["enabled"])
        self.assertEqual(len(self.do("account", "list", disabled=True)), 1)
        self.assertTrue(self.do("account", "enable", address="ann@example.org")["enabled"])
        self.assertEqual(self.do("account", "list", disabled=True), [])
        self.assertEqual(self.do("account", "delete", address="ann@example.org"), shown)
        self.assertEqual(self.do("account", "list"), [])

    def test_generated_passwords(self) -> None:
        """A password that was made is in the result, and differs each time."""
        self.do("domain", "add", name="example.org")
        added = self.do("account", "add", address="ann@example.org", generate=True)
        changed = self.do("account", "passwd", address="ann@example.org", generate=True)
        self.assertRegex(added["password"], "^[a-z2-9-]{19}$")
        self.assertNotEqual(added["password"], changed["password"])

    def test_filters(self) -> None:
        """By domain and number."""
        self.populate()
        self.do("domain", "add", name="other.example")
        for number in range(3):
            self.do("account", "add", address=f"u{number}@other.example", password=PASSWORD)
        self.assertEqual(len(self.do("account", "list")), 4)
        self.assertEqual(len(self.do("account", "list", domain="other.example")), 3)
        self.assertEqual(len(self.do("account", "list", domain="other.example", limit=2)), 2)
        self.assertEqual(self.do("account", "list", limit=0), [])

    def test_refusals(self) -> None:
        """Each has its exit status and kind."""
        self.populate()
        data = ExitStatus.DATA
        for verb, given, kind in (
            ("add", {"address": "ann@example.org", "password": PASSWORD}, "entry-exists"),
            ("add", {"address": "info@example.org", "password": PASSWORD}, "entry-exists"),
            ("add", {"address": "x@far.example", "password": PASSWORD}, "no-such-entry"),
            ("add", {"address": "x", "password": PASSWORD}, "syntax"),
            ("add", {"address": "x@example.org", "password": "short"}, "refused"),
            ("show", {"address": "info@example.org"}, "no-such-entry"),
            ("show", {"address": "0" * 26}, "no-such-entry"),
            ("delete", {"address": "x@example.org"}, "no-such-entry"),
            ("passwd", {"address": "x@example.org", "password": PASSWORD}, "no-such-entry"),
            ("disable", {"address": "nonsense"}, "syntax"),
            ("list", {"domain": "far.example"}, "no-such-entry"),
        ):
            self.assertEqual(self.fails("account", verb, **given), (data, kind), (verb, given))


class DomainAndAliasVerbTests(VerbTestCase):
    """Domains and aliases."""

    def test_domains(self) -> None:
        """A domain counts its entries, and stays while it has any."""
        self.populate()
        shown = self.do("domain", "show", name="EXAMPLE.org")
        self.assertEqual((shown["accounts"], shown["aliases"]), (1, 1))
        self.assertEqual([each["name"] for each in self.do("domain", "list")], ["example.org"])
        self.assertEqual(
            self.fails("domain", "delete", name="example.org"), (ExitStatus.DATA, "refused")
        )
        self.do("alias", "delete", address="info@example.org")
        self.do("account", "delete", address="ann@example.org")
        self.assertEqual(self.do("domain", "delete", name="example.org")["name"], "example.org")
        self.assertEqual(self.do("domain", "list"), [])
        for verb in ("show", "delete"):
            self.assertEqual(self.fails("domain", verb, name="example.org")[1], "no-such-entry")
        self.assertEqual(self.fails("domain", "add", name="no domain")[1], "syntax")

    def test_aliases(self) -> None:
        """An alias is shown with its targets."""
        self.populate()
        shown = self.do("alias", "show", address="Info@example.org")
        self.assertEqual(shown["targets"], ["ann@example.org"])
        self.assertEqual(self.do("alias", "list", domain="example.org"), [shown])
        self.assertEqual(self.do("alias", "list", limit=0), [])
        self.assertEqual(self.do("alias", "delete", address="INFO@example.org"), shown)
        self.assertEqual(self.do("alias", "list"), [])
        for verb in ("show", "delete"):
            status = self.fails("alias", verb, address="info@example.org")
            self.assertEqual(status, (ExitStatus.DATA, "no-such-entry"))


class QueueVerbTests(VerbTestCase):
    """The queue."""

    def ids(self, **given: Any) -> list[str]:
        """Ids of the messages that a list selects."""
        return [each["queue_id"] for each in self.do("queue", "list", **given)]

    def test_list(self) -> None:
        """Messages by sender and recipient, with the soonest attempt and the last answer."""
        self.assertEqual(self.ids(), ["m1", "m2"])
        self.assertEqual(self.ids(limit=1), ["m1"])
        self.assertEqual(self.ids(sender="ANN@example.org"), ["m1"])
        self.assertEqual(self.ids(sender="<>"), ["m2"])
        self.assertEqual(self.ids(recipient="@example.org"), ["m2"])
        self.assertEqual(self.ids(recipient="Y@FAR.example"), ["m1"])
        self.assertEqual(self.ids(recipient="far.example"), [])
        first = self.do("queue", "list")[0]
        self.assertEqual(first["next_attempt"], 1_700_000_030.0)
        self.assertEqual(first["last_diagnostic"], "answer 2")
        self.assertEqual(first["forward_paths"], ["x@far.example", "y@far.example"])

    def test_show(self) -> None:
        """One message has the state of each recipient."""
        shown = self.do("queue", "show", queue_id="m1")
        self.assertEqual([each["attempts"] for each in shown["recipients"]], [1, 2])
        status = self.fails("queue", "show", queue_id="m9")
        self.assertEqual(status, (ExitStatus.DATA, "no-such-entry"))

    def test_retry(self) -> None:
        """Some or all are tried now; a mistyped id stops it before anything is done."""
        self.assertEqual(self.do("queue", "retry", queue_ids=["m1"]), {"messages": 1})
        self.assertEqual(self.do("queue", "retry", all=True), {"messages": 2})
        self.assertEqual(self.fails("queue", "retry", queue_ids=["m1", "m9"])[1], "no-such-entry")
        self.assertEqual(self.queue.retried, [["m1"], None])

    def test_delete(self) -> None:
        """Some or all are dropped; a mistyped id stops it before anything is done."""
        self.assertEqual(self.fails("queue", "delete", queue_ids=["m1", "m9"])[1], "no-such-entry")
        self.assertEqual(len(self.queue.held), 2)
        self.assertEqual(self.do("queue", "delete", queue_ids=["m1"]), {"messages": 1})
        self.assertEqual(self.do("queue", "delete", all=True), {"messages": 1})
        self.assertEqual(self.queue.held, {})


class StatusTests(SynchronousTestCase):
    """Errors and exit statuses."""

    def test_statuses(self) -> None:
        """Each class of error has its status of sysexits."""
        for error, status in (
            (UsageFault("x"), 64),
            (CommandRefused("x"), 65),
            (EntryExists("x"), 65),
            (NoSuchEntry("x"), 65),
            (DirectoryError("x"), 65),
            (SyntaxFault(0, "x"), 65),
            (ConnectionRefusedError("x"), 69),
            (SpoolFull("x"), 75),
            (OSError(28, "No space left on device"), 75),
            (PermissionError(13, "x"), 77),
            (ConfigError("a.b", "x"), 78),
            (DataDirectoryError("x"), 78),
            (DataDirectoryBusy("x"), 75),
        ):
            self.assertEqual(failure_of(error).status, status, error)

    def test_our_own_faults(self) -> None:
        """A bug is temporary, and its text, which may hold anything, is not shown."""
        shown = failure_of(KeyError("secret"))
        self.assertEqual((shown.status, shown.kind), (ExitStatus.TEMPORARY, "internal"))
        self.assertNotIn("secret", shown.message)
