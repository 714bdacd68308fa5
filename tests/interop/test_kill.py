"""
``kill -9`` at random moments under load: what was acknowledged is there, once, under its UID.

A ledger outside the server records each number whose message was answered with 250. After every
restart the mailboxes are read over IMAP and compared with it.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.interop.ledger import ACCOUNTS, Ledger, LedgerChecks, Load
from tests.interop.server import MailhostProcess

ROUNDS = 20


class KillTests(LedgerChecks, TestCase):
    """Twenty crashes in a row on one data directory."""

    timeout = 600

    def test_acknowledged_mail_survives_kill(self) -> None:
        """After each kill every acknowledged message is there exactly once, each UID unchanged."""
        server = MailhostProcess(
            Path(self.mktemp()).resolve(),
            accounts=ACCOUNTS,
            tables="[limits]\nconnections_per_client = 1000\nconnection_rate = 100000\n",
        )
        server.populate()
        server.start()
        self.addCleanup(server.stop)
        ledger = Ledger()
        known: dict[str, tuple[int, dict[int, int]]] = {}
        chance = random.Random(20260101)
        for number in range(ROUNDS):
            load = Load(server, ledger, number)
            time.sleep(chance.uniform(0.2, 1.2))
            server.kill()
            load.end()
            server.start()
            self.check(server, ledger, known)
        total = sum(map(len, ledger.acknowledged.values()))
        self.assertGreater(total, ROUNDS * 10, "too little was sent to prove anything")
        self.assertEqual(ledger.refused, [])
