"""STORE and UID STORE (RFC 9051 6.4.6, RFC 7162 3.1.3)."""

from __future__ import annotations

from mailhost.imap.entry import Answer, CommandEntry, State
from mailhost.imap.session import IMAPSession
from mailhost.interfaces.access import FlagOperation
from mailhost.units import ModSeq
from mailhost.wire.imap import commands as grammar
from mailhost.wire.imap import sequence_set

_OPERATIONS = {operation.value.encode(): operation for operation in FlagOperation}


async def run(session: IMAPSession, command: grammar.Store) -> Answer:
    """Change flags and show what they are now."""
    mailbox, view = session.writable_mailbox()
    uids = view.select(command.numbers, command.uid)
    unchanged_since = command.unchanged_since
    if unchanged_since is not None:
        session.enable_condstore()
    if not uids:
        return b"OK STORE completed"
    result = await mailbox.store(
        uids,
        _OPERATIONS[command.operation],
        command.flags,
        None if unchanged_since is None else ModSeq(unchanged_since),
    )
    view.told(result.stored)
    if view.learn_keywords(flag for _, flags, _ in result.stored for flag in flags):
        session.write_keywords()
    _show(session, command, result.stored)
    if result.modified:
        numbers = result.modified if command.uid else view.numbers(result.modified)
        modified = sequence_set.encode([number for number in numbers if number])
        return b"OK [MODIFIED %b] Some messages had changed" % modified
    return b"OK STORE completed"


def _show(
    session: IMAPSession,
    command: grammar.Store,
    stored: tuple[tuple[int, tuple[str, ...], int], ...],
) -> None:
    _, view = session.selected()
    if command.silent and not session.condstore:
        return
    for uid, flags, mod_seq in stored:
        number = view.number(uid)
        if not number:
            continue
        if not command.silent:
            session.write_flags(uid, flags, mod_seq, with_uid=command.uid)
        else:
            # RFC 7162 3.1.3: a silent STORE keeps quiet of flags only.
            name = b"UID %d " % uid if command.uid else b""
            session.write(b"* %d FETCH (%bMODSEQ (%d))\r\n" % (number, name, mod_seq))


STORE = CommandEntry(b"STORE", grammar.store(False), run, State.SELECTED, expunges=False)
UID_STORE = CommandEntry(b"UID STORE", grammar.store(True), run, State.SELECTED)
