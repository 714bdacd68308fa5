"""
Preparation of user names and passwords before they are compared (RFC 4013, SASLprep).

ASCII without controls stays what it is, so that the common case costs one test. Both sides of a
comparison are prepared: what is stored when a password is set, and what a client sends.
"""

from __future__ import annotations

import stringprep
import unicodedata

from mailhost.errors import SyntaxFault

# RFC 4013 2.3: what may not stand in the result.
_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """
    Return the prepared form of a user name or password.

    Characters that Unicode 3.2 did not know yet are let through, as for a query (RFC 3454 7): a
    password with a new letter is better than none.

    Raises:
        SyntaxFault: nothing is left, or a prohibited character stands in it (RFC 4013 2.3), or
            left-to-right and right-to-left letters are mixed (RFC 3454 6).
    """
    if text.isascii():
        prepared = text
        if not text or not text.isprintable():
            raise SyntaxFault(0, "printable characters")
        return prepared
    # RFC 4013 2.1: other spaces become a space, what is invisible vanishes.
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared:
        raise SyntaxFault(0, "printable characters")
    for position, character in enumerate(prepared):
        if any(table(character) for table in _PROHIBITED):
            raise SyntaxFault(position, "a character that RFC 4013 allows")
    _check_direction(prepared)
    return prepared


def _check_direction(text: str) -> None:
    # RFC 3454 6: right-to-left text begins and ends so, and has no left-to-right letters.
    if any(map(stringprep.in_table_d1, text)) and (
        any(map(stringprep.in_table_d2, text))
        or not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1]))
    ):
        raise SyntaxFault(0, "text of one direction")
