"""The safe local mode's first start: a domain and two accounts with random passwords."""

from __future__ import annotations

import os

from mailhost.address import Address
from mailhost.directory.passwords import random_password
from mailhost.interfaces.directory import IDirectory
from mailhost.welcome import ACCOUNTS

TAKER = Address.parse(ACCOUNTS[0])
"""Gets mail for elsewhere from programs that did not log in."""


async def furnish(directory: IDirectory) -> dict[str, str]:
    """
    Create what a first start lacks and return the new passwords by address.

    Where the domain has accounts nothing is touched: an account that was deleted stays so.
    """
    if TAKER.domain not in {domain.name for domain in await directory.domains()}:
        await directory.add_domain(TAKER.domain)
    made: dict[str, str] = {}
    if not await directory.accounts(TAKER.domain):
        for text in ACCOUNTS:
            made[text] = random_password(os.urandom)
            await directory.add_account(Address.parse(text), made[text])
    return made
