"""SEARCH and UID SEARCH (RFC 9051 6.4.4, RFC 4731, RFC 5182, RFC 7162 3.1.5)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import compress

from mailhost.errors import MailhostError
from mailhost.imap.entry import Answer, CommandEntry, State, offered
from mailhost.imap.session import IMAPSession
from mailhost.interfaces.access import Column
from mailhost.wire.imap import commands as grammar
from mailhost.wire.imap import responses, search_keys, sequence_set
from mailhost.wire.imap.commands import SearchReturn


async def run(session: IMAPSession, command: grammar.Search) -> Answer:
    """Find messages."""
    mailbox, view = session.selected()
    returns = command.returns
    saves = returns is not None and SearchReturn.SAVE in returns
    try:
        criterion, wants_mod_seq = search_keys.parse(command.keys, command.charset, view.ranges)
        found = await mailbox.search(criterion, view.recent_from)
    except MailhostError:
        if saves:
            # RFC 5182 2.1: a failed search leaves an empty result.
            view.saved = array("I")
        raise
    if wants_mod_seq:
        session.enable_condstore()
    # What came or went since the client was told is not there for it.
    uids: Sequence[int] = found
    known = view.numbers(found)
    if not all(known):
        uids = list(compress(found, known))
    if returns is None:
        mod_seq = await _highest(session, uids) if wants_mod_seq else None
        numbers = uids if command.uid else view.numbers(uids)
        session.write(responses.search(numbers, mod_seq))
        return b"OK SEARCH completed"
    if saves:
        view.saved = _saved(uids, returns)
    shown = returns & ~SearchReturn.SAVE
    if shown:
        mod_seq = await _highest(session, _named(uids, returns)) if wants_mod_seq else None
        numbers = uids if command.uid else view.numbers(uids)
        results = _results(numbers, returns, mod_seq)
        session.write(responses.esearch(session.tag, command.uid, results))
    return b"OK SEARCH completed"


def _results(
    numbers: Sequence[int], returns: SearchReturn, mod_seq: int | None
) -> list[tuple[bytes, bytes]]:
    results: list[tuple[bytes, bytes]] = []
    if numbers:
        if SearchReturn.MIN in returns:
            results.append((b"MIN", b"%d" % numbers[0]))
        if SearchReturn.MAX in returns:
            results.append((b"MAX", b"%d" % numbers[-1]))
        if SearchReturn.ALL in returns:
            results.append((b"ALL", sequence_set.encode(numbers)))
    if SearchReturn.COUNT in returns:
        results.append((b"COUNT", b"%d" % len(numbers)))
    if mod_seq is not None and numbers:
        results.append((b"MODSEQ", b"%d" % mod_seq))
    return results


def _ends(uids: Sequence[int], returns: SearchReturn) -> list[int]:
    chosen = list(uids[:1]) if SearchReturn.MIN in returns else []
    return chosen + (list(uids[-1:]) if SearchReturn.MAX in returns else [])


def _saved(uids: Sequence[int], returns: SearchReturn) -> array[int]:
    # RFC 5182 2.4: with only MIN or MAX just these are kept.
    if returns & (SearchReturn.ALL | SearchReturn.COUNT) or returns == SearchReturn.SAVE:
        return array("I", uids)
    return array("I", sorted(set(_ends(uids, returns))))


def _named(uids: Sequence[int], returns: SearchReturn) -> Sequence[int]:
    # RFC 7162 3.1.5 (of RFC 4731 3.2): with only MIN or MAX the mod-sequence is that of these.
    if returns & (SearchReturn.ALL | SearchReturn.COUNT):
        return uids
    return sorted(set(_ends(uids, returns)))


async def _highest(session: IMAPSession, uids: Sequence[int]) -> int | None:
    mailbox, _ = session.selected()
    highest = 0
    portion = session.settings.portion
    for start in range(0, len(uids), portion):
        records = await mailbox.records(uids[start : start + portion], Column.MOD_SEQ)
        highest = max([highest, *(record.mod_seq for record in records)])
    return highest or None


SEARCH = CommandEntry(
    b"SEARCH",
    grammar.search(False),
    run,
    State.SELECTED,
    expunges=False,
    capabilities=offered(b"ESEARCH", b"SEARCHRES"),
)
UID_SEARCH = CommandEntry(b"UID SEARCH", grammar.search(True), run, State.SELECTED)
