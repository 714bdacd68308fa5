"""A ledger of what a server acknowledged, and its comparison with what the mailboxes have."""

from __future__ import annotations

import imaplib
import itertools
import random
import re
import smtplib
import threading
import time
from collections import Counter
from typing import Any

from tests.interop.server import PASSWORD, MailhostProcess

SENDERS = 8
ACCOUNTS = ("alice@test.example", "bob@test.example", "carol@test.example")


class Ledger:
    """What was sent and what was acknowledged, from many threads."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self.acknowledged: dict[str, set[int]] = {account: set() for account in ACCOUNTS}
        self.sent: dict[int, tuple[str, ...]] = {}
        self.described: dict[int, str] = {}
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

    def snapshot(self) -> dict[str, set[int]]:
        """Return a copy of what is acknowledged now."""
        with self.lock:
            return {account: set(numbers) for account, numbers in self.acknowledged.items()}


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
                    ledger.described[number] = f"{size} octets, {recipients}, {time.time():.3f}"
        except smtplib.SMTPResponseException as error:
            ledger.refused.append(f"{error.smtp_code} {error.smtp_error!r}")
        except (smtplib.SMTPException, OSError):
            time.sleep(0.01)


class Load:
    """Senders at work in threads, until told to stop."""

    def __init__(self, server: MailhostProcess, ledger: Ledger, seed: int) -> None:
        self.stop = threading.Event()
        self.threads = [
            threading.Thread(
                target=send_until_dead,
                args=(server.ports["smtp"], ledger, self.stop, seed * SENDERS + index),
            )
            for index in range(SENDERS)
        ]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        """Stop them and wait."""
        self.stop.set()
        for thread in self.threads:
            thread.join(30)


class LedgerChecks:
    """For test cases: compare every mailbox with the ledger."""

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
        self: Any,
        server: MailhostProcess,
        ledger: Ledger,
        known: dict[str, tuple[int, dict[int, int]]],
        redelivered: bool = False,
    ) -> None:
        """
        Compare every mailbox with the ledger and with what was seen before.

        After a power cut a message may be `redelivered` under a new UID; its old one then names
        nothing.
        """
        for account in ACCOUNTS:
            validity, found = self.inventory(server, account)
            counts = Counter(found.values())
            missing = {
                number: ledger.described[number]
                for number in ledger.acknowledged[account] - set(counts)
            }
            queued = server.admin("queue", "list").stdout if missing else ""
            self.assertEqual(missing, {}, f"acknowledged and not in {account}; queued: {queued}")
            doubled = {number for number, count in counts.items() if count > 1}
            self.assertEqual(doubled, set(), f"more than once in {account}")
            before_validity, before = known.get(account, (validity, {}))
            self.assertEqual(validity, before_validity)
            gone = (None,) if redelivered else ()
            moved = {
                uid
                for uid, number in before.items()
                if found.get(uid) != number and found.get(uid) not in gone
            }
            self.assertEqual(moved, set(), f"UIDs that mean another message in {account}")
            known[account] = validity, found
