"""What an administrator does with domains."""

from __future__ import annotations

from typing import Any

from mailhost.address import parse_domain
from mailhost.errors import NoSuchEntry
from mailhost.interfaces.directory import Domain, IDirectory
from mailhost.interfaces.login import IAdministration


async def list_all(
    administration: IAdministration, limit: int | None = None
) -> list[dict[str, Any]]:
    """Return all domains, by name."""
    return [_document(domain) for domain in await administration.directory.domains()][:limit]


async def show(administration: IAdministration, name: str) -> dict[str, Any]:
    """Return one domain with how many accounts and aliases it has."""
    domain = await _find(administration.directory, name)
    accounts = await administration.directory.accounts(domain.name)
    aliases = await administration.directory.aliases(domain.name)
    return _document(domain) | {"accounts": len(accounts), "aliases": len(aliases)}


async def add(administration: IAdministration, name: str) -> dict[str, Any]:
    """Take mail for a domain; an internationalised name is kept as A-labels."""
    return _document(await administration.directory.add_domain(name))


async def delete(administration: IAdministration, name: str) -> dict[str, Any]:
    """Give up a domain that no account or alias uses, and return what it was."""
    domain = await _find(administration.directory, name)
    await administration.directory.delete_domain(domain.name)
    return _document(domain)


async def _find(directory: IDirectory, name: str) -> Domain:
    wanted = parse_domain(name)
    for domain in await directory.domains():
        if domain.name == wanted:
            return domain
    raise NoSuchEntry(f"there is no domain {wanted}")


def _document(domain: Domain) -> dict[str, Any]:
    return {"name": domain.name, "created_at": domain.created_at}
