"""
SMTP on a Twisted transport: octets to the receiver, commands to the session, replies to the wire.

One write for all replies to what came in one piece. Reading stops while a late answer has let much
input pile up, while the spool asks for patience, and while the peer does not read its replies. The
clock of a connection is one repeating call, not a timer for each command.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.channel_binding import channel_bindings, describe
from mailhost.ids import new_id
from mailhost.reply import Reply
from mailhost.sending import send
from mailhost.smtp import replies
from mailhost.smtp.channel import Security
from mailhost.smtp.session import Answer, SMTPServerSession
from mailhost.smtp.settings import SMTPServerParts, SMTPServerSettings
from mailhost.wire.line_ends import Flaws
from mailhost.wire.smtp import SMTPReceiver, StreamFault

_TICK = 30.0
_LINGER = 30.0
"""Seconds that a peer has to take our last words."""

_CLEAR = Security()

# Why reading is paused; several reasons may hold.
_BACKLOG = 1
_PEER_DOES_NOT_READ = 2


@implementer(IHandshakeListener, IPushProducer)
class SMTPServerProtocol(Protocol):
    """
    One connection of an SMTP client.

    Args:
        factory: keeps the list of its open connections.
    """

    log = Logger()

    def __init__(
        self, settings: SMTPServerSettings, parts: SMTPServerParts, factory: SMTPServerFactory
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._clock = parts.clock
        self.factory = factory
        self._receiver = SMTPReceiver(self)
        self._session: SMTPServerSession | None = None
        self._security = _CLEAR
        self._peer = ""
        self._output: list[bytes] = []
        self._feeding = False
        self._late = False
        self._closing = False
        self._tls_wanted = False
        self._shaking_hands = False
        self._greeted = False
        self._stopping = False
        self._admitted = False
        self._paused = 0
        self._reason = ""
        self._timer: Any = None
        self._greeting: Any = None
        self._started = self._heard = self._window_start = 0.0
        self._window_octets = 0

    # IProtocol

    def connectionMade(self) -> None:
        """Greet, or turn away."""
        transport: Any = self.transport
        self._started = self._heard = self._clock.seconds()
        self._peer = str(getattr(transport.getPeer(), "host", ""))
        # A UNIX socket has a TCP transport's methods, and no address.
        if self._peer and ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        self.factory.connections.add(self)
        self._admitted = self._parts.limits.admit(self._peer)
        self._timer = self._clock.callLater(_TICK, self._tick)
        if not self._admitted:
            self._receiver.close()
            self._say(replies.TOO_MANY_CONNECTIONS)
            self._flush()
            return
        self._shaking_hands = ISSLTransport.providedBy(transport)
        self._reschedule()
        transport.registerProducer(self, True)
        name = new_id(self._started, self._parts.random_bytes)
        self._session = SMTPServerSession(self._settings, self._parts, self, name, self._peer)
        if not self._shaking_hands:
            self._greet_in_time()

    def dataReceived(self, data: bytes) -> None:
        """Take octets."""
        self._heard = self._clock.seconds()
        if self._closing:
            return
        if not self._greeted:
            self._end("talked first", replies.TALKED_FIRST)
            return
        self._window_octets += len(data)
        self._feeding = True
        try:
            self._receiver.feed(data)
        finally:
            self._feeding = False
        if self._output:
            self._flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what is unfinished."""
        self._closing = True
        self._receiver.close()
        for call in (self._timer, self._greeting):
            if call is not None and call.active():
                call.cancel()
        self.factory.connections.discard(self)
        if self._admitted:
            self._admitted = False
            self._parts.limits.leave(self._peer)
        session = self._session
        if session is not None:
            session.close()
            # A session that only brought mail was told of by its transactions.
            quiet = session.accepted and not (session.errors or self._reason)
            (self.log.debug if quiet else self.log.info)(
                event="smtp.session.ended",
                session=session.session,
                peer=self._peer,
                tls=self._security.tls,
                accepted=session.accepted,
                errors=session.errors,
                duration=self._clock.seconds() - self._started,
                reason=self._reason,
            )

    def handshakeCompleted(self) -> None:
        """TLS is up: learn what it says of the connection."""
        assert self.transport is not None
        connection = self.transport.getHandle()  # type: ignore[attr-defined]
        self._security = Security(describe(connection), channel_bindings(connection))
        self._shaking_hands = False
        self._heard = self._clock.seconds()
        self._reschedule()
        if not self._greeted:
            self._greet_in_time()

    # IPushProducer, by which the transport tells whether the peer reads

    def pauseProducing(self) -> None:
        """The peer does not read: take no more commands from it."""
        # Within a handshake nothing can be written until something was read.
        if not self._shaking_hands:
            self._pause(_PEER_DOES_NOT_READ)

    def resumeProducing(self) -> None:
        """The peer reads again."""
        self._resume(_PEER_DOES_NOT_READ)

    def stopProducing(self) -> None:
        """The transport is closing; connectionLost follows."""

    # SMTPSink

    def command(self, verb: bytes, argument: bytes) -> None:
        """Give a command to the session."""
        assert self._session is not None
        answer = self._session.command(verb, argument)
        if isinstance(answer, Reply):
            self._say(answer)
        elif answer is not None:
            self._await(answer)

    def auth_line(self, line: bytes) -> None:
        """Give a response within AUTH to the session."""
        assert self._session is not None
        self._answer(self._session.auth_line(line))

    def data(self, chunk: bytes) -> None:
        """Give message data to the session."""
        assert self._session is not None
        late = self._session.data(chunk)
        if late is None:
            return
        if isinstance(late, Deferred):
            self._receiver.hold()
            late.addCallback(self._written)
        else:
            self._say(late)

    def end_of_data(self, flaws: Flaws) -> None:
        """Tell the session that the message is whole."""
        assert self._session is not None
        self._answer(self._session.end_of_data(flaws))

    def end_of_chunk(self, last: bool, flaws: Flaws) -> None:
        """Tell the session that a chunk is whole."""
        assert self._session is not None
        self._answer(self._session.end_of_chunk(last, flaws))

    def fault(self, fault: StreamFault) -> None:
        """Say that nothing more will be understood, and close."""
        assert self._session is not None
        self._reason = fault.value
        self._say(self._session.fault(fault))

    def pause(self) -> None:
        """Read no more until the backlog is worked off."""
        self._pause(_BACKLOG)

    def resume(self) -> None:
        """Read again."""
        self._resume(_BACKLOG)

    # SMTPChannel

    @property
    def pending(self) -> bool:
        """Whether octets have come that were not looked at yet."""
        return self._receiver.pending

    def security(self) -> Security:
        """What protects the connection now."""
        return self._security

    def start_data(self, mend: bool) -> None:
        """Take message data next."""
        self._start_window()
        self._receiver.start_data(mend)

    def start_bdat(self, size: int, last: bool, mend: bool) -> None:
        """Take a chunk next."""
        self._start_window()
        self._receiver.start_bdat(size, last, mend)

    def forget_chunks(self) -> None:
        """Begin another message with the next chunk."""
        self._receiver.forget_chunks()

    def start_auth(self) -> None:
        """Take a response within AUTH next."""
        self._receiver.start_auth()

    def start_tls(self) -> None:
        """Start TLS behind the reply to the current command."""
        self._tls_wanted = True

    # Replies

    def _greet_in_time(self) -> None:
        if self._settings.greet_delay > 0:
            self._greeting = self._clock.callLater(self._settings.greet_delay, self._greet)
        else:
            self._greet()

    def _greet(self) -> None:
        assert self._session is not None
        self._greeted = True
        self._say(self._session.greeting())
        self._flush()

    def _answer(self, answer: Answer) -> None:
        if isinstance(answer, Deferred):
            self._await(answer)
        elif answer is not None:
            self._say(answer)

    def _await(self, answer: Deferred[Reply]) -> None:
        """Let nothing further be done until the answer is there."""
        self._late = True
        self._receiver.hold()
        answer.addCallbacks(self._late_answer, self._no_answer)

    def _late_answer(self, reply: Reply) -> None:
        self._late = False
        self._heard = self._clock.seconds()
        self._say(reply)
        self._go_on(None)
        if self._stopping and not self._late:
            self.shut_down()

    def _no_answer(self, failure: Failure) -> None:
        # The session lets no failure through; this one is ours.
        assert self._session is not None
        self.log.failure(
            "no answer",
            failure=failure,
            event="smtp.command.fault",
            session=self._session.session,
            verb="",
        )
        self._late_answer(replies.OUR_FAULT)

    def _written(self, _: object) -> None:
        # The time that the spool took is not the peer's.
        self._start_window()
        self._go_on(None)

    def _go_on(self, _: object) -> None:
        if self._feeding:
            self._receiver.release()
            return
        self._feeding = True
        try:
            self._receiver.release()
        finally:
            self._feeding = False
        if self._output:
            self._flush()

    def _say(self, reply: Reply) -> None:
        if self._closing:
            return
        self._output.append(reply.encode())
        if reply.close:
            self._closing = True
            self._receiver.close()
        elif self._tls_wanted:
            self._tls_wanted = False
            self._start_tls()

    def _flush(self) -> None:
        output = self._output
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        if data:
            send(self.transport, data)
        if self._closing:
            assert self.transport is not None
            # A TLS transport waits for its producer before it closes.
            if self._session is not None:
                self.transport.unregisterProducer()  # type: ignore[attr-defined]
            self.transport.loseConnection()
            self._heard = self._clock.seconds()
            self._reschedule()

    def _start_tls(self) -> None:
        assert self._parts.tls_context is not None and self.transport is not None
        self._flush()
        # nothing that came in clear is looked at behind this.
        self._receiver.discard()
        self._shaking_hands = True
        self._heard = self._clock.seconds()
        self._reschedule()
        self.transport.startTLS(self._parts.tls_context())  # type: ignore[attr-defined]

    def _end(self, reason: str, reply: Reply) -> None:
        """Say last words and close."""
        self._reason = reason
        if not reply.close:
            reply = Reply(421, reply.enhanced, reply.lines, close=True)
        self._say(reply)
        self._flush()

    def shut_down(self) -> None:
        """Close in an orderly way as soon as no answer is owed for what was sent (RFC 5321 3.8)."""
        self._stopping = True
        if not (self._late or self._closing):
            self._end("shutdown", replies.SHUTTING_DOWN)

    # Reading

    def _pause(self, reason: int) -> None:
        if not self._paused:
            self.transport.pauseProducing()  # type: ignore[union-attr]
        self._paused |= reason

    def _resume(self, reason: int) -> None:
        if not self._paused:
            return
        self._paused &= ~reason
        if not (self._paused or self._closing):
            self._heard = self._clock.seconds()
            self._start_window()
            self.transport.resumeProducing()  # type: ignore[union-attr]

    # Time

    def _start_window(self) -> None:
        self._window_start = self._clock.seconds()
        self._window_octets = 0

    def _deadline(self) -> float:
        """Return when the peer must have been heard of."""
        settings = self._settings
        if self._closing:
            return self._heard + _LINGER
        if self._shaking_hands:
            return self._heard + settings.handshake_timeout
        if self._late:
            # Our answer is owed; past this something is broken here.
            return self._heard + 2 * settings.command_timeout
        return self._heard + settings.command_timeout

    def _reschedule(self) -> None:
        """Look again when the next thing can happen, at the latest after a tick."""
        if self._timer is not None and self._timer.active():
            wait = min(_TICK, max(self._deadline() - self._clock.seconds(), 0.0))
            self._timer.reset(wait)

    def _tick(self) -> None:
        now = self._clock.seconds()
        settings = self._settings
        session = self._session
        if now >= self._deadline():
            if self._closing or self._shaking_hands:
                self._reason = self._reason or (
                    "left open" if self._closing else "handshake timeout"
                )
                self.transport.abortConnection()  # type: ignore[union-attr]
                return
            self._end("timeout", replies.TIMEOUT)
        elif (
            session is not None
            and session.submission is None
            and not (self._closing or self._late)
            and now - self._started >= settings.anonymous_lifetime
        ):
            self._end("session too long", replies.SESSION_TOO_LONG)
        elif self._receiver.in_data and not (self._late or self._paused):
            self._check_rate(now)
        self._timer = self._clock.callLater(_TICK, self._tick)
        self._reschedule()

    def _check_rate(self, now: float) -> None:
        elapsed = now - self._window_start
        if elapsed < self._settings.data_window:
            return
        if self._window_octets < elapsed * self._settings.data_rate:
            self._end("too slow", replies.TOO_SLOW)
        else:
            self._start_window()


class SMTPServerFactory(ServerFactory):
    """
    Makes a protocol for each connection of a listener.

    Args:
        settings: for connections from now on; may be replaced at any time.
        parts: what the sessions work with.
    """

    noisy = False

    def __init__(self, settings: SMTPServerSettings, parts: SMTPServerParts) -> None:
        self.settings = settings
        self.parts = parts
        self.connections: set[SMTPServerProtocol] = set()

    def buildProtocol(self, addr: Any) -> SMTPServerProtocol:
        """Return the protocol of a new connection."""
        return SMTPServerProtocol(self.settings, self.parts, self)

    def shut_down(self) -> None:
        """Close every connection as soon as nothing is owed to it; the listener is closed."""
        for connection in list(self.connections):
            connection.shut_down()
