"""mailhost as a server under measurement, started as an operator starts it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from benchmarks.rivals import stop, wait_for_port
from mailhost.address import Address
from mailhost.config.layout import directory_database
from mailhost.directory.store import DirectoryStore

ROOT = Path(__file__).resolve().parent.parent


class Mailhost:
    """A mailhost with accounts ``u0@bench.test`` ... whose passwords are ``secret-0`` ..."""

    name = "mailhost"

    def __init__(
        self, base: Path, smtp_port: int, imap_port: int, pop3_port: int, accounts: int
    ) -> None:
        self.base, self.port, self.accounts = base, smtp_port, accounts
        self.imap_port, self.pop3_port = imap_port, pop3_port
        self.pid = 0
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def _configuration(self) -> str:
        listeners = "".join(
            f'[[listeners]]\nprotocol = "{protocol}"\naddress = "127.0.0.1"\nport = {port}\n'
            f'tls = "{tls}"\n{extra}'
            for protocol, port, tls, extra in (
                ("smtp", self.port, "none", ""),
                ("imap", self.imap_port, "none", "cleartext_login = true\n"),
                ("pop3", self.pop3_port, "none", "cleartext_login = true\n"),
            )
        )
        return (
            'version = 1\nhostname = "mx.bench.test"\n'
            f'data_directory = "{self.base}/data"\n{listeners}'
            "[limits]\nconnections_per_client = 10000\nconnection_rate = 1000000\n"
            "imap_sessions_per_user = 10000\n"
        )

    def _add_accounts(self) -> None:
        # In one process: a hundred admin commands would take a minute to start.
        store = DirectoryStore(directory_database(self.base / "data"))
        store.add_domain("bench.test")
        for number in range(self.accounts):
            address = Address.parse(f"u{number}@bench.test")
            store.add_account(address, f"secret-{number}", "")
        store.close()

    def start(self) -> None:
        """Create the accounts, write the configuration, start the server."""
        self.base.mkdir(parents=True)
        (self.base / "data").mkdir(mode=0o700)
        self._add_accounts()
        (self.base / "mailhost.toml").write_text(self._configuration())
        log = (self.base / "log").open("ab")
        self.pid = subprocess.Popen(
            ["twistd", "-n", "--pidfile=", "mailhost", "--config", f"{self.base}/mailhost.toml"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.base,
        ).pid
        wait_for_port(self.port)

    def stop(self) -> None:
        """Ask the server to end."""
        stop(self.pid)
        os.waitpid(self.pid, os.WNOHANG)

    def new_directories(self) -> list[Path]:
        """Where delivered messages appear."""
        return list(self.base.glob("data/accounts/*/Maildir/new"))

    def settled(self) -> bool:
        """Whether the spool is empty: every copy is durable in its mailbox."""
        with sqlite3.connect(f"file:{self.base}/data/spool/spool.sqlite?mode=ro", uri=True) as db:
            held = db.execute(
                "SELECT (SELECT count(*) FROM arrival) + (SELECT count(*) FROM message)"
            )
            return held.fetchone()[0] == 0
