"""A mirror from disk to disk: packs go in pieces, proven before they have a name, and what is wrong is told as ever."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dedupstore.errors import StoreFull
from dedupstore.repo import layout
from dedupstore.repo.proof import PROVEN
from dedupstore.storage.local import LocalStore
from dedupstore.storage.system import System
from dedupstore.types import Span
from tests.support.faults import FaultySystem
from tests.support.replicating import History, assert_mirrored, make_history, run_mirror


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("mirror"), snapshots=2)


@pytest.fixture
def source(history: History, tmp_path: Path) -> str:
    """The path of a repository on disk."""
    path = tmp_path / "source"
    store = LocalStore.create(str(path))
    for key, data in history.objects.items():
        store.put(key, [data])
    store.close()
    return str(path)


@pytest.fixture
def target(tmp_path: Path) -> LocalStore:
    return LocalStore.create(str(tmp_path / "target"))


def first_pack(history: History) -> str:
    return min(key for key in history.objects if key.startswith(layout.PACKS) and key not in layout.SENTINELS)


def leftovers(store: LocalStore) -> list[str]:
    return os.listdir(f"{store.url}/tmp")


def test_what_a_name_proves_is_never_whole_in_memory(history: History, source: str, target: LocalStore) -> None:
    class Watched(LocalStore):
        whole: tuple[str, ...] = ()

        def get(self, key: str, span: Span | None = None) -> bytes:
            self.whole += (key,)
            return super().get(key, span)

    watched = Watched(source)

    assert run_mirror(watched, target).exit_code == 0

    assert [key for key in watched.whole if key.startswith(PROVEN)] == []
    assert {row.key: target.get(row.key) for row in target.list("")} == history.objects
    assert_mirrored(target, history.states, list(history.states))


def test_a_pack_that_its_name_disproves_gets_no_name_in_the_mirror(
    history: History, source: str, target: LocalStore
) -> None:
    key = first_pack(history)
    data = history.objects[key]
    Path(source, key).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    result = run_mirror(LocalStore(source), target)

    assert result.exit_code == 4 and result.held == 2
    assert [f.message for f in result.findings if f.code == "mirror.source_damaged" and key in f.message]
    assert key not in {row.key for row in target.list("")} and leftovers(target) == []
    Path(source, key).write_bytes(data)
    assert run_mirror(LocalStore(source), target).exit_code == 0
    assert_mirrored(target, history.states, list(history.states))


class Sector(System):
    """Some bytes that the disk does not give the first so many times, of one file."""

    def __init__(self, path: str, times: int) -> None:
        self._file = os.stat(path).st_ino
        self._left = times

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        if self._left and os.fstat(descriptor).st_ino == self._file:
            self._left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().pread_into(descriptor, buffer, offset)


def test_a_sector_that_is_read_at_the_second_try_costs_nothing(
    history: History, source: str, target: LocalStore
) -> None:
    system = Sector(f"{source}/{first_pack(history)}", times=1)

    assert run_mirror(LocalStore(source, system=system), target).exit_code == 0

    assert_mirrored(target, history.states, list(history.states))


def test_a_bad_sector_keeps_one_object_and_no_other(history: History, source: str, target: LocalStore) -> None:
    key = first_pack(history)

    result = run_mirror(LocalStore(source, system=Sector(f"{source}/{key}", times=100)), target)

    assert result.exit_code == 4 and leftovers(target) == []
    there = {row.key for row in target.list(layout.PACKS)}
    assert {name for name in history.objects if name.startswith(layout.PACKS)} - there == {key}


def test_a_full_mirror_is_an_error_of_the_mirror_and_no_damage(
    history: History, source: str, target: LocalStore, tmp_path: Path
) -> None:
    class Full(FaultySystem):
        def writev(self, descriptor: int, parts: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run_mirror(LocalStore(source), target)
    os.unlink(f"{target.url}/{first_pack(history)}")

    with pytest.raises(StoreFull):
        run_mirror(LocalStore(source), LocalStore(target.url, system=Full()))

    assert leftovers(target) == []
    assert run_mirror(LocalStore(source), target).exit_code == 0
    assert_mirrored(target, history.states, list(history.states))
