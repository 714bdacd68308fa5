"""
What POP3 commands mean (RFC 1939, 2449, 2595, 3206, 5034, 6856).

A session is the sink of a `POP3Receiver` and speaks through a `Channel`. A command answers with
octets, or with a Deferred of them, and then no further command is looked at until it is there, so
that responses to pipelined commands come in order. The same holds while the client does not take
what was sent.

States: AUTHORIZATION until a login succeeds, TRANSACTION until QUIT, then UPDATE, in which marked
messages are removed durably before +OK. A connection that ends without QUIT removes nothing.

Errors become text in `_failed` alone: a damaged message is [SYS/PERM], our own faults are
[SYS/TEMP]; what an exception says is logged and never sent.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, Flag, auto
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.errors import MailboxReadOnly, MailhostError, MessageDamaged, NoSuchEntry
from mailhost.interfaces.access import IMailAccess
from mailhost.interfaces.login import (
    Challenge,
    ConnectionFacts,
    IAuthentication,
    LoggedIn,
    LoginFailure,
)
from mailhost.pop3.maildrop import Maildrop, open_maildrop
from mailhost.pop3.retrieval import BrokenOff, Retrieval
from mailhost.pop3.settings import POP3Parts, POP3Settings
from mailhost.wire.pop3 import POP3Receiver, StreamFault, multi_line

Answer: TypeAlias = bytes | Deferred[bytes | None] | None
"""A response with its line end, later perhaps; None when the command has said all itself."""


class Channel(Protocol):
    """The connection, as a session uses it."""

    def write(self, data: bytes) -> None:
        """Send octets, at the latest when the channel is uncorked."""

    def cork(self) -> None:
        """Gather what is written."""

    def uncork(self) -> None:
        """Send what was gathered."""

    def start_tls(self) -> None:
        """Send what was written and begin a handshake; `POP3Session.secured` follows."""

    def pause_reading(self) -> None:
        """Read nothing from the client."""

    def resume_reading(self) -> None:
        """Read again."""

    def logged_in(self) -> None:
        """The client is known from now on."""

    def close(self) -> None:
        """Send what was written and close; `POP3Session.ended` follows."""


class State(Flag):
    """Where a session is (RFC 1939 3)."""

    AUTHORIZATION = auto()
    TRANSACTION = auto()
    UPDATE = auto()


class End(Enum):
    """Why a session ended, for logs."""

    QUIT = "quit"
    LOST = "connection lost"
    IDLE = "idle"
    BAD_COMMANDS = "too many bad commands"
    FAILED_LOGINS = "too many failed logins"
    FAULT = "stream fault"
    SHUTDOWN = "shutdown"


FOREIGN_VERBS = frozenset(b"GET POST PUT HEAD OPTIONS CONNECT TRACE PATCH PRI PROXY HOST:".split())
"""Verbs of other protocols: somebody's browser is made to talk to us (R-09, ALPACA)."""

_FAILURES: dict[LoginFailure, bytes] = {
    # RFC 3206 4: [AUTH] says that other credentials may help, [SYS/TEMP] that they will not.
    LoginFailure.CREDENTIALS: b"-ERR [AUTH] Wrong user name or password\r\n",
    LoginFailure.DISABLED: b"-ERR [AUTH] Wrong user name or password\r\n",
    LoginFailure.MALFORMED: b"-ERR The exchange does not follow its mechanism\r\n",
    LoginFailure.CANCELLED: b"-ERR Cancelled\r\n",
    LoginFailure.TEMPORARY: b"-ERR [SYS/TEMP] Login is not possible now, try again later\r\n",
    LoginFailure.ENCRYPTION_NEEDED: b"-ERR TLS is needed before login, use STLS\r\n",
}
_UNAVAILABLE = b"-ERR [SYS/TEMP] Internal error, try again later\r\n"
_NO_SUCH_MESSAGE = b"-ERR No such message\r\n"
_MAX_NUMBER_DIGITS = 10


class POP3Session:
    """
    One connection's dialogue.

    Args:
        channel: the connection.
        parts, settings: as in `mailhost.pop3.settings`.
        facts: what is known of the connection; replaced by `secured`.
    """

    log = Logger()

    def __init__(
        self, channel: Channel, parts: POP3Parts, settings: POP3Settings, facts: ConnectionFacts
    ) -> None:
        self.receiver = POP3Receiver(self)
        self.facts = facts
        self.state = State.AUTHORIZATION
        self._channel = channel
        self._parts = parts
        self._settings = settings
        self._user: bytes | None = None
        self._mechanism = ""
        self._exchange: IAuthentication | None = None
        self._final: LoggedIn | None = None
        self._login: LoggedIn | None = None
        self._maildrop: Maildrop | None = None
        self._retrieval: Retrieval | None = None
        self._bad_commands = 0
        self._failed_logins = 0
        self._retrieved = self._sent = self._removed = 0
        self._started = parts.clock.seconds()
        self._busy = False
        self._blocked = False
        self._closing = False
        self._end: End | None = None
        self._lost = False

    # What the channel calls.

    @property
    def busy(self) -> bool:
        """Whether the client waits for us, and not we for it."""
        return self._busy

    def greet(self) -> None:
        """Say the greeting."""
        self._channel.write(b"+OK %b POP3 ready\r\n" % self._settings.hostname.encode())

    def secured(self, facts: ConnectionFacts) -> None:
        """TLS is established: forget what was said before (RFC 2595 4) and go on."""
        self.facts = facts
        self._user = None
        self._busy = False
        self._go_on()

    def blocked(self) -> None:
        """The client does not take what was sent: produce nothing more."""
        self._blocked = True
        self.receiver.hold()
        if self._retrieval is not None:
            self._retrieval.pause()

    def unblocked(self) -> None:
        """The client takes octets again."""
        self._blocked = False
        if self._retrieval is not None:
            self._channel.cork()
            self._retrieval.resume()
            self._channel.uncork()
        self._go_on()

    def close(self, end: End) -> None:
        """End the session from our side, without removing anything; one in QUIT ends itself."""
        if self.state is not State.UPDATE:
            self._finish(end)

    def ended(self) -> None:
        """The connection is gone. Work that was begun is finished without it."""
        self._lost = True
        self.receiver.close()
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
        if self._final is not None:
            self._final.logout()
            self._final = None
        if self._retrieval is not None:
            self._retrieval.stop()
        if not self._busy:
            self._let_go()

    # What the receiver calls.

    def command(self, verb: bytes, argument: bytes) -> None:
        """Run a command and answer it."""
        entry = COMMANDS.get(verb)
        if entry is None:
            if verb in FOREIGN_VERBS:
                self._end = End.FAULT
            self._say(self._bad(b"-ERR Unknown command\r\n"))
        elif self.state not in entry.states:
            self._say(self._bad(b"-ERR Not now\r\n"))
        elif (argument != b"") not in entry.argument:
            self._say(self._bad(b"-ERR Wrong arguments\r\n"))
        else:
            self._run(entry.run, argument)

    def auth_line(self, line: bytes) -> None:
        """Take the client's part of a SASL exchange."""
        self._run(POP3Session._sasl_response, line)

    def fault(self, fault: StreamFault) -> None:
        """Say so and close: what follows cannot be told apart from commands."""
        self.log.info(
            event="pop3.stream.fault",
            session=self.facts.session,
            peer=self.facts.peer,
            reason=fault.value,
        )
        self._channel.write(
            b"-ERR Line too long\r\n" if fault is StreamFault.LINE_TOO_LONG else b""
        )
        self._finish(End.FAULT)

    def pause(self) -> None:
        """Stop reading."""
        self._channel.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._channel.resume_reading()

    # Running commands.

    def _run(self, run: Callable[[POP3Session, bytes], Answer], argument: bytes) -> None:
        try:
            answer = run(self, argument)
        except Exception:
            answer = self._failed(Failure())
        if isinstance(answer, Deferred):
            self._busy = True
            self.receiver.hold()
            answer.addErrback(self._failed)
            answer.addCallback(self._answered).addErrback(self._broken)
        else:
            self._say(answer)

    def _answered(self, answer: bytes | None) -> None:
        self._busy = False
        if self._lost:
            self._let_go()
            return
        self._channel.cork()
        self._say(answer)
        self._go_on()
        self._channel.uncork()

    def _broken(self, failure: Failure) -> None:
        self.log.failure("", failure, event="pop3.session.failed", session=self.facts.session)
        self._finish(End.FAULT)

    def _go_on(self) -> None:
        if not (self._busy or self._blocked or self._closing or self._lost):
            self._channel.cork()
            self.receiver.release()
            self._channel.uncork()

    def _say(self, answer: bytes | None) -> None:
        if answer and not self._lost:
            self._channel.write(answer)
        if self._end is not None:
            self._finish(self._end)

    def _bad(self, answer: bytes) -> bytes:
        self._bad_commands += 1
        if self._bad_commands >= self._settings.max_bad_commands:
            self._end = End.BAD_COMMANDS
        return answer

    def _failed(self, failure: Failure) -> bytes | None:
        """Turn an error into a response; the one place where that is done."""
        error = failure.value
        if isinstance(error, BrokenOff):
            # The response cannot be taken back; only its missing end says that it is not whole.
            self._report_damage(failure)
            self._end = End.FAULT
            return None
        if isinstance(error, MessageDamaged):
            self._report_damage(failure)
            return b"-ERR [SYS/PERM] This message is damaged\r\n"
        if isinstance(error, NoSuchEntry):
            return b"-ERR This message is gone\r\n"
        if isinstance(error, MailboxReadOnly):
            return b"-ERR [SYS/PERM] The mailbox cannot be changed\r\n"
        self.log.failure("", failure, event="pop3.session.failed", session=self.facts.session)
        if isinstance(error, MailhostError):
            return b"-ERR [SYS/TEMP] The mailbox cannot be used now, try again later\r\n"
        return _UNAVAILABLE

    def _report_damage(self, failure: Failure) -> None:
        self.log.warn(
            event="pop3.message.damaged",
            session=self.facts.session,
            account=self._account,
            problem=failure.getErrorMessage(),
        )

    @property
    def _account(self) -> str:
        return "" if self._login is None else self._login.account

    def _finish(self, end: End) -> None:
        self._end = end
        if not self._closing:
            self._closing = True
            self.receiver.close()
            self._channel.close()

    def _let_go(self) -> None:
        maildrop, self._maildrop = self._maildrop, None
        if maildrop is not None:
            maildrop.close()
        login = self._login
        if login is None:
            return
        self.log.info(
            event="pop3.session.ended",
            session=self.facts.session,
            account=login.account,
            peer=self.facts.peer,
            reason=(self._end or End.LOST).value,
            retrieved=self._retrieved,
            size=self._sent,
            deleted=self._removed,
            delay=self._parts.clock.seconds() - self._started,
        )
        self._login = None
        self._parts.sessions.leave(login.account, self.facts.peer)
        login.logout()

    # AUTHORIZATION.

    def _may_send_password(self) -> bool:
        return bool(self.facts.tls) or self.facts.cleartext_login

    def _capa(self, _: bytes) -> Answer:
        # RFC 2449 5: what can change with the state is listed in the state it holds for.
        names = [b"TOP", b"UIDL", b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE NEVER"]
        if self._may_send_password():
            # RFC 6856 2: USER says that user names and passwords may be UTF-8.
            names += [b"USER", b"UTF8 USER"]
        else:
            names.append(b"UTF8")
        mechanisms = self._parts.authenticator.mechanisms(self.facts)
        if mechanisms:
            names.append(b"SASL " + b" ".join(mechanisms))
        if self.state is State.AUTHORIZATION and self._may_start_tls():
            names.append(b"STLS")
        names.append(b"IMPLEMENTATION mailhost")
        return multi_line(b"+OK", names)

    def _may_start_tls(self) -> bool:
        return self._parts.tls_context is not None and not self.facts.tls

    def _stls(self, _: bytes) -> Answer:
        if not self._may_start_tls():
            return self._bad(b"-ERR TLS is active already or not available\r\n")
        # RFC 2595 4: what came in the clear behind STLS must never be run inside TLS.
        self._busy = True
        self.receiver.hold()
        self.receiver.discard()
        self._channel.write(b"+OK Begin TLS\r\n")
        self._channel.start_tls()
        return None

    def _utf8(self, _: bytes) -> Answer:
        # RFC 6856 2.1. Nothing needs to change: messages are always sent as they are.
        return b"+OK\r\n"

    def _user_command(self, argument: bytes) -> Answer:
        if not self._may_send_password():
            return _FAILURES[LoginFailure.ENCRYPTION_NEEDED]
        # The same for every name: who exists is not told.
        self._user = argument
        return b"+OK\r\n"

    def _pass(self, argument: bytes) -> Answer:
        user, self._user = self._user, None
        if user is None:
            return self._bad(b"-ERR USER comes first\r\n")
        self._mechanism = "USER"
        login = self._parts.authenticator.login(user, argument, self.facts, IMailAccess)
        return Deferred.fromCoroutine(self._logged_in(login))

    def _auth(self, argument: bytes) -> Answer:
        if not argument:
            # Older than RFC 5034, and still asked by some clients.
            return multi_line(b"+OK", self._parts.authenticator.mechanisms(self.facts))
        mechanism, _, initial = argument.partition(b" ")
        self._user = None
        self._mechanism = mechanism[:40].decode("ascii", "replace").upper()
        exchange = self._parts.authenticator.begin(mechanism.upper(), self.facts, IMailAccess)
        if exchange is None:
            if not self._may_send_password() and mechanism.upper() in (b"PLAIN", b"LOGIN"):
                return _FAILURES[LoginFailure.ENCRYPTION_NEEDED]
            return self._bad(b"-ERR Unknown mechanism\r\n")
        self._exchange = exchange
        if not initial:
            return self._sasl_step(exchange.respond(None))
        # RFC 5034 4: "=" is an initial response of no octets.
        return self._sasl_data(b"" if initial == b"=" else initial)

    def _sasl_response(self, line: bytes) -> Answer:
        exchange, final = self._exchange, self._final
        if final is not None:
            # RFC 5034 4: the server's last word went as a challenge; the answer is empty.
            self._final = None
            return Deferred.fromCoroutine(self._logged_in(final))
        assert exchange is not None
        if line == b"*":
            exchange.cancel()
            self._exchange = None
            return self._refused(LoginFailure.CANCELLED)
        return self._sasl_data(line)

    def _sasl_data(self, text: bytes) -> Answer:
        exchange = self._exchange
        assert exchange is not None
        try:
            data = binascii.a2b_base64(text, strict_mode=True) if text else b""
        except binascii.Error:
            exchange.cancel()
            self._exchange = None
            return self._refused(LoginFailure.MALFORMED)
        return self._sasl_step(exchange.respond(data))

    def _sasl_step(self, answer: Any) -> Answer:
        if isinstance(answer, Deferred):
            later: Deferred[Any] = answer
            return later.addCallbacks(self._sasl_answer, self._sasl_failed)
        return self._sasl_answer(answer)

    def _sasl_failed(self, failure: Failure) -> Failure:
        self._exchange = None
        return failure

    def _sasl_answer(self, answer: Challenge | LoggedIn | LoginFailure) -> Answer:
        if isinstance(answer, Challenge):
            return self._challenge(answer.data)
        self._exchange = None
        if isinstance(answer, LoggedIn) and answer.final is not None and not self._lost:
            self._final = answer
            return self._challenge(answer.final)
        return Deferred.fromCoroutine(self._logged_in(answer))

    def _challenge(self, data: bytes) -> bytes:
        self.receiver.start_auth()
        return b"+ %b\r\n" % binascii.b2a_base64(data, newline=False)

    async def _logged_in(self, login: Any) -> bytes | None:
        """Take what a login came to and open the maildrop."""
        outcome = (await login) if isinstance(login, Deferred) else login
        if isinstance(outcome, LoginFailure):
            return self._refused(outcome)
        if self._lost:
            outcome.logout()
            return None
        if not self._parts.sessions.enter(outcome.account, self.facts.peer):
            outcome.logout()
            self._note_refusal("too many sessions")
            # RFC 2449 8.1.1
            return b"-ERR [IN-USE] Too many sessions\r\n"
        try:
            maildrop = await open_maildrop(outcome.avatar)
        except BaseException:
            self._parts.sessions.leave(outcome.account, self.facts.peer)
            outcome.logout()
            raise
        self._login, self._maildrop = outcome, maildrop
        self.state = State.TRANSACTION
        count, size = maildrop.stat
        self.log.info(
            event="pop3.login.succeeded",
            session=self.facts.session,
            account=outcome.account,
            peer=self.facts.peer,
            tls=self.facts.tls,
            mechanism=self._mechanism,
            messages=count,
            size=size,
        )
        self._channel.logged_in()
        return b"+OK %d messages (%d octets)\r\n" % (count, size)

    def _note_refusal(self, reason: str) -> None:
        self.log.info(
            event="pop3.login.failed",
            session=self.facts.session,
            peer=self.facts.peer,
            tls=self.facts.tls,
            mechanism=self._mechanism,
            reason=reason,
        )

    def _refused(self, failure: LoginFailure) -> bytes:
        self._note_refusal(failure.value)
        self._failed_logins += 1
        if self._failed_logins >= self._settings.max_failed_logins:
            self._end = End.FAILED_LOGINS
        return _FAILURES[failure]

    # TRANSACTION.

    @property
    def _drop(self) -> Maildrop:
        assert self._maildrop is not None
        return self._maildrop

    def _number(self, text: bytes) -> int | None:
        """Return the number of a message that exists, or None."""
        text = text.strip()
        if text.isdigit() and len(text) <= _MAX_NUMBER_DIGITS and self._drop.exists(int(text)):
            return int(text)
        return None

    def _stat(self, _: bytes) -> Answer:
        return b"+OK %d %d\r\n" % self._drop.stat

    def _list(self, argument: bytes) -> Answer:
        return self._listed(argument, self._drop.scan_line)

    def _uidl(self, argument: bytes) -> Answer:
        return self._listed(argument, self._drop.unique_id_line)

    def _listed(self, argument: bytes, line: Callable[[int], bytes]) -> Answer:
        if not argument:
            return multi_line(b"+OK", map(line, self._drop.numbers()))
        number = self._number(argument)
        return _NO_SUCH_MESSAGE if number is None else b"+OK %b\r\n" % line(number)

    def _retr(self, argument: bytes) -> Answer:
        number = self._number(argument)
        if number is None:
            return _NO_SUCH_MESSAGE
        return self._send(number, None)

    def _top(self, argument: bytes) -> Answer:
        text, _, lines = argument.partition(b" ")
        if not lines.isdigit() or len(lines) > _MAX_NUMBER_DIGITS:
            return self._bad(b"-ERR Wrong arguments\r\n")
        number = self._number(text)
        if number is None:
            return _NO_SUCH_MESSAGE
        return self._send(number, int(lines))

    def _send(self, number: int, lines: int | None) -> Deferred[bytes | None]:
        def opened(content: Any) -> Deferred[None] | None:
            if self._lost:
                content.close()
                return None
            retrieval = Retrieval(content, self._send_part, lines)
            self._retrieval = retrieval
            return retrieval.start(self._blocked)

        def sent(_: None) -> None:
            if lines is None and not self._lost:
                self._retrieved += 1
                self._drop.retrieved(number)

        def over(result: Any) -> Any:
            self._retrieval = None
            return result

        answer: Deferred[Any] = self._drop.mailbox.content(self._drop.uid(number))
        return answer.addCallback(opened).addCallback(sent).addBoth(over)

    def _send_part(self, data: bytes) -> None:
        self._sent += len(data)
        self._channel.write(data)

    def _dele(self, argument: bytes) -> Answer:
        number = self._number(argument)
        if number is None:
            return _NO_SUCH_MESSAGE
        self._drop.delete(number)
        return b"+OK\r\n"

    def _rset(self, _: bytes) -> Answer:
        self._drop.reset()
        return b"+OK\r\n"

    def _noop(self, _: bytes) -> Answer:
        return b"+OK\r\n"

    def _quit(self, _: bytes) -> Answer:
        if self.state is State.AUTHORIZATION:
            self._end = End.QUIT
            return b"+OK Bye\r\n"
        self.state = State.UPDATE
        return Deferred.fromCoroutine(self._update())

    async def _update(self) -> bytes | None:
        # RFC 1939 6: the connection is closed whether or not the removal succeeds.
        self._end = End.QUIT
        self._removed = await self._drop.update()
        return b"+OK %d messages deleted\r\n" % self._removed


_Run: TypeAlias = Callable[[POP3Session, bytes], Answer]


@dataclass(frozen=True, slots=True)
class Command:
    """
    One command: what runs it, in which states, and whether it takes an argument.

    Args:
        argument: the truth values that "there is an argument" may have.
    """

    run: _Run
    states: State
    argument: tuple[bool, ...]


_NEVER, _ALWAYS, _MAYBE = (False,), (True,), (False, True)
_A, _T = State.AUTHORIZATION, State.TRANSACTION

COMMANDS: dict[bytes, Command] = {
    b"CAPA": Command(POP3Session._capa, _A | _T, _NEVER),
    b"STLS": Command(POP3Session._stls, _A, _NEVER),
    b"UTF8": Command(POP3Session._utf8, _A, _NEVER),
    b"USER": Command(POP3Session._user_command, _A, _ALWAYS),
    b"PASS": Command(POP3Session._pass, _A, _MAYBE),
    b"AUTH": Command(POP3Session._auth, _A, _MAYBE),
    b"STAT": Command(POP3Session._stat, _T, _NEVER),
    b"LIST": Command(POP3Session._list, _T, _MAYBE),
    b"UIDL": Command(POP3Session._uidl, _T, _MAYBE),
    b"RETR": Command(POP3Session._retr, _T, _ALWAYS),
    b"TOP": Command(POP3Session._top, _T, _ALWAYS),
    b"DELE": Command(POP3Session._dele, _T, _ALWAYS),
    b"RSET": Command(POP3Session._rset, _T, _NEVER),
    b"NOOP": Command(POP3Session._noop, _T, _NEVER),
    b"QUIT": Command(POP3Session._quit, _A | _T, _NEVER),
}
