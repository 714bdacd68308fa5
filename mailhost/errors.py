"""
The exceptions of mailhost.

Expected outcomes are values (`mailhost.reply`); an exception here is turned into wire text at one
place, the top of command dispatch. Their text is for logs: it never reaches a peer, except the
reply that a `Refusal` carries for that purpose. Any other exception is our own bug and becomes a
temporary error.
"""

from __future__ import annotations

from mailhost.reply import Reply


class MailhostError(Exception):
    """The root of all errors that mailhost raises on purpose."""


class SyntaxFault(MailhostError):
    """
    A peer's bytes do not follow the grammar.

    Args:
        position: octet offset of the fault in what was parsed.
        expected: what the grammar wanted there, for people.
    """

    def __init__(self, position: int, expected: str) -> None:
        super().__init__(f"at octet {position}: expected {expected}")
        self.position = position
        self.expected = expected


class Refusal(MailhostError):
    """Policy said no; `reply` is the exact answer for the wire."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class StorageError(MailhostError):
    """The root of what a mail store says no with."""


class NoSuchMailbox(StorageError):
    """There is no mailbox of that name or id."""


class MailboxExists(StorageError):
    """A mailbox of that name exists already."""


class MailboxNameRefused(StorageError):
    """The name cannot be a mailbox name here (RFC 9051 5.1)."""


class MailboxReadOnly(StorageError):
    """The mailbox was opened read-only, or may not be changed or removed (INBOX)."""


class QuotaExceeded(StorageError):
    """The account or its domain has no room left (RFC 9208 4.3)."""


class MessageDamaged(StorageError):
    """A message's file is missing or is not what was stored."""


class SpoolFull(MailhostError):
    """The file system refused to take more; the caller answers 452 4.3.1."""


class SpoolFault(MailhostError):
    """The spool could not be written for another reason; the caller answers 451 4.3.0."""


class ResolverFault(MailhostError):
    """No answer from the DNS; always temporary."""


class DirectoryError(MailhostError):
    """The directory refuses a change; the text says why, for an administrator."""


class NoSuchEntry(DirectoryError):
    """There is no such domain, account or alias."""


class EntryExists(DirectoryError):
    """That domain, account or alias exists already."""


class ConfigError(MailhostError):
    """
    The configuration cannot be used.

    Args:
        path: where, as ``listeners[0].port``; empty for the file as a whole.
        problem: what is wrong and what to do, in words for the operator.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


class DataDirectoryError(MailhostError):
    """The data directory cannot be used: locked, of a newer version, or not ours."""


class DataDirectoryBusy(DataDirectoryError):
    """Another process has the data directory; it may let go of it."""
