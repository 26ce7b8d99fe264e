"""A small file with new times and the bytes it had: its chunks are named again, and only after all of them were compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.codec.hashing import digest
from dedupstore.engine import filestore, small_contents
from dedupstore.engine.content import ContentStore
from dedupstore.engine.filestore import FileStore
from dedupstore.engine.sink import DrySink
from dedupstore.engine.snapshot import SnapshotResult
from dedupstore.engine.tally import Tally
from dedupstore.events import NullListener
from dedupstore.model.entry import FILE, SYMLINK, Entry
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.sources.attributes import Owners
from dedupstore.sources.many_names import Item
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId, Data, Kind
from tests.support.checking import assert_clean
from tests.support.repositories import (
    assert_restores,
    entries_of,
    files_below,
    make_tree,
    new_repository,
    open_repository,
    take,
)

LATER_NS = 1_900_000_000 * 10**9


def touch_all(tree: Path) -> None:
    """Other times everywhere, nothing else."""
    for number, path in enumerate(sorted(tree.rglob("*"))):
        if path.is_file() and not path.is_symlink():
            os.utime(path, ns=(LATER_NS, LATER_NS + number))


def entries(repository: Repository, result: SnapshotResult) -> dict[bytes, Entry]:
    assert result.snapshot is not None
    found = dict(entries_of(repository.reader.load_manifest, result.snapshot))
    return {path: entry for path, entry in found.items() if entry.kind == FILE}


def refuse(_dir_fd: int, items: list[Item], _limit: int, /) -> list[bytes | None]:
    return [None] * len(items)


def test_other_times_alone_store_no_data_and_give_what_reading_every_file_anew_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "noise.bin").unlink()  # has two names: hard links are read the long way
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        first = entries(repository, take(repository, tree))
        touch_all(tree)

        quick = take(repository, tree)
        monkeypatch.setattr(filestore, "read_small_files", refuse)
        slow = take(repository, tree, force=True)

        assert quick.snapshot is not None
        assert slow.snapshot is not None
        assert quick.snapshot.root == slow.snapshot.root
        second = entries(repository, quick)
        assert all(second[path].content == first[path].content for path in first)
        assert all(second[path].mtime >= LATER_NS for path in first)
        assert quick.statistics.files_changed == len(first)
        assert quick.statistics.bytes_read == sum(entry.size for entry in first.values())
        written = [PackName.parse(row.key).kind for row in layout.list_complete(repository.store, layout.PACKS)]
        assert written.count(Kind.MANIFEST) > 1
        assert_restores(repository, quick.snapshot, files_below(tree))
        assert_clean(repository)


@pytest.mark.parametrize("place", [0, 5_000, -1], ids=["first chunk", "a chunk in the middle", "last byte"])
@pytest.mark.parametrize("name", ["dump.sql", "readme.txt"])
def test_one_byte_that_differs_in_a_file_of_equal_length_is_stored(tmp_path: Path, name: str, place: int) -> None:
    tree = make_tree(tmp_path / "tree")
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        before = files_below(tree)
        first = take(repository, tree).snapshot
        data = bytearray((tree / name).read_bytes())
        data[place if place < len(data) else len(data) // 2] ^= 1
        (tree / name).write_bytes(data)

        second = take(repository, tree).snapshot

        assert_restores(repository, first, before)
        assert_restores(repository, second, files_below(tree))
        assert_clean(repository)


def test_chunks_of_a_lost_pack_are_stored_anew_when_their_file_is_met_with_other_times(tmp_path: Path) -> None:
    """The entry names chunks that no usable pack has: that the bytes are the same is then not enough."""
    store = MemoryStore()
    tree = make_tree(tmp_path / "tree")
    with new_repository(store, tmp_path / "cache") as repository:
        take(repository, tree)
    for row in layout.list_complete(store, layout.PACKS):
        if PackName.parse(row.key).kind is Kind.DATA:
            store.delete(row.key)
    touch_all(tree)

    with open_repository(store, tmp_path / "cache") as repository:
        second = take(repository, tree)

        assert_restores(repository, second.snapshot, files_below(tree))


@pytest.mark.parametrize("force", [False, True], ids=["other times", "forced"])
def test_chunks_that_the_index_lacks_are_stored_anew_where_nothing_is_known_to_be_lost(
    tmp_path: Path, force: bool
) -> None:
    """Packs and the segments that described them are gone, and this machine never knew of them: the view is whole."""
    store = MemoryStore()
    tree = make_tree(tmp_path / "tree")
    with new_repository(store, tmp_path / "cache") as repository:
        take(repository, tree)
    for row in layout.list_complete(store, layout.PACKS):
        if PackName.parse(row.key).kind is Kind.DATA:
            store.delete(row.key)
    for row in layout.list_complete(store, layout.INDEX):
        store.delete(row.key)
    touch_all(tree)

    with open_repository(store, tmp_path / "another machine") as repository:
        assert repository.look().whole
        second = take(repository, tree, force=force)

        assert_restores(repository, second.snapshot, files_below(tree))


def test_what_was_no_file_is_no_previous_content(tmp_path: Path) -> None:
    """A hostile parent can give a symbolic link the size of the file that took its place, and no content."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    with new_repository(MemoryStore()) as repository:
        sink, tally = DrySink(repository.keyring, repository.index, repository.look()), Tally(NullListener())
        store = ContentStore(sink, repository.chunker(), CancelToken(), tally.read)
        files = FileStore(sink=sink, load=repository.reader.load_manifest, content=store, owners=Owners(), tally=tally)
        before = Entry(name=b"file", kind=SYMLINK, mode=0o777, size=5)

        (named,) = store.name_all([b"12345"], [before])

        entry = files.store(b"file", b"file", -1, path.stat(), before, named)

        assert entry.inline_references() == [(sink.digest(Kind.DATA, b"12345"), 5)]


def wrong_digests(_key: bytes | None, pieces: Sequence[Data], /) -> list[bytes]:
    """Of a computer whose memory flips bits."""
    return [bytes(32) for _ in pieces]


def test_a_wrong_hash_of_the_previous_version_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore refuses what does not have the hash that its entry says."""
    tree = make_tree(tmp_path / "tree")
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        with monkeypatch.context() as patch:
            patch.setattr(small_contents, "digests", wrong_digests)
            first = entries(repository, take(repository, tree))
        dump = next(path for path in first if path.endswith(b"dump.sql"))
        assert first[dump].hash == bytes(32)
        touch_all(tree)

        second = take(repository, tree)

        assert entries(repository, second)[dump].hash == digest([(tree / "dump.sql").read_bytes()])
        assert_restores(repository, second.snapshot, files_below(tree))
        assert_clean(repository)


def test_cuts_of_a_parent_that_are_none_of_the_rule_are_used_where_they_are_and_not_made_again(tmp_path: Path) -> None:
    """Anyone with the keys may have written the parent: what is stored anew is cut by the rule."""
    data = b"0123456789" * 10
    path = tmp_path / "file"
    path.write_bytes(data)
    with new_repository(MemoryStore(), tmp_path / "cache") as repository:
        sink, tally = DrySink(repository.keyring, repository.index, repository.look()), Tally(NullListener())
        store = ContentStore(sink, repository.chunker(), CancelToken(), tally.read)
        files = FileStore(sink=sink, load=repository.reader.load_manifest, content=store, owners=Owners(), tally=tally)
        halves = [data[:50], data[50:]]
        content = b"".join(sink.digest(Kind.DATA, half) + len(half).to_bytes(3, "big") for half in halves)
        before = Entry(name=b"file", kind=FILE, mode=0o644, size=100, content=content, hash=bytes(32))

        (named,) = store.name_all([data], [before])
        assert named is not None
        assert named.same
        anew = files.store(b"file", b"file", -1, path.stat(), before, named)
        for half in halves:
            sink.save(Kind.DATA, half)
        taken_over = files.store(b"file", b"file", -1, path.stat(), before, named)

        assert (anew.content, anew.hash) == (sink.digest(Kind.DATA, data), b"")
        assert (taken_over.content, taken_over.hash) == (content, digest([data]))


def counted_look_ups(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> list[ChunkId]:
    asked: list[ChunkId] = []
    find = repository.index.find
    monkeypatch.setattr(repository.index, "find", lambda chunk: asked.append(chunk) or find(chunk))
    return asked


@pytest.mark.parametrize("kept", [True, False], ids=["this machine stored it", "another machine did"])
def test_chunks_are_looked_up_unless_this_machine_has_stored_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    store = MemoryStore()
    tree = make_tree(tmp_path / "tree")
    with new_repository(store, tmp_path / "cache") as repository:
        first = entries(repository, take(repository, tree))
    touch_all(tree)
    small = {entry.content for entry in first.values() if len(entry.content) == 32}

    with open_repository(store, tmp_path / ("cache" if kept else "another machine")) as repository:
        asked = counted_look_ups(repository, monkeypatch)
        second = take(repository, tree)

        assert len(small & set(asked)) <= len(small) // 4 if kept else small <= set(asked)
        assert_restores(repository, second.snapshot, files_below(tree))
        assert_clean(repository)
