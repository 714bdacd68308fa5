"""
Flags as the index keeps them: one integer for each placement.

The low six bits are the flags that Maildir names have letters for; the rest is the number of a set
of keywords, 0 for none. An account has few different sets, so that comparing, counting and turning
into words are all table look-ups.
"""

from __future__ import annotations

from collections.abc import Iterable

from mailhost.storage.file_names import (
    ANSWERED,
    DELETED,
    DRAFT,
    FLAGGED,
    FORWARDED,
    KEYWORD_LETTERS,
    SEEN,
    SYSTEM_BITS,
    bits_of,
    letters_of,
)

SHIFT = 6

_WORDS = {
    SEEN: "\\Seen",
    ANSWERED: "\\Answered",
    FLAGGED: "\\Flagged",
    DELETED: "\\Deleted",
    DRAFT: "\\Draft",
    FORWARDED: "$Forwarded",
}
_BITS = {word.casefold(): bit for bit, word in _WORDS.items()}
_SYSTEM = [tuple([word for bit, word in _WORDS.items() if bits & bit]) for bits in range(64)]


def system_bit(flag: str) -> int:
    """Return the bit of a flag that has one, or 0."""
    return _BITS.get(flag.casefold(), 0)


class FlagWords(dict[int, tuple[str, ...]]):
    """
    The words of each flags value, looked up by indexing.

    Args:
        sets: the keyword sets that exist, by number; owned and added to.
    """

    def __init__(self, sets: dict[int, frozenset[str]]) -> None:
        super().__init__()
        self.sets = sets
        self._numbers = {words: number for number, words in sets.items()}
        self._spelling = {
            word.casefold(): word for number in sorted(sets) for word in sorted(sets[number])
        }
        self.added: list[tuple[int, str]] = []
        """New sets (number, words) that are not in the database yet."""

    def __missing__(self, flags: int) -> tuple[str, ...]:
        number = flags >> SHIFT
        words = _SYSTEM[flags & SYSTEM_BITS]
        if number:
            words += tuple(sorted(self.sets[number]))
        self[flags] = words
        return words

    def keywords(self, flags: int) -> frozenset[str]:
        """Return the keywords, without those that have a bit."""
        number = flags >> SHIFT
        return self.sets[number] if number else frozenset()

    def parse(self, flags: Iterable[str]) -> tuple[int, frozenset[str]]:
        """Return the bits and the keywords of flags as a client gives them; no \\Recent."""
        bits = 0
        keywords = set()
        for flag in flags:
            key = flag.casefold()
            bit = _BITS.get(key, 0)
            bits |= bit
            # RFC 9051 2.3.2: a client cannot set \Recent; other \ flags do not exist.
            if not bit and not flag.startswith("\\") and flag:
                keywords.add(self._spelling.setdefault(key, flag))
        return bits, frozenset(keywords)

    def value(self, bits: int, keywords: frozenset[str]) -> int:
        """Return the flags value of bits and keywords, with a new set where it needs one."""
        if not keywords:
            return bits
        number = self._numbers.get(keywords)
        if number is None:
            number = max(self.sets, default=0) + 1
            self.sets[number] = keywords
            self._numbers[keywords] = number
            self.added.append((number, " ".join(sorted(keywords))))
        return bits | number << SHIFT

    def sets_with(self, keyword: str) -> list[int]:
        """Return the numbers of the sets that hold a keyword, compared caseless."""
        word = self._spelling.get(keyword.casefold())
        return [number for number, words in self.sets.items() if word in words]

    def letters(self, flags: int, folder_keywords: list[str]) -> str:
        """Return the letters for a file name; keywords past the 26th have none."""
        letters = letters_of(flags)
        if flags >> SHIFT:
            numbers = [
                folder_keywords.index(word)
                for word in self.sets[flags >> SHIFT]
                if word in folder_keywords
            ]
            letters += "".join(sorted([KEYWORD_LETTERS[n] for n in numbers if n < 26]))
        return letters

    def merged(self, flags: int, before: str, now: str, folder_keywords: list[str]) -> int:
        """
        Return the flags after another program changed a name's letters.

        Only the difference from what was written counts, so that flags which are not written yet
        are kept.
        """
        added = "".join([letter for letter in now if letter not in before])
        removed = "".join([letter for letter in before if letter not in now])
        more_bits, more_words = self._meant(added, folder_keywords)
        less_bits, less_words = self._meant(removed, folder_keywords)
        return self.value(
            (flags & SYSTEM_BITS | more_bits) & ~less_bits,
            (self.keywords(flags) | more_words) - less_words,
        )

    def from_letters(self, letters: str, folder_keywords: list[str]) -> int:
        """Return the flags that a name's letters stand for."""
        return self.value(*self._meant(letters, folder_keywords))

    def _meant(self, letters: str, folder_keywords: list[str]) -> tuple[int, frozenset[str]]:
        numbers = [KEYWORD_LETTERS.find(letter) for letter in letters]
        bits, words = self.parse(
            [folder_keywords[n] for n in numbers if 0 <= n < len(folder_keywords)]
        )
        return bits | bits_of(letters), words
