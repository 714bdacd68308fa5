"""
The command line of an administrator: words to a verb, its result to the terminal.

``mailhost NOUN VERB ...`` and ``twistd mailhost admin NOUN VERB ...`` are the same commands, made
from `mailhost.admin.verbs.VERBS`, with ``config`` and ``version`` beside them. Options may stand
before or after arguments, ``--json`` and ``--config`` at any level. The classes here hold argument
parsing only.

Everything ends in an exit status of `ExitStatus`, with one line on standard error (a JSON object
with ``--json``) for what went wrong; results go to standard output.

A command beside a running server takes no longer than its imports, so what only some commands need
(the stores, TLS) is imported by these.
"""

from __future__ import annotations

import getopt
import getpass
import json
import os
import platform
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TextIO, cast

from twisted.python import usage

from mailhost import __version__
from mailhost.admin import access
from mailhost.admin.errors import CommandFailure, ExitStatus, UsageFault, failure_of
from mailhost.admin.identity import take_identity
from mailhost.admin.output import as_json, as_text
from mailhost.admin.verbs import VERBS, Kind, Result, Verb
from mailhost.config.location import SYSTEM_FILE, Located, locate
from mailhost.config.sample import plain, sample, shown
from mailhost.config.sections import Config
from mailhost.control import CallFailure
from mailhost.observe import safe_text

MAX_PASSWORD = 4096
INTERRUPTED = 130

NOUNS: Mapping[str, str] = {
    "account": "People and programs that log in and receive mail.",
    "domain": "Domains whose mail is kept here.",
    "alias": "Addresses whose mail goes to other addresses.",
    "queue": "Mail that waits for delivery.",
}


@dataclass(slots=True)
class Surroundings:
    """
    What a command has around it.

    Args:
        system_file: the configuration file that counts when none is named.
        prompt: asks for a password without showing it.
    """

    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    prompt: Callable[[str], str] = getpass.getpass
    system_file: Path = SYSTEM_FILE


class CommandOptions(usage.Options):
    """What every level of the command line takes."""

    optFlags: ClassVar[list[list[str | None]]] = [["json", None, "JSON for programs."]]
    optParameters: ClassVar[list[list[Any]]] = [["config", "c", None, "The configuration file."]]
    words = ""
    """What leads here, as it is typed."""

    def opt_version(self) -> None:
        """Show the version."""
        print(f"mailhost {__version__}")
        raise SystemExit(ExitStatus.OK)

    def getSynopsis(self) -> str:
        """The first line of the help text."""
        following = " COMMAND" if getattr(self, "subCommands", None) else self.placeholders()
        return f"Usage: mailhost{self.words and ' ' + self.words} [options]{following}"

    def placeholders(self) -> str:
        """The arguments in the help text."""
        return ""

    def chosen(self, name: str) -> Any:
        """The value of an option of every level, here or further out."""
        level: Any = self
        while level is not None:
            if level.get(name) not in (None, 0):
                return level[name]
            level = level.parent
        return None

    def postOptions(self) -> None:
        """Every level but the last needs a command after it."""
        if getattr(self, "subCommands", None) and self.subCommand is None:
            known = ", ".join(entry[0] for entry in self.subCommands)  # type: ignore[attr-defined]
            before = self.words and f"{self.words}: "
            raise usage.UsageError(f"{before}a command is needed: {known}")


class Leaf(CommandOptions, ABC):
    """A command. `run` performs it and returns its exit status."""

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse, with options before, between and after the arguments."""
        try:
            found, arguments = getopt.gnu_getopt(options or [], self.shortOpt, self.longOpt)
        except getopt.GetoptError as error:
            raise usage.UsageError(f"{self.words}: {error}") from None
        ordered: list[str] = []
        for name, value in found:
            if name.startswith("--") and f"{name[2:]}=" in self.longOpt:
                ordered.append(f"{name}={value}")
            else:
                ordered += [name, value] if value else [name]
        super().parseOptions([*ordered, "--", *arguments])

    def parseArgs(self, *arguments: str) -> None:
        """Take no arguments."""
        if arguments:
            raise usage.UsageError(f"{self.words} takes no argument {arguments[0]!r}")

    def located(self, around: Surroundings) -> Located:
        """The configuration that is meant; ConfigError."""
        return locate(self.chosen("config"), around.environ, around.system_file)

    @abstractmethod
    def run(self, around: Surroundings) -> int:
        """Do it; raises what `failure_of` knows."""

    def write(self, around: Surroundings, text: str, document: object) -> None:
        """Show a result."""
        around.stdout.write(as_json(document) if self.chosen("json") else text)
        around.stdout.flush()


class VerbLeaf(Leaf):
    """A verb of the table."""

    verb: ClassVar[Verb]

    def placeholders(self) -> str:
        """The arguments in the help text."""
        shown_words = ""
        for argument in self.verb.arguments:
            name = argument.name.upper() + ("..." if argument.many else "")
            shown_words += f" [{name}]" if argument.optional else f" {name}"
        return shown_words

    def parseArgs(self, *arguments: str) -> None:
        """Give the words to the verb's arguments, the last of them all that are left."""
        words = list(arguments)
        self.given: dict[str, object] = {}
        for argument in self.verb.arguments:
            if argument.many:
                self.given[argument.name], words = words, []
            elif words:
                self.given[argument.name] = words.pop(0)
        if words:
            raise usage.UsageError(f"{self.words}: {words[0]!r} is one word too many")
        for option in self.verb.options:
            value = self[option.name]
            if value not in (None, 0):
                self.given[option.keyword] = _converted(self.words, option.name, option.kind, value)

    def postOptions(self) -> None:
        """Say what is missing before anything is asked for."""
        super().postOptions()
        rehearsal = dict(self.given)
        if self.verb.password and not rehearsal.get("generate"):
            rehearsal["password"] = ""
        try:
            self.verb.bind(rehearsal)
        except UsageFault as error:
            raise usage.UsageError(str(error)) from None

    def run(self, around: Surroundings) -> int:
        """Perform the verb, through the server or on the files."""
        located = self.located(around)
        arguments = dict(self.given)
        if self.verb.password and not arguments.get("generate"):
            arguments["password"] = _password(around, bool(self["password-stdin"]))
        directory = located.config.data_directory
        if not located.is_local or directory.exists():
            take_identity(directory)
        result = access.perform(
            directory,
            self.verb.noun,
            self.verb.name,
            arguments,
            partial(_on_files, located.config),
        )
        self.write(around, as_text(result, self.verb.columns), result)
        return ExitStatus.OK


def _on_files(config: Config, noun: str, verb: str, arguments: Mapping[str, object]) -> Result:
    from mailhost.admin.offline import perform_offline

    return perform_offline(config, noun, verb, arguments)


def _converted(words: str, name: str, kind: Kind, value: object) -> object:
    if kind is Kind.FLAG:
        return True
    if kind is Kind.INTEGER:
        if not (str(value).isascii() and str(value).isdigit()):
            raise usage.UsageError(f"{words}: --{name} wants a number, not {value!r}")
        return int(str(value))
    return value


def _password(around: Surroundings, from_stdin: bool) -> str:
    """
    Return a new password, from standard input or asked for twice.

    Raises:
        UsageFault: there is none, or the two differ.
    """
    if from_stdin:
        password = around.stdin.readline(MAX_PASSWORD + 2).rstrip("\r\n")
    elif not around.stdin.isatty():
        raise UsageFault("no terminal to ask for a password; use --password-stdin or --generate")
    else:
        password = around.prompt("New password: ")
        if around.prompt("Again: ") != password:
            raise UsageFault("the two passwords differ; nothing was changed")
    if not password:
        raise UsageFault("the password is empty; nothing was changed")
    if len(password) > MAX_PASSWORD:
        raise UsageFault("the password is too long; nothing was changed")
    return password


class ConfigCheck(Leaf):
    """``config check``."""

    words = "config check"
    longdesc = "Check the configuration file and the files it names."

    def run(self, around: Surroundings) -> int:
        """Say that all is well, or raise the first error; list every other problem."""
        from mailhost.admin import checks

        located = self.located(around)
        problems = checks.problems(located.config, local=located.is_local)
        where = str(located.path) if located.path else "no file: safe local mode"
        document = {
            "path": str(located.path) if located.path else None,
            "valid": not problems,
            "problems": [{"path": path, "problem": problem} for path, problem in problems],
        }
        text = "".join(f"{path}: {problem}\n" for path, problem in problems)
        self.write(around, text or f"{where}: valid\n", document)
        return ExitStatus.CONFIG if problems else ExitStatus.OK


class ConfigShow(Leaf):
    """``config show``."""

    words = "config show"
    longdesc = "Show every setting in force."

    def run(self, around: Surroundings) -> int:
        """Show the settings as TOML that reads back as the same."""
        located = self.located(around)
        where = located.path or "no file: safe local mode"
        text = f"# {safe_text(where)}\n{shown(located.config)}"
        self.write(around, text, plain(located.config))
        return ExitStatus.OK


class ConfigSample(Leaf):
    """``config sample``."""

    words = "config sample"
    longdesc = "Show a configuration file with every default in comments."

    def run(self, around: Surroundings) -> int:
        """Show it; there is no other form of it."""
        around.stdout.write(sample())
        return ExitStatus.OK


class ConfigOptions(CommandOptions):
    """``config``."""

    words = "config"
    subCommands: ClassVar[list[Any]] = [
        ["check", None, ConfigCheck, ConfigCheck.longdesc],
        ["show", None, ConfigShow, ConfigShow.longdesc],
        ["sample", None, ConfigSample, ConfigSample.longdesc],
    ]


class Version(Leaf):
    """``version``."""

    words = "version"
    longdesc = "Show the version of mailhost and of what it stands on."

    def run(self, around: Surroundings) -> int:
        """Show versions, as a report of a fault should have them."""
        from importlib.metadata import version as version_of

        document = {"mailhost": __version__, "python": platform.python_version()}
        for package in ("Twisted", "pyOpenSSL", "cryptography", "dnspython", "argon2-cffi", "idna"):
            document[package] = version_of(package)
        text = "".join(f"{name} {number}\n" for name, number in document.items())
        self.write(around, text, document)
        return ExitStatus.OK


def _leaf_of(verb: Verb) -> type[VerbLeaf]:
    flags = [[each.name, None, each.summary] for each in verb.options if each.kind is Kind.FLAG]
    if verb.password:
        flags.append(["password-stdin", None, "Read the password from standard input, one line."])
    parameters = [
        [each.name, None, None, each.summary] for each in verb.options if each.kind is not Kind.FLAG
    ]
    arguments = "".join(f"\n  {each.name.upper():<12}  {each.summary}" for each in verb.arguments)
    return type(
        f"{verb.noun}_{verb.name}",
        (VerbLeaf,),
        {
            "verb": verb,
            "words": f"{verb.noun} {verb.name}",
            "longdesc": verb.summary,
            "optFlags": flags,
            "optParameters": parameters,
            "__doc__": arguments or None,
            "getUsage": _usage_with(arguments),
        },
    )


def _usage_with(arguments: str) -> Callable[..., str]:
    def get_usage(self: VerbLeaf, width: int | None = None) -> str:
        text: str = Leaf.getUsage(self, width)
        return f"{text.rstrip()}\nArguments:{arguments}\n" if arguments else text

    return get_usage


def _noun_of(noun: str, summary: str) -> type[CommandOptions]:
    commands = [
        [verb.name, None, _leaf_of(verb), verb.summary]
        for verb in VERBS.values()
        if verb.noun == noun
    ]
    return type(
        f"{noun}_options",
        (CommandOptions,),
        {"words": noun, "longdesc": summary, "subCommands": commands},
    )


class AdminOptions(CommandOptions):
    """Every command of an administrator."""

    longdesc = "Domains, accounts and mail of this server."
    subCommands: ClassVar[list[Any]] = [
        *([noun, None, _noun_of(noun, summary), summary] for noun, summary in NOUNS.items()),
        ["config", None, ConfigOptions, "The configuration."],
        ["version", None, Version, Version.longdesc],
    ]

    def run(self, around: Surroundings | None = None) -> int:
        """Perform the command that was parsed and return its exit status; never raises."""
        around = around or Surroundings()
        leaf: Any = self
        while leaf.subCommand is not None:
            leaf = leaf.subOptions
        try:
            return int(cast(Leaf, leaf).run(around))
        except BrokenPipeError:
            # Whoever read our output has seen enough.
            _discard_output()
            return ExitStatus.OK
        except KeyboardInterrupt:
            return INTERRUPTED
        except Exception as error:
            failure = _failure(error)
            if failure.kind == "internal":
                traceback.print_exc(file=around.stderr)
            _complain(around, failure, bool(leaf.chosen("json")))
            return int(failure.status)


def _discard_output() -> None:
    # The interpreter would try to write what is left, and complain.
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
    except (OSError, ValueError):
        return


def _failure(error: Exception) -> CommandFailure:
    if isinstance(error, CallFailure):
        return CommandFailure(ExitStatus(error.status), error.kind, error.message)
    return failure_of(error)


def _complain(around: Surroundings, failure: CommandFailure, as_document: bool) -> None:
    if as_document:
        text = json.dumps(asdict(failure))
    else:
        text = f"mailhost: {safe_text(failure.message, 2000)}"
    around.stderr.write(text + "\n")
    around.stderr.flush()


def parse(words: list[str], options: usage.Options, stderr: TextIO) -> None:
    """
    Parse a command line.

    Raises:
        SystemExit: it is wrong, which was said in one line; or help was asked for.
    """
    try:
        usage.Options.parseOptions(options, words)
    except usage.UsageError as error:
        text = str(error).replace("option --", "unknown or incomplete option --", 0)
        stderr.write(f"mailhost: {safe_text(text, 2000)}; --help tells more\n")
        raise SystemExit(int(ExitStatus.USAGE)) from None


def main(words: list[str] | None = None) -> None:
    """Run one command of the ``mailhost`` script; ends with SystemExit."""
    options = AdminOptions()
    parse(sys.argv[1:] if words is None else words, options, sys.stderr)
    raise SystemExit(options.run())
