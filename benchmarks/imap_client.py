"""A bare IMAP client that reads responses in blocks and looks only for the tagged line."""

from __future__ import annotations

import re
import socket

_LITERAL = re.compile(rb"\{(\d+)\}\r\n")


class IMAPClient:
    """One connection. `command` returns all octets of the answer."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(300)
        self.number = 0
        self.rest = b""
        while b"\r\n" not in self.rest:
            self.rest += self._receive()
        self.rest = b""

    def _receive(self) -> bytes:
        data = self.socket.recv(1 << 18)
        if not data:
            raise RuntimeError("connection closed")
        return data

    def command(self, text: str) -> bytes:
        """Send a command and return its answer; RuntimeError unless it ends OK."""
        self.number += 1
        tag = b"A%d" % self.number
        self.socket.sendall(tag + b" " + text.encode() + b"\r\n")
        chunks: list[bytes] = []
        tail = b""
        end = re.compile(rb"(?:\A|\r\n)" + tag + rb" (OK|NO|BAD)[^\r\n]*\r\n\Z")
        while True:
            data = self._receive()
            chunks.append(data)
            tail = (tail + data)[-4096:]
            found = end.search(tail)
            if found:
                if found[1] != b"OK":
                    raise RuntimeError(f"{text}: {tail[-300:]!r}")
                return b"".join(chunks)

    def append(self, mailbox: str, message: bytes) -> None:
        """Append a message with a non-synchronising literal."""
        self.number += 1
        tag = b"A%d" % self.number
        head = tag + b" APPEND %s {%d+}\r\n" % (mailbox.encode(), len(message))
        self.socket.sendall(head + message + b"\r\n")
        answer = b""
        while tag + b" " not in answer or not answer.endswith(b"\r\n"):
            answer += self._receive()
        if tag + b" OK" not in answer:
            raise RuntimeError(repr(answer[-300:]))

    def close(self) -> None:
        """Drop the connection."""
        self.socket.close()


def literals(answer: bytes) -> list[bytes]:
    """Return the octets of every literal of an answer, in order."""
    found = []
    position = 0
    while match := _LITERAL.search(answer, position):
        position = match.end() + int(match[1])
        found.append(answer[match.end() : position])
    return found
