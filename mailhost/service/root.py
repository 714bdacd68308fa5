"""
The server as a whole: what is built, in which order it starts, reloads and stops.

Start: certificates and ports while the process may be root; then the data directory's lock, the
stores, recovery of what an unclean stop left, and only then the ports open. Stop: ports close,
clients hear good-bye, the queue commits and settles, stores close, the stop is marked clean.

Errors before the ports are open come out of ``ready``; the process ends with one line.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from zope.interface import implementer

from mailhost.admin.errors import failure_of
from mailhost.admin.verbs import perform
from mailhost.config.layout import tls_directory
from mailhost.config.sections import Config
from mailhost.control import ControlFactory, ControlPort, listen
from mailhost.service.local import furnish
from mailhost.service.outbound import build_router
from mailhost.service.protocols import Neighbours, Server, server_for
from mailhost.service.stores import Stores
from mailhost.service.watchdog import Watchdog
from mailhost.sockets import BoundListener, bind
from mailhost.tls import ServerTLS
from mailhost.welcome import command_name, welcome


def make_service(
    config: Config, *, local: bool, show: Callable[[str], object] | None = None
) -> MailServer:
    """
    Return the server for a configuration, with its keys and ports taken, not started.

    twistd calls this while it is still in the foreground: what cannot be had is told there.

    Args:
        config: what it serves.
        local: the safe local mode: mail for elsewhere is kept here.
        show: takes what a person at the terminal is to read.
    """
    from twisted.internet import reactor

    server = MailServer(config, reactor, local=local, show=show or _show)
    server.take()
    return server


def _show(text: str) -> None:
    # Not sys.stdout, which twistd may have sent to the log: a password must not land there.
    stream = sys.__stdout__
    if stream is not None:
        stream.write(text)
        stream.flush()


@implementer(IService)
class MailServer(Service):
    """
    Everything that runs.

    Args:
        reactor: of the process.
        show: takes what a person at the terminal is to read (local mode).
    """

    log = Logger()

    def __init__(
        self, config: Config, reactor: Any, *, local: bool, show: Callable[[str], object]
    ) -> None:
        self.config = config
        self.local = local
        self.ready: Deferred[None] = Deferred()
        """Fires when every port is open, or fails with why that cannot be."""
        self._reactor = reactor
        self._show = show
        self._began = time.monotonic()
        self._tls = ServerTLS(
            config.certificates, config.hostname, tls_directory(config.data_directory), reactor
        )
        self._bound: tuple[BoundListener, ...] = ()
        self._ports: list[IListeningPort] = []
        self._servers: list[Server] = []
        self._stores: Stores | None = None
        self._near: Neighbours | None = None
        self._control: ControlPort | None = None
        self._watchdog = Watchdog(reactor)
        self._starting: Deferred[None] | None = None

    def take(self) -> None:
        """
        Read keys and take ports, while we may be root. Harmless when it was done before.

        Raises:
            ConfigError, OSError: a certificate cannot be used, or a port not be had.
        """
        if self._bound:
            return
        if self.config.certificates:
            self._tls.load()
        self._bound = bind(self.config.listeners, os.environ)

    def privilegedStartService(self) -> None:
        """Take what only root may have."""
        self.take()

    def startService(self) -> None:
        """Begin the rest of the start; `ready` tells how it ends."""
        super().startService()
        self._starting = ensureDeferred(self._start())
        self._starting.addCallbacks(self.ready.callback, self.ready.errback)

    async def _start(self) -> None:
        stores = Stores(self.config, self._reactor, build_router, local=self.local)
        self._stores = stores
        await stores.open()
        if not self.config.certificates:
            await stores.workers.defer(self._tls.load)
        near = Neighbours(
            reactor=self._reactor,
            config=self.config,
            local=self.local,
            spool=stores.spool,
            recipients=stores.recipients,
            authenticator=stores.authenticator,
            tls=self._tls,
            workers=stores.workers,
        )
        self._near = near
        passwords = await furnish(stores.directory) if self.local else {}
        self._control = listen(
            self.config.data_directory,
            self._reactor,
            ControlFactory(
                lambda noun, verb, given: perform(stores.administration, noun, verb, given),
                failure_of,
                self._reactor,
            ),
        )
        for bound in self._bound:
            server = server_for(near, bound.listener)
            self._servers.append(server)
            self._ports.append(bound.open(self._reactor, server.outer))
        self._watchdog.start()
        self._tell_ready(passwords)

    def _tell_ready(self, passwords: Mapping[str, str]) -> None:
        seconds = time.monotonic() - self._began
        self.log.info(
            event="service.ready",
            data_directory=str(self.config.data_directory),
            local=self.local,
            delay=round(seconds, 3),
        )
        if self.local:
            self._show(
                welcome(
                    self.config,
                    passwords,
                    seconds=seconds,
                    command=command_name(sys.argv[0]),
                    as_root=os.geteuid() == 0,
                )
            )

    def reload(self, config: Config) -> None:
        """
        Take what can change while sessions go on: certificates, limits, relay, retries.

        Raises:
            ConfigError: the new relay section cannot be used; the old one stays in force.
        """
        if self._stores is not None:
            self._stores.reload(config)
        if self._near is not None:
            self._near.apply(config)
            for server in self._servers:
                server.apply(self._near)
        self._tls.reload(config.certificates)
        self.config = config

    def stopService(self) -> Deferred[None]:
        """Stop; fires when all that was accepted is safe."""
        super().stopService()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        began = time.monotonic()
        self._watchdog.stop()
        for bound in self._bound:
            bound.close()
        await gatherResults(
            [maybeDeferred(port.stopListening) for port in self._ports], consumeErrors=True
        )
        if self._control is not None:
            await self._control.stop()
        for server in self._servers:
            server.end_sessions()
        self._tls.stop()
        if self._stores is not None:
            await self._stores.close()
        self.log.info(event="service.stopped", delay=round(time.monotonic() - began, 3))
