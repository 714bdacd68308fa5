"""What the command table says of a command, and in which states a session can be."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import Flag, auto
from typing import TYPE_CHECKING, Any, TypeAlias

from mailhost.wire.imap.cursor import Cursor

if TYPE_CHECKING:
    from mailhost.imap.session import IMAPSession


class State(Flag):
    """States of a session (RFC 9051 3)."""

    NOT_AUTHENTICATED = auto()
    AUTHENTICATED = auto()
    SELECTED = auto()
    LOGOUT = auto()


ANY = State.NOT_AUTHENTICATED | State.AUTHENTICATED | State.SELECTED
LOGGED_IN = State.AUTHENTICATED | State.SELECTED

Answer: TypeAlias = bytes
"""A tagged response without its tag and line end: ``OK [CODE] text``, ``NO text``, ``BAD text``."""


@dataclass(frozen=True, slots=True)
class Capability:
    """A word of the capability line, and in which states it stands there."""

    name: bytes
    states: State = ANY


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """
    One command.

    Args:
        name: in upper case, ``UID FETCH`` for a UID form.
        parse: reads the arguments (`mailhost.wire.imap.commands`).
        run: does it; returns the tagged response, or a coroutine of it. Untagged responses are
            written to the session.
        states: where it is allowed.
        expunges: EXPUNGE may be sent before its tagged response (RFC 9051 7.5.1).
        polls: changes of the mailbox are asked for even if no notice of one has come.
        capabilities: what the server offers because this command exists as it does.
        offers: further capabilities that depend on the session.
        enables: extensions that ENABLE turns on because of it (RFC 9051 6.3.1).
        stream: takes a command over whose message literal is about to come (APPEND).
    """

    name: bytes
    parse: Callable[[Cursor], Any]
    run: Callable[[IMAPSession, Any], Answer | Coroutine[Any, Any, Answer]]
    states: State
    expunges: bool = True
    polls: bool = False
    capabilities: tuple[Capability, ...] = ()
    offers: Callable[[IMAPSession], Iterable[bytes]] | None = None
    enables: tuple[bytes, ...] = ()
    stream: Callable[[IMAPSession, Cursor, int], Coroutine[Any, Any, Answer] | None] | None = None


def offered(*names: bytes, states: State = LOGGED_IN) -> tuple[Capability, ...]:
    """Return capabilities of those names."""
    return tuple(Capability(name, states) for name in names)


class CommandTable:
    """
    The commands that a server knows, by name, and what they make it offer.

    Args:
        entries: in the order in which their capabilities are listed.
    """

    def __init__(self, entries: Iterable[CommandEntry]) -> None:
        self.entries = tuple(entries)
        self.enables = frozenset(name for entry in self.entries for name in entry.enables)
        self._by_name = {entry.name: entry for entry in self.entries}
        self._dynamic = tuple(entry.offers for entry in self.entries if entry.offers is not None)
        self._static: dict[State, bytes] = {}

    def get(self, name: bytes) -> CommandEntry | None:
        """Return the command of that name, in upper case."""
        return self._by_name.get(name)

    def without(self, *names: bytes) -> CommandTable:
        """Return a table that lacks some commands, and what is offered for their sake."""
        return CommandTable(entry for entry in self.entries if entry.name not in names)

    def capabilities(self, session: IMAPSession) -> bytes:
        """Return what is offered to the session in its state, with spaces between."""
        state = session.state
        static = self._static.get(state)
        if static is None:
            names = [
                each.name
                for entry in self.entries
                for each in entry.capabilities
                if state in each.states
            ]
            static = self._static[state] = b" ".join(dict.fromkeys([b"IMAP4rev1", *names]))
        return b" ".join([static, *(name for offers in self._dynamic for name in offers(session))])
