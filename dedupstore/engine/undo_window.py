"""How much time has passed, by a clock that may have jumped: whether what was forgotten can still be brought back.

A clock that is set a year ahead would end every undo window at once. What there is to compare it with is when the objects
of the repository were written, by the store's clock: where nothing was written for two weeks, the machine stood still,
or its clock was set. The longest such pause does not count. It is told from a real one by what comes after it: time
that goes on passing by this clock counts again, and so does a second pause. See docs/decisions/0058.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

from dedupstore.repo import layout
from dedupstore.repo.repository import Repository

IMPLAUSIBLE_NS = 14 * 24 * 3600 * 10**9
"""A pause that is longer may be the leap of a clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elapsed:
    """Times in nanoseconds since the epoch."""

    now_ns: int
    """By the clock of this machine."""

    written_ns: tuple[int, ...]
    """When something was written, in order; nothing where the store does not say."""

    @classmethod
    def in_repository(cls, repository: Repository) -> Elapsed:
        now_ns = repository.clock.now_ns()
        prefixes = (layout.COMMITS, layout.ROOTS, layout.FORGOTTEN, layout.GC)
        rows = [row for prefix in prefixes for row in layout.list_complete(repository.store, prefix)]
        # What is of the future was written by a clock that was wrong then.
        written_ns = {row.modified_ns for row in rows if 0 < row.modified_ns <= now_ns}
        return cls(now_ns=now_ns, written_ns=tuple(sorted(written_ns)))

    @property
    def quiet_ns(self) -> int:
        """How long nothing was written."""
        return self.now_ns - self.written_ns[-1] if self.written_ns else 0

    def since(self, then_ns: int) -> int:
        """Nanoseconds that have passed, as far as they count."""
        return self.now_ns - then_ns - self.pause_ns(then_ns)

    def pause_ns(self, then_ns: int) -> int:
        """The pause since then that does not count; 0 if each is plausible, or nothing is known."""
        if not self.written_ns:
            return 0
        points = [then_ns, *self.written_ns[bisect_right(self.written_ns, then_ns) :], self.now_ns]
        longest = max(end - start for start, end in pairwise(points))
        return longest if longest > IMPLAUSIBLE_NS else 0
