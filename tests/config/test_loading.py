"""What the loader takes, and what it says about the rest."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config import loading
from mailhost.config.loading import load, parse
from mailhost.config.sections import (
    Config,
    Listener,
    LogFormat,
    NameServer,
    Protocol,
    TLSMode,
    standard_listeners,
)
from mailhost.errors import ConfigError

HEAD = 'version = 1\nhostname = "mail.example.org"\n'
DIRECTORY = Path("/etc/mailhost")


def read(text: str) -> Config:
    return parse(HEAD + text, DIRECTORY)


class LoadingTests(SynchronousTestCase):
    """A file becomes settings, or one line that says what to do."""

    def assert_fault(self, text: str, path: str, *words: str, head: str = HEAD) -> None:
        error = self.assertRaises(ConfigError, parse, head + text, DIRECTORY)
        self.assertEqual(error.path, path)
        for word in words:
            self.assertIn(word, error.problem)
        self.assertNotIn("\n", str(error))

    def test_the_least_file_gives_every_default(self) -> None:
        """Version and host name suffice."""
        config = read("")
        self.assertEqual(config, Config(hostname="mail.example.org"))
        self.assertEqual(config.listeners, standard_listeners())
        self.assertEqual(config.limits.message_size, 50 * 1024 * 1024)
        self.assertTrue(config.is_public)

    def test_each_section_is_read(self) -> None:
        """Values of every kind arrive as their types."""
        config = read(
            """
            data_directory = "data"
            [log]
            format = "json"
            [[listeners]]
            protocol = "imap"
            port = 1143
            address = "127.0.0.1"
            tls = "none"
            cleartext_login = true
            [[certificates]]
            certificate = "/tls/a.pem"
            key = "a.key"
            [relay]
            resolvers = ["127.0.0.1:5353", "::1"]
            port = 2525
            allow_private_targets = true
            [relay.smarthost]
            host = "Smtp.Example.NET"
            user = "me"
            password_file = "secret"
            [limits]
            message_size = "1 MiB"
            smtp_timeout = 30
            [retry]
            delays = ["1s", 2]
            warn_after = 0
            [login]
            scram = false
            """
        )
        self.assertEqual(config.data_directory, DIRECTORY / "data")
        self.assertIs(config.log.format, LogFormat.JSON)
        self.assertEqual(
            config.listeners,
            (
                Listener(
                    protocol=Protocol.IMAP,
                    port=1143,
                    address="127.0.0.1",
                    tls=TLSMode.NONE,
                    cleartext_login=True,
                ),
            ),
        )
        self.assertFalse(config.is_public)
        self.assertEqual(config.certificates[0].certificate, Path("/tls/a.pem"))
        self.assertEqual(config.certificates[0].key, DIRECTORY / "a.key")
        self.assertEqual(
            config.relay.resolvers, (NameServer("127.0.0.1", 5353), NameServer("::1", 53))
        )
        assert config.relay.smarthost is not None
        self.assertEqual(config.relay.smarthost.host, "smtp.example.net")
        self.assertEqual(config.relay.smarthost.port, 587)
        self.assertEqual(config.limits.message_size, 1024 * 1024)
        self.assertEqual(config.limits.smtp_timeout, 30)
        self.assertEqual(config.retry.delays, (1, 2))
        self.assertEqual(config.retry.warn_after, 0)
        self.assertFalse(config.login.scram)

    def test_unknown_key_names_the_nearest(self) -> None:
        """A slip of the pen is answered with the right word and all known ones."""
        self.assert_fault('hostnam = "x.example"', "hostnam", "did you mean hostname?")
        self.assert_fault(
            '[[listeners]]\nprotocl = "smtp"\nport = 25',
            "listeners[0].protocl",
            "unknown key",
            "did you mean protocol?",
            "cleartext_login",
        )
        self.assert_fault("[limits]\nxyzzy = 1", "limits.xyzzy", "remove it")
        self.assert_fault("[domains]\n", "domains", "unknown key")

    def test_a_renamed_key_names_its_new_place(self) -> None:
        """What an older version called differently is an error with the new name."""
        self.patch(loading, "RENAMED", {"listeners.host": "listeners.address"})
        self.assert_fault(
            '[[listeners]]\nprotocol = "smtp"\nport = 25\nhost = "::1"',
            "listeners[0].host",
            "renamed",
            "listeners.address",
        )

    def test_missing_keys_are_asked_for(self) -> None:
        """What has no default must be given."""
        self.assert_fault("", "version", "add version = 1", head="")
        self.assert_fault("version = 1", "hostname", 'add hostname = "mail.', head="")
        self.assert_fault("[[listeners]]\nport = 25", "listeners[0].protocol", "missing")
        self.assert_fault("[relay.smarthost]", "relay.smarthost.host", "missing")

    def test_another_version_is_refused(self) -> None:
        """A file of a later shape is not guessed at."""
        for value in ("2", '"1"', "true", "1.0"):
            self.assert_fault(f"version = {value}", "version", "it reads 1", head="")

    def test_wrong_types_say_what_is_wanted(self) -> None:
        """Each kind of value has its own words."""
        self.assert_fault("data_directory = 5", "data_directory", 'write it in "quotes"')
        self.assert_fault("[login]\nscram = 1", "login.scram", "true or false")
        self.assert_fault("[relay]\nport = true", "relay.port", "a whole number")
        self.assert_fault('[relay]\nresolvers = "::1"', "relay.resolvers", "write it in [ ]")
        self.assert_fault("[relay]\nresolvers = [1]", "relay.resolvers[0]", "text")
        self.assert_fault("limits = 1", "limits", "write it as [limits]")
        self.assert_fault("[relay]\nsmarthost = 1", "relay.smarthost", "not a table")
        self.assert_fault('data_directory = ""', "data_directory", "write a file name")
        self.assert_fault("listeners = 1", "listeners", "not a list")

    def test_choices_are_listed(self) -> None:
        """A word that is none of the choices gets them, and the nearest."""
        self.assert_fault('[log]\nformat = "jsn"', "log.format", "text, json", "did you mean json")
        self.assert_fault("[log]\nlevel = 3", "log.level", "debug, info, warn, error")

    def test_ranges_are_kept(self) -> None:
        """Too low and too high name the bound as one writes it."""
        self.assert_fault("[relay]\nport = 0", "relay.port", "too low; the least is 1")
        self.assert_fault("[relay]\nport = 70000", "relay.port", "the most is 65535")
        self.assert_fault('[limits]\nmessage_size = "1B"', "limits.message_size", "64KiB")
        self.assert_fault('[retry]\ndelays = ["5m", 0]', "retry.delays[1]", "the least is 1")
        self.assert_fault('[retry]\nexpire = "31d"', "retry.expire", "31d", "30d")

    def test_times_and_sizes_need_known_units(self) -> None:
        """Only the units that are documented count, and nothing negative or broken."""
        for value in ('"5 minutes"', "-1", "1.5", '"m"', '""', '"1MB"', "true"):
            self.assert_fault(f"[retry]\nexpire = {value}", "retry.expire", "a time such as")
            self.assert_fault(
                f"[limits]\nmessage_size = {value}", "limits.message_size", "a size such as"
            )

    def test_names_and_addresses_are_checked(self) -> None:
        """A host name is a name, an address an address."""
        self.assert_fault('hostname = "a b"', "hostname", "not a host name", head="version = 1\n")
        self.assert_fault('hostname = "[::1]"', "hostname", "not a host name", head="version = 1\n")
        listener = '[[listeners]]\nprotocol = "smtp"\nport = 25\n'
        self.assert_fault(f'{listener}address = "localhost"', "listeners[0].address", "IP address")
        self.assert_fault(f'{listener}name = "a:b"', "listeners[0].name", "not a name")
        for resolver in ("dns.example.org", "127.0.0.1:0", "127.0.0.1:70000", "[::1", "[::1]:x"):
            self.assert_fault(f'[relay]\nresolvers = ["{resolver}"]', "relay.resolvers[0]")

    def test_cleartext_login_is_for_loopback_only(self) -> None:
        """The unsafe choice is refused on an address that others can reach."""
        listener = '[[listeners]]\nprotocol = "imap"\nport = 143\ncleartext_login = true\n'
        self.assert_fault(listener, "listeners[0].cleartext_login", "loopback")
        self.assert_fault(f'{listener}address = "0.0.0.0"', "listeners[0].cleartext_login")
        self.assertTrue(read(f'{listener}address = "::1"').listeners[0].cleartext_login)

    def test_a_port_where_nobody_could_log_in_is_refused(self) -> None:
        """Without TLS and without clear passwords a reader's port is of no use."""
        listener = '[[listeners]]\nprotocol = "{}"\nport = 143\ntls = "none"\n'
        self.assert_fault(listener.format("imap"), "listeners[0].tls", "nobody could log in")
        self.assertIs(read(listener.format("smtp")).listeners[0].tls, TLSMode.NONE)

    def test_one_port_has_one_listener(self) -> None:
        """The same address and port, or port and every address, twice is an error."""
        template = '[[listeners]]\nprotocol = "smtp"\nport = {}\naddress = "{}"\n'
        for first, second in (("*", "*"), ("*", "127.0.0.1"), ("::1", "*"), ("::1", "::1")):
            text = template.format(25, first) + template.format(25, second)
            self.assert_fault(text, "listeners[1].port", "taken by listeners[0]")
        read(template.format(25, "127.0.0.1") + template.format(25, "::1"))
        read(template.format(0, "127.0.0.1") + template.format(0, "127.0.0.1"))
        named = template + 'name = "a"\n'
        self.assert_fault(
            named.format(25, "::1") + named.format(26, "::1"), "listeners[1].name", "taken"
        )
        self.assert_fault("listeners = []", "listeners", "empty")

    def test_a_smarthost_login_is_whole_and_protected(self) -> None:
        """User and password go together, and never in clear."""
        table = '[relay.smarthost]\nhost = "smtp.example.net"\n'
        self.assert_fault(f'{table}user = "x"', "relay.smarthost.password_file", "missing")
        self.assert_fault(f'{table}password_file = "x"', "relay.smarthost.user", "missing")
        both = f'{table}user = "x"\npassword_file = "y"\n'
        self.assert_fault(f'{both}tls = "none"', "relay.smarthost.tls", "never sent in clear")
        read(both)

    def test_other_settings_must_agree(self) -> None:
        """An empty schedule and a header above the message size make no sense."""
        self.assert_fault("[retry]\ndelays = []", "retry.delays", "empty")
        self.assert_fault(
            '[limits]\nheader_size = "1MiB"\nmessage_size = "64KiB"', "limits.header_size"
        )

    def test_broken_toml_names_the_place(self) -> None:
        """The parser's line and column are passed on."""
        self.assert_fault("x = \ny = 1", "", "not TOML", "line 3")

    def test_long_values_are_cut(self) -> None:
        """A value is shown short and on one line."""
        error = self.assertRaises(ConfigError, read, f'[log]\nformat = "{"x" * 5000}"')
        self.assertLess(len(str(error)), 200)

    @settings(max_examples=100, deadline=None)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["listeners", "port", "relay", "smarthost", "retry", "delays"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        )
    )
    def test_any_table_gives_settings_or_a_config_error(self, value: object) -> None:
        """No shape of input raises anything else."""
        table = {"hostname": "a.example", **(value if isinstance(value, dict) else {"x": value})}
        try:
            loading._section(Config, table, "", DIRECTORY)
        except ConfigError:
            pass


class FileTests(SynchronousTestCase):
    """Files that cannot be read."""

    def write(self, content: bytes) -> Path:
        path = Path(self.mktemp())
        path.write_bytes(content)
        return path

    def test_a_file_is_read(self) -> None:
        """Relative names in it count from its directory."""
        path = self.write(HEAD.encode() + b'data_directory = "mail"')
        self.assertEqual(load(path).data_directory, path.absolute().parent / "mail")

    def test_errors_begin_with_the_file(self) -> None:
        """The operator sees which file and which key."""
        path = self.write(b"version = 1")
        error = self.assertRaises(ConfigError, load, path)
        self.assertTrue(str(error).startswith(f"{path}: hostname: missing"))

    def test_unreadable_files_are_errors(self) -> None:
        """Absent, a directory, not text, too large: each has its line."""
        for path, words in (
            (Path(self.mktemp()), "No such file"),
            (Path(os.curdir), "directory"),
            (self.write(b"\xff"), "UTF-8"),
            (self.write(b"#" * (loading.MAX_FILE + 1)), "larger than 1 MiB"),
        ):
            self.assertIn(words, str(self.assertRaises(ConfigError, load, path)))


class NameServerTests(SynchronousTestCase):
    """Resolver addresses."""

    def test_forms_read_back(self) -> None:
        """Every form is written so that it reads back."""
        for text in ("127.0.0.1", "127.0.0.1:5353", "2001:db8::1", "[2001:db8::1]:5353"):
            self.assertEqual(str(NameServer.parse(text)), text)
        self.assertEqual(NameServer.parse("[::1]"), NameServer("::1"))
