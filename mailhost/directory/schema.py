"""
The tables of ``directory.sqlite``, as migration steps; only ever appended to.

``account.account_id`` is random and never reused; everything else about an account may change.
``address_key`` is `mailhost.directory.roster.lookup_key`. ``credentials_version`` grows with every
change of an account's credentials or of whether it is enabled, so that a remembered proof of a
login can be told from a current one. ``installation`` holds the ``generation``, which grows with
every change of anything, and the ``secret`` from which salts of users that do not exist are made.

A credential's ``scope`` is empty (everything) or protocol names with spaces between; its
``verifier`` is a PHC text (argon2id) or StoredKey and ServerKey (scram-sha-256).
"""

from __future__ import annotations

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE installation (
        name TEXT PRIMARY KEY,
        value ANY NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE domain (
        name TEXT PRIMARY KEY,
        created_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE account (
        account_id TEXT PRIMARY KEY,
        address_key TEXT NOT NULL UNIQUE,
        local_part TEXT NOT NULL,
        domain TEXT NOT NULL REFERENCES domain (name),
        display_name TEXT NOT NULL,
        enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
        created_at REAL NOT NULL,
        credentials_version INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX account_by_domain ON account (domain);

    CREATE TABLE alias (
        address_key TEXT PRIMARY KEY,
        local_part TEXT NOT NULL,
        domain TEXT NOT NULL REFERENCES domain (name),
        created_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE INDEX alias_by_domain ON alias (domain);

    CREATE TABLE alias_target (
        address_key TEXT NOT NULL REFERENCES alias (address_key) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        local_part TEXT NOT NULL,
        domain TEXT NOT NULL,
        PRIMARY KEY (address_key, position)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE credential (
        credential_id INTEGER PRIMARY KEY,
        account_id TEXT NOT NULL REFERENCES account (account_id) ON DELETE CASCADE,
        kind TEXT NOT NULL,
        scope TEXT NOT NULL DEFAULT '',
        label TEXT NOT NULL DEFAULT '',
        salt BLOB,
        iterations INTEGER,
        verifier BLOB NOT NULL,
        created_at REAL NOT NULL,
        expires REAL
    ) STRICT;

    CREATE INDEX credential_by_account ON credential (account_id, kind);
    """,
)
