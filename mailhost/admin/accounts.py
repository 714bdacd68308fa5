"""What an administrator does with accounts. An account is named by its address or its id."""

from __future__ import annotations

import os
from typing import Any

from mailhost.address import Address
from mailhost.admin.errors import UsageFault
from mailhost.ids import is_id
from mailhost.interfaces.directory import Account, IDirectory
from mailhost.interfaces.login import IAdministration
from mailhost.units import AccountID


async def list_all(
    administration: IAdministration,
    domain: str | None = None,
    disabled: bool = False,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Return all accounts, or those of a domain, or the disabled ones, by address."""
    found = await administration.directory.accounts(domain)
    return [_document(each) for each in found if not (disabled and each.enabled)][:limit]


async def show(administration: IAdministration, address: str) -> dict[str, Any]:
    """Return one account."""
    return _document(await find(administration.directory, address))


async def add(
    administration: IAdministration,
    address: str,
    password: str | None = None,
    display_name: str = "",
    generate: bool = False,
) -> dict[str, Any]:
    """Create an account; its password is in the result only if it was generated."""
    secret = _secret(password, generate)
    account = await administration.directory.add_account(
        Address.parse(address), secret, display_name
    )
    return _document(account) | ({"password": secret} if generate else {})


async def set_password(
    administration: IAdministration,
    address: str,
    password: str | None = None,
    generate: bool = False,
) -> dict[str, Any]:
    """Replace the password; it is in the result only if it was generated."""
    secret = _secret(password, generate)
    account = await find(administration.directory, address)
    await administration.directory.set_password(account.account_id, secret)
    return _document(account) | ({"password": secret} if generate else {})


async def disable(administration: IAdministration, address: str) -> dict[str, Any]:
    """Forbid logins and mail."""
    return await _set_enabled(administration.directory, address, False)


async def enable(administration: IAdministration, address: str) -> dict[str, Any]:
    """Allow logins and mail again."""
    return await _set_enabled(administration.directory, address, True)


async def delete(administration: IAdministration, address: str) -> dict[str, Any]:
    """Remove the account from the directory and return what it was; its mail stays on disk."""
    account = await find(administration.directory, address)
    await administration.directory.delete_account(account.account_id)
    return _document(account)


async def find(directory: IDirectory, name: str) -> Account:
    """
    Return the account of an address or account id.

    Raises:
        NoSuchEntry: there is none.
        SyntaxFault: the name is neither.
    """
    if is_id(name):
        return await directory.account(AccountID(name))
    return await directory.account_by_address(Address.parse(name))


async def _set_enabled(directory: IDirectory, address: str, enabled: bool) -> dict[str, Any]:
    account = await find(directory, address)
    await directory.set_enabled(account.account_id, enabled)
    return _document(await directory.account(account.account_id))


def _secret(password: str | None, generate: bool) -> str:
    if generate:
        # Here, so that the command line need not load what computes password hashes.
        from mailhost.directory.passwords import random_password

        return random_password(os.urandom)
    if password is None:
        raise UsageFault("a password is needed, or --generate")
    return password


def _document(account: Account) -> dict[str, Any]:
    return {
        "account_id": account.account_id,
        "address": str(account.address),
        "display_name": account.display_name,
        "enabled": account.enabled,
        "created_at": account.created_at,
    }
