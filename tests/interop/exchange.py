"""
A small Internet on loopback: two mailhosts, a Postfix, and an authoritative DNS server.

    a.test   127.0.0.2  mailhost A: alice, ana; retries every second, warns after three seconds
    b.test   127.0.0.3  mailhost B: bob, bea; gives mail up after three seconds
    p.test   127.0.0.4  Postfix: carol, chris

All take mail on the same port, which both mailhosts connect to for MX hosts. Postfix asks no DNS:
its transports name the two. Further domains in the DNS have no server, or a strange one.

One of these is shared by all tests that ask for it, and ends with the process.
"""

from __future__ import annotations

import atexit
import contextlib
import email
import email.policy
import imaplib
import itertools
import shutil
import smtplib
import ssl
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any, ClassVar

from tests.interop.knot import Knot
from tests.interop.ports import free_port
from tests.interop.postfix import Postfix
from tests.interop.server import PASSWORD, MailhostProcess, eventually
from tests.smtp.client_network import certificate_files

ALICE, ANA = "alice@a.test", "ana@a.test"
BOB, BEA, DORA, JOERG = "bob@b.test", "bea@b.test", "dora@two.test", "j\u00f6rg@b.test"
CAROL, CHRIS = "carol@p.test", "chris@p.test"

A_ADDRESS, B_ADDRESS, POSTFIX_ADDRESS, C_ADDRESS = (
    "127.0.0.2",
    "127.0.0.3",
    "127.0.0.4",
    "127.0.0.5",
)

ZONES = {
    "a.test": f"@ MX 10 mx\nmx A {A_ADDRESS}",
    "b.test": f"@ MX 10 mx\nmx A {B_ADDRESS}",
    "p.test": f"@ MX 10 mx\nmx A {POSTFIX_ADDRESS}",
    "c.test": f"@ MX 10 mx\nmx A {C_ADDRESS}",
    # Nobody is at .77; the second host is B.
    "two.test": "@ MX 10 first\n@ MX 20 mx.b.test.\nfirst A 127.0.0.77",
    "null.test": "@ MX 0 .",
    "dead.test": "@ MX 10 mx\nmx A 127.0.0.77",
    # Both lead to A, which keeps no mail for them.
    "loop.test": "@ MX 10 mx.a.test.",
    "ring.test": f"@ MX 10 other\nother A {A_ADDRESS}",
}

LIMITS = """
[limits]
received_hops = 10
connections_per_client = 1000
connection_rate = 100000
imap_sessions_per_user = 1000
login_failures = 1000
"""

_numbers = itertools.count(1)


def token(word: str) -> str:
    """Return a subject that no other message has."""
    return f"{word}-{next(_numbers):04d}-x"


def message(
    subject: str, sender: str = ALICE, recipient: str = BOB, body: bytes = b"Good day.\r\n"
) -> bytes:
    """Return a small message."""
    return f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\n\r\n".encode() + body


def unchecked() -> ssl.SSLContext:
    """A client context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def submit(
    server: MailhostProcess,
    sender: str,
    recipients: Sequence[str],
    data: bytes,
    options: Sequence[str] = (),
    *,
    reverse_path: str | None = None,
    recipient_options: Sequence[str] = (),
) -> dict[str, tuple[int, bytes]]:
    """Log in after STARTTLS and send; return what was said about refused recipients."""
    address = (server.address, server.ports["submission"])
    with smtplib.SMTP(*address, "client.test", timeout=30) as smtp:
        smtp.starttls(context=unchecked())
        smtp.login(sender, PASSWORD)
        path = sender if reverse_path is None else reverse_path
        return smtp.sendmail(path, list(recipients), data, options, recipient_options)


@dataclass(frozen=True)
class Report:
    """A delivery report, read by Python's own parser."""

    whole: EmailMessage
    about: Message
    """The fields about the message."""
    recipients: tuple[Message, ...]
    """Those about each recipient."""

    @classmethod
    def read(cls, octets: bytes) -> Report:
        """Take a report apart (RFC 3464 2); AssertionError if it is none."""
        whole = email.message_from_bytes(octets, policy=email.policy.default)
        assert isinstance(whole, EmailMessage)
        assert whole.get_content_type() == "multipart/report", whole.get_content_type()
        assert whole.get_param("report-type") == "delivery-status"
        assert not whole.defects, whole.defects
        parts = list(whole.iter_parts())
        assert [part.get_content_type() for part in parts[:2]] == [
            "text/plain",
            parts[1].get_content_type(),
        ]
        assert parts[1].get_content_type() in (
            "message/delivery-status",
            "message/global-delivery-status",
        )
        assert len(parts) == 3, [part.get_content_type() for part in parts]
        about, *recipients = parts[1].get_payload()
        assert about["Reporting-MTA"], about.as_string()
        return cls(whole, about, tuple(recipients))

    def summary(self) -> list[tuple[str, str, str]]:
        """Return recipient, action and status of each entry."""
        return [
            (
                each["Final-Recipient"].partition(";")[2].strip(),
                each["Action"].strip(),
                each["Status"].strip(),
            )
            for each in self.recipients
        ]


class World:
    """
    The whole of it.

    SkipTest comes out of `take` when a program is missing or we are not root.
    """

    current: ClassVar[World | None] = None
    failure: ClassVar[BaseException | None] = None

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port(POSTFIX_ADDRESS)
        self.knot = Knot(directory / "knot", ZONES)
        certificate = certificate_files("mx.p.test", directory)
        self.postfix = Postfix(
            directory / "postfix",
            {"p.test": ["carol", "chris"]},
            hostname="mx.p.test",
            tls=certificate,
            transports={
                "a.test": f"smtp:[{A_ADDRESS}]:{self.port}",
                "b.test": f"smtp:[{B_ADDRESS}]:{self.port}",
            },
            settings={
                "smtp_tls_security_level": "may",
                "message_size_limit": "20000000",
                "smtpd_client_connection_count_limit": "0",
            },
            address=POSTFIX_ADDRESS,
            port=self.port,
        )
        self.a = self.mailhost(
            "a",
            A_ADDRESS,
            [ALICE, ANA],
            '[retry]\ndelays = ["1s"]\nwarn_after = "3s"\n',
        )
        self.b = self.mailhost(
            "b",
            B_ADDRESS,
            [BOB, BEA, DORA, JOERG],
            '[retry]\ndelays = ["1s"]\nexpire = "3s"\nwarn_after = 0\n',
            domains=("b.test", "two.test", "c.test"),
        )

    def mailhost(
        self,
        name: str,
        address: str,
        accounts: Sequence[str],
        tables: str = "",
        *,
        relay: str = "",
        domains: Sequence[str] = (),
    ) -> MailhostProcess:
        """Return a mailhost that finds its way by our DNS, not started."""
        return MailhostProcess(
            self.directory / name,
            hostname=f"mx.{name}.test",
            domains=domains or (f"{name}.test",),
            accounts=accounts,
            address=address,
            fixed={"smtp": self.port},
            tables=(
                f'[relay]\nresolvers = ["{self.knot.address}:{self.knot.port}"]\n'
                f"port = {self.port}\nallow_private_targets = true\n{relay}\n{LIMITS}\n{tables}"
            ),
        )

    @classmethod
    def take(cls) -> World:
        """Return the shared one, started by the first who asks."""
        if cls.failure is not None:
            raise AssertionError("it could not be started before") from cls.failure
        if cls.current is None:
            Postfix.program()
            Knot.program()
            # Postfix's own user must be able to get there.
            directory = Path(tempfile.mkdtemp(prefix="mailhost-exchange-"))
            directory.chmod(0o755)
            world = cls.current = cls(directory)
            try:
                world.start()
            except BaseException as error:
                cls.failure = error
                cls.release()
                raise
        return cls.current

    @classmethod
    def release(cls) -> None:
        """Stop everything and remove its files."""
        world, cls.current = cls.current, None
        if world is not None:
            world.stop()

    def start(self) -> None:
        """Start all four."""

        def bring_up(server: MailhostProcess) -> None:
            server.populate()
            server.start()

        self.knot.start()
        at_once(
            lambda: bring_up(self.a),
            lambda: bring_up(self.b),
            self.postfix.start,
        )
        at_once(
            lambda: self.a.admin("alias", "add", "away@a.test", BOB, CAROL, ALICE),
            lambda: self.a.admin("alias", "add", "astray@a.test", "nobody@b.test"),
            lambda: self.b.admin("alias", "add", "cid@c.test", BOB),
            lambda: self.a.admin("alias", "add", "round@a.test", "round@b.test"),
            lambda: self.b.admin("alias", "add", "round@b.test", "round@a.test"),
        )

    def stop(self) -> None:
        """Stop all that runs."""
        for stop in (self.a.stop, self.b.stop, self.postfix.stop, self.knot.stop):
            with contextlib.suppress(AssertionError, OSError):
                stop()
        shutil.rmtree(self.directory, ignore_errors=True)


atexit.register(World.release)


def at_once(*calls: Callable[[], object]) -> None:
    """Make the calls in threads of their own; raise the first failure."""
    failures: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def contents(server: MailhostProcess, account: str, text: str = "") -> list[bytes]:
    """Return the messages of an INBOX that contain the text anywhere, by UID."""
    client = imaplib.IMAP4(server.address, server.ports["imap"], timeout=30)
    try:
        if account.isascii():
            client.login(account, PASSWORD)
        else:
            client.authenticate("PLAIN", lambda _: f"\0{account}\0{PASSWORD}".encode())
        if not int(client.select("INBOX", readonly=True)[1][0]):
            return []
        found = client.uid("FETCH", "1:*", "(BODY.PEEK[])")[1]
        messages = [item[1] for item in found if isinstance(item, tuple)]
        return [each for each in messages if text.encode() in each]
    finally:
        client.logout()


def arrived(
    server: MailhostProcess, account: str, text: str, count: int = 1, seconds: float = 20
) -> list[bytes]:
    """Wait for that many messages with the text in an INBOX, and return them."""

    def look() -> list[bytes]:
        found = contents(server, account, text)
        return found if len(found) >= count else []

    found: list[bytes] = eventually(look, seconds)
    assert len(found) == count, f"{len(found)} instead of {count}"
    return found


def arrived_at_postfix(postfix: Postfix, account: str, text: str, seconds: float = 20) -> bytes:
    """Wait for the message with the text in a mailbox of Postfix, and return it."""

    def look() -> list[bytes]:
        return [each for each in postfix.messages(account) if text.encode() in each]

    found: list[bytes] = eventually(look, seconds)
    assert len(found) == 1, f"{len(found)} instead of 1"
    return found[0]


def queue_of(server: MailhostProcess, recipient: str = "") -> list[dict[str, Any]]:
    """Return what ``admin queue list`` shows, of one recipient or all."""
    words = ["queue", "list", *(["--recipient", recipient] if recipient else [])]
    found: list[dict[str, Any]] = server.admin_json(*words)
    return found
