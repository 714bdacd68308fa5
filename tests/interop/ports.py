"""Ports of the loopback interface that nobody uses, and waiting for who should."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that is free for TCP and UDP at this moment."""
    for _ in range(50):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((address, 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def wait_for(ready: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when `ready` says so; AssertionError when it did not in that many seconds. Blocks."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {seconds} s")
        time.sleep(0.02)
