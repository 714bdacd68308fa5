"""
Who is told that a mailbox changed: what IDLE hears.

A change is noticed on any thread after its commit, and told on the event thread. Changes of one
mailbox that come before they are told are told once, with the highest mod-sequence. A notice says
only that there is something to ask for; a late one costs delay, never truth.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from twisted.logger import Logger

from mailhost.units import AccountID, MailboxID, ModSeq

Listener = Callable[[MailboxID, ModSeq], None]


class ChangeNotices:
    """
    Takes changes from all threads to the listeners of an account.

    Args:
        call_on_event_thread: as ``reactor.callFromThread``.
    """

    log = Logger()

    def __init__(self, call_on_event_thread: Callable[..., Any]) -> None:
        self._call = call_on_event_thread
        self._listeners: dict[AccountID, list[Listener]] = {}
        self._pending: dict[tuple[AccountID, MailboxID], int] = {}
        self._lock = Lock()

    def watch(self, account_id: AccountID, listener: Listener) -> Callable[[], None]:
        """Add a listener on the event thread; returns what ends it, harmless to call twice."""
        entry: list[Listener] = [listener]

        def told(mailbox_id: MailboxID, mod_seq: ModSeq) -> None:
            if entry:
                entry[0](mailbox_id, mod_seq)

        with self._lock:
            self._listeners.setdefault(account_id, []).append(told)

        def end() -> None:
            if not entry:
                return
            entry.clear()
            with self._lock:
                listeners = self._listeners[account_id]
                listeners.remove(told)
                if not listeners:
                    del self._listeners[account_id]

        return end

    def changed(self, account_id: AccountID, mailbox_id: MailboxID, mod_seq: int) -> None:
        """Tell of a change that is committed; any thread."""
        with self._lock:
            if account_id not in self._listeners:
                return
            first = not self._pending
            key = (account_id, mailbox_id)
            self._pending[key] = max(mod_seq, self._pending.get(key, 0))
        if first:
            self._call(self._tell)

    def _tell(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
            told = [
                (listener, mailbox_id, mod_seq)
                for (account_id, mailbox_id), mod_seq in pending.items()
                for listener in self._listeners.get(account_id, ())
            ]
        for listener, mailbox_id, mod_seq in told:
            try:
                listener(mailbox_id, ModSeq(mod_seq))
            except Exception:
                # One session's fault must not keep the notice from the others.
                self.log.failure("listener", event="storage.notice.failed")
