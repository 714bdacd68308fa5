"""
The settings, one frozen dataclass for each table of the file.

A field's metadata carries what the loader checks and what the sample file says about it, so that
there is one place for a setting. Spans of time are `Seconds` and sizes `Octets`: in the file they
are whole numbers or texts such as ``"5m"`` and ``"50MiB"``.

Rules that join several settings are in `Config.faults`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mailhost.address import parse_domain
from mailhost.errors import SyntaxFault
from mailhost.units import Octets, Seconds

VERSION = 1
"""The version of the file's shape that this code reads."""

KIB = 1024
MIB = 1024 * KIB
MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,62}\Z")


def setting(
    comment: str,
    *,
    example: str = "",
    low: float | None = None,
    high: float | None = None,
    parse: Callable[[str], Any] | None = None,
    **default: Any,
) -> Any:
    """
    Return a dataclass field for one setting.

    Args:
        comment: what it is for, as the sample file says it.
        example: the value that the sample file shows for a setting without a default, in TOML.
        low: the least value, of each entry for a list.
        high: the greatest value likewise.
        parse: makes the value from a text, or raises ValueError with what is wrong.
        default: ``default`` or ``default_factory``; neither for a setting that must be given.
    """
    metadata = {"comment": comment, "example": example, "low": low, "high": high, "parse": parse}
    return field(metadata=metadata, **default)


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class LogThreshold(StrEnum):
    """The least level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Protocol(StrEnum):
    """What a listener speaks."""

    SMTP = "smtp"
    SUBMISSION = "submission"
    IMAP = "imap"
    POP3 = "pop3"


class TLSMode(StrEnum):
    """How a connection is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


def _host_name(text: str) -> str:
    try:
        name = parse_domain(text)
    except SyntaxFault:
        name = ""
    if not name or name.startswith("["):
        raise ValueError("not a host name; write the full name, such as mail.example.org")
    return name


def _listening_address(text: str) -> str:
    if text == "*":
        return text
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(
            'not an IP address; write one, or "*" for every address of this machine'
        ) from None


def _listener_name(text: str) -> str:
    if text and not _NAME.match(text):
        raise ValueError("not a name; use letters, digits, dots, dashes and underscores")
    return text


@dataclass(frozen=True, slots=True)
class NameServer:
    """A DNS server: an IP address and a port."""

    address: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> NameServer:
        """Read ``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1`` or ``[2001:db8::1]:5353``."""
        bracketed = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?", text)
        plain = re.fullmatch(r"([0-9.]+):(\d{1,5})", text)
        match = bracketed or plain
        address, port = match.groups() if match else (text, None)
        try:
            host = str(ip_address(address or ""))
        except ValueError:
            raise ValueError(
                "not an IP address with an optional port, such as 127.0.0.1 or 127.0.0.1:5353"
            ) from None
        if port is not None and not 1 <= int(port) <= 65535:
            raise ValueError("the port must be from 1 to 65535")
        return cls(host, int(port) if port else 53)

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return self.address if self.port == 53 else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What is written to the log."""

    format: LogFormat = setting(
        "text for people, one line of key=value for each event, or json for programs.",
        default=LogFormat.TEXT,
    )
    level: LogThreshold = setting(
        "The least level to log: debug, info, warn or error.", default=LogThreshold.INFO
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A port that clients or other mail servers connect to."""

    protocol: Protocol = setting(
        "smtp takes mail from other servers, submission takes mail from users who log in;\n"
        "imap and pop3 let users read.",
    )
    port: int = setting("The TCP port.", low=0, high=65535)
    address: str = setting(
        'An IP address of this machine, or "*" for all of them, IPv4 and IPv6.',
        parse=_listening_address,
        default="*",
    )
    tls: TLSMode = setting(
        "starttls: the client asks for TLS after connecting; implicit: TLS from the first\n"
        "octet; none: never.",
        default=TLSMode.STARTTLS,
    )
    cleartext_login: bool = setting(
        "Take passwords although nothing protects them. Unsafe: for a loopback address only.",
        default=False,
    )
    name: str = setting(
        "The name of the socket when systemd opens the port (FileDescriptorName=);\n"
        'empty means protocol-port, such as "smtp-25".',
        parse=_listener_name,
        default="",
    )

    @property
    def label(self) -> str:
        """The listener's name in logs and for systemd."""
        return self.name or f"{self.protocol}-{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.address != "*" and ip_address(self.address).is_loopback


def standard_listeners() -> tuple[Listener, ...]:
    """Return the ports of a public mail server (RFC 8314 prefers the implicit ones)."""
    rows = (
        (Protocol.SMTP, 25, TLSMode.STARTTLS),
        (Protocol.SUBMISSION, 587, TLSMode.STARTTLS),
        (Protocol.SUBMISSION, 465, TLSMode.IMPLICIT),
        (Protocol.IMAP, 143, TLSMode.STARTTLS),
        (Protocol.IMAP, 993, TLSMode.IMPLICIT),
        (Protocol.POP3, 110, TLSMode.STARTTLS),
        (Protocol.POP3, 995, TLSMode.IMPLICIT),
    )
    return tuple(Listener(protocol=protocol, port=port, tls=tls) for protocol, port, tls in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """A certificate with its key. The names in it decide which client gets it."""

    certificate: Path = setting(
        "PEM file: the server's certificate first, then those that lead to the root.",
        example='"/etc/mailhost/mail.example.org.pem"',
    )
    key: Path = setting(
        "PEM file with the private key; may be the same file.",
        example='"/etc/mailhost/mail.example.org.key"',
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Smarthost:
    """A server that takes all mail for elsewhere, instead of each domain's own."""

    host: str = setting(
        "Its name, checked against its certificate.",
        parse=_host_name,
        example='"smtp.example.net"',
    )
    port: int = setting("Its TCP port.", low=1, high=65535, default=587)
    tls: TLSMode = setting(
        "starttls, implicit or none; with none no password is sent.", default=TLSMode.STARTTLS
    )
    user: str = setting(
        "The name to log in with; empty for no login.", example='"mail@example.org"', default=""
    )
    password_file: Path | None = setting(
        "File whose first line is the password.",
        example='"/etc/mailhost/smarthost.password"',
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """How mail for other domains leaves."""

    resolvers: tuple[NameServer, ...] = setting(
        'DNS servers, with ports where they differ from 53: ["127.0.0.1", "192.0.2.1:5353"].\n'
        "Empty means those of /etc/resolv.conf.",
        parse=NameServer.parse,
        default=(),
    )
    port: int = setting(
        "The port of other servers; anything but 25 is for tests.", low=1, high=65535, default=25
    )
    allow_private_targets: bool = setting(
        "Also deliver to hosts with loopback, private or link-local addresses.", default=False
    )
    trusted_certificates: tuple[Path, ...] = setting(
        "PEM files of certificates that are trusted beside the system's, where another server's\n"
        "certificate is checked (that of a smarthost): its own, or the authority's behind it.",
        default=(),
    )
    smarthost: Smarthost | None = setting(
        "Give all mail for elsewhere to one server.", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one message, client or account may use."""

    message_size: Octets = setting(
        "The largest message.", low=64 * KIB, high=2048 * MIB, default=Octets(50 * MIB)
    )
    header_size: Octets = setting(
        "The largest header of a message.", low=16 * KIB, high=16 * MIB, default=Octets(256 * KIB)
    )
    recipients: int = setting(
        "Recipients of one message; RFC 5321 4.5.3.1.8 asks for 100 at least.",
        low=100,
        high=100_000,
        default=1000,
    )
    received_hops: int = setting(
        "Received fields after which a message counts as looping.", low=10, high=500, default=50
    )
    free_space: Octets = setting(
        "Take no mail while the disk has less room than this.",
        low=0,
        high=1024 * 1024 * MIB,
        default=Octets(256 * MIB),
    )
    connections: int = setting(
        "Connections at one time, all ports together.", low=10, high=100_000, default=10_000
    )
    connections_per_client: int = setting(
        "Connections at one time from one address (IPv6: one /64); its neighbourhoods (/26 and\n"
        "/21, IPv6 /48 and /32) may have three and nine times as many.",
        low=1,
        high=100_000,
        default=30,
    )
    connection_rate: int = setting(
        "New connections in a minute from one address; neighbourhoods as above.",
        low=1,
        high=1_000_000,
        default=300,
    )
    imap_sessions_per_user: int = setting(
        "IMAP sessions at one time of one account from one address.",
        low=1,
        high=10_000,
        default=20,
    )
    login_failures: int = setting(
        "Failed logins in a minute from one address before it has to wait; five times as many\n"
        "in a day; neighbourhoods as above.",
        low=1,
        high=10_000,
        default=10,
    )
    smtp_timeout: Seconds = setting(
        "How long an SMTP client may be silent (RFC 5321 4.5.3.2.7: at least 5m).",
        low=1,
        high=HOUR,
        default=Seconds(5 * MINUTE),
    )
    imap_timeout: Seconds = setting(
        "How long an IMAP client that logged in may be silent (RFC 9051 5.4: at least 30m).",
        low=1,
        high=DAY,
        default=Seconds(30 * MINUTE),
    )
    pop3_timeout: Seconds = setting(
        "How long a POP3 client may be silent (RFC 1939 3: at least 10m).",
        low=1,
        high=DAY,
        default=Seconds(10 * MINUTE),
    )
    login_timeout: Seconds = setting(
        "How long an IMAP or POP3 client may take to log in.",
        low=1,
        high=HOUR,
        default=Seconds(2 * MINUTE),
    )
    session_time: Seconds = setting(
        "How long an SMTP session without a login may last.",
        low=MINUTE,
        high=DAY,
        default=Seconds(30 * MINUTE),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When mail that could not be delivered is tried again."""

    delays: tuple[Seconds, ...] = setting(
        "The wait after the first, second, ... attempt; the last one repeats.",
        low=1,
        high=2 * DAY,
        default=(
            Seconds(5 * MINUTE),
            Seconds(10 * MINUTE),
            Seconds(20 * MINUTE),
            Seconds(40 * MINUTE),
            Seconds(2 * HOUR),
        ),
    )
    expire: Seconds = setting(
        "After this long the sender is told that delivery failed (RFC 5321 4.5.4.1: 4d to 5d).",
        low=1,
        high=30 * DAY,
        default=Seconds(5 * DAY),
    )
    expire_bounce: Seconds = setting(
        "After this long a failure notice that cannot be delivered is dropped.",
        low=1,
        high=30 * DAY,
        default=Seconds(DAY),
    )
    warn_after: Seconds = setting(
        "After this long the sender is told that delivery takes time; 0 for never.",
        low=0,
        high=30 * DAY,
        default=Seconds(4 * HOUR),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """How users prove who they are."""

    scram: bool = setting(
        "Offer SCRAM-SHA-256 beside PLAIN and LOGIN.",
        default=True,
    )
    channel_binding: bool = setting(
        "Offer SCRAM-SHA-256-PLUS inside TLS, which finds out somebody in the middle. Some\n"
        "clients choose it and fail: mutt 2.2 with GNU SASL cannot send mail then.",
        default=True,
    )
    password_threads: int = setting(
        "Threads that check passwords; each uses 19 MiB while it does.",
        low=1,
        high=64,
        default=2,
    )
    cache_lifetime: Seconds = setting(
        "How long a password that was right is not computed again; 0 for never.",
        low=0,
        high=DAY,
        default=Seconds(5 * MINUTE),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set."""

    hostname: str = setting(
        "The full name of this server, as it greets others. It should have an A or AAAA record,\n"
        "and its address a PTR record that names it.",
        parse=_host_name,
        example='"mail.example.org"',
    )
    data_directory: Path = setting(
        "Where mail, accounts and the queue are kept; owned by the user that the server runs as.",
        default=Path("/var/lib/mailhost"),
    )
    log: Log = setting("", default_factory=Log)
    listeners: tuple[Listener, ...] = setting(
        "The ports. A file with listeners of its own has only those.",
        default_factory=standard_listeners,
    )
    certificates: tuple[CertificateFiles, ...] = setting(
        "Certificates for TLS. Without one the server makes its own, which clients and other\n"
        "servers have no reason to trust.",
        default=(),
    )
    relay: Relay = setting("", default_factory=Relay)
    limits: Limits = setting("", default_factory=Limits)
    retry: Retry = setting("", default_factory=Retry)
    login: Login = setting("", default_factory=Login)

    @property
    def is_public(self) -> bool:
        """Whether any port can be reached from another machine."""
        return any(not listener.is_loopback for listener in self.listeners)

    def faults(self) -> Iterator[tuple[str, str]]:
        """Yield (path, problem) for settings that are legal alone and wrong together."""
        if not self.data_directory.is_absolute():
            yield "data_directory", "a relative path; write it from the root, such as /var/lib/mail"
        yield from _listener_faults(self.listeners)
        smarthost = self.relay.smarthost
        if smarthost is not None:
            if smarthost.user and smarthost.password_file is None:
                yield "relay.smarthost.password_file", "missing; it is needed with user"
            if smarthost.password_file is not None and not smarthost.user:
                yield "relay.smarthost.user", "missing; it is needed with password_file"
            if smarthost.user and smarthost.tls is TLSMode.NONE:
                yield (
                    "relay.smarthost.tls",
                    'a password is never sent in clear; set "starttls" or "implicit"',
                )
        if not self.retry.delays:
            yield "retry.delays", "empty; give one wait at least"
        if self.limits.header_size > self.limits.message_size:
            yield "limits.header_size", "larger than limits.message_size; lower it"


def _listener_faults(listeners: tuple[Listener, ...]) -> Iterator[tuple[str, str]]:
    if not listeners:
        yield "listeners", "empty; leave the key out for the usual ports"
    taken: dict[tuple[str, int], int] = {}
    labels: dict[str, int] = {}
    for index, listener in enumerate(listeners):
        path = f"listeners[{index}]"
        if listener.cleartext_login and not listener.is_loopback:
            yield (
                f"{path}.cleartext_login",
                "passwords in clear are for a loopback address only; "
                "remove it, or set address to 127.0.0.1 or ::1",
            )
        if (
            listener.tls is TLSMode.NONE
            and listener.protocol is not Protocol.SMTP
            and not listener.cleartext_login
        ):
            yield (
                f"{path}.tls",
                'nobody could log in; set "starttls" or "implicit" '
                "(or cleartext_login on a loopback address)",
            )
        for address in (listener.address, "*"):
            other = taken.get((address, listener.port))
            if other is not None and listener.port:
                yield f"{path}.port", f"taken by listeners[{other}]; give each its own"
                break
        if listener.address == "*" and listener.port:
            for (address, port), other in taken.items():
                if port == listener.port and address != "*":
                    yield f"{path}.port", f"taken by listeners[{other}]; give each its own"
                    break
        taken.setdefault((listener.address, listener.port), index)
        if listener.label in labels and listener.name:
            yield f"{path}.name", f"taken by listeners[{labels[listener.label]}]; choose another"
        labels.setdefault(listener.label, index)
