"""
The client's connection: octets out, replies in, one timer.

At any time one batch of replies is waited for (`exchange`); with pipelining it is as long as the
group of commands. Whatever is not the next expected reply ends the connection: garbage, a reply
that nobody asked for, 421, silence beyond the time of the reply that is due (RFC 5321 4.5.3.2;
parts of a reply do not prolong it). Then `failed` says why, everyone who waits is told, and the
socket is closed. In particular no octet that came before a command was sent can answer it: not
after STARTTLS, where it would be an injected answer (R-15), nor after DATA.

Memory is bounded by the reply reader, and on the way out by `drained`, which the sender of a large
message waits for after each chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IDelayedCall,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.errors import SyntaxFault
from mailhost.smtp.client.status import SessionFailure, TLSFailure
from mailhost.wire.smtp_client import ServerReply, SMTPReplyReader

HANDSHAKE_TIMEOUT = 60.0
"""Seconds for a TLS handshake."""

QUIT_TIMEOUT = 5.0
"""Seconds that the answer to QUIT is waited for; nothing depends on it."""


class _Batch:
    """Replies that are due, and the time that each may take."""

    def __init__(self, timeouts: Sequence[float], cancelled: Callable[[Any], None]) -> None:
        self.timeouts = timeouts
        self.done: Deferred[list[ServerReply]] = Deferred(cancelled)


@implementer(IHandshakeListener, IPushProducer)
class SMTPClientConnection(Protocol):
    """
    One connection to a server.

    Args:
        clock: for the time limits.
    """

    transport: Any

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._reader = SMTPReplyReader()
        self._batch: _Batch | None = None
        self._handshake: Deferred[SSL.Connection] | None = None
        self._timer: IDelayedCall | None = None
        self._paused = False
        self._drained: Deferred[None] | None = None
        self._quitting = False
        self._lingering: IDelayedCall | None = None
        self.replies: list[ServerReply] = []
        """Those of the last batch that have come, also when it failed."""
        self.heard = 0
        """Replies since the connection began."""
        self.failed: SessionFailure | None = None
        self.on_failed: Callable[[], None] = lambda: None
        """Called once when the connection has come to its end, for whoever keeps it."""

    # --- what the session calls

    def exchange(self, data: bytes, timeouts: Sequence[float]) -> Deferred[list[ServerReply]]:
        """
        Write commands and fire with their replies, as many as there are time limits.

        Each reply has its own time limit in seconds, counted from the one before it.

        Fails with SessionFailure; `replies` then has those that came. Cancelling it ends the
        connection, on which nobody could tell any more which reply belongs to what.
        """
        if self.failed is not None:
            return fail(self.failed)
        assert self._batch is None, "one batch at a time"
        self._batch = _Batch(timeouts, self._cancelled)
        self.replies = []
        done = self._batch.done
        self.set_timeout(timeouts[0])
        if data:
            self.transport.write(data)
        return done

    @property
    def answered(self) -> bool:
        """Whether nothing is waited for: all replies are there, or none will come."""
        return self._batch is None or self.failed is not None

    def write(self, data: bytes) -> None:
        """Write octets of a message."""
        if self.failed is None:
            self.transport.write(data)

    def start_stream(self) -> None:
        """Ask the transport to say when it has enough; ends with `end_stream`."""
        self._paused = False
        self.transport.registerProducer(self, True)

    def end_stream(self) -> None:
        """Ask no longer."""
        self._paused = False
        if self.failed is None:
            self.transport.unregisterProducer()

    def drained(self) -> Deferred[None] | None:
        """
        Return None when more can be written, else what fires then.

        It also fires when the server answers before it has the whole message, and when the
        connection ends; see `answered`.
        """
        if not self._paused or self.answered:
            return None
        self._drained = Deferred(self._cancelled)
        return self._drained

    def set_timeout(self, seconds: float) -> None:
        """Give what is waited for now that much time, from now."""
        if self.failed is not None:
            return
        if self._timer is not None and self._timer.active():
            self._timer.reset(seconds)
        else:
            self._timer = self._clock.callLater(seconds, self._timed_out)

    def start_tls(self, creator: Any) -> Deferred[SSL.Connection]:
        """
        Fire with the TLS connection when the handshake is done; fails with TLSFailure.

        Args:
            creator: an `IOpenSSLClientConnectionCreator`.
        """
        if self.failed is not None:
            return fail(self.failed)
        self._handshake = Deferred(self._cancelled)
        handshake = self._handshake
        # Nothing that was said in clear text is part of a reply under TLS.
        self._reader = SMTPReplyReader()
        self.set_timeout(HANDSHAKE_TIMEOUT)
        self.transport.startTLS(creator)
        return handshake

    def quit(self) -> None:
        """Say QUIT, and close after the answer or a short time. The connection is given up."""
        if self.failed is not None or self._quitting:
            return
        if self._batch is not None or self._handshake is not None:
            self.abort()
            return
        self._quitting = True
        self.exchange(b"QUIT\r\n", [QUIT_TIMEOUT]).addCallbacks(self._leave, lambda _: None)

    def abort(self) -> None:
        """Close now."""
        self.fail(SessionFailure("4.4.2", "the connection was given up"))

    def fail(self, failure: SessionFailure) -> None:
        """End the connection for that reason. Only the first reason counts."""
        if self.failed is not None:
            return
        self.failed = failure
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self.transport is not None:
            self.transport.abortConnection()
        self._wake()
        for waiting in (self._handshake, self._batch.done if self._batch else None):
            if waiting is not None and not waiting.called:
                waiting.errback(failure)
        self.on_failed()

    # --- what Twisted calls

    def dataReceived(self, data: bytes) -> None:
        """Take replies."""
        if self.failed is not None:
            return
        try:
            replies = self._reader.feed(data)
        except SyntaxFault as fault:
            text = f"the server does not speak SMTP: expected {fault.expected}"
            self.fail(SessionFailure("4.5.0", text))
            return
        for number, reply in enumerate(replies, 1):
            if self.failed is not None:
                return
            rest = None
            if number < len(replies):
                rest = _unasked(replies[number])
            elif self._reader.pending:
                rest = _unasked(None)
            self._take(reply, rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell everyone who waits."""
        if self._lingering is not None and self._lingering.active():
            self._lingering.cancel()
        if self._handshake is not None:
            self.fail(TLSFailure("4.7.5", f"TLS could not be started: {_reason(reason)}"))
        else:
            self.fail(SessionFailure("4.4.2", f"the server closed the connection{_why(reason)}"))

    def handshakeCompleted(self) -> None:
        """Go on under TLS."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None and not handshake.called:
            self._stop_timer()
            handshake.callback(self.transport.getHandle())

    def pauseProducing(self) -> None:
        """Write no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on writing."""
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        """Nothing to do: `connectionLost` follows."""

    # --- inside

    def _take(self, reply: ServerReply, rest: SessionFailure | None) -> None:
        # `rest` is what follows from the octets behind this reply, if it answers the last command.
        self.heard += 1
        if reply.code == 421:
            # RFC 5321 3.8: the server closes, whatever was asked.
            self.fail(_unasked(reply))
            return
        batch = self._batch
        if batch is None:
            self.fail(_unasked(reply))
            return
        self.replies.append(reply)
        if len(self.replies) < len(batch.timeouts):
            self.set_timeout(batch.timeouts[len(self.replies)])
            return
        self._batch = None
        self._stop_timer()
        if rest is not None:
            # What was asked is answered. Nothing more can be asked of a server that answers before.
            self.fail(rest)
        self._wake()
        batch.done.callback(self.replies)

    def _cancelled(self, waiting: object) -> None:
        # Its owner is told by the cancelled Deferred itself.
        if self._batch is not None and waiting is self._batch.done:
            self._batch = None
        if waiting is self._handshake:
            self._handshake = None
        if waiting is self._drained:
            self._drained = None
        self.abort()

    def _leave(self, replies: list[ServerReply]) -> None:
        # TLS ends with a word from both sides; who does not say it is not waited for long.
        self.failed = SessionFailure("4.4.2", "the session has ended")
        self._lingering = self._clock.callLater(QUIT_TIMEOUT, self.transport.abortConnection)
        self.transport.loseConnection()
        self.on_failed()

    def _wake(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.called:
            drained.callback(None)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _timed_out(self) -> None:
        if self._handshake is not None:
            self.fail(TLSFailure("4.7.5", "the TLS handshake took too long"))
        else:
            self.fail(SessionFailure("4.4.2", "the server did not answer in time"))


def _unasked(reply: ServerReply | None) -> SessionFailure:
    if reply is not None and reply.code == 421:
        return SessionFailure("4.3.2", f"the server closes: {reply}", reply)
    return SessionFailure("4.5.0", "the server answered what was not asked")


def _reason(reason: Failure) -> str:
    """Return OpenSSL's own words for a failure, or Twisted's."""
    value = reason.value
    if isinstance(value, SSL.Error) and value.args and isinstance(value.args[0], list):
        texts = [str(entry[-1]) for entry in value.args[0] if entry and entry[-1]]
        if texts:
            return "; ".join(texts)
    return str(value).rstrip(".")


def _why(reason: Failure) -> str:
    text = _reason(reason)
    return "" if reason.check(*_CLEAN) else f": {text}"


_CLEAN = (type(connectionDone.value),)
