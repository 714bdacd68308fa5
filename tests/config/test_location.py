"""Which configuration is meant."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mailhost.config.loading import check
from mailhost.config.location import find, local_mode, locate
from mailhost.config.sections import Protocol, TLSMode
from mailhost.errors import ConfigError

TEXT = 'version = 1\nhostname = "{}.example"\n'


class LocationTests(SynchronousTestCase):
    """The order: option, environment, system file, local mode."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.environ = {"HOME": "/home/x"}

    def write(self, name: str) -> Path:
        path = self.directory / name
        path.write_text(TEXT.format(name))
        return path

    def test_each_place_in_its_turn(self) -> None:
        """The first that is there decides, and the others are not looked at."""
        system = self.directory / "system"
        absent = locate(None, self.environ, system)
        self.assertTrue(absent.is_local)
        self.assertEqual(absent.config, local_mode(self.environ))
        self.write("system")
        self.assertEqual(locate(None, self.environ, system).config.hostname, "system.example")
        self.environ["MAILHOST_CONFIG"] = str(self.write("variable"))
        self.assertEqual(locate(None, self.environ, system).config.hostname, "variable.example")
        option = str(self.write("option"))
        found = locate(option, self.environ, system)
        self.assertEqual(found.config.hostname, "option.example")
        self.assertEqual(found.path, Path(option).absolute())
        self.assertFalse(found.is_local)

    def test_an_empty_variable_counts_as_unset(self) -> None:
        """``MAILHOST_CONFIG=`` in a unit file is not a file name."""
        self.environ["MAILHOST_CONFIG"] = ""
        self.assertIsNone(find(None, self.environ, self.directory / "none"))

    def test_a_named_file_that_is_absent_is_an_error(self) -> None:
        """Nobody who named a file wants local mode."""
        absent = str(self.directory / "absent")
        self.assertRaises(ConfigError, locate, absent, self.environ, Path("/nonexistent"))
        self.environ["MAILHOST_CONFIG"] = absent
        self.assertRaises(ConfigError, locate, None, self.environ, Path("/nonexistent"))

    def test_a_system_file_that_cannot_be_read_is_an_error(self) -> None:
        """A dangling link, a directory, a closed directory: never local mode."""
        link = self.directory / "link"
        link.symlink_to("nowhere")
        self.assertRaises(ConfigError, locate, None, self.environ, link)
        self.assertRaises(ConfigError, locate, None, self.environ, self.directory)

    def test_a_closed_directory_is_an_error(self) -> None:
        """Whether the file exists cannot be told, so local mode is not assumed."""
        if os.geteuid() == 0:
            raise SkipTest("root may read everything")
        closed = self.directory / "closed"
        closed.mkdir(mode=0)
        self.addCleanup(closed.chmod, 0o700)
        self.assertRaises(ConfigError, locate, None, self.environ, closed / "mailhost.toml")


class LocalModeTests(SynchronousTestCase):
    """Safe local mode."""

    def test_its_ports_are_loopback_only(self) -> None:
        """Seven ports that need no privilege and that nobody else can reach."""
        config = local_mode({"HOME": "/home/x"})
        check(config)
        self.assertFalse(config.is_public)
        self.assertEqual(
            [(entry.protocol, entry.port, entry.tls) for entry in config.listeners],
            [
                (Protocol.SMTP, 1025, TLSMode.STARTTLS),
                (Protocol.SUBMISSION, 1587, TLSMode.STARTTLS),
                (Protocol.SUBMISSION, 1465, TLSMode.IMPLICIT),
                (Protocol.IMAP, 1143, TLSMode.STARTTLS),
                (Protocol.IMAP, 1993, TLSMode.IMPLICIT),
                (Protocol.POP3, 1110, TLSMode.STARTTLS),
                (Protocol.POP3, 1995, TLSMode.IMPLICIT),
            ],
        )
        self.assertFalse(any(entry.cleartext_login for entry in config.listeners))

    def test_its_data_directory(self) -> None:
        """Under XDG_DATA_HOME when that is an absolute path, else under the home directory."""
        for environ, expected in (
            ({"HOME": "/h"}, "/h/.local/share/mailhost-demo"),
            ({"HOME": "/h", "XDG_DATA_HOME": "/d"}, "/d/mailhost-demo"),
            ({"HOME": "/h", "XDG_DATA_HOME": "rel"}, "/h/.local/share/mailhost-demo"),
            ({"XDG_DATA_HOME": "/d"}, "/d/mailhost-demo"),
        ):
            self.assertEqual(local_mode(environ).data_directory, Path(expected))
        self.assertRaises(ConfigError, local_mode, {})
