"""Which recipients are taken: open relay matrix, refusals, capture of all that would leave."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost.address import Address
from mailhost.directory.capture_policy import CapturePolicy
from mailhost.directory.realm import Submission
from mailhost.directory.recipient_policy import RecipientPolicy
from mailhost.directory.roster import OwnNames
from mailhost.errors import SyntaxFault
from mailhost.interfaces.directory import IRecipientPolicy
from mailhost.interfaces.spool import LocalTarget, Recipient
from mailhost.reply import Reply
from tests.contracts.directory import HOSTS, PASSWORD, at
from tests.directory.relay_forms import RELAY_FORMS
from tests.fakes import FakeDirectory


def parse_path(text: str) -> Address:
    """The mailbox of a path; a source route is dropped (RFC 5321 C)."""
    if text.startswith("@") and ":" in text:
        text = text[text.rindex(":@" if ":@" in text else ":") + 1 :]
    return Address.parse(text)


class LateDirectory(FakeDirectory):
    """A directory that answers when it is told to."""

    def __init__(self, names: OwnNames) -> None:
        super().__init__(names)
        self.waiting: list[tuple[Deferred, Any]] = []
        self.late = False

    def classify(self, address: Address) -> Any:
        answer = super().classify(address)
        if not self.late:
            return answer
        deferred: Deferred = Deferred()
        self.waiting.append((deferred, answer))
        return deferred

    def run(self) -> None:
        """Give every answer that is awaited."""
        while self.waiting:
            deferred, answer = self.waiting.pop(0)
            deferred.callback(answer)


class PolicyTestCase(SynchronousTestCase):
    """A directory with accounts and aliases."""

    def setUp(self) -> None:
        self.directory = LateDirectory(HOSTS)
        self.directory.add_domain("example.org")
        self.ann = self.successResultOf(self.directory.add_account(at("ann@example.org"), PASSWORD))
        self.bob = self.successResultOf(self.directory.add_account(at("bob@example.org"), PASSWORD))
        self.directory.add_alias(
            at("mixed@example.org"), [at("ann@example.org"), at("x@far.example")]
        )
        self.sender = Submission(self.ann.account_id, self.ann.address, self.directory)

    def ask(self, policy: Any, address: str, submission: Any = None) -> Any:
        """The ruling, the same at once and late."""
        at_once = policy.recipient(at(address), submission)
        self.assertNotIsInstance(at_once, Deferred)
        self.directory.late = True
        late = policy.recipient(at(address), submission)
        self.assertNoResult(late)
        self.directory.run()
        self.directory.late = False
        self.assertEqual(self.successResultOf(late), at_once)
        return at_once


class RecipientPolicyTests(PolicyTestCase):
    """A server on the Internet."""

    def setUp(self) -> None:
        super().setUp()
        self.policy = RecipientPolicy(self.directory)

    def refusal(self, address: str, submission: Any = None) -> tuple[int, str]:
        """Code and enhanced status with which an address is refused."""
        reply = self.ask(self.policy, address, submission)
        assert isinstance(reply, Reply), reply
        return reply.code, reply.enhanced

    def test_provides_the_interface(self) -> None:
        """Both policies have the method."""
        self.assertTrue(verifyObject(IRecipientPolicy, self.policy))
        capture = CapturePolicy(self.directory, self.ann.address)
        self.assertTrue(verifyObject(IRecipientPolicy, capture))

    def test_no_open_relay(self) -> None:
        """Every classic form of relaying is refused to a stranger (R-73)."""
        self.assertGreater(len(RELAY_FORMS), 50)
        self.assertEqual(len(set(RELAY_FORMS)), len(RELAY_FORMS))
        for form in RELAY_FORMS:
            try:
                address = parse_path(form)
            except SyntaxFault:
                continue
            ruling = self.policy.recipient(address, None)
            self.assertIsInstance(ruling, Reply, form)
            self.assertEqual(ruling.code, 550, form)
            self.assertIn(ruling.enhanced, ("5.1.1", "5.7.1"), form)

    def test_relaying_is_denied_for_outside_domains(self) -> None:
        """A stranger's mail for elsewhere is 5.7.1."""
        self.assertEqual(self.refusal("x@far.example"), (550, "5.7.1"))
        self.assertEqual(self.refusal("x@[192.0.2.200]"), (550, "5.7.1"))

    def test_unknown_user(self) -> None:
        """An unknown address of ours is 5.1.1, for who logged in too (R-74)."""
        self.assertEqual(self.refusal("nobody@example.org"), (550, "5.1.1"))
        self.assertEqual(self.refusal("nobody@[192.0.2.1]"), (550, "5.1.1"))
        self.assertEqual(self.refusal("nobody@example.org", self.sender), (550, "5.1.1"))

    def test_disabled(self) -> None:
        """A disabled account is 5.2.1, or 4.2.1 where that is wanted."""
        self.directory.set_enabled(self.bob.account_id, False)
        self.assertEqual(self.refusal("bob@example.org"), (550, "5.2.1"))
        self.policy = RecipientPolicy(self.directory, disabled_is_temporary=True)
        self.assertEqual(self.refusal("bob@example.org"), (450, "4.2.1"))

    def test_local(self) -> None:
        """An address of ours is taken from anybody, with all that it expands to."""
        for submission in (None, self.sender):
            self.assertEqual(
                self.ask(self.policy, "Ann@example.org", submission),
                Recipient(at("Ann@example.org"), (LocalTarget(self.ann.account_id),)),
            )
            mixed = at("mixed@example.org")
            self.assertEqual(
                self.ask(self.policy, "mixed@example.org", submission),
                Recipient(
                    mixed,
                    (LocalTarget(self.ann.account_id, delivered_to=mixed),),
                    (at("x@far.example"),),
                ),
            )

    def test_postmaster(self) -> None:
        """Postmaster is always there, at the domain, the host name and the literal."""
        for address in (
            "postmaster@example.org",
            "Postmaster@mx.example.org",
            "postmaster@[192.0.2.1]",
        ):
            ruling = self.ask(self.policy, address)
            self.assertEqual([each.account_id for each in ruling.local], [self.ann.account_id])

    def test_submission_goes_anywhere(self) -> None:
        """Who logged in may write to any domain, and to a literal."""
        for address in ("x@far.example", "x@[192.0.2.200]", "a%b@far.example"):
            self.assertEqual(
                self.ask(self.policy, address, self.sender),
                Recipient(at(address), remote=(at(address),)),
            )


class CapturePolicyTests(PolicyTestCase):
    """Local mode."""

    def setUp(self) -> None:
        super().setUp()
        self.policy = CapturePolicy(self.directory, at("bob@example.org"))

    def test_nothing_leaves(self) -> None:
        """Whatever the form, and whoever asks, no ruling has a remote address."""
        for form in (*RELAY_FORMS, "mixed@example.org", "ann@example.org"):
            try:
                address = parse_path(form)
            except SyntaxFault:
                continue
            for submission in (None, self.sender):
                ruling = self.policy.recipient(address, submission)
                if isinstance(ruling, Recipient):
                    self.assertEqual(ruling.remote, (), form)
                    self.assertTrue(ruling.local, form)

    def test_the_sender_gets_it(self) -> None:
        """Mail of who logged in lands in their INBOX, with the recipient in Delivered-To."""
        far = at("x@far.example")
        self.assertEqual(
            self.ask(self.policy, "x@far.example", self.sender),
            Recipient(far, (LocalTarget(self.ann.account_id, delivered_to=far),)),
        )

    def test_the_taker_gets_it(self) -> None:
        """Mail of who did not log in lands with the named account."""
        far = at("x@far.example")
        self.assertEqual(
            self.ask(self.policy, "x@far.example"),
            Recipient(far, (LocalTarget(self.bob.account_id, delivered_to=far),)),
        )

    def test_alias_to_the_outside(self) -> None:
        """Outside targets of an alias are captured as well, local ones delivered."""
        mixed = at("mixed@example.org")
        self.assertEqual(
            self.ask(self.policy, "mixed@example.org").local,
            (
                LocalTarget(self.ann.account_id, delivered_to=mixed),
                LocalTarget(self.bob.account_id, delivered_to=at("x@far.example")),
            ),
        )

    def test_local_mail_is_as_ever(self) -> None:
        """Local addresses are delivered, unknown and disabled ones refused."""
        self.assertEqual(
            self.ask(self.policy, "ann@example.org").local, (LocalTarget(self.ann.account_id),)
        )
        self.assertEqual(self.ask(self.policy, "nobody@example.org").enhanced, "5.1.1")
        self.directory.set_enabled(self.ann.account_id, False)
        self.assertEqual(self.ask(self.policy, "ann@example.org").enhanced, "5.2.1")

    def test_no_taker(self) -> None:
        """Without the named account such mail is refused for now."""
        self.directory.delete_account(self.bob.account_id)
        self.assertEqual(self.ask(self.policy, "x@far.example").code, 450)
