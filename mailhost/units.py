"""Numbers that must not be mixed up, as distinct types."""

from __future__ import annotations

from typing import NewType

UID = NewType("UID", int)
"""A message's number in one mailbox, never reused there (RFC 9051 2.3.1.1)."""

UIDValidity = NewType("UIDValidity", int)
"""Changes when a mailbox's UIDs no longer mean what they did (RFC 9051 2.3.1.1)."""

ModSeq = NewType("ModSeq", int)
"""The position of a change in its account (RFC 7162 3.1)."""

SequenceNumber = NewType("SequenceNumber", int)
"""A message's position in one session's view of a mailbox, from 1 (RFC 9051 2.3.1.2)."""

Octets = NewType("Octets", int)
"""A size in bytes."""

Seconds = NewType("Seconds", float)
"""A span of time in seconds."""

AccountID = NewType("AccountID", str)
"""The immutable random name of an account; never reused, also the name of its directory."""

MailboxID = NewType("MailboxID", str)
"""The immutable random name of a mailbox (RFC 8474 4); never reused."""

QueueID = NewType("QueueID", str)
"""The name of a message from accept to last delivery: see mailhost.ids."""
