"""
One AUTH exchange over SMTP (RFC 4954 4): base64, cancelling, and what outcomes are in replies.

The mechanism itself is behind `IAuthentication`. What it has to say together with success (SCRAM's
server signature) is sent as a last challenge, which the client answers with an empty line, since
235 carries no data (RFC 4954 4, RFC 4422 5).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from twisted.internet.defer import Deferred

from mailhost.interfaces.login import (
    Challenge,
    IAuthentication,
    LoggedIn,
    LoginFailure,
    LoginOutcome,
)
from mailhost.reply import Reply
from mailhost.smtp import replies

Step: TypeAlias = Challenge | LoginOutcome

_BASE64 = re.compile(rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?\Z")

FAILURES: Mapping[LoginFailure, Reply] = {
    LoginFailure.CREDENTIALS: replies.AUTH_FAILED,
    # Not told apart from a wrong password.
    LoginFailure.DISABLED: replies.AUTH_FAILED,
    LoginFailure.MALFORMED: replies.AUTH_MALFORMED,
    LoginFailure.CANCELLED: replies.AUTH_CANCELLED,
    LoginFailure.TEMPORARY: replies.AUTH_LATER,
    LoginFailure.ENCRYPTION_NEEDED: replies.AUTH_ENCRYPTION,
}


class AuthExchange:
    """
    One exchange, from AUTH to its last reply.

    Args:
        authentication: the server's side of the mechanism.
        ask: has the next line brought to `line`.
        done: is told the outcome, once, and returns the reply for success.
    """

    __slots__ = ("_ask", "_authentication", "_done", "_outcome", "mechanism")

    def __init__(
        self,
        mechanism: str,
        authentication: IAuthentication,
        ask: Callable[[], None],
        done: Callable[[AuthExchange, LoginOutcome], Reply],
    ) -> None:
        self.mechanism = mechanism
        self._authentication = authentication
        self._ask = ask
        self._done = done
        self._outcome: LoggedIn | None = None

    def begin(self, initial: bytes | None) -> Reply | Deferred[Reply]:
        """Start with the initial response as it stood in the command, None without one."""
        if initial is None:
            return self._respond(None)
        # RFC 4954 4: "=" is an initial response of zero length.
        return self._decode(b"" if initial == b"=" else initial)

    def line(self, line: bytes) -> Reply | Deferred[Reply]:
        """Take the client's response to a challenge."""
        if line == b"*":
            # RFC 4954 4: the client cancels.
            return self._fail(LoginFailure.CANCELLED)
        if self._outcome is not None:
            outcome = self._outcome
            if line:
                return self._fail(LoginFailure.MALFORMED)
            self._outcome = None
            return self._done(self, outcome)
        return self._decode(line)

    def abandon(self) -> None:
        """The client went away."""
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome.logout()
        else:
            self._authentication.cancel()

    def _decode(self, text: bytes) -> Reply | Deferred[Reply]:
        if not _BASE64.match(text):
            self.abandon()
            self._done(self, LoginFailure.MALFORMED)
            return replies.AUTH_BASE64
        return self._respond(binascii.a2b_base64(text))

    def _respond(self, data: bytes | None) -> Reply | Deferred[Reply]:
        step = self._authentication.respond(data)
        if isinstance(step, Deferred):
            return step.addCallback(self._take)
        return self._take(step)

    def _take(self, step: Step) -> Reply:
        if isinstance(step, Challenge):
            return self._challenge(step.data)
        if isinstance(step, LoggedIn):
            if step.final is None:
                return self._done(self, step)
            self._outcome = step
            return self._challenge(step.final)
        self._done(self, step)
        return FAILURES[step]

    def _challenge(self, data: bytes) -> Reply:
        self._ask()
        return Reply(334, "", (binascii.b2a_base64(data, newline=False).decode("ascii"),))

    def _fail(self, failure: LoginFailure) -> Reply:
        self.abandon()
        self._done(self, failure)
        return FAILURES[failure]
