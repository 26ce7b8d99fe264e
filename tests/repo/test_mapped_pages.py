"""What is mapped of the local index is given back, and is there again when it is looked at."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from dedupstore.repo import lmdb_environment, mapped_pages
from dedupstore.repo.lmdb_index import LmdbIndex, open_index
from dedupstore.types import ChunkId, SegmentId
from tests.support.packs import REPOSITORY, chunk_id, synthetic_facts

KEY = bytes(range(32))
COUNT = 20_000

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux says what is mapped")


def resident_bytes(path: Path) -> int:
    """How much of a mapped file counts as this process's memory."""
    sizes, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            sizes += int(line.split()[1]) * 1024
    return sizes


@pytest.fixture
def ids() -> list[ChunkId]:
    return [chunk_id(str(number)) for number in range(COUNT)]


@pytest.fixture
def index(tmp_path: Path, ids: list[ChunkId]) -> LmdbIndex:
    made = open_index(tmp_path, REPOSITORY, KEY)
    made.apply(SegmentId(bytes(32)), [synthetic_facts("pack", ids)])
    return made


def test_mapped_pages_go_and_what_was_found_is_found_again(index: LmdbIndex, ids: list[ChunkId]) -> None:
    path = index.folder / "data.mdb"
    with index:
        before = [index.find(chunk) for chunk in ids]
        mapped = resident_bytes(path)

        assert mapped_pages.unmap_pages(path)

        assert resident_bytes(path) < mapped / 10
        assert [index.find(chunk) for chunk in ids] == before


def test_looking_up_keeps_to_the_limit(index: LmdbIndex, ids: list[ChunkId], monkeypatch: pytest.MonkeyPatch) -> None:
    path = index.folder / "data.mdb"
    with index:
        for chunk in ids:
            index.find(chunk)
        everything = resident_bytes(path)
        monkeypatch.setattr(mapped_pages, "MAX_BYTES", 0)
        monkeypatch.setattr(lmdb_environment, "LOOKS_PER_LIMIT", 4)

        for number, chunk in enumerate(ids):
            index.find(chunk)
            if number % 8 == 0:
                index.find_all(chunk)

        assert everything > 200 * mmap.PAGESIZE
        assert resident_bytes(path) < everything / 2


def test_looking_into_one_index_gives_back_the_pages_of_the_other(
    index: LmdbIndex, ids: list[ChunkId], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy has two open: else one of them would be unmapped for ever because of the other, which is not."""
    with index, open_index(tmp_path / "other", REPOSITORY, KEY) as other:
        for chunk in ids:
            index.find(chunk)
        mapped = resident_bytes(index.folder / "data.mdb")
        monkeypatch.setattr(mapped_pages, "MAX_BYTES", 0)
        monkeypatch.setattr(lmdb_environment, "LOOKS_PER_LIMIT", 4)

        for chunk in ids[:4]:
            other.find(chunk)

        assert resident_bytes(index.folder / "data.mdb") < mapped / 10


def test_learning_keeps_to_the_limit(index: LmdbIndex, ids: list[ChunkId], monkeypatch: pytest.MonkeyPatch) -> None:
    path = index.folder / "data.mdb"
    with index:
        monkeypatch.setattr(mapped_pages, "MAX_BYTES", 0)

        index.apply(SegmentId(bytes([1] * 32)), [synthetic_facts("second", ids)])

        assert resident_bytes(path) < path.stat().st_size / 2
        assert all(len(index.find_all(chunk)) == 2 for chunk in ids[::97])


def test_rows_under_random_keys_keep_to_the_limit(
    index: LmdbIndex, ids: list[ChunkId], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = index.folder / "data.mdb"
    unmapped: list[int] = []
    with index:
        index.put_directories((chunk[:20], bytes(60)) for chunk in ids)
        real = mapped_pages.unmap_pages

        def unmap(file: Path) -> bool:
            unmapped.append(resident_bytes(path))
            return real(file)

        monkeypatch.setattr(mapped_pages, "MAX_BYTES", 0)
        monkeypatch.setattr(mapped_pages, "unmap_pages", unmap)
        monkeypatch.setattr(lmdb_environment, "LOOKS_PER_LIMIT", 4)

        index.put_directories((chunk[:20], bytes(61)) for chunk in ids[::40])

        assert max(unmapped[1:]) < path.stat().st_size / 2
        assert index.get_directory(ids[40][:20]) == bytes(61)


def test_a_file_that_is_not_mapped_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")

    assert not mapped_pages.unmap_pages(path)
