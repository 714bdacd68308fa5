"""
Looking at mailboxes that sessions have open for what other programs did there.

Two readings of directory times a mailbox: an account is opened only when they differ from those at
the last look, so that idle sessions hold no files.
"""

from __future__ import annotations

from mailhost.errors import MailhostError
from mailhost.files import FileOperations
from mailhost.storage import foreign
from mailhost.storage.account_store import AccountStore
from mailhost.storage.open_accounts import OpenAccounts
from mailhost.storage.sessions import Sessions
from mailhost.units import AccountID, MailboxID

_Key = tuple[AccountID, MailboxID]
_Seen = tuple[str, tuple[int, int], bool]
"""The mailbox's directory, its times, and whether to look again though they stay."""


class ForeignWatch:
    """Knows what each open mailbox's directories were like. Used by one pass at a time."""

    def __init__(self, files: FileOperations, accounts: OpenAccounts, sessions: Sessions) -> None:
        self._files, self._accounts, self._sessions = files, accounts, sessions
        self._seen: dict[_Key, _Seen] = {}

    def look(self) -> None:
        """Look at every open mailbox once; blocks."""
        held = self._sessions.held()
        for gone in self._seen.keys() - set(held):
            del self._seen[gone]
        for key in held:
            seen = self._seen.get(key)
            if seen is not None and not seen[2] and self._times(seen[0]) == seen[1]:
                continue
            account_id, mailbox_id = key
            try:
                self._seen[key] = self._accounts.run(account_id, _look, mailbox_id)
            except MailhostError:
                # The mailbox is gone, or a fault that was logged where it was raised.
                self._seen.pop(key, None)

    def _times(self, path: str) -> tuple[int, int] | None:
        try:
            return (
                self._files.stat(f"{path}/new").st_mtime_ns,
                self._files.stat(f"{path}/cur").st_mtime_ns,
            )
        except OSError:
            return None


def _look(account: AccountStore, mailbox_id: MailboxID) -> _Seen:
    again = foreign.look(account, mailbox_id)
    with account.lock:
        folder = account.folder(mailbox_id)
        return str(account.path(folder)), (folder.seen_new, folder.seen_cur), again
