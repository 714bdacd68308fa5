"""Plays the POP3 transcripts."""

from __future__ import annotations

from tests.pop3.peer import POP3Peer, World
from tests.transcript import TranscriptTests, ways


@ways
class POP3TranscriptTests(TranscriptTests):
    """
    Files in ``tests/transcripts/pop3``.

    Options: ``cleartext no`` forbids login without TLS, ``implicit_tls yes``, ``mails N``,
    ``damaged UID``, ``gone UID`` (removed by another session after login), ``read_only yes``.
    """

    directory = "pop3"

    def peer(self, options: dict[str, str], late: bool) -> POP3Peer:
        """Build a server with the standard mailbox."""
        world = World(
            late,
            mails=int(options.get("mails", "3")),
            cleartext_login=options.get("cleartext") != "no",
            implicit_tls=options.get("implicit_tls") == "yes",
        )
        if "damaged" in options:
            world.inbox[int(options["damaged"])].damaged = True
        if "gone" in options:
            log_in = world.sessions.enter

            def enter(account: str, peer: str) -> bool:
                uid = int(options["gone"])
                world.store.answers.tell(lambda: None)
                world.clock.callLater(1, world.inbox.pop, uid)
                return log_in(account, peer)

            world.sessions.enter = enter  # type: ignore[method-assign]
        return world.connect()
