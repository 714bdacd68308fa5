"""
The table of everything an administrator can do.

Command line, control socket and later the HTTP API and its pages offer exactly these verbs, with
the same arguments and results. A verb's `run` takes the stores as an `IAdministration` and its
arguments by keyword, and is a coroutine of plain values that JSON can carry: a list of dicts for
``list``, a dict for everything else. It raises errors of `mailhost.errors` and
`mailhost.admin.errors`; `mailhost.admin.errors.failure_of` gives their exit status and words.

``list``, ``show``, ``add`` and ``delete`` mean the same for every noun: all entries that the
options select; all that is known of one; a new one; one less.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from mailhost.admin import accounts, aliases, domains, queue
from mailhost.admin.errors import UsageFault
from mailhost.interfaces.login import IAdministration

Result: TypeAlias = dict[str, Any] | list[dict[str, Any]]
Run: TypeAlias = Callable[..., Coroutine[Any, Any, Result]]


class Kind(Enum):
    """What an option's value is."""

    TEXT = "text"
    INTEGER = "integer"
    """Not negative."""
    FLAG = "flag"
    """True when the option is given; it takes no value."""


class Show(Enum):
    """How a value is shown to people; JSON has it as it is."""

    TEXT = "text"
    TIME = "time"
    """Unix seconds; 0 is shown as nothing."""
    SIZE = "size"
    """Octets."""
    YES_NO = "yes or no"
    LIST = "list"
    """A list of texts."""


@dataclass(frozen=True, slots=True)
class Argument:
    """
    A word of the command line without a dash.

    Args:
        name: the keyword for `run`; in capitals it is the placeholder in the usage text.
        many: one or more words, given to `run` as a list. Only the last argument.
        optional: `many` may be none.
    """

    name: str
    summary: str
    many: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Option:
    """
    An option, ``--name VALUE`` or ``--name``.

    `run` gets it as a keyword, with ``_`` for ``-``, only if it was given.
    """

    name: str
    summary: str
    kind: Kind = Kind.TEXT

    @property
    def keyword(self) -> str:
        """The keyword for `run`."""
        return self.name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table for people: the key in a result's dicts, and its title."""

    key: str
    title: str
    show: Show = Show.TEXT


@dataclass(frozen=True, slots=True)
class Verb:
    """
    One thing an administrator can do.

    Args:
        columns: of a list's table, or the lines of a single result, in order. A single result may
            have more keys; those are shown after.
        password: the verb wants a keyword ``password``: asked for on the terminal, or read from
            standard input (``--password-stdin``), never an argument. Not asked for when the flag
            ``generate`` is given; the result then has the key ``password``, to be shown once.
    """

    noun: str
    name: str
    summary: str
    run: Run
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    columns: tuple[Column, ...] = ()
    password: bool = False

    def bind(self, given: Mapping[str, object]) -> dict[str, Any]:
        """
        Return the keywords for `run`, checked.

        Raises:
            UsageFault: one is unknown, missing or of the wrong type.
        """
        known: dict[str, tuple[type, bool]] = {
            argument.name: (list if argument.many else str, not argument.optional)
            for argument in self.arguments
        }
        known |= {option.keyword: (_TYPES[option.kind], False) for option in self.options}
        if self.password:
            known["password"] = (str, not given.get("generate"))
        for name, value in given.items():
            if name not in known:
                raise UsageFault(f"{self.noun} {self.name} has no argument {name!r}")
            _check(name, value, known[name][0])
        for name, (_, required) in known.items():
            if required and given.get(name) in (None, []):
                raise UsageFault(f"{self.noun} {self.name} needs {name.upper()}")
        return dict(given)


_TYPES: Mapping[Kind, type] = {Kind.TEXT: str, Kind.INTEGER: int, Kind.FLAG: bool}


def _check(name: str, value: object, wanted: type) -> None:
    right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    if isinstance(value, list):
        right = right and all(isinstance(item, str) for item in value)
    elif isinstance(value, int):
        right = right and value >= 0
    if not right:
        raise UsageFault(f"{name} is not {_WORDS[wanted]}")


_WORDS: Mapping[type, str] = {
    str: "a text",
    int: "a number of 0 or more",
    bool: "true or false",
    list: "a list of texts",
}

_LIMIT = Option("limit", "Show at most so many.", Kind.INTEGER)
_DOMAIN = Option("domain", "Only those of this domain.")
_GENERATE = Option("generate", "Make a random password and show it.", Kind.FLAG)
_ADDRESS = Argument("address", "The address, local-part@domain.")
_NAME = Argument("name", "The domain name.")
_QUEUE_ID = Argument("queue_id", "The queue id, as the log has it.")
_QUEUE_IDS = Argument("queue_ids", "Queue ids.", many=True, optional=True)
_ALL = Option("all", "All messages of the queue.", Kind.FLAG)

_ACCOUNT = (
    Column("address", "Address"),
    Column("display_name", "Name"),
    Column("enabled", "Enabled", Show.YES_NO),
    Column("created_at", "Created", Show.TIME),
    Column("account_id", "Id"),
)
_DOMAIN_COLUMNS = (Column("name", "Domain"), Column("created_at", "Created", Show.TIME))
_ALIAS = (
    Column("address", "Address"),
    Column("targets", "Targets", Show.LIST),
    Column("created_at", "Created", Show.TIME),
)
_MESSAGE = (
    Column("queue_id", "Id"),
    Column("received_at", "Received", Show.TIME),
    Column("size", "Size", Show.SIZE),
    Column("reverse_path", "Sender"),
    Column("forward_paths", "Recipients", Show.LIST),
    Column("next_attempt", "Next attempt", Show.TIME),
    Column("last_diagnostic", "Last answer"),
)

_VERBS = (
    Verb(
        "account",
        "list",
        "List accounts.",
        accounts.list_all,
        options=(
            _DOMAIN,
            Option("disabled", "Only those that are disabled.", Kind.FLAG),
            _LIMIT,
        ),
        columns=_ACCOUNT,
    ),
    Verb("account", "show", "Show an account.", accounts.show, (_ADDRESS,), columns=_ACCOUNT),
    Verb(
        "account",
        "add",
        "Create an account in a domain that exists.",
        accounts.add,
        (_ADDRESS,),
        (Option("display-name", "The person's name."), _GENERATE),
        _ACCOUNT,
        password=True,
    ),
    Verb(
        "account",
        "passwd",
        "Replace an account's password.",
        accounts.set_password,
        (_ADDRESS,),
        (_GENERATE,),
        _ACCOUNT,
        password=True,
    ),
    Verb(
        "account",
        "disable",
        "Refuse an account's logins and its mail.",
        accounts.disable,
        (_ADDRESS,),
        columns=_ACCOUNT,
    ),
    Verb(
        "account",
        "enable",
        "Take an account's logins and mail again.",
        accounts.enable,
        (_ADDRESS,),
        columns=_ACCOUNT,
    ),
    Verb(
        "account",
        "delete",
        "Remove an account; its mail stays on disk.",
        accounts.delete,
        (_ADDRESS,),
        columns=_ACCOUNT,
    ),
    Verb("domain", "list", "List domains.", domains.list_all, (), (_LIMIT,), _DOMAIN_COLUMNS),
    Verb(
        "domain",
        "show",
        "Show a domain.",
        domains.show,
        (_NAME,),
        columns=(
            *_DOMAIN_COLUMNS,
            Column("accounts", "Accounts"),
            Column("aliases", "Aliases"),
        ),
    ),
    Verb(
        "domain", "add", "Take mail for a domain.", domains.add, (_NAME,), columns=_DOMAIN_COLUMNS
    ),
    Verb(
        "domain",
        "delete",
        "Give up a domain that nothing uses.",
        domains.delete,
        (_NAME,),
        columns=_DOMAIN_COLUMNS,
    ),
    Verb("alias", "list", "List aliases.", aliases.list_all, (), (_DOMAIN, _LIMIT), _ALIAS),
    Verb("alias", "show", "Show an alias.", aliases.show, (_ADDRESS,), columns=_ALIAS),
    Verb(
        "alias",
        "add",
        "Send an address's mail to other addresses.",
        aliases.add,
        (_ADDRESS, Argument("targets", "Where its mail goes.", many=True)),
        columns=_ALIAS,
    ),
    Verb("alias", "delete", "Remove an alias.", aliases.delete, (_ADDRESS,), columns=_ALIAS),
    Verb(
        "queue",
        "list",
        "List mail that waits for delivery.",
        queue.list_all,
        (),
        (
            Option("sender", "Only from this address."),
            Option("recipient", "Only to this address, or @domain."),
            _LIMIT,
        ),
        _MESSAGE,
    ),
    Verb("queue", "show", "Show a message of the queue.", queue.show, (_QUEUE_ID,), (), _MESSAGE),
    Verb(
        "queue",
        "retry",
        "Make the next attempt now.",
        queue.retry,
        (_QUEUE_IDS,),
        (_ALL,),
        (Column("messages", "Messages"),),
    ),
    Verb(
        "queue",
        "delete",
        "Drop messages without a bounce.",
        queue.delete,
        (_QUEUE_IDS,),
        (_ALL,),
        (Column("messages", "Messages"),),
    ),
)

VERBS: Mapping[tuple[str, str], Verb] = {(verb.noun, verb.name): verb for verb in _VERBS}
"""Every verb by noun and name, in the order for help texts."""


async def perform(
    administration: IAdministration, noun: str, name: str, given: Mapping[str, object]
) -> Result:
    """
    Do what was asked for, with arguments from outside (control socket, command line).

    Raises:
        UsageFault: there is no such verb, or its arguments are not right.
        MailhostError: the verb's own.
    """
    verb = VERBS.get((noun, name))
    if verb is None:
        raise UsageFault(f"there is no {noun} {name}")
    return await verb.run(administration, **verb.bind(given))
