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
