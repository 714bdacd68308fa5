"""
The screen that safe local mode begins with: what is there, and how to use it.

Passwords are on it at the first start only, when they were made; later starts name the command
that makes new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mailhost import __version__
from mailhost.config.sections import Config, Listener, Protocol, TLSMode

ACCOUNTS = ("demo@localhost", "test@localhost")
"""The accounts that local mode makes at its first start."""

_KINDS = (
    ("Read mail", (("IMAP", Protocol.IMAP), ("POP3", Protocol.POP3))),
    ("Send mail", (("SMTP", Protocol.SUBMISSION),)),
)
_TLS_WORDS = {TLSMode.NONE: "no TLS", TLSMode.STARTTLS: "STARTTLS", TLSMode.IMPLICIT: "TLS"}


def command_name(program: str) -> str:
    """Return how ``mailhost`` is called here: by its path, if it lies beside this program."""
    beside = Path(program).parent / "mailhost"
    return str(beside) if "/" in program and beside.exists() else "mailhost"


def welcome(
    config: Config,
    passwords: Mapping[str, str],
    *,
    seconds: float,
    command: str = "mailhost",
    as_root: bool = False,
) -> str:
    """
    Return the screen, with a line end.

    Args:
        config: of local mode.
        passwords: by address, of accounts that were made just now; empty at later starts.
        seconds: how long the start took.
        command: how the ``mailhost`` script is called here.
        as_root: say that this runs as root.
    """
    lines = [
        f"mailhost {__version__}, safe local mode: only this machine can connect to it,",
        "and no mail leaves it. Mail to other domains is delivered to its sender, else to demo.",
        "",
        *_accounts(passwords, command),
        "",
        *_settings(config.listeners),
        "",
        *_tries(config.listeners, passwords),
        f"  Data        {config.data_directory}",
        f"  Go public   {command} config sample > /etc/mailhost/mailhost.toml",
    ]
    if as_root:
        lines.append("  Note        this runs as root; any other user can run it as well")
    lines += ["", f"Ready in {seconds:.1f} s. Ctrl-C stops it; the data stays.", ""]
    return "\n".join(lines)


def _accounts(passwords: Mapping[str, str], command: str) -> Iterator[str]:
    if not passwords:
        yield f"  Accounts    {', '.join(ACCOUNTS)}"
        yield "  Passwords   were shown at the first start; for a new one:"
        yield f"              {command} account passwd {ACCOUNTS[0]} --generate"
        return
    width = max(map(len, passwords))
    label = "Accounts"
    for address, password in passwords.items():
        yield f"  {label:<10}  {address:<{width}}  password  {password}"
        label = ""
    yield f"  {'':<10}  Write them down: they are not shown again."


def _settings(listeners: Sequence[Listener]) -> Iterator[str]:
    for label, kinds in _KINDS:
        for name, protocol in kinds:
            ports = [
                f"port {listener.port}  {_TLS_WORDS[listener.tls]:<8}"
                for listener in listeners
                if listener.protocol is protocol
            ]
            if ports:
                yield f"  {label:<10}  {name}  localhost  {'   or  '.join(ports)}".rstrip()
                label = ""
    yield "  User name   the whole address; the password is sent inside TLS only"
    yield "  TLS         the certificate is self-signed: accept it once"
    plain = [entry.port for entry in listeners if entry.protocol is Protocol.SMTP]
    if plain:
        yield f"  Programs    may send to these accounts without a login: SMTP port {plain[0]}"


def _tries(listeners: Sequence[Listener], passwords: Mapping[str, str]) -> Iterator[str]:
    submission = _port(listeners, Protocol.SUBMISSION)
    imap = _port(listeners, Protocol.IMAP)
    if submission is None or imap is None:
        return
    sender, reader = ACCOUNTS
    first = passwords.get(sender, "PASSWORD")
    second = passwords.get(reader, "PASSWORD")
    yield "  Try it      (in another terminal)"
    yield f"    printf 'Subject: Hello\\n\\nIt works.\\n' | curl -sk -T - -u {sender}:{first} \\"
    yield f"      smtps://localhost:{submission} --mail-from {sender} --mail-rcpt {reader}"
    yield f"    curl -sk 'imaps://localhost:{imap}/INBOX;MAILINDEX=*' -u {reader}:{second}"
    yield ""


def _port(listeners: Sequence[Listener], protocol: Protocol) -> int | None:
    for listener in listeners:
        if listener.protocol is protocol and listener.tls is TLSMode.IMPLICIT:
            return listener.port
    return None
