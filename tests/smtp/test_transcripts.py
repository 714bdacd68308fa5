"""The transcripts of SMTP."""

from __future__ import annotations

from tests.smtp.peer import SMTPPeer
from tests.transcript import TranscriptTests, ways


@ways
class SMTPTranscriptTests(TranscriptTests):
    """Every file of ``tests/transcripts/smtp``."""

    directory = "smtp"

    def peer(self, options: dict[str, str], late: bool) -> SMTPPeer:
        """Build a server."""
        return SMTPPeer(options, late)
