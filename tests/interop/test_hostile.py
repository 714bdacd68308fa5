"""Hostile clients and mistakes of operation, against a real process over real sockets."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.interop.server import (
    PASSWORD,
    PORTS,
    MailhostProcess,
    environment,
    eventually,
    free_ports,
    twistd,
)

IMPLICIT = {name for name, (_, tls) in PORTS.items() if tls == "implicit"}
ALICE = b"alice@test.example"


class Client:
    """A client that says what it likes."""

    def __init__(self, server: MailhostProcess, port: str) -> None:
        self.socket = socket.create_connection((server.address, server.ports[port]), 10)
        if port in IMPLICIT:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)

    def until(self, pattern: bytes) -> bytes:
        """Read until that was said, or the end."""
        said = b""
        while not re.search(pattern, said):
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return said
            if not data:
                return said
            said += data
        return said

    def say(self, data: bytes, pattern: bytes = rb"\r\n") -> bytes:
        """Send, and read the answer."""
        self.socket.sendall(data)
        return self.until(pattern)

    def flood(self, data: bytes, total: int) -> int:
        """Send until the server has enough of it; return how much it took."""
        sent = 0
        try:
            while sent < total:
                self.socket.sendall(data)
                sent += len(data)
        except OSError:
            pass
        return sent

    def ended(self) -> bool:
        """Read to the end; whether there was one."""
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


def resident(server: MailhostProcess) -> int:
    """The server's memory, in MiB."""
    text = Path(f"/proc/{server.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found is not None
    return int(found[1]) // 1024


class HostileTestCase(TestCase):
    """A running server."""

    timeout = 120
    tables = "[limits]\nconnections_per_client = 1000\n"

    def setUp(self) -> None:
        self.server = MailhostProcess(Path(self.mktemp()).resolve(), tables=self.tables)
        self.server.populate()
        self.server.start()
        self.addCleanup(self.server.stop)

    def client(self, port: str) -> Client:
        """Connect, without reading the greeting."""
        client = Client(self.server, port)
        self.addCleanup(client.socket.close)
        return client

    def imap(self) -> Client:
        """Log in as alice and select INBOX."""
        client = self.client("imap")
        login = b'a LOGIN %b "%b"\r\nb SELECT INBOX\r\n' % (ALICE, PASSWORD.encode())
        self.assertIn(b"\r\nb OK", client.say(login, rb"\r\nb .*\r\n"))
        return client


class HostileClientTests(HostileTestCase):
    """What comes over the wire."""

    def test_input_without_line_ends(self) -> None:
        """R-04: 26 MB without CRLF end the session on every port, and cost no memory."""
        before = resident(self.server)
        for port in PORTS:
            client = self.client(port)
            client.until(rb"\r\n")
            client.flood(b"A" * 65536, 26 << 20)
            self.assertTrue(client.ended(), port)
        self.assertLess(resident(self.server) - before, 30)

    def test_smuggling_through_submission(self) -> None:
        """R-01: whatever stands for an end of data, one transaction is one message."""
        token = base64.b64encode(b"\0" + ALICE + b"\0" + PASSWORD.encode())
        accepted = 0
        for end in (b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n\0.\r\n"):
            client = self.client("submission")
            client.until(rb"\r\n")
            client.say(b"EHLO c\r\n", rb"250 .*\r\n")
            self.assertIn(b"235", client.say(b"AUTH PLAIN " + token + b"\r\n"))
            client.say(b"MAIL FROM:<%b>\r\n" % ALICE)
            client.say(b"RCPT TO:<%b>\r\n" % ALICE)
            client.say(b"DATA\r\n")
            said = client.say(
                b"From: %b\r\n\r\none" % ALICE
                + end
                + b"MAIL FROM:<bob@test.example>\r\nRCPT TO:<%b>\r\nDATA\r\ntwo\r\n.\r\n" % ALICE
            )
            accepted += said.startswith(b"250")
            # Nothing else was understood as a command.
            self.assertEqual(client.say(b"NOOP\r\n"), b"250 2.0.0 OK\r\n")
            self.assertEqual(said.count(b"\r\n"), 1, end)
        reader = self.imap()
        eventually(lambda: b"* %d EXISTS" % accepted in reader.say(b"c SELECT INBOX\r\n", b"c OK"))

    def test_quit_over_tls_closes(self) -> None:
        """The server closes its side at once, also where the client goes on sending."""
        for port, words in (("submissions", b"QUIT\r\n"), ("imaps", b"a LOGOUT\r\n")):
            client = self.client(port)
            client.until(rb"\r\n")
            began = time.monotonic()
            client.socket.sendall(words)
            self.assertTrue(client.ended())
            self.assertLess(time.monotonic() - began, 5)

    def test_reader_who_does_not_read(self) -> None:
        """R-45: twenty requests for 20 MB, and nothing read, leave memory as it was."""
        body = b"0123456789abcde\r\n" * 60_000
        writer = self.imap()
        for _ in range(20):
            command = b"c APPEND INBOX {%d+}\r\n" % len(body) + body + b"\r\n"
            self.assertIn(b"c OK", writer.say(command, rb"c (OK|NO|BAD).*\r\n"))
        before = resident(self.server)
        for _ in range(3):
            idle = self.imap()
            idle.socket.sendall(b"d FETCH 1:* BODY[]\r\n" * 20)
        time.sleep(2)
        self.assertLess(resident(self.server) - before, 60)
        self.assertIn(b"e OK", writer.say(b"e NOOP\r\n", b"e OK"))


class ConnectionLimitTests(HostileTestCase):
    """How many connections one client gets."""

    tables = "[limits]\nconnections_per_client = 3\n"

    def test_every_port_counts(self) -> None:
        """P6: the fourth connection is turned away whichever ports they are on."""
        eventually(lambda: b"220" in self.client("smtp").until(rb"\r\n"))
        kept = []
        for port in ("smtp", "imap", "pop3", "imap", "pop3", "smtp", "imaps"):
            try:
                client = self.client(port)
                said = client.until(rb"\r\n")
            except OSError:
                said = b""
            if said[:4] in (b"220 ", b"* OK", b"+OK "):
                kept.append(client)
        self.assertLessEqual(len(kept), 3)
        self.assertGreaterEqual(len(kept), 2)


class OperationTests(HostileTestCase):
    """What lies about, and what an operator gets wrong."""

    def test_no_secret_is_left_anywhere(self) -> None:
        """R-81, R-100: neither log nor data show a password; no file is readable by others."""
        self.imap()
        client = self.client("imap")
        client.say(b"a LOGIN typed-as-name typed-as-password\r\n", rb"a NO")
        client = self.client("pop3")
        client.until(rb"\r\n")
        client.say(b"USER typed-as-name\r\n")
        client.say(b"PASS typed-as-password\r\n")
        client = self.client("submission")
        client.until(rb"\r\n")
        client.say(b"EHLO c\r\n", rb"250 .*\r\n")
        client.say(
            b"AUTH PLAIN " + base64.b64encode(b"\0typed-as-name\0typed-as-password") + b"\r\n"
        )
        places = [self.server.log, *filter(Path.is_file, self.server.data.rglob("*"))]
        for word in (PASSWORD, "typed-as-name", "typed-as-password"):
            found = [str(place) for place in places if word.encode() in place.read_bytes()]
            self.assertEqual(found, [], word)
        tree = [self.server.data, *self.server.data.rglob("*")]
        self.assertEqual([str(each) for each in tree if each.lstat().st_mode & 0o077], [])

    def test_second_instance(self) -> None:
        """R-98: another server on the same data ends with 75 and one line."""
        text = self.server.config.read_text()
        for old, new in zip(self.server.ports.values(), free_ports(len(PORTS)), strict=True):
            text = text.replace(f"port = {old}\n", f"port = {new}\n")
        other = self.server.base / "other.toml"
        other.write_text(text)
        done = subprocess.run(
            [twistd(), "-n", "--pidfile=", "mailhost", "--config", str(other)],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
            cwd=self.server.base,
        )
        self.assertEqual(done.returncode, 75, done.stderr)
        self.assertIn("in use", done.stderr)
        self.imap()

    def test_reload(self) -> None:
        """R-95: a file that cannot be used changes nothing; one that can be used does."""
        session = self.imap()
        good = self.server.config.read_text()
        self.server.config.write_text(good + "[limits\n")
        os.kill(self.server.pid, signal.SIGHUP)
        eventually(lambda: "config.rejected" in self.server.log_text())
        self.server.config.write_text(good + 'message_size = "64KiB"\nheader_size = "16KiB"\n')
        os.kill(self.server.pid, signal.SIGHUP)
        eventually(lambda: "config.reloaded" in self.server.log_text())
        client = self.client("smtp")
        client.until(rb"\r\n")
        self.assertIn(b"SIZE 65536\r\n", client.say(b"EHLO c\r\n", rb"250 .*\r\n"))
        self.assertIn(b"x OK", session.say(b"x NOOP\r\n", b"x OK"))
