"""Reading a mirror to its last byte and comparing every object with its name; no key needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.engine.allocator import keep_freed_memory
from dedupstore.engine.transfers import in_parallel
from dedupstore.engine.twice import twice
from dedupstore.errors import (
    IntegrityError,
    ObjectNotFound,
    RepositoryError,
    RepositoryTooNew,
    StoreError,
    StoreGone,
)
from dedupstore.events import Collector, Finding, Listener, Progress
from dedupstore.repo import layout
from dedupstore.repo.proof import prove
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import RepositoryId


@dataclass(slots=True, kw_only=True)
class VerifyResult:
    """What a verification read. Sizes in bytes."""

    objects: int = 0
    size: int = 0
    findings: Sequence[Finding] = ()

    @property
    def exit_code(self) -> int:
        return 4 if self.findings else 0


def verify_mirror(
    target: ObjectStore, repository: RepositoryId, *, listener: Listener, cancel: CancelToken
) -> VerifyResult:
    """Read every object of a mirror and compare it with its name; no key needed. Changes nothing."""
    keep_freed_memory()
    found = Collector(listener)
    result = VerifyResult()
    progress = Progress(phase="verify")
    rows = [row for prefix in layout.PREFIXES if prefix != layout.MARKS for row in layout.list_complete(target, prefix)]
    rows += layout.list_if_there(target, layout.MARKS) or []
    progress.files_total, progress.bytes_total = len(rows), sum(row.size for row in rows)

    def read(row: ObjectInfo) -> RepositoryError | None:
        try:
            twice(lambda: prove(row.key, target.get(row.key), repository))
        except (StoreGone, ObjectNotFound):
            raise
        except (IntegrityError, StoreError, RepositoryTooNew) as error:
            return error
        return None

    def settle(row: ObjectInfo, error: RepositoryError | None) -> None:
        result.objects += 1
        result.size += row.size
        progress.files_done, progress.bytes_done = result.objects, result.size
        if error is not None:
            progress.errors += 1
            found.finding(Finding(code="mirror.target_damaged", message=error.in_one_line, severity="error"))
        listener.progress(progress)

    in_parallel(rows, read, settle, cancel)
    result.findings = tuple(found.findings)
    return result
