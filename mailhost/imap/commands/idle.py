"""IDLE (RFC 9051 6.3.13): changes are told as they happen."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall

from mailhost.imap.entry import ANY, LOGGED_IN, Answer, CommandEntry, State, offered
from mailhost.imap.session import IMAPSession
from mailhost.wire.imap import commands as grammar


class _Keepalive:
    """A sign of life now and then, so that no router forgets the connection."""

    def __init__(self, session: IMAPSession) -> None:
        self._session = session
        self._period = session.settings.idle_keepalive
        self._call: IDelayedCall | None = None
        self._arm()

    def _arm(self) -> None:
        if self._period:
            self._call = self._session.clock.callLater(self._period, self._say)

    def _say(self) -> None:
        if self._session.can_write:
            self._session.write(b"* OK Still here\r\n")
            self._session.flush()
        self._arm()

    def stop(self) -> None:
        """Say no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()


async def run(session: IMAPSession, command: grammar.Plain) -> Answer:
    """Tell changes until the client says DONE."""
    session.write(b"+ idling\r\n")
    session.expect_line()
    keepalive = _Keepalive(session)
    try:
        first = True
        line = None
        while line is None:
            if session.state is State.SELECTED and (first or session.changed):
                await session.show_updates(expunges=True)
            first = False
            waiting = session.drain()
            if waiting is not None:
                await waiting
            line = await session.next_line(changes=True)
    finally:
        keepalive.stop()
    return b"OK IDLE terminated" if line.upper() == b"DONE" else b"BAD Expected DONE"


COMMAND = CommandEntry(
    b"IDLE", grammar.plain, run, LOGGED_IN, capabilities=offered(b"IDLE", states=ANY)
)
