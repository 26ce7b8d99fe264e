"""How what is needed leaves condemned packs: delta blocks as they are, their bases in full."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.codec.block import Codec
from dedupstore.errors import RepositoryError
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId, Kind
from tests.support.moved_blocks import blocks, change_a_row, deltas, pack_ids, snapshot_of
from tests.support.pruning import (
    assert_comes_to_rest,
    assert_rebuilds,
    assert_sound,
    condemn,
    forget,
    plans,
    prune,
    sweep,
)
from tests.support.repositories import (
    new_repository,
    open_repository,
    random_bytes,
    segment_facts,
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def repository(store: MemoryStore) -> Iterator[Repository]:
    with new_repository(store) as made:
        yield made


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "rows").write_bytes(random_bytes("rows", 40_000))
    return tmp_path / "tree"


def full_copies(repository: Repository) -> set[ChunkId]:
    """Chunks that need no other, by what the packs say themselves."""
    listed = pack_ids(repository)
    return {
        chunk
        for fact in segment_facts(repository)
        if fact.id in listed
        for block in fact.blocks()
        if block.codec != Codec.DELTA
        for chunk in block.ids
    }


def test_a_delta_block_moves_as_it_is(repository: Repository, store: MemoryStore, tree: Path) -> None:
    first = snapshot_of(repository, tree)
    full_packs = pack_ids(repository)
    change_a_row(tree, 1)
    second = snapshot_of(repository, tree)
    before = deltas(repository)
    condemn(repository, pack_ids(repository) - full_packs)

    report = prune(repository)

    assert before and report.packs_deleted >= 2
    moved = deltas(repository)
    assert [(b.stored, b.raw, b.lengths, b.bases) for b in moved] == [
        (b.stored, b.raw, b.lengths, b.bases) for b in before
    ]
    assert_sound(repository, {first[0].id: first[1], second[0].id: second[1]})
    assert_rebuilds(repository)


def test_the_bases_of_a_delta_that_stays_move_in_full(repository: Repository, tree: Path) -> None:
    first, _ = snapshot_of(repository, tree)
    full_packs = pack_ids(repository)
    change_a_row(tree, 1)
    second = snapshot_of(repository, tree)
    delta = deltas(repository)
    forget(repository, first)
    condemn(repository, full_packs)

    prune(repository)

    assert not full_packs & pack_ids(repository)
    assert [block.bases for block in deltas(repository)] == [block.bases for block in delta] != []
    assert {base for block in delta for base in block.bases} <= full_copies(repository)
    assert_sound(repository, {second[0].id: second[1]})


def test_delta_and_bases_condemned_together_move_together(repository: Repository, tree: Path) -> None:
    first, _ = snapshot_of(repository, tree)
    change_a_row(tree, 1)
    second = snapshot_of(repository, tree)
    forget(repository, first)
    everything = pack_ids(repository)
    condemn(repository, everything)

    prune(repository)

    assert not everything & pack_ids(repository)
    assert {base for block in deltas(repository) for base in block.bases} <= full_copies(repository)
    assert_sound(repository, {second[0].id: second[1]})
    assert_rebuilds(repository)


def test_two_plans_that_condemn_the_two_copies_of_everything(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    first = snapshot_of(repository, tree)
    copies = pack_ids(repository)
    condemn(repository, copies)
    # This one may not count on what is condemned, so it stores everything once more.
    second = snapshot_of(repository, tree)
    again = pack_ids(repository) - copies
    condemn(repository, again)

    prune(repository)

    assert again and not (copies | again) & pack_ids(repository)
    assert plans(store) == []
    assert_sound(repository, {first[0].id: first[1], second[0].id: second[1]})


def test_of_two_condemned_copies_the_damaged_one_is_passed_over(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    """Others that move in the same run, before and after it, arrive all the same."""
    (tree / "more").write_bytes(random_bytes("more", 60_000))
    first = snapshot_of(repository, tree)
    copies = pack_ids(repository)
    condemn(repository, copies)
    second = snapshot_of(repository, tree)
    condemn(repository, pack_ids(repository))
    for key in sorted(key for key in store.objects if key.startswith("packs/") and ".d" in key):
        if PackName.parse(key).id in copies:
            data = bytearray(store.objects[key])
            data[200] ^= 1
            store.objects[key] = bytes(data)

    report = sweep(repository)

    assert report.bytes_moved >= 100_000
    assert_sound(repository, {first[0].id: first[1], second[0].id: second[1]})


def test_a_condemned_pack_that_nobody_has_indexed_is_indexed_first(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    before = set(store.objects)
    first = snapshot_of(repository, tree)
    packs = pack_ids(repository)
    for key in [key for key in set(store.objects) - before if key.startswith("index/")]:
        del store.objects[key]
    repository.drop_index()
    condemn(repository, packs)

    with open_repository(store) as other:
        assert sweep(other).packs_deleted > 0
        assert not packs & pack_ids(other)
        assert_sound(other, {first[0].id: first[1]})


def test_a_delta_that_nobody_needed_and_that_lost_its_bases_is_not_used_again(
    repository: Repository, tree: Path
) -> None:
    """It stays in a pack for the sake of its neighbours, and looks as if its chunks were there."""
    first, _ = snapshot_of(repository, tree)
    change_a_row(tree, 1)
    changed = (tree / "rows").read_bytes()
    (tree / "noise").write_bytes(random_bytes("noise", 60_000))
    second, _ = snapshot_of(repository, tree)
    (tree / "rows").unlink()
    third = snapshot_of(repository, tree)
    forget(repository, first)
    forget(repository, second)
    prune(repository)
    left = deltas(repository)
    assert left and not {base for block in left for base in block.bases} & full_copies(repository)
    assert repository.look().whole

    (tree / "rows").write_bytes(changed)
    fourth = snapshot_of(repository, tree)

    assert_sound(repository, {third[0].id: third[1], fourth[0].id: fourth[1]})


def test_a_writer_that_lost_a_pack_does_not_say_that_it_is_done(repository: Repository) -> None:
    """The last guard before old copies are deleted: what was taken is in packs and segments, or finishing fails."""
    writer = repository.writer(repository.look())
    writer.save(Kind.DATA, random_bytes("kept", 5_000))
    writer._packers[Kind.DATA].close = lambda: None  # type: ignore[method-assign]

    with pytest.raises(RepositoryError, match="1 chunks were taken"):
        writer.finish()


@pytest.mark.parametrize("beside", [0, 2_000])
def test_a_pack_that_a_spare_delta_needs_is_not_written_again_by_every_prune(
    repository: Repository, tree: Path, beside: int
) -> None:
    """Two clients stored one chunk: as a delta beside what is needed, and in full. The base of the delta looks dead,
    and so does its whole pack, unless something lies `beside` it that is needed.
    """
    (tree / "rows").write_bytes(random_bytes("rows", 900))
    (tree / "beside").write_bytes(random_bytes("beside", beside))
    first, _ = snapshot_of(repository, tree)
    change_a_row(tree, 1)
    (tree / "more").write_bytes(random_bytes("more", 4_000))
    second, files = snapshot_of(repository, tree)
    assert deltas(repository)
    reader = repository.reader
    full = full_copies(repository)
    changed = {chunk for fact in segment_facts(repository) for block in fact.blocks() for chunk in block.ids} - full
    with repository.writer(repository.look()) as writer:
        for chunk in changed:
            location = reader.locate(chunk)
            kind = repository.index.pack(location.pack_no).kind
            writer.store_again(kind, chunk, reader.read(kind, chunk))
    forget(repository, first)

    assert_comes_to_rest(repository)

    assert_sound(repository, {second.id: files})
    assert_rebuilds(repository)


@pytest.mark.parametrize("kind", [Kind.DATA, Kind.MANIFEST])
def test_what_a_run_that_was_stopped_has_lost_of_its_bases_stops_no_prune(
    repository: Repository, store: MemoryStore, tree: Path, kind: Kind
) -> None:
    """A prune lists the roots, the run puts its own and is killed before it looks again, and the prune deletes the bases."""
    first, _ = snapshot_of(repository, tree)
    bases = {row.id for row in repository.index.packs() if row.kind is kind}
    change_a_row(tree, 1)
    stopped, _ = snapshot_of(repository, tree)
    assert any(block.codec == Codec.DELTA for _, block in blocks(repository, kind))
    left = pack_ids(repository) - bases
    forget(repository, first)
    store.delete(layout.root_key(first.id))
    store.delete(layout.commit_key(stopped.id))
    root = store.objects.pop(layout.root_key(stopped.id))
    condemn(repository, bases)
    sweep(repository)
    store.objects[layout.root_key(stopped.id)] = root
    condemn(repository, left)

    sweep(repository)

    assert not left & pack_ids(repository)
    third, files = snapshot_of(repository, tree)
    assert_comes_to_rest(repository)
    assert_sound(repository, {third.id: files})
