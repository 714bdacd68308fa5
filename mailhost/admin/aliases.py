"""What an administrator does with aliases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailhost.address import Address
from mailhost.errors import NoSuchEntry
from mailhost.interfaces.directory import Alias, IDirectory
from mailhost.interfaces.login import IAdministration


async def list_all(
    administration: IAdministration, domain: str | None = None, limit: int | None = None
) -> list[dict[str, Any]]:
    """Return all aliases, or those of a domain, by address."""
    return [_document(alias) for alias in await administration.directory.aliases(domain)][:limit]


async def show(administration: IAdministration, address: str) -> dict[str, Any]:
    """Return one alias."""
    return _document(await _find(administration.directory, address))


async def add(
    administration: IAdministration, address: str, targets: Sequence[str]
) -> dict[str, Any]:
    """Send the mail of an address in our domains to other addresses, ours or not."""
    return _document(
        await administration.directory.add_alias(
            Address.parse(address), [Address.parse(target) for target in targets]
        )
    )


async def delete(administration: IAdministration, address: str) -> dict[str, Any]:
    """Remove an alias and return what it was."""
    alias = await _find(administration.directory, address)
    await administration.directory.delete_alias(alias.address)
    return _document(alias)


async def _find(directory: IDirectory, address: str) -> Alias:
    wanted = Address.parse(address)
    for alias in await directory.aliases(wanted.domain):
        if alias.address.key == wanted.key:
            return alias
    raise NoSuchEntry(f"there is no alias {wanted}")


def _document(alias: Alias) -> dict[str, Any]:
    return {
        "address": str(alias.address),
        "targets": [str(target) for target in alias.targets],
        "created_at": alias.created_at,
    }
