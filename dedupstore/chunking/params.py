"""The chunker's parameters, as a repository's config keeps them, and the cut rule they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from dedupstore.errors import RepositoryTooNew, UsageError
from dedupstore.units import KIB, MIB

GEAR64: Final = 1
"""The decision function of reference.py. 2 is reserved for toeplitz64-aes."""

WINDOW: Final = 64
"""The hash sees the last 64 bytes: older ones have been shifted out of its 64 bits."""

LARGEST_CHUNK: Final = 2**24 - 1
"""Chunk lengths are 24 bit numbers in pack directories."""

SMALLEST_PAGE: Final = 512
LARGEST_PAGE: Final = 64 * KIB

# FastCDC's normalised chunking (Xia et al., USENIX ATC 2016) at level 2: a mask two bits stricter
# than the average asks for before the normal point, two bits looser after it.
_NORMALISATION = 2


class CutRule(NamedTuple):
    """What decides a cut, all lengths in bytes from the chunk's start. reference.py says how.

    A tuple, because the C kernel takes it apart by position.
    """

    minimum: int
    normal: int
    maximum: int
    strict_bits: int
    loose_bits: int
    page_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkerParams:
    """Fixed when a repository is created: other parameters cut everything anew and share nothing."""

    decision: int = GEAR64
    average: int
    minimum: int
    maximum: int

    def __post_init__(self) -> None:
        average = self.average
        if self.decision != GEAR64:
            raise UsageError(f"unknown chunker decision function {self.decision}")
        if not 4 * KIB <= average <= 4 * MIB or average & (average - 1):
            raise UsageError(
                f"an average chunk cannot be {average} bytes long",
                why="it must be a power of two from 4 KiB to 4 MiB",
            )
        # The hash window must lie within the smallest chunk, and the minimum before the normal point.
        if not WINDOW <= self.minimum <= average // 2:
            raise UsageError(f"the minimum chunk, {self.minimum} bytes, must be {WINDOW} to average/2 = {average // 2}")
        if not 2 * average <= self.maximum <= LARGEST_CHUNK:
            raise UsageError(
                f"the maximum chunk, {self.maximum} bytes, must be 2*average = {2 * average} to {LARGEST_CHUNK}"
            )

    @classmethod
    def for_average(cls, average: int) -> ChunkerParams:
        """From a quarter of the average to four times it, for which the measured mean is the average."""
        return cls(average=average, minimum=average // 4, maximum=min(4 * average, LARGEST_CHUNK))

    @classmethod
    def from_dict(cls, fields: Mapping[str, object]) -> ChunkerParams:
        """The inverse of `to_dict`. Raises RepositoryTooNew for a decision function of the future."""
        names = ("decision", "average", "minimum", "maximum")
        numbers = {name: value for name, value in fields.items() if type(value) is int}
        if len(numbers) != len(fields) or set(numbers) != set(names):
            raise UsageError(f"chunker parameters must be the whole numbers {', '.join(names)}")
        if numbers["decision"] != GEAR64:
            raise RepositoryTooNew(
                "this repository needs a newer dedup",
                why=f"its chunker is number {numbers['decision']}, this dedup knows {GEAR64}",
            )
        return cls(**numbers)

    def to_dict(self) -> dict[str, int]:
        return {
            "decision": self.decision,
            "average": self.average,
            "minimum": self.minimum,
            "maximum": self.maximum,
        }

    def rule(self, page_size: int = 0) -> CutRule:
        """The cut rule for a stream; with a page size cuts fall on page boundaries only.

        A page boundary is tried once where a plain stream tries `page_size` positions, so its masks
        have log2(page_size) bits less. The smallest chunk is then a whole page, even if `maximum` is less.
        """
        bits = self.average.bit_length() - 1
        # With the minimum at a quarter of the average and 4 times and a quarter of the plain cut
        # probability, the mean is the average if the normal point is at 0.822 of it: solve
        # 1/4 + 4(1 - E) + E/4 = 1 for E = exp(-(normal - 1/4)/4). 13/16 gives 0.99.
        normal = max(self.minimum, self.average * 13 // 16)
        strict, loose = bits + _NORMALISATION, bits - _NORMALISATION
        if page_size == 0:
            return CutRule(self.minimum, normal, self.maximum, strict, loose, 0)
        if not SMALLEST_PAGE <= page_size <= LARGEST_PAGE or page_size & (page_size - 1):
            raise UsageError(
                f"a page cannot be {page_size} bytes long",
                why=f"it must be a power of two from {SMALLEST_PAGE} to {LARGEST_PAGE}",
            )
        page_bits = page_size.bit_length() - 1
        minimum = -(-self.minimum // page_size) * page_size
        return CutRule(
            minimum,
            max(minimum, -(-normal // page_size) * page_size),
            max(minimum, self.maximum // page_size * page_size),
            max(0, strict - page_bits),
            max(0, loose - page_bits),
            page_size,
        )
