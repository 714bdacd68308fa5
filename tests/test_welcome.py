"""The first screen of local mode."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.location import local_mode
from mailhost.welcome import ACCOUNTS, command_name, welcome

CONFIG = local_mode({"HOME": "/home/x"})
PASSWORDS = dict(zip(ACCOUNTS, ("first-secret", "second-secret"), strict=True))


class WelcomeTests(SynchronousTestCase):
    """What is on the screen."""

    def test_the_first_start_shows_passwords_and_settings(self) -> None:
        """Everything that a client's set-up asks for, ready to paste."""
        text = welcome(CONFIG, PASSWORDS, seconds=0.42)
        for words in (
            "demo@localhost  password  first-secret",
            "test@localhost  password  second-secret",
            "IMAP  localhost  port 1143  STARTTLS   or  port 1993  TLS",
            "POP3  localhost  port 1110  STARTTLS   or  port 1995  TLS",
            "SMTP  localhost  port 1587  STARTTLS   or  port 1465  TLS",
            "smtps://localhost:1465",
            "imaps://localhost:1993",
            "/home/x/.local/share/mailhost-demo",
            "Ready in 0.4 s",
        ):
            self.assertIn(words, text)
        self.assertNotIn("root", text)

    def test_later_starts_show_no_password(self) -> None:
        """They name the command that makes a new one."""
        text = welcome(CONFIG, {}, seconds=0.1, command=".venv/bin/mailhost")
        self.assertNotIn("secret", text)
        self.assertIn(".venv/bin/mailhost account passwd demo@localhost --generate", text)

    def test_it_fits_a_screen(self) -> None:
        """24 lines of 80 columns, but for a long path."""
        for passwords in (PASSWORDS, {}):
            lines = welcome(CONFIG, passwords, seconds=0.1, as_root=True).splitlines()
            self.assertLessEqual(len(lines), 26)
            self.assertLessEqual(max(map(len, lines)), 92)

    def test_root_is_told(self) -> None:
        """It serves, and says that it need not be root."""
        self.assertIn("runs as root", welcome(CONFIG, {}, seconds=0.1, as_root=True))

    def test_the_script_is_named_as_it_can_be_called(self) -> None:
        """Beside twistd when it is there, else by its bare name."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.assertEqual(command_name(f"{directory}/twistd"), "mailhost")
        (directory / "mailhost").touch()
        self.assertEqual(command_name(f"{directory}/twistd"), f"{directory}/mailhost")
        self.assertEqual(command_name("twistd"), "mailhost")
