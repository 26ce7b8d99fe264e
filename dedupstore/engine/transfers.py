"""Objects moved or read several at a time, with a bound on what is in memory, and settled in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.errors import RepositoryError
from dedupstore.storage.base import ObjectInfo

TRANSFERS = 8
"""Objects read, hashed and put at a time. Each put waits for the disk, and more of them keep it busy (1.4 GB in packs of
32 MiB: 2.5 s with one, 1.3 s with three, 0.9 s with eight; `cp -r` and `sync` take 0.9 s)."""

MAX_BYTES = 192 << 20
"""Of objects that are on their way, each whole in memory: six packs of the usual size."""

_AHEAD = 32


def in_parallel(
    rows: Iterable[ObjectInfo],
    work: Callable[[ObjectInfo], RepositoryError | None],
    settle: Callable[[ObjectInfo, RepositoryError | None], None],
    cancel: CancelToken,
    *,
    in_pieces: bool = False,
) -> None:
    """`work` in a few threads, `settle` in this one and in order. The first exception ends it all.

    `in_pieces`: no object is ever whole in memory, so their sizes do not count.
    """
    with ThreadPoolExecutor(TRANSFERS, thread_name_prefix="mirror") as pool:
        pending: deque[_Pending] = deque()
        flying = 0
        try:
            for row in rows:
                cancel.check()
                while pending and (len(pending) >= _AHEAD or (flying + row.size > MAX_BYTES and not in_pieces)):
                    flying -= _settle_first(pending, settle)
                pending.append(_Pending(row, pool.submit(work, row)))
                flying += row.size
            while pending:
                cancel.check()
                _settle_first(pending, settle)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@dataclass(slots=True)
class _Pending:
    row: ObjectInfo
    future: Future[RepositoryError | None] = field(repr=False)


def _settle_first(pending: deque[_Pending], settle: Callable[[ObjectInfo, RepositoryError | None], None]) -> int:
    first = pending.popleft()
    settle(first.row, first.future.result())
    return first.row.size
