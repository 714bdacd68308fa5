"""
The transport of an IMAP session: TLS, timeouts, back-pressure both ways.

Input stops while the session is busy and holds enough of it. Output stops the session: the
transport pauses this protocol as a producer when the client does not read, and a client that reads
nothing for long is cut off. Nothing here knows IMAP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet import interfaces
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost import channel_binding
from mailhost.ids import new_id
from mailhost.imap.admission import Admission, ConnectionCount, Unlimited
from mailhost.imap.entry import CommandTable, State
from mailhost.imap.session import IMAPSession
from mailhost.imap.settings import IMAPSettings
from mailhost.imap.table import COMMANDS
from mailhost.interfaces.login import ConnectionFacts, IAuthenticator

_MAX_WAITING_INPUT = 65536


@implementer(interfaces.IHandshakeListener, interfaces.IPushProducer)
class IMAPServerProtocol(Protocol):
    """
    One IMAP connection.

    Args:
        factory: what all connections of a listener share.
        peer: the client's address.
    """

    log: ClassVar[Logger] = Logger()
    transport: Any

    def __init__(self, factory: IMAPServerFactory, peer: str) -> None:
        self.factory = factory
        self._clock = factory.clock
        self._id = new_id(factory.clock.seconds(), factory.random_bytes)
        self._peer = peer
        self._facts: ConnectionFacts | None = None
        self._tls = False
        self._secured = False
        self._closing = False
        self._lost = False
        self._admitted = False
        self._output_paused = False
        self._input_paused = False
        self._octets_in = self._octets_out = 0
        self._started = factory.clock.seconds()
        self._timer: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self.session = IMAPSession(
            self,
            factory.authenticator,
            factory.commands,
            factory.settings,
            factory.clock,
            factory.admission,
        )

    # IMAPConnection

    @property
    def can_start_tls(self) -> bool:
        """Whether STARTTLS may be offered now."""
        return not self._tls and self.factory.tls_options is not None

    def write(self, data: bytes) -> None:
        """Send octets."""
        self._octets_out += len(data)
        self.transport.write(data)

    def close(self) -> None:
        """Send what was written, then end the connection."""
        if self._closing or self._lost:
            return
        self._closing = True
        # A TLS transport waits for its producer before it closes.
        self.transport.unregisterProducer()
        self._output_paused = False
        self._wait(self.factory.settings.login_timeout)
        self.transport.loseConnection()

    def abort(self) -> None:
        """End the connection now."""
        if not self._lost:
            self.transport.abortConnection()

    def start_tls(self) -> None:
        """Begin a TLS handshake on the connection."""
        self._tls = True
        self._facts = None
        assert self.factory.tls_options is not None
        self.transport.startTLS(self.factory.tls_options())

    def facts(self) -> ConnectionFacts:
        """What is known of the connection; kept once TLS is up, or while there is none."""
        facts = self._facts
        if facts is None:
            tls = ""
            bindings: tuple[tuple[str, bytes], ...] = ()
            if self._secured:
                handle = self.transport.getHandle()
                tls = channel_binding.describe(handle)
                bindings = channel_binding.channel_bindings(handle)
            facts = ConnectionFacts(
                self._id,
                "imap",
                self._peer,
                tls,
                self.factory.cleartext_login,
                bindings,
            )
            if self._secured or not self._tls:
                self._facts = facts
        return facts

    def balance(self) -> None:
        """Read from the client only while what it sent is wanted soon."""
        receiver = self.session.receiver
        full = receiver.held and receiver.buffered >= _MAX_WAITING_INPUT
        if full is self._input_paused or self._lost or self._closing:
            return
        self._input_paused = full
        if full:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def compute(self, work: Callable[[], Any]) -> Deferred[Any]:
        """Run a function that may take long."""
        answer: Deferred[Any] = self.factory.compute(work)
        return answer

    # Protocol

    def connectionMade(self) -> None:
        """Greet, or turn away."""
        settings = self.factory.settings
        self._tls = interfaces.ISSLTransport.providedBy(self.transport)
        self._admitted = self.factory.connections.admit(self._peer)
        if not self._admitted:
            self._turn_away()
            return
        if interfaces.ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self._wait(settings.login_timeout)
        self._deadline = self._clock.callLater(settings.login_deadline, self._too_late)
        self.log.info(event="imap.session.opened", session=self._id, peer=self._peer)
        self.factory.protocols.add(self)
        if not self._tls:
            # Over TLS the greeting follows the handshake: its capabilities depend on it.
            self.session.greet()

    def _turn_away(self) -> None:
        self._closing = True
        self.log.info(event="imap.connection.refused", peer=self._peer, reason="too many")
        if not self._tls:
            self.transport.write(b"* BYE [UNAVAILABLE] Too many connections, try again later\r\n")
            self._wait(self.factory.settings.login_timeout)
        self.transport.loseConnection()

    def handshakeCompleted(self) -> None:
        """TLS is up."""
        first = not self._octets_out
        self._secured = True
        self._facts = None
        if first:
            self.session.greet()
        else:
            self.session.tls_started()
        self._rewind()

    def dataReceived(self, data: bytes) -> None:
        """Pass octets on."""
        self._octets_in += len(data)
        if self._closing or (self._tls and not self._secured):
            # Nothing that comes before the handshake is done came through TLS.
            return
        self.session.feed(data)
        self.balance()
        self._rewind()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let go of everything."""
        self._lost = True
        if self._admitted:
            self._admitted = False
            self.factory.connections.leave(self._peer)
        for timer in (self._timer, self._deadline):
            if timer is not None and timer.active():
                timer.cancel()
        self.factory.protocols.discard(self)
        self.log.info(
            event="imap.session.closed",
            session=self._id,
            peer=self._peer,
            account=self.session.account,
            tls=self._facts.tls if self._facts else "",
            delay=self._clock.seconds() - self._started,
            octets_in=self._octets_in,
            octets_out=self._octets_out,
        )
        self.session.connection_lost()

    # IPushProducer

    def pauseProducing(self) -> None:
        """The client does not read what is written."""
        if not self._output_paused:
            self._output_paused = True
            self._wait(self.factory.settings.output_timeout)
            self.session.pause()

    def resumeProducing(self) -> None:
        """The client reads again."""
        if self._output_paused:
            self._output_paused = False
            self._rewind()
            self.session.resume()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""

    # Time

    def _rewind(self) -> None:
        if self._lost or self._closing or self._output_paused:
            return
        settings = self.factory.settings
        logged_in = self.session.state is not State.NOT_AUTHENTICATED
        if logged_in and self._deadline is not None:
            if self._deadline.active():
                self._deadline.cancel()
            self._deadline = None
        self._wait(settings.idle_timeout if logged_in else settings.login_timeout)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.reset(seconds)
        else:
            self._timer = self._clock.callLater(seconds, self._silent)

    def _silent(self) -> None:
        if self._output_paused or self._closing or (self._tls and not self._secured):
            # There is nobody who would read a BYE.
            self.abort()
        elif not self.session.waits_for_client:
            self._rewind()
        else:
            self.session.bye(b"Autologout, the connection was silent for too long")

    def _too_late(self) -> None:
        self._deadline = None
        if self._tls and not self._secured:
            self.abort()
        else:
            self.session.bye(b"Too long without login")


class IMAPServerFactory(Factory):
    """
    The IMAP server of one listener.

    Args:
        authenticator: says who may log in.
        clock: the reactor.
        random_bytes: gives that many random octets, for session ids.
        tls_options: returns what ``startTLS`` takes, as it is now, so that a reloaded certificate
            is used for STARTTLS; None does not offer it.
        cleartext_login: passwords may be sent without TLS (loopback in local mode).
        settings: limits.
        admission: counts sessions; shared by the listeners.
        connections: counts connections; shared by the listeners.
        compute: runs a function off the event thread and gives a Deferred; by default at once.
        commands: the command table.
    """

    noisy = False

    def __init__(
        self,
        authenticator: IAuthenticator,
        clock: IReactorTime,
        random_bytes: Callable[[int], bytes],
        *,
        tls_options: Callable[[], Any] | None = None,
        cleartext_login: bool = False,
        settings: IMAPSettings | None = None,
        admission: Admission | None = None,
        connections: ConnectionCount | None = None,
        compute: Callable[[Callable[[], Any]], Deferred[Any]] | None = None,
        commands: CommandTable = COMMANDS,
    ) -> None:
        self.authenticator = authenticator
        self.clock = clock
        self.random_bytes = random_bytes
        self.tls_options = tls_options
        self.cleartext_login = cleartext_login
        self.settings = settings or IMAPSettings()
        self.admission = admission or Admission()
        self.connections = connections or Unlimited()
        self.compute = compute or execute
        self.commands = commands
        self.protocols: set[IMAPServerProtocol] = set()

    def buildProtocol(self, addr: Any) -> IMAPServerProtocol:
        """Serve a connection."""
        protocol = IMAPServerProtocol(self, getattr(addr, "host", ""))
        protocol.factory = self
        return protocol

    def end_sessions(self) -> None:
        """Say BYE to every client, because the server stops."""
        for protocol in tuple(self.protocols):
            protocol.session.bye(b"The server is shutting down")
