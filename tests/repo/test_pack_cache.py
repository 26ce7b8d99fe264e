"""Packs kept on this machine: a bound, an order in which they go, and nothing believed."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dedupstore.errors import ObjectNotFound
from dedupstore.repo.pack_cache import PackCache
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, PackId, RepositoryId, Span
from tests.support.checking import assert_clean
from tests.support.recording import RecordingStore
from tests.support.repositories import (
    assert_restores,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    take,
)

REPOSITORY = RepositoryId(bytes(16))


def pack(number: int) -> PackName:
    return PackName(id=PackId(bytes([number]) * 32), kind=Kind.DATA, units=1)


def aged(folder: Path, seconds: int) -> None:
    """So long ago all files were used last."""
    for path in folder.rglob("*"):
        found = path.stat()
        os.utime(path, ns=(found.st_mtime_ns - seconds * 10**9,) * 2)


def test_parts_of_a_pack_that_was_put_or_fetched_are_read_back(tmp_path: Path) -> None:
    cache = PackCache(tmp_path, REPOSITORY, 1000)
    cache.keep_pack(pack(1), [b"head", b"body"])
    cache.keep_part(pack(2), Span(64, 4), b"part")

    again = PackCache(tmp_path, REPOSITORY, 1000)

    for found in (cache, again):
        assert found.read(pack(1), Span(2, 4)) == b"adbo"
        assert found.read(pack(2), Span(64, 4)) == b"part"
        assert not found.has(pack(1), Span(6, 4)) and found.read(pack(1), Span(6, 4)) is None
        assert not found.has(pack(2), Span(0, 4)) and found.read(pack(2), Span(0, 4)) is None
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert set(modes.values()) == {0o700, 0o600} and len(modes) == 3


def test_what_was_not_used_for_longest_goes_first_and_what_this_process_has_stays(tmp_path: Path) -> None:
    before = PackCache(tmp_path, REPOSITORY, 30)
    for number in (1, 2, 3):
        before.keep_pack(pack(number), [bytes(10)])
        aged(tmp_path, 100)
    cache = PackCache(tmp_path, REPOSITORY, 30)
    assert cache.read(pack(1), Span(0, 10)) == bytes(10)

    cache.keep_pack(pack(4), [bytes(10)])
    cache.keep_pack(pack(5), [bytes(10)])
    cache.keep_pack(pack(6), [bytes(10)])
    cache.keep_pack(pack(7), [bytes(31)])

    held = [number for number in range(1, 8) if cache.has(pack(number), Span(0, 10))]
    assert held == [1, 4, 5]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 30
    smaller = PackCache(tmp_path, REPOSITORY, 10)
    assert sum(smaller.has(pack(number), Span(0, 10)) for number in (1, 4, 5)) == 1


def test_what_storage_has_not_any_more_goes(tmp_path: Path, far: FarStore) -> None:
    tree, cache = make_tree(tmp_path / "tree"), tmp_path / "cache"
    with new_repository(far, cache) as repository:
        repository.kept_bytes = 1 << 20
        take(repository, tree)
    kept = {path.name[:64] for path in cache.glob("*-packs/*")}
    (gone, *_) = sorted(kept)
    (key,) = [row.key for row in far.list("packs/") if gone in row.key]
    pack = far.get(key)
    far.delete(key)

    with on_this_machine(far, cache) as repository:
        repository.look()
        assert {path.name[:64] for path in cache.glob("*-packs/*")} == kept - {gone}

        far.put(key, [pack])
        assert_clean(repository)


def test_a_folder_that_cannot_be_used_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    cache = PackCache(tmp_path / "file", REPOSITORY, 1000)
    cache.keep_pack(pack(1), [b"head"])

    assert cache.read(pack(1), Span(0, 4)) is None


class FarStore(RecordingStore):
    """A store with a network between."""

    remote = True
    refused: Callable[[Span], bool] = staticmethod(lambda span: False)
    """Parts of data packs that it says are not there."""

    def get(self, key: str, span: Span | None = None) -> bytes:
        if span is not None and ".d" in key and self.refused(span):
            raise ObjectNotFound(f"there is no {key}")
        return super().get(key, span)

    def data_packs_read(self) -> int:
        return sum(call.verb == "get" and ".d" in call.key for call in self.calls)


@pytest.fixture
def far() -> FarStore:
    return FarStore(MemoryStore())


def on_this_machine(far: FarStore, cache: Path) -> Repository:
    repository = open_repository(far, cache)
    repository.kept_bytes = 1 << 20
    far.calls.clear()
    return repository


def test_an_increment_is_made_without_reading_packs_and_a_lost_cache_costs_only_time(
    tmp_path: Path, far: FarStore
) -> None:
    tree, cache = make_tree(tmp_path / "tree"), tmp_path / "cache"
    with new_repository(far, cache) as repository:
        repository.kept_bytes = 1 << 20
        first = take(repository, tree).statistics
    stored, read = [], []

    for number, keep in enumerate((True, True, False, True)):
        mutate_tree(tree, number)
        for path in () if keep else list(cache.glob("*-packs/*")):
            path.unlink()
        with on_this_machine(far, cache) as repository:
            stored.append(take(repository, tree).statistics.bytes_stored)
            read.append(far.data_packs_read())

    # What the lost cache is asked for again is kept again.
    assert read[0] == read[1] == 0 < read[2] and read[3] < read[2]
    assert max(stored) < first.bytes_stored // 4
    with open_repository(far.inner) as repository:
        (*_, newest) = repository.catalog.snapshots().snapshots
        assert_restores(repository, newest, files_below(tree))
        assert_clean(repository)


def test_rot_in_what_is_kept_is_never_told_and_read_from_storage(tmp_path: Path, far: FarStore) -> None:
    tree, cache = make_tree(tmp_path / "tree"), tmp_path / "cache"
    with new_repository(far, cache) as repository:
        repository.kept_bytes = 1 << 20
        take(repository, tree)
    for path in cache.glob("*-packs/*"):
        path.write_bytes(bytes(path.stat().st_size))
    mutate_tree(tree, 1)

    with on_this_machine(far, cache) as repository:
        result = take(repository, tree)
        assert far.data_packs_read() > 0

        assert not result.findings
        assert_restores(repository, result.snapshot, files_below(tree))
        assert_clean(repository)


def test_what_a_killed_process_left_half_written_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    PackCache(tmp_path, REPOSITORY, 1000)
    (folder,) = tmp_path.iterdir()
    left, written = folder / f".writing-{'0' * 16}", folder / f".writing-{'1' * 16}"
    left.write_bytes(bytes(500))
    with written.open("wb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)

        PackCache(tmp_path, REPOSITORY, 1000)

        assert not left.exists() and written.exists()
    PackCache(tmp_path, REPOSITORY, 1000)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("what", ["utime", "unlink"])
def test_a_cache_on_a_disk_that_cannot_be_written_any_more_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    PackCache(tmp_path, REPOSITORY, 1000).keep_pack(pack(1), [b"whole"])
    cache = PackCache(tmp_path, REPOSITORY, 1000)

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, what, refused)

    assert cache.read(pack(1), Span(0, 5)) == b"whole"
    cache.drop(pack(1), Span(0, 5))
    assert cache.read(pack(1), Span(0, 5)) is None
