"""
Removing what was expunged or deleted long enough ago.

Order: files, then tombstones. A crash between leaves tombstones without files, which the next
sweep removes.
"""

from __future__ import annotations

from pathlib import Path

from twisted.logger import Logger

from mailhost.storage.account_store import AccountStore
from mailhost.storage.opening import unlink

_log = Logger(namespace="mailhost.storage.sweeping")


def sweep(account: AccountStore) -> int:
    """Remove one account's expired tombstones with their files; return how many messages."""
    now = int(account.surroundings.now())
    with account.lock:
        expired = account.database.expired(now)
        deleted = account.database.expired_mailboxes(now)
    if not expired and not deleted:
        return 0
    for _, _, file in expired:
        if file:
            unlink(account, f"{account.directory}/expunged/{file}")
    for _, file in deleted:
        _remove_tree(account, account.directory / "expunged" / file)
    with account.lock, account.database.transaction():
        account.database.forget_expired(now, [mailbox_id for mailbox_id, _ in deleted])
    _log.info(
        event="storage.account.swept",
        account=account.account_id,
        messages=len(expired),
        mailboxes=len(deleted),
    )
    return len(expired)


def _remove_tree(account: AccountStore, path: Path) -> None:
    try:
        entries = list(account.files.entries(path))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            _remove_tree(account, path / entry.name)
        else:
            unlink(account, str(path / entry.name))
    account.files.remove_directory(path)
