"""
What is logged, and how it looks.

An event has a dotted name and fields: ``log.info(event="service.ready", hostname=...)``.
`EVENTS` lists every name with its fields; a test reads the source and fails when an event or a
field is not in it. To add one, add its line here. The same field means the same thing everywhere,
and none holds a password, a SASL exchange or a message's content.

`TextObserver` writes one line of ``key=value`` for each event, `JSONObserver` one object. Both are
several times as fast as the observers of twisted.logger, which matters because a whole SMTP
dialogue costs less than one of their lines. What a peer sent is written so that it can neither
begin a line, nor reach a terminal as a control sequence, nor fill the disk: controls are escaped
and long values are cut. Only our own tracebacks take several lines, each of them indented. What
Twisted says of ports that open and close is for debugging: we say it with more.

Observers run on the thread that logs; a write that fails raises OSError to twisted.logger.
"""

from __future__ import annotations

import os
import re
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from json import JSONEncoder
from pathlib import Path
from typing import Any, TextIO, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import directlyProvides, implementer

MAX_VALUE = 512
"""Characters of one value that are written."""

MAX_TRACEBACK_LINES = 60

_TRANSACTION = (
    "session queue_id message_id account protocol peer helo reverse_path forward_path recipients "
    "size reply tls delay"
)
_ATTEMPT = (
    "queue_id forward_path next_hop status reply relay_host tls attempts delay diagnostic retry_in"
)

_FIELDS: Mapping[str, str] = {
    "config.fault": "path",
    "config.rejected": "path problem",
    "config.reloaded": "path",
    "config.restart_needed": "path settings",
    "control.connection.refused": "peer_uid",
    "control.fault": "verb",
    "control.request": "status delay peer_uid verb",
    "directory.changed": "change entry",
    "directory.refresh.failed": "",
    "dns.fault": "name",
    "imap.append.accepted": "session account size mailbox_id uid",
    "imap.connection.refused": "peer reason",
    "imap.client.identified": "session account client client_version",
    "imap.command.failed": "session account",
    "imap.login.accepted": "session account peer tls mechanism",
    "imap.login.refused": "session account peer tls mechanism reason",
    "imap.mailbox.selected": "session account mailbox_id messages read_only",
    "imap.session.broken": "",
    "imap.session.closed": "session account peer tls delay octets_in octets_out",
    "imap.session.opened": "session peer",
    "imap.session.overflow": "session account peer problem",
    "listener.opened": "tls address listener port",
    "log.reopened": "path",
    "log.unwritable": "path problem",
    "login.error": "session protocol peer tls mechanism",
    "login.failed": "session protocol peer tls delay failure mechanism user",
    "login.succeeded": "session account account_id protocol peer tls mechanism",
    "pop3.connection.refused": "peer reason",
    "pop3.login.failed": "session peer tls mechanism reason",
    "pop3.login.succeeded": "session account peer size tls mechanism messages",
    "pop3.message.damaged": "session account problem",
    "pop3.session.ended": "session account peer size delay deleted reason retrieved",
    "pop3.session.failed": "session",
    "pop3.stream.fault": "session peer reason",
    "queue.accepted": "queue_id message_id account reverse_path recipients size remote",
    "queue.attempt": "queue_id next_hop recipients done duration",
    "queue.attempt.failed": "",
    "queue.attempt.miscounted": "queue_id recipients statuses",
    "queue.bounced": "queue_id reverse_path forward_path status report",
    "queue.content.damaged": "queue_id",
    "queue.content.unmovable": "error path",
    "queue.content.unremovable": "error path",
    "queue.database.unclosable": "error",
    "queue.database.unusable": "error",
    "queue.deferred": _ATTEMPT,
    "queue.delivered": "queue_id accounts copies mailboxes uids",
    "queue.dropped": "queue_id forward_path status diagnostic reason",
    "queue.expired": _ATTEMPT,
    "queue.failed": _ATTEMPT,
    "queue.journal.failed": "",
    "queue.local.failed": "",
    "queue.local.refused": "queue_id status action diagnostic dropped",
    "queue.read.failed": "error",
    "queue.record.failed": "error records",
    "queue.redelivered": _ATTEMPT,
    "queue.refused": "queue_id error",
    "queue.relayed": _ATTEMPT,
    "queue.removed": "queue_id",
    "queue.report.failed": "error kind",
    "queue.reserve.released": "path",
    "queue.room.again": "inodes octets",
    "queue.room.none": "inodes octets",
    "queue.room.unknown": "error",
    "queue.settle.failed": "error",
    "queue.started": "orphans recovered",
    "queue.stop.failed": "",
    "queue.stop.late": "limit",
    "queue.stop.unfinished": "unrecorded unsettled",
    "queue.stop.unrecorded": "records",
    "queue.warned": "queue_id reverse_path forward_path status report",
    "relay.attempt": (
        "queue_id next_hop status reply relay_host tls address delay delayed failed relayed"
    ),
    "relay.content_fault": "queue_id reason",
    "relay.duplicate_possible": "queue_id next_hop relay_host address reason",
    "relay.fault": "queue_id next_hop",
    "relay.tls_fallback": "queue_id next_hop relay_host address reason",
    "service.close.failed": "",
    "service.failed": "problem",
    "service.held": "delay where",
    "service.ready": "delay data_directory local",
    "service.recovered": "power_lost",
    "service.root": "",
    "service.stopped": "delay",
    "smtp.command.fault": "session verb",
    "smtp.login.failed": "session account peer tls mechanism reason",
    "smtp.login.succeeded": "session account peer tls mechanism reason",
    "smtp.recipient.refused": "session peer helo reverse_path forward_path reply",
    "smtp.session.ended": "session peer tls accepted duration errors reason",
    "smtp.session.fault": "session peer fault",
    "smtp.transaction.accepted": _TRANSACTION,
    "smtp.transaction.deferred": _TRANSACTION,
    "smtp.transaction.fault": "session queue_id",
    "smtp.transaction.refused": _TRANSACTION,
    "storage.account.created": "account mailboxes messages",
    "storage.account.rebuilt": "account mailboxes messages",
    "storage.account.swept": "account mailboxes messages",
    "storage.arrival.waits": "account",
    "storage.background.failed": "",
    "storage.close.failed": "account",
    "storage.delete.unfinished": "account",
    "storage.deposit.failed": "queue_id account status",
    "storage.digest.failed": "size",
    "storage.directory.ignored": "account directory",
    "storage.expunge.unfinished": "account",
    "storage.foreign.added": "account mailbox messages",
    "storage.foreign.changed": "account flagged mailbox vanished",
    "storage.index.damaged": "account kept",
    "storage.keywords.failed": "account",
    "storage.look.failed": "account",
    "storage.mailbox.created": "account mailbox",
    "storage.mailbox.deleted": "account mailbox",
    "storage.mailbox.found": "account mailbox",
    "storage.mailbox.renamed": "account mailbox",
    "storage.mailbox.unusable": "account",
    "storage.message.damaged": "account file mailbox reason uid",
    "storage.message.quarantined": "account file kept mailbox reason",
    "storage.name.unusable": "account",
    "storage.notice.failed": "",
    "storage.operation.failed": "account operation",
    "storage.quarantine.failed": "account",
    "storage.recent.failed": "account",
    "storage.sync.failed": "unsettled",
    "storage.uid_list.failed": "account",
    "storage.withdraw.failed": "account",
    "tls.certificate.self_signed": "expires hostname",
    "tls.certificates.expiring": "expires names",
    "tls.certificates.loaded": "expires names",
    "tls.certificates.rejected": "path problem",
    "tls.handshake.timeout": "peer delay",
}

EVENTS: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split()) for name, fields in _FIELDS.items()
}
"""Every event with the fields it may have."""

_LEVELS: Mapping[Any, tuple[int, str]] = {
    LogLevel.debug: (0, "debug"),
    LogLevel.info: (1, "info"),
    LogLevel.warn: (2, "warn"),
    LogLevel.error: (3, "error"),
    LogLevel.critical: (4, "error"),
}
_THRESHOLDS = {name: rank for rank, name in _LEVELS.values() if rank < 4}

_NOT_FIELDS = frozenset(
    {"event", "log_logger", "log_level", "log_namespace", "log_source", "log_format", "log_time"}
    | {"log_failure", "log_text", "log_system", "log_io", "log_trace", "log_legacy"}
)

_BARE = re.compile(r"[A-Za-z0-9._:@/<>+,*#%~!?$&;\[\]-]+\Z")


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def safe_text(value: object, limit: int = MAX_VALUE) -> str:
    """
    Return a value as one short line without controls.

    Args:
        value: octets are read as UTF-8; a sequence is joined with commas.
        limit: characters to keep; what is cut is counted.
    """
    if isinstance(value, bytes | bytearray):
        text = bytes(value[: 4 * limit]).decode("utf-8", "backslashreplace")
        over = len(value) - 4 * limit if len(value) > 4 * limit else 0
    elif isinstance(value, tuple | list | frozenset | set):
        text = ",".join(str(item) for item in value)
        over = 0
    else:
        text = str(value)
        over = 0
    if len(text) > limit:
        over += len(text) - limit
        text = text[:limit]
    # What is not printable: controls, other programs' line ends, marks that turn the direction of
    # writing or cannot be seen, what cannot be encoded.
    if not text.isprintable() or '"' in text or "\\" in text:
        text = "".join(map(_escaped, text))
    return f"{text}...(+{over})" if over else text


def _field(value: object) -> str:
    if type(value) is list and len(value) == 1:
        value = value[0]
    if type(value) is str and len(value) <= MAX_VALUE:
        if _BARE.match(value):
            return value
        if value.isprintable() and '"' not in value and "\\" not in value:
            return f'"{value}"'
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return f"{value:.3f}"
    if value is True or value is False:
        return "yes" if value else "no"
    text = safe_text(value)
    return text if _BARE.match(text) else f'"{text}"'


class _Timestamps:
    """Times as text; the date is made once in a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int((now - second) * 1000):03d}Z"


def _traceback_lines(event: LogEvent) -> Iterator[str]:
    failure = event.get("log_failure")
    if failure is None:
        return
    lines = failure.getTraceback().rstrip().splitlines()
    if len(lines) > MAX_TRACEBACK_LINES:
        half = MAX_TRACEBACK_LINES // 2
        lines = [*lines[:half], "...", *lines[-half:]]
    for line in lines:
        yield safe_text(line.rstrip())


@implementer(ILogObserver)
class TextObserver:
    """
    One line of ``key=value`` for each event.

    Args:
        write: takes a line with its end, at once.
        level: the least level: debug, info, warn or error.
    """

    def __init__(self, write: Callable[[str], object], level: str = "info") -> None:
        self._write = write
        self._threshold = _THRESHOLDS[level]
        self._timestamps = _Timestamps()

    def __call__(self, event: LogEvent) -> None:
        """Write the event."""
        rank, level = _rank(event)
        if rank < self._threshold:
            return
        parts = [self._timestamps.text(event["log_time"]), level]
        name = event.get("event")
        if name is not None:
            parts.append(name)
            for key, value in event.items():
                if key not in _NOT_FIELDS and value is not None:
                    parts.append(f"{key}={_field(value)}")
        else:
            parts.append(safe_text(_prose(event), 4 * MAX_VALUE))
        line = " ".join(parts) + "\n"
        if "log_failure" in event:
            line += "".join(f"    {text}\n" for text in _traceback_lines(event))
        self._write(line)


@implementer(ILogObserver)
class JSONObserver:
    """
    One JSON object on a line for each event: ``time``, ``level``, ``event`` and its fields.

    An event without a name has its words in ``text``; a failure has its ``traceback``. Arguments
    as for `TextObserver`.
    """

    def __init__(self, write: Callable[[str], object], level: str = "info") -> None:
        self._write = write
        self._threshold = _THRESHOLDS[level]
        self._timestamps = _Timestamps()
        self._encode = JSONEncoder(separators=(",", ":")).encode

    def __call__(self, event: LogEvent) -> None:
        """Write the event."""
        rank, level = _rank(event)
        if rank < self._threshold:
            return
        document: dict[str, Any] = {
            "time": self._timestamps.text(event["log_time"]),
            "level": level,
        }
        name = event.get("event")
        if name is not None:
            document["event"] = name
            for key, value in event.items():
                if key not in _NOT_FIELDS and value is not None:
                    document[key] = _json_value(value)
        else:
            document["text"] = _cut(_prose(event), 4 * MAX_VALUE)
        if "log_failure" in event:
            document["traceback"] = "\n".join(_traceback_lines(event))
        self._write(self._encode(document) + "\n")


def _json_value(value: object) -> object:
    if type(value) is str:
        return value if len(value) <= MAX_VALUE else _cut(value, MAX_VALUE)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # JSON has no infinity.
        return round(value, 6) if abs(value) < 1e300 else str(value)
    if isinstance(value, tuple | list | frozenset | set):
        return [_json_value(item) for item in list(value)[:100]]
    if isinstance(value, bytes):
        return _cut(value.decode("utf-8", "backslashreplace"), MAX_VALUE)
    return _cut(str(value), MAX_VALUE)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}...(+{len(text) - limit})"


def _rank(event: LogEvent) -> tuple[int, str]:
    """The level of an event, to compare and to show."""
    # Ports and factories that Twisted starts and stops; events of ours tell the same.
    old = event.get("log_namespace") == "log_legacy" and event["log_level"] is LogLevel.info
    if old or "eventType" in event:
        return _LEVELS[LogLevel.debug]
    return _LEVELS[event["log_level"]]


def _prose(event: LogEvent) -> str:
    """An event of Twisted's own, or of a library, in its words."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        summary = "".join(traceback.format_exception_only(failure.type, failure.value)).strip()
        return f"{text}: {summary}" if text else summary
    return text


@implementer(ILogObserver)
class Counters:
    """How often each named event happened since the start."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def __call__(self, event: LogEvent) -> None:
        """Count the event."""
        name = event.get("event")
        if name is not None:
            self._counts[name] += 1

    def counts(self) -> dict[str, int]:
        """Return the counts by event name, sorted."""
        return dict(sorted(self._counts.items()))


class LogFile:
    """
    A log file that is appended to, mode 0600 when it is made, and can be opened anew.

    Raises:
        OSError: it cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._file = self._open()

    def write(self, line: str) -> None:
        """Append a line at once."""
        self._file.write(line)
        self._file.flush()

    def reopen(self) -> None:
        """
        Open the file of that name anew, after something else renamed it.

        When that fails the old file stays in use and OSError is raised.
        """
        file = self._open()
        self._file.close()
        self._file = file

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _open(self) -> TextIO:
        descriptor = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def stream_writer(stream: TextIO) -> Callable[[str], None]:
    """Return what writes lines to a stream at once, such as the terminal."""

    def write(line: str) -> None:
        stream.write(line)
        stream.flush()

    return write


def observer_for(
    log_format: str, level: str, write: Callable[[str], object], counters: Counters
) -> ILogObserver:
    """Return an observer of the format (text or json) that also counts."""
    lines: Callable[[LogEvent], None]
    lines = (JSONObserver if log_format == "json" else TextObserver)(write, level)

    def observe(event: LogEvent) -> None:
        counters(event)
        lines(event)

    directlyProvides(observe, ILogObserver)
    return cast(ILogObserver, observe)
