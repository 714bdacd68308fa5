"""Reading 10,000 mails over IMAP: what each operation takes, and that it answered in full."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.imap_client import IMAPClient, literal_octets

FIELDS = "BODY.PEEK[HEADER.FIELDS (FROM TO SUBJECT DATE MESSAGE-ID REFERENCES)]"


class Reading:
    """The operations on one server's mailbox of `count` messages."""

    def __init__(self, port: int, user: str, password: str, count: int) -> None:
        self.port, self.user, self.password, self.count = port, user, password, count

    def client(self) -> IMAPClient:
        """Return a connection that has logged in."""
        client = IMAPClient(self.port)
        client.command(f'LOGIN "{self.user}" "{self.password}"')
        return client

    def fetch(self, items: str, mark: bytes) -> Callable[[IMAPClient], int]:
        """Return an operation that fetches items of every message and counts the answers."""

        def run(client: IMAPClient) -> int:
            answer = client.command(f"FETCH 1:* {items}")
            found = answer.count(mark)
            if found < self.count:
                raise RuntimeError(f"{items}: {found} of {self.count} messages answered")
            return len(answer)

        return run

    def bodies(self, client: IMAPClient) -> int:
        """Fetch every message whole; return the octets."""
        return literal_octets(client.command("FETCH 1:* BODY.PEEK[]"))

    def search(self, keys: str) -> Callable[[IMAPClient], int]:
        """Return an operation that searches and counts the hits."""

        def run(client: IMAPClient) -> int:
            answer = client.command(f"SEARCH {keys}")
            return len(answer.partition(b"* SEARCH")[2].partition(b"\r\n")[0].split())

        return run

    def timed(self, operation: Callable[[IMAPClient], int]) -> tuple[float, int]:
        """Run an operation on a selected mailbox; return seconds and its figure."""
        client = self.client()
        client.command("SELECT INBOX")
        began = time.perf_counter()
        figure = operation(client)
        seconds = time.perf_counter() - began
        client.close()
        return seconds, figure

    def select(self) -> float:
        """Return the seconds of a SELECT."""
        client = self.client()
        began = time.perf_counter()
        client.command("SELECT INBOX")
        seconds = time.perf_counter() - began
        client.close()
        return seconds

    def logins(self, count: int, at_once: int = 10) -> float:
        """Log in, select and log out so often, ten at a time; return sessions a second."""

        def session(_: int) -> None:
            client = self.client()
            client.command("SELECT INBOX")
            client.command("LOGOUT")
            client.close()

        began = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(session, range(count)))
        return count / (time.perf_counter() - began)
