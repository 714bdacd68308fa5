"""
Where mailhost is started: the options of ``twistd mailhost``, and the ``mailhost`` script.

``twistd [-n] mailhost [--config FILE]`` serves. ``twistd mailhost [--config FILE] admin ...`` runs
one administrative command in the foreground and ends with its exit status: it is done while the
options are parsed, before twistd looks at its pid file, logs or becomes a daemon, so that it works
beside a running server. ``main`` is the console script with the same commands.

A start that fails says why in one line on standard error and ends with a status of sysexits.h: 78
for the configuration, 75 for a port or a data directory that somebody else has, 77 for a missing
permission. (A daemon's parent process always ends with 1: twistd knows no other status there.)

SIGHUP reads the configuration and certificates again and opens the log file anew. Sessions go on;
a configuration that cannot be used leaves the old one in force, and one line says why.
"""

from __future__ import annotations

import atexit
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TextIO, cast

from twisted.application.service import IService, Service
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from zope.interface import implementer

from mailhost.admin.command_line import AdminOptions, CommandOptions, main, parse
from mailhost.admin.errors import CommandFailure, ExitStatus, UsageFault, failure_of
from mailhost.config.loading import load
from mailhost.config.location import Located, locate
from mailhost.config.sections import Config
from mailhost.config.sections import Log as LogSettings
from mailhost.errors import ConfigError, MailhostError
from mailhost.observe import Counters, LogFile, observer_for, safe_text, stream_writer
from mailhost.queue.clock import SteadyClock
from mailhost.sockets import kept_from_others

__all__ = ["Options", "main", "makeService"]

NEED_RESTART = ("hostname", "data_directory", "listeners", "retry", "login")
"""Settings that a reload cannot change."""


class Options(CommandOptions):
    """The options of ``twistd mailhost``."""

    optFlags: ClassVar[list[Any]] = []
    longdesc = (
        "Serve mail. Without a configuration file this is safe local mode: on this machine only, "
        "with two accounts whose passwords are shown."
    )
    subCommands: ClassVar[list[Any]] = [
        ["admin", None, AdminOptions, "Run one administrative command and exit."]
    ]

    def getSynopsis(self) -> str:
        """The first line of the help text."""
        return "Usage: twistd [-n] mailhost [--config FILE] [admin COMMAND ...]"

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse; a mistake ends the process with one line and status 64."""
        parse(options or [], self, sys.stderr)

    def postOptions(self) -> None:
        """Run the administrative command, if one was named."""
        if self.subCommand is not None:
            raise SystemExit(cast(AdminOptions, self.subOptions).run())


@implementer(ILogObserver)
class Journal:
    """
    The log as the configuration wants it; a reload changes its form and level.

    Args:
        settings: of the configuration.
        file: where it is written, None for standard output.
    """

    log = Logger()

    def __init__(self, settings: LogSettings, file: LogFile | None) -> None:
        self.counters = Counters()
        self._file = file
        # Not what sys.stdout will be: twistd sends that to the log.
        self._write = stream_writer(sys.stdout) if file is None else file.write
        self.apply(settings)

    def apply(self, settings: LogSettings) -> None:
        """Write in this form from now on."""
        self._observer = observer_for(settings.format, settings.level, self._write, self.counters)

    def reopen(self) -> None:
        """Open the file anew; when that fails the old one stays in use."""
        if self._file is None:
            return
        try:
            self._file.reopen()
        except OSError as error:
            self.log.error(
                event="log.unwritable", path=str(self._file.path), problem=error.strerror
            )
        else:
            self.log.info(event="log.reopened", path=str(self._file.path))

    def __call__(self, event: LogEvent) -> None:
        """Write an event."""
        self._observer(event)


def open_journal(settings: LogSettings, twistd: Mapping[str, Any]) -> Journal | None:
    """
    Return the log, where twistd's options want it; None when they name an observer or syslog.

    Raises:
        UsageFault: a daemon has no standard output.
        OSError: the file cannot be written.
    """
    if twistd.get("logger") or twistd.get("syslog"):
        return None
    name = twistd.get("logfile")
    foreground = twistd.get("nodaemon") or twistd.get("debug")
    if name == "-" and not foreground:
        raise UsageFault("a daemon cannot log to standard output; add -n, or name a file")
    if name == "-" or (not name and foreground):
        return Journal(settings, None)
    return Journal(settings, LogFile(Path(name or "twistd.log")))


@implementer(IService)
class MailhostService(Service):
    """
    The server as twistd has it: logging, failures of the start, reload.

    Args:
        server: what `mailhost.service.make_service` returned: a service with ``ready``, a Deferred
            that fires when every port is open and fails with why that cannot be, and
            ``reload(config)``.
        located: the configuration in force.
        twistd: the options of twistd itself.
        journal: where the log goes, None when twistd was told another place.
        stop: stops the reactor.
        later: runs a function on the event thread, from a signal handler.
    """

    log = Logger()

    def __init__(
        self,
        server: Any,
        located: Located,
        twistd: Mapping[str, Any],
        journal: Journal | None,
        *,
        stop: Callable[[], object],
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self.setName("mailhost")
        self.server = server
        self.located = located
        self._twistd = twistd
        self._stop = stop
        self._later = later
        self._journal = journal
        self._old_handler: Any = None

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        """Join the application and give it our log, before twistd starts to log."""
        if isinstance(parent, Componentized) and self._journal is not None:
            parent.setComponent(ILogObserver, self._journal)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Start what needs the privileges that we may still have."""
        self._guarded(self.server.privilegedStartService)

    def startService(self) -> None:
        """Start the rest."""
        super().startService()
        self._guarded(self._start)

    def stopService(self) -> Any:
        """Stop; fires when all that was accepted is safe."""
        super().stopService()
        if self._old_handler is not None:
            signal.signal(signal.SIGHUP, self._old_handler)
            self._old_handler = None
        return self.server.stopService()

    def reload(self) -> None:
        """Read the configuration again; sessions go on."""
        if self._journal is not None:
            self._journal.reopen()
        config = self.located.config
        path = self.located.path
        if path is not None:
            try:
                config = load(path)
            except ConfigError as error:
                self.log.error(event="config.rejected", path=error.path, problem=error.problem)
                return
        unchanged = [
            name
            for name in NEED_RESTART
            if getattr(config, name) != getattr(self.located.config, name)
        ]
        if unchanged:
            self.log.warn(event="config.restart_needed", path=str(path), settings=unchanged)
        try:
            self.server.reload(config)
        except ConfigError as error:
            self.log.error(event="config.rejected", path=error.path, problem=error.problem)
            return
        except Exception:
            self.log.failure("", event="config.fault", path=str(path))
            return
        self.located = Located(config, path)
        if self._journal is not None:
            self._journal.apply(config.log)
        self.log.info(event="config.reloaded", path=str(path or "local mode"))

    def _start(self) -> None:
        refuse_root(self.located.config, 0 in os.getresuid())
        if 0 in os.getresuid():
            self.log.warn(event="service.root")
        self._old_handler = signal.signal(signal.SIGHUP, lambda *_: self._later(self.reload))
        self.server.startService()
        self.server.ready.addErrback(self._failed_later)

    def _guarded(self, step: Callable[[], object]) -> None:
        """Do one step of the start; its failure ends the process."""
        try:
            step()
        except Exception:
            status, line = self._note(Failure())
            _tell_parent(self._twistd.get("statusPipe"), line)
            _remove_pid_file(self._twistd.get("pidfile"))
            raise SystemExit(status) from None

    def _failed_later(self, failure: Failure) -> None:
        """The start failed after the reactor had begun to run."""
        status, _ = self._note(failure)
        _exit_with(status)
        self._stop()

    def _note(self, failure: Failure) -> tuple[int, str]:
        assert failure.value is not None
        shown = start_failure(failure.value)
        if shown.kind == "internal":
            self.log.failure("", failure=failure, event="service.failed", problem=shown.message)
        else:
            self.log.error(event="service.failed", problem=shown.message)
        complain(shown.message)
        return int(shown.status), shown.message


def start_failure(error: BaseException) -> CommandFailure:
    """Return what to say of a failed start; all that mailhost raises on purpose has words."""
    shown = failure_of(error)
    if shown.kind == "internal" and isinstance(error, MailhostError):
        return CommandFailure(ExitStatus.TEMPORARY, "unavailable", str(error))
    return shown


def complain(message: str, stream: TextIO | None = None) -> None:
    """Say in one line on the real standard error why there is no server."""
    stream = stream or sys.__stderr__
    if stream is not None:
        stream.write(f"mailhost: {safe_text(message, 2000)}\n")
        stream.flush()


def _tell_parent(pipe: int | None, line: str) -> None:
    # The process that twistd was called as waits for this, at most 100 octets.
    if pipe is not None:
        os.write(pipe, f"1 {line}".encode("ascii", "replace")[:100])
        os.close(pipe)


def _remove_pid_file(name: str | None) -> None:
    if name:
        Path(name).unlink(missing_ok=True)


def _exit_with(status: int) -> None:
    # twistd returns 0 after the reactor has run, whatever happened.
    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)

    atexit.register(end)


def refuse_root(config: Config, is_root: bool) -> None:
    """
    Raise PermissionError when a port that others can reach would be served as root.

    Whoever breaks into a mail server must not find root there. Local mode is reached by this
    machine's users only, and merely says so.
    """
    if is_root and config.is_public:
        raise PermissionError(
            "mail of the Internet is not served as root; give twistd --uid=USER and --gid=GROUP, "
            "or use the systemd unit that comes with mailhost"
        )


def _prepare_process() -> None:
    # Passwords and keys do not belong into a core file; files are ours alone, also without
    # twistd's umask (it sets none with -n); each connection is a descriptor.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def makeService(options: Options) -> MailhostService:
    """Return the server for the options; a failure ends the process with one line."""
    from twisted.internet import reactor as current

    with kept_from_others(os.environ):
        from mailhost.service.root import make_service

    reactor: Any = current
    twistd: Mapping[str, Any] = options.parent if options.parent is not None else {}
    try:
        located = locate(options["config"], os.environ)
        will_drop = bool(twistd.get("uid"))
        refuse_root(located.config, os.geteuid() == 0 and not will_drop)
        _prepare_process()
        # Twisted's clock is the system's, and timers would stand still for as long as that is
        # set back. Set before anything has asked it for the time.
        reactor.seconds = SteadyClock(time.time, time.monotonic).now
        journal = open_journal(located.config.log, twistd)
        server = make_service(located.config, local=located.is_local)
    except Exception as error:
        shown = start_failure(error)
        if shown.kind == "internal":
            raise
        _end(shown.message, shown.status)
    return MailhostService(
        server,
        located,
        twistd,
        journal,
        # A start may fail before the reactor runs.
        stop=lambda: reactor.callWhenRunning(reactor.stop),
        later=reactor.callFromThread,
    )


def _end(message: str, status: ExitStatus) -> NoReturn:
    complain(message)
    raise SystemExit(int(status))
