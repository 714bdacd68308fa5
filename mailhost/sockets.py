"""
The ports we listen on: bound by ourselves, or handed over by systemd.

`bind` takes the ports before anything else is started, and while we may still be root; nobody can
connect until `BoundListener.open`, after recovery. A port that is taken is thus one clear line at
the start. A socket from systemd (socket activation, sd_listen_fds(3)) belongs to the listener that
has its name (``FileDescriptorName=``), else to the one with its address and port; one that belongs
to none is an error, for somebody expects it to be served.

The address ``*`` is two sockets, one for IPv4 and one for IPv6, so that IPv4 peers have their own
addresses; on a machine without IPv6 it is one.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from mailhost.config.sections import Listener
from mailhost.errors import ConfigError

BACKLOG = 1024
"""Connections that wait to be accepted."""

_FIRST_INHERITED = 3
_SYSTEMD = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


class PortTaken(OSError):
    """Another program has the port."""


class PortForbidden(PermissionError):
    """Ports below 1024 need a privilege that this process does not have."""


@dataclass(frozen=True, slots=True)
class BoundListener:
    """
    A listener with one bound socket.

    Args:
        handle: owned until `open` or `close`.
    """

    listener: Listener
    handle: socket.socket
    log = Logger()

    @property
    def address(self) -> tuple[str, int]:
        """Address and port, as the kernel has them."""
        name = self.handle.getsockname()
        return str(name[0]), int(name[1])

    def open(self, reactor: Any, factory: Any) -> Any:
        """
        Begin to take connections, and return the Twisted port.

        Raises:
            PortTaken: another program began to listen there since.
        """
        address, port = self.address
        try:
            self.handle.listen(BACKLOG)
        except OSError as error:
            raise _explained(error, self.listener, 0, address) from None
        opened = reactor.adoptStreamPort(self.handle.fileno(), self.handle.family, factory)
        self.handle.close()
        self.log.info(
            event="listener.opened",
            listener=self.listener.label,
            address=address,
            port=port,
            tls=str(self.listener.tls),
        )
        return opened

    def close(self) -> None:
        """Give up the port, if it was not opened."""
        self.handle.close()


def bind(
    listeners: Sequence[Listener], environ: MutableMapping[str, str]
) -> tuple[BoundListener, ...]:
    """
    Bind the sockets of all listeners, or of none.

    Args:
        listeners: of the configuration.
        environ: what systemd said in it is taken out, so that no child takes the sockets too.

    Raises:
        PortTaken, PortForbidden: a port cannot be had.
        ConfigError: an address is not ours, or a socket from systemd fits no listener.
    """
    bound: list[BoundListener] = []
    try:
        bound.extend(_adopted(listeners, inherited(environ)))
        served = {id(entry.listener) for entry in bound}
        for index, listener in enumerate(listeners):
            if id(listener) not in served:
                bound.extend(_bound(listener, index))
    except BaseException:
        for entry in bound:
            entry.close()
        raise
    order = {id(listener): index for index, listener in enumerate(listeners)}
    return tuple(sorted(bound, key=lambda entry: order[id(entry.listener)]))


@contextmanager
def kept_from_others(environ: MutableMapping[str, str]) -> Iterator[None]:
    """
    Hide what systemd said while something is imported.

    ``twisted.internet.endpoints`` takes it out of the environment when it is imported, for its own
    kind of endpoint; the sockets would be lost to `inherited`.
    """
    hidden = {name: environ.pop(name) for name in _SYSTEMD if name in environ}
    try:
        yield
    finally:
        environ.update(hidden)


def inherited(environ: MutableMapping[str, str]) -> list[tuple[str, socket.socket]]:
    """Return the sockets that systemd handed over with their names (sd_listen_fds(3))."""
    process, count, joined = (environ.pop(name, "") for name in _SYSTEMD)
    names = joined.split(":")
    if process != str(os.getpid()) or not count.isdigit():
        return []
    sockets = []
    for number in range(int(count)):
        handle = socket.socket(fileno=_FIRST_INHERITED + number)
        handle.set_inheritable(False)
        handle.setblocking(False)
        sockets.append((names[number] if number < len(names) else "", handle))
    return sockets


def _adopted(
    listeners: Sequence[Listener], sockets: list[tuple[str, socket.socket]]
) -> Iterator[BoundListener]:
    for name, handle in sockets:
        place = handle.getsockname()
        listener = _fitting(listeners, name, place)
        if listener is None or handle.type != socket.SOCK_STREAM:
            where = f"{place[0]}:{place[1]}" if isinstance(place, tuple) else repr(place)
            handle.close()
            raise ConfigError(
                "listeners",
                f"systemd opened {where} ({name or 'no name'}) and no listener fits it; add one, "
                "or remove it from the socket unit",
            )
        yield BoundListener(listener, handle)


def _fitting(listeners: Sequence[Listener], name: str, place: Any) -> Listener | None:
    for listener in listeners:
        if name and listener.label == name:
            return listener
    if not isinstance(place, tuple):
        return None
    for listener in listeners:
        if listener.port == place[1] and listener.address in ("*", place[0]):
            return listener
    return None


def _bound(listener: Listener, index: int) -> Iterator[BoundListener]:
    if listener.address != "*":
        yield _bound_to(listener, index, listener.address)
        return
    yield _bound_to(listener, index, "0.0.0.0")  # noqa: S104 - the operator asked for all
    try:
        yield _bound_to(listener, index, "::")
    except (OSError, ConfigError) as error:
        if getattr(error.__cause__ or error, "errno", None) not in _NO_IPV6:
            raise


def _bound_to(listener: Listener, index: int, address: str) -> BoundListener:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    handle = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        handle.setblocking(False)
        handle.bind((address, listener.port))
    except OSError as error:
        handle.close()
        raise _explained(error, listener, index, address) from error
    return BoundListener(listener, handle)


def _explained(error: OSError, listener: Listener, index: int, address: str) -> Exception:
    shown = f"[{address}]" if ":" in address else address
    where = f"{shown}:{listener.port} ({listener.protocol})"
    if error.errno == errno.EADDRINUSE:
        return PortTaken(
            f"{where} is taken by another program; stop that "
            f"(ss -ltnp sport = :{listener.port} names it), or change listeners[{index}].port"
        )
    if error.errno == errno.EACCES:
        return PortForbidden(
            f"{where} needs a privilege; start as root with --uid and --gid, let systemd open the "
            f"port, or change listeners[{index}].port"
        )
    return ConfigError(
        f"listeners[{index}].address",
        f"{where} cannot be listened on ({error.strerror}); is it an address of this machine?",
    )
