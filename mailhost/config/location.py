"""
Which configuration is meant: a file, or safe local mode.

``--config``, else ``MAILHOST_CONFIG``, else ``/etc/mailhost/mailhost.toml`` if there is such a
file, else local mode: loopback only, on ports that need no privilege, with data of its own. A file
that exists and cannot be read is an error, never a reason for local mode. Server and admin
commands decide alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailhost.config.loading import load
from mailhost.config.sections import Config, Limits, Listener, Protocol, TLSMode
from mailhost.errors import ConfigError
from mailhost.units import Octets

SYSTEM_FILE = Path("/etc/mailhost/mailhost.toml")
VARIABLE = "MAILHOST_CONFIG"

LOCAL_ADDRESS = "127.0.0.1"
LOCAL_PORTS = (
    (Protocol.SMTP, 1025, TLSMode.STARTTLS),
    (Protocol.SUBMISSION, 1587, TLSMode.STARTTLS),
    (Protocol.SUBMISSION, 1465, TLSMode.IMPLICIT),
    (Protocol.IMAP, 1143, TLSMode.STARTTLS),
    (Protocol.IMAP, 1993, TLSMode.IMPLICIT),
    (Protocol.POP3, 1110, TLSMode.STARTTLS),
    (Protocol.POP3, 1995, TLSMode.IMPLICIT),
)


@dataclass(frozen=True, slots=True)
class Located:
    """
    The settings in force and where they come from.

    Args:
        path: the file, or None in local mode.
    """

    config: Config
    path: Path | None

    @property
    def is_local(self) -> bool:
        """Whether this is safe local mode."""
        return self.path is None


def locate(
    option: str | None, environ: Mapping[str, str], system_file: Path = SYSTEM_FILE
) -> Located:
    """
    Return the configuration that a command is to use.

    Args:
        option: the value of ``--config``, None if not given.
        environ: the environment.
        system_file: the file that is used when nothing else is named.

    Raises:
        ConfigError: the file that was chosen cannot be used.
    """
    path = find(option, environ, system_file)
    if path is None:
        return Located(local_mode(environ), None)
    # A daemon goes to another directory, and reads the file again from there.
    return Located(load(path), path.absolute())


def find(option: str | None, environ: Mapping[str, str], system_file: Path) -> Path | None:
    """Return the file to read, None for local mode; it is not opened."""
    if option is not None:
        return Path(option)
    if environ.get(VARIABLE):
        return Path(environ[VARIABLE])
    try:
        system_file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigError(
            str(system_file),
            f"cannot be read ({error.strerror}); run as a user who may, or name another file with "
            "--config",
        ) from None
    return system_file


def local_mode(environ: Mapping[str, str]) -> Config:
    """
    Return the settings of safe local mode.

    Raises:
        ConfigError: there is no home directory to keep the data in.
    """
    return Config(
        hostname="localhost",
        data_directory=_data_home(environ) / "mailhost-demo",
        listeners=tuple(
            Listener(protocol=protocol, port=port, tls=tls, address=LOCAL_ADDRESS)
            for protocol, port, tls in LOCAL_PORTS
        ),
        limits=Limits(
            free_space=Octets(32 * 1024 * 1024),
            connections_per_client=1000,
            connection_rate=100_000,
            imap_sessions_per_user=1000,
        ),
    )


def _data_home(environ: Mapping[str, str]) -> Path:
    # The XDG base directory rules: a relative path is not valid and is ignored.
    data_home = Path(environ.get("XDG_DATA_HOME", ""))
    if data_home.is_absolute():
        return data_home
    home = Path(environ.get("HOME", ""))
    if not home.is_absolute():
        raise ConfigError(
            "data_directory",
            "no place for local mode; set HOME or XDG_DATA_HOME, or name a file with --config",
        )
    return home / ".local" / "share"
