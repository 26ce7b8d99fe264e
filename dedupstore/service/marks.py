"""What is said of a snapshot after it was made: protection, tags, notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dedupstore.engine.unreadable import unreadable_by_id
from dedupstore.errors import NothingMatches, RepositoryError, UsageError
from dedupstore.model.mark import NOTE, PROTECT, TAGS, UNPROTECT, Mark, Marking
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo.catalog import Catalog
from dedupstore.repo.config import Operation
from dedupstore.service.access import Access
from dedupstore.service.records import SnapshotInfo, snapshot_info
from dedupstore.service.selection import Selection, choose
from dedupstore.service.texts import require_text

MAX_TEXT = 4096
MAX_TAG = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The snapshot as it is now; `changed` is False when it was like that before."""

    snapshot: SnapshotInfo | None
    """None: its record cannot be read."""

    changed: bool


def protect(access: Access, selection: Selection, *, until_ns: int | None, reason: str) -> Outcome:
    """From now on nobody can forget it, until then or until it is unprotected. Raises UsageError for a time gone by."""
    now_ns = access.clock.now_ns()
    if until_ns is not None and until_ns <= now_ns:
        raise UsageError("that time has passed already", hints=["give a later one to --until"], code="usage.time")
    mark = Mark(kind=PROTECT, time_ns=now_ns, until_ns=until_ns, text=_text(reason))

    def same(now: Marking) -> bool:
        return now.protected and (now.until_ns, now.reason) == (until_ns, reason)

    return _add(access, selection, mark, same)


def unprotect(access: Access, selection: Selection) -> Outcome:
    """It can be forgotten like any other. Also settles what a damaged mark may have said.

    A snapshot that cannot be read, too, may be named by its id: then it can be given up.
    """
    mark = Mark(kind=UNPROTECT, time_ns=access.clock.now_ns())
    try:
        return _add(access, selection, mark, lambda now: not now.protected)
    except NothingMatches:
        catalog = access.open_keys(Operation.WRITE).catalog
        lost = unreadable_by_id(catalog, catalog.snapshots(), selection.snapshot)
        if lost is None:
            raise
        catalog.add_mark(lost, mark)
        return Outcome(snapshot=None, changed=True)


def tag(access: Access, selection: Selection, *, add: tuple[str, ...], remove: tuple[str, ...]) -> Outcome:
    """Give it tags and take others away."""
    if not add and not remove:
        raise UsageError("no tag was named", hints=["dedup tag ID --add NAME", "dedup tag ID --remove NAME"])
    if set(add) & set(remove):
        raise UsageError("a tag cannot be added and removed at once")
    require_text(*add, *remove)
    for name in add:
        if not name.strip() or len(name) > MAX_TAG:
            raise UsageError(f"not a tag: {name[:20]!r}", hints=["a tag is a word of at most 256 letters"])
    mark = Mark(kind=TAGS, time_ns=access.clock.now_ns(), add=add, remove=remove)
    return _add(access, selection, mark, lambda now: set(add) <= set(now.tags) and not set(remove) & set(now.tags))


def note(access: Access, selection: Selection, text: str) -> Outcome:
    """Write something beside it, in place of what was there; an empty text takes the note away."""
    mark = Mark(kind=NOTE, time_ns=access.clock.now_ns(), text=_text(text))
    return _add(access, selection, mark, lambda now: now.note == text)


def _add(access: Access, selection: Selection, mark: Mark, same: Callable[[Marking], bool]) -> Outcome:
    catalog = access.open_keys(Operation.WRITE).catalog
    snapshot = choose(catalog, selection, cached=False)
    changed = not _is_so(catalog, snapshot, same)
    if changed:
        catalog.add_mark(snapshot.id, mark)
        _require_still_there(catalog, snapshot)
    # The record itself, not the snapshot as chosen: that one has the tags of before.
    book = catalog.marks()
    record = catalog.get(snapshot.id)
    return Outcome(snapshot=snapshot_info(book.apply(record), book.of(record)), changed=changed)


def _is_so(catalog: Catalog, snapshot: Snapshot, same: Callable[[Marking], bool]) -> bool:
    book = catalog.marks()
    return snapshot.id not in book.unclear and same(book.of(catalog.get(snapshot.id)))


def _require_still_there(catalog: Catalog, snapshot: Snapshot) -> None:
    """Published, then looked: a forget that runs at the same time sees the mark, or is seen here."""
    if not catalog.has_commit(snapshot.id):
        raise RepositoryError(
            "the snapshot was forgotten meanwhile",
            hints=[f"bring it back: dedup undo-forget {snapshot_info(snapshot).short}"],
            code="snapshot.forgotten_meanwhile",
        )


def _text(text: str) -> str:
    require_text(text)
    if len(text) > MAX_TEXT:
        raise UsageError(f"that is longer than {MAX_TEXT} characters", hints=["say it in fewer words"])
    return text
