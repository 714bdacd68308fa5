"""
A real Postfix on a loopback port, with all its files in a directory of its own.

    with Postfix(directory, {"p.test": ["alice"]}) as postfix:
        ...  # send to ("127.0.0.1", postfix.port)
        postfix.messages("alice@p.test")

It takes mail for its own users (Maildir, by the virtual agent), answers 550 for others in its
domains, and sends everything else to `relay`, or defers it when there is none: Postfix's resolver
knows no ports. Debian's own instance is not touched. It needs root. Everything here blocks, for a
bounded time.
"""

from __future__ import annotations

import os
import pwd
import shutil
import smtplib
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.interop.ports import free_port, wait_for

START_LIMIT = 30.0
STOP_LIMIT = 30.0

SHARED = Path("/etc/postfix")
"""What every instance reads, whatever its own directory: the list of the package's files."""

_SERVICES = """\
{address}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """
    One instance.

    Args:
        directory: for all its files; every directory above it must be open to other users.
        mailboxes: local parts of its users, by domain.
        tls: files with certificate and key (PEM) to offer STARTTLS with.
        relay: where mail for other domains goes, as ``[127.0.0.1]:2525``.
        transports: the same for single domains, as ``smtp:[127.0.0.1]:2525``.
        settings: more parameters of main.cf.
        address, port: where it takes mail, on loopback; a free port by default.
    """

    def __init__(
        self,
        directory: Path,
        mailboxes: Mapping[str, Sequence[str]],
        *,
        hostname: str = "postfix.test",
        tls: tuple[Path, Path] | None = None,
        relay: str = "",
        transports: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.directory = directory.resolve()
        self.address = address
        self.port = port or free_port(address)
        self._mailboxes = {domain: list(users) for domain, users in mailboxes.items()}
        self._hostname = hostname
        self._tls = tls
        self._relay = relay
        self._transports = dict(transports or {})
        self._settings = dict(settings or {})

    @staticmethod
    def program() -> str:
        """Return the path of the postfix command; SkipTest if it cannot be used."""
        path = shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if path is None:
            raise SkipTest("postfix is not installed (Debian package postfix)")
        if os.geteuid() != 0:
            raise SkipTest("postfix can be started by root only")
        if not SHARED.is_dir():
            raise SkipTest(f"the package postfix is incomplete: {SHARED} is missing")
        return path

    def __enter__(self) -> Postfix:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and return when it greets."""
        program = self.program()
        self._write()
        for attempt in (1, 2, 3):
            try:
                self._command(program, "start", START_LIMIT)
                break
            except AssertionError:
                # Right after a stop a process of its own may still hold the port or its lock.
                if attempt == 3:
                    raise
                time.sleep(2)
        try:
            wait_for(self._greets, START_LIMIT, f"postfix greeting; {self.log()}")
        except AssertionError:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it."""
        self._command(self.program(), "stop", STOP_LIMIT)

    def flush(self) -> None:
        """Let it try everything in its queue now."""
        self._command(self.program(), "flush", STOP_LIMIT)

    def messages(self, address: str) -> list[bytes]:
        """Return the messages in a mailbox."""
        local, _, domain = address.partition("@")
        return [path.read_bytes() for path in sorted(self._maildir(domain, local).glob("new/*"))]

    def log(self) -> str:
        """Return what it logged so far."""
        path = self.directory / "log"
        return path.read_text("utf-8", "replace") if path.exists() else "no log"

    def _maildir(self, domain: str, local: str) -> Path:
        return self.directory / "mail" / domain / local

    def _command(self, program: str, verb: str, limit: float) -> None:
        done = subprocess.run(
            [program, "-c", str(self.directory / "conf"), verb],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            check=False,
        )
        if done.returncode != 0:
            words = (done.stdout + done.stderr).decode("utf-8", "replace")
            raise AssertionError(
                f"postfix {verb} ended with {done.returncode}: {words} {self.log()}"
            )

    def _write(self) -> None:
        owner = pwd.getpwnam("postfix")
        nobody = pwd.getpwnam("nobody")
        for name in ("", "conf", "queue", "data", "mail"):
            (self.directory / name).mkdir(mode=0o755, parents=True, exist_ok=True)
        os.chown(self.directory / "data", owner.pw_uid, owner.pw_gid)
        os.chown(self.directory / "mail", nobody.pw_uid, nobody.pw_gid)
        for domain in self._mailboxes:
            (self.directory / "mail" / domain).mkdir(exist_ok=True)
            os.chown(self.directory / "mail" / domain, nobody.pw_uid, nobody.pw_gid)
        conf = self.directory / "conf"
        lines = [f"{name} = {value}" for name, value in self._parameters(nobody).items()]
        (conf / "main.cf").write_text("\n".join(lines) + "\n")
        (conf / "master.cf").write_text(_SERVICES.format(address=self.address, port=self.port))

    def _parameters(self, user: pwd.struct_passwd) -> dict[str, str]:
        domains = ", ".join(self._mailboxes)
        mailboxes = ", ".join(
            f"{{ {local}@{domain} = {domain}/{local}/ }}"
            for domain, users in self._mailboxes.items()
            for local in users
        )
        parameters = {
            "compatibility_level": "3.6",
            "queue_directory": f"{self.directory}/queue",
            "data_directory": f"{self.directory}/data",
            "maillog_file": f"{self.directory}/log",
            "maillog_file_prefixes": str(self.directory),
            "myhostname": self._hostname,
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            # Only where it listens (master.cf) another loopback address needs no interface.
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "local_transport": "error:no local mail",
            "alias_maps": "",
            "alias_database": "",
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native",
            "relayhost": self._relay,
            "virtual_mailbox_domains": domains,
            "virtual_mailbox_maps": f"inline:{{ {mailboxes} }}",
            "virtual_mailbox_base": f"{self.directory}/mail",
            "virtual_minimum_uid": "100",
            "virtual_uid_maps": f"static:{user.pw_uid}",
            "virtual_gid_maps": f"static:{user.pw_gid}",
        }
        if not self._relay:
            parameters["default_transport"] = "retry:no way out"
        if self._transports:
            table = ", ".join(f"{{ {d} = {way} }}" for d, way in self._transports.items())
            parameters["transport_maps"] = f"inline:{{ {table} }}"
        if self._tls is not None:
            parameters["smtpd_tls_security_level"] = "may"
            parameters["smtpd_tls_cert_file"], parameters["smtpd_tls_key_file"] = map(
                str, self._tls
            )
        return parameters | self._settings

    def _greets(self) -> bool:
        try:
            with smtplib.SMTP(self.address, self.port, timeout=2) as client:
                return client.noop()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False
