"""
Passwords: which are taken, how they are hashed, and how random ones are made.

argon2id with the parameters of OWASP's first choice for 19 MiB; what is stored is the PHC text,
so that the parameters of one password travel with it. Everything here that hashes blocks for
tens of milliseconds: call it on a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from argon2.exceptions import VerifyMismatchError
from argon2.low_level import Type, hash_secret, hash_secret_raw, verify_secret

from mailhost.errors import DirectoryError, SyntaxFault
from mailhost.wire.saslprep import saslprep

MINIMUM_LENGTH = 8
MAXIMUM_OCTETS = 1024
SALT_LENGTH = 16

# No character that is easily taken for another; 32 of them are five bits each.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def check_password(password: str) -> str:
    """
    Return the prepared form of a password that is to be set.

    Raises:
        DirectoryError: it is too short, too long, or has characters that cannot be typed back.
    """
    try:
        prepared = saslprep(password)
    except SyntaxFault as fault:
        raise DirectoryError(f"the password is not usable: expected {fault.expected}") from None
    if len(prepared) < MINIMUM_LENGTH:
        raise DirectoryError(f"the password is too short: at least {MINIMUM_LENGTH} characters")
    if len(prepared.encode()) > MAXIMUM_OCTETS:
        raise DirectoryError(f"the password is too long: at most {MAXIMUM_OCTETS} octets")
    return prepared


def prepare(password: str) -> str:
    """Return the prepared form of a password that a client sent, or the text as it is."""
    try:
        return saslprep(password)
    except SyntaxFault:
        # No stored password has this form; checking it costs what a wrong one costs.
        return password


def random_password(random_bytes: Callable[[int], bytes]) -> str:
    """Return a password of 80 random bits in four groups, such as ``k7mq-x2bd-9wjt-p4ha``."""
    letters = "".join(_ALPHABET[octet & 31] for octet in random_bytes(16))
    return "-".join(letters[start : start + 4] for start in range(0, 16, 4))


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """
    argon2id (RFC 9106) with fixed parameters.

    Args:
        memory: KiB.
        passes: how often the memory is gone over.
        lanes: parallel lanes; one, because the pool already runs jobs in parallel.
    """

    memory: int = 19 * 1024
    passes: int = 2
    lanes: int = 1
    random_bytes: Callable[[int], bytes] = os.urandom

    def hash(self, prepared: str) -> bytes:
        """Return the PHC text of a prepared password."""
        return hash_secret(
            _octets(prepared),
            self.random_bytes(SALT_LENGTH),
            self.passes,
            self.memory,
            self.lanes,
            32,
            Type.ID,
        )

    def verify(self, verifier: bytes, prepared: str) -> bool:
        """
        Whether the PHC text was made from this password.

        Raises:
            argon2.exceptions.Argon2Error: no memory, or a damaged text; it could not be decided.
        """
        try:
            return verify_secret(verifier, _octets(prepared), Type.ID)
        except VerifyMismatchError:
            return False

    def waste(self, prepared: str) -> None:
        """Do the work of `verify` for a user who does not exist (R-40)."""
        hash_secret_raw(
            _octets(prepared),
            b"\0" * SALT_LENGTH,
            self.passes,
            self.memory,
            self.lanes,
            32,
            Type.ID,
        )


def _octets(prepared: str) -> bytes:
    return prepared.encode("utf-8", "surrogatepass")
