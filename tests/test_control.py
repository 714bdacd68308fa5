"""The control socket: who is served, what is answered, its bounds."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailhost import control
from mailhost.admin.errors import failure_of
from mailhost.control import (
    CallFailure,
    ControlBroken,
    ControlFactory,
    ControlProtocol,
    ControlUnreachable,
    call,
    credentials_of,
)
from mailhost.errors import NoSuchEntry

OWNER = 1000


class FakeFactory(ControlFactory):
    """A factory that is told who is at the other end."""

    uid = OWNER

    def peer_uid(self, transport: Any) -> int:
        return self.uid


class ProtocolTests(SynchronousTestCase):
    """The server's side."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[str, str, Mapping[str, object]]] = []
        self.waiting: list[Deferred[Any]] = []
        self.factory = FakeFactory(self.perform, failure_of, self.clock, frozenset({0, OWNER}))

    async def perform(self, noun: str, verb: str, arguments: Mapping[str, object]) -> Any:
        self.asked.append((noun, verb, arguments))
        if verb == "late":
            self.waiting.append(Deferred())
            return await self.waiting[-1]
        if verb == "missing":
            raise NoSuchEntry("there is no account x@a.example")
        if verb == "broken":
            raise ZeroDivisionError("secret detail")
        if verb == "strange":
            return object()
        return [dict(arguments)]

    def connect(self) -> tuple[ControlProtocol, StringTransport]:
        protocol = self.factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, verb: str, **arguments: object) -> bytes:
        request = {"noun": "account", "verb": verb, "arguments": arguments}
        return json.dumps(request).encode() + b"\n"

    def answers(self, transport: StringTransport) -> list[Any]:
        return [json.loads(line) for line in transport.value().splitlines()]

    def test_a_request_is_performed_and_answered(self) -> None:
        """Noun, verb and arguments arrive; the result goes back."""
        protocol, transport = self.connect()
        with capturedLogs() as events:
            protocol.dataReceived(self.ask("list", domain="a.example"))
        self.assertEqual(self.asked, [("account", "list", {"domain": "a.example"})])
        self.assertEqual(self.answers(transport), [{"result": [{"domain": "a.example"}]}])
        (event,) = events
        self.assertEqual(
            (event["event"], event["verb"], event["peer_uid"], event["status"]),
            ("control.request", "account list", OWNER, 0),
        )

    def test_arguments_are_not_logged(self) -> None:
        """A password in them stays out of the log, also when the command fails."""
        protocol, _ = self.connect()
        with capturedLogs() as events:
            for verb in ("add", "missing", "broken"):
                protocol.dataReceived(self.ask(verb, password="Xyzzy-42"))
        self.assertNotIn("Xyzzy-42", repr(events))
        self.flushLoggedErrors(ZeroDivisionError)

    def test_octets_may_come_one_by_one(self) -> None:
        """A line is complete when its end is there."""
        protocol, transport = self.connect()
        for octet in self.ask("list"):
            self.assertEqual(transport.value(), b"")
            protocol.dataReceived(bytes([octet]))
        self.assertEqual(len(self.answers(transport)), 1)

    def test_requests_are_answered_in_order(self) -> None:
        """The second waits until the first, late one is answered."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.ask("late") + self.ask("list", n="2") + self.ask("late"))
        self.assertEqual([verb for _, verb, _ in self.asked], ["late"])
        self.waiting[0].callback("first")
        self.assertEqual([verb for _, verb, _ in self.asked], ["late", "list", "late"])
        self.assertEqual(self.answers(transport), [{"result": "first"}, {"result": [{"n": "2"}]}])

    def test_many_quick_requests_need_no_stack(self) -> None:
        """Answers that are there at once are given in a loop."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.ask("list") * 1000)
        self.assertEqual(len(self.answers(transport)), 1000)

    def test_a_failure_has_status_kind_and_words(self) -> None:
        """The administrator's mistakes are told as they are."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.ask("missing"))
        self.assertEqual(
            self.answers(transport),
            [
                {
                    "failure": {
                        "status": 65,
                        "kind": "no-such-entry",
                        "message": "there is no account x@a.example",
                    }
                }
            ],
        )

    def test_our_own_fault_is_logged_and_temporary(self) -> None:
        """The text of an unexpected exception goes to the log only."""
        for verb, error in (("broken", ZeroDivisionError), ("strange", TypeError)):
            protocol, transport = self.connect()
            protocol.dataReceived(self.ask(verb))
            (answer,) = self.answers(transport)
            self.assertEqual(answer["failure"]["status"], 75)
            self.assertEqual(answer["failure"]["kind"], "internal")
            self.assertNotIn("secret detail", answer["failure"]["message"])
            self.assertEqual(len(self.flushLoggedErrors(error)), 1)

    def test_other_users_are_refused(self) -> None:
        """Whoever is neither owner nor root is not heard."""
        self.factory.uid = 1001
        with capturedLogs() as events:
            protocol, transport = self.connect()
        self.assertTrue(transport.disconnecting)
        protocol.dataReceived(self.ask("list"))
        self.assertEqual((self.asked, transport.value()), ([], b""))
        self.assertEqual(
            [(event["event"], event["peer_uid"]) for event in events],
            [("control.connection.refused", 1001)],
        )

    def test_root_is_served(self) -> None:
        """Root may do everything anyway."""
        self.factory.uid = 0
        protocol, transport = self.connect()
        protocol.dataReceived(self.ask("list"))
        self.assertEqual(len(self.answers(transport)), 1)

    def test_nonsense_is_refused(self) -> None:
        """What is not a request ends the connection with usage."""
        for line in (
            b"",
            b"{}",
            b"[]",
            b"\xff",
            b"null",
            b'{"noun": 1, "verb": "x"}',
            b'{"noun": "a", "verb": "b", "arguments": []}',
            b"[" * 50_000,
        ):
            protocol, transport = self.connect()
            protocol.dataReceived(line + b"\n")
            self.assertEqual(self.answers(transport)[0]["failure"]["status"], 64)
            self.assertTrue(transport.disconnecting)
            protocol.connectionLost()
        self.assertEqual(self.asked, [])

    def test_a_request_without_end_is_refused(self) -> None:
        """Memory for a request is bounded."""
        protocol, transport = self.connect()
        for _ in range(20):
            protocol.dataReceived(b" " * (MAX // 16))
            if transport.disconnecting:
                break
        self.assertTrue(transport.disconnecting)
        self.assertEqual(self.answers(transport)[0]["failure"]["status"], 64)

    def test_an_answer_that_is_too_large_is_replaced(self) -> None:
        """The administrator is told to ask for less."""
        self.patch(control, "MAX_ANSWER", 100)
        protocol, transport = self.connect()
        protocol.dataReceived(self.ask("list", x="y" * 200))
        (answer,) = self.answers(transport)
        self.assertEqual(answer["failure"]["kind"], "too-large")

    def test_a_silent_connection_ends(self) -> None:
        """After the timeout; not while a command runs."""
        protocol, transport = self.connect()
        self.clock.advance(control.IDLE_TIMEOUT - 1)
        self.assertFalse(transport.disconnecting)
        protocol.dataReceived(self.ask("late"))
        self.clock.advance(10 * control.IDLE_TIMEOUT)
        self.assertFalse(transport.disconnecting)
        self.waiting[0].callback(None)
        self.clock.advance(control.IDLE_TIMEOUT + 1)
        self.assertTrue(transport.disconnecting)

    def test_a_client_that_left_is_forgotten(self) -> None:
        """Its command goes on, its answer goes nowhere, no timer stays."""
        protocol, transport = self.connect()
        protocol.dataReceived(self.ask("late"))
        protocol.connectionLost()
        self.waiting[0].callback(None)
        self.assertEqual(transport.value(), b"")
        self.assertEqual(self.factory.connections, set())

    def test_there_are_only_so_many_connections(self) -> None:
        """One more is refused until another ends."""
        first, _ = self.connect()
        for _ in range(control.MAX_CONNECTIONS - 1):
            self.connect()
        _, transport = self.connect()
        self.assertTrue(transport.disconnecting)
        first.connectionLost()
        _, transport = self.connect()
        self.assertFalse(transport.disconnecting)


MAX = control.MAX_REQUEST


class SocketTests(TestCase):
    """Both sides over a real socket."""

    timeout = 20

    def setUp(self) -> None:
        # Longer than a socket's name may be.
        self.directory = Path(self.mktemp()).absolute() / ("x" * 120)
        self.directory.mkdir(parents=True)

    async def perform(self, noun: str, verb: str, arguments: Mapping[str, object]) -> Any:
        if verb == "missing":
            raise NoSuchEntry("there is none")
        return {"noun": noun, "verb": verb, **arguments}

    def serve(self) -> None:
        factory = ControlFactory(self.perform, failure_of, reactor)
        port = control.listen(self.directory, reactor, factory)
        self.addCleanup(lambda: Deferred.fromCoroutine(port.stop()))

    async def call(self, verb: str, **arguments: object) -> Any:
        return await deferToThread(call, self.directory, "account", verb, arguments, 10)

    async def test_a_command_goes_there_and_back(self) -> None:
        """The result is what the server returned; a failure is raised as it was told."""
        self.serve()
        result = await self.call("show", address="\xe9@a.example")
        self.assertEqual(result, {"noun": "account", "verb": "show", "address": "\xe9@a.example"})
        try:
            await self.call("missing")
        except CallFailure as failure:
            self.assertEqual((failure.status, str(failure)), (65, "there is none"))
        else:
            self.fail("no failure")

    async def test_it_is_removed_at_the_end(self) -> None:
        """Nothing is left in the directory, and the next command sees that none runs."""
        factory = ControlFactory(self.perform, failure_of, reactor)
        port = control.listen(self.directory, reactor, factory)
        await port.stop()
        self.assertEqual(list(self.directory.iterdir()), [])

    async def test_the_socket_is_private(self) -> None:
        """Mode 0600, and a dead socket in its place does not matter."""
        with socket.socket(socket.AF_UNIX) as dead, control._short_name(self.directory) as name:
            dead.bind(name)
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.serve()
        mode = (self.directory / control.NAME).lstat().st_mode
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        await self.call("show")

    def test_without_a_server_it_is_unreachable(self) -> None:
        """No directory, no socket, a dead socket: all mean that none runs."""
        for directory in (self.directory / "none", self.directory):
            self.assertRaises(ControlUnreachable, call, directory, "account", "list", {}, 5)
        with socket.socket(socket.AF_UNIX) as dead, control._short_name(self.directory) as name:
            dead.bind(name)
        self.assertRaises(ControlUnreachable, call, self.directory, "account", "list", {}, 5)

    def test_a_directory_of_another_user_is_told_with_the_remedy(self) -> None:
        """The kernel's bare words would name neither the place nor what to do."""

        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(control, "_short_name", refuse)
        error = self.assertRaises(PermissionError, call, Path("/data"), "account", "list", {})
        self.assertRegex(str(error), "^/data belongs to another user; run this as its owner")

    def test_a_server_that_fails_to_answer_is_broken(self) -> None:
        """Nothing, nonsense, half an answer: one line each."""
        for answer in (b"", b"nonsense\n", b"{}\n", b'{"failure": 1}\n', b'{"result": 1'):
            with socket.socket(socket.AF_UNIX) as listener:
                with control._short_name(self.directory) as name:
                    listener.bind(name)
                listener.listen()
                thread = threading.Thread(target=self._answer, args=(listener, answer))
                thread.start()
                self.assertRaises(ControlBroken, call, self.directory, "a", "b", {}, 5)
                thread.join()
            (self.directory / control.NAME).unlink()

    def _answer(self, listener: socket.socket, answer: bytes) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)

    def test_a_server_that_hangs_is_broken(self) -> None:
        """The command line does not wait for ever."""
        with socket.socket(socket.AF_UNIX) as listener:
            with control._short_name(self.directory) as name:
                listener.bind(name)
            listener.listen()
            self.assertRaises(ControlBroken, call, self.directory, "a", "b", {}, 0.05)

    def test_the_kernel_says_who_is_there(self) -> None:
        """Process, user and group of the other end."""
        one, other = socket.socketpair(socket.AF_UNIX)
        with one, other:
            self.assertEqual(credentials_of(one), (os.getpid(), os.geteuid(), os.getegid()))
