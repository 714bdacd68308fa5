"""An SMTP server with fake neighbours, for transcripts and for tests in Python."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import alsoProvides

from mailhost.address import Address
from mailhost.reply import Reply
from mailhost.smtp.limits import ConnectionLimits
from mailhost.smtp.protocol import SMTPServerFactory, SMTPServerProtocol
from mailhost.smtp.settings import Mode, SMTPServerParts, SMTPServerSettings
from tests.fakes import (
    FakeAuthenticator,
    FakeRecipientPolicy,
    FakeSpool,
    FakeSubmission,
    FakeTransport,
    Later,
)

NOW = 1_800_000_000.0


def settings_of(options: dict[str, str]) -> SMTPServerSettings:
    """Make settings of a transcript's options, whose names are the fields'."""
    values: dict[str, Any] = {"hostname": "mx.example.org"}
    for name, text in options.items():
        if name == "mode":
            values[name] = Mode(text)
        elif name == "postmaster":
            values[name] = Address.parse(text)
        elif name in ("require_tls", "cleartext_login"):
            values[name] = text != "no"
        elif name in ("greet_delay", "error_delay"):
            values[name] = float(text)
        elif hasattr(SMTPServerSettings, name):
            values[name] = int(text)
    return SMTPServerSettings(**values)


class SMTPPeer:
    """
    A server under test, and what is around it.

    Options beside the settings: ``tls no`` leaves out STARTTLS, ``auth no`` the authenticator,
    ``full yes`` the room in the spool; ``implicit yes`` has TLS from the start.
    """

    def __init__(self, options: dict[str, str] | None = None, late: bool = False) -> None:
        options = options or {}
        self.later = Later(late)
        self.clock = Clock()
        self.clock.advance(NOW)
        self.spool = FakeSpool(self.later)
        if options.get("full") == "yes":
            self.spool.refusal = Reply.of(452, "4.3.1", "No room")
        self.policy = FakeRecipientPolicy("example.org", "mx.example.org", later=self.later)
        avatars = {
            "alice": FakeSubmission("alice@example.org", "sales@example.org", later=self.later),
            "disabled": FakeSubmission("disabled@example.org"),
        }
        self.authenticator = FakeAuthenticator(avatars, self.later)
        self.limits = ConnectionLimits(total=10, per_client=5)
        counter = itertools.count(1)
        self.parts = SMTPServerParts(
            clock=self.clock,
            random_bytes=lambda length: next(counter).to_bytes(length, "big"),
            spool=self.spool,
            recipients=self.policy,
            authenticator=None if options.get("auth") == "no" else self.authenticator,
            tls_context=None if options.get("tls") == "no" else lambda: "context",
            limits=self.limits,
        )
        self.factory = SMTPServerFactory(settings_of(options), self.parts)
        self.transport = FakeTransport()
        self.implicit = options.get("implicit") == "yes"
        if self.implicit:
            alsoProvides(self.transport, ISSLTransport)
        self.protocol: SMTPServerProtocol = self.factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.handshakes = 0

    def feed(self, data: bytes) -> None:
        """Deliver octets unless reading is paused or over."""
        if not self.transport.closed:
            self.protocol.dataReceived(data)

    def take_output(self) -> bytes:
        """Return what was written since the last call."""
        data = self.transport.value()
        self.transport.clear()
        return data

    def settle(self) -> None:
        """Give every late answer."""
        self.later.settle()

    def start_tls(self) -> bool:
        """Finish a handshake that was asked for."""
        if self.implicit:
            self.implicit = False
            self.protocol.handshakeCompleted()
            return True
        if len(self.transport.tls_contexts) == self.handshakes:
            return False
        self.handshakes += 1
        self.protocol.handshakeCompleted()
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        while seconds > 0:
            self.clock.advance(min(1.0, seconds))
            seconds -= 1.0

    @property
    def closed(self) -> bool:
        """Whether the server closed the connection."""
        return self.transport.closed

    def say(self, *lines: bytes | str) -> bytes:
        """Send lines in one piece and return what is answered to them in the end."""
        self.feed(b"".join((x.encode() if isinstance(x, str) else x) + b"\r\n" for x in lines))
        self.settle()
        return self.take_output()

    def lose(self) -> None:
        """End the connection from the client's side."""
        self.protocol.connectionLost(Failure(ConnectionDone()))
