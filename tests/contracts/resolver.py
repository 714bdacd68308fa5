"""What every `IResolver` does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from mailhost.interfaces.network import Answer, AnswerStatus, IResolver, MXRecord

MX = {"two.example": [(20, "b.two.example"), (10, "a.two.example")], "null.example": [(0, "")]}
ADDRESSES = {
    "a.two.example": ["2001:db8::1", "192.0.2.1"],
    "b.two.example": ["192.0.2.2"],
    "only-a.example": ["192.0.2.3"],
}
TXT = {"txt.example": [b"v=spf1 -all", b"x" * 600]}
NAMES = {"192.0.2.1": ["a.two.example"]}
FAILING = ["broken.example"]


class ResolverContract(ABC):
    """
    Mix into a test case and define `resolver`.

    It returns a resolver that knows the tables above, and nothing of any other name.
    """

    @abstractmethod
    def resolver(self) -> IResolver:
        """Return a resolver that knows the tables above."""

    def answer(self, deferred: Deferred[Answer]) -> Answer:
        """Return the result; a subclass may have to move its network first."""
        return self.successResultOf(deferred)  # type: ignore[attr-defined, no-any-return]

    def check(self: Any, answer: Answer, status: AnswerStatus, *records: object) -> None:
        self.assertEqual((answer.status, set(answer.records)), (status, set(records)))

    def test_provides_the_interface(self: Any) -> None:
        """It has every method of the interface."""
        self.assertTrue(verifyObject(IResolver, self.resolver()))

    def test_mx_records(self: Any) -> None:
        """MX records come with preference and lower-case host."""
        answer = self.answer(self.resolver().mx("TWO.example"))
        self.check(
            answer,
            AnswerStatus.FOUND,
            MXRecord(20, "b.two.example"),
            MXRecord(10, "a.two.example"),
        )

    def test_null_mx_has_an_empty_host(self: Any) -> None:
        """The root as exchange is the empty name."""
        self.check(
            self.answer(self.resolver().mx("null.example")), AnswerStatus.FOUND, MXRecord(0, "")
        )

    def test_no_mx_but_addresses_is_no_data(self: Any) -> None:
        """A name that has other records only has no data."""
        self.check(self.answer(self.resolver().mx("only-a.example")), AnswerStatus.NO_DATA)

    def test_unknown_name(self: Any) -> None:
        """A name that does not exist is NO_NAME for every type."""
        resolver = self.resolver()
        for look_up in (resolver.mx, resolver.addresses, resolver.txt):
            self.check(self.answer(look_up("nowhere.example")), AnswerStatus.NO_NAME)
        self.check(self.answer(resolver.names("192.0.2.99")), AnswerStatus.NO_NAME)

    def test_addresses_of_both_families(self: Any) -> None:
        """AAAA and A come together, and one alone is found too."""
        resolver = self.resolver()
        self.check(
            self.answer(resolver.addresses("a.two.example")),
            AnswerStatus.FOUND,
            "2001:db8::1",
            "192.0.2.1",
        )
        self.check(
            self.answer(resolver.addresses("b.two.example")), AnswerStatus.FOUND, "192.0.2.2"
        )

    def test_txt_strings_are_joined(self: Any) -> None:
        """Strings of one record are one value."""
        self.check(
            self.answer(self.resolver().txt("txt.example")),
            AnswerStatus.FOUND,
            b"v=spf1 -all",
            b"x" * 600,
        )

    def test_names_of_an_address(self: Any) -> None:
        """PTR records are host names."""
        self.check(
            self.answer(self.resolver().names("192.0.2.1")), AnswerStatus.FOUND, "a.two.example"
        )

    def test_failure_is_a_status(self: Any) -> None:
        """No Deferred fails: trouble is FAILED with a reason."""
        answer = self.answer(self.resolver().mx("broken.example"))
        self.check(answer, AnswerStatus.FAILED)
        self.assertNotEqual(answer.problem, "")


class LateResolverContract:
    """For resolvers whose answers take time: mix in beside `ResolverContract`."""

    def test_can_be_cancelled(self: Any) -> None:
        """A look-up that is cancelled ends at once."""
        deferred = self.resolver().addresses("a.two.example")
        self.assertNoResult(deferred)
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
