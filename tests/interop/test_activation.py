"""Ports that systemd opens, with the real twistd."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.interop.server import environment, twistd

# What systemd does before it starts a service (sd_listen_fds(3)).
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="smtp-25")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


WORDS = ("-n", "--pidfile=", "mailhost", "--config")


class ActivationTests(TestCase):
    """A port that we may not open ourselves."""

    def test_the_port_that_systemd_opened_is_served(self) -> None:
        """Nothing between the start of the process and our listener takes the socket away."""
        base = Path(self.mktemp()).absolute()
        base.mkdir()
        config = base / "mailhost.toml"
        handle = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(handle.close)
        config.write_text(
            f'version = 1\nhostname = "mx.test.example"\ndata_directory = "{base}/data"\n'
            '[[listeners]]\nprotocol = "smtp"\naddress = "127.0.0.1"\n'
            f'port = {handle.getsockname()[1]}\nname = "smtp-25"\n'
        )
        process = subprocess.Popen(
            [sys.executable, "-c", HAND_OVER, str(handle.fileno()), twistd(), *WORDS, str(config)],
            env=environment(),
            cwd=base,
            pass_fds=[handle.fileno()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.send_signal, signal.SIGTERM)
        with socket.create_connection(handle.getsockname(), 5) as client:
            client.settimeout(30)
            self.assertEqual(client.recv(4), b"220 ")
