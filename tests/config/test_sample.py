"""The sample file and the settings in force, as text."""

from __future__ import annotations

import json
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.loading import parse
from mailhost.config.location import local_mode
from mailhost.config.sample import plain, sample, shown
from mailhost.config.sections import CertificateFiles, Config, Relay, Smarthost

FILE = Path(__file__).resolve().parents[2] / "etc" / "mailhost.toml"
DEFAULT = Config(hostname="mail.example.org")


class SampleTests(SynchronousTestCase):
    """``etc/mailhost.toml`` says what the code does."""

    def test_the_file_is_what_the_code_writes(self) -> None:
        """After a change of a setting: ``mailhost config sample > etc/mailhost.toml``."""
        self.assertEqual(FILE.read_text(), sample())

    def test_it_loads_as_the_defaults(self) -> None:
        """As it stands it changes nothing."""
        self.assertEqual(parse(sample(), Path("/")), DEFAULT)

    def test_every_commented_default_is_true(self) -> None:
        """With all marks taken away it still means the defaults."""
        text = re.sub(r"(?m)^#(?=[a-z\[])", "", sample())
        self.assertNotEqual(text, sample())
        self.assertEqual(parse(text, Path("/")), DEFAULT)

    def test_every_setting_is_in_it_with_a_comment(self) -> None:
        """No setting is forgotten, none is without words."""
        text = sample()
        for name in _names(plain(DEFAULT)):
            self.assertRegex(text, rf"(?m)^#? *(\[.*{name}\]|{name} = .*|{name}: .*)")
        self.assertTrue(all(len(line) <= 100 for line in text.splitlines()))

    def test_the_examples_load(self) -> None:
        """Tables that are absent by default are shown as they would be written."""
        text = re.sub(r"(?m)^#     (\[+|\w+ = )", r"\1", sample())
        config = parse(text, Path("/"))
        self.assertEqual(len(config.certificates), 1)
        assert config.relay.smarthost is not None
        self.assertEqual(config.relay.smarthost.host, "smtp.example.net")


class ShownTests(SynchronousTestCase):
    """Settings in force."""

    CONFIGS = (
        DEFAULT,
        local_mode({"HOME": "/home/x"}),
        Config(
            hostname="a.example",
            data_directory=Path('/od"d/\\ü\x7f'),
            certificates=(CertificateFiles(certificate=Path("/c"), key=Path("/k")),),
            relay=Relay(smarthost=Smarthost(host="b.example", user="u", password_file=Path("/p"))),
        ),
    )

    def test_they_read_back(self) -> None:
        """The TOML form means the same settings."""
        for config in self.CONFIGS:
            self.assertEqual(parse(shown(config), Path("/elsewhere")), config)

    def test_the_json_form_is_plain(self) -> None:
        """Programs get numbers, texts, lists and objects."""
        for config in self.CONFIGS:
            self.assertEqual(json.loads(json.dumps(plain(config))), plain(config))
        self.assertEqual(plain(DEFAULT)["limits"]["smtp_timeout"], 300)
        self.assertIsNone(plain(DEFAULT)["relay"]["smarthost"])


def _names(value: object) -> set[str]:
    if isinstance(value, dict):
        return {str(key) for key in value} | {
            name for inner in value.values() for name in _names(inner)
        }
    if isinstance(value, list):
        return {name for inner in value for name in _names(inner)}
    return set()
