"""Options of twistd, failures of a start, logging, reload."""

from __future__ import annotations

import os
import signal
import sys
import types
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.application.service import Application, IService
from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, Logger, LogPublisher, capturedLogs
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailhost import tap
from mailhost.admin.errors import UsageFault
from mailhost.config.location import Located
from mailhost.config.sections import Config, Listener, Log, LogFormat, Protocol
from mailhost.errors import ConfigError, DataDirectoryError, MailhostError
from mailhost.observe import LogFile
from mailhost.tap import Journal, MailhostService, Options, open_journal

LOCAL = Listener(protocol=Protocol.SMTP, port=0, address="127.0.0.1")
HEAD = 'version = 1\nhostname = "mx.a.example"\n'
LOOPBACK = '[[listeners]]\nprotocol = "smtp"\nport = 0\naddress = "127.0.0.1"\n'


class FakeServer:
    """What `make_service` returns."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.faults: dict[str, Exception] = {}
        self.configs: list[Config] = []
        self.ready: Deferred[None] = Deferred()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.faults:
            raise self.faults[name]

    def privilegedStartService(self) -> None:
        self._call("privileged")

    def startService(self) -> None:
        self._call("start")

    def stopService(self) -> Deferred[None]:
        self._call("stop")
        return succeed(None)

    def reload(self, config: Config) -> None:
        self._call("reload")
        self.configs.append(config)


class ServiceCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = FakeServer()
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.file = self.base / "mailhost.toml"
        self.file.write_text(HEAD + LOOPBACK)
        self.stderr = StringIO()
        self.patch(sys, "__stderr__", self.stderr)
        self.patch(os, "getresuid", lambda: (1000, 1000, 1000))
        self.stopped: list[str] = []
        self.statuses: list[int] = []
        self.patch(tap, "_exit_with", self.statuses.append)
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))

    def service(
        self, config: Config | None = None, journal: Journal | None = None, **twistd: Any
    ) -> MailhostService:
        from mailhost.config.loading import load

        service = MailhostService(
            self.server,
            Located(config or load(self.file), self.file),
            twistd,
            journal,
            stop=lambda: self.stopped.append("stop"),
            later=lambda call: call(),
        )
        self.addCleanup(lambda: service.running and service.stopService())
        return service

    def said(self) -> str:
        return self.stderr.getvalue()


class StartTests(ServiceCase):
    """Starting, and failing to."""

    def test_the_server_is_started_and_stopped(self) -> None:
        """In twistd's order; the end waits for the server's."""
        service = self.service()
        verifyObject(IService, service)
        service.privilegedStartService()
        service.startService()
        self.successResultOf(service.stopService())
        self.assertEqual(self.server.calls, ["privileged", "start", "stop"])
        self.assertEqual(self.said(), "")

    def test_each_failure_is_one_line_and_a_status(self) -> None:
        """Whether privileged or not; the pid file goes, twistd's parent process hears of it."""
        for error, status, words in (
            (ConfigError("listeners[0].port", "no"), 78, "listeners[0].port: no"),
            (DataDirectoryError("in use by process 1"), 78, "in use"),
            (OSError("127.0.0.1:25 is taken"), 75, "127.0.0.1:25 is taken"),
            (PermissionError("needs a privilege"), 77, "needs a privilege"),
            (MailhostError("something of ours"), 75, "something of ours"),
        ):
            for step in ("privileged", "start"):
                self.stderr.truncate(0)
                self.stderr.seek(0)
                self.server.faults = {step: error}
                pid_file = self.base / "twistd.pid"
                pid_file.write_text("1")
                reading, writing = os.pipe()
                service = self.service(pidfile=str(pid_file), statusPipe=writing)
                with capturedLogs() as events:
                    end = self.assertRaises(SystemExit, self.start, service)
                self.assertEqual(end.code, status)
                self.assertRegex(self.said(), r"\Amailhost: [^\n]+\n\Z")
                self.assertIn(words, self.said())
                self.assertFalse(pid_file.exists())
                self.assertIn(words.encode(), os.read(reading, 1000))
                os.close(reading)
                self.assertEqual([event["event"] for event in events], ["service.failed"])

    def start(self, service: MailhostService) -> None:
        service.privilegedStartService()
        service.startService()

    def test_our_own_fault_is_logged_with_its_traceback(self) -> None:
        """The terminal has one line, the log all of it."""
        self.server.faults = {"start": ZeroDivisionError("why")}
        end = self.assertRaises(SystemExit, self.start, self.service())
        self.assertEqual(end.code, 75)
        self.assertEqual(self.said().count("\n"), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_late_failure_stops_the_reactor(self) -> None:
        """Recovery fails while the reactor runs: one line, and the status when it has stopped."""
        self.start(self.service())
        self.server.ready.errback(DataDirectoryError("the spool is of a newer version"))
        self.assertEqual((self.stopped, self.statuses), (["stop"], [78]))
        self.assertEqual(self.said(), "mailhost: the spool is of a newer version\n")

    def test_root_does_not_serve_others(self) -> None:
        """After privileges should have been dropped; local ports are served, and it is told."""
        self.patch(os, "getresuid", lambda: (0, 1000, 1000))
        public = Config(hostname="mx.a.example")
        end = self.assertRaises(SystemExit, self.start, self.service(public))
        self.assertEqual(end.code, 77)
        self.assertIn("--uid", self.said())
        self.assertNotIn("start", self.server.calls)
        with capturedLogs() as events:
            self.start(self.service())
        self.assertEqual([event["event"] for event in events], ["service.root"])
        self.assertIn("start", self.server.calls)


class ReloadTests(ServiceCase):
    """SIGHUP."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.base / "log"
        self.journal = Journal(Log(), LogFile(self.log))
        self.reloaded = self.service(journal=self.journal)
        self.reloaded.startService()

    def reload(self, text: str) -> list[dict[str, Any]]:
        self.file.write_text(text)
        with capturedLogs() as events:
            os.kill(os.getpid(), signal.SIGHUP)
        return [event for event in events if event["event"] != "log.reopened"]

    def test_new_settings_are_taken(self) -> None:
        """The server gets the new configuration."""
        (event,) = self.reload(HEAD + LOOPBACK + "[limits]\nrecipients = 200\n")
        self.assertEqual(event["event"], "config.reloaded")
        self.assertEqual(self.server.configs[0].limits.recipients, 200)
        self.assertIs(self.reloaded.located.config, self.server.configs[0])

    def test_a_bad_file_leaves_the_old_one_in_force(self) -> None:
        """One line says why; a file that is gone likewise."""
        before = self.reloaded.located
        for text in ("nonsense", HEAD + "[limits]\nrecipients = 0\n"):
            (event,) = self.reload(text)
            self.assertEqual(event["event"], "config.rejected")
            self.assertIn(str(self.file), event["path"])
        self.assertEqual((self.reloaded.located, self.server.configs), (before, []))

    def test_a_server_that_refuses_keeps_the_old_one(self) -> None:
        """What only the server can see is treated alike."""
        before = self.reloaded.located
        self.server.faults = {"reload": ConfigError("certificates[0].key", "no")}
        (event,) = self.reload(HEAD + LOOPBACK)
        self.assertEqual(
            (event["event"], event["path"]), ("config.rejected", "certificates[0].key")
        )
        self.assertIs(self.reloaded.located, before)

    def test_our_own_fault_does_not_end_the_server(self) -> None:
        """It is logged, and the next reload is tried."""
        self.server.faults = {"reload": ZeroDivisionError("why")}
        self.reload(HEAD + LOOPBACK)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.server.faults = {}
        self.assertEqual(len(self.reload(HEAD + LOOPBACK)), 1)

    def test_what_needs_a_restart_is_named(self) -> None:
        """The rest is taken."""
        events = self.reload(HEAD + LOOPBACK.replace("port = 0", "port = 2525"))
        self.assertEqual(events[0]["event"], "config.restart_needed")
        self.assertEqual(events[0]["settings"], ["listeners"])
        self.assertEqual(len(self.server.configs), 1)

    def test_the_log_is_opened_anew_and_takes_its_new_form(self) -> None:
        """A rotated file is let go; JSON from then on."""
        self.log.rename(self.base / "log.1")
        self.reload(HEAD + '[log]\nformat = "json"\n' + LOOPBACK)
        logger = Logger(namespace="test", observer=LogPublisher(self.journal))
        logger.info(event="service.root")
        self.assertTrue(self.log.read_text().startswith("{"))

    def test_after_the_stop_the_signal_is_as_before(self) -> None:
        """Nothing of ours is left behind."""
        ours = signal.getsignal(signal.SIGHUP)
        self.reloaded.stopService()
        self.assertNotEqual(signal.getsignal(signal.SIGHUP), ours)


class JournalTests(ServiceCase):
    """Where the log goes."""

    def test_a_terminal_has_lines_of_text(self) -> None:
        """With ``-n``, on standard output."""
        stdout = StringIO()
        self.patch(sys, "stdout", stdout)
        for name in (None, "-"):
            journal = open_journal(Log(), {"nodaemon": 1, "logfile": name})
            assert journal is not None
            Logger(namespace="test", observer=LogPublisher(journal)).info(event="service.root")
        self.assertRegex(stdout.getvalue(), r"\A(\S+ info service\.root\n){2}\Z")

    def test_a_daemon_has_a_file(self) -> None:
        """The one that was named, else twistd's; private, and JSON by a word."""
        here = os.getcwd()
        os.chdir(self.base)
        self.addCleanup(os.chdir, here)
        for name, expected in (("x.log", "x.log"), (None, "twistd.log")):
            journal = open_journal(Log(format=LogFormat.JSON), {"logfile": name})
            assert journal is not None
            Logger(namespace="test", observer=LogPublisher(journal)).info(event="service.root")
            self.assertTrue((self.base / expected).read_text().startswith('{"time"'))
            self.assertEqual((self.base / expected).stat().st_mode & 0o777, 0o600)

    def test_twistds_own_choices_are_kept(self) -> None:
        """``--syslog`` and ``--logger`` go where they say."""
        self.assertIsNone(open_journal(Log(), {"syslog": 1}))
        self.assertIsNone(open_journal(Log(), {"logger": object()}))
        self.assertRaises(UsageFault, open_journal, Log(), {"logfile": "-"})

    def test_the_application_gets_the_log(self) -> None:
        """Before twistd begins to log."""
        journal = Journal(Log(), LogFile(self.base / "log"))
        application = Application("mailhost")
        self.service(journal=journal).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), journal)
        verifyObject(ILogObserver, journal)
        other = Application("mailhost")
        self.service().setServiceParent(other)
        self.assertIsNone(other.getComponent(ILogObserver, None))


class OptionsTests(SynchronousTestCase):
    """``twistd mailhost``."""

    def parse(self, *words: str) -> Options:
        options = Options()
        options.parseOptions(list(words))
        return options

    def test_serving(self) -> None:
        """With and without a configuration."""
        self.assertIsNone(self.parse()["config"])
        self.assertEqual(self.parse("--config", "x.toml")["config"], "x.toml")

    def test_an_admin_command_ends_the_process(self) -> None:
        """With its own status, at option parsing."""
        stdout = StringIO()
        self.patch(sys, "stdout", stdout)
        end = self.assertRaises(SystemExit, self.parse, "admin", "config", "sample")
        self.assertEqual(end.code, 0)
        self.assertIn("version = 1", stdout.getvalue())

    def test_the_outer_configuration_counts(self) -> None:
        """``twistd mailhost --config FILE admin ...``."""
        stderr = StringIO()
        self.patch(sys, "stderr", stderr)
        end = self.assertRaises(
            SystemExit, self.parse, "--config", "/nonexistent", "admin", "account", "list"
        )
        self.assertEqual(end.code, 78)
        self.assertIn("/nonexistent: cannot be read", stderr.getvalue())

    def test_mistakes_are_status_64(self) -> None:
        """One line, not twistd's page of help and status 1."""
        for words in (
            ("--nonsense",),
            ("word",),
            ("admin",),
            ("admin", "nothing"),
            ("admin", "account", "show"),
        ):
            stderr = StringIO()
            self.patch(sys, "stderr", stderr)
            try:
                end = self.assertRaises(SystemExit, self.parse, *words)
            except usage.UsageError:
                self.fail("twistd would show its own help")
            self.assertEqual(end.code, 64, words)
            self.assertEqual(stderr.getvalue().count("\n"), 1, stderr.getvalue())


class MakeServiceTests(ServiceCase):
    """From options to a service."""

    def setUp(self) -> None:
        super().setUp()
        self.made: list[tuple[Config, bool]] = []
        self.error: Exception | None = None
        root = types.ModuleType("mailhost.service.root")
        root.make_service = self.make_service  # type: ignore[attr-defined]
        package = types.ModuleType("mailhost.service")
        package.root = root  # type: ignore[attr-defined]
        for module in (package, root):
            old = sys.modules.get(module.__name__)
            sys.modules[module.__name__] = module
            self.addCleanup(self.restore, module.__name__, old)
        self.patch(tap, "_prepare_process", lambda: None)
        self.patch(os, "geteuid", lambda: 1000)
        stdout = StringIO()
        self.patch(sys, "stdout", stdout)

    def restore(self, name: str, old: types.ModuleType | None) -> None:
        if old is None:
            del sys.modules[name]
        else:
            sys.modules[name] = old

    def make_service(self, config: Config, *, local: bool) -> FakeServer:
        if self.error is not None:
            raise self.error
        self.made.append((config, local))
        return self.server

    def options(self, *words: str, **twistd: Any) -> Options:
        options = Options()
        options.parseOptions(list(words))
        options.parent = {"nodaemon": 1, **twistd}  # type: ignore[assignment]
        return options

    def test_a_configuration_file(self) -> None:
        """Its settings, and no local mode."""
        service = tap.makeService(self.options("--config", str(self.file)))
        self.assertEqual(service.name, "mailhost")
        ((config, local),) = self.made
        self.assertEqual((config.hostname, local), ("mx.a.example", False))

    def test_without_one_it_is_local_mode(self) -> None:
        """Also when the environment has none."""
        self.patch(os, "environ", {"XDG_DATA_HOME": str(self.base)})
        self.patch(tap, "locate", lambda option, environ: _locate(option, environ, self.base / "x"))
        tap.makeService(self.options())
        ((config, local),) = self.made
        self.assertEqual((config.data_directory, local), (self.base / "mailhost-demo", True))

    def assert_ends(self, status: int, words: str, options: Options) -> None:
        end = self.assertRaises(SystemExit, tap.makeService, options)
        self.assertEqual(end.code, status)
        self.assertRegex(self.said(), r"\Amailhost: [^\n]+\n\Z")
        self.assertIn(words, self.said())

    def test_a_bad_configuration_is_78(self) -> None:
        """One line before anything else happens."""
        self.file.write_text("version = 1")
        self.assert_ends(78, "hostname: missing", self.options("--config", str(self.file)))

    def test_a_taken_port_is_75(self) -> None:
        """What the server cannot have is told before twistd becomes a daemon."""
        self.error = OSError("127.0.0.1:25 (smtp) is taken by another program")
        self.assert_ends(75, "is taken", self.options("--config", str(self.file)))

    def test_our_own_fault_keeps_its_traceback(self) -> None:
        """Nothing is hidden from whoever reports it."""
        self.error = ZeroDivisionError("why")
        options = self.options("--config", str(self.file))
        self.assertRaises(ZeroDivisionError, tap.makeService, options)

    def test_root_must_name_a_user(self) -> None:
        """For ports that others reach; with ``--uid`` it goes on."""
        self.patch(os, "geteuid", lambda: 0)
        self.file.write_text(HEAD)
        tap.makeService(self.options("--config", str(self.file), uid=1000))
        self.assertEqual(len(self.made), 1)
        self.assert_ends(77, "--uid", self.options("--config", str(self.file), uid=None))

    def test_a_log_that_cannot_be_written(self) -> None:
        """One line that says why."""
        options = self.options("--config", str(self.file), logfile="/nonexistent/log")
        self.assert_ends(75, "/nonexistent/log", options)


def _locate(option: str | None, environ: Any, system: Path) -> Located:
    from mailhost.config.location import locate

    return locate(option, environ, system)
