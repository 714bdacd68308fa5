"""What every IDirectory does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from mailhost.address import Address
from mailhost.directory.roster import OwnNames
from mailhost.errors import DirectoryError, EntryExists, NoSuchEntry, SyntaxFault
from mailhost.interfaces.directory import Account, AddressClass, Classification, IDirectory
from mailhost.units import AccountID

PASSWORD = "correct horse battery"
HOSTS = OwnNames(frozenset({"mx.example.org", "[192.0.2.1]"}))


def at(text: str) -> Address:
    """The address of a text."""
    return Address.parse(text)


class DirectoryContract(ABC):
    """Mix into a SynchronousTestCase that has `make_directory`."""

    directory: Any

    @abstractmethod
    def make_directory(self, names: OwnNames) -> Any:
        """Return an empty directory."""

    def setUp(self) -> None:
        self.directory = self.make_directory(HOSTS)

    def got(self, answer: Any) -> Any:
        """The value of an answer that may be Deferred."""
        return self.successResultOf(answer) if isinstance(answer, Deferred) else answer

    def refused(self, answer: Deferred[Any], error: type[Exception]) -> str:
        """The text of the error that the answer failed with."""
        failure = self.failureResultOf(answer, error)
        return str(failure.value)

    def populate(self) -> tuple[Account, Account]:
        """Two domains, two accounts."""
        self.got(self.directory.add_domain("example.org"))
        self.got(self.directory.add_domain("other.example"))
        ann = self.got(self.directory.add_account(at("ann@example.org"), PASSWORD, "Ann"))
        bob = self.got(self.directory.add_account(at("bob@other.example"), PASSWORD))
        return ann, bob

    def alias(self, address: str, *targets: str) -> None:
        """Add an alias."""
        self.got(self.directory.add_alias(at(address), [at(target) for target in targets]))

    def classify(self, address: str) -> Classification:
        """What an address is."""
        return self.got(self.directory.classify(at(address)))

    def reached(self, address: str) -> tuple[str, list[str], list[str]]:
        """Class, account ids and outside addresses of an address."""
        found = self.classify(address)
        return (
            found.address_class.value,
            [target.account_id for target in found.local],
            [str(target) for target in found.remote],
        )

    def test_provides_the_interface(self) -> None:
        """The object has every method with its signature."""
        self.assertTrue(verifyObject(IDirectory, self.directory))

    def test_empty(self) -> None:
        """Without domains nothing is local."""
        self.assertEqual(self.got(self.directory.domains()), ())
        self.assertEqual(self.got(self.directory.accounts()), ())
        self.assertEqual(self.got(self.directory.aliases()), ())
        self.assertIs(self.classify("a@example.org").address_class, AddressClass.REMOTE)
        self.assertIs(self.classify("a@mx.example.org").address_class, AddressClass.REMOTE)
        self.assertFalse(self.got(self.directory.is_local_domain("mx.example.org")))

    def test_classes(self) -> None:
        """Local, unknown, remote and disabled addresses are told apart."""
        ann, _ = self.populate()
        self.assertEqual(self.reached("ann@example.org"), ("local", [ann.account_id], []))
        self.assertEqual(self.reached("nobody@example.org"), ("unknown", [], []))
        self.assertEqual(self.reached("x@far.example"), ("remote", [], ["x@far.example"]))
        self.assertEqual(self.reached("x@sub.example.org")[0], "remote")
        self.got(self.directory.set_enabled(ann.account_id, False))
        self.assertEqual(self.reached("ann@example.org"), ("disabled", [], []))
        self.assertEqual(self.reached("ann+tag@example.org"), ("disabled", [], []))
        self.got(self.directory.set_enabled(ann.account_id, True))
        self.assertEqual(self.reached("ann@example.org"), ("local", [ann.account_id], []))

    def test_case_does_not_count(self) -> None:
        """Another spelling of one's own address is one's own address."""
        ann, _ = self.populate()
        found = self.classify("ANN@EXAMPLE.org")
        self.assertEqual([t.account_id for t in found.local], [ann.account_id])
        self.assertIsNone(found.local[0].delivered_to)

    def test_subaddress(self) -> None:
        """A tag leads to the user, with Delivered-To; an address with a plus of its own wins."""
        ann, bob = self.populate()
        found = self.classify("ann+list@example.org")
        self.assertEqual(found.local[0].account_id, ann.account_id)
        self.assertEqual(found.local[0].delivered_to, at("ann+list@example.org"))
        self.alias("ann+bob@example.org", "bob@other.example")
        self.assertEqual(self.reached("ann+bob@example.org")[1], [bob.account_id])
        self.assertEqual(self.reached("+x@example.org")[0], "unknown")
        self.assertEqual(self.reached("nobody+x@example.org")[0], "unknown")

    def test_alias(self) -> None:
        """An alias reaches all its targets once, here and outside, through other aliases too."""
        ann, bob = self.populate()
        self.alias("staff@example.org", "ann@example.org", "both@example.org", "x@far.example")
        self.alias("both@example.org", "bob@other.example", "ann+b@example.org", "x@far.example")
        self.assertEqual(
            self.reached("staff@example.org"),
            ("local", [ann.account_id, bob.account_id], ["x@far.example"]),
        )
        target = self.classify("staff+tag@example.org").local[0]
        self.assertEqual(target.delivered_to, at("staff+tag@example.org"))

    def test_alias_to_outside_only(self) -> None:
        """An alias with outside targets only is local all the same."""
        self.populate()
        self.alias("out@example.org", "x@far.example")
        self.assertEqual(self.reached("out@example.org"), ("local", [], ["x@far.example"]))

    def test_alias_loops(self) -> None:
        """A loop ends, as UNKNOWN unless something else is reached."""
        ann, _ = self.populate()
        self.alias("a@example.org", "b@example.org")
        self.alias("b@example.org", "c+x@example.org")
        self.alias("c@example.org", "a@example.org")
        self.assertEqual(self.reached("a@example.org"), ("unknown", [], []))
        self.got(self.directory.delete_alias(at("c@example.org")))
        self.alias("c@example.org", "a@example.org", "ann@example.org")
        self.assertEqual(self.reached("a@example.org"), ("local", [ann.account_id], []))
        self.refused(
            self.directory.add_alias(at("d@example.org"), [at("D@example.org")]), DirectoryError
        )

    def test_long_alias_chain(self) -> None:
        """A chain of hundreds of aliases is followed to its end."""
        ann, _ = self.populate()
        self.alias("n0@example.org", "ann@example.org")
        for number in range(1, 300):
            self.alias(f"n{number}@example.org", f"n{number - 1}@example.org")
        self.assertEqual(self.reached("n299@example.org")[1], [ann.account_id])

    def test_alias_of_disabled_and_unknown(self) -> None:
        """An alias whose every target is disabled is disabled; to nobody it is unknown."""
        ann, bob = self.populate()
        self.alias("two@example.org", "ann@example.org", "bob@other.example")
        self.alias("none@example.org", "gone@example.org")
        self.got(self.directory.set_enabled(ann.account_id, False))
        self.assertEqual(self.reached("two@example.org"), ("local", [bob.account_id], []))
        self.got(self.directory.set_enabled(bob.account_id, False))
        self.assertEqual(self.reached("two@example.org"), ("disabled", [], []))
        self.assertEqual(self.reached("none@example.org"), ("unknown", [], []))

    def test_postmaster(self) -> None:
        """Every domain has a postmaster (RFC 5321 4.5.1), whatever case it is written in."""
        ann, bob = self.populate()
        self.got(self.directory.add_domain("empty.example"))
        self.assertEqual(self.reached("Postmaster@example.org")[1], [ann.account_id])
        self.assertEqual(self.reached("postmaster@other.example")[1], [bob.account_id])
        self.assertEqual(self.reached("POSTMASTER@empty.example")[1], [ann.account_id])
        self.got(self.directory.set_enabled(bob.account_id, False))
        self.assertEqual(self.reached("postmaster@other.example")[1], [ann.account_id])
        self.got(self.directory.set_enabled(bob.account_id, True))
        self.alias("postmaster@example.org", "bob@other.example")
        self.assertEqual(self.reached("postmaster@empty.example")[1], [bob.account_id])
        post = self.got(self.directory.add_account(at("postmaster@empty.example"), PASSWORD))
        self.assertEqual(self.reached("postmaster@empty.example")[1], [post.account_id])
        self.got(self.directory.set_enabled(post.account_id, False))
        self.assertEqual(self.reached("postmaster@empty.example")[1], [bob.account_id])

    def test_own_host_names(self) -> None:
        """The server's own names and address literals stand for the default domain."""
        ann, _ = self.populate()
        for host in ("mx.example.org", "[192.0.2.1]"):
            self.assertEqual(self.reached(f"ann@{host}")[1], [ann.account_id])
            self.assertEqual(self.reached(f"postmaster@{host}")[1], [ann.account_id])
            self.assertEqual(self.reached(f"nobody@{host}")[0], "unknown")
            self.assertEqual(self.classify(f"ann@{host}").local[0].delivered_to, at(f"ann@{host}"))
            self.assertTrue(self.got(self.directory.is_local_domain(host)))
        self.assertEqual(self.reached("ann@[192.0.2.2]")[0], "remote")

    def test_may_send_as(self) -> None:
        """One's own address, its tags, and aliases that lead to oneself alone."""
        ann, bob = self.populate()
        self.alias("info@example.org", "ann@example.org")
        self.alias("all@example.org", "ann@example.org", "bob@other.example")
        self.alias("copy@example.org", "ann@example.org", "x@far.example")
        allowed = {
            "ann@example.org": True,
            "Ann+tag@example.org": True,
            "info@example.org": True,
            "all@example.org": False,
            "copy@example.org": False,
            "bob@other.example": False,
            "nobody@example.org": False,
            "x@far.example": False,
        }
        for address, expected in allowed.items():
            may = self.got(self.directory.may_send_as(ann.account_id, at(address)))
            self.assertIs(may, expected, address)
        self.assertFalse(
            self.got(self.directory.may_send_as(AccountID("none"), at("ann@example.org")))
        )
        self.assertTrue(
            self.got(self.directory.may_send_as(bob.account_id, at("bob@other.example")))
        )

    def test_accounts(self) -> None:
        """Accounts are found by id, by address, by domain; ids differ and never return."""
        ann, bob = self.populate()
        self.assertEqual((ann.display_name, ann.enabled), ("Ann", True))
        self.assertEqual(self.got(self.directory.account(ann.account_id)), ann)
        self.assertEqual(self.got(self.directory.account_by_address(at("ANN@example.org"))), ann)
        self.assertEqual(self.got(self.directory.accounts()), (ann, bob))
        self.assertEqual(self.got(self.directory.accounts("other.EXAMPLE")), (bob,))
        self.got(self.directory.delete_account(ann.account_id))
        self.refused(self.directory.account(ann.account_id), NoSuchEntry)
        self.refused(self.directory.account_by_address(ann.address), NoSuchEntry)
        self.assertEqual(self.reached("ann@example.org")[0], "unknown")
        again = self.got(self.directory.add_account(ann.address, PASSWORD))
        self.assertNotEqual(again.account_id, ann.account_id)

    def test_refused_accounts(self) -> None:
        """Taken addresses, foreign domains, routes and weak passwords are refused."""
        ann, _ = self.populate()
        self.alias("info@example.org", "ann@example.org")
        add = self.directory.add_account
        self.refused(add(at("ANN@example.org"), PASSWORD), EntryExists)
        self.refused(add(at("info@example.org"), PASSWORD), EntryExists)
        self.refused(add(at("x@far.example"), PASSWORD), NoSuchEntry)
        for local in ("a%far.example", "far.example!a", '"a@far.example"'):
            self.refused(add(at(f"{local}@example.org"), PASSWORD), DirectoryError)
        for password in ("", "short", "1234567", "tab\tin it", "x" * 1025):
            self.refused(add(at("new@example.org"), password), DirectoryError)
            self.refused(self.directory.set_password(ann.account_id, password), DirectoryError)
        self.assertEqual(len(self.got(self.directory.accounts())), 2)

    def test_unknown_ids(self) -> None:
        """A change of an account that is not there is NoSuchEntry."""
        unknown = AccountID("0" * 26)
        self.refused(self.directory.set_password(unknown, PASSWORD), NoSuchEntry)
        self.refused(self.directory.set_enabled(unknown, True), NoSuchEntry)
        self.refused(self.directory.delete_account(unknown), NoSuchEntry)

    def test_domains(self) -> None:
        """Domains are A-labels, unique, and stay while something uses them."""
        ann, _ = self.populate()
        idn = self.got(self.directory.add_domain("B\u00fccher.example"))
        self.assertEqual(idn.name, "xn--bcher-kva.example")
        names = [domain.name for domain in self.got(self.directory.domains())]
        self.assertEqual(names, ["example.org", "other.example", "xn--bcher-kva.example"])
        self.assertTrue(self.got(self.directory.is_local_domain("example.org")))
        self.refused(self.directory.add_domain("EXAMPLE.ORG"), EntryExists)
        self.refused(self.directory.add_domain("not a domain"), SyntaxFault)
        self.refused(self.directory.add_domain("[192.0.2.9]"), DirectoryError)
        self.refused(self.directory.delete_domain("far.example"), NoSuchEntry)
        self.assertIn(
            "use", self.refused(self.directory.delete_domain("example.org"), DirectoryError)
        )
        self.got(self.directory.delete_account(ann.account_id))
        self.alias("info@example.org", "x@far.example")
        self.refused(self.directory.delete_domain("example.org"), DirectoryError)
        self.got(self.directory.delete_alias(at("Info@example.org")))
        self.got(self.directory.delete_domain("example.org"))
        self.assertFalse(self.got(self.directory.is_local_domain("example.org")))
        self.assertEqual(self.reached("ann@example.org")[0], "remote")

    def test_aliases(self) -> None:
        """Aliases are listed by domain, and refused where the address is taken or not ours."""
        self.populate()
        self.alias("info@example.org", "ann@example.org", "ANN@example.org", "x@far.example")
        self.alias("info@other.example", "x@far.example")
        every = self.got(self.directory.aliases())
        self.assertEqual(
            [str(alias.address) for alias in every],
            [
                "info@example.org",
                "info@other.example",
            ],
        )
        self.assertEqual(len(every[0].targets), 2)
        self.assertEqual(self.got(self.directory.aliases("other.example")), every[1:])
        add = self.directory.add_alias
        target = [at("y@far.example")]
        self.refused(add(at("INFO@example.org"), target), EntryExists)
        self.refused(add(at("ann@example.org"), target), EntryExists)
        self.refused(add(at("x@far.example"), target), NoSuchEntry)
        self.refused(add(at("new@example.org"), []), DirectoryError)
        self.refused(self.directory.delete_alias(at("new@example.org")), NoSuchEntry)

    def test_listing_an_unknown_domain(self) -> None:
        """A mistyped domain is an error, not an empty list."""
        self.populate()
        self.refused(self.directory.accounts("exmaple.org"), NoSuchEntry)
        self.refused(self.directory.aliases("exmaple.org"), NoSuchEntry)
        self.refused(self.directory.accounts("not a domain"), SyntaxFault)
