"""Deterministic prose: words with the frequencies of a natural language, so that it compresses like one."""

import random
from collections.abc import Sequence

VOCABULARY = 9000
TABLE = 1 << 16
_ONSETS = [*"bcdfghjklmnprstvw", "br", "cl", "dr", "fl", "gr", "pl", "pr", "sh", "st", "th", "tr"]
_VOWELS = [*"aeiou", "ai", "ea", "ee", "io", "ou"]
_CODAS = ["", "", "", "n", "r", "s", "t", "l", "nd", "st", "ng"]


class Prose:
    """Makes text out of random bytes: two bytes choose a word from a table filled by Zipf's law.

    A table look-up is some ten times faster than weighted choices, and gigabytes are needed.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._table = _zipf_table(_vocabulary(random.Random(f"{seed} words"), VOCABULARY))

    def words(self, count: int) -> str:
        """That many words, single-spaced, punctuation included."""
        draws = memoryview(self._random.randbytes(2 * count)).cast("H")
        return " ".join(map(self._table.__getitem__, draws))

    def block(self, length: int) -> bytes:
        """Text of exactly that many bytes."""
        text = bytearray()
        while len(text) < length:
            text += self.words(length // 6 + 16).encode()
            text += b"\n"
        return bytes(text[:length])


def _vocabulary(source: random.Random, size: int) -> list[str]:
    words: dict[str, None] = {}
    while len(words) < size:
        # The frequent words come first and are the short ones.
        syllables = 1 if len(words) < 150 else source.choice((2, 2, 2, 3, 3, 4))
        parts = (source.choice(_ONSETS) + source.choice(_VOWELS) + source.choice(_CODAS) for _ in range(syllables))
        words["".join(parts)] = None
    return list(words)


def _zipf_table(words: Sequence[str]) -> list[str]:
    scale = TABLE / sum(1 / rank for rank in range(1, len(words) + 1))
    table: list[str] = []
    for rank, word in enumerate(words, 1):
        count = max(1, round(scale / rank))
        table += [f"{word}."] * (count // 12) + [f"{word},"] * (count // 15)
        table += [word] * (count - count // 12 - count // 15)
    # Rounding leaves the table a little longer or shorter than two bytes can address.
    return (table + list(words))[:TABLE]
