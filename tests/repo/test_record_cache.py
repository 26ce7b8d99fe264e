"""Records kept on this machine are fetched once, and decide nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.repo import layout
from dedupstore.repo.record_cache import RecordCache
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from tests.support.checking import assert_clean
from tests.support.recording import RecordingStore
from tests.support.repositories import make_tree, new_repository, open_repository, take


@pytest.fixture
def memory(tmp_path: Path) -> MemoryStore:
    """A repository with three snapshots, made by somebody else."""
    store = MemoryStore()
    tree = make_tree(tmp_path / "tree")
    with new_repository(store) as repository:
        for _ in range(3):
            take(repository, tree)
    return store


def here(store: MemoryStore, folder: Path) -> tuple[Repository, RecordingStore]:
    """The repository as this machine opens it, and what it asks for from now on."""
    recording = RecordingStore(store)
    repository = open_repository(recording)
    repository.catalog.records = RecordCache(folder, repository.keyring)
    recording.calls.clear()
    return repository, recording


def fetched(recording: RecordingStore) -> list[str]:
    keys = [call.key for call in recording.calls if call.verb == "get"]
    recording.calls.clear()
    return keys


def test_each_record_is_fetched_once(memory: MemoryStore, tmp_path: Path) -> None:
    repository, recording = here(memory, tmp_path / "cache")

    first = repository.catalog.snapshots(cached=True)
    asked = fetched(recording)
    again, recording = here(memory, tmp_path / "cache")
    second = again.catalog.snapshots(cached=True)

    assert len(asked) == 6
    assert fetched(recording) == []
    assert second == first
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "cache", *(tmp_path / "cache").iterdir())] == [
        0o700,
        0o600,
    ]
    assert_clean(repository)


def test_what_was_made_here_need_not_be_fetched_at_all(memory: MemoryStore, tmp_path: Path) -> None:
    repository, recording = here(memory, tmp_path / "cache")
    take(repository, tmp_path / "tree")
    fetched(recording)

    listing = repository.catalog.snapshots(cached=True)

    assert len(listing.snapshots) == 4
    assert fetched(recording) == []
    assert_clean(repository)


def test_what_is_not_listed_does_not_exist_and_is_not_remembered(memory: MemoryStore, tmp_path: Path) -> None:
    repository, recording = here(memory, tmp_path / "cache")
    newest = repository.catalog.snapshots(cached=True).snapshots[-1]
    key = layout.commit_key(newest.id)
    marker = memory.objects.pop(key)
    fetched(recording)

    without = repository.catalog.snapshots(cached=True)
    memory.objects[key] = marker
    back = repository.catalog.snapshots(cached=True)

    assert newest not in without.snapshots and len(without.snapshots) == 2
    # A listing that names it again is not enough: the marker has to be there.
    assert fetched(recording) == [key, layout.root_key(newest.id)]
    assert newest in back.snapshots
    assert_clean(repository)


def test_an_object_of_another_size_or_time_is_another_one(memory: MemoryStore, tmp_path: Path) -> None:
    repository, recording = here(memory, tmp_path / "cache")
    newest = repository.catalog.snapshots(cached=True).snapshots[-1]
    key = layout.root_key(newest.id)
    right = memory.objects[key]
    memory.objects[key] = right + b"!"
    fetched(recording)

    damaged = repository.catalog.snapshots(cached=True)
    memory.objects[key] = right

    assert [identifier for identifier, _ in damaged.damaged] == [newest.id]
    assert newest in repository.catalog.snapshots(cached=True).snapshots
    assert_clean(repository)


def test_whoever_looks_for_damage_sees_what_storage_has(memory: MemoryStore, tmp_path: Path) -> None:
    repository, _ = here(memory, tmp_path / "cache")
    newest = repository.catalog.snapshots(cached=True).snapshots[-1]
    key = layout.root_key(newest.id)
    right = memory.objects[key]
    memory.objects[key] = right[:-1] + bytes([right[-1] ^ 1])

    assert [identifier for identifier, _ in repository.catalog.snapshots().damaged] == [newest.id]
    assert repository.catalog.snapshots(cached=True).damaged == ()

    memory.objects[key] = right
    assert_clean(repository)


def test_a_rotten_file_and_one_of_another_key_count_as_none(memory: MemoryStore, tmp_path: Path) -> None:
    repository, recording = here(memory, tmp_path / "cache")
    expected = repository.catalog.snapshots(cached=True)
    (path,) = (tmp_path / "cache").iterdir()
    whole = path.read_bytes()

    for broken in (whole[:100], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(broken)
        fetched(recording)
        again, recording = here(memory, tmp_path / "cache")
        assert again.catalog.snapshots(cached=True) == expected
        assert len(fetched(recording)) == 6
    with new_repository(MemoryStore()) as other:
        path.rename(path.with_name(f"{other.id.hex()}-records"))
        other.catalog.records = RecordCache(tmp_path / "cache", other.keyring)
        assert other.catalog.snapshots(cached=True).snapshots == ()
    assert_clean(repository)
