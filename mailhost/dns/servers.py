"""The DNS servers that the system is configured to ask."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import TypeAlias

Server: TypeAlias = tuple[str, int]
"""Address and port of a DNS server."""

DNS_PORT = 53
RESOLV_CONF = Path("/etc/resolv.conf")
MAX_SERVERS = 8


def parse_resolv_conf(text: str) -> tuple[Server, ...]:
    """
    Return the servers that the text of a ``resolv.conf`` names, in its order.

    Lines that name no address are passed over, as the C library does. Without any server it is
    the one on this machine (resolv.conf(5)). Search lists do not concern a mail server, whose
    names are always complete.
    """
    servers: list[Server] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            ip_address(words[1].partition("%")[0])
        except ValueError:
            continue
        if (words[1], DNS_PORT) not in servers:
            servers.append((words[1], DNS_PORT))
    return tuple(servers[:MAX_SERVERS]) or (("127.0.0.1", DNS_PORT),)


def system_servers(path: Path = RESOLV_CONF) -> tuple[Server, ...]:
    """Return the servers of the file, or the one on this machine if it cannot be read. Blocks."""
    try:
        text = path.read_text("utf-8", "replace")
    except OSError:
        text = ""
    return parse_resolv_conf(text)


def is_loopback(server: Server) -> bool:
    """Whether the server is on this machine, so that nobody can change its answers on the way."""
    try:
        return ip_address(server[0]).is_loopback
    except ValueError:
        return False
