"""
The tables of ``account.sqlite``.

``account``          one row: identity, mod-sequence counter, what is reserved of it, epoch.
``mailbox``          one row a mailbox: name, directory, UIDVALIDITY, UIDs, counters.
``message``          one row for each message, whatever the number of its placements.
``placement``        one row for each message in a mailbox: UID, flags, mod-sequence, location.
``tombstone``        one row for each placement that was removed, until it expires.
``deleted_mailbox``  likewise; `moved` 0 while its directory may still be in the Maildir.
``pending_rename``   directories of a RENAME that may not be renamed yet.
``pending_copy``     files of a COPY whose placements are not committed.
``keyword``, ``keyword_set``, ``subscription``, ``thread_reference``
``acl``, ``seen``, ``metadata``  empty until mailboxes are shared.

Steps are only ever appended to.
"""

from __future__ import annotations

STEPS = (
    """
    CREATE TABLE account (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        account_id TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        mod_seq INTEGER NOT NULL,
        mod_seq_reserved INTEGER NOT NULL,
        uid_validity INTEGER NOT NULL,
        barrier INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE mailbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        mailbox_id TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL UNIQUE,
        directory TEXT NOT NULL UNIQUE,
        special_use TEXT NOT NULL,
        uid_validity INTEGER NOT NULL,
        uid_next INTEGER NOT NULL,
        uid_reserved INTEGER NOT NULL,
        mod_seq INTEGER NOT NULL,
        vanished_floor INTEGER NOT NULL DEFAULT 0,
        recent_from INTEGER NOT NULL,
        messages INTEGER NOT NULL,
        unseen INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        size INTEGER NOT NULL,
        seen_new INTEGER NOT NULL,
        seen_cur INTEGER NOT NULL
    );
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        email_id TEXT NOT NULL,
        blob BLOB NOT NULL,
        size INTEGER NOT NULL,
        date INTEGER NOT NULL,
        zone INTEGER NOT NULL,
        thread INTEGER NOT NULL,
        sent_day INTEGER NOT NULL
    );
    CREATE TABLE placement (
        mailbox INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        message INTEGER NOT NULL,
        flags INTEGER NOT NULL,
        mod_seq INTEGER NOT NULL,
        added INTEGER NOT NULL,
        state INTEGER NOT NULL,
        key TEXT NOT NULL,
        location TEXT NOT NULL,
        PRIMARY KEY (mailbox, uid)
    ) WITHOUT ROWID;
    CREATE INDEX placement_by_key ON placement (key);
    CREATE INDEX placement_by_change ON placement (mailbox, mod_seq);
    CREATE TABLE tombstone (
        mailbox INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        message INTEGER NOT NULL,
        added INTEGER NOT NULL,
        mod_seq INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        key TEXT NOT NULL,
        file TEXT NOT NULL,
        PRIMARY KEY (mailbox, uid)
    ) WITHOUT ROWID;
    CREATE INDEX tombstone_by_key ON tombstone (key);
    CREATE INDEX tombstone_by_change ON tombstone (mailbox, mod_seq);
    CREATE TABLE deleted_mailbox (
        mailbox_id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        directory TEXT NOT NULL,
        file TEXT NOT NULL,
        mod_seq INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        moved INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE pending_rename (
        source TEXT PRIMARY KEY,
        target TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE pending_copy (
        mailbox INTEGER NOT NULL,
        key TEXT NOT NULL,
        location TEXT NOT NULL,
        PRIMARY KEY (mailbox, key)
    ) WITHOUT ROWID;
    CREATE TABLE keyword (
        mailbox INTEGER NOT NULL,
        position INTEGER NOT NULL,
        word TEXT NOT NULL,
        PRIMARY KEY (mailbox, position)
    ) WITHOUT ROWID;
    CREATE TABLE keyword_set (id INTEGER PRIMARY KEY, words TEXT NOT NULL UNIQUE);
    CREATE TABLE subscription (name TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE thread_reference (hash INTEGER PRIMARY KEY, thread INTEGER NOT NULL);
    CREATE TABLE acl (
        mailbox INTEGER NOT NULL,
        identifier TEXT NOT NULL,
        rights TEXT NOT NULL,
        PRIMARY KEY (mailbox, identifier)
    ) WITHOUT ROWID;
    CREATE TABLE seen (
        mailbox INTEGER NOT NULL,
        account_id TEXT NOT NULL,
        uid INTEGER NOT NULL,
        mod_seq INTEGER NOT NULL,
        PRIMARY KEY (mailbox, account_id, uid)
    ) WITHOUT ROWID;
    CREATE TABLE metadata (
        mailbox INTEGER NOT NULL,
        account_id TEXT NOT NULL,
        entry TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (mailbox, account_id, entry)
    ) WITHOUT ROWID;
    """,
)
