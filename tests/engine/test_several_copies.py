"""Of several copies of a chunk the good ones are read before those known to be bad, and each before any is given up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dedupstore.errors import CorruptChunk, CorruptObject, IntegrityError, RepositoryError, StoreError, StoreMissing
from dedupstore.repo.badlist import BadRecord, put_bad
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, Span
from tests.support.damaging import check, chunk_of, content_of
from tests.support.pack_layouts import LAYOUTS, Scene, build
from tests.support.repositories import open_repository


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("known bad") / "tree"


@pytest.fixture(scope="module")
def scene(tree: Path) -> Scene:
    return build(LAYOUTS["full"], tree)


@pytest.fixture
def store(scene: Scene) -> MemoryStore:
    return scene.store()


@pytest.fixture
def repository(store: MemoryStore, tmp_path: Path) -> Iterator[Repository]:
    with open_repository(store, tmp_path / "cache") as opened:
        opened.look()
        yield opened


class Watched(MemoryStore):
    """Tells which packs were read, and fails for some as told."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__("memory:watched")
        self.objects = inner.objects
        self.read: list[str] = []
        self.failing: dict[str, Exception] = {}

    def get(self, key: str, span: Span | None = None) -> bytes:
        self.read.append(key)
        if key in self.failing:
            raise self.failing[key]
        return super().get(key, span)


@dataclass
class TwoCopies:
    """A chunk in two packs; the first is the one the index prefers."""

    repository: Repository
    store: Watched
    first: str
    second: str

    def read(self) -> bytes:
        self.store.read.clear()
        return self.repository.reader.read(Kind.DATA, chunk_of(self.repository, "a"))


@pytest.fixture
def copies(store: MemoryStore) -> Iterator[TwoCopies]:
    watched = Watched(store)
    with open_repository(watched) as repository:
        with repository.writer(repository.look()) as writer:
            writer.store_again(Kind.DATA, chunk_of(repository, "a"), content_of("a"))
        repository.look()
        places = repository.index.find_all(chunk_of(repository, "a"))
        first, second = (repository.index.pack(place.pack_no).name.key for place in places)
        yield TwoCopies(repository, watched, first, second)
        watched.failing.clear()
        assert check(repository).exit_code == 0


def test_a_good_copy_is_read_before_one_that_is_known_to_be_bad(copies: TwoCopies) -> None:
    assert copies.read() == content_of("a") and copies.store.read == [copies.first]
    repository = copies.repository
    first = repository.index.pack(repository.index.find_all(chunk_of(repository, "a"))[0].pack_no)
    put_bad(copies.store, repository.keyring, BadRecord(packs={first.id: frozenset({0})}))
    repository.drop_index()
    repository.look()

    assert copies.read() == content_of("a")
    assert copies.store.read == [copies.second]
    assert repository.index.pack(repository.reader.locate(chunk_of(repository, "a")).pack_no).id != first.id


@pytest.mark.parametrize("error", [StoreError("a sector that cannot be read"), CorruptObject("damaged")])
def test_where_one_copy_cannot_be_read_the_next_is_tried(copies: TwoCopies, error: RepositoryError) -> None:
    copies.store.failing[copies.first] = error

    assert copies.read() == content_of("a")
    assert copies.store.read == [copies.first, copies.second]


def test_where_no_copy_can_be_read_the_first_failure_is_told(copies: TwoCopies) -> None:
    copies.store.failing[copies.first] = CorruptChunk("damaged")
    copies.store.failing[copies.second] = StoreError("gone for now")

    with pytest.raises(IntegrityError, match="damaged"):
        copies.read()


def test_a_store_that_is_gone_is_not_asked_for_another_copy(copies: TwoCopies) -> None:
    copies.store.failing[copies.first] = StoreMissing("no disk")

    with pytest.raises(StoreMissing):
        copies.read()
    assert copies.store.read == [copies.first]
