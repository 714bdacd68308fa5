"""
``kill -9`` at random moments under load: what was acknowledged is there, once, under its UID.

A ledger outside the server records each number whose message was answered with 250. After every
restart the mailboxes are read over IMAP and compared with it.
"""

from __future__ import annotations

import imaplib
import itertools
import random
import re
import smtplib
import threading
import time
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.interop.server import PASSWORD, MailhostProcess

ROUNDS = 20
SENDERS = 8
ACCOUNTS = ("alice@test.example", "bob@test.example", "carol@test.example")


class Ledger:
    """What was sent and what was acknowledged, from many threads."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.acknowledged: dict[str, set[int]] = {account: set() for account in ACCOUNTS}
        self.sent: dict[int, tuple[str, ...]] = {}
        self.refused: list[str] = []

    def begin(self, recipients: tuple[str, ...]) -> int:
        """Number a message."""
        with self.lock:
            number = next(self.numbers)
            self.sent[number] = recipients
            return number

    def acknowledge(self, number: int) -> None:
        """The server answered 250 for it."""
        with self.lock:
            for recipient in self.sent[number]:
                self.acknowledged[recipient].add(number)


def send_until_dead(port: int, ledger: Ledger, stop: threading.Event, seed: int) -> None:
    """Send messages one after the other until the server goes away."""
    chance = random.Random(seed)
    while not stop.is_set():
        try:
            with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=10) as smtp:
                for _ in range(chance.randint(1, 5)):
                    recipients = tuple(chance.sample(ACCOUNTS, chance.choice((1, 1, 2, 3))))
                    number = ledger.begin(recipients)
                    size = chance.choice((500, 4000, 20_000, 90_000, 200_000))
                    body = (b"x" * 70 + b"\r\n") * (size // 72)
                    head = b"Subject: number %d\r\nX-Number: %d\r\n\r\n" % (number, number)
                    smtp.sendmail("sender@else.example", recipients, head + body)
                    ledger.acknowledge(number)
        except smtplib.SMTPResponseException as error:
            ledger.refused.append(f"{error.smtp_code} {error.smtp_error!r}")
        except (smtplib.SMTPException, OSError):
            time.sleep(0.01)


class KillTests(TestCase):
    """Twenty crashes in a row on one data directory."""

    timeout = 600

    def inventory(self, server: MailhostProcess, account: str) -> tuple[int, dict[int, int]]:
        """Return UIDVALIDITY and the number of the message under each UID."""
        client = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=60)
        try:
            client.login(account, PASSWORD)
            client.select("INBOX", readonly=True)
            validity = int(client.response("UIDVALIDITY")[1][0])
            found: dict[int, int] = {}
            for item in client.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (X-NUMBER)])")[1]:
                if isinstance(item, tuple):
                    uid = int(re.search(rb"UID (\d+)", item[0])[1])
                    found[uid] = int(re.search(rb"X-Number: (\d+)", item[1])[1])
            return validity, found
        finally:
            client.logout()

    def check(
        self,
        server: MailhostProcess,
        ledger: Ledger,
        known: dict[str, tuple[int, dict[int, int]]],
    ) -> None:
        """Compare every mailbox with the ledger and with what was seen before."""
        for account in ACCOUNTS:
            validity, found = self.inventory(server, account)
            counts = Counter(found.values())
            missing = ledger.acknowledged[account] - set(counts)
            self.assertEqual(missing, set(), f"acknowledged and not in {account}")
            doubled = {number for number, count in counts.items() if count > 1}
            self.assertEqual(doubled, set(), f"more than once in {account}")
            before_validity, before = known.get(account, (validity, {}))
            self.assertEqual(validity, before_validity)
            moved = {uid for uid, number in before.items() if found.get(uid) != number}
            self.assertEqual(moved, set(), f"UIDs that mean another message in {account}")
            known[account] = validity, found

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
            stop = threading.Event()
            senders = [
                threading.Thread(
                    target=send_until_dead,
                    args=(server.ports["smtp"], ledger, stop, number * SENDERS + index),
                )
                for index in range(SENDERS)
            ]
            for sender in senders:
                sender.start()
            time.sleep(chance.uniform(0.2, 1.2))
            server.kill()
            stop.set()
            for sender in senders:
                sender.join(30)
            server.start()
            self.check(server, ledger, known)
        total = sum(map(len, ledger.acknowledged.values()))
        self.assertGreater(total, ROUNDS * 10, "too little was sent to prove anything")
        self.assertEqual(ledger.refused, [])
