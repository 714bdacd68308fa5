"""AUTHENTICATE (RFC 9051 6.2.2) with an initial response (RFC 4959)."""

from __future__ import annotations

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterable

from twisted.internet.defer import Deferred

from mailhost.imap.commands.login import conclude
from mailhost.imap.entry import Answer, CommandEntry, State, offered
from mailhost.imap.refusals import Gone
from mailhost.imap.session import IMAPSession
from mailhost.interfaces.access import IMailAccess
from mailhost.interfaces.login import (
    Challenge,
    IAuthentication,
    LoggedIn,
    LoginFailure,
    LoginOutcome,
)
from mailhost.wire.imap import commands as grammar


def _decoded(text: bytes) -> bytes:
    """Return the octets of a base64 response; raises Base64Error."""
    # RFC 4959 3: "=" is an initial response of no octets.
    return b"" if text == b"=" else a2b_base64(text, strict_mode=True) if text else b""


async def run(session: IMAPSession, command: grammar.Authenticate) -> Answer:
    """Run a SASL exchange, one line each way."""
    exchange = session.authenticator.begin(
        command.mechanism, session.connection.facts(), IMailAccess
    )
    if exchange is None:
        return b"NO [CANNOT] This mechanism is not offered"
    receiver = session.receiver
    before, receiver.max_line = receiver.max_line, session.settings.max_sasl_line
    try:
        outcome = await _exchange(session, exchange, command.initial)
    finally:
        receiver.max_line = before
    return conclude(session, outcome, command.mechanism)


async def _exchange(
    session: IMAPSession, exchange: IAuthentication, initial: bytes | None
) -> LoginOutcome:
    data: bytes | None = None
    text = initial
    while True:
        if text is not None:
            if text == b"*":
                exchange.cancel()
                return LoginFailure.CANCELLED
            try:
                data = _decoded(text)
            except Base64Error:
                exchange.cancel()
                return LoginFailure.MALFORMED
        answer = exchange.respond(data)
        if isinstance(answer, Deferred):
            answer = await answer
        if isinstance(answer, LoggedIn):
            return await _last_word(session, answer)
        if not isinstance(answer, Challenge):
            return answer
        try:
            text = await _ask(session, answer.data)
        except Gone:
            exchange.cancel()
            raise


async def _ask(session: IMAPSession, challenge: bytes) -> bytes:
    session.write(b"+ %b\r\n" % b64encode(challenge))
    session.expect_line()
    line = await session.next_line()
    assert line is not None
    return line


async def _last_word(session: IMAPSession, outcome: LoggedIn) -> LoginOutcome:
    if outcome.final is None:
        return outcome
    # IMAP's OK carries no data: what the mechanism says with success is one more challenge, and
    # the client's answer to it is empty (RFC 4422 3.6, RFC 5802 5).
    try:
        if await _ask(session, outcome.final):
            outcome.logout()
            return LoginFailure.CANCELLED
    except BaseException:
        outcome.logout()
        raise
    return outcome


def _offers(session: IMAPSession) -> Iterable[bytes]:
    if session.state is State.NOT_AUTHENTICATED:
        for mechanism in session.authenticator.mechanisms(session.connection.facts()):
            yield b"AUTH=" + mechanism


COMMAND = CommandEntry(
    b"AUTHENTICATE",
    grammar.authenticate,
    run,
    State.NOT_AUTHENTICATED,
    capabilities=offered(b"SASL-IR", states=State.NOT_AUTHENTICATED),
    offers=_offers,
)
