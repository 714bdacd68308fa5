"""LOGIN (RFC 9051 6.2.3), and what both ways of logging in do at their end."""

from __future__ import annotations

from collections.abc import Iterable

from mailhost.imap.entry import Answer, CommandEntry, State
from mailhost.imap.refusals import LOGIN_FAILURES
from mailhost.imap.session import IMAPSession
from mailhost.interfaces.access import IMailAccess
from mailhost.interfaces.login import LoggedIn, LoginFailure, LoginOutcome
from mailhost.wire.imap import commands as grammar


def _password_allowed(session: IMAPSession) -> bool:
    facts = session.connection.facts()
    return bool(facts.tls) or facts.cleartext_login


async def run(session: IMAPSession, command: grammar.Login) -> Answer:
    """Log in by name and password."""
    facts = session.connection.facts()
    if not _password_allowed(session):
        return conclude(session, LoginFailure.ENCRYPTION_NEEDED, b"LOGIN")
    outcome = await session.authenticator.login(command.user, command.password, facts, IMailAccess)
    return conclude(session, outcome, b"LOGIN")


def conclude(session: IMAPSession, outcome: LoginOutcome, mechanism: bytes) -> Answer:
    """Take the outcome of a login over and return the answer."""
    facts = session.connection.facts()
    fields = {
        "session": facts.session,
        "peer": facts.peer,
        "tls": facts.tls,
        "mechanism": mechanism.decode("ascii", "replace"),
    }
    if isinstance(outcome, LoggedIn):
        if session.gone:
            outcome.logout()
            return b"NO The connection is gone"
        if not session.log_in(outcome):
            session.log.info(
                event="imap.login.refused", account=outcome.account, reason="sessions", **fields
            )
            return b"NO [LIMIT] Too many sessions"
        session.log.info(event="imap.login.accepted", account=outcome.account, **fields)
        return b"OK [CAPABILITY %b] Logged in" % session.capabilities()
    session.log.info(
        # Not what the client called itself: people type passwords into the wrong field.
        event="imap.login.refused",
        account="",
        reason=outcome.value,
        **fields,
    )
    if outcome in (LoginFailure.CREDENTIALS, LoginFailure.DISABLED):
        session.failed_logins += 1
        if session.failed_logins >= session.settings.max_failed_logins:
            session.after = lambda: session.bye(b"Too many failed logins")
    return LOGIN_FAILURES[outcome]


def _offers(session: IMAPSession) -> Iterable[bytes]:
    if session.state is State.NOT_AUTHENTICATED and not _password_allowed(session):
        yield b"LOGINDISABLED"


COMMAND = CommandEntry(b"LOGIN", grammar.login, run, State.NOT_AUTHENTICATED, offers=_offers)
