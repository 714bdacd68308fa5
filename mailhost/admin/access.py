"""
The way of a command to the stores: through the running server, or to the files when none runs.

Nothing is edited behind a running server's back. A command first asks on the control socket; when
nobody listens there it takes the data directory's lock, which a server holds from start to stop,
and works on the files. When the lock is taken although nobody listens, a server is starting or
stopping, or another command is at work: that passes, so it tries for a while.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mailhost.admin.errors import ExitStatus
from mailhost.admin.verbs import Result
from mailhost.control import CallFailure, ControlBroken, ControlUnreachable, call
from mailhost.errors import DataDirectoryError
from mailhost.files import FileOperations

PATIENCE = 10.0
"""Seconds to wait for a lock that somebody else has."""

_PAUSE = 0.1

Offline = Callable[[str, str, Mapping[str, object]], Result]


def perform(
    directory: Path,
    noun: str,
    verb: str,
    arguments: Mapping[str, object],
    offline: Offline,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """
    Perform a command and return its result. Blocks.

    Args:
        directory: the data directory.
        noun: of the verb, as `mailhost.admin.verbs.VERBS` has it.
        verb: its name.
        arguments: checked already.
        offline: performs it on the files, under the lock.
        clock: monotonic seconds.
        sleep: waits so many seconds.

    Raises:
        CallFailure: the server refused it, or cannot be reached though it runs.
        MailhostError: the verb's own, when it worked on the files.
    """
    deadline = clock() + PATIENCE
    while True:
        try:
            return call(directory, noun, verb, arguments)
        except ControlBroken as error:
            raise CallFailure(ExitStatus.UNAVAILABLE, "unavailable", str(error)) from None
        except ControlUnreachable:
            pass
        with locked(directory) as holder:
            if holder is None:
                return offline(noun, verb, arguments)
        if clock() >= deadline:
            raise CallFailure(
                ExitStatus.TEMPORARY,
                "locked",
                f"{directory} is in use by {holder} and nobody answers on its socket; "
                "try again when it has started or stopped",
            )
        sleep(_PAUSE)


@contextmanager
def locked(directory: Path) -> Iterator[str | None]:
    """
    Hold the data directory's lock; yields None, or who else has it.

    The directory's record of its last stop is left as it is, so that the next start of the server
    recovers what it has to.

    Raises:
        DataDirectoryError: the directory cannot be used.
    """
    files = FileOperations()
    try:
        _make(files, directory)
        lock = files.append_to(directory / "lock")
    except OSError as error:
        raise DataDirectoryError(
            f"{directory}: {error.strerror or error}; it must be a directory that this user may "
            "write to"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = files.read_file(directory / "lock").decode("ascii", "replace")
            yield text.strip() or "another process"
            return
        os.ftruncate(lock, 0)
        files.write(lock, [f"process {os.getpid()}\n".encode()])
        yield None
    finally:
        files.close(lock)


def _make(files: FileOperations, directory: Path) -> None:
    if not directory.parent.exists():
        _make(files, directory.parent)
    files.make_directory(directory)
