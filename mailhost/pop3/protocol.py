"""
POP3 on a Twisted transport: octets in and out, TLS, time limits, back-pressure.

The protocol is the transport's push producer for its whole life: when the transport has more than
it can send, the session stops reading, running commands and sending a message, all at once, until
the client has taken what there is. So one session never holds more than a block of a message and
one response (R-45).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.channel_binding import channel_bindings, describe
from mailhost.ids import new_id
from mailhost.interfaces.login import ConnectionFacts
from mailhost.pop3.session import End, POP3Session, State
from mailhost.pop3.settings import POP3Parts, POP3Settings

_FLUSH_AT = 64 * 1024


@implementer(IPushProducer, IHandshakeListener)
class POP3ServerProtocol(Protocol):
    """
    One connection.

    Args:
        parts, settings: as in `mailhost.pop3.settings`.
    """

    log = Logger()
    factory: Any
    transport: Any

    def __init__(self, parts: POP3Parts, settings: POP3Settings) -> None:
        self._parts = parts
        self._settings = settings
        self._output: list[bytes] = []
        self._output_size = 0
        self._corks = 0
        self._session: POP3Session | None = None
        self._handshaking = False
        self._registered = False
        self._blocked = False
        self._closing = False
        self._peer = ""
        self._admitted = False
        self._timer: Any = None
        self._started = self._active = 0.0

    # Called by Twisted.

    def connectionMade(self) -> None:
        """Count the connection and greet, after the handshake where TLS comes first."""
        self._peer = str(getattr(self.transport.getPeer(), "host", ""))
        if not self._parts.connections.admit(self._peer):
            self.log.info(event="pop3.connection.refused", peer=self._peer, reason="too many")
            if not self._settings.implicit_tls:
                self.transport.write(b"-ERR Too many connections, try again later\r\n")
            self._closing = True
            self.transport.loseConnection()
            return
        self._admitted = True
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._registered = True
        now = self._parts.clock.seconds()
        facts = ConnectionFacts(
            session=new_id(now, self._parts.random_bytes),
            protocol="pop3",
            peer=self._peer,
            cleartext_login=self._settings.cleartext_login,
        )
        self._session = POP3Session(self, self._parts, self._settings, facts)
        self._started = self._active = now
        self._handshaking = self._settings.implicit_tls
        self._watch()
        if not self._handshaking:
            self._session.greet()

    def dataReceived(self, data: bytes) -> None:
        """Give octets to the session and send what it says in one piece."""
        session = self._session
        # Octets before the handshake ends are no commands of this session.
        if session is None or self._closing or self._handshaking:
            return
        self._active = self._parts.clock.seconds()
        self.cork()
        session.receiver.feed(data)
        self.uncork()

    def handshakeCompleted(self) -> None:
        """TLS is established: learn what it is and go on."""
        session = self._session
        if session is None or not self._handshaking:
            return
        self._handshaking = False
        self._active = self._parts.clock.seconds()
        connection = self.transport.getHandle()
        facts = session.facts
        secured = ConnectionFacts(
            session=facts.session,
            protocol=facts.protocol,
            peer=facts.peer,
            tls=describe(connection) or "TLS",
            cleartext_login=facts.cleartext_login,
            channel_bindings=channel_bindings(connection),
        )
        if self._settings.implicit_tls:
            session.facts = secured
            session.greet()
        else:
            session.secured(secured)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the session; what it has begun goes on without us."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._session is not None:
            self._session.ended()
        if self._admitted:
            self._admitted = False
            self._parts.connections.leave(self._peer)
        self.factory.sessions.discard(self)

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._blocked = True
        self._active = self._parts.clock.seconds()
        self._tighten()
        if self._session is not None:
            self._session.blocked()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._blocked = False
        self._active = self._parts.clock.seconds()
        if self._session is not None:
            self._session.unblocked()

    def stopProducing(self) -> None:
        """The transport takes nothing any more; connectionLost follows."""

    # Called by the session.

    def write(self, data: bytes) -> None:
        """Send octets, at the latest when uncorked."""
        if self._closing:
            return
        self._output.append(data)
        self._output_size += len(data)
        if not self._corks or self._output_size >= _FLUSH_AT:
            self._flush()

    def cork(self) -> None:
        """Gather what is written."""
        self._corks += 1

    def uncork(self) -> None:
        """Send what was gathered."""
        self._corks -= 1
        if not self._corks:
            self._flush()

    def _flush(self) -> None:
        if self._output:
            data = b"".join(self._output)
            self._output.clear()
            self._output_size = 0
            if data:
                self.transport.write(data)

    def start_tls(self) -> None:
        """Begin a handshake."""
        assert self._parts.tls_context is not None
        self._flush()
        self._handshaking = True
        self._tighten()
        self.transport.startTLS(self._parts.tls_context())

    def pause_reading(self) -> None:
        """Read nothing from the client."""
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._closing:
            self.transport.resumeProducing()

    def logged_in(self) -> None:
        """The session is an account's from now on: only silence ends it."""
        self._active = self._parts.clock.seconds()

    def close(self) -> None:
        """Send what was written and close; a client that takes nothing is cut off."""
        if self._closing:
            return
        self._closing = True
        self._flush()
        self._active = self._parts.clock.seconds()
        self._tighten()
        self._unregister()
        self.transport.loseConnection()

    def _unregister(self) -> None:
        # A TLS transport waits for its producer before it closes.
        if self._registered:
            self._registered = False
            self.transport.unregisterProducer()

    def shut_down(self) -> None:
        """End the session because the server stops; nothing is removed."""
        if self._session is not None:
            self._session.close(End.SHUTDOWN)

    # Time limits.

    def _deadline(self) -> float:
        """Until when something must happen, as the clock counts."""
        settings, session = self._settings, self._session
        if self._closing or self._blocked:
            return self._active + settings.output_timeout
        if self._handshaking:
            return self._active + settings.handshake_timeout
        if session is not None and session.state is not State.AUTHORIZATION:
            return self._active + settings.idle_timeout
        return min(self._active + settings.login_timeout, self._started + settings.login_deadline)

    def _tighten(self) -> None:
        """Look at the deadline in time although it has come nearer."""
        if self._timer is not None and self._timer.getTime() > self._deadline():
            self._timer.reset(max(self._deadline() - self._parts.clock.seconds(), 0))

    def _watch(self) -> None:
        clock, session = self._parts.clock, self._session
        left = self._deadline() - clock.seconds()
        cut_off = self._closing or self._blocked or self._handshaking
        if left <= 0 and session is not None and session.busy and not cut_off:
            # The client waits for us.
            left = self._settings.login_timeout
        if left > 0:
            self._timer = clock.callLater(left, self._watch)
            return
        self._timer = None
        if cut_off or session is None:
            self.transport.abortConnection()
            return
        # RFC 1939 3: no response, and nothing is removed.
        self._timer = clock.callLater(self._settings.output_timeout, self._watch)
        session.close(End.IDLE)


class POP3ServerFactory(Factory):
    """
    Makes the connections of one listener.

    Args:
        parts, settings: as in `mailhost.pop3.settings`.
    """

    noisy = False

    def __init__(self, parts: POP3Parts, settings: POP3Settings) -> None:
        self.parts = parts
        self.settings = settings
        self.sessions: set[POP3ServerProtocol] = set()

    def buildProtocol(self, _: Any) -> POP3ServerProtocol:
        """Return the protocol for a new connection."""
        protocol = POP3ServerProtocol(self.parts, self.settings)
        protocol.factory = self
        self.sessions.add(protocol)
        return protocol

    def shut_down(self) -> None:
        """Close every connection; sessions that are in QUIT finish their work."""
        for protocol in list(self.sessions):
            protocol.shut_down()
