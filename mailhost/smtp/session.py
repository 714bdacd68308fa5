"""
What SMTP commands mean: the state of one connection, and a reply for each command.

`SMTPServerSession` knows no transport. It is given commands and message data in order, and returns
a `Reply`, a Deferred of one, or None when more octets come before there is anything to say. The
caller brings nothing further while a Deferred is out, so that replies are in order however late an
answer is. What octets come next it says through its `SMTPChannel`.

Failures become replies at one place, `_excuse`: a SyntaxFault is a 5xx by its kind, a Refusal its
own reply, and anything else our own fault, 451 4.3.0, logged. No exception's text is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailhost.address import Address
from mailhost.errors import Refusal, SpoolFault, SpoolFull, SyntaxFault
from mailhost.interfaces.login import (
    ConnectionFacts,
    ISubmission,
    LoggedIn,
    LoginFailure,
    LoginOutcome,
)
from mailhost.interfaces.spool import Recipient
from mailhost.reply import Reply
from mailhost.smtp import replies
from mailhost.smtp.authentication import AuthExchange
from mailhost.smtp.channel import Security, SMTPChannel
from mailhost.smtp.reception import Origin, Reception, not_owned, too_big
from mailhost.smtp.settings import Mode, SMTPServerParts, SMTPServerSettings
from mailhost.smtp.transaction import Transaction
from mailhost.wire.line_ends import Flaws
from mailhost.wire.smtp import StreamFault
from mailhost.wire.smtp_grammar import (
    MailArguments,
    PathFault,
    RcptArguments,
    UnknownParameter,
    UTF8Fault,
    parse_bdat,
    parse_ehlo,
    parse_mail,
    parse_rcpt,
)

Answer: TypeAlias = Reply | Deferred[Reply] | None

STREAM_FAULTS: Mapping[StreamFault, Reply] = {
    StreamFault.LINE_TOO_LONG: replies.LINE_TOO_LONG,
    StreamFault.AUTH_LINE_TOO_LONG: replies.AUTH_LINE_TOO_LONG,
    StreamFault.BARE_LF: replies.BARE_LF,
    StreamFault.BINARY: replies.NOT_SMTP,
}

FOREIGN_VERBS: Final = frozenset(
    b"GET POST PUT HEAD OPTIONS DELETE CONNECT TRACE PATCH PRI PROXY HOST: USER-AGENT:".split()
)
"""Verbs of other protocols: somebody's browser is made to talk to us (R-09, ALPACA)."""


class SMTPServerSession:
    """
    One client's session.

    Args:
        channel: the connection below; it outlives the session's calls.
        session: the session's name in the log.
        peer: the client's address, without port.
    """

    log = Logger()

    def __init__(
        self,
        settings: SMTPServerSettings,
        parts: SMTPServerParts,
        channel: SMTPChannel,
        session: str,
        peer: str,
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._channel = channel
        self.session = session
        self.peer = peer
        self.submission: ISubmission | None = None
        self.accepted = 0
        self.errors = 0
        self._logout: Callable[[], None] | None = None
        self._helo = ""
        self._extended = False
        self._transaction: Transaction | None = None
        self._chunk_refusal: Reply | None = None
        self._exchange: AuthExchange | None = None
        self._late: Deferred[Reply] | None = None
        self._junk = 0
        self._misses = 0
        self._login_failures = 0
        self._closed = False
        self._postmaster = settings.postmaster or Address("postmaster", settings.hostname.lower())

    # What the protocol calls

    def greeting(self) -> Reply:
        """Return what is said first."""
        return Reply(220, "", (f"{self._settings.hostname} ESMTP ready",))

    def command(self, verb: bytes, argument: bytes) -> Answer:
        """Carry out a command."""
        answer: Answer
        command = COMMANDS.get(verb)
        try:
            if command is None:
                answer = self._unknown(verb)
            elif command.alone and self._channel.pending:
                answer = replies.NOT_ALONE
            elif command.junk and self._is_junk():
                answer = replies.TOO_MANY_ERRORS
            else:
                answer = command.run(self, argument)
        except Exception:
            answer = self._excuse(Failure(), verb)
        return self._settled(answer, verb)

    def auth_line(self, line: bytes) -> Answer:
        """Take a response within AUTH."""
        assert self._exchange is not None
        answer: Answer
        try:
            answer = replies.NOT_ALONE if self._channel.pending else self._exchange.line(line)
        except Exception:
            answer = self._excuse(Failure(), b"AUTH")
        return self._settled(answer, b"AUTH")

    def data(self, chunk: bytes) -> Reply | Deferred[None] | None:
        """
        Take message data.

        Returns:
            None, a Deferred that asks for patience, or a reply that ends the connection.
        """
        transaction = self._transaction
        if self._chunk_refusal is not None or transaction is None or transaction.reception is None:
            return None
        reception = transaction.reception
        late = reception.write(chunk)
        if reception.overrun:
            return replies.TOO_BIG_CLOSE
        return late

    def end_of_data(self, flaws: Flaws) -> Answer:
        """Answer the end of DATA."""
        return self._finish(flaws, b"DATA")

    def end_of_chunk(self, last: bool, flaws: Flaws) -> Answer:
        """Answer a whole BDAT chunk."""
        refusal, self._chunk_refusal = self._chunk_refusal, None
        if refusal is not None:
            self._channel.forget_chunks()
            return self._judged(refusal)
        if last:
            return self._finish(flaws, b"BDAT")
        transaction = self._transaction
        assert transaction is not None and transaction.reception is not None
        if transaction.reception.refusal is not None:
            # RFC 3030 2: a refused chunk ends the transaction; no need to wait for the last.
            return self._finish(flaws, b"BDAT")
        return Reply(250, "2.0.0", (f"{transaction.reception.size} octets received",))

    def fault(self, fault: StreamFault) -> Reply:
        """Return the last words to a peer whose octets make no sense."""
        self.log.info(
            event="smtp.session.fault", session=self.session, peer=self.peer, fault=fault.value
        )
        return STREAM_FAULTS[fault]

    def close(self) -> None:
        """The connection is gone: give up what is unfinished. Harmless twice."""
        if self._closed:
            return
        self._closed = True
        self._reset()
        late, self._late = self._late, None
        if self._exchange is not None:
            # A login that is decided yet brings its avatar to `_login_done`, which gives it back.
            self._exchange.abandon()
            self._exchange = None
        elif late is not None:
            late.cancel()
        self._log_out()

    def facts(self) -> ConnectionFacts:
        """Return what an authenticator may know of the connection."""
        security = self._channel.security()
        return ConnectionFacts(
            self.session,
            self._settings.protocol,
            self.peer,
            security.tls,
            self._settings.cleartext_login,
            security.channel_bindings,
        )

    # Answers and failures

    def _settled(self, answer: Answer, verb: bytes) -> Answer:
        if isinstance(answer, Deferred):
            self._late = answer
            answer.addErrback(self._excuse, verb)
            answer.addCallback(self._arrived)
            return answer
        if answer is not None and answer.code >= 400:
            return self._judged(answer)
        return answer

    def _arrived(self, reply: Reply) -> Reply | Deferred[Reply]:
        self._late = None
        return self._judged(reply)

    def _judged(self, reply: Reply) -> Reply | Deferred[Reply]:
        """Count what fails; past the limits answer late, then no more."""
        if reply.code < 400 or reply.close:
            return reply
        settings = self._settings
        if self._transaction is not None and self._transaction.recipients:
            # A sender of many who has some addresses wrong is no attacker; one who has most of
            # them wrong is looking for addresses.
            self._misses += 1
            if self._misses <= settings.soft_errors + len(self._transaction.recipients):
                return reply
        self.errors += 1
        if self.errors >= settings.hard_errors:
            return replies.TOO_MANY_ERRORS
        if self.errors > settings.soft_errors and settings.error_delay > 0:
            return self._delayed(reply)
        return reply

    def _is_junk(self) -> bool:
        """Count a command that moves no mail, and say whether there were too many."""
        self._junk += 1
        return self._junk > self._settings.junk_commands

    def _delayed(self, reply: Reply) -> Deferred[Reply]:
        def give_up(_: Deferred[Reply]) -> None:
            if call.active():
                call.cancel()

        later: Deferred[Reply] = Deferred(give_up)

        def say() -> None:
            self._late = None
            later.callback(reply)

        call = self._parts.clock.callLater(self._settings.error_delay, say)
        self._late = later
        later.addErrback(self._cancelled)
        return later

    def _cancelled(self, failure: Failure) -> Reply:
        failure.trap(CancelledError)
        return replies.OUR_FAULT

    def _excuse(self, failure: Failure, verb: bytes) -> Reply:
        error = failure.value
        if isinstance(error, Refusal):
            return error.reply
        if isinstance(error, SyntaxFault):
            return _syntax_reply(error, verb)
        if isinstance(error, SpoolFull):
            return replies.SPOOL_FULL
        if isinstance(error, SpoolFault):
            return replies.SPOOL_FAULT
        if not (isinstance(error, CancelledError) and self._closed):
            self.log.failure(
                "command failed",
                failure=failure,
                event="smtp.command.fault",
                session=self.session,
                verb=verb.decode("ascii", "replace"),
            )
        return replies.OUR_FAULT

    def _unknown(self, verb: bytes) -> Reply:
        if verb in FOREIGN_VERBS:
            self.log.info(
                event="smtp.session.fault", session=self.session, peer=self.peer, fault="not SMTP"
            )
            return replies.NOT_SMTP
        return replies.UNKNOWN_COMMAND

    # Greeting

    def _ehlo(self, argument: bytes) -> Reply:
        self._helo = parse_ehlo(argument)
        self._extended = True
        # RFC 5321 4.1.4: EHLO within a session is RSET as well.
        self._reset()
        return Reply(250, "", (f"{self._settings.hostname} at your service", *self._extensions()))

    def _helo_command(self, argument: bytes) -> Reply:
        self._helo = parse_ehlo(argument)
        self._extended = False
        self._reset()
        return Reply(250, "", (f"{self._settings.hostname} at your service",))

    def _extensions(self) -> list[str]:
        settings = self._settings
        lines = [
            f"SIZE {settings.max_size}",
            "PIPELINING",
            "8BITMIME",
            "SMTPUTF8",
            "CHUNKING",
            "ENHANCEDSTATUSCODES",
        ]
        facts = self.facts()
        if not facts.tls and self._parts.tls_context is not None:
            lines.append("STARTTLS")
        if self.submission is None and (facts.tls or facts.cleartext_login):
            mechanisms = self._mechanisms(facts)
            if mechanisms:
                lines.append("AUTH " + b" ".join(mechanisms).decode("ascii"))
        return lines

    def _mechanisms(self, facts: ConnectionFacts) -> tuple[bytes, ...]:
        authenticator = self._parts.authenticator
        if authenticator is None or self._settings.mode is Mode.MX:
            return ()
        return authenticator.mechanisms(facts)

    # Transaction

    def _mail(self, argument: bytes) -> Reply | Deferred[Reply]:
        settings = self._settings
        if not self._helo:
            return replies.HELLO_FIRST
        if self._transaction is not None:
            return replies.MAIL_TWICE
        if settings.require_tls and not self._channel.security().tls:
            return replies.TLS_FIRST
        submission = self.submission
        if submission is None and settings.mode is Mode.SUBMISSION:
            return replies.LOGIN_FIRST
        mail = parse_mail(argument)
        if mail.size > settings.max_size:
            return too_big(settings)
        refusal = self._parts.spool.room()
        if refusal is not None:
            return refusal
        if submission is not None and mail.reverse_path is not None:
            allowed = submission.may_send_as(mail.reverse_path)
            if isinstance(allowed, Deferred):
                return allowed.addCallback(self._sender_decided, mail)
            return self._sender_decided(allowed, mail)
        self._transaction = Transaction(mail)
        return replies.SENDER_OK

    def _sender_decided(self, allowed: bool, mail: MailArguments) -> Reply:
        if not allowed:
            assert mail.reverse_path is not None
            return not_owned(mail.reverse_path)
        self._transaction = Transaction(mail)
        return replies.SENDER_OK

    def _rcpt(self, argument: bytes) -> Reply | Deferred[Reply]:
        transaction = self._transaction
        if transaction is None:
            return replies.MAIL_FIRST
        if transaction.reception is not None:
            return replies.IN_CHUNKS
        rcpt = parse_rcpt(argument, transaction.mail.smtputf8, self._postmaster)
        if rcpt.forward_path in transaction.recipients:
            return replies.RECIPIENT_OK
        if len(transaction.recipients) >= self._settings.max_recipients:
            # RFC 5321 4.5.3.1.10
            return Reply.of(
                452, "4.5.3", f"At most {self._settings.max_recipients} recipients, send again"
            )
        decision = self._parts.recipients.recipient(rcpt.forward_path, self.submission)
        if isinstance(decision, Deferred):
            return decision.addCallback(self._recipient_decided, rcpt, transaction)
        return self._recipient_decided(decision, rcpt, transaction)

    def _recipient_decided(
        self, decision: Recipient | Reply, rcpt: RcptArguments, transaction: Transaction
    ) -> Reply:
        if isinstance(decision, Reply):
            self.log.info(
                event="smtp.recipient.refused",
                session=self.session,
                peer=self.peer,
                helo=self._helo,
                reverse_path=str(transaction.mail.reverse_path or "<>"),
                forward_path=str(rcpt.forward_path),
                reply=str(decision),
            )
            return decision
        if rcpt.orcpt or rcpt.notify:
            decision = replace(decision, orcpt=rcpt.orcpt, notify=rcpt.notify)
        transaction.recipients[rcpt.forward_path] = decision
        return replies.RECIPIENT_OK

    def _data(self, argument: bytes) -> Reply:
        if argument:
            return replies.NO_ARGUMENT
        transaction = self._transaction
        if transaction is None:
            return replies.MAIL_FIRST
        if transaction.reception is not None:
            return replies.IN_CHUNKS
        if not transaction.recipients:
            return replies.NO_RECIPIENTS
        self._begin(transaction)
        self._channel.start_data(self.submission is not None)
        return replies.START_MAIL

    def _bdat(self, argument: bytes) -> Reply | None:
        try:
            chunk = parse_bdat(argument)
        except SyntaxFault:
            # How much follows is unknown: nothing after this can be trusted.
            return replies.BAD_CHUNK
        settings = self._settings
        if chunk.size > settings.max_size:
            return replies.TOO_BIG_CLOSE
        # RFC 3030 2: the octets come whatever the answer is; they are taken and dropped.
        self._chunk_refusal = self._no_chunk()
        if self._chunk_refusal is None:
            transaction = self._transaction
            assert transaction is not None
            if transaction.reception is None:
                self._begin(transaction)
        self._channel.start_bdat(chunk.size, chunk.last, self.submission is not None)
        return None

    def _no_chunk(self) -> Reply | None:
        if self._transaction is None:
            return replies.MAIL_FIRST
        if not self._transaction.recipients:
            return replies.NO_RECIPIENTS
        return None

    def _begin(self, transaction: Transaction) -> None:
        security = self._channel.security()
        transaction.reception = Reception(
            self._settings,
            self._parts,
            Origin(
                self.session,
                self._helo,
                self.peer,
                self._protocol(transaction, security),
                security.tls,
                self.submission,
            ),
            transaction.mail,
            tuple(transaction.recipients.values()),
        )

    def _protocol(self, transaction: Transaction, security: Security) -> str:
        # RFC 3848, RFC 6531 4.3
        name = "UTF8SMTP" if transaction.mail.smtputf8 else "ESMTP"
        if not self._extended and name == "ESMTP" and not security.tls:
            name = "SMTP"
        return name + ("S" if security.tls else "") + ("A" if self.submission is not None else "")

    def _finish(self, flaws: Flaws, verb: bytes) -> Answer:
        transaction, self._transaction = self._transaction, None
        self._channel.forget_chunks()
        assert transaction is not None and transaction.reception is not None
        answer: Reply | Deferred[Reply]
        try:
            answer = transaction.reception.finish(flaws)
        except Exception:
            transaction.reception.abort()
            answer = self._excuse(Failure(), verb)
        if isinstance(answer, Deferred):
            # Not to be cancelled: what is being committed stays so without the client.
            answer.addErrback(self._unfinished, transaction.reception, verb)
            answer.addCallback(self._finished)
            return answer
        return self._finished(answer)

    def _unfinished(self, failure: Failure, reception: Reception, verb: bytes) -> Reply:
        reception.abort()
        return self._excuse(failure, verb)

    def _finished(self, reply: Reply) -> Reply | Deferred[Reply]:
        if reply.positive:
            self.accepted += 1
            self.errors = 0
            self._junk = 0
            self._misses = 0
            return reply
        return self._judged(reply)

    def _reset(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction is not None and transaction.reception is not None:
            transaction.reception.abort()
            self._channel.forget_chunks()

    # The rest

    def _rset(self, argument: bytes) -> Reply:
        if argument:
            return replies.NO_ARGUMENT
        self._reset()
        return replies.OK

    def _noop(self, argument: bytes) -> Reply:
        return replies.OK

    def _quit(self, argument: bytes) -> Reply:
        if argument:
            return replies.NO_ARGUMENT
        self._reset()
        return replies.BYE

    def _vrfy(self, argument: bytes) -> Reply:
        # The same for every name: nobody learns who exists.
        return replies.CANNOT_VERIFY if argument else replies.BAD_ARGUMENT

    def _help(self, argument: bytes) -> Reply:
        return HELP

    def _not_implemented(self, argument: bytes) -> Reply:
        return replies.NOT_IMPLEMENTED

    def _starttls(self, argument: bytes) -> Reply:
        if argument:
            return replies.NO_ARGUMENT
        if self._channel.security().tls:
            return replies.TLS_ALREADY
        if self._parts.tls_context is None:
            return replies.TLS_NOT_HERE
        # RFC 3207 4.2: all that was said before is forgotten.
        self._reset()
        self._helo = ""
        self._log_out()
        self._channel.start_tls()
        return replies.START_TLS

    def _auth(self, argument: bytes) -> Reply | Deferred[Reply]:
        refusal = self._no_auth()
        if refusal is not None:
            return refusal
        facts = self.facts()
        name, _, initial = argument.partition(b" ")
        name = name.upper()
        if not name:
            return replies.BAD_ARGUMENT
        if not (facts.tls or facts.cleartext_login):
            return replies.AUTH_ENCRYPTION
        if name not in self._mechanisms(facts):
            return replies.AUTH_MECHANISM
        assert self._parts.authenticator is not None
        authentication = self._parts.authenticator.begin(name, facts, ISubmission)
        if authentication is None:
            return replies.AUTH_MECHANISM
        self._exchange = AuthExchange(
            name.decode("ascii"), authentication, self._channel.start_auth, self._login_done
        )
        return self._exchange.begin(initial.strip(b" ") or None)

    def _no_auth(self) -> Reply | None:
        if not self._helo:
            return replies.HELLO_FIRST
        if self._parts.authenticator is None or self._settings.mode is Mode.MX:
            return replies.AUTH_NOT_HERE
        if self.submission is not None:
            return replies.AUTH_TWICE
        return None if self._transaction is None else replies.AUTH_NOT_NOW

    def _login_done(self, exchange: AuthExchange, outcome: LoginOutcome) -> Reply:
        self._exchange = None
        failed = isinstance(outcome, LoginFailure)
        self.log.info(
            event="smtp.login.failed" if failed else "smtp.login.succeeded",
            session=self.session,
            peer=self.peer,
            mechanism=exchange.mechanism,
            tls=self._channel.security().tls,
            account=outcome.account if isinstance(outcome, LoggedIn) else "",
            reason=outcome.value if isinstance(outcome, LoginFailure) else "",
        )
        if isinstance(outcome, LoggedIn):
            if self._closed:
                outcome.logout()
                return replies.LOGGED_IN
            self.submission = outcome.avatar
            self._logout = outcome.logout
            return replies.LOGGED_IN
        self._login_failures += 1
        if self._login_failures >= self._settings.max_login_failures:
            raise Refusal(replies.TOO_MANY_LOGINS)
        return replies.AUTH_FAILED

    def _log_out(self) -> None:
        self.submission = None
        logout, self._logout = self._logout, None
        if logout is not None:
            logout()


@dataclass(frozen=True, slots=True)
class Command:
    """
    A command of the table.

    Args:
        alone: nothing may follow it before its reply (R-05): RFC 5321 4.1.1.4, RFC 3207 4.2,
            RFC 4954 4.
        junk: it moves no mail; many of them count as failures.
    """

    run: Callable[[SMTPServerSession, bytes], Answer]
    alone: bool = False
    junk: bool = False


COMMANDS: Final[Mapping[bytes, Command]] = {
    b"EHLO": Command(SMTPServerSession._ehlo, junk=True),
    b"HELO": Command(SMTPServerSession._helo_command, junk=True),
    b"MAIL": Command(SMTPServerSession._mail),
    b"RCPT": Command(SMTPServerSession._rcpt),
    b"DATA": Command(SMTPServerSession._data, alone=True),
    b"BDAT": Command(SMTPServerSession._bdat),
    b"RSET": Command(SMTPServerSession._rset, junk=True),
    b"NOOP": Command(SMTPServerSession._noop, junk=True),
    b"VRFY": Command(SMTPServerSession._vrfy, junk=True),
    b"HELP": Command(SMTPServerSession._help, junk=True),
    b"QUIT": Command(SMTPServerSession._quit),
    b"STARTTLS": Command(SMTPServerSession._starttls, alone=True),
    b"AUTH": Command(SMTPServerSession._auth, alone=True),
    b"EXPN": Command(SMTPServerSession._not_implemented, junk=True),
    b"SEND": Command(SMTPServerSession._not_implemented, junk=True),
    b"SOML": Command(SMTPServerSession._not_implemented, junk=True),
    b"SAML": Command(SMTPServerSession._not_implemented, junk=True),
    b"TURN": Command(SMTPServerSession._not_implemented, junk=True),
    b"ETRN": Command(SMTPServerSession._not_implemented, junk=True),
}
"""Every command that is known, by its verb."""

HELP: Final = Reply(
    214,
    "2.0.0",
    ("Commands are", "EHLO HELO MAIL RCPT DATA BDAT RSET", "NOOP VRFY HELP QUIT STARTTLS AUTH"),
)


def _syntax_reply(fault: SyntaxFault, verb: bytes) -> Reply:
    if isinstance(fault, UTF8Fault):
        return replies.NEEDS_UTF8
    if isinstance(fault, UnknownParameter):
        return replies.UNKNOWN_PARAMETER
    if isinstance(fault, PathFault):
        return replies.BAD_RECIPIENT if verb == b"RCPT" else replies.BAD_SENDER
    return replies.BAD_ARGUMENT
