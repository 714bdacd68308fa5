"""
Delivery status notifications: multipart/report messages (RFC 3464, RFC 6522, RFC 6533).

A report has three parts: words for people, the facts for programs, and what was sent. Every value
of it passes `trace.safe_text` or the parser of `Address`, so that a peer's diagnostic cannot add
fields or parts (R-33). When an address or a diagnostic is not ASCII the internationalised types of
RFC 6533 are used, and the report is 8-bit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap

from mailhost.address import Address
from mailhost.message.dates import format_date
from mailhost.message.headers import header_end
from mailhost.message.mime import to_crlf
from mailhost.message.trace import safe_text
from mailhost.reply import Action, DeliveryStatus

MAX_RETURNED = 50_000
"""Octets of the original that go back with ``RET=FULL``; larger ones lose their body."""
MAX_RETURNED_HEADER = 100_000
"""Octets of header that go back."""

# RFC 3461 4.2: addr-type ";" xtext. The address is shown as it was given.
_ORCPT = re.compile(r"[A-Za-z0-9\-]{1,40};[!-~\u0080-\U0010ffff]{1,500}\Z")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_NOT_TEXT = re.compile(rb"\r(?!\n)|\0")
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}\Z")


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """
    What became of one recipient.

    Args:
        address: where delivery was attempted (Final-Recipient).
        orcpt: as the sender gave it (RFC 3461 4.2), shown as Original-Recipient if well-formed.
        last_attempt, retry_until: Unix seconds, None if there is none.
    """

    address: Address
    status: DeliveryStatus
    orcpt: str = ""
    last_attempt: float | None = None
    retry_until: float | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """
    The message that the report is about.

    Args:
        content: its octets, or their beginning; the whole is returned with ``ret`` FULL only.
        complete: `content` is the whole message.
    """

    queue_id: str
    received_at: float
    content: bytes
    complete: bool = True
    envid: str = ""
    ret: str = ""


@dataclass(frozen=True, slots=True)
class _Kind:
    """The words of one kind of report."""

    action: Action
    subject: str
    opening: str
    closing: str


_FAILURE = _Kind(
    Action.FAILED,
    "Your message could not be delivered",
    "This is the mail server at {host}.\n\nYour message could not be delivered to the "
    "recipients below. It will not be tried again for them.",
    "If you do not understand this, pass this message on to the one who looks after your mail.",
)
_DELAY = _Kind(
    Action.DELAYED,
    "Your message is delayed",
    "This is the mail server at {host}.\n\nYour message has not been delivered to the "
    "recipients below yet. You need not send it again: the server keeps trying.",
    "You will hear again if it cannot be delivered.",
)
_SUCCESS = _Kind(
    Action.DELIVERED,
    "Your message was delivered",
    "This is the mail server at {host}.\n\nYour message was delivered to the recipients below, "
    "as you asked to be told.",
    "A server that passed your message on may not report what became of it afterwards.",
)


def _kind_of(recipients: Sequence[ReportedRecipient]) -> _Kind:
    actions = {recipient.status.action for recipient in recipients}
    if Action.FAILED in actions:
        return _FAILURE
    return _DELAY if Action.DELAYED in actions else _SUCCESS


def report(
    *,
    host: str,
    to: Address,
    recipients: Sequence[ReportedRecipient],
    original: Original,
    now: float,
    unique: str,
) -> bytes:
    """
    Return a finished message, CRLF line ends, to be sent with the null reverse-path.

    Its kind follows from the recipients: any failed makes it a failure, else any delayed a delay,
    else a success notice.

    Args:
        host: our name: Reporting-MTA, and domain of the sender and Message-ID.
        to: the reverse-path of the original.
        recipients: those to report, at least one.
        original: the message that was to be delivered.
        now: Unix time in seconds.
        unique: an id (`mailhost.ids.new_id`) for Message-ID and boundary.
    """
    kind = _kind_of(recipients)
    words = _words(kind, host, recipients, original)
    facts = _facts(host, recipients, original)
    returned_type, returned = _returned(original)
    wide = not (to.is_ascii and facts.isascii() and words.isascii())
    eight_bit = wide or not returned.isascii()
    boundary = f"=_{safe_text(unique, 60)}"
    while boundary.encode() in returned:
        boundary += "="
    header = _header(kind, host, to, now, unique, boundary, eight_bit)
    encoding = "8bit" if eight_bit else "7bit"
    charset = "utf-8" if wide else "us-ascii"
    status_type = "message/global-delivery-status" if wide else "message/delivery-status"
    if not returned.isascii() and returned_type == "text/rfc822-headers":
        returned_type = "message/global-headers"
    parts = (
        (f"text/plain; charset={charset}", "Notification", words.encode()),
        (status_type, "Delivery report", facts.encode()),
        (returned_type, "Undelivered message", returned),
    )
    pieces = [header.encode()]
    for content_type, description, content in parts:
        pieces.append(
            f"--{boundary}\r\nContent-Type: {content_type}\r\n"
            f"Content-Description: {description}\r\n"
            f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        )
        pieces.append(content)
        pieces.append(b"\r\n")
    pieces.append(f"--{boundary}--\r\n".encode())
    return b"".join(pieces)


def _header(
    kind: _Kind, host: str, to: Address, now: float, unique: str, boundary: str, eight_bit: bool
) -> str:
    host = safe_text(host)
    return (
        f"From: Mail server <postmaster@{host}>\r\n"
        f"To: <{safe_text(str(to), 400)}>\r\n"
        f"Subject: {kind.subject}\r\n"
        f"Date: {format_date(now)}\r\n"
        f"Message-ID: <{safe_text(unique, 60)}@{host}>\r\n"
        # RFC 3834 5
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        f'\tboundary="{boundary}"\r\n'
        f"Content-Transfer-Encoding: {'8bit' if eight_bit else '7bit'}\r\n"
        "\r\n"
        "This is a delivery report in MIME format.\r\n\r\n"
    )


def _words(
    kind: _Kind, host: str, recipients: Sequence[ReportedRecipient], original: Original
) -> str:
    lines = []
    for paragraph in kind.opening.format(host=safe_text(host)).split("\n"):
        lines += wrap(paragraph, 76) or [""]
    for recipient in recipients:
        status = recipient.status
        lines += ["", f"<{safe_text(str(recipient.address), 400)}>"]
        said = safe_text(status.diagnostic, 1000)
        if status.remote_mta:
            said = f"{safe_text(status.remote_mta)} said: {said}"
        if said:
            lines += wrap(said, 72, initial_indent="    ", subsequent_indent="    ")
        if kind is _DELAY and recipient.retry_until is not None:
            lines.append(f"    Trying until {format_date(recipient.retry_until)}.")
    lines += ["", *wrap(kind.closing, 76), ""]
    lines.append(f"The message came in on {format_date(original.received_at)}")
    lines.append(f"and is called {safe_text(original.queue_id, 100)} in the logs of this server.")
    return "".join(f"{line}\r\n" for line in lines)


def _facts(host: str, recipients: Sequence[ReportedRecipient], original: Original) -> str:
    # RFC 3464 2.2
    lines = []
    if original.envid:
        lines.append(f"Original-Envelope-Id: {safe_text(_from_xtext(original.envid))}")
    lines.append(f"Reporting-MTA: dns; {safe_text(host)}")
    lines.append(f"X-Queue-ID: {safe_text(original.queue_id, 100)}")
    lines.append(f"Arrival-Date: {format_date(original.received_at)}")
    for recipient in recipients:
        lines.append("")
        lines += _recipient_facts(recipient)
    return "".join(f"{line}\r\n" for line in lines)


def _recipient_facts(recipient: ReportedRecipient) -> list[str]:
    # RFC 3464 2.3, RFC 6533 3
    status, lines = recipient.status, []
    orcpt = _from_xtext(recipient.orcpt)
    if _ORCPT.match(recipient.orcpt) and orcpt == safe_text(orcpt, 1000):
        kind, _, address = orcpt.partition(";")
        lines.append(f"Original-Recipient: {kind}; {address}")
    address_type = "rfc822" if recipient.address.is_ascii else "utf-8"
    lines.append(f"Final-Recipient: {address_type}; {safe_text(str(recipient.address), 400)}")
    lines.append(f"Action: {status.action.value}")
    # The field must have a code of the class that fits the action (RFC 3464 2.3.4).
    wanted = {Action.FAILED: "5", Action.DELAYED: "4"}.get(status.action, "2")
    fits = _STATUS.match(status.status) and (
        status.status[0] == wanted or (wanted == "5" and status.status[0] == "4")
    )
    lines.append(f"Status: {status.status if fits else wanted + '.0.0'}")
    if status.remote_mta:
        lines.append(f"Remote-MTA: dns; {safe_text(status.remote_mta)}")
    # RFC 5322 2.1.1: 998 octets a line.
    diagnostic = safe_text(status.diagnostic, 900).encode()[:900].decode("utf-8", "ignore")
    if diagnostic:
        by_smtp = status.reply_code and not diagnostic.startswith(str(status.reply_code))
        code = f"{status.reply_code} " if by_smtp else ""
        kind = "smtp" if status.reply_code else "x-mailhost"
        lines.append(f"Diagnostic-Code: {kind}; {code}{diagnostic}")
    if recipient.last_attempt is not None:
        lines.append(f"Last-Attempt-Date: {format_date(recipient.last_attempt)}")
    if recipient.retry_until is not None and status.action is Action.DELAYED:
        lines.append(f"Will-Retry-Until: {format_date(recipient.retry_until)}")
    return lines


def _from_xtext(text: str) -> str:
    # RFC 3461 4: "+" and two hexadecimal digits
    return _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)


def _returned(original: Original) -> tuple[str, bytes]:
    content = to_crlf(original.content[: max(MAX_RETURNED, MAX_RETURNED_HEADER)])
    content = _NOT_TEXT.sub(b"?", content)
    whole = original.complete and len(original.content) <= MAX_RETURNED
    if original.ret.upper() == "FULL" and whole:
        kind = "message/rfc822"
        if not content[: header_end(content)].isascii():
            kind = "message/global"
        return kind, content
    header = content[: header_end(content)][:MAX_RETURNED_HEADER]
    cut = header.rfind(b"\r\n") + 2
    return "text/rfc822-headers", header[:cut] if cut > 1 else b""
