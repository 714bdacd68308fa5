"""The command line: words, statuses, passwords, and the verbs on a stopped server's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailhost import __version__
from mailhost.admin import access, command_line
from mailhost.admin.command_line import NOUNS, AdminOptions, Surroundings, main, parse
from mailhost.admin.verbs import VERBS
from mailhost.config.sample import sample
from mailhost.control import CallFailure

PASSWORD = "correct horse battery staple"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class CommandLineCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir()
        self.data = self.base / "data"
        self.data.mkdir(mode=0o700)
        self.config = self.base / "mailhost.toml"
        self.config.write_text(
            f'version = 1\nhostname = "mx.a.example"\ndata_directory = "{self.data}"\n'
        )
        self.answers: list[str] = []

    def run_words(
        self, *words: str, stdin: str | StringIO = "", environ: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error of a command."""
        if environ is None:
            environ = {"MAILHOST_CONFIG": str(self.config), "HOME": str(self.base)}
        around = Surroundings(
            stdin=StringIO(stdin) if isinstance(stdin, str) else stdin,
            stdout=StringIO(),
            stderr=StringIO(),
            environ=environ,
            prompt=self.prompt,
            system_file=self.base / "none",
        )
        options = AdminOptions()
        try:
            parse(list(words), options, around.stderr)
        except SystemExit as end:
            status = int(end.code or 0)
        else:
            status = options.run(around)
        return status, around.stdout.getvalue(), around.stderr.getvalue()  # type: ignore[attr-defined]

    def prompt(self, text: str) -> str:
        return self.answers.pop(0)

    def json(self, *words: str, stdin: str = "") -> Any:
        status, out, err = self.run_words(*words, "--json", stdin=stdin)
        self.assertEqual((status, err), (0, ""))
        return json.loads(out)

    def populate(self) -> None:
        self.json("domain", "add", "a.example")
        self.json("account", "add", "bob@a.example", "--password-stdin", stdin=PASSWORD)


class ParsingTests(CommandLineCase):
    """Words to verbs."""

    def test_every_verb_is_a_command(self) -> None:
        """The table and the command line have the same."""
        self.assertEqual({noun for noun, _ in VERBS}, set(NOUNS))
        for noun, verb in VERBS:
            status, out, _ = self.capture("--help", before=(noun, verb))
            self.assertEqual(status, 0)
            self.assertIn(f"Usage: mailhost {noun} {verb} [options]", out)

    def capture(self, *words: str, before: Iterable[str] = ()) -> tuple[int, str, str]:
        stdout = StringIO()
        self.patch(sys, "stdout", stdout)
        status, _, err = self.run_words(*before, *words)
        return status, stdout.getvalue(), err

    def test_help_names_arguments_and_options(self) -> None:
        """What a verb takes is told with its words."""
        _, out, _ = self.capture("account", "add", "--help")
        for words in ("ADDRESS", "--display-name=", "--password-stdin", "--generate", "--json"):
            self.assertIn(words, out)
        _, out, _ = self.capture("--help")
        for noun in (*NOUNS, "config", "version"):
            self.assertIn(noun, out)

    def test_options_stand_anywhere(self) -> None:
        """Before, between and after the words; ``--config`` and ``--json`` at every level."""
        self.populate()
        config = f"--config={self.config}"
        for words in (
            (config, "--json", "account", "list", "--domain", "a.example"),
            ("account", "-c", str(self.config), "--json", "list", "--domain=a.example"),
            ("account", "list", "--domain", "a.example", "--json", config),
            (config, "account", "show", "--json", "bob@a.example"),
            (config, "account", "show", "bob@a.example", "--json"),
        ):
            status, out, err = self.run_words(*words, environ={"HOME": str(self.base)})
            self.assertEqual((status, err), (0, ""), words)
            self.assertIn("bob@a.example", str(json.loads(out)))

    def test_mistakes_are_one_line_and_status_64(self) -> None:
        """Each says what is wrong, and nothing is done."""
        for words, said in (
            ((), "a command is needed"),
            (("acount",), "acount"),
            (("account",), "account: a command is needed: list, show, add"),
            (("account", "remove"), "remove"),
            (("account", "show"), "needs ADDRESS"),
            (("account", "show", "a", "b"), "one word too many"),
            (("account", "show", "a", "--nonsense"), "nonsense"),
            (("account", "list", "--limit", "x"), "wants a number"),
            (("account", "list", "--limit"), "limit"),
            (("alias", "add", "a@a.example"), "needs TARGETS"),
            (("version", "x"), "takes no argument"),
        ):
            status, out, err = self.run_words(*words)
            self.assertEqual((status, out), (64, ""), words)
            self.assertIn(said, err)
            self.assertEqual(err.count("\n"), 1)
        self.assertEqual(list(self.data.iterdir()), [])

    def test_a_word_that_begins_with_a_dash(self) -> None:
        """``--`` ends the options."""
        status, _, err = self.run_words("domain", "show", "--", "-x.example")
        self.assertEqual(status, 65, err)

    def test_version(self) -> None:
        """Versions of what it stands on, for a report of a fault."""
        document = self.json("version")
        self.assertEqual(document["mailhost"], __version__)
        self.assertIn("Twisted", document)
        status, out, _ = self.capture("--version")
        self.assertEqual((status, out), (0, f"mailhost {__version__}\n"))

    def test_main_ends_with_the_status(self) -> None:
        """The console script's exit status is the command's."""
        self.patch(sys, "stdout", StringIO())
        self.assertEqual(self.assertRaises(SystemExit, main, ["version"]).code, 0)
        self.patch(sys, "stderr", StringIO())
        self.assertEqual(self.assertRaises(SystemExit, main, ["nothing"]).code, 64)


class ImportTests(SynchronousTestCase):
    """What a command beside a running server does not load."""

    def test_stores_and_tls_are_loaded_by_what_needs_them(self) -> None:
        """They would triple the time of a command."""
        script = "import sys, mailhost.admin.command_line; print(*sys.modules, sep=chr(10))"
        path = [str(Path(access.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        loaded = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            check=True,
            text=True,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(path)),
        ).stdout.splitlines()
        heavy = ("OpenSSL", "argon2", "cryptography", "mailhost.directory.store")
        self.assertIn("mailhost.admin.verbs", loaded)
        self.assertEqual([name for name in heavy if name in loaded], [])


class PasswordTests(CommandLineCase):
    """Passwords come from the terminal or standard input, never from the command line."""

    def setUp(self) -> None:
        super().setUp()
        self.json("domain", "add", "a.example")

    def add(self, *words: str, stdin: str | StringIO) -> tuple[int, str]:
        status, _, err = self.run_words("account", "add", "bob@a.example", *words, stdin=stdin)
        return status, err

    def test_from_standard_input(self) -> None:
        """The first line, without its end."""
        self.assertEqual(self.add("--password-stdin", stdin=f"{PASSWORD}\r\nmore\n"), (0, ""))

    def test_asked_for_twice(self) -> None:
        """On a terminal; the same answer both times."""
        self.answers = [PASSWORD, PASSWORD]
        self.assertEqual(self.add(stdin=Terminal()), (0, ""))
        self.assertEqual(self.answers, [])

    def test_two_answers_that_differ(self) -> None:
        """Nothing is changed."""
        self.answers = [PASSWORD, "other"]
        status, err = self.add(stdin=Terminal())
        self.assertEqual(status, 64)
        self.assertIn("differ", err)
        self.assertEqual(self.json("account", "list"), [])

    def test_no_terminal_and_no_option(self) -> None:
        """A script is told which option it needs instead of reading what was not meant."""
        status, err = self.add(stdin=PASSWORD)
        self.assertEqual(status, 64)
        self.assertIn("--password-stdin", err)

    def test_an_empty_or_endless_password(self) -> None:
        """Both are refused before anything is opened."""
        self.assertEqual(self.add("--password-stdin", stdin="")[0], 64)
        self.assertEqual(self.add("--password-stdin", stdin="x" * 100_000)[0], 64)
        self.answers = ["", ""]
        self.assertEqual(self.add(stdin=Terminal())[0], 64)

    def test_generated(self) -> None:
        """It is shown once and nothing is asked."""
        document = self.json("account", "add", "bob@a.example", "--generate")
        self.assertGreaterEqual(len(document["password"]), 12)
        again = self.json("account", "passwd", "bob@a.example", "--generate")
        self.assertNotEqual(again["password"], document["password"])

    def test_there_is_no_option_that_takes_it(self) -> None:
        """Other users see the command line of a process."""
        self.assertEqual(self.add("--password", PASSWORD, stdin="")[0], 64)
        self.assertEqual(self.add(PASSWORD, stdin="")[0], 64)


class StoppedServerTests(CommandLineCase):
    """Verbs on the files of a server that does not run."""

    def test_accounts_and_aliases(self) -> None:
        """What one command adds the next one shows."""
        self.populate()
        self.json("alias", "add", "info@a.example", "bob@a.example", "x@b.example")
        self.assertEqual(
            [entry["address"] for entry in self.json("account", "list")], ["bob@a.example"]
        )
        (alias,) = self.json("alias", "list")
        self.assertEqual(alias["targets"], ["bob@a.example", "x@b.example"])
        self.assertFalse(self.json("account", "disable", "bob@a.example")["enabled"])
        status, out, _ = self.run_words("account", "list")
        self.assertEqual(status, 0)
        self.assertRegex(out, r"\AAddress +Name +Enabled +Created +Id\nbob@a\.example +no ")

    def test_the_queue(self) -> None:
        """An empty one, which was never there before."""
        self.assertEqual(self.json("queue", "list"), [])
        self.assertEqual(self.json("queue", "retry", "--all"), {"messages": 0})
        self.assertEqual(self.json("queue", "delete", "--all"), {"messages": 0})
        status, _, err = self.run_words("queue", "show", "0" * 26)
        self.assertEqual(status, 65, err)

    def test_refusals_have_status_65(self) -> None:
        """Not there, there already, not an address: one line each."""
        self.populate()
        for words in (
            ("account", "show", "eve@a.example"),
            ("domain", "add", "a.example"),
            ("domain", "delete", "a.example"),
            ("account", "show", "not an address"),
        ):
            status, out, err = self.run_words(*words)
            self.assertEqual((status, out), (65, ""), words)
            self.assertRegex(err, r"\Amailhost: .+\n\Z")

    def test_an_error_for_programs(self) -> None:
        """With ``--json`` the error is an object on standard error."""
        status, out, err = self.run_words("account", "show", "eve@a.example", "--json")
        self.assertEqual((status, out), (65, ""))
        document = json.loads(err)
        self.assertEqual((document["status"], document["kind"]), (65, "no-such-entry"))

    def test_a_bad_configuration_is_78(self) -> None:
        """The path of the mistake is named, nothing is made."""
        self.config.write_text("version = 1")
        status, _, err = self.run_words("account", "list")
        self.assertEqual(status, 78)
        self.assertIn(f"{self.config}: hostname: missing", err)

    def test_a_newer_database_is_78(self) -> None:
        """A newer program's file is left alone."""
        import sqlite3

        connection = sqlite3.connect(self.data / "directory.sqlite")
        connection.execute("PRAGMA user_version = 9999")
        connection.close()
        status, _, err = self.run_words("account", "list")
        self.assertEqual(status, 78, err)
        self.assertIn("newer", err)

    def test_a_damaged_database_is_one_line(self) -> None:
        """And it is not overwritten."""
        damaged = self.data / "directory.sqlite"
        damaged.write_bytes(b"this is no database" * 100)
        before = damaged.read_bytes()
        status, _, err = self.run_words("account", "list")
        self.assertEqual(status, 75)
        self.assertRegex(err, r"\Amailhost: .+\n\Z")
        self.assertEqual(damaged.read_bytes(), before)

    def test_the_servers_failure_keeps_its_status(self) -> None:
        """What the server answers is shown as if it had been found here."""

        def failing(*_: object, **__: object) -> Any:
            raise CallFailure(69, "unavailable", "the server\nis gone")

        self.patch(access, "perform", failing)
        status, _, err = self.run_words("account", "list")
        self.assertEqual((status, err), (69, "mailhost: the server\\x0ais gone\n"))

    def test_our_own_fault_shows_its_traceback(self) -> None:
        """A report of it needs one; the status says to try again."""

        def failing(*_: object, **__: object) -> Any:
            raise ZeroDivisionError("why")

        self.patch(access, "perform", failing)
        status, _, err = self.run_words("account", "list")
        self.assertEqual(status, 75)
        self.assertIn("ZeroDivisionError: why", err)
        self.assertRegex(err.splitlines()[-1], r"\Amailhost: internal error")

    def test_root_does_not_make_a_missing_directory(self) -> None:
        """It would belong to root; the command that makes it is named."""
        self.patch(os, "geteuid", lambda: 0)
        self.data.rmdir()
        status, _, err = self.run_words("account", "list")
        self.assertEqual(status, 78)
        self.assertIn("install -d -m 700", err)

    def test_root_becomes_the_owner(self) -> None:
        """Before anything in the directory is opened."""
        became: list[Path] = []

        def take(directory: Path) -> None:
            self.assertEqual(list(directory.iterdir()), [])
            became.append(directory)

        self.patch(command_line, "take_identity", take)
        self.json("domain", "add", "a.example")
        self.assertEqual(became, [self.data])

    def test_local_mode_without_a_configuration(self) -> None:
        """The commands find the same data as ``twistd -n mailhost``."""
        environ = {"XDG_DATA_HOME": str(self.base / "xdg")}
        self.assertEqual(self.run_words("domain", "add", "localhost", environ=environ)[0], 0)
        self.assertTrue((self.base / "xdg" / "mailhost-demo" / "directory.sqlite").exists())


class ConfigTests(CommandLineCase):
    """``config``."""

    def test_check_of_a_good_file(self) -> None:
        """One line and status 0."""
        self.assertEqual(self.run_words("config", "check"), (0, f"{self.config}: valid\n", ""))
        self.assertEqual(self.json("config", "check")["problems"], [])

    def test_check_lists_every_problem_of_the_surroundings(self) -> None:
        """What would stop the server later is found now."""
        self.data.chmod(0o755)
        secret = self.base / "password"
        secret.write_text("\n")
        secret.chmod(0o644)
        with self.config.open("a") as file:
            file.write(
                '[[certificates]]\ncertificate = "none.pem"\nkey = "none.pem"\n'
                '[relay.smarthost]\nhost = "b.example"\nuser = "x"\npassword_file = "password"\n'
                '[[listeners]]\nprotocol = "smtp"\nport = 25\naddress = "203.0.113.77"\n'
            )
        status, out, _ = self.run_words("config", "check")
        self.assertEqual(status, 78)
        self.assertEqual(
            [line.split(": ")[0] for line in out.splitlines()],
            [
                "certificates[0].certificate",
                "relay.smarthost.password_file",
                "relay.smarthost.password_file",
                "data_directory",
                "listeners[0].address",
            ],
        )

    def test_check_of_a_missing_data_directory(self) -> None:
        """The command that makes it is named; local mode makes its own."""
        self.data.rmdir()
        status, out, _ = self.run_words("config", "check")
        self.assertEqual(status, 78)
        self.assertIn("install -d", out)
        self.data.write_bytes(b"")
        self.assertIn("no directory", self.run_words("config", "check")[1])
        environ = {"HOME": str(self.base)}
        self.assertEqual(self.run_words("config", "check", environ=environ)[0], 0)

    def test_check_of_a_file_that_cannot_be_used(self) -> None:
        """The loader's line and status."""
        self.config.write_text("nonsense")
        status, out, err = self.run_words("config", "check")
        self.assertEqual((status, out), (78, ""))
        self.assertIn("not TOML", err)

    def test_show(self) -> None:
        """TOML for people, numbers for programs."""
        status, out, _ = self.run_words("config", "show")
        self.assertEqual(status, 0)
        self.assertIn('hostname = "mx.a.example"', out)
        self.assertEqual(self.json("config", "show")["limits"]["message_size"], 50 << 20)

    def test_sample(self) -> None:
        """The file that comes with the package."""
        self.assertEqual(self.run_words("config", "sample"), (0, sample(), ""))
