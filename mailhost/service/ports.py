"""
Listening sockets: bound early, opened late.

A port is bound while the process may still be root, and starts to listen only when recovery is
done: until then a client is refused by the kernel and tries again, instead of waiting. A socket
that systemd opened (``LISTEN_FDS``, named by ``FileDescriptorName=``) is used as it is.

Errors: ConfigError names the listener and what to do when the port cannot be had.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from mailhost.config.sections import Listener
from mailhost.errors import ConfigError, MailhostError

BACKLOG = 1024


class PortUnavailable(MailhostError):
    """A port cannot be bound now; the text is for the operator."""


def inherited(environment: Mapping[str, str], pid: int) -> dict[str, int]:
    """Return descriptors that systemd passed to this process, by name (sd_listen_fds(3))."""
    if environment.get("LISTEN_PID") != str(pid):
        return {}
    count = int(environment.get("LISTEN_FDS", "0") or 0)
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    return {
        (names[index] if index < len(names) else ""): 3 + index for index in range(count)
    }


class Port:
    """
    One listener.

    Args:
        reactor: accepts the connections.
        listener: address and port.
        passed: descriptors from systemd by listener label.
    """

    def __init__(
        self,
        reactor: Any,
        listener: Listener,
        passed: Mapping[str, int],
    ) -> None:
        self.listener = listener
        self._reactor = reactor
        self._passed = passed.get(listener.label)
        self._socket: socket.socket | None = None
        self._port: IListeningPort | None = None

    @property
    def number(self) -> int:
        """The TCP port, also when the kernel chose it."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    def bind(self) -> None:
        """
        Take the address and port.

        Raises:
            PortUnavailable: somebody else has it, or it is not allowed.
            ConfigError: the address is not one of this machine.
        """
        if self._socket is not None:
            return
        if self._passed is not None:
            self._socket = socket.socket(fileno=os.dup(self._passed))
            return
        family, address = _family(self.listener.address)
        try:
            self._socket = _bound(family, address, self.listener.port)
        except OSError as error:
            raise self._fault(error) from None

    def _fault(self, error: OSError) -> MailhostError:
        where = f"{self.listener.label}: {self.listener.address} port {self.listener.port}"
        if error.errno == errno.EADDRINUSE:
            return PortUnavailable(
                f"{where} is taken by another program; stop it or choose another port"
            )
        if error.errno == errno.EACCES:
            return PortUnavailable(
                f"{where} needs a privilege; use systemd, CAP_NET_BIND_SERVICE, "
                "or start as root with --uid and --gid"
            )
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return ConfigError(
                f"listeners ({self.listener.label})",
                f"{self.listener.address} is not an address of this machine",
            )
        return PortUnavailable(f"{where} cannot be bound: {error.strerror}")

    def open(self, factory: IProtocolFactory) -> None:
        """
        Begin to accept connections.

        Args:
            factory: builds protocols; already wrapped in TLS for an implicit port.

        Raises:
            PortUnavailable: somebody else opened it since it was bound.
        """
        assert self._socket is not None
        self._socket.setblocking(False)
        try:
            self._socket.listen(BACKLOG)
        except OSError as error:
            raise self._fault(error) from None
        self._port = self._reactor.adoptStreamPort(
            self._socket.fileno(), self._socket.family, factory
        )

    def close(self) -> Deferred[None]:
        """Accept no more; fire when the socket is closed."""
        port, self._port = self._port, None
        held, self._socket = self._socket, None
        if held is not None:
            held.close()
        if port is None:
            return succeed(None)
        return maybeDeferred(port.stopListening).addCallback(lambda _: None)


def _family(address: str) -> tuple[socket.AddressFamily, str]:
    if address == "*":
        if socket.has_dualstack_ipv6():
            return socket.AF_INET6, "::"
        return socket.AF_INET, "0.0.0.0"  # noqa: S104 - "*" asks for every address
    version = ip_address(address).version
    return (socket.AF_INET6 if version == 6 else socket.AF_INET), address


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only = 0 if address == "::" else 1
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
