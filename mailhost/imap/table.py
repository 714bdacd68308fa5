"""
The command table: every command that this server knows.

A further command is a module in `mailhost.imap.commands` and a line here; the capability line and
what ENABLE knows follow from the entries.
"""

from __future__ import annotations

from mailhost.imap.commands import (
    append,
    authenticate,
    capability,
    close,
    copy,
    create,
    delete,
    enable,
    expunge,
    fetch,
    id,
    idle,
    login,
    logout,
    move,
    namespace,
    noop,
    rename,
    search,
    select,
    starttls,
    status,
    store,
    subscribe,
)
from mailhost.imap.commands import list as list_
from mailhost.imap.entry import CommandTable

COMMANDS = CommandTable(
    (
        capability.COMMAND,
        noop.NOOP,
        logout.COMMAND,
        starttls.COMMAND,
        login.COMMAND,
        authenticate.COMMAND,
        id.COMMAND,
        enable.COMMAND,
        namespace.COMMAND,
        idle.COMMAND,
        list_.LIST,
        list_.LSUB,
        status.COMMAND,
        select.SELECT,
        select.EXAMINE,
        create.COMMAND,
        delete.COMMAND,
        rename.COMMAND,
        subscribe.SUBSCRIBE,
        subscribe.UNSUBSCRIBE,
        append.COMMAND,
        noop.CHECK,
        close.CLOSE,
        close.UNSELECT,
        expunge.EXPUNGE,
        expunge.UID_EXPUNGE,
        search.SEARCH,
        search.UID_SEARCH,
        fetch.FETCH,
        fetch.UID_FETCH,
        store.STORE,
        store.UID_STORE,
        copy.COPY,
        copy.UID_COPY,
        move.MOVE,
        move.UID_MOVE,
    )
)
