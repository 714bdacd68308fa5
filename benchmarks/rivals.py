"""Debian's Postfix and Dovecot with fixed, fair configurations, each in a directory of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

OWNER = "nobody"
"""Who owns the mail of the rivals."""


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on, so that two runs on a machine do not meet."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for_port(port: int, seconds: float = 20) -> None:
    """Return when something listens on a loopback port."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}")


def stop(pid: int, seconds: float = 20) -> None:
    """End a process and wait until it is gone."""
    try:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class Postfix:
    """Postfix that delivers with ``virtual`` into Maildirs."""

    name = "Postfix virtual"

    def __init__(self, base: Path, port: int, accounts: int, in_flow_delay: int = 1) -> None:
        self.base, self.port, self.accounts = base, port, accounts
        self.in_flow_delay = in_flow_delay
        self.pid = 0

    @staticmethod
    def available() -> bool:
        """Whether Debian's package is installed and may be started."""
        return shutil.which("postfix") is not None and os.getuid() == 0

    def _main(self) -> str:
        owner = pwd.getpwnam(OWNER)
        return "\n".join(
            [
                "compatibility_level = 3.6",
                f"queue_directory = {self.base}/queue",
                f"data_directory = {self.base}/data",
                f"maillog_file = {self.base}/mail.log",
                f"maillog_file_prefixes = {self.base}",
                "myhostname = mx.bench.test",
                "mydestination =",
                "inet_interfaces = 127.0.0.1",
                "inet_protocols = ipv4",
                "mynetworks = 127.0.0.0/8",
                "alias_maps =",
                "alias_database =",
                "virtual_mailbox_domains = bench.test",
                f"virtual_mailbox_base = {self.base}/mail",
                f"virtual_mailbox_maps = hash:{self.base}/mailboxes",
                f"virtual_uid_maps = static:{owner.pw_uid}",
                f"virtual_gid_maps = static:{owner.pw_gid}",
                "virtual_mailbox_limit = 0",
                "smtpd_client_connection_count_limit = 0",
                "smtpd_recipient_limit = 1000",
                "smtpd_tls_security_level = none",
                f"in_flow_delay = {self.in_flow_delay}s",
                "",
            ]
        )

    def _master(self) -> str:
        text = subprocess.run(["postconf", "-M"], capture_output=True, text=True, check=True).stdout
        keep = []
        for line in text.splitlines():
            fields = line.split()
            if len(fields) < 8 or fields[7] == "pipe" or fields[7] == "uucp":
                continue
            if fields[0] == "smtp" and fields[1] == "inet":
                fields[0] = f"127.0.0.1:{self.port}"
            fields[4] = "n"
            keep.append("  ".join(fields[:8]))
        if not any(line.startswith("postlog") for line in keep):
            keep.append("postlog  unix-dgram  n  -  n  -  1  postlogd")
        return "\n".join(keep) + "\n"

    def start(self) -> None:
        """Write the configuration and start the master process."""
        owner = pwd.getpwnam(OWNER)
        postfix = pwd.getpwnam("postfix")
        for part in ("conf", "queue", "mail", "data"):
            (self.base / part).mkdir(parents=True)
        os.chown(self.base / "mail", owner.pw_uid, owner.pw_gid)
        os.chown(self.base / "data", postfix.pw_uid, postfix.pw_gid)
        (self.base / "mailboxes").write_text(
            "".join(f"u{n}@bench.test u{n}/\n" for n in range(self.accounts))
        )
        (self.base / "conf/main.cf").write_text(self._main())
        (self.base / "conf/master.cf").write_text(self._master())
        subprocess.run(
            ["postmap", "-c", self.base / "conf", f"hash:{self.base}/mailboxes"], check=True
        )
        subprocess.run(
            ["postfix", "-c", self.base / "conf", "start"], check=True, capture_output=True
        )
        self.pid = int((self.base / "queue/pid/master.pid").read_text())
        wait_for_port(self.port)

    def stop(self) -> None:
        """Stop the master process and its children."""
        subprocess.run(["postfix", "-c", self.base / "conf", "stop"], capture_output=True)
        stop(self.pid)

    def new_directories(self) -> list[Path]:
        """Where delivered messages appear."""
        return [self.base / f"mail/u{n}/new" for n in range(self.accounts)]

    def settled(self) -> bool:
        """Everything is on disk when it is visible: each agent syncs its file."""
        return True


class Dovecot:
    """Dovecot's IMAP and POP3 on Maildirs, with logins that do not start a process each."""

    name = "Dovecot"

    def __init__(self, base: Path, imap_port: int, pop3_port: int, accounts: int) -> None:
        self.base, self.port, self.pop3_port, self.accounts = base, imap_port, pop3_port, accounts
        self.pid = 0

    @staticmethod
    def available() -> bool:
        """Whether Debian's package is installed and may be started."""
        return shutil.which("dovecot") is not None and os.getuid() == 0

    def _configuration(self) -> str:
        owner = pwd.getpwnam(OWNER)
        return f"""
base_dir = {self.base}/run
state_dir = {self.base}/state
log_path = {self.base}/dovecot.log
instance_name = bench
protocols = imap pop3
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
auth_cache_size = 10M
first_valid_uid = 1
mail_location = maildir:{self.base}/mail/%n/Maildir
mail_max_userip_connections = 10000
default_internal_user = dovecot
default_login_user = dovenull
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {self.base}/users
}}
userdb {{
  driver = static
  args = uid={owner.pw_uid} gid={owner.pw_gid} home={self.base}/mail/%n
}}
service imap-login {{
  service_count = 0
  client_limit = 2000
  process_min_avail = 1
  chroot =
  inet_listener imap {{
    port = {self.port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  service_count = 0
  chroot =
  inet_listener pop3 {{
    port = {self.pop3_port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service imap {{
  service_count = 100
  process_limit = 2000
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
namespace inbox {{
  inbox = yes
}}
"""

    def start(self) -> None:
        """Write the configuration and start the master process."""
        owner = pwd.getpwnam(OWNER)
        self.base.mkdir(parents=True, exist_ok=True)
        for part in ("run", "state", "mail"):
            (self.base / part).mkdir(exist_ok=True)
        for number in range(self.accounts):
            home = self.base / f"mail/u{number}"
            home.mkdir(exist_ok=True)
            os.chown(home, owner.pw_uid, owner.pw_gid)
        (self.base / "users").write_text(
            "".join(f"u{n}@bench.test:secret-{n}\n" for n in range(self.accounts))
        )
        (self.base / "dovecot.conf").write_text(self._configuration())
        subprocess.run(
            ["dovecot", "-c", self.base / "dovecot.conf"],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port)
        # It listens before it writes this file.
        pid_file = self.base / "run/master.pid"
        for _ in range(100):
            if pid_file.exists() and pid_file.read_text().strip():
                break
            time.sleep(0.05)
        self.pid = int(pid_file.read_text())

    def stop(self) -> None:
        """Stop the master process and its children."""
        stop(self.pid)
