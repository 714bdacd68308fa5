"""What lies where in the data directory; server and administrator's commands agree by this."""

from __future__ import annotations

from pathlib import Path


def directory_database(data_directory: Path) -> Path:
    """Domains, accounts, aliases, credentials."""
    return data_directory / "directory.sqlite"


def spool_directory(data_directory: Path) -> Path:
    """Accepted mail until it is delivered."""
    return data_directory / "spool"


def tls_directory(data_directory: Path) -> Path:
    """The self-signed certificate."""
    return data_directory / "tls"
