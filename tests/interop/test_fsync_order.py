"""Acknowledged means durable: the system calls before each 250, seen by strace."""

from __future__ import annotations

import re
import smtplib
import threading
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.interop.server import MailhostProcess
from tests.interop.system_calls import (
    SYNCS,
    Call,
    Disk,
    acknowledgements,
    command,
    read,
    violations,
)

SIZES = (300, 4_000, 30_000, 60_000, 100_000, 700_000)
SENDERS = 3


class OrderTests(TestCase):
    """A short session with several clients."""

    timeout = 120

    def session(self) -> tuple[list[Call], str, dict[tuple[int, int], bytes]]:
        """Return the calls, the spool's directory, and the marker of each client's n-th message."""
        base = Path(self.mktemp()).resolve()
        trace = base.with_suffix(".strace")
        server = MailhostProcess(base, under=command(trace))
        server.populate()
        server.start()
        self.addCleanup(server.stop)
        sent: dict[tuple[int, int], bytes] = {}

        def send(number: int) -> None:
            with smtplib.SMTP(server.address, server.ports["smtp"], "client.example") as smtp:
                assert smtp.sock is not None
                port = smtp.sock.getsockname()[1]
                for count, size in enumerate(SIZES):
                    marker = b"marker-%d-%d-%08d" % (number, count, size)
                    line = marker + b" " + b"x" * 40 + b"\r\n"
                    body = line * (size // len(line) + 1)
                    smtp.sendmail(
                        "someone@else.example",
                        ["alice@test.example", "bob@test.example"][: 1 + count % 2],
                        b"Subject: durable\r\n\r\n" + body,
                    )
                    sent[port, count] = marker

        threads = [threading.Thread(target=send, args=(number,)) for number in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        server.stop()
        with trace.open(errors="replace") as lines:
            return list(read(lines)), f"{server.data}/spool", sent

    def problems(
        self, calls: list[Call], spool: str, sent: dict[tuple[int, int], bytes]
    ) -> list[str]:
        """Check every acknowledgement; there must be one for each message."""
        disk = Disk(spool, calls)
        told = acknowledgements(calls)
        self.assertEqual(len(told), len(sent))
        counts: dict[int, int] = {}
        found: list[str] = []
        for each in told:
            count = counts.get(each.client_port, 0)
            counts[each.client_port] = count + 1
            found += violations(disk, each, sent[each.client_port, count])
        return found

    def test_every_250_follows_the_syncs(self) -> None:
        """Rows, contents and names are on stable storage first; without a sync it would be seen."""
        calls, spool, sent = self.session()
        self.assertEqual(len(sent), SENDERS * len(SIZES))
        self.assertEqual(self.problems(calls, spool, sent), [])
        large = {c.target for c in calls if re.match(f"{spool}/content/.", c.target)}
        self.assertGreaterEqual(len(large), 2 * SENDERS, "no content had a file of its own")
        # The check itself: the same session with syncs taken out must not pass.
        for name, least in (
            ("spool.sqlite-wal", len(sent)),
            ("content", 2 * SENDERS),
            ("content/", 2 * SENDERS),
        ):
            without = [
                call
                for call in calls
                if not (
                    call.name in SYNCS
                    and (
                        call.target.startswith(f"{spool}/{name}")
                        if name.endswith("/")
                        else call.target == f"{spool}/{name}"
                    )
                )
            ]
            self.assertLess(len(without), len(calls), name)
            self.assertGreaterEqual(len(self.problems(without, spool, sent)), least, name)
