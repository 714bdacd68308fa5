"""The directory: its contract on fake and database, durability, other processes, damage."""

from __future__ import annotations

import sqlite3

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from mailhost.address import Address
from mailhost.directory.directory import LOOK_INTERVAL, Directory
from mailhost.directory.passwords import PasswordHash
from mailhost.directory.roster import OwnNames, Roster, lookup_key
from mailhost.directory.store import (
    ARGON2ID,
    SCRAM_ITERATIONS,
    SCRAM_SHA_256,
    DirectoryStore,
)
from mailhost.errors import DataDirectoryError, DirectoryError
from mailhost.interfaces.directory import AddressClass, Domain
from tests.contracts.directory import PASSWORD, DirectoryContract, at
from tests.fakes import FakeDirectory

QUICK = PasswordHash(memory=8, passes=1)
"""argon2id at next to no cost."""


class Laps:
    """A Unix time that is a second later at each look."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def open_store(path: str, **options) -> DirectoryStore:
    """A store with cheap secrets."""
    return DirectoryStore(path, password_hash=QUICK, scram_iterations=4096, now=Laps(), **options)


class Later:
    """Runs what is deferred only when told to, in order."""

    def __init__(self) -> None:
        self.waiting = []

    def __call__(self, function, *arguments) -> Deferred:
        answer: Deferred = Deferred()
        self.waiting.append((answer, function, arguments))
        return answer

    def run(self) -> None:
        """Do all that waits."""
        while self.waiting:
            answer, function, arguments = self.waiting.pop(0)
            execute(function, *arguments).chainDeferred(answer)


class FakeDirectoryTests(DirectoryContract, SynchronousTestCase):
    """The fake keeps the contract."""

    def make_directory(self, names: OwnNames) -> FakeDirectory:
        return FakeDirectory(names)


class SQLiteDirectoryTests(DirectoryContract, SynchronousTestCase):
    """The database keeps the contract."""

    def make_directory(self, names: OwnNames) -> Directory:
        directory = Directory(open_store(self.mktemp()), execute, Clock(), names)
        self.addCleanup(directory.close)
        return directory


class Rereading(Directory):
    """A directory that reads everything anew for each answer."""

    def _current(self) -> Roster:
        self._roster = self._store.load(self._names)
        return self._roster


class RereadDirectoryTests(DirectoryContract, SynchronousTestCase):
    """What is read back from the database after every change is the same."""

    def make_directory(self, names: OwnNames) -> Directory:
        directory = Rereading(open_store(self.mktemp()), execute, Clock(), names)
        self.addCleanup(directory.close)
        return directory


class DurabilityTests(SynchronousTestCase):
    """What is on disk."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.store = open_store(self.path)
        self.addCleanup(self.store.close)

    def directory(self) -> Directory:
        """A directory over the file, with a store of its own."""
        directory = Directory(open_store(self.path), execute, Clock())
        self.addCleanup(directory.close)
        return directory

    def test_a_new_process_finds_everything(self) -> None:
        """Domains, accounts and aliases are there after the file is opened again."""
        self.store.add_domain("example.org")
        _, ann = self.store.add_account(at("ann@example.org"), PASSWORD, "Ann")
        _, alias = self.store.add_alias(
            at("i@example.org"), [at("x@far.example"), at("ann@example.org")]
        )
        self.store.set_enabled(ann.account.account_id, False)
        directory = self.directory()
        self.assertEqual(self.successResultOf(directory.aliases()), (alias,))
        (account,) = self.successResultOf(directory.accounts())
        self.assertEqual((account.display_name, account.enabled), ("Ann", False))
        self.assertEqual(directory.secret, self.store.secret())

    def test_no_password_on_disk(self) -> None:
        """Neither file nor journal has the password; both kinds of credential are there."""
        self.store.add_domain("example.org")
        _, ann = self.store.add_account(at("ann@example.org"), PASSWORD)
        for name in (self.path, self.path + "-wal"):
            with open(name, "rb") as stream:
                self.assertNotIn(PASSWORD.encode(), stream.read())
        for kind in (ARGON2ID, SCRAM_SHA_256):
            (credential,) = self.store.credentials(ann.account.account_id, kind)
            self.assertNotIn("verifier", repr(credential))
        verifier = credential.scram()
        self.assertEqual((len(verifier.salt), verifier.iterations), (16, 4096))
        self.assertEqual((len(verifier.stored_key), len(verifier.server_key)), (32, 32))

    def test_every_client_computes_the_iterations(self) -> None:
        """Clients with Cyrus SASL refuse a login that asks for more than 65,536 iterations."""
        self.assertGreaterEqual(SCRAM_ITERATIONS, 4096)
        self.assertLessEqual(SCRAM_ITERATIONS, 65_536)

    def test_set_password_replaces(self) -> None:
        """There is one credential of a kind after any number of changes."""
        self.store.add_domain("example.org")
        _, ann = self.store.add_account(at("ann@example.org"), PASSWORD)
        account_id = ann.account.account_id
        before = self.store.credentials(account_id, ARGON2ID)
        _, changed = self.store.set_password(account_id, "another password")
        after = self.store.credentials(account_id, ARGON2ID)
        self.assertEqual(len(after), 1)
        self.assertNotEqual(before, after)
        self.assertGreater(changed.version, ann.version)
        self.store.delete_account(account_id)
        self.assertEqual(self.store.credentials(account_id, ARGON2ID), ())

    def test_scram_can_be_switched_off(self) -> None:
        """With no iterations no SCRAM verifier is kept."""
        store = DirectoryStore(self.mktemp(), password_hash=QUICK, scram_iterations=0)
        self.addCleanup(store.close)
        store.add_domain("example.org")
        _, ann = store.add_account(at("ann@example.org"), PASSWORD)
        self.assertEqual(store.credentials(ann.account.account_id, SCRAM_SHA_256), ())
        with self.assertRaises(ValueError):
            DirectoryStore(self.mktemp(), scram_iterations=1000)

    def test_a_refused_change_leaves_nothing(self) -> None:
        """A change that fails half-way is undone, and the next one works."""
        self.store.add_domain("example.org")
        self.store._insert = self.break_down
        with self.assertRaises(sqlite3.OperationalError):
            self.store.add_account(at("ann@example.org"), PASSWORD)
        del self.store._insert
        self.assertEqual(self.store.load(OwnNames()).accounts(None), ())
        self.store.add_account(at("ann@example.org"), PASSWORD)

    def break_down(self, *arguments) -> None:
        """Fail as SQLite does when the disk is full."""
        raise sqlite3.OperationalError("database or disk is full")

    def test_strange_names_are_only_data(self) -> None:
        """SQL, path, format and LDAP characters in names stay what they are (R-36)."""
        self.store.add_domain("example.org")
        names = [
            "x'; DROP TABLE account; --",
            "../../etc/passwd",
            "{user}",
            "*)(uid=*",
            "$(id)",
            "a b",
            "\u00fcber",
        ]
        for name in names:
            self.store.add_account(Address(name, "example.org"), PASSWORD)
        directory = self.directory()
        for name in names:
            account = self.successResultOf(
                directory.account_by_address(Address(name, "example.org"))
            )
            self.assertEqual(account.address.local_part, name)
            self.assertRegex(account.account_id, "^[0-9a-z]{26}$")

    def test_display_names_have_no_controls(self) -> None:
        """A line end in a display name could forge a header field or a table row."""
        self.store.add_domain("example.org")
        for name in ("a\r\nBcc: x", "\x1b[2J", "x" * 257):
            with self.assertRaises(DirectoryError):
                self.store.add_account(at("ann@example.org"), PASSWORD, name)

    def test_a_newer_file_is_refused(self) -> None:
        """A database of a newer mailhost is not touched."""
        connection = sqlite3.connect(self.path)
        connection.execute("PRAGMA user_version = 99")
        connection.close()
        with self.assertRaises(DataDirectoryError):
            open_store(self.path)

    def test_damaged_file(self) -> None:
        """A file that is no database gives an error of SQLite, and stays as it is."""
        path = self.mktemp()
        with open(path, "wb") as stream:
            stream.write(b"not a database" * 100)
        with self.assertRaises(sqlite3.DatabaseError):
            open_store(path)

    def test_several_targets_keep_their_order(self) -> None:
        """Targets come back in the order in which they were given."""
        self.store.add_domain("example.org")
        targets = [at(f"x{number}@far.example") for number in (3, 1, 2)]
        self.store.add_alias(at("i@example.org"), targets)
        (alias,) = self.store.load(OwnNames()).aliases(None)
        self.assertEqual(alias.targets, tuple(targets))


class OtherProcessTests(SynchronousTestCase):
    """Commits that somebody else makes."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.other = open_store(self.path)
        self.addCleanup(self.other.close)
        self.other.add_domain("example.org")
        self.clock = Clock()
        self.later = Later()
        self.directory = Directory(open_store(self.path), self.later, self.clock)
        self.addCleanup(self.later.run)
        self.addCleanup(self.directory.close)
        self.forgotten = []
        self.directory.watch_credentials(self.forgotten.append)

    def known(self, address: str) -> bool:
        """Whether the directory takes mail for the address."""
        return self.directory.classify(at(address)).address_class is AddressClass.LOCAL

    def test_mail_notices_within_a_second(self) -> None:
        """A look happens at most once a second, and never makes an answer wait."""
        self.other.add_account(at("ann@example.org"), PASSWORD)
        self.assertFalse(self.known("ann@example.org"))
        self.assertEqual(self.later.waiting, [])
        self.clock.advance(LOOK_INTERVAL)
        self.assertFalse(self.known("ann@example.org"))
        self.assertEqual(len(self.later.waiting), 1)
        self.later.run()
        self.assertTrue(self.known("ann@example.org"))
        self.assertEqual(self.forgotten, [None])

    def test_a_login_notices_at_once(self) -> None:
        """A login is judged by what is committed now."""
        self.assertIsNone(self.directory.find("ann@example.org"))
        self.other.add_account(at("ann@example.org"), PASSWORD)
        found = self.directory.find("ann@example.org")
        self.later.run()
        identity = self.successResultOf(found)
        self.assertEqual(identity.account.address, at("ann@example.org"))

    def test_a_notice_refreshes(self) -> None:
        """The control socket can say that something changed."""
        self.other.add_account(at("ann@example.org"), PASSWORD)
        done = self.directory.refresh()
        self.later.run()
        self.assertIsNone(self.successResultOf(done))
        self.assertTrue(self.known("ann@example.org"))

    def test_own_and_foreign_changes_mix(self) -> None:
        """A change of ours after one of theirs brings both."""
        self.other.add_account(at("ann@example.org"), PASSWORD)
        done = self.directory.add_account(at("bob@example.org"), PASSWORD)
        self.later.run()
        self.successResultOf(done)
        self.assertTrue(self.known("ann@example.org"))
        self.assertTrue(self.known("bob@example.org"))

    def test_own_change_is_not_read_again(self) -> None:
        """A change of ours empties nothing but what it concerns."""
        done = self.directory.add_account(at("bob@example.org"), PASSWORD)
        self.later.run()
        bob = self.successResultOf(done)
        self.clock.advance(LOOK_INTERVAL)
        self.known("bob@example.org")
        self.later.run()
        self.assertEqual(self.forgotten, [])
        self.directory.set_password(bob.account_id, "another password")
        self.directory.set_enabled(bob.account_id, False)
        self.directory.delete_account(bob.account_id)
        self.later.run()
        self.assertEqual(self.forgotten, [bob.account_id] * 3)

    def test_a_failed_read_is_tried_again(self) -> None:
        """An error while reading keeps the old answers, is logged, and does not stay."""
        self.other.add_account(at("ann@example.org"), PASSWORD)
        load, self.directory._store.load = self.directory._store.load, self.break_down
        self.clock.advance(LOOK_INTERVAL)
        with capturedLogs() as events:
            self.assertFalse(self.known("ann@example.org"))
            self.later.run()
        self.assertEqual([event["event"] for event in events], ["directory.refresh.failed"])
        self.flushLoggedErrors(sqlite3.OperationalError)
        self.directory._store.load = load
        self.clock.advance(LOOK_INTERVAL)
        self.known("ann@example.org")
        self.later.run()
        self.assertTrue(self.known("ann@example.org"))

    def break_down(self, *arguments) -> None:
        """Fail as SQLite does."""
        raise sqlite3.OperationalError("disk I/O error")


class LoginNameTests(SynchronousTestCase):
    """What a client may call itself."""

    def setUp(self) -> None:
        self.directory = Directory(open_store(self.mktemp()), execute, Clock())
        self.addCleanup(self.directory.close)
        self.directory.add_domain("example.org")
        self.ann = self.successResultOf(self.directory.add_account(at("ann@example.org"), PASSWORD))

    def who(self, name: str) -> str | None:
        """The id of the account of a login name."""
        identity = self.directory.find(name)
        if isinstance(identity, Deferred):
            identity = self.successResultOf(identity)
        return None if identity is None else identity.account.account_id

    def test_full_address_and_bare_name(self) -> None:
        """The address in any case; the local part alone while there is one domain."""
        for name in ("ann@example.org", "ANN@Example.ORG", "ann", "Ann"):
            self.assertEqual(self.who(name), self.ann.account_id)
        self.directory.add_domain("other.example")
        self.assertIsNone(self.who("ann"))
        self.assertEqual(self.who("ann@example.org"), self.ann.account_id)

    def test_aliases_tags_and_nonsense_do_not_log_in(self) -> None:
        """Only primary addresses are login names."""
        self.directory.add_alias(at("info@example.org"), [at("ann@example.org")])
        for name in (
            "info@example.org",
            "ann+x@example.org",
            "",
            "@",
            "a\0b",
            "x" * 5000,
            "a b@c d",
        ):
            self.assertIsNone(self.who(name))

    def test_one_key_for_all_spellings(self) -> None:
        """Spellings of one name have one key, also when nobody has the name."""
        for stem in ("ann", "nobody"):
            keys = {
                self.directory.login_key(name)
                for name in (stem, stem.upper(), f"{stem}@example.org", f"{stem}@EXAMPLE.org")
            }
            self.assertEqual(len(keys), 1)

    def test_what_may_be_logged(self) -> None:
        """Only addresses in our domains; a password in the wrong field has none."""
        self.assertEqual(self.directory.loggable("nobody@example.org"), "nobody@example.org")
        for name in ("hunter2", "p@ssw0rd", "", "x@far.example", "a\nb@example.org"):
            self.assertEqual(self.directory.loggable(name), "")


class RosterTests(SynchronousTestCase):
    """Addresses in memory."""

    def test_default_domain(self) -> None:
        """The setting, else the domain around the host name, else the oldest."""
        domains = [
            Domain("old.example", 1.0),
            Domain("example.org", 2.0),
            Domain("sub.example.org", 3.0),
        ]
        for names, expected in (
            (OwnNames(), "old.example"),
            (OwnNames(frozenset({"mx.example.org"})), "example.org"),
            (OwnNames(frozenset({"mx.sub.example.org"})), "sub.example.org"),
            (OwnNames(frozenset({"mx.example.org"}), "old.example"), "old.example"),
            (OwnNames(frozenset(), "gone.example"), "old.example"),
        ):
            self.assertEqual(Roster(names, 0, domains).default_domain, expected)
        self.assertEqual(Roster(OwnNames()).default_domain, "")

    def test_without_a_separator_there_are_no_tags(self) -> None:
        """An empty separator makes a plus an ordinary character."""
        directory = FakeDirectory(OwnNames(separator=""))
        directory.add_domain("example.org")
        directory.add_account(at("ann@example.org"), PASSWORD)
        found = directory.classify(at("ann+x@example.org"))
        self.assertIs(found.address_class, AddressClass.UNKNOWN)

    def test_memory_does_not_grow_with_what_peers_ask(self) -> None:
        """A million made-up tags leave nothing behind."""
        directory = FakeDirectory()
        directory.add_domain("example.org")
        directory.add_account(at("ann@example.org"), PASSWORD)
        directory.add_alias(at("info@example.org"), [at("ann@example.org")])
        for number in range(50):
            directory.classify(at(f"info+{number}@example.org"))
            directory.classify(at(f"ann+{number}@example.org"))
            directory.classify(at(f"no{number}@example.org"))
        directory.classify(at("info@example.org"))
        self.assertEqual(set(directory.roster._expanded), {"info@example.org"})

    @settings(max_examples=200, deadline=None)
    @given(st.text(min_size=1, max_size=20))
    def test_keys_are_stable(self, local_part: str) -> None:
        """The key of an address is the key of its key's spelling."""
        key = lookup_key(Address(local_part, "example.org"))
        again = lookup_key(Address(key.removesuffix("@example.org"), "example.org"))
        self.assertEqual(again, key)

    def test_composition_does_not_count(self) -> None:
        """A composed and a decomposed letter are one name."""
        self.assertEqual(
            lookup_key(Address("J\u00fcrgen", "example.org")),
            lookup_key(Address("ju\u0308rgen", "example.org")),
        )
