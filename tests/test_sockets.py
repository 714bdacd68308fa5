"""Ports: bound early, opened late, or handed over by systemd."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailhost import sockets
from mailhost.config.sections import Listener, Protocol, TLSMode
from mailhost.errors import ConfigError
from mailhost.sockets import PortForbidden, PortTaken, bind, inherited


def listener(port: int = 0, address: str = "127.0.0.1", **more: Any) -> Listener:
    return Listener(protocol=Protocol.SMTP, port=port, address=address, **more)


class FakeReactor:
    """Adopts ports."""

    def __init__(self) -> None:
        self.adopted: list[tuple[int, Any, Any]] = []

    def adoptStreamPort(self, descriptor: int, family: Any, factory: Any) -> object:
        self.adopted.append((os.dup(descriptor), family, factory))
        return self.adopted[-1]


class BindTests(SynchronousTestCase):
    """Our own sockets."""

    def bind(self, *listeners: Listener) -> Any:
        bound = bind(listeners, {})
        for entry in bound:
            self.addCleanup(entry.close)
        return bound

    def test_nobody_can_connect_before_it_is_opened(self) -> None:
        """The port is ours, and refuses until recovery is done."""
        (entry,) = self.bind(listener())
        self.assertRaises(ConnectionRefusedError, socket.create_connection, entry.address)
        reactor = FakeReactor()
        entry.open(reactor, "factory")
        ((descriptor, family, factory),) = reactor.adopted
        self.addCleanup(os.close, descriptor)
        self.assertEqual((family, factory), (socket.AF_INET, "factory"))
        with socket.socket(fileno=os.dup(descriptor)) as opened:
            socket.create_connection(opened.getsockname()).close()

    def test_a_taken_port_is_told(self) -> None:
        """Which listener, which port, and how to find the other program; none stays bound."""
        (first,) = self.bind(listener())
        first.handle.listen()
        port = first.address[1]
        free = listener()
        error = self.assertRaises(PortTaken, bind, [free, listener(port)], {})
        for words in (f"127.0.0.1:{port} (smtp) is taken", "listeners[1].port", "ss -ltnp"):
            self.assertIn(words, str(error))

    def test_a_port_that_is_taken_while_we_recover(self) -> None:
        """Two that bound the same port: the one that opens later is told."""
        (first,) = self.bind(listener())
        (second,) = self.bind(listener(first.address[1]))
        first.handle.listen()
        self.assertRaises(PortTaken, second.open, FakeReactor(), None)

    def test_an_address_that_is_not_ours(self) -> None:
        """A mistake of the configuration, with its path."""
        error = self.assertRaises(
            ConfigError, bind, [listener(), listener(2525, "203.0.113.77")], {}
        )
        self.assertEqual(error.path, "listeners[1].address")

    def test_a_privileged_port(self) -> None:
        """Without the privilege the ways to get it are named."""

        class Refusing(socket.socket):
            def bind(self, address: object) -> None:
                raise PermissionError(errno.EACCES, "Permission denied")

        self.patch(sockets.socket, "socket", Refusing)
        error = self.assertRaises(PortForbidden, bind, [listener(25)], {})
        self.assertIn("--uid", str(error))

    def test_every_address_is_two_sockets(self) -> None:
        """IPv4 peers keep their IPv4 address; without IPv6 there is one socket."""
        bound = self.bind(listener(address="*"))
        self.assertEqual(bound[0].address[0], "0.0.0.0")
        if len(bound) == 2:
            self.assertEqual(bound[1].address[0], "::")
            self.assertTrue(bound[1].handle.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))

    def test_a_machine_without_ipv6(self) -> None:
        """The address ``*`` is IPv4 alone there."""

        class Old(socket.socket):
            def __init__(self, family: int = socket.AF_INET, *more: Any, **named: Any) -> None:
                if family == socket.AF_INET6:
                    raise OSError(errno.EAFNOSUPPORT, "Address family not supported")
                super().__init__(family, *more, **named)

        self.patch(sockets.socket, "socket", Old)
        self.assertEqual(len(self.bind(listener(address="*"))), 1)

    def test_opening_is_logged(self) -> None:
        """Each port with its listener's name."""
        from twisted.logger import capturedLogs

        (entry,) = self.bind(listener(tls=TLSMode.NONE, name="inside"))
        port = entry.address[1]
        reactor = FakeReactor()
        with capturedLogs() as events:
            entry.open(reactor, None)
        os.close(reactor.adopted[0][0])
        (event,) = events
        self.assertEqual(
            [event[key] for key in ("event", "listener", "address", "port", "tls")],
            ["listener.opened", "inside", "127.0.0.1", port, "none"],
        )


class InheritedTests(SynchronousTestCase):
    """Sockets from systemd."""

    def hand_over(self, *names: str, family: int = socket.AF_INET) -> tuple[dict[str, str], list]:
        """Return an environment and the sockets in it, at the place where they are looked for."""
        made = []
        for _ in names:
            made.append(socket.socket(family))
            made[-1].bind(("127.0.0.1", 0) if family == socket.AF_INET else self.mktemp()[-90:])
            made[-1].listen()
        first = 200
        for index, each in enumerate(made):
            os.dup2(each.fileno(), first + index)
            each.close()
        self.patch(sockets, "_FIRST_INHERITED", first)
        environ = {
            "LISTEN_PID": str(os.getpid()),
            "LISTEN_FDS": str(len(names)),
            "LISTEN_FDNAMES": ":".join(names),
        }
        return environ, made

    def test_by_name(self) -> None:
        """The listener of that name has it, whatever its port in the configuration."""
        environ, _ = self.hand_over("smtp-25", "other")
        listeners = [listener(2, name="other"), listener(25)]
        bound = bind(listeners, environ)
        for entry in bound:
            self.addCleanup(entry.close)
        self.assertEqual([entry.listener for entry in bound], listeners)
        self.assertEqual([entry.handle.fileno() for entry in bound], [201, 200])
        self.assertEqual(environ, {})

    def test_several_of_one_name(self) -> None:
        """A socket unit with two streams serves one listener on both."""
        environ, _ = self.hand_over("smtp", "smtp")
        bound = bind([listener(25, name="smtp")], environ)
        for entry in bound:
            self.addCleanup(entry.close)
        self.assertEqual(len(bound), 2)

    def test_by_port(self) -> None:
        """Without a name that fits, address and port decide; the rest we bind ourselves."""
        environ, _ = self.hand_over("mailhost.socket")
        with socket.socket(fileno=os.dup(200)) as probe:
            port = probe.getsockname()[1]
        bound = bind([listener(), listener(port, "*")], environ)
        for entry in bound:
            self.addCleanup(entry.close)
        self.assertEqual(len(bound), 2)
        self.assertEqual(bound[1].handle.fileno(), 200)

    def test_one_that_fits_none_is_an_error(self) -> None:
        """Somebody expects it to be served."""
        environ, _ = self.hand_over("imap-143")
        error = self.assertRaises(ConfigError, bind, [listener(25)], environ)
        self.assertIn("imap-143", error.problem)

    def test_a_local_socket_is_an_error(self) -> None:
        """Mail ports are TCP."""
        directory = Path(self.mktemp())
        directory.mkdir()
        here = os.getcwd()
        os.chdir(directory)
        self.addCleanup(os.chdir, here)
        environ, _ = self.hand_over("x", family=socket.AF_UNIX)
        self.assertRaises(ConfigError, bind, [listener(25)], environ)

    def test_of_another_process(self) -> None:
        """What was meant for our parent is not ours."""
        environ = {"LISTEN_PID": "1", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a:b:c"}
        self.assertEqual(inherited(environ), [])
        self.assertEqual(inherited({}), [])
        self.assertEqual(inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"}), [])
