"""A real mailhost in a process of its own, on loopback, for tests with real peers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PASSWORD = "correct horse battery staple"

PORTS = {
    "smtp": ("smtp", "starttls"),
    "submission": ("submission", "starttls"),
    "submissions": ("submission", "implicit"),
    "imap": ("imap", "starttls"),
    "imaps": ("imap", "implicit"),
    "pop3": ("pop3", "starttls"),
    "pop3s": ("pop3", "implicit"),
}


def free_ports(count: int, address: str = "127.0.0.1") -> list[int]:
    """
    Return that many TCP ports that nobody listens on now.

    They are below those that the system gives to outgoing connections, of which one could take a
    port before the server does.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randint(10_240, 32_000)
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind((address, port))
            if port not in found:
                found.append(port)
    return found


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which the checkout's package and plugin are found."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("MAILHOST")}
    path = [str(ROOT), *filter(None, [found.get("PYTHONPATH")])]
    found["PYTHONPATH"] = os.pathsep.join(path)
    found["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), found.get("PATH", "")])
    found.update(extra or {})
    return found


def twistd() -> str:
    """Return the path of the twistd that belongs to this Python."""
    beside = Path(sys.executable).parent / "twistd"
    return str(beside) if beside.exists() else shutil.which("twistd") or "twistd"


class MailhostProcess:
    """
    One server with a configuration file and a data directory below `base`.

    Args:
        base: an empty directory; the test removes it.
        hostname: the name the server greets with.
        domains: whose mail it keeps.
        accounts: addresses that get the password `PASSWORD`.
        address: the loopback address to listen on.
        settings: more lines for the top of the configuration file.
        tables: more tables for its end.
        cleartext_login: take passwords without TLS on the starttls ports.
        fixed: ports to use instead of free ones, by name.
        data: the data directory, when it is to lie elsewhere; it exists.
        under: a program and its options to run the server under, such as strace.
    """

    def __init__(
        self,
        base: Path,
        *,
        hostname: str = "mx.test.example",
        domains: Sequence[str] = ("test.example",),
        accounts: Sequence[str] = ("alice@test.example", "bob@test.example"),
        address: str = "127.0.0.1",
        settings: str = "",
        tables: str = "",
        cleartext_login: bool = True,
        fixed: Mapping[str, int] | None = None,
        data: Path | None = None,
        under: Sequence[str] = (),
    ) -> None:
        self.under = under
        self.base, self.hostname, self.address = base, hostname, address
        self.domains, self.accounts = domains, accounts
        self.ports = dict(zip(PORTS, free_ports(len(PORTS), address), strict=True))
        self.ports.update(fixed or {})
        self.config = base / "mailhost.toml"
        self.data = data or base / "data"
        self.log = base / "log"
        self.process: subprocess.Popen[bytes] | None = None
        base.mkdir(parents=True, exist_ok=True)
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.config.write_text(self._configuration(settings, tables, cleartext_login))

    def _configuration(self, settings: str, tables: str, cleartext: bool) -> str:
        lines = [
            "version = 1",
            f'hostname = "{self.hostname}"',
            f'data_directory = "{self.data.resolve()}"',
            settings,
        ]
        for name, (protocol, tls) in PORTS.items():
            lines += [
                "[[listeners]]",
                f'protocol = "{protocol}"',
                f'address = "{self.address}"',
                f"port = {self.ports[name]}",
                f'tls = "{tls}"',
                f'name = "{name}"',
            ]
            if cleartext and tls == "starttls" and protocol != "smtp":
                lines.append("cleartext_login = true")
        return "\n".join([*lines, tables, ""])

    def admin(
        self, *words: str, stdin: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run an admin command and return what it said."""
        done = subprocess.run(
            [twistd(), "mailhost", "--config", str(self.config), "admin", *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
            cwd=self.base,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"admin {words}: {done.returncode} {done.stdout} {done.stderr}")
        return done

    def admin_json(self, *words: str) -> Any:
        """Run an admin command with --json and return what it said as values."""
        return json.loads(self.admin(*words, "--json").stdout)

    def populate(self) -> None:
        """Create the domains and accounts; the server may be stopped or running."""
        for domain in self.domains:
            self.admin("domain", "add", domain)
        for account in self.accounts:
            self.admin("account", "add", account, "--password-stdin", stdin=PASSWORD + "\n")

    def start(self, wait: bool = True, extra: Mapping[str, str] | None = None) -> None:
        """Start the server and return when every port answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.under,
                    twistd(),
                    "-n",
                    "--pidfile=",
                    "mailhost",
                    "--config",
                    str(self.config),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(extra),
                cwd=self.base,
                start_new_session=True,
            )
        if wait:
            self.wait()

    def wait(self, seconds: float = 30) -> None:
        """Return when every port answers."""
        deadline = time.monotonic() + seconds
        for port in self.ports.values():
            while True:
                try:
                    socket.create_connection((self.address, port), 1).close()
                    break
                except OSError:
                    code = self.process.poll() if self.process else None
                    if code is not None or time.monotonic() > deadline:
                        raise AssertionError(
                            f"not ready, exit status {code}: {self.log_text()[-3000:]}"
                        ) from None
                    time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self.process is not None
        return self.process.pid

    def stop(self, seconds: float = 20) -> int | None:
        """Ask the server to end, wait, and return its exit status."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        return process.returncode

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def log_text(self) -> str:
        """Return everything the server logged so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@contextlib.contextmanager
def running(base: Path, **options: Any) -> Iterator[MailhostProcess]:
    """Yield a started server with its accounts, and stop it."""
    server = MailhostProcess(base, **options)
    server.populate()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def eventually(check: Any, seconds: float = 20, pause: float = 0.1) -> Any:
    """Call until the result is true and return it; AssertionError after that time."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{check} stayed {result!r} for {seconds} s")
        time.sleep(pause)
