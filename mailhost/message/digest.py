"""All that is worth knowing of a message without reading it again, computed once at delivery."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

from mailhost.message.addresses import Mailbox
from mailhost.message.body_structure import structures
from mailhost.message.dates import parse_date
from mailhost.message.envelope import addresses, envelope_with
from mailhost.message.headers import Header, Octets, decode_text, fold, header_end
from mailhost.message.mime import has_bare_lf, parse, to_crlf

USUAL_FIELDS: frozenset[bytes] = frozenset(
    b"""
    date from sender reply-to to cc bcc subject message-id in-reply-to references
    mime-version content-type content-transfer-encoding content-description content-class
    list-id list-post list-unsubscribe list-unsubscribe-post list-help list-archive newsgroups
    priority x-priority x-msmail-priority importance sensitivity precedence auto-submitted
    keywords x-label lines disposition-notification-to return-path delivered-to
    x-spam-flag x-spam-status x-spam-level user-agent x-mailer thread-topic
    resent-from resent-to resent-cc resent-date resent-message-id
    x-uniform-type-identifier x-universally-unique-identifier x-k9mail-identity chat-version
    """.split()
)
"""Lower-case names of the fields whose octets `Digest.usual_fields` holds."""

MAX_IDS = 1000
"""Message ids taken from References and In-Reply-To."""
MAX_SUBJECT = 1000
"""Characters of a subject that are compared."""

_MESSAGE_ID = re.compile(rb"<[^<>\s]{1,995}>")
# RFC 5256 5: subj-refwd with the blobs before it, subj-blob, subj-trailer.
_BLOB = r"\[[^\[\]]*+\] *+"
_LEADER = re.compile(rf"(?:{_BLOB})*(?:re|fwd?) *+(?:{_BLOB})?: *+")
_LONE_BLOB = re.compile(_BLOB)
_TRAILER = re.compile(r"(?: |\(fwd\))\Z")


@dataclass(frozen=True, slots=True)
class Digest:
    """
    A message in brief.

    All but `file_size`, `bare_lf` and `blob` are of the CRLF form of the message.

    Args:
        size: octets in CRLF form.
        file_size: octets as given.
        bare_lf: some line ended in LF alone: the octets must be read through `mime.to_crlf`.
        header_size: octets of the header with its empty line.
        envelope, body_structure, body: finished octets for FETCH.
        message_id: with its angle brackets, empty if there is none; latin-1 text.
        in_reply_to, references: message ids likewise, oldest first.
        date: the Date field as Unix seconds, None if absent or not understood.
        day: the day of the Date field in its own zone, a proleptic ordinal, 0 if none.
        base_subject: RFC 5256 2.1, folded for comparing.
        is_reply: the subject had a reply or forward mark (RFC 5256 2.1).
        subject, sender, to, cc, bcc: decoded and folded texts for searching (`headers.fold`);
            `sender` is of the From field. They cover every field of that name.
        from_key, to_key, cc_key: first mailbox's local part for SORT (RFC 5256 3), folded.
        display_from, display_to: RFC 5957 sort keys.
        usual_fields: the fields named in `USUAL_FIELDS` as they stand, without an empty line:
            enough to answer BODY[HEADER.FIELDS (...)] of such names with `headers.select_fields`.
        blob: BLAKE2b-256 of the octets as given.
    """

    size: int
    file_size: int
    bare_lf: bool
    header_size: int
    envelope: bytes
    body_structure: bytes
    body: bytes
    message_id: str
    in_reply_to: tuple[str, ...]
    references: tuple[str, ...]
    date: int | None
    day: int
    base_subject: str
    is_reply: bool
    subject: str
    sender: str
    to: str
    cc: str
    bcc: str
    from_key: str
    to_key: str
    cc_key: str
    display_from: str
    display_to: str
    usual_fields: bytes
    blob: bytes


def digest(octets: Octets) -> Digest:
    """Return the digest of a message; any octets have one. Takes time linear in their number."""
    file_size = len(octets)
    blob = blake2b(octets, digest_size=32).digest()
    bare_lf = has_bare_lf(octets)
    if bare_lf:
        octets = to_crlf(octets)
    header_size = header_end(octets)
    header = Header(octets, 0, header_size)
    body, body_structure = structures(octets, parse(octets, header))
    lists = {name: addresses(header, name) for name in (b"from", b"to", b"cc", b"bcc")}
    subject = _search_text(header, b"subject")
    base_subject, is_reply = base_subject_of(subject)
    moment = parse_date(header.first(b"date") or b"")
    message_ids = _message_ids(header, b"message-id")
    return Digest(
        size=len(octets),
        file_size=file_size,
        bare_lf=bare_lf,
        header_size=header_size,
        envelope=envelope_with(header, lists),
        body_structure=body_structure,
        body=body,
        message_id=message_ids[0] if message_ids else "",
        in_reply_to=_message_ids(header, b"in-reply-to"),
        references=_message_ids(header, b"references"),
        date=None if moment is None else moment.seconds,
        day=0 if moment is None else moment.day,
        base_subject=base_subject,
        is_reply=is_reply,
        subject=subject,
        sender=_search_text(header, b"from"),
        to=_search_text(header, b"to"),
        cc=_search_text(header, b"cc"),
        bcc=_search_text(header, b"bcc"),
        from_key=_local_part(lists[b"from"]),
        to_key=_local_part(lists[b"to"]),
        cc_key=_local_part(lists[b"cc"]),
        display_from=_display(lists[b"from"]),
        display_to=_display(lists[b"to"]),
        usual_fields=header.raw(USUAL_FIELDS),
        blob=blob,
    )


def base_subject_of(subject: str) -> tuple[str, bool]:
    """
    Return the base subject of a decoded, folded subject, and whether it was a reply or forward.

    RFC 5256 2.1; its steps are numbered below.
    """
    text = subject[:MAX_SUBJECT].strip()
    is_reply = False
    while True:
        # (2)
        while match := _TRAILER.search(text):
            is_reply = is_reply or match[0] != " "
            text = text[: match.start()]
        # (3) to (5)
        while True:
            if match := _LEADER.match(text):
                is_reply = True
                text = text[match.end() :]
            elif (match := _LONE_BLOB.match(text)) and match.end() < len(text):
                text = text[match.end() :]
            else:
                break
        # (6)
        if text.startswith("[fwd:") and text.endswith("]"):
            is_reply = True
            text = text[5:-1].strip()
            continue
        return text, is_reply


def _search_text(header: Header, name: bytes) -> str:
    values = header.all(name)
    if not values:
        return ""
    if len(values) == 1:
        return fold(decode_text(values[0]))
    return "\n".join([fold(decode_text(value)) for value in values])


def _message_ids(header: Header, name: bytes) -> tuple[str, ...]:
    value = header.first(name)
    if not value:
        return ()
    return tuple([found.decode("latin-1") for found in _MESSAGE_ID.findall(value)[:MAX_IDS]])


def _first(entries: list[Mailbox]) -> Mailbox | None:
    for entry in entries:
        if entry.mailbox is not None:
            return entry
    return None


def _local_part(entries: list[Mailbox]) -> str:
    first = _first(entries)
    return "" if first is None else fold(decode_text(first.mailbox or b""))


def _display(entries: list[Mailbox]) -> str:
    # RFC 5957 3: the display name, else the address; a group's name counts as it stands.
    first = _first(entries)
    if first is None:
        return ""
    if first.name:
        return fold(decode_text(first.name))
    host = b"@" + first.host if first.host else b""
    return fold(decode_text((first.mailbox or b"") + host))
