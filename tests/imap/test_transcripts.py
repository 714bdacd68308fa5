"""Every transcript of ``tests/transcripts/imap``, four ways."""

from __future__ import annotations

from mailhost.imap.settings import IMAPSettings
from mailhost.interfaces.access import FlagOperation
from tests.imap.peer import IMAPPeer, fill, numbered
from tests.transcript import Peer, TranscriptTests, ways


def _later(peer: IMAPPeer, what: str) -> None:
    """Do something to alice's INBOX that another session would do."""
    account = peer.account("alice")
    inbox = account.named("INBOX")
    assert inbox is not None
    verb, *words = what.split()
    if verb == "deliver":
        account.deliver("INBOX", numbered(inbox.uid_next))
    elif verb == "expunge":
        account.remove(inbox, [int(word) for word in words])
    elif verb == "flag":
        account.change_flags(inbox, [int(words[0])], FlagOperation.ADD, words[1:])
    elif verb == "damage":
        inbox.messages[int(words[0])].damaged = True
    elif verb == "delete":
        box = account.named(words[0])
        assert box is not None
        account.delete(box.mailbox_id)
    else:
        raise ValueError(what)


def build(options: dict[str, str], late: bool) -> IMAPPeer:
    """
    Build a server as a transcript's options ask.

    ``fill``: sets of messages for alice's INBOX. ``login``: alice is logged in, with that mailbox
    selected if it is named. ``tls``: from the first octet. ``cleartext no``: no passwords without
    TLS. ``settings``: ``name=value ...``. ``atN``: after N seconds another session acts.
    ``damage``: that UID cannot be read.
    """
    settings = IMAPSettings(
        **{
            name: type(getattr(IMAPSettings(), name))(value)
            for name, _, value in (
                item.partition("=") for item in options.get("settings", "").split()
            )
        }
    )
    peer = IMAPPeer(
        late=late,
        tls="tls" in options,
        cleartext=options.get("cleartext") != "no",
        settings=settings,
    )
    for what in options.get("fill", "").split():
        fill(peer.account("alice"), what)
    if "damage" in options:
        _later(peer, "damage " + options["damage"])
    peer.settle()
    if "login" in options:
        peer.log_in(options["login"].encode())
    for name, what in options.items():
        if name.startswith("at") and name[2:].isdigit():
            peer.clock.callLater(int(name[2:]), _later, peer, what)
    return peer


@ways
class IMAPTranscriptTests(TranscriptTests):
    """What the IMAP server says, word for word."""

    directory = "imap"

    def peer(self, options: dict[str, str], late: bool) -> Peer:
        """Build a fresh server."""
        return build(options, late)
