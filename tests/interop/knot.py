"""
A real authoritative DNS server on a loopback port: Knot DNS in a directory of its own.

    with Knot(directory, {"a.test": "@ MX 10 mx\\nmx A 127.0.0.1"}) as knot:
        ...  # ask (knot.address, knot.port)

Everything here blocks, for a bounded time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rdatatype
from twisted.trial.unittest import SkipTest

from tests.interop.ports import free_port, wait_for

START_LIMIT = 15.0
STOP_LIMIT = 10.0


class Knot:
    """
    Serves zones.

    Args:
        directory: for its files; made if it does not exist.
        zones: lines of each zone in master file form, relative to its name, without SOA and NS,
            which are added. TTLs are 1 second unless the lines say otherwise.
    """

    address = "127.0.0.1"

    def __init__(self, directory: Path, zones: Mapping[str, str]) -> None:
        self.directory = directory.resolve()
        self.port = free_port(self.address)
        self._zones = dict(zones)
        self._serial = 1
        self._process: subprocess.Popen[bytes] | None = None
        self._control = ""

    @staticmethod
    def program() -> str:
        """Return the path of knotd; SkipTest if it is not installed."""
        path = shutil.which("knotd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if path is None:
            raise SkipTest("knotd is not installed (Debian package knot)")
        return path

    def __enter__(self) -> Knot:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and return when it answers for every zone."""
        program = self.program()
        self.directory.mkdir(parents=True, exist_ok=True)
        for zone, lines in self._zones.items():
            self._write(zone, lines)
        zones = "".join(
            f"  - domain: {zone}\n    file: {self._file(zone)}\n" for zone in self._zones
        )
        # The name of its control socket must be short.
        self._control = tempfile.mkdtemp(prefix="knot-")
        config = self.directory / "knot.conf"
        config.write_text(
            f"server:\n    rundir: {self._control}\n    listen: {self.address}@{self.port}\n"
            "    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n"
            f"database:\n    storage: {self.directory}\n"
            f"log:\n  - target: {self.directory}/knot.log\n    any: info\n"
            "template:\n  - id: default\n    zonefile-sync: -1\n    journal-content: none\n"
            f"    semantic-checks: off\nzone:\n{zones}"
        )
        with (self.directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [program, "-c", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            for zone in self._zones:
                wait_for(lambda z=zone: self._serves(z), START_LIMIT, f"knotd serving {zone}")
        except AssertionError:
            self.stop()
            raise

    def update(self, zone: str, lines: str) -> None:
        """Serve other records in a zone, and return when they are in force."""
        assert self._process is not None and zone in self._zones
        self._serial += 1
        self._zones[zone] = lines
        self._write(zone, lines)
        self._process.send_signal(signal.SIGHUP)
        wait_for(lambda: self._serves(zone), START_LIMIT, f"knotd reloading {zone}")

    def stop(self) -> None:
        """Stop it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_LIMIT)
        shutil.rmtree(self._control, ignore_errors=True)

    def _file(self, zone: str) -> Path:
        return self.directory / f"{zone}.zone"

    def _write(self, zone: str, lines: str) -> None:
        self._file(zone).write_text(
            f"$ORIGIN {zone}.\n$TTL 1\n@ SOA ns root {self._serial} 3600 600 86400 1\n"
            f"@ NS ns\nns A {self.address}\n{lines}\n"
        )

    def _serves(self, zone: str) -> bool:
        process = self._process
        if process is not None and process.poll() is not None:
            output = (self.directory / "output").read_text("utf-8", "replace")
            raise AssertionError(f"knotd ended with {process.returncode}: {output}")
        try:
            answer = dns.query.udp(
                dns.message.make_query(zone, "SOA"), self.address, timeout=0.5, port=self.port
            )
        except (OSError, dns.exception.DNSException):
            return False
        return any(
            record.serial == self._serial
            for rrset in answer.answer
            for record in rrset
            if rrset.rdtype == dns.rdatatype.SOA
        )
