"""
How an administrator's command failed, and the exit status that says so (sysexits.h).

`failure_of` is the one place where an exception becomes words and a status for an administrator;
control socket, command line and later the HTTP API all use it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import IntEnum

from mailhost.errors import (
    ConfigError,
    DataDirectoryBusy,
    DataDirectoryError,
    DirectoryError,
    EntryExists,
    MailhostError,
    NoSuchEntry,
    ResolverFault,
    SpoolFault,
    SpoolFull,
    StorageError,
    SyntaxFault,
)


class ExitStatus(IntEnum):
    """What a command says to the shell."""

    OK = 0
    USAGE = 64
    """The command line is wrong."""
    DATA = 65
    """What it names does not exist, exists already, or is not what it should be."""
    UNAVAILABLE = 69
    """The server does not answer."""
    TEMPORARY = 75
    """It may succeed later, or we have a fault of our own."""
    NO_PERMISSION = 77
    CONFIG = 78
    """The configuration or the data directory cannot be used."""


class UsageFault(MailhostError):
    """A verb was called with arguments it does not have, or without one it needs."""


class CommandRefused(MailhostError):
    """The command is well-formed and must not be done; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class CommandFailure:
    """
    A failure as it is shown.

    Args:
        status: the exit status.
        kind: a stable word for programs, such as ``no-such-entry``.
        message: one line for people.
    """

    status: ExitStatus
    kind: str
    message: str


# The first entry that the error is an instance of counts.
FAILURES: tuple[tuple[type[BaseException], ExitStatus, str], ...] = (
    (UsageFault, ExitStatus.USAGE, "usage"),
    (CommandRefused, ExitStatus.DATA, "refused"),
    (NoSuchEntry, ExitStatus.DATA, "no-such-entry"),
    (EntryExists, ExitStatus.DATA, "entry-exists"),
    (DirectoryError, ExitStatus.DATA, "refused"),
    (SyntaxFault, ExitStatus.DATA, "syntax"),
    (ConfigError, ExitStatus.CONFIG, "config"),
    (DataDirectoryBusy, ExitStatus.TEMPORARY, "busy"),
    (DataDirectoryError, ExitStatus.CONFIG, "data-directory"),
    (SpoolFull, ExitStatus.TEMPORARY, "full"),
    (SpoolFault, ExitStatus.TEMPORARY, "spool"),
    (StorageError, ExitStatus.DATA, "storage"),
    (ResolverFault, ExitStatus.TEMPORARY, "dns"),
    (PermissionError, ExitStatus.NO_PERMISSION, "permission"),
    (ConnectionError, ExitStatus.UNAVAILABLE, "unavailable"),
    (TimeoutError, ExitStatus.UNAVAILABLE, "unavailable"),
    (sqlite3.Error, ExitStatus.TEMPORARY, "database"),
    (OSError, ExitStatus.TEMPORARY, "system"),
)


def failure_of(error: BaseException) -> CommandFailure:
    """
    Return what to show for an error.

    An error that is none of ours is a fault of mailhost: temporary, its text kept for the log,
    which the caller writes (`CommandFailure.kind` is then ``internal``).
    """
    for kind_of_error, status, kind in FAILURES:
        if isinstance(error, kind_of_error):
            text = str(error) or kind
            if isinstance(error, SyntaxFault):
                text = f"not an address or name: {text}"
            return CommandFailure(status, kind, text)
    return CommandFailure(
        ExitStatus.TEMPORARY, "internal", f"internal error ({type(error).__name__}); see the log"
    )
