"""Messages that look like real ones, the same in every run."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator

WORDS = (
    "the quick report about budget meeting project invoice attached please review before friday "
    "regards thanks team update server release customer question answer plan next week monday "
    "schedule travel contract draft final version comments section number total result figure "
    "kind hello dear all find below details change request ticket closed open issue status"
).split()
NAMES = "alice bob carol dave erin frank grace heidi ivan judy mallory niaj olivia peggy".split()


def _sentences(chance: random.Random, size: int) -> bytes:
    lines, have = [], 0
    while have < size:
        line = " ".join(chance.choices(WORDS, k=chance.randint(8, 12)))[:76]
        lines.append(line)
        have += len(line) + 2
    return "\r\n".join(lines).encode()[: max(size - 2, 0)].rstrip(b"\r\n") + b"\r\n"


def _head(chance: random.Random, number: int) -> bytes:
    sender, to = chance.choice(NAMES), chance.choice(NAMES)
    subject = " ".join(chance.choices(WORDS, k=6)).capitalize()
    day, hour = number % 28 + 1, number % 24
    thread = number - number % 5
    lines = [
        f"From: {sender.capitalize()} Example <{sender}@sender.example>",
        f"To: {to}@bench.test, {chance.choice(NAMES)}@bench.test",
        f"Subject: {'Re: ' if number % 5 else ''}{subject}",
        f"Date: Mon, {day:02d} Jun 2026 {hour:02d}:15:00 +0200",
        f"Message-ID: <m{number}.{chance.getrandbits(48):x}@sender.example>",
        "MIME-Version: 1.0",
        "X-Mailer: bench 1.0",
    ]
    if number % 5:
        lines.append(f"In-Reply-To: <thread{thread}@sender.example>")
        lines.append(f"References: <thread{thread}@sender.example>")
    return "\r\n".join(lines).encode() + b"\r\n"


def plain(number: int, size: int) -> bytes:
    """Return a text message of about that many octets."""
    chance = random.Random(number)
    head = _head(chance, number) + b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    return head + _sentences(chance, max(size - len(head), 40))


def mixed(number: int) -> bytes:
    """Return one of a mix: short texts, text with HTML, attachments; 14 KB on average."""
    chance = random.Random(number * 7919)
    kind = number % 10
    if kind < 5:
        return plain(number, chance.randint(1500, 5000))
    boundary = f"=_{chance.getrandbits(64):x}"
    text = _sentences(chance, chance.randint(800, 4000))
    html = b"<html><body><p>" + text.replace(b"\r\n", b"<br>\r\n") + b"</p></body></html>\r\n"
    parts = [b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text]
    if kind < 8:
        subtype = b"alternative"
        parts.append(b"Content-Type: text/html; charset=utf-8\r\n\r\n" + html * 2)
    else:
        subtype = b"mixed"
        octets = base64.encodebytes(chance.randbytes(chance.randint(15000, 60000)))
        parts.append(
            b"Content-Type: application/pdf; name=report.pdf\r\n"
            b"Content-Disposition: attachment; filename=report.pdf\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" + octets.replace(b"\n", b"\r\n")
        )
    mark = b"--" + boundary.encode()
    body = b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
    kind_line = b"Content-Type: multipart/" + subtype + b'; boundary="' + mark[2:] + b'"\r\n\r\n'
    return _head(chance, number) + kind_line + body


def mixed_many(count: int) -> Iterator[bytes]:
    """Yield that many mixed messages."""
    return (mixed(number) for number in range(count))
