"""What counts as needed when locks are extended: where chunks lie, and where the bases of their deltas do."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.clock import FrozenClock
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport
from dedupstore.engine.locks import LockReport, SeenBlocks, Term, find_needed, look_at_locks
from dedupstore.errors import Refused, StoreError
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.storage.versions import Lock, Version
from dedupstore.types import Kind, PackId, SnapshotId, Span
from tests.support.pack_layouts import FILE_BYTES, OPTIONS
from tests.support.pruning import check, forget
from tests.support.repositories import new_repository, random_bytes, take

DAY_NS = 24 * 3600 * 10**9


def test_the_packs_of_bases_are_needed_and_those_of_forgotten_snapshots_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    before = random_bytes("base", FILE_BYTES)
    tree = _file(tmp_path / "tree", before)
    store = MemoryStore()
    with new_repository(store, options=OPTIONS) as repository:
        other = take(repository, _file(tmp_path / "other", random_bytes("other", FILE_BYTES))).snapshot
        unneeded = {row.id for row in repository.index.packs() if row.kind is Kind.DATA}
        older = _packs(store)
        first = take(repository, tree).snapshot
        bases = _packs(store) - older
        (tree / "file").write_bytes(before + b"one line more\n")
        second = take(repository, tree).snapshot
        assert other is not None and first is not None and second is not None
        deltas = _packs(store) - older - bases
        numbers = [row.no for row in repository.index.packs() if row.id in deltas and row.kind is Kind.DATA]
        assert all(repository.index.block(no, 0).bases for no in numbers), "it is stored as a delta to the first"
        for snapshot in (other, first):
            forget(repository, snapshot)

        needed, findings = find_needed(repository, committed(repository), listener=NullListener(), cancel=CancelToken())

        assert not findings
        assert needed.snapshots == {second.id}
        assert unneeded and needed.packs is not None
        assert bases | deltas <= needed.packs <= _packs(store) - unneeded
        assert {key for key in store.objects if not needed.includes(key)} == {
            *(key for key in store.objects if _id(key) in _packs(store) - needed.packs),
            *(layout.root_key(snapshot.id) for snapshot in (other, first)),
            *(layout.forgotten_key(snapshot.id) for snapshot in (other, first)),
        }
        assert check(repository).exit_code == 0


def test_blocks_are_remembered_in_little_memory() -> None:
    seen = SeenBlocks()
    tracemalloc.start()

    new = sum(seen.add(pack, block) for pack in range(500) for block in range(0, 100, 2))
    again = [seen.add(pack, block) for pack in range(500) for block in (0, 1, 98, 300)]

    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert new == 25_000
    assert again == [False, True, False, True] * 500
    assert most < 200_000


def test_a_snapshot_that_cannot_be_walked_makes_every_pack_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    store = MemoryStore()
    with new_repository(store, options=OPTIONS) as repository:
        taken = take(repository, tmp_path)
        (lost,) = [row.name.key for row in repository.index.packs() if row.kind is Kind.MANIFEST]
        del store.objects[lost]

        needed, findings = find_needed(repository, committed(repository), listener=NullListener(), cancel=CancelToken())

        assert taken.snapshot is not None and needed.packs is None
        assert [finding.code for finding in findings] == ["locks.all_packs"]
        assert needed.includes(lost)
        assert not needed.includes("packs/of-somebody-else")
        assert check(repository).exit_code == 4


class Bucket(MemoryStore):
    """A store in memory whose objects have versions; `allowed` says how many more may be locked."""

    def __init__(self) -> None:
        super().__init__("memory:bucket")
        self.versions = self
        self.place = "a bucket"
        self.allowed = 1 << 30
        self.given: dict[tuple[str, str], Lock] = {}
        self.more: list[Version] = []
        self.asked: list[str] = []

    def lock_all(self, lock: Lock) -> list[str]:
        """Lock everything that is there, and tell what that is."""
        self.given = {(row.key, "ours"): lock for row in self.list("")}
        return sorted(key for key, _ in self.given)

    def take_asked(self) -> list[str]:
        """What was asked for since the last time."""
        asked, self.asked = self.asked, []
        return asked

    def can_lock(self) -> bool:
        return True

    def all_of(self, prefix: str) -> Iterator[Version]:
        rows = [_version(row.key, "ours", row.size) for row in self.list("")]
        yield from sorted([*rows, *self.more], key=lambda row: (row.key, not row.newest))

    def read(self, version: Version, span: Span | None = None) -> bytes:
        return self.get(version.key, span)

    def lock_of(self, version: Version) -> Lock | None:
        self.asked.append(version.key)
        return self.given.get((version.key, version.id))

    def lock(self, version: Version, lock: Lock) -> None:
        if not self.allowed:
            raise StoreError("that is not allowed", code="store.denied")
        self.allowed -= 1
        self.given[version.key, version.id] = lock


def test_extending_locks_goes_on_where_it_was_stopped_and_leaves_longer_ones(tmp_path: Path) -> None:
    store = Bucket()
    tree = _file(tmp_path / "tree", b"content")
    with new_repository(store, options=OPTIONS) as repository:
        taken = take(repository, tree).snapshot
        assert taken is not None
        root = layout.root_key(taken.id)
        store.given[layout.FORMAT_KEY, "ours"] = Lock(900, "GOVERNANCE")
        store.given[root, "ours"] = Lock(300, "GOVERNANCE")
        store.allowed = 7

        with pytest.raises(Refused) as caught:
            extend(repository, 500)
        store.allowed = 1 << 30
        report = extend(repository, 500)
        again = extend(repository, 500)

        assert caught.value.code == "locks.denied"
        assert report.extended == report.needed - 7 - 1
        assert (again.extended, again.short, again.first_end_ns) == (0, 0, 500)
        assert store.given[layout.FORMAT_KEY, "ours"] == Lock(900, "GOVERNANCE")
        assert store.given[root, "ours"] == Lock(500, "GOVERNANCE")
        assert check(repository).exit_code == 0


def test_locks_are_asked_for_side_by_side(tmp_path: Path) -> None:
    store = Bucket()
    changed = threading.Condition()
    asked: list[Version] = []

    def lock_of(version: Version) -> Lock | None:
        with changed:
            asked.append(version)
            changed.notify_all()
            # Each of the first eight waits for the others: they are under way at once.
            assert changed.wait_for(lambda: len(asked) >= 8, timeout=20)
        return Lock(900, "COMPLIANCE")

    with new_repository(store, options=OPTIONS) as repository:
        take(repository, _file(tmp_path / "tree", b"content"))
        store.lock_of = lock_of  # type: ignore[method-assign]

        term = Term(short_ns=500, until_ns=None)
        report = look_at_locks(repository, term, committed(repository), listener=NullListener(), cancel=CancelToken())

        assert report.needed >= 8
        assert (report.short, report.first_end_ns) == (0, 900)
        assert check(repository).exit_code == 0


def test_a_check_asks_once_for_a_lock_that_stands_and_every_time_for_others(tmp_path: Path) -> None:
    store, clock = Bucket(), FrozenClock(100 * DAY_NS)
    with new_repository(store, options=OPTIONS, clock=clock, cache_path=tmp_path / "cache") as repository:
        snapshot = take(repository, _file(tmp_path / "tree", b"content")).snapshot
        assert snapshot is not None
        root, commit, bare = layout.root_key(snapshot.id), layout.commit_key(snapshot.id), "index/-begin"
        every = store.lock_all(Lock(108 * DAY_NS, "COMPLIANCE"))
        store.given[root, "ours"] = Lock(108 * DAY_NS, "GOVERNANCE")
        store.given[commit, "ours"] = Lock(108 * DAY_NS, "")
        del store.given[bare, "ours"]

        first = look(repository)
        clock.advance(2.9 * DAY_NS / 1e9)
        later = look(repository)
        asked_late = store.take_asked()[len(every) :]
        clock.advance(0.2 * DAY_NS / 1e9)
        near_the_end = look(repository)
        store.take_asked()
        store.lock_all(Lock(120 * DAY_NS, "COMPLIANCE"))
        extended, again = look(repository), look(repository)

    assert (first.counts.locks_asked, first.counts.locks_remembered) == (len(every), 0)
    assert sorted(asked_late) == sorted([root, commit, bare])
    assert (later.counts.locks_asked, later.counts.locks_remembered) == (3, len(every) - 3)
    assert [report.warnings for report in (first, later, near_the_end)] == [1, 1, 1]
    assert near_the_end.counts.locks_asked == extended.counts.locks_asked == len(every)
    assert (extended.exit_code, again.exit_code, again.counts.locks_asked) == (0, 0, 0)


def test_what_is_remembered_of_locks_is_of_one_place_and_may_be_lost(tmp_path: Path) -> None:
    store, clock = Bucket(), FrozenClock(100 * DAY_NS)
    cache = tmp_path / "cache"
    with new_repository(store, options=OPTIONS, clock=clock, cache_path=cache) as repository:
        take(repository, _file(tmp_path / "tree", b"content"))
        count = len(store.lock_all(Lock(120 * DAY_NS, "COMPLIANCE")))
        look(repository)
        (kept,) = cache.glob("*-locks")

        store.place = "another bucket"
        elsewhere = [look(repository), look(repository)]
        store.place = "a bucket"
        back = look(repository)
        kept.write_bytes(kept.read_bytes()[:-1])
        damaged = look(repository)
        clock.advance(30 * DAY_NS / 1e9)
        take(repository, tmp_path / "tree", tags=("again",))
        over = look(repository)
        assert check(repository).exit_code == 0

    assert [report.counts.locks_asked for report in elsewhere] == [count, 0]
    assert [report.counts.locks_asked for report in (back, damaged)] == [0, count]
    # Nothing is left of locks that have ended.
    assert over.counts.locks_remembered == 0 and over.warnings == 1


def test_every_version_of_a_needed_object_is_locked_and_a_hidden_one_is_told(tmp_path: Path) -> None:
    store = Bucket()
    tree = _file(tmp_path / "tree", b"content")
    with new_repository(store, options=OPTIONS) as repository:
        take(repository, tree)
        pack = next(row.name.key for row in repository.index.packs())
        store.more = [_version(pack, "theirs", 9), _version("keys/-begin", "marker", 0, marker=True)]

        report = extend(repository, 500)

        assert {identifier for key, identifier in store.given if key == pack} == {"ours", "theirs"}
        assert ("keys/-begin", "marker") not in store.given
        assert report.hidden == ["keys/-begin"]
        assert [(finding.code, finding.severity) for finding in report.findings] == [("locks.hidden", "error")]
        assert check(repository).exit_code == 0


def look(repository: Repository) -> CheckReport:
    """A check of a repository whose objects are to be locked for ten days."""
    options = CheckOptions(object_lock_ns=10 * DAY_NS)
    return check_repository(repository, options, listener=NullListener(), cancel=CancelToken())


def extend(repository: Repository, until_ns: int) -> LockReport:
    term = Term(short_ns=until_ns, until_ns=until_ns)
    return look_at_locks(repository, term, committed(repository), listener=NullListener(), cancel=CancelToken())


def committed(repository: Repository) -> frozenset[SnapshotId]:
    return frozenset(repository.catalog.committed())


def _version(key: str, identifier: str, size: int, *, marker: bool = False) -> Version:
    return Version(key=key, id=identifier, size=size, modified_ns=1, newest=identifier != "ours", marker=marker)


def _file(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    (folder / "file").write_bytes(content)
    return folder


def _packs(store: MemoryStore) -> set[PackId]:
    return {pack for key in store.objects if (pack := _id(key)) is not None}


def _id(key: str) -> PackId | None:
    return PackName.parse(key).id if key.startswith(layout.PACKS) and key not in layout.SENTINELS else None
