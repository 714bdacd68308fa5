"""
The stores: opened in order, recovered, and closed so that the next start finds a clean stop.

The data directory's lock comes first and goes last. Every file is touched on worker threads.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailhost.address import Address
from mailhost.config.layout import directory_database, spool_directory
from mailhost.config.sections import Config
from mailhost.directory.authentication import Authenticator
from mailhost.directory.capture_policy import CapturePolicy
from mailhost.directory.checkers import OperatorChecker, PasswordChecker, ProvenChecker
from mailhost.directory.credentials import PasswordCheck, SCRAMCredentials
from mailhost.directory.directory import Directory
from mailhost.directory.login_limits import LoginLimits
from mailhost.directory.realm import Administration, Realm
from mailhost.directory.recipient_policy import RecipientPolicy
from mailhost.directory.roster import OwnNames
from mailhost.directory.store import SCRAM_ITERATIONS, DirectoryStore
from mailhost.files import FileOperations
from mailhost.interfaces.directory import IRecipientPolicy
from mailhost.interfaces.spool import Recipient
from mailhost.queue.bounce import Bouncer
from mailhost.queue.clock import SteadyClock
from mailhost.queue.dispatch import Dispatcher
from mailhost.queue.mail_queue import MailQueue
from mailhost.queue.runner import RealThreads
from mailhost.queue.schedule import RetrySchedule
from mailhost.queue.spool import Spool, SpoolLimits
from mailhost.relay.route import Router
from mailhost.service.local import TAKER
from mailhost.service.outbound import build_agent, build_contexts
from mailhost.service.threads import Workers
from mailhost.storage.data_directory import DataDirectory, boot_id
from mailhost.storage.store import MailStore

FILE_THREADS = 6
"""Threads for mailboxes, certificates and what the relay reads."""


class Stores:
    """
    Everything that keeps something.

    Args:
        reactor: of the process.
        build_router: makes the relay's router from a configuration; blocks for small files.
        local: mail for elsewhere is kept here.
    """

    log = Logger()

    workers: Workers
    directory: Directory
    mail: MailStore
    spool: Spool
    queue: MailQueue
    recipients: IRecipientPolicy
    authenticator: Authenticator
    administration: Administration

    def __init__(
        self,
        config: Config,
        reactor: Any,
        build_router: Callable[[Config, Any], Router],
        *,
        local: bool,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._build_router = build_router
        self._local = local
        self._closing: list[Callable[[], Deferred[Any]]] = []
        self._files = FileOperations()
        self._data = DataDirectory(config.data_directory, self._files, boot_id())
        self.workers = self._pool("files", FILE_THREADS)
        self._failed = False
        self._hashing = self._pool("hashing", config.login.password_threads)
        self._changes = self._pool("directory", 1)

    def _pool(self, name: str, threads: int) -> Workers:
        pool = Workers(self._reactor, name, threads)
        pool.start()
        return pool

    async def open(self) -> None:
        """
        Open everything and recover what an unclean stop left.

        Raises:
            MailhostError, OSError: it cannot be opened; the reason is for the operator.
        """
        await self.workers.defer(self._data.open)
        self._closing.append(lambda: self.workers.defer(self._data.abandon))
        await self._open_directory()
        self._open_mail()
        await self._open_queue()
        self._open_logins()
        if not self._data.was_clean:
            self.log.info(event="service.recovered", power_lost=self._data.power_lost)

    async def _open_directory(self) -> None:
        config = self._config
        path = directory_database(config.data_directory)
        iterations = SCRAM_ITERATIONS if config.login.scram else 0

        def build() -> DirectoryStore:
            return DirectoryStore(path, scram_iterations=iterations)

        store = await self._changes.defer(build)
        own = frozenset(
            {config.hostname}
            | {f"[{each.address}]" for each in config.listeners if each.address != "*"}
        )
        self.directory = Directory(store, self._changes.defer, self._reactor, OwnNames(own))
        self._closing.append(self.directory.close)
        self.recipients = (
            CapturePolicy(self.directory, TAKER) if self._local else RecipientPolicy(self.directory)
        )

    def _open_mail(self) -> None:
        self.mail = MailStore(
            self._data,
            self._files,
            self.workers,
            self._reactor,
            self._reactor.callFromThread,
            self._config.hostname,
        )
        self._closing.append(self._close_mail)

    def _close_mail(self) -> Deferred[None]:
        def closed(complete: bool) -> Deferred[None] | None:
            # Said only when everything before it went well: see `close`.
            if complete and not self._failed:
                return self.workers.defer(self._data.close)
            return None

        return self.mail.stop().addCallback(closed)

    async def _open_queue(self) -> None:
        config = self._config
        router = await self.workers.defer(self._build_router, config, self._reactor)
        contexts = await self.workers.defer(build_contexts, config)
        self.agent = build_agent(config, self._reactor, router, contexts, self.workers)
        clock = SteadyClock(time.time, time.monotonic)
        schedule = RetrySchedule(
            delays=tuple(config.retry.delays),
            lifetime=config.retry.expire,
            bounce_lifetime=config.retry.expire_bounce,
            warning=config.retry.warn_after,
        )
        self.spool = Spool(
            spool_directory(config.data_directory),
            self.mail,
            self._reactor,
            RealThreads(self._reactor.callFromThread),
            clock,
            limits=SpoolLimits(free_octets=config.limits.free_space),
            schedule=schedule,
            next_hop=lambda address: self.agent.router.next_hop(address.domain),
        )
        bouncer = Bouncer(
            self.spool,
            self._route,
            self._reactor,
            clock,
            host=config.hostname,
            wall=time.time,
            random_bytes=os.urandom,
            schedule=schedule,
        )
        dispatcher = Dispatcher(
            self.spool,
            self.agent,
            bouncer,
            self._reactor,
            clock,
            random=random.SystemRandom().random,
            schedule=schedule,
        )
        self.queue = MailQueue(self.spool, dispatcher, bouncer, before_retry=self.agent.forget)
        self.mail.set_spool(self.spool)
        self._closing.append(self.queue.stop)
        await self.queue.start()
        self.mail.start()

    def _route(self, address: Address) -> Recipient | Deferred[Recipient]:
        """Say what a report to a sender becomes: its account here, or the way to its domain."""
        if self._local:
            found = self.recipients.recipient(address, None)
            assert isinstance(found, Recipient)
            return found
        known = self.directory.classify(address)
        return Recipient(address, known.local, known.remote)

    def _open_logins(self) -> None:
        login = self._config.login
        checks = PasswordCheck(
            self.directory,
            self._hashing.defer,
            self._reactor,
            time.time,
            lifetime=login.cache_lifetime,
        )
        self.directory.watch_credentials(checks.forget)
        realm = Realm(self.directory, self.directory, self.mail, self.queue)
        portal = Portal(
            realm,
            [
                PasswordChecker(self.directory, checks),
                ProvenChecker(self.directory),
                OperatorChecker({0, os.getuid()}),
            ],
        )
        scram = SCRAMCredentials(self.directory, time.time) if login.scram else None
        self._login_limits = LoginLimits(self._reactor, failures=self._config.limits.login_failures)
        self.authenticator = Authenticator(
            portal,
            self.directory,
            scram,
            self._login_limits,
            self._reactor,
            channel_binding=login.channel_binding,
        )
        self.administration = Administration(self.directory, self.queue)

    def reload(self, config: Config) -> None:
        """Take relay and limits. ConfigError: the relay cannot be used; the old ones stay."""
        router = self._build_router(config, self._reactor)
        contexts = build_contexts(config)
        self.agent.router, self.agent.contexts = router, contexts
        self._login_limits.failures = config.limits.login_failures
        self.spool.set_limits(SpoolLimits(free_octets=config.limits.free_space))
        self._config = config

    async def close(self) -> None:
        """Commit, settle and close; the stop is marked clean only if all of that worked."""
        while self._closing:
            step = self._closing.pop()
            try:
                await step()
            except Exception:
                self._failed = True
                self.log.failure("close", event="service.close.failed")
        for pool in (self._hashing, self._changes, self.workers):
            pool.stop()
