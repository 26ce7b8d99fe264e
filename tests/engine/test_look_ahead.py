"""The directory that comes next is read by a second thread: nothing of a snapshot shows it, whatever happens meanwhile."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dedupstore.clock import FrozenClock
from dedupstore.engine import items, look_ahead
from dedupstore.engine.filestore import FileStore
from dedupstore.engine.items import Looked, Place, look
from dedupstore.engine.look_ahead import LookAhead
from dedupstore.errors import Interrupted
from dedupstore.model.entry import Entry
from dedupstore.sources.exclude import Excluder, ExcludeRules
from dedupstore.storage.memory import MemoryStore
from tests.support.checking import assert_clean
from tests.support.repositories import assert_restores, files_below, make_tree, new_repository, random_bytes, take

LATER_NS = 1_900_000_000 * 10**9
TAG = b"Signature: 8a477f597d28d172789f06886806bc55"


def nested_tree(path: Path) -> Path:
    """Directories beside and below one another, files before and behind them, more than are read at a time."""
    make_tree(path)
    for number in range(12):
        folder = path / f"n{number:02d}" / "below" / "and below"
        folder.mkdir(parents=True)
        for above in (folder, folder.parent, folder.parent.parent):
            (above / "a file before").write_bytes(random_bytes(f"{above}", 30_000))
            (above / "zzz file behind").write_bytes(b"behind")
    many = path / "o many"
    many.mkdir()
    for number in range(150):
        (many / f"{number}").write_bytes(random_bytes(f"{number}", 40_000))
    (many / "short").write_bytes(b"x")
    return path


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The names of the directories that were taken over as the second thread found them."""
    names: list[bytes] = []
    original = LookAhead.take

    def take_and_tell(self: LookAhead, place: Place, name: bytes) -> Looked | None:
        looked = original(self, place, name)
        if looked is not None:
            names.append(name)
        return looked

    monkeypatch.setattr(LookAhead, "take", take_and_tell)
    return names


def when_taken(monkeypatch: pytest.MonkeyPatch, wanted: bytes, act: Callable[[], None]) -> None:
    """Run `act` after a directory was read ahead and before the walk gets to it."""
    original = LookAhead.take

    def take_late(self: LookAhead, place: Place, name: bytes) -> Looked | None:
        looked = original(self, place, name)
        if name == wanted:
            assert looked is not None
            act()
        return looked

    monkeypatch.setattr(LookAhead, "take", take_late)


def test_a_tree_read_ahead_is_the_tree_read_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[bytes]
) -> None:
    tree = nested_tree(tmp_path / "tree")
    seen = []
    for ahead in (True, False):
        if not ahead:
            monkeypatch.setattr(LookAhead, "expect", lambda _self, _place: None)
        with new_repository(MemoryStore(), tmp_path / f"cache {ahead}") as repository:
            rounds = []
            for round_number in range(2):
                result = take(repository, tree, force=round_number == 1)
                assert not result.findings
                assert_restores(repository, result.snapshot, files_below(tree))
                rounds.append(
                    (result.statistics.files, result.statistics.bytes_read, result.statistics.files_unchanged)
                )
            assert_clean(repository)
            seen.append(rounds)

    assert len(taken) > 2 * 30
    assert seen[0] == seen[1]


def test_files_with_other_times_alone_are_recognised_when_they_were_read_ahead(
    tmp_path: Path, taken: list[bytes]
) -> None:
    tree = nested_tree(tmp_path / "tree")
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        take(repository, tree)
        for path in tree.rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.utime(path, ns=(LATER_NS, LATER_NS))
        taken.clear()

        second = take(repository, tree)

        assert taken
        assert second.statistics.bytes_new < second.statistics.bytes_total // 50  # manifests
        assert second.statistics.files_new == 0
        assert_restores(repository, second.snapshot, files_below(tree))
        assert_clean(repository)


def test_a_file_that_is_written_after_it_was_read_ahead_is_stored_as_it_was_and_again_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = nested_tree(tmp_path / "tree")
    before = files_below(tree)
    path = tree / "n05" / "a file before"
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        with monkeypatch.context() as patch:
            when_taken(patch, b"n05", lambda: path.write_bytes(b"another" * 100) and None)
            first = take(repository, tree)
        second = take(repository, tree)

        assert_restores(repository, first.snapshot, before)
        assert_restores(repository, second.snapshot, files_below(tree))
        assert_clean(repository)


def test_a_directory_that_is_gone_after_it_was_read_ahead_is_stored_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = nested_tree(tmp_path / "tree")
    before = files_below(tree)
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        with monkeypatch.context() as patch:
            when_taken(patch, b"many1", lambda: shutil.rmtree(tree / "many1"))
            first = take(repository, tree)

        assert not first.findings
        assert_restores(repository, first.snapshot, before)


def test_when_a_directory_was_read_is_when_its_names_were_listed_or_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file written later than that may not be trusted, however long the walk takes to get there."""
    order = []
    monkeypatch.setattr(items, "list_names", lambda _fd: order.append("names") or [])
    fd = os.open(tmp_path, os.O_RDONLY)

    looked = look(fd, 0, Excluder(ExcludeRules()), lambda: order.append("time") or 7)
    os.close(fd)

    assert looked.read_at == 7
    assert order == ["time", "names"]


def test_what_is_excluded_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: list[bytes]) -> None:
    tree = nested_tree(tmp_path / "tree")
    (tree / "n07" / "CACHEDIR.TAG").write_bytes(TAG)
    read: list[bytes] = []
    caches = Excluder(ExcludeRules(caches=True))
    original = LookAhead._look_closer

    def look_closer(self: LookAhead, looked: Looked) -> None:
        original(self, looked)
        read.extend(name for name in looked.contents if name != b"CACHEDIR.TAG")
        if self.excluder is caches and b"CACHEDIR.TAG" in looked.names:
            assert looked.names == [b"CACHEDIR.TAG"]

    monkeypatch.setattr(LookAhead, "_look_closer", look_closer)
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        take(repository, tree, excluder=caches)
        assert b"n07" in taken
        assert b"a file before" in read
        read.clear()

        second = take(repository, tree, excluder=Excluder(ExcludeRules(patterns=("*before",))), force=True)

        assert not read
        kept = {path: text for path, text in files_below(tree).items() if not path.endswith(b"before")}
        assert_restores(repository, second.snapshot, kept)


def test_a_directory_that_cannot_be_opened_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second thread says nothing: it is the walk that finds out, when it gets there."""
    tree = nested_tree(tmp_path / "tree")
    original = LookAhead.expect

    def expect(self: LookAhead, place: Place) -> None:
        for name, _ in place.upcoming or ():
            if name == b"n03":
                (tree / "n03").rename(tree / "elsewhere")
        original(self, place)

    monkeypatch.setattr(LookAhead, "expect", expect)
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        result = take(repository, tree)

    assert [finding.code for finding in result.findings] == ["file.vanished"]


def test_an_unchanged_tree_is_not_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = nested_tree(tmp_path / "tree")
    # Long after the files were written: nothing has to be read again for that.
    clock = FrozenClock(time.time_ns() + 3600 * 10**9)
    with new_repository(MemoryStore(), tmp_path / "cache", clock=clock) as repository:
        take(repository, tree)

        def refuse(_self: LookAhead, *_: object) -> None:
            raise AssertionError("read ahead")

        monkeypatch.setattr(LookAhead, "_look", refuse)
        second = take(repository, tree)

        assert second.statistics.files_changed == second.statistics.files_new == 0


@pytest.mark.parametrize("ends", ["well", "by an error"])
def test_no_descriptor_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    tree = nested_tree(tmp_path / "tree")
    (tree / "n04" / "stop").write_bytes(b"here")
    original = FileStore.store

    def store(self: FileStore, name: bytes, *rest: Any) -> Entry:
        if name == b"stop" and ends != "well":
            raise Interrupted("stopped")
        return original(self, name, *rest)

    monkeypatch.setattr(FileStore, "store", store)
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        repository.look()
        before = len(os.listdir("/proc/self/fd"))
        if ends == "well":
            take(repository, tree)
        else:
            with pytest.raises(Interrupted):
                take(repository, tree)

        assert len(os.listdir("/proc/self/fd")) <= before


def test_trouble_in_the_second_thread_is_raised_in_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(look_ahead, "look", fail)
    with new_repository(MemoryStore(), tmp_path / "cache") as repository, pytest.raises(MemoryError, match="no more"):
        take(repository, nested_tree(tmp_path / "tree"))


def test_below_a_directory_of_very_many_names_nothing_is_expected_that_does_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its subdirectories are met as they come: what stands beside it must not be read for each of them in vain."""
    monkeypatch.setattr(items, "MANY_NAMES", 10)
    tree = nested_tree(tmp_path / "tree")
    looked_at: list[bytes] = []
    original = LookAhead._look

    def look_and_tell(self: LookAhead, dir_fd: int, name: bytes, *rest: Any) -> Looked | None:
        looked_at.append(name)
        return original(self, dir_fd, name, *rest)

    monkeypatch.setattr(LookAhead, "_look", look_and_tell)
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        result = take(repository, tree)

        assert looked_at
        assert b"n03" not in looked_at
        assert looked_at.count(b"below") == 12
        assert_restores(repository, result.snapshot, files_below(tree))
