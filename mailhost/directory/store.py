"""
``directory.sqlite``: domains, accounts, aliases and credentials on disk.

Every method blocks, and one thread at a time may call: the directory's own thread in a server, or
the main thread of an administrator's command while no server runs. Each change is one transaction
with ``synchronous=FULL``: when the method returns, it is on stable storage, and it returns the
generation that it made.

Errors: `DirectoryError` and its subclasses for what is refused, `DataDirectoryError` when a newer
mailhost wrote the file, sqlite3.Error when the file cannot be read or written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailhost.address import Address, parse_domain
from mailhost.database import connect, migrate
from mailhost.directory.passwords import SALT_LENGTH, PasswordHash, check_password
from mailhost.directory.roster import Identity, OwnNames, Roster, lookup_key
from mailhost.directory.schema import STEPS
from mailhost.errors import DirectoryError, EntryExists, NoSuchEntry
from mailhost.ids import new_id
from mailhost.interfaces.directory import Account, Alias, Domain
from mailhost.units import AccountID
from mailhost.wire.sasl import MIN_ITERATIONS, SCRAMVerifier, scram_verifier

ARGON2ID = "argon2id"
SCRAM_SHA_256 = "scram-sha-256"

SCRAM_ITERATIONS = 65_536
"""Clients with Cyrus SASL (isync, KMail, Postfix) refuse a login that asks for more."""
MAX_ALIAS_TARGETS = 1000
MAX_DISPLAY_NAME = 256

# Characters by which old mailers route; an address with one must never be ours.
_ROUTING = frozenset("%!@")


@dataclass(frozen=True, slots=True)
class Credential:
    """
    One way to prove who one is.

    Args:
        scope: protocols it is good for; empty: all.
        expires: Unix time, or None.
    """

    kind: str
    scope: tuple[str, ...]
    salt: bytes
    iterations: int
    verifier: bytes
    expires: float | None

    def __repr__(self) -> str:
        return f"Credential(kind={self.kind!r})"

    def covers(self, protocol: str, now: float) -> bool:
        """Whether it is good for the protocol at this time."""
        return (not self.scope or protocol in self.scope) and (
            self.expires is None or now < self.expires
        )

    def scram(self) -> SCRAMVerifier:
        """The verifier of a scram-sha-256 credential."""
        half = len(self.verifier) // 2
        return SCRAMVerifier(self.salt, self.iterations, self.verifier[:half], self.verifier[half:])


class ChangeWatch:
    """Notices commits of other connections, in a microsecond and without waiting."""

    def __init__(self, path: str | Path) -> None:
        self._connection = connect(path, synchronous="NORMAL", read_only=True)
        # The event thread asks: it would rather have an error than wait.
        self._connection.execute("PRAGMA busy_timeout=0")
        self._version = self._read()

    def changed(self) -> bool:
        """Whether anybody committed since the last call."""
        version = self._read()
        if version == self._version:
            return False
        self._version = version
        return True

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _read(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


class DirectoryStore:
    """
    The directory's database.

    Args:
        path: the file, created when absent.
        scram_iterations: for verifiers of passwords set from now on, at least 4096 (RFC 7677 4);
            0: none are kept.
        now: gives Unix time.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        password_hash: PasswordHash | None = None,
        scram_iterations: int = SCRAM_ITERATIONS,
        now: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if scram_iterations and scram_iterations < MIN_ITERATIONS:
            raise ValueError(f"scram_iterations is {scram_iterations}, below {MIN_ITERATIONS}")
        self.path = path
        self.scram_iterations = scram_iterations
        self._hash = password_hash or PasswordHash()
        self._now = now
        self._random_bytes = random_bytes
        self._connection = connect(path)
        try:
            migrate(self._connection, STEPS, str(path))
            self._install()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def watch(self) -> ChangeWatch:
        """Return what notices commits, for any one thread. The caller closes it."""
        return ChangeWatch(self.path)

    # Reading.

    def secret(self) -> bytes:
        """32 random octets of this installation, always the same."""
        row = self._connection.execute(
            "SELECT value FROM installation WHERE name = 'secret'"
        ).fetchone()
        return bytes(row[0])

    def load(self, names: OwnNames) -> Roster:
        """Read everything but credentials, as of one moment."""
        self._connection.execute("BEGIN")
        try:
            return Roster(
                names,
                self._generation(),
                [Domain(*row) for row in self._connection.execute("SELECT * FROM domain")],
                [_identity(row) for row in self._connection.execute(_SELECT_ACCOUNT)],
                self._aliases(),
            )
        finally:
            self._connection.execute("COMMIT")

    def credentials(self, account_id: AccountID, kind: str) -> tuple[Credential, ...]:
        """The account's credentials of a kind; none for an account that does not exist."""
        rows = self._connection.execute(
            "SELECT kind, scope, salt, iterations, verifier, expires FROM credential"
            " WHERE account_id = ? AND kind = ? ORDER BY credential_id",
            (account_id, kind),
        )
        return tuple(
            Credential(row[0], tuple(row[1].split()), row[2] or b"", row[3] or 0, row[4], row[5])
            for row in rows
        )

    # Changing.

    def add_domain(self, name: str) -> tuple[int, Domain]:
        """Take a domain."""
        domain = Domain(parse_domain(name), self._now())
        if domain.name.startswith("["):
            raise DirectoryError("an address literal is not a domain")
        with self._transaction():
            if self._has_domain(domain.name):
                raise EntryExists(f"the domain {domain.name} exists already")
            self._connection.execute(
                "INSERT INTO domain VALUES (?, ?)", (domain.name, domain.created_at)
            )
            return self._advance(), domain

    def delete_domain(self, name: str) -> tuple[int, str]:
        """Give up a domain that nothing uses."""
        name = parse_domain(name)
        with self._transaction():
            self._require_domain(name)
            for table, what in (("account", "accounts"), ("alias", "aliases")):
                query = f"SELECT count(*) FROM {table} WHERE domain = ?"  # noqa: S608
                count = self._connection.execute(query, (name,)).fetchone()[0]
                if count:
                    raise DirectoryError(
                        f"the domain {name} is in use: {what}: {count}; delete them first"
                    )
            self._connection.execute("DELETE FROM domain WHERE name = ?", (name,))
            return self._advance(), name

    def add_account(
        self, address: Address, password: str, display_name: str = ""
    ) -> tuple[int, Identity]:
        """Create an account in an existing domain."""
        _check_local_part(address)
        if len(display_name) > MAX_DISPLAY_NAME or not display_name.isprintable():
            raise DirectoryError(
                f"the display name is not usable: at most {MAX_DISPLAY_NAME} printable characters"
            )
        secrets = self._secrets(password)
        now = self._now()
        account_id = AccountID(new_id(now, self._random_bytes))
        identity = Identity(Account(account_id, address, display_name, True, now), 1)
        with self._transaction():
            self._require_free(address)
            self._connection.execute(
                "INSERT INTO account VALUES (?, ?, ?, ?, ?, 1, ?, 1)",
                (
                    account_id,
                    lookup_key(address),
                    address.local_part,
                    address.domain,
                    display_name,
                    now,
                ),
            )
            self._insert(account_id, secrets)
            return self._advance(), identity

    def set_password(self, account_id: AccountID, password: str) -> tuple[int, Identity]:
        """Replace the credentials that cover everything."""
        secrets = self._secrets(password)
        with self._transaction():
            self._require_account(account_id)
            self._connection.execute(
                "DELETE FROM credential WHERE account_id = ? AND scope = '' AND label = ''",
                (account_id,),
            )
            self._insert(account_id, secrets)
            return self._touch(account_id)

    def set_enabled(self, account_id: AccountID, enabled: bool) -> tuple[int, Identity]:
        """Allow or forbid logins and mail."""
        with self._transaction():
            self._require_account(account_id)
            self._connection.execute(
                "UPDATE account SET enabled = ? WHERE account_id = ?", (int(enabled), account_id)
            )
            return self._touch(account_id)

    def delete_account(self, account_id: AccountID) -> tuple[int, AccountID]:
        """Remove an account and its credentials."""
        with self._transaction():
            self._require_account(account_id)
            self._connection.execute("DELETE FROM account WHERE account_id = ?", (account_id,))
            return self._advance(), account_id

    def add_alias(self, address: Address, targets: Sequence[Address]) -> tuple[int, Alias]:
        """Create an alias in an existing domain."""
        _check_local_part(address)
        distinct = tuple({lookup_key(target): target for target in targets}.values())
        if not distinct:
            raise DirectoryError("an alias needs a target")
        if len(distinct) > MAX_ALIAS_TARGETS:
            raise DirectoryError(f"an alias has at most {MAX_ALIAS_TARGETS} targets")
        key = lookup_key(address)
        if any(lookup_key(target) == key for target in distinct):
            raise DirectoryError("an alias cannot be its own target")
        alias = Alias(address, distinct, self._now())
        with self._transaction():
            self._require_free(address)
            self._connection.execute(
                "INSERT INTO alias VALUES (?, ?, ?, ?)",
                (key, address.local_part, address.domain, alias.created_at),
            )
            self._connection.executemany(
                "INSERT INTO alias_target VALUES (?, ?, ?, ?)",
                [
                    (key, position, target.local_part, target.domain)
                    for position, target in enumerate(distinct)
                ],
            )
            return self._advance(), alias

    def delete_alias(self, address: Address) -> tuple[int, Address]:
        """Remove an alias."""
        with self._transaction():
            cursor = self._connection.execute(
                "DELETE FROM alias WHERE address_key = ?", (lookup_key(address),)
            )
            if not cursor.rowcount:
                raise NoSuchEntry(f"there is no alias {address}")
            return self._advance(), address

    # Parts.

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _install(self) -> None:
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO installation VALUES (?, ?) ON CONFLICT DO NOTHING",
                [("generation", 0), ("secret", self._random_bytes(32))],
            )

    def _generation(self) -> int:
        row = self._connection.execute(
            "SELECT value FROM installation WHERE name = 'generation'"
        ).fetchone()
        return int(row[0])

    def _advance(self) -> int:
        self._connection.execute(
            "UPDATE installation SET value = value + 1 WHERE name = 'generation'"
        )
        return self._generation()

    def _touch(self, account_id: AccountID) -> tuple[int, Identity]:
        # After a change of what a proof is worth.
        self._connection.execute(
            "UPDATE account SET credentials_version = credentials_version + 1 WHERE account_id = ?",
            (account_id,),
        )
        generation = self._advance()
        return generation, self._require_account(account_id)

    def _has_domain(self, name: str) -> bool:
        query = "SELECT 1 FROM domain WHERE name = ?"
        return self._connection.execute(query, (name,)).fetchone() is not None

    def _require_domain(self, name: str) -> None:
        if not self._has_domain(name):
            raise NoSuchEntry(f"there is no domain {name}")

    def _require_account(self, account_id: AccountID) -> Identity:
        row = self._connection.execute(
            f"{_SELECT_ACCOUNT} WHERE account_id = ?", (account_id,)
        ).fetchone()
        if row is None:
            raise NoSuchEntry(f"there is no account {account_id}")
        return _identity(row)

    def _require_free(self, address: Address) -> None:
        self._require_domain(address.domain)
        for table in ("account", "alias"):
            query = f"SELECT 1 FROM {table} WHERE address_key = ?"  # noqa: S608
            if self._connection.execute(query, (lookup_key(address),)).fetchone():
                raise EntryExists(f"{address} exists already, as {table}")

    def _aliases(self) -> list[Alias]:
        targets: dict[str, list[Address]] = {}
        for key, local_part, domain in self._connection.execute(
            "SELECT address_key, local_part, domain FROM alias_target"
            " ORDER BY address_key, position"
        ):
            targets.setdefault(key, []).append(Address(local_part, domain))
        return [
            Alias(Address(local_part, domain), tuple(targets.get(key, ())), created_at)
            for key, local_part, domain, created_at in self._connection.execute(
                "SELECT * FROM alias"
            )
        ]

    def _secrets(self, password: str) -> list[Credential]:
        # The slow part; done before the transaction, so that nobody waits for it.
        prepared = check_password(password)
        credentials = [Credential(ARGON2ID, (), b"", 0, self._hash.hash(prepared), None)]
        if self.scram_iterations:
            verifier = scram_verifier(
                prepared, self._random_bytes(SALT_LENGTH), self.scram_iterations
            )
            credentials.append(
                Credential(
                    SCRAM_SHA_256,
                    (),
                    verifier.salt,
                    verifier.iterations,
                    verifier.stored_key + verifier.server_key,
                    None,
                )
            )
        return credentials

    def _insert(self, account_id: AccountID, credentials: Sequence[Credential]) -> None:
        self._connection.executemany(
            "INSERT INTO credential"
            " (account_id, kind, scope, salt, iterations, verifier, created_at, expires)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    account_id,
                    each.kind,
                    " ".join(each.scope),
                    each.salt,
                    each.iterations,
                    each.verifier,
                    self._now(),
                    each.expires,
                )
                for each in credentials
            ],
        )


_SELECT_ACCOUNT = (
    "SELECT account_id, local_part, domain, display_name, enabled, created_at,"
    " credentials_version FROM account"
)


def _identity(row: tuple[str, str, str, str, int, float, int]) -> Identity:
    account_id, local_part, domain, display_name, enabled, created_at, version = row
    account = Account(
        AccountID(account_id), Address(local_part, domain), display_name, bool(enabled), created_at
    )
    return Identity(account, version)


def _check_local_part(address: Address) -> None:
    routing = _ROUTING.intersection(address.local_part)
    if routing:
        raise DirectoryError(f"{address} would look like a route: leave out {min(routing)}")
