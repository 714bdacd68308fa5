"""
The control socket: administrative commands for a running server.

``control.sock`` in the data directory, mode 0600, speaks one JSON object a line. A request is
``{"noun": ..., "verb": ..., "arguments": {...}}``; its answer ``{"result": ...}`` or
``{"failure": {"status": ..., "kind": ..., "message": ...}}``. Requests of one connection are
answered in order, one after the other.

Only the user that the server runs as, and root, are served: the kernel says who is at the other
end (SO_PEERCRED), whatever the file's permissions became. A request is at most `MAX_REQUEST`
octets, an answer `MAX_ANSWER`; a connection that is silent for `IDLE_TIMEOUT` ends.

The server's side is a Twisted factory over a function that performs a command; the client's side,
`call`, blocks, for the command line. A path too long for a socket's name is no problem: both sides
go by the directory.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, ITransport
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

NAME = "control.sock"
MAX_REQUEST = 64 * 1024
MAX_ANSWER = 64 * 1024 * 1024
MAX_CONNECTIONS = 32
IDLE_TIMEOUT = 60.0
CALL_TIMEOUT = 600.0
"""How long a command may take, in seconds; deleting a large queue takes its time."""

_USAGE = 64
_DATA = 65
_TEMPORARY = 75
_CREDENTIALS = struct.Struct("3i")

Perform: TypeAlias = Callable[[str, str, Mapping[str, object]], Coroutine[Any, Any, Any]]


class FailureText(Protocol):
    """How a failure is shown: `mailhost.admin.errors.CommandFailure` is one."""

    @property
    def status(self) -> int:
        """The exit status."""

    @property
    def kind(self) -> str:
        """A stable word."""

    @property
    def message(self) -> str:
        """One line for people."""


@dataclass(frozen=True, slots=True)
class CallFailure(Exception):
    """The server's answer that a command failed."""

    status: int
    kind: str
    message: str

    def __str__(self) -> str:
        return self.message


class ControlUnreachable(Exception):
    """No server listens on the socket."""


class ControlBroken(Exception):
    """The server was reached and gave no usable answer."""


class ControlProtocol(TwistedProtocol):
    """One administrator's connection."""

    log = Logger()
    transport: ITransport
    factory: ControlFactory

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._received = b""
        self._running: Deferred[Any] | None = None
        self._timeout: IDelayedCall | None = None
        self._uid = -1
        self._began = 0.0
        self._verb = ""

    def connectionMade(self) -> None:
        """See who it is."""
        self._uid = self.factory.peer_uid(self.transport)
        if self._uid not in self.factory.allowed or not self.factory.enter(self):
            self.log.warn(event="control.connection.refused", peer_uid=self._uid)
            self.transport.loseConnection()
            return
        self._wait()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Let go. What was asked for is done nevertheless; nobody hears the answer."""
        self.factory.leave(self)
        self._stop_waiting()

    def dataReceived(self, data: bytes) -> None:
        """Take octets of requests."""
        if self not in self.factory.connections:
            return
        self._received += data
        if len(self._received) > MAX_REQUEST:
            self._refuse(_USAGE, "usage", "the request is too long")
            self.transport.loseConnection()
            return
        self._next()

    def _next(self) -> None:
        while self._running is None and b"\n" in self._received:
            line, _, self._received = self._received.partition(b"\n")
            self._stop_waiting()
            self._request(line)
        if self._running is None and self._timeout is None:
            self._wait()

    def _request(self, line: bytes) -> None:
        request = _read_request(line)
        if request is None:
            self._refuse(_USAGE, "usage", "the request is not one that this server knows")
            self.transport.loseConnection()
            return
        noun, verb, arguments = request
        self._verb = f"{noun} {verb}"
        self._began = self._clock.seconds()
        deferred: Deferred[Any] = Deferred.fromCoroutine(
            self.factory.perform(noun, verb, arguments)
        )
        self._running = deferred
        deferred.addCallbacks(self._done, self._failed)
        deferred.addErrback(self._fault)
        if deferred.called:
            self._running = None
        else:
            deferred.addBoth(self._go_on)

    def _go_on(self, _: object) -> None:
        self._running = None
        self._next()

    def _done(self, result: object) -> None:
        if self._answer({"result": result}):
            self._note(0)

    def _failed(self, failure: Failure) -> None:
        assert failure.value is not None
        shown = self.factory.failure_of(failure.value)
        if shown.kind == "internal":
            self.log.failure("", failure=failure, event="control.fault", verb=self._verb)
        self._refuse(int(shown.status), shown.kind, shown.message)
        self._note(int(shown.status))

    def _fault(self, failure: Failure) -> None:
        self.log.failure("", failure=failure, event="control.fault", verb=self._verb)
        self._refuse(_TEMPORARY, "internal", "internal error; see the log")

    def _note(self, status: int) -> None:
        self.log.info(
            event="control.request",
            verb=self._verb,
            peer_uid=self._uid,
            status=status,
            delay=self._clock.seconds() - self._began,
        )

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self._answer({"failure": {"status": status, "kind": kind, "message": message}})

    def _answer(self, document: Mapping[str, object]) -> bool:
        octets = json.dumps(document, separators=(",", ":")).encode() + b"\n"
        if len(octets) > MAX_ANSWER and "result" in document:
            self._refuse(_DATA, "too-large", "the answer is too large; ask for less with --limit")
            return False
        if self in self.factory.connections:
            self.transport.write(octets)
        return True

    def _wait(self) -> None:
        self._timeout = self._clock.callLater(IDLE_TIMEOUT, self._silent)

    def _silent(self) -> None:
        self._timeout = None
        self.transport.loseConnection()

    def _stop_waiting(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None


def _read_request(line: bytes) -> tuple[str, str, dict[str, object]] | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    noun, verb = document.get("noun"), document.get("verb")
    arguments = document.get("arguments", {})
    if isinstance(noun, str) and isinstance(verb, str) and isinstance(arguments, dict):
        return noun, verb, arguments
    return None


class ControlFactory(Factory):
    """
    The server's side.

    Args:
        perform: does a command: noun, verb, arguments; returns what JSON can carry.
        failure_of: how an error of `perform` is shown; kind ``internal`` is logged with its
            traceback.
        clock: for the timeout.
        allowed: user ids that are served; by default ours and root.
    """

    noisy = False

    def __init__(
        self,
        perform: Perform,
        failure_of: Callable[[BaseException], FailureText],
        clock: IReactorTime,
        allowed: frozenset[int] | None = None,
    ) -> None:
        self.perform = perform
        self.failure_of = failure_of
        self.allowed = frozenset({0, os.geteuid()}) if allowed is None else allowed
        self.connections: set[ControlProtocol] = set()
        self._clock = clock

    def buildProtocol(self, address: IAddress | None) -> Any:
        """Return the protocol for a connection."""
        protocol = ControlProtocol(self._clock)
        protocol.factory = self
        return protocol

    def peer_uid(self, transport: Any) -> int:
        """Return the user id of the process at the other end, as the kernel has it."""
        return credentials_of(transport.getHandle())[1]

    def enter(self, protocol: ControlProtocol) -> bool:
        """Take a connection, unless there are too many."""
        if len(self.connections) >= MAX_CONNECTIONS:
            return False
        self.connections.add(protocol)
        return True

    def leave(self, protocol: ControlProtocol) -> None:
        """Forget a connection."""
        self.connections.discard(protocol)

    def disconnect(self) -> None:
        """End all connections; answers that are written still go out."""
        for protocol in list(self.connections):
            protocol.transport.loseConnection()


def credentials_of(handle: socket.socket) -> tuple[int, int, int]:
    """Return process, user and group id of a Unix socket's other end (unix(7) SO_PEERCRED)."""
    octets = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, group = _CREDENTIALS.unpack(octets)
    return process, user, group


def _name_below(descriptor: int) -> str:
    # A socket's name has at most 107 octets; a name by way of an open directory is short.
    return f"/proc/self/fd/{descriptor}/{NAME}"


@contextmanager
def _short_name(directory: Path) -> Iterator[str]:
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield _name_below(descriptor)
    finally:
        os.close(descriptor)


class ControlPort:
    """
    The open control socket.

    Args:
        port: the listening port, whose socket has a name below `descriptor`.
        descriptor: the data directory; owned, and open as long as the port.
        factory: whose connections end with it.
    """

    def __init__(self, port: Any, descriptor: int, factory: ControlFactory) -> None:
        self._port = port
        self._descriptor = descriptor
        self._factory = factory

    async def stop(self) -> None:
        """Close the socket, remove its name, and end all connections."""
        try:
            await maybeDeferred(self._port.stopListening)
            self._factory.disconnect()
        finally:
            os.close(self._descriptor)


def listen(directory: Path, reactor: Any, factory: ControlFactory) -> ControlPort:
    """
    Open the control socket.

    The caller holds the data directory's lock, so that a socket that lies there is a dead one.

    Raises:
        OSError: it cannot be made.
    """
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = _name_below(descriptor)
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(name).st_mode):
                os.unlink(name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            # The mode before the name exists: there is no moment when others could connect.
            os.fchmod(listener.fileno(), 0o600)
            listener.bind(name)
            listener.setblocking(False)
            listener.listen(MAX_CONNECTIONS)
            port = reactor.adoptStreamPort(listener.fileno(), socket.AF_UNIX, factory)
        # Twisted gives a port that it adopts its own default mode.
        os.chmod(name, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return ControlPort(port, descriptor, factory)


def call(
    directory: Path,
    noun: str,
    verb: str,
    arguments: Mapping[str, object],
    timeout: float = CALL_TIMEOUT,
) -> Any:
    """
    Have a running server perform a command, and return its result. Blocks.

    Raises:
        CallFailure: the command failed.
        ControlUnreachable: no server listens in this data directory.
        ControlBroken: the server went away, or did not answer in time.
        PermissionError: this user may not use the socket.
    """
    request = (
        json.dumps({"noun": noun, "verb": verb, "arguments": dict(arguments)}).encode() + b"\n"
    )
    with _connected(directory, timeout) as connection:
        try:
            connection.sendall(request)
            answer = _read_answer(connection)
        except TimeoutError:
            raise ControlBroken("the server did not answer in time; see its log") from None
        except OSError as error:
            raise ControlBroken(f"the server ended the connection ({error.strerror})") from None
    if not answer:
        raise ControlBroken("the server ended the connection without an answer; see its log")
    try:
        document = json.loads(answer)
        if "result" in document:
            return document["result"]
        failure = document["failure"]
        shown = CallFailure(failure["status"], failure["kind"], failure["message"])
    except (ValueError, KeyError, TypeError):
        raise ControlBroken("the server's answer is of another version of mailhost") from None
    raise shown


@contextmanager
def _connected(directory: Path, timeout: float) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            with _short_name(directory) as name:
                connection.connect(name)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise ControlUnreachable(f"no server listens in {directory}") from None
        except PermissionError:
            raise PermissionError(
                f"{directory} belongs to another user; run this as its owner, or as root"
            ) from None
        yield connection


def _read_answer(connection: socket.socket) -> bytes:
    answer = bytearray()
    while not answer.endswith(b"\n"):
        octets = connection.recv(256 * 1024)
        if not octets or len(answer) > MAX_ANSWER:
            break
        answer += octets
    return bytes(answer)
