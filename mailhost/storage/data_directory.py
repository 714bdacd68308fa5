"""
The data directory: one owner at a time, its version, and whether the last stop was clean.

``lock``
    Held with flock while a process uses the directory, and says which. The kernel drops it with
    the process, so that no crash leaves it held; the text that stays behind means nothing.
``state``
    ``version``, ``epoch``, ``clean`` and ``boot``, one a line, replaced as a whole by rename.

States: *clean* (``clean 1``) -> `open` makes it durably unclean -> in use -> `close` makes it
durably clean. A crash in any of them leaves ``clean 0`` (or, between stop and rename, the same),
and the next `open` counts `epoch` up durably before anything else is done: whatever was reserved
under an earlier epoch (UIDs, mod-sequences) is passed over. A first start is epoch 1.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from mailhost.errors import DataDirectoryBusy, DataDirectoryError
from mailhost.files import FileOperations

VERSION = 1
"""Of the directory's layout; databases have versions of their own."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what names this start of the machine, or an empty text where nothing does."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


class DataDirectory:
    """
    A directory that holds everything a mailhost keeps.

    Blocking. `open` before anything below is touched, `close` after everything is synced.

    Args:
        path: created with mode 0700 when absent, also its parents.
        files: file access.
        boot: the name of this start of the machine (`boot_id`).
    """

    def __init__(self, path: Path, files: FileOperations, boot: str = "") -> None:
        self.path = path
        self.accounts = path / "accounts"
        self.epoch = 0
        """Counts unclean starts; from 1 once open."""
        self.was_clean = True
        """Whether the stop before this start was clean, once open."""
        self.power_lost = False
        """Whether the stop was unclean and the machine was started since, once open."""
        self._files = files
        self._boot = boot
        self._lock: int | None = None

    def open(self) -> None:
        """
        Create and lock the directory and mark it in use.

        Raises:
            DataDirectoryBusy: another process has it.
            DataDirectoryError: a newer mailhost wrote it, or it cannot be used for a reason that
                the text gives.
        """
        try:
            self._make(self.path)
            self._acquire()
            try:
                self._begin()
            except BaseException:
                self._release()
                raise
        except OSError as error:
            raise DataDirectoryError(
                f"{self.path}: {error.strerror or error}; "
                "it must be a directory that the user of mailhost may write to"
            ) from error

    def close(self) -> None:
        """Mark the stop clean, durably, and let others in. Everything must be synced before."""
        if self._lock is not None:
            try:
                self._files.sync_file_system(self.path)
                self._write_state(clean=True)
            finally:
                self._release()

    def abandon(self) -> None:
        """Let others in without saying that the stop was clean."""
        if self._lock is not None:
            self._release()

    def _make(self, path: Path) -> None:
        if not path.parent.exists():
            self._make(path.parent)
        self._files.make_directory(path)

    def _acquire(self) -> None:
        name = self.path / "lock"
        lock = self._files.append_to(name)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._files.close(lock)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            holder = self._files.read_file(name).decode("ascii", "replace").strip()
            raise DataDirectoryBusy(
                f"{self.path} is in use by {holder or 'another process'}; "
                "only one mailhost can use a data directory"
            ) from None
        self._lock = lock
        os.ftruncate(lock, 0)
        self._files.write(lock, [f"process {os.getpid()}\n".encode()])

    def _release(self) -> None:
        assert self._lock is not None
        self._files.close(self._lock)
        self._lock = None

    def _begin(self) -> None:
        state = self._read_state()
        if state is None:
            self.epoch = 1
        else:
            version, self.epoch, self.was_clean, boot = state
            if version > VERSION:
                raise DataDirectoryError(
                    f"{self.path} has layout {version}, this mailhost knows {VERSION}: "
                    "a newer mailhost wrote it; upgrade, or restore the backup made before"
                )
            if not self.was_clean:
                self.epoch += 1
                self.power_lost = not boot or boot != self._boot
        self._files.make_directory(self.accounts)
        self._write_state(clean=False)

    def _read_state(self) -> tuple[int, int, bool, str] | None:
        try:
            text = self._files.read_file(self.path / "state").decode("ascii")
        except FileNotFoundError:
            if self.accounts.exists():
                # Someone removed it: nothing reserved before may be used.
                return VERSION, int(self._files.stat(self.accounts).st_mtime), False, ""
            return None
        except UnicodeDecodeError:
            text = ""
        words = dict(line.partition(" ")[::2] for line in text.splitlines())
        try:
            return (
                int(words["version"]),
                int(words["epoch"]),
                words["clean"] == "1",
                words.get("boot", ""),
            )
        except (KeyError, ValueError):
            raise DataDirectoryError(
                f"{self.path / 'state'} is damaged; remove it to start with fresh reservations"
            ) from None

    def _write_state(self, *, clean: bool) -> None:
        text = f"version {VERSION}\nepoch {self.epoch}\nclean {clean:d}\nboot {self._boot}\n"
        replace_file(self._files, self.path / "state", text.encode())


def replace_file(files: FileOperations, path: Path, octets: bytes, *, durable: bool = True) -> None:
    """
    Replace a small file as a whole; a crash leaves the old one or the new one.

    A power cut may, unless `durable`, leave it empty.
    """
    temporary = path.with_name(path.name + ".tmp")
    descriptor = files.rewrite(temporary)
    try:
        files.write(descriptor, [octets])
        if durable:
            files.sync_data(descriptor)
    finally:
        files.close(descriptor)
    files.rename(temporary, path)
    if durable:
        files.sync_directory(path.parent)
