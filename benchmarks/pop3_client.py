"""A bare POP3 client that pipelines RETR and takes the answers apart afterwards."""

from __future__ import annotations

import socket


class POP3Client:
    """One connection, logged in."""

    def __init__(self, port: int, user: str, password: str, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(300)
        self._lines(1)
        for command in (f"USER {user}", f"PASS {password}"):
            self.socket.sendall(command.encode() + b"\r\n")
            self._lines(1)

    def _lines(self, count: int) -> bytes:
        data = b""
        while data.count(b"\r\n") < count:
            more = self.socket.recv(65536)
            if not more:
                raise RuntimeError("connection closed")
            data += more
        if not data.startswith(b"+OK"):
            raise RuntimeError(repr(data))
        return data

    def retrieve(self, count: int) -> list[bytes]:
        """Return the first messages, dots still stuffed, asked for fifty at a time."""
        found: list[bytes] = []
        for first in range(1, count + 1, 50):
            numbers = range(first, min(first + 50, count + 1))
            self.socket.sendall(b"".join(b"RETR %d\r\n" % number for number in numbers))
            found += self._multiline(len(numbers))
        return found

    def _multiline(self, count: int) -> list[bytes]:
        chunks: list[bytes] = []
        ends, tail = 0, b""
        while ends < count:
            data = self.socket.recv(1 << 18)
            if not data:
                raise RuntimeError("connection closed")
            chunks.append(data)
            ends += (tail + data).count(b"\r\n.\r\n")
            # A mark that a read cut in two, and none that was counted.
            tail = (tail + data)[-4:]
        messages = b"".join(chunks).split(b"\r\n.\r\n")[:-1]
        if not all(message.startswith(b"+OK") for message in messages):
            raise RuntimeError("a message was refused")
        return [message.partition(b"\r\n")[2] for message in messages]

    def close(self) -> None:
        """Say good-bye."""
        self.socket.sendall(b"QUIT\r\n")
        self.socket.close()
