"""
What went wrong with a session, and what a reply means for a recipient.

The first digit of a reply decides (RFC 5321 4.2.1): nothing that a server can say makes a temporary
failure permanent or the other way round, its enhanced code only tells people why.
"""

from __future__ import annotations

from mailhost.errors import MailhostError
from mailhost.reply import Action, DeliveryStatus
from mailhost.wire.smtp_client import ServerReply

MAX_DIAGNOSTIC = 1000
"""Characters of a server's words that are kept."""

# What RFC 3463 has for a reply whose server gives no enhanced code. The subject of 550 depends on
# the command: see `derived`.
_DERIVED = {
    421: "4.3.2",
    450: "4.2.0",
    451: "4.3.0",
    452: "4.3.1",
    454: "4.7.0",
    455: "4.5.4",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    521: "5.3.2",
    530: "5.7.0",
    535: "5.7.8",
    551: "5.1.6",
    552: "5.2.2",
    553: "5.1.3",
    555: "5.5.4",
    556: "5.1.10",
}


class SessionFailure(MailhostError):
    """
    A session cannot go on; nothing more can be sent on its connection.

    Args:
        status: an enhanced status code of class 4.
        text: why, for people.
        reply: what the server said, if it was the one to end it.
    """

    def __init__(self, status: str, text: str, reply: ServerReply | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.reply = reply

    @property
    def permanent(self) -> bool:
        """Whether the server refused for good (a 5xx greeting or EHLO reply)."""
        return self.reply is not None and self.reply.code >= 500

    def delivery_status(self, host: str, tls: str = "") -> DeliveryStatus:
        """Return the status of recipients that were not decided: always to be tried again."""
        if self.reply is not None and self.reply.temporary:
            return from_reply(self.reply, host, tls)
        code = self.reply.code if self.reply else 0
        return DeliveryStatus(Action.DELAYED, self.status, _one_line(self.text), host, code, tls)


class TLSFailure(SessionFailure):
    """TLS was agreed upon and did not come about; in clear text it may go on, if policy lets it."""


class ContentFault(MailhostError):
    """The message cannot be read from the spool, or is shorter than it should be."""


def derived(reply: ServerReply, recipient: bool = False) -> str:
    """Return the enhanced status code of a reply, made up from its code if it has none."""
    if reply.enhanced:
        return reply.enhanced
    if recipient and reply.code == 550:
        return "5.1.1"
    return _DERIVED.get(reply.code, f"{reply.code // 100}.0.0")


def from_reply(
    reply: ServerReply, host: str, tls: str = "", *, recipient: bool = False
) -> DeliveryStatus:
    """
    Return what a reply means for a recipient.

    The reply is 2xx to the message, or 4xx or 5xx to any command; 3xx has no meaning here and
    counts as trouble that may pass. `recipient` says that it was the answer to RCPT.
    """
    words = _one_line(str(reply))
    if 200 <= reply.code < 300:
        action, status = Action.RELAYED, derived(reply)
    elif reply.code >= 500:
        action, status = Action.FAILED, derived(reply, recipient)
    elif reply.code >= 400:
        action, status = Action.DELAYED, derived(reply)
    else:
        action, status = Action.DELAYED, "4.5.0"
    return DeliveryStatus(action, status, words, host, reply.code, tls)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:MAX_DIAGNOSTIC]
