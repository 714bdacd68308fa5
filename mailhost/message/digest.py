"""All that is worth knowing of a message without reading it again, computed once at delivery."""

from __future__ import annotations

from dataclasses import dataclass

from mailhost.message.headers import Octets

USUAL_FIELDS: frozenset[bytes] = frozenset()
"""Lower-case names of the fields whose octets `Digest.usual_fields` holds."""


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
    raise NotImplementedError


def searchable_header(octets: Octets) -> str:
    """Return the decoded, folded header of the message, one field a line (SEARCH TEXT, HEADER)."""
    raise NotImplementedError


def searchable_text(octets: Octets) -> str:
    """
    Return the decoded, folded text of the body (SEARCH BODY).

    That is every text part, HTML without its tags, the headers of enclosed messages and the names
    of attachments, up to `MAX_TEXT` characters.
    """
    raise NotImplementedError
