"""
Names what holds the event thread for too long.

A thread looks at a beat that the event thread gives; when one is late it notes, once, the stack of
the event thread at that moment. Cost: one timer and one sleeping thread.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

BEAT = 0.25
LATE = 0.05
"""Seconds by which a beat may be late."""


class Watchdog:
    """
    Watches the event thread.

    Args:
        reactor: whose thread is watched; `start` and `stop` are called on it.
        late: seconds after which a beat counts as missed.
    """

    log = Logger()

    def __init__(self, reactor: Any, late: float = LATE) -> None:
        self._reactor = reactor
        self._late = late
        self._beat = 0.0
        self._call: IDelayedCall | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._watched = 0

    def start(self) -> None:
        """Begin to watch."""
        self._watched = threading.get_ident()
        self._mark()
        self._thread = threading.Thread(target=self._watch, name="mailhost-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _mark(self) -> None:
        self._beat = time.monotonic()
        self._call = self._reactor.callLater(BEAT, self._mark)

    def _watch(self) -> None:
        told = 0.0
        while not self._ended.wait(BEAT / 4):
            beat = self._beat
            late = time.monotonic() - beat - BEAT
            if late > self._late and beat != told:
                told = beat
                frame = sys._current_frames().get(self._watched)
                stack = traceback.extract_stack(frame)[-4:] if frame is not None else []
                where = " < ".join(f"{each.name}:{each.lineno}" for each in reversed(stack))
                self._reactor.callFromThread(self._tell, late, where)

    def _tell(self, late: float, where: str) -> None:
        self.log.warn(event="service.held", delay=round(late, 3), where=where)
