"""
An SMTP sender on bare sockets and epoll: many sessions in one process, pipelined commands.

Run as a program it reads its task as JSON on stdin and prints what it measured as JSON. It reports
its own CPU time so that one can see that the driver was not what limited the rate.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.mails import mixed, plain


class Session:
    """One connection that sends its share of messages."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(load.address)
        self.socket.setblocking(False)
        self.buffer = b""
        self.left = load.per_session
        self.stage = "greeting"
        self.wanted = 1
        self.out = memoryview(b"")
        self.began = 0.0
        load.poll.register(self.socket, select.EPOLLIN)
        load.sessions[self.socket.fileno()] = self

    def send(self, data: bytes) -> None:
        """Write, and wait for room where the socket has none."""
        self.out = memoryview(data)
        self.flush()

    def flush(self) -> None:
        """Write what is left."""
        try:
            while self.out:
                self.out = self.out[self.socket.send(self.out) :]
        except BlockingIOError:
            self.load.poll.modify(self.socket, select.EPOLLIN | select.EPOLLOUT)
            return
        self.load.poll.modify(self.socket, select.EPOLLIN)

    def readable(self) -> None:
        """Take replies; act when the last one that was wanted is there."""
        data = self.socket.recv(65536)
        if not data:
            raise RuntimeError(f"closed in {self.stage}: {self.buffer!r}")
        self.buffer += data
        while b"\r\n" in self.buffer:
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            if line[:1] not in (b"2", b"3"):
                raise RuntimeError(f"refused in {self.stage}: {line!r}")
            if line[3:4] == b" ":
                self.wanted -= 1
        if self.wanted == 0:
            getattr(self, f"after_{self.stage}")()

    def ask(self, stage: str, wanted: int, data: bytes) -> None:
        """Send the next commands and say how many replies they bring."""
        self.stage, self.wanted = stage, wanted
        self.send(data)

    def after_greeting(self) -> None:
        """Say who we are."""
        self.began = time.perf_counter()
        self.ask("hello", 1, b"EHLO client.example\r\n")

    def after_hello(self) -> None:
        """Send envelope commands in one piece."""
        number = self.load.next_number()
        self.message = self.load.message(number)
        to = "".join(f"RCPT TO:<{name}>\r\n" for name in self.load.recipients(number))
        commands = f"MAIL FROM:<sender@sender.example>\r\n{to}DATA\r\n"
        self.ask("envelope", self.load.task["recipients"] + 2, commands.encode())

    def after_envelope(self) -> None:
        """Send the message."""
        self.ask("data", 1, self.message + b".\r\n")

    def after_data(self) -> None:
        """Count it; go on or say good-bye."""
        now = time.perf_counter()
        self.load.latencies.append(now - self.began)
        self.began = now
        self.left -= 1
        if self.left and self.load.more():
            self.after_hello()
        else:
            self.ask("quit", 1, b"QUIT\r\n")

    def after_quit(self) -> None:
        """End; the next session takes this one's place."""
        self.load.poll.unregister(self.socket)
        del self.load.sessions[self.socket.fileno()]
        self.socket.close()


class Load:
    """The whole task: so many messages over so many sessions at once."""

    def __init__(self, task: dict[str, object]) -> None:
        self.task: dict = task
        self.address = (task["host"], task["port"])
        self.per_session = task["per_session"]
        self.poll = select.epoll()
        self.sessions: dict[int, Session] = {}
        self.latencies: list[float] = []
        self.begun = 0
        self.stock = [plain(number, task["size"]) for number in range(64)]
        self.mixed = bool(task.get("mixed"))

    def next_number(self) -> int:
        """Number the next message."""
        self.begun += 1
        return self.task["first"] + self.begun - 1

    def more(self) -> bool:
        """Whether messages are left to begin."""
        return self.begun < self.task["count"]

    def message(self, number: int) -> bytes:
        """A stock message under a number of its own."""
        if self.mixed:
            return mixed(number)
        return b"X-Number: %d\r\n" % number + self.stock[number % len(self.stock)]

    def recipients(self, number: int) -> list[str]:
        """Spread over the accounts."""
        accounts, each = self.task["accounts"], self.task["recipients"]
        return [f"u{(number * each + k) % accounts}@bench.test" for k in range(each)]

    def run(self) -> dict[str, float]:
        """Send everything."""
        started, cpu = time.perf_counter(), time.process_time()
        budget = self.task["count"] // self.per_session
        opened = 0
        while self.sessions or opened < budget:
            while opened < budget and len(self.sessions) < self.task["sessions"]:
                Session(self)
                opened += 1
            for descriptor, event in self.poll.poll(30):
                session = self.sessions.get(descriptor)
                if session and event & select.EPOLLOUT:
                    session.flush()
                if session and event & ~select.EPOLLOUT:
                    session.readable()
        self.latencies.sort()
        return {
            "started": started,
            "seconds": time.perf_counter() - started,
            "cpu": time.process_time() - cpu,
            "count": len(self.latencies),
            "p50": self.latencies[len(self.latencies) // 2],
            "p99": self.latencies[int(len(self.latencies) * 0.99)],
        }


if __name__ == "__main__":
    print(json.dumps(Load(json.load(sys.stdin)).run()))
