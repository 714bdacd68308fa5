"""
What ``config check`` looks at beyond the file itself: the files and addresses that it names.

The loader has seen that every setting is legal; these are the things that would only show when the
server starts. Nothing is changed and nothing is asked of the network.
"""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from mailhost.config.sections import Config, Listener
from mailhost.errors import ConfigError
from mailhost.tls import read_credential


def problems(config: Config, *, local: bool) -> list[tuple[str, str]]:
    """
    Return (path, problem) for everything that would stop the server, as far as can be seen.

    Args:
        config: loaded and legal.
        local: safe local mode, which makes its data directory itself.
    """
    return [
        *_certificates(config),
        *_smarthost(config),
        *_data_directory(config.data_directory, local),
        *_addresses(config.listeners),
    ]


def _certificates(config: Config) -> Iterator[tuple[str, str]]:
    for index, files in enumerate(config.certificates):
        try:
            read_credential(files, f"certificates[{index}]")
        except ConfigError as error:
            yield error.path, error.problem


def _smarthost(config: Config) -> Iterator[tuple[str, str]]:
    smarthost = config.relay.smarthost
    if smarthost is None or smarthost.password_file is None:
        return
    try:
        line = smarthost.password_file.read_text("utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        yield (
            "relay.smarthost.password_file",
            f"{smarthost.password_file} cannot be read ({reason}); check the name and its "
            "permissions",
        )
        return
    if not line:
        yield (
            "relay.smarthost.password_file",
            f"{smarthost.password_file} is empty; write the password in its first line",
        )
    if stat.S_IMODE(smarthost.password_file.stat().st_mode) & 0o007:
        yield (
            "relay.smarthost.password_file",
            f"{smarthost.password_file} can be read by everybody; chmod 600 it",
        )


def _data_directory(path: Path, local: bool) -> Iterator[tuple[str, str]]:
    try:
        facts = path.stat()
    except FileNotFoundError:
        if not local:
            yield (
                "data_directory",
                f"{path} does not exist; create it for the user that the server runs as: "
                f"install -d -m 700 -o USER {path}",
            )
        return
    except OSError as error:
        yield "data_directory", f"{path}: {error.strerror}; choose another or give access"
        return
    if not stat.S_ISDIR(facts.st_mode):
        yield "data_directory", f"{path} is no directory; choose another"
    elif stat.S_IMODE(facts.st_mode) & 0o077:
        yield "data_directory", f"{path} is open to other users; chmod 700 it"


def _addresses(listeners: tuple[Listener, ...]) -> Iterator[tuple[str, str]]:
    for index, listener in enumerate(listeners):
        if listener.address == "*":
            continue
        family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((listener.address, 0))
        except OSError as error:
            yield (
                f"listeners[{index}].address",
                f"{listener.address} is no address of this machine ({error.strerror})",
            )
