"""Logins: every mechanism, what they cost, what is remembered, what is told and logged."""

from __future__ import annotations

import sqlite3
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, execute, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsJSON
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailhost.directory.authentication import Authenticator
from mailhost.directory.checkers import (
    LocalOperator,
    OperatorChecker,
    PasswordChecker,
    PasswordLogin,
    ProvenChecker,
)
from mailhost.directory.credentials import PasswordCheck, RememberedProofs, SCRAMCredentials
from mailhost.directory.directory import Directory
from mailhost.directory.login_limits import LoginLimits
from mailhost.directory.passwords import PasswordHash, check_password, random_password
from mailhost.directory.realm import Realm
from mailhost.directory.store import ARGON2ID
from mailhost.errors import DirectoryError, StorageError
from mailhost.interfaces.access import IMailAccess, IMailStore
from mailhost.interfaces.login import (
    Challenge,
    ConnectionFacts,
    IAdministration,
    IAuthentication,
    IAuthenticator,
    ISubmission,
    LoggedIn,
    LoginFailure,
)
from mailhost.units import AccountID
from mailhost.wire import sasl
from tests.contracts.directory import PASSWORD, at
from tests.directory.test_directory import QUICK, Later, open_store

BINDING = ("tls-exporter", b"E" * 32)
TLS = ConnectionFacts("s1", "imap", "192.0.2.7", "TLSv1.3", channel_bindings=(BINDING,))
CLEAR = ConnectionFacts("s2", "imap", "192.0.2.7")
LOOPBACK = ConnectionFacts("s3", "imap", "127.0.0.1", cleartext_login=True)
MECHANISMS = (b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256", b"PLAIN", b"LOGIN")


class CountedHash:
    """argon2id that says how often it ran."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def verify(self, verifier: bytes, prepared: str) -> bool:
        self.calls.append("verify")
        return QUICK.verify(verifier, prepared)

    def waste(self, prepared: str) -> None:
        self.calls.append("waste")
        QUICK.waste(prepared)


class Access:
    """Stands for somebody's mail."""

    def __init__(self, account_id, address) -> None:
        self.account_id = account_id
        self.address = address


@implementer(IMailStore)
class Mail:
    """A mail store that gives `Access`, or what it is told."""

    answer: Any = None

    def access(self, account_id, address) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or Access(account_id, address)


class LoginTestCase(SynchronousTestCase):
    """A directory with Ann and Bob, and all that logins need."""

    hash_later = False

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = self.mktemp()
        self.directory = Directory(open_store(self.path), execute, self.clock)
        self.addCleanup(self.directory.close)
        self.directory.add_domain("example.org")
        self.ann = self.successResultOf(self.directory.add_account(at("ann@example.org"), PASSWORD))
        self.bob = self.successResultOf(
            self.directory.add_account(at("bob@example.org"), "bob's password")
        )
        self.looked_up: list[Any] = []
        credentials = self.directory.credentials

        def counted(account_id, kind) -> Deferred:
            self.looked_up.append(kind)
            return credentials(account_id, kind)

        self.directory.credentials = counted
        self.hash = CountedHash()
        self.threads = Later()
        self.passwords = PasswordCheck(
            self.directory,
            self.threads if self.hash_later else execute,
            self.clock,
            lambda: 1_700_000_000.0 + self.clock.seconds(),
            password_hash=self.hash,
            waiting=3,
            lifetime=3600.0,
            capacity=5,
        )
        self.directory.watch_credentials(self.passwords.forget)
        self.mail = Mail()
        self.realm = Realm(self.directory, self.directory, self.mail, "queue")
        self.portal = Portal(
            self.realm,
            [
                PasswordChecker(self.directory, self.passwords),
                ProvenChecker(self.directory),
                OperatorChecker({1000}),
            ],
        )
        self.limits = LoginLimits(self.clock)
        self.authenticator = Authenticator(
            self.portal,
            self.directory,
            SCRAMCredentials(self.directory, lambda: 1_700_000_000.0, 4096),
            self.limits,
            self.clock,
        )

    def now(self, answer: Any) -> Any:
        """The answer, after all the waiting it needs."""
        if not isinstance(answer, Deferred):
            return answer
        results: list[Any] = []
        answer.addBoth(results.append)
        for _ in range(20):
            self.threads.run()
            if results:
                return results[0]
            self.clock.advance(1.0)
        raise AssertionError("no answer")

    def exchange(
        self,
        mechanism: bytes,
        user: str = "ann@example.org",
        password: str = PASSWORD,
        *,
        facts: ConnectionFacts = TLS,
        interface: Any = IMailAccess,
        initial: bool = True,
    ) -> Any:
        """Log in as a client would; check the server's last word."""
        client = sasl.client_mechanism(
            mechanism,
            user,
            password,
            channel_binding=BINDING if mechanism.endswith(b"-PLUS") else None,
        )
        server = self.authenticator.begin(mechanism, facts, interface)
        assert client is not None and server is not None
        said = client.initial() if initial else None
        for _ in range(4):
            answer = self.now(server.respond(said))
            if not isinstance(answer, Challenge):
                if isinstance(answer, LoggedIn) and answer.final is not None:
                    client.respond(answer.final)
                if isinstance(answer, LoggedIn):
                    self.assertTrue(client.satisfied)
                return answer
            said = client.respond(answer.data)
        raise AssertionError("the exchange does not end")

    def login(self, user: str, password: str, facts: ConnectionFacts = TLS) -> Any:
        """Log in by name and password."""
        return self.now(
            self.authenticator.login(user.encode(), password.encode(), facts, IMailAccess)
        )


class OfferTests(LoginTestCase):
    """What is offered where."""

    def test_provides_the_interfaces(self) -> None:
        """Authenticator, exchange and realm have every method."""
        self.assertTrue(verifyObject(IAuthenticator, self.authenticator))
        exchange = self.authenticator.begin(b"PLAIN", TLS, IMailAccess)
        self.assertTrue(verifyObject(IAuthentication, exchange))
        self.assertTrue(verifyObject(IRealm, self.realm))

    def test_nothing_in_clear(self) -> None:
        """Without TLS nothing is offered, unless the listener allows it."""
        self.assertEqual(self.authenticator.mechanisms(CLEAR), ())
        self.assertEqual(self.authenticator.mechanisms(LOOPBACK), MECHANISMS[1:])
        for mechanism in MECHANISMS:
            self.assertIsNone(self.authenticator.begin(mechanism, CLEAR, IMailAccess))
        outcome = self.login("ann@example.org", PASSWORD, CLEAR)
        self.assertIs(outcome, LoginFailure.ENCRYPTION_NEEDED)
        self.assertEqual((self.hash.calls, self.looked_up), ([], []))

    def test_plus_only_with_a_binding(self) -> None:
        """-PLUS is offered where a channel binding is known."""
        self.assertEqual(self.authenticator.mechanisms(TLS), MECHANISMS)
        plain_tls = ConnectionFacts("s", "imap", "192.0.2.7", "TLSv1.3")
        self.assertEqual(self.authenticator.mechanisms(plain_tls), MECHANISMS[1:])

    def test_scram_switched_off(self) -> None:
        """Without verifiers SCRAM is not offered."""
        self.authenticator.scram = None
        self.assertEqual(self.authenticator.mechanisms(TLS), MECHANISMS[2:])
        self.assertIsNone(self.authenticator.begin(b"SCRAM-SHA-256", TLS, IMailAccess))

    def test_channel_binding_switched_off(self) -> None:
        """Then -PLUS is not offered, and a client that says so with ``y`` is right to."""
        self.authenticator.channel_binding = False
        self.assertEqual(self.authenticator.mechanisms(TLS), MECHANISMS[1:])
        self.assertIsNone(self.authenticator.begin(b"SCRAM-SHA-256-PLUS", TLS, IMailAccess))
        exchange = self.authenticator.begin(b"SCRAM-SHA-256", TLS, IMailAccess)
        assert exchange is not None
        answer = self.now(exchange.respond(b"y,,n=ann@example.org,r=x"))
        self.assertIsInstance(answer, Challenge)

    def test_names_are_caseless_and_closed(self) -> None:
        """Any case is understood; nothing but the table is."""
        self.assertIsNotNone(self.authenticator.begin(b"plain", TLS, IMailAccess))
        for name in (b"", b"CRAM-MD5", b"__class__", b"PLAIN ", b"x" * 100_000):
            self.assertIsNone(self.authenticator.begin(name, TLS, IMailAccess))


class OutcomeTests(LoginTestCase):
    """Right and wrong, with every mechanism."""

    def test_right_password(self) -> None:
        """Each mechanism, with and without initial response, gives the account's avatar."""
        for mechanism in MECHANISMS:
            for initial in (True, False):
                for user in ("ann@example.org", "ANN@example.org", "ann"):
                    outcome = self.exchange(mechanism, user, initial=initial)
                    self.assertIsInstance(outcome, LoggedIn, (mechanism, user))
                    self.assertEqual(outcome.avatar.account_id, self.ann.account_id)
                    self.assertEqual(outcome.account, "ann@example.org")
        outcome = self.login("ann", PASSWORD)
        self.assertEqual(outcome.avatar.account_id, self.ann.account_id)
        self.assertEqual(len(self.limits), 0)

    def test_wrong_password_and_unknown_user(self) -> None:
        """They have one answer."""
        for mechanism in MECHANISMS:
            for user, password in (
                ("ann@example.org", "bob's password"),
                ("nobody@example.org", PASSWORD),
                ("ann@far.example", PASSWORD),
                ("ann@[192.0.2.1]", PASSWORD),
                ("x'; DROP TABLE account; --", PASSWORD),
                ("%{user}/../$(id)*)(uid=*", PASSWORD),
            ):
                outcome = self.exchange(mechanism, user, password)
                self.assertIs(outcome, LoginFailure.CREDENTIALS, (mechanism, user))
        self.assertIs(self.login("ann", "bob's password"), LoginFailure.CREDENTIALS)
        self.assertIs(self.login("nobody", PASSWORD), LoginFailure.CREDENTIALS)

    def test_disabled(self) -> None:
        """Only who proves the password learns that the account is disabled."""
        self.assertIsInstance(self.exchange(b"PLAIN"), LoggedIn)
        self.directory.set_enabled(self.ann.account_id, False)
        for mechanism in MECHANISMS:
            self.assertIs(self.exchange(mechanism), LoginFailure.DISABLED)
            self.assertIs(self.exchange(mechanism, password="wrong one"), LoginFailure.CREDENTIALS)

    def test_deleted(self) -> None:
        """Nothing of a deleted account logs in, though it did a moment ago."""
        self.assertIsInstance(self.exchange(b"PLAIN"), LoggedIn)
        self.directory.delete_account(self.ann.account_id)
        for mechanism in MECHANISMS:
            self.assertIs(self.exchange(mechanism), LoginFailure.CREDENTIALS)

    def test_foreign_identity_is_refused(self) -> None:
        """A right password does not let one act as somebody else (R-35)."""
        for message in (
            b"bob@example.org\0ann@example.org\0" + PASSWORD.encode(),
            b"admin\0ann@example.org\0" + PASSWORD.encode(),
            b"nobody\0ann\0" + PASSWORD.encode(),
        ):
            exchange = self.authenticator.begin(b"PLAIN", TLS, IMailAccess)
            self.assertIs(self.now(exchange.respond(message)), LoginFailure.CREDENTIALS)

    def test_own_identity_is_granted(self) -> None:
        """Asking for oneself, however spelled, is no foreign identity."""
        for authzid in (b"ann@example.org", b"ANN@EXAMPLE.ORG", b"ann", b""):
            exchange = self.authenticator.begin(b"PLAIN", TLS, IMailAccess)
            outcome = self.now(exchange.respond(authzid + b"\0ann\0" + PASSWORD.encode()))
            self.assertIsInstance(outcome, LoggedIn)

    def test_scram_with_a_foreign_identity(self) -> None:
        """SCRAM's ``a=`` is refused the same way, after a right proof."""
        for authzid, expected in (("bob@example.org", False), ("ann@example.org", True)):
            client = sasl.SCRAMClient("sha256", "ann@example.org", PASSWORD, None)
            client._header = f"n,a={authzid},".encode()
            client._binding = client._header
            exchange = self.authenticator.begin(b"SCRAM-SHA-256", TLS, IMailAccess)
            challenge = self.now(exchange.respond(client.initial()))
            outcome = self.now(exchange.respond(client.respond(challenge.data)))
            self.assertIs(isinstance(outcome, LoggedIn), expected)

    def test_malformed(self) -> None:
        """Octets that follow no grammar are MALFORMED, cost nothing and hurt nobody (R-34)."""
        for mechanism, message in (
            (b"PLAIN", b""),
            (b"PLAIN", b"\0"),
            (b"PLAIN", b"\xff\0\xff\0\xff"),
            (b"PLAIN", b"x" * 1_000_000),
            (b"LOGIN", b""),
            (b"SCRAM-SHA-256", b"="),
            (b"SCRAM-SHA-256", b"n,,n=ann"),
            (b"SCRAM-SHA-256-PLUS", b"y,,n=ann,r=x"),
        ):
            exchange = self.authenticator.begin(mechanism, TLS, IMailAccess)
            self.assertIs(exchange.respond(message), LoginFailure.MALFORMED)
        self.assertEqual((self.hash.calls, self.looked_up, len(self.limits)), ([], [], 0))
        self.assertIsInstance(self.exchange(b"PLAIN"), LoggedIn)

    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=40), st.binary(max_size=40))
    def test_any_name_and_password(self, user: bytes, password: bytes) -> None:
        """No octets in name or password do anything but fail."""
        outcome = self.now(self.authenticator.login(user, password, TLS, IMailAccess))
        self.assertIs(outcome, LoginFailure.CREDENTIALS)

    def test_huge_names_cost_nothing(self) -> None:
        """A megabyte of password is not hashed."""
        for user, password in (("ann", "x" * 1_000_000), ("x" * 1_000_000, "x"), ("ann", "")):
            self.assertIs(self.login(user, password), LoginFailure.CREDENTIALS)
        self.assertEqual(self.hash.calls, [])

    def test_downgrade(self) -> None:
        """A client that could have used -PLUS, and was not offered it, is in bad company."""
        client = sasl.client_mechanism(b"SCRAM-SHA-256", "ann", PASSWORD, channel_binding=BINDING)
        exchange = self.authenticator.begin(b"SCRAM-SHA-256", TLS, IMailAccess)
        assert client is not None
        self.assertIs(self.now(exchange.respond(client.initial())), LoginFailure.CREDENTIALS)

    def test_unicode_password(self) -> None:
        """A composed and a decomposed spelling are one password, with every mechanism."""
        self.directory.set_password(self.ann.account_id, "Schl\u00fcssel f\u00fcr alles")
        for mechanism in MECHANISMS:
            outcome = self.exchange(mechanism, password="Schlu\u0308ssel fu\u0308r alles")
            self.assertIsInstance(outcome, LoggedIn, mechanism)


class CostTests(LoginTestCase):
    """Unknown user and wrong password cost the same (R-40)."""

    def cost(self, attempt) -> tuple[int, list[str]]:
        """How often argon2id ran, and what was read from the database."""
        self.hash.calls.clear()
        self.looked_up.clear()
        self.assertIs(attempt(), LoginFailure.CREDENTIALS)
        return len(self.hash.calls), list(self.looked_up)

    def test_passwords(self) -> None:
        """One look-up and one argon2id, whoever the user is."""
        for user in ("ann", "nobody", "ann@far.example", "not \0 a @ name", "@"):
            cost = self.cost(lambda user=user: self.login(user, f"wrong for {user}"))
            self.assertEqual(cost, (1, [ARGON2ID]), user)
        self.directory.set_enabled(self.ann.account_id, False)
        self.assertEqual(self.cost(lambda: self.login("ann", "wrong")), (1, [ARGON2ID]))

    def test_undecodable_password(self) -> None:
        """A password that is no UTF-8, or that SASLprep prohibits, costs the same."""
        for password in (b"\xff\xfe", b"\xef\xbf\xbe", b"\x01\x02"):
            for user in (b"ann", b"nobody", b"\xff\xff"):
                cost = self.cost(
                    lambda user=user, password=password: self.now(
                        self.authenticator.login(user, password, TLS, IMailAccess)
                    )
                )
                self.assertEqual(cost, (1, [ARGON2ID]))

    def test_scram(self) -> None:
        """One look-up, no argon2id, whoever the user is."""
        for user in ("ann", "nobody", "ann@far.example"):
            cost = self.cost(lambda user=user: self.exchange(b"SCRAM-SHA-256", user, "wrong"))
            self.assertEqual(cost, (0, ["scram-sha-256"]))

    def salt(self, user: str, authenticator: Authenticator | None = None) -> bytes:
        """Salt and count that SCRAM shows for a name."""
        exchange = (authenticator or self.authenticator).begin(b"SCRAM-SHA-256", TLS, IMailAccess)
        challenge = self.now(exchange.respond(b"n,,n=%b,r=abc" % user.encode()))
        return challenge.data[challenge.data.index(b",s=") :]

    def test_pretended_salts(self) -> None:
        """An unknown name has one salt for ever, in every spelling, which looks like any other."""
        salts = {user: self.salt(user) for user in ("ann", "bob", "nobody", "nobody2")}
        self.assertEqual(len(set(salts.values())), 4)
        self.assertEqual(len({len(salt) for salt in salts.values()}), 1)
        self.assertEqual({salt[-7:] for salt in salts.values()}, {b",i=4096"})
        for stem in ("ann", "nobody"):
            for user in (stem.upper(), f"{stem}@example.org", f"{stem}@EXAMPLE.ORG"):
                self.assertEqual(self.salt(user), salts[stem])
        again = Directory(open_store(self.path), execute, self.clock)
        self.addCleanup(again.close)
        restarted = Authenticator(
            self.portal, again, SCRAMCredentials(again, lambda: 0.0, 4096), self.limits, self.clock
        )
        self.assertEqual(self.salt("nobody", restarted), salts["nobody"])

    def test_no_scram_credential(self) -> None:
        """An account without a SCRAM verifier looks like one that does not exist."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("DELETE FROM credential WHERE kind = 'scram-sha-256'")
        connection.close()
        self.assertIs(self.exchange(b"SCRAM-SHA-256"), LoginFailure.CREDENTIALS)
        self.assertIsInstance(self.exchange(b"PLAIN"), LoggedIn)


class RememberedTests(LoginTestCase):
    """The memory of proofs (R-37)."""

    def test_second_login_is_free(self) -> None:
        """A repeated login runs no argon2id, whatever mechanism carries the password."""
        self.exchange(b"PLAIN")
        self.exchange(b"LOGIN", "ANN")
        self.login("ann", PASSWORD)
        self.assertEqual(self.hash.calls, ["verify"])

    def test_wrong_passwords_are_not_remembered(self) -> None:
        """A wrong password is checked each time, also after a right one."""
        self.exchange(b"PLAIN")
        for _ in range(2):
            self.assertIs(self.login("ann", "wrong"), LoginFailure.CREDENTIALS)
        self.assertEqual(len(self.hash.calls), 3)

    def test_users_are_never_mixed(self) -> None:
        """Each password remains its owner's only."""
        self.login("ann", PASSWORD)
        self.login("bob", "bob's password")
        self.assertIs(self.login("ann", "bob's password"), LoginFailure.CREDENTIALS)
        self.assertIs(self.login("bob", PASSWORD), LoginFailure.CREDENTIALS)
        self.assertIs(self.login("nobody", PASSWORD), LoginFailure.CREDENTIALS)
        outcome = self.login("bob", "bob's password")
        self.assertEqual(outcome.avatar.account_id, self.bob.account_id)

    def test_password_change_empties_it(self) -> None:
        """The old password fails at once after a change, the other user's memory stays."""
        self.login("ann", PASSWORD)
        self.login("bob", "bob's password")
        self.directory.set_password(self.ann.account_id, "another password")
        self.assertIs(self.login("ann", PASSWORD), LoginFailure.CREDENTIALS)
        self.assertIsInstance(self.login("ann", "another password"), LoggedIn)
        self.hash.calls.clear()
        self.assertIsInstance(self.login("bob", "bob's password"), LoggedIn)
        self.assertEqual(self.hash.calls, [])

    def test_change_by_another_process(self) -> None:
        """A password that another process changed is judged by its commit."""
        self.login("ann", PASSWORD)
        other = open_store(self.path)
        self.addCleanup(other.close)
        other.set_password(self.ann.account_id, "another password")
        self.assertIs(self.login("ann", PASSWORD), LoginFailure.CREDENTIALS)
        self.assertIsInstance(
            self.exchange(b"SCRAM-SHA-256", password="another password"), LoggedIn
        )

    def test_lifetime(self) -> None:
        """After its lifetime a proof is made anew."""
        self.login("ann", PASSWORD)
        self.clock.advance(3599)
        self.login("ann", PASSWORD)
        self.assertEqual(len(self.hash.calls), 1)
        self.clock.advance(2)
        self.login("ann", PASSWORD)
        self.assertEqual(len(self.hash.calls), 2)

    def test_protocols_are_apart(self) -> None:
        """What was proven for one protocol is proven again for another."""
        self.login("ann", PASSWORD)
        self.login("ann", PASSWORD, ConnectionFacts("s", "pop3", "192.0.2.7", "TLSv1.3"))
        self.assertEqual(len(self.hash.calls), 2)

    def insert(self, password: str, scope: str, expires: float | None) -> None:
        """Give Ann one more argon2id credential."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute(
            "INSERT INTO credential (account_id, kind, scope, label, verifier, created_at, expires)"
            " VALUES (?, 'argon2id', ?, 'phone', ?, 0, ?)",
            (self.ann.account_id, scope, QUICK.hash(password), expires),
        )
        connection.close()

    def test_scope(self) -> None:
        """A credential with a scope is good for its protocols only."""
        self.insert("phone password", "pop3 submission", None)
        self.assertIs(self.login("ann", "phone password"), LoginFailure.CREDENTIALS)
        facts = ConnectionFacts("s", "pop3", "192.0.2.7", "TLSv1.3")
        self.assertIsInstance(self.login("ann", "phone password", facts), LoggedIn)
        self.assertIs(self.login("ann", "phone password"), LoginFailure.CREDENTIALS)

    def test_expiry(self) -> None:
        """A credential ends at its time, remembered or not."""
        self.insert("phone password", "", 1_700_000_000.0 + 60)
        self.assertIsInstance(self.login("ann", "phone password"), LoggedIn)
        self.clock.advance(59)
        self.assertIsInstance(self.login("ann", "phone password"), LoggedIn)
        self.clock.advance(2)
        self.assertIs(self.login("ann", "phone password"), LoginFailure.CREDENTIALS)

    def test_bounded(self) -> None:
        """No more than its capacity is remembered, the oldest goes first."""
        proofs = RememberedProofs(self.clock.seconds, 10.0, 3)
        digests = [proofs.digest(str(number), 1, "imap", "x") for number in range(5)]
        for number, digest in enumerate(digests):
            proofs.add(digest, AccountID(str(number)), 100.0)
        self.assertEqual([proofs.knows(digest) for digest in digests], [0, 0, 1, 1, 1])
        proofs.forget(AccountID("3"))
        self.assertEqual([proofs.knows(digest) for digest in digests], [0, 0, 1, 0, 1])
        proofs.forget(None)
        self.assertEqual(len(proofs), 0)

    def test_switched_off(self) -> None:
        """Without a lifetime nothing is remembered."""
        proofs = RememberedProofs(self.clock.seconds, 0.0, 3)
        digest = proofs.digest("a", 1, "imap", "x")
        proofs.add(digest, AccountID("a"), 100.0)
        self.assertFalse(proofs.knows(digest))

    @settings(max_examples=200, deadline=None)
    @given(*[st.tuples(st.text(), st.integers(0, 9), st.text(), st.text())] * 2)
    def test_digests_never_collide(self, one, two) -> None:
        """Different account, version, protocol or password: a different digest."""
        proofs = RememberedProofs(self.clock.seconds, 10.0, 3)
        same = proofs.digest(*one) == proofs.digest(*two)
        self.assertIs(same, one == two)
        other = RememberedProofs(self.clock.seconds, 10.0, 3)
        self.assertNotEqual(proofs.digest(*one), other.digest(*one))


class PoolTests(LoginTestCase):
    """While argon2id runs elsewhere."""

    hash_later = True

    def begin_login(self, user: str, password: str) -> Deferred:
        """A login that waits for a thread."""
        return self.authenticator.login(user.encode(), password.encode(), TLS, IMailAccess)

    def test_one_check_for_many_connections(self) -> None:
        """A client's parallel logins cost one argon2id."""
        logins = [self.begin_login("ann", PASSWORD) for _ in range(8)]
        self.assertEqual(self.passwords.under_way, 1)
        self.threads.run()
        for login in logins:
            self.assertIsInstance(self.successResultOf(login), LoggedIn)
        self.assertEqual(len(self.hash.calls), 1)

    def test_unknown_users_join_too(self) -> None:
        """Parallel logins as nobody cost as many as parallel logins as somebody."""
        logins = [self.begin_login("nobody", PASSWORD) for _ in range(2)]
        logins += [self.begin_login("ann", PASSWORD + "x") for _ in range(2)]
        logins += [self.begin_login("nobody else", PASSWORD)]
        self.assertEqual(self.passwords.under_way, 3)
        for login in logins:
            self.assertIs(self.now(login), LoginFailure.CREDENTIALS)
        self.assertEqual(sorted(self.hash.calls), ["verify", "waste", "waste"])

    def test_queue_is_bounded(self) -> None:
        """One check too many is refused for now, known user or not, without delay or count."""
        logins = [self.begin_login("ann", f"guess {number}") for number in range(3)]
        for user in ("ann", "bob", "nobody"):
            outcome = self.successResultOf(self.begin_login(user, "something else"))
            self.assertIs(outcome, LoginFailure.TEMPORARY)
        self.assertEqual(len(self.limits), 0)
        for login in logins:
            self.assertIs(self.now(login), LoginFailure.CREDENTIALS)
        self.assertIsInstance(self.now(self.begin_login("ann", PASSWORD)), LoggedIn)

    def test_remembered_login_passes_a_full_queue(self) -> None:
        """Who logged in lately is not locked out by others' guesses (R-39)."""
        self.assertIsInstance(self.now(self.begin_login("ann", PASSWORD)), LoggedIn)
        for number in range(3):
            self.begin_login("ann", f"guess {number}")
        self.assertIsInstance(self.successResultOf(self.begin_login("ann", PASSWORD)), LoggedIn)
        self.threads.run()
        self.clock.advance(60)

    def test_password_changed_meanwhile(self) -> None:
        """A proof of what was the password when the check began is refused, and not kept."""
        login = self.begin_login("ann", PASSWORD)
        self.directory.set_password(self.ann.account_id, "another password")
        self.assertIs(self.now(login), LoginFailure.CREDENTIALS)
        self.assertIs(self.now(self.begin_login("ann", PASSWORD)), LoginFailure.CREDENTIALS)

    def test_disabled_and_deleted_meanwhile(self) -> None:
        """An account that goes while its password is checked does not log in."""
        login = self.begin_login("ann", PASSWORD)
        self.directory.set_enabled(self.ann.account_id, False)
        self.assertIs(self.now(login), LoginFailure.DISABLED)
        login = self.begin_login("bob", "bob's password")
        self.directory.delete_account(self.bob.account_id)
        self.assertIs(self.now(login), LoginFailure.CREDENTIALS)

    def test_one_connection_goes_away(self) -> None:
        """Cancelling one of two logins leaves the other."""
        first, second = self.begin_login("ann", PASSWORD), self.begin_login("ann", PASSWORD)
        first.cancel()
        self.assertIs(self.successResultOf(first), LoginFailure.CANCELLED)
        self.threads.run()
        self.assertIsInstance(self.successResultOf(second), LoggedIn)

    def test_exchange_is_cancelled(self) -> None:
        """A client that gives up while its password is checked is CANCELLED."""
        exchange = self.authenticator.begin(b"PLAIN", TLS, IMailAccess)
        exchange.cancel()
        answer = exchange.respond(b"\0ann\0" + PASSWORD.encode())
        exchange.cancel()
        self.assertIs(self.successResultOf(answer), LoginFailure.CANCELLED)
        self.threads.run()
        self.assertEqual(self.passwords.under_way, 0)
        exchange.cancel()

    def test_fault_of_our_own(self) -> None:
        """An error in the check is temporary for every waiter, and logged."""

        def break_down(verifier, prepared) -> bool:
            raise MemoryError("argon2")

        self.hash.verify = break_down
        logins = [self.begin_login("ann", PASSWORD) for _ in range(2)]
        self.threads.run()
        for login in logins:
            self.assertIs(self.successResultOf(login), LoginFailure.TEMPORARY)
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 2)
        self.assertEqual(self.passwords.under_way, 0)

    def test_scram_race(self) -> None:
        """A password changed between the two SCRAM messages ends the exchange."""
        client = sasl.client_mechanism(b"SCRAM-SHA-256", "ann", PASSWORD)
        exchange = self.authenticator.begin(b"SCRAM-SHA-256", TLS, IMailAccess)
        assert client is not None
        challenge = self.now(exchange.respond(client.initial()))
        self.directory.set_password(self.ann.account_id, PASSWORD)
        outcome = self.now(exchange.respond(client.respond(challenge.data)))
        self.assertIs(outcome, LoginFailure.CREDENTIALS)


class DelayTests(LoginTestCase):
    """Failures wait."""

    def attempt(self, password: str, peer: str = "192.0.2.7") -> Deferred:
        """A login as Ann."""
        facts = ConnectionFacts("s", "imap", peer, "TLSv1.3")
        return self.authenticator.login(b"ann", password.encode(), facts, IMailAccess)

    def test_failures_wait_longer_each_time(self) -> None:
        """One second, two, four; fifteen at most."""
        for seconds in (1, 2, 4, 8, 15, 15):
            login = self.attempt("wrong")
            self.clock.advance(seconds - 0.1)
            self.assertNoResult(login)
            self.clock.advance(0.2)
            self.assertIs(self.successResultOf(login), LoginFailure.CREDENTIALS)

    def test_success_and_others_do_not_wait(self) -> None:
        """The owner behind the same address, and everybody elsewhere, gets in at once."""
        self.attempt("wrong")
        self.assertIsInstance(self.successResultOf(self.attempt(PASSWORD)), LoggedIn)
        self.assertEqual(self.limits.failed("192.0.2.8"), 1.0)
        self.clock.advance(60)

    def test_connection_lost_while_waiting(self) -> None:
        """A login that is cancelled leaves no timer behind."""
        login = self.attempt("wrong")
        login.cancel()
        self.assertIs(self.successResultOf(login), LoginFailure.CANCELLED)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_more_connections_do_not_make_more_guesses(self) -> None:
        """Past its failures a client is refused unheard, wherever the password is right (R-39)."""
        self.limits.failures = 3
        for _ in range(3):
            self.attempt("wrong")
        self.assertIs(self.successResultOf(self.attempt(PASSWORD)), LoginFailure.TEMPORARY)
        self.clock.advance(130)
        self.assertIsInstance(self.successResultOf(self.attempt(PASSWORD)), LoggedIn)
        for _ in range(5):
            self.attempt("wrong")
        # Known from there: for this account it goes on.
        self.assertIsInstance(self.successResultOf(self.attempt(PASSWORD)), LoggedIn)
        self.assertTrue(self.limits.refuses("192.0.2.7", "carol@example.org"))
        self.clock.advance(60)

    def test_neighbours_and_days_are_counted(self) -> None:
        """A /26 has three times, a day five times as many failures; this machine has no limit."""
        limits = LoginLimits(self.clock, failures=2)
        for number in range(6):
            self.assertFalse(limits.refuses("192.0.2.40", "x"))
            limits.failed(f"192.0.2.{number}")
        self.assertTrue(limits.refuses("192.0.2.40", "x"))
        self.assertFalse(limits.refuses("192.0.2.64", "x"))
        for _ in range(10):
            self.clock.advance(121)
            self.assertFalse(limits.refuses("198.51.100.1", "x"))
            limits.failed("198.51.100.1")
        self.assertTrue(limits.refuses("198.51.100.1", "x"))
        for _ in range(50):
            limits.failed("127.0.0.1")
            limits.failed("::1")
        self.assertFalse(limits.refuses("127.0.0.1", "x") or limits.refuses("::1", "x"))

    def test_forgotten_in_time_and_bounded(self) -> None:
        """A quarter of an hour clears an address; memory does not grow with addresses."""
        self.assertEqual([self.limits.failed("192.0.2.7") for _ in range(3)], [1.0, 2.0, 4.0])
        self.clock.advance(901)
        self.assertEqual(self.limits.failed("192.0.2.7"), 1.0)
        small = LoginLimits(self.clock, capacity=10)
        for number in range(100):
            small.failed(f"192.0.2.{number}")
        self.assertEqual(len(small), 10)
        for _ in range(5000):
            delay = self.limits.failed("192.0.2.9")
        self.assertEqual(delay, 15.0)


class AvatarTests(LoginTestCase):
    """What a login gives."""

    def test_submission(self) -> None:
        """A sender's avatar knows which addresses are its own."""
        outcome = self.exchange(b"PLAIN", interface=ISubmission)
        self.assertTrue(verifyObject(ISubmission, outcome.avatar))
        self.assertEqual(outcome.avatar.address, at("ann@example.org"))
        self.assertTrue(outcome.avatar.may_send_as(at("ann+x@example.org")))
        self.assertFalse(outcome.avatar.may_send_as(at("bob@example.org")))
        self.assertIsNone(outcome.logout())

    def test_late_mail_access(self) -> None:
        """A mail store that answers later is waited for."""
        access = Access(self.ann.account_id, self.ann.address)
        self.mail.answer = succeed(access)
        self.assertIs(self.exchange(b"PLAIN").avatar, access)

    def test_mail_store_out_of_order(self) -> None:
        """A mail store that fails makes a temporary failure, logged, and no delay."""
        self.mail.answer = StorageError("no room")
        self.assertIs(self.exchange(b"PLAIN"), LoginFailure.TEMPORARY)
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.assertEqual(len(self.limits), 0)

    def test_accounts_do_not_administer(self) -> None:
        """No account has the administrator's avatar."""
        self.assertIs(self.exchange(b"PLAIN", interface=IAdministration), LoginFailure.TEMPORARY)
        self.assertEqual(len(self.flushLoggedErrors(NotImplementedError)), 1)

    def test_operator(self) -> None:
        """The operator's uid administers, another does not; the operator has no mail."""
        login = self.portal.login(LocalOperator(1000), None, IAdministration)
        _, avatar, _ = self.successResultOf(login)
        self.assertTrue(verifyObject(IAdministration, avatar))
        self.assertIs(avatar.directory, self.directory)
        login = self.portal.login(LocalOperator(1001), None, IAdministration)
        self.failureResultOf(login, UnauthorizedLogin)
        login = self.portal.login(LocalOperator(1000), None, IMailAccess)
        self.failureResultOf(login, NotImplementedError)


class LogTests(LoginTestCase):
    """What is logged of a login (R-81)."""

    def test_no_password_in_any_event(self) -> None:
        """Neither right nor wrong passwords, nor any SASL octets, stand in an event."""
        secret = "hunter2 hunter2"
        with capturedLogs() as events:
            self.directory.set_password(self.ann.account_id, secret)
            for mechanism in MECHANISMS:
                self.exchange(mechanism, password=secret)
                self.exchange(mechanism, password=secret + "x")
                self.exchange(mechanism, user=secret, password="x" * 8)
                self.exchange(mechanism, user="nobody", password=secret)
            self.login("ann", secret)
            self.login(secret, "ann")
            self.mail.answer = StorageError("no room")
            self.exchange(b"PLAIN", password=secret)
        self.flushLoggedErrors(StorageError)
        self.assertGreater(len(events), 15)
        for event in events:
            text = eventAsJSON(event) + repr(event)
            self.assertNotIn("hunter2", text)
            self.assertNotIn("argon2id$", text)
        self.assertNotIn("hunter2", repr(PasswordLogin("ann", secret, "imap")))

    def test_events(self) -> None:
        """Each outcome is one event with the fields of its connection."""
        with capturedLogs() as events:
            self.exchange(b"PLAIN")
            self.exchange(b"SCRAM-SHA-256", password="wrong")
            self.exchange(b"PLAIN", user="p@ssword")
        keep = ("event", "session", "protocol", "peer", "tls", "mechanism")
        self.assertEqual(
            [tuple(event[key] for key in keep) for event in events],
            [
                ("login.succeeded", "s1", "imap", "192.0.2.7", "TLSv1.3", "PLAIN"),
                ("login.failed", "s1", "imap", "192.0.2.7", "TLSv1.3", "SCRAM-SHA-256"),
                ("login.failed", "s1", "imap", "192.0.2.7", "TLSv1.3", "PLAIN"),
            ],
        )
        self.assertEqual(events[0]["account"], "ann@example.org")
        self.assertEqual(events[0]["account_id"], self.ann.account_id)
        self.assertEqual([event["user"] for event in events[1:]], ["ann@example.org", ""])
        self.assertEqual([event["delay"] for event in events[1:]], [1.0, 2.0])
        self.assertEqual(events[1]["failure"], "credentials")


class PasswordTests(SynchronousTestCase):
    """Passwords themselves."""

    def test_default_cost(self) -> None:
        """The text of a hash says argon2id, 19 MiB, two passes, one lane."""
        text = PasswordHash().hash(PASSWORD)
        self.assertTrue(text.startswith(b"$argon2id$v=19$m=19456,t=2,p=1$"))
        self.assertTrue(PasswordHash().verify(text, PASSWORD))
        self.assertFalse(PasswordHash().verify(text, PASSWORD + "x"))

    def test_parameters_travel_with_the_hash(self) -> None:
        """A password hashed with other parameters still verifies."""
        self.assertTrue(PasswordHash().verify(QUICK.hash(PASSWORD), PASSWORD))

    def test_random_passwords(self) -> None:
        """They differ, keep the rules, and have 80 bits in letters that are not mistaken."""
        made = {random_password(lambda count, it=seed: bytes([it]) * count) for seed in range(32)}
        self.assertEqual(len(made), 32)
        for password in made:
            self.assertEqual(check_password(password), password)
            self.assertRegex(password, "^([a-km-np-z2-9]{4}-){3}[a-km-np-z2-9]{4}$")

    def test_policy(self) -> None:
        """The error says what is wrong, never what was tried."""
        for password, word in (
            ("seven77", "short"),
            ("x" * 1025, "long"),
            ("with\0nul in it", "usable"),
        ):
            with self.assertRaises(DirectoryError) as caught:
                check_password(password)
            self.assertIn(word, str(caught.exception))
            self.assertNotIn(password, str(caught.exception))
