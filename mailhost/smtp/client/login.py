"""AUTH as a client (RFC 4954): the mechanisms are those of `mailhost.wire.sasl`."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass, field

from mailhost.errors import SyntaxFault
from mailhost.smtp.client.connection import SMTPClientConnection
from mailhost.smtp.client.content import InThread
from mailhost.smtp.client.status import SessionFailure
from mailhost.wire.sasl import ClientMechanism, choose_client_mechanism, client_mechanism
from mailhost.wire.smtp_client import ServerReply

AUTH_TIMEOUT = 300.0
"""Seconds for each reply of an exchange."""

MAX_STEPS = 8
"""Challenges that are answered; the longest mechanism has three."""

MAX_INITIAL = 500
"""Octets of a command line; a longer initial response is sent after the server's 334."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to a smarthost. The password is in no text form of it."""

    user: str
    password: str = field(repr=False)


async def log_in(
    connection: SMTPClientConnection,
    credentials: Credentials,
    offered: tuple[bytes, ...],
    in_thread: InThread,
    *,
    exporter: bytes | None,
    protected: bool,
) -> None:
    """
    Log in with the best mechanism that both sides have.

    A password is never sent unless TLS is on (`protected`). `exporter` is the ``tls-exporter``
    channel binding (RFC 9266), if there is one. A refusal is temporary for the mail that waits:
    the operator will mend the account.

    Raises:
        SessionFailure: it did not succeed.
    """
    can_bind = exporter is not None
    name = choose_client_mechanism(offered, can_bind=can_bind, protected=protected)
    if name is None:
        raise SessionFailure("4.7.0", "the server offers no mechanism that we can log in with")
    binding = ("tls-exporter", exporter) if exporter is not None else None
    try:
        mechanism = client_mechanism(
            name, credentials.user, credentials.password, channel_binding=binding
        )
        assert mechanism is not None
        reply = await _exchange(connection, name, mechanism, in_thread)
    except SyntaxFault as fault:
        connection.abort()
        raise SessionFailure("4.7.0", f"login failed: expected {fault.expected}") from None
    if reply.code != 235:
        connection.quit()
        status = "4.7.8" if reply.code == 535 else "4.7.0"
        raise SessionFailure(status, f"login was refused: {reply}")
    if not mechanism.satisfied:
        connection.abort()
        raise SessionFailure("4.7.0", "the server did not prove that it knows the password")


async def _exchange(
    connection: SMTPClientConnection, name: bytes, mechanism: ClientMechanism, in_thread: InThread
) -> ServerReply:
    line = b"AUTH " + name
    initial = mechanism.initial()
    waiting = initial
    if initial is not None:
        # RFC 4954 4: an empty initial response is written as "=".
        encoded = b64encode(initial) or b"="
        if len(line) + len(encoded) <= MAX_INITIAL:
            line += b" " + encoded
            waiting = None
    [reply] = await connection.exchange(line + b"\r\n", [AUTH_TIMEOUT])
    for _ in range(MAX_STEPS):
        if reply.code != 334:
            return reply
        if waiting is not None:
            answer, waiting = waiting, None
        else:
            answer = await in_thread(mechanism.respond, _challenge(reply))
        [reply] = await connection.exchange(b64encode(answer) + b"\r\n", [AUTH_TIMEOUT])
    raise SyntaxFault(0, f"at most {MAX_STEPS} challenges")


def _challenge(reply: ServerReply) -> bytes:
    try:
        return b64decode(reply.lines[0], validate=True)
    except (binascii.Error, ValueError):
        # LOGIN's prompts are not looked at, and some servers do not encode them.
        return b"?"
