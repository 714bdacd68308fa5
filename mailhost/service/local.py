"""
The safe local mode's first start: a domain, two accounts, and one screen that says how to use them.

The passwords are random and shown once, on the terminal, never in the log. Later starts keep
everything and name the command that makes new ones.
"""

from __future__ import annotations

import os
from pathlib import Path

from mailhost.address import Address
from mailhost.config.sections import Config, Listener, Protocol, TLSMode
from mailhost.directory.passwords import random_password
from mailhost.interfaces.directory import IDirectory

DOMAIN = "localhost"
TAKER = Address("demo", DOMAIN)
"""Gets mail for elsewhere from programs that did not log in."""
ACCOUNTS = (TAKER, Address("test", DOMAIN))

_NAMES = {
    (Protocol.SMTP, TLSMode.STARTTLS): ("SMTP", "no login needed"),
    (Protocol.SUBMISSION, TLSMode.STARTTLS): ("Submission", "STARTTLS, login"),
    (Protocol.SUBMISSION, TLSMode.IMPLICIT): ("Submission", "TLS, login"),
    (Protocol.IMAP, TLSMode.STARTTLS): ("IMAP", "STARTTLS"),
    (Protocol.IMAP, TLSMode.IMPLICIT): ("IMAP", "TLS"),
    (Protocol.POP3, TLSMode.STARTTLS): ("POP3", "STARTTLS"),
    (Protocol.POP3, TLSMode.IMPLICIT): ("POP3", "TLS"),
}


async def furnish(directory: IDirectory, config: Config) -> str:
    """
    Create what is missing and return the screen to show.

    Accounts that exist keep their passwords. An account that was deleted on purpose comes back
    only with the domain: the domain is the mark of a first start.
    """
    known = {domain.name for domain in await directory.domains()}
    made: list[tuple[Address, str]] = []
    if DOMAIN not in known:
        await directory.add_domain(DOMAIN)
    have = {account.address.key for account in await directory.accounts(DOMAIN)}
    if not have:
        for address in ACCOUNTS:
            password = random_password(os.urandom)
            await directory.add_account(address, password)
            made.append((address, password))
    return screen(config, made)


def _line(listener: Listener) -> str:
    name, how = _NAMES.get((listener.protocol, listener.tls), (listener.protocol.value, ""))
    return f"    {name:<11} {listener.address}:{listener.port:<6} {how}"


def screen(config: Config, made: list[tuple[Address, str]]) -> str:
    """Return what a person at the terminal is told; `made` are new accounts with passwords."""
    lines = [
        "",
        "mailhost is ready: safe local mode.",
        "  Only programs on this machine can connect. Mail for any other domain comes back to a",
        "  mailbox here; nothing is sent to the Internet.",
        "",
        *map(_line, config.listeners),
        "",
    ]
    if made:
        lines.append("  Log in with (shown this once):")
        lines += [f"    {str(address):<17} password  {password}" for address, password in made]
    else:
        lines.append("  Accounts and mail are as they were. A new password for an account:")
        lines.append("    twistd mailhost admin account passwd demo@localhost")
    certificate = Path(config.data_directory) / "tls"
    lines += [
        "",
        f"  Data         {config.data_directory}",
        f"  Certificate  self-signed, in {certificate}; a client asks once whether to trust it",
        "",
    ]
    lines += _examples(config, made)
    lines += ["  Stop with Ctrl-C.", ""]
    return "\n".join(lines)


def _examples(config: Config, made: list[tuple[Address, str]]) -> list[str]:
    ports = {(each.protocol, each.tls): each.port for each in config.listeners}
    smtp = ports.get((Protocol.SMTP, TLSMode.STARTTLS))
    imap = ports.get((Protocol.IMAP, TLSMode.IMPLICIT))
    if smtp is None or imap is None:
        return []
    login = f"demo@localhost:{made[0][1]}" if made else "demo@localhost"
    return [
        "  Try it:",
        "    printf 'Subject: Hello\\n\\nIt works.\\n' | \\",
        f"      curl -sT - smtp://127.0.0.1:{smtp} --mail-from me@example.org"
        " --mail-rcpt demo@localhost",
        f"    curl -sk 'imaps://127.0.0.1:{imap}/INBOX;MAILINDEX=1' -u '{login}'",
        "",
    ]
