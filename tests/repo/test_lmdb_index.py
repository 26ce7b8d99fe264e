"""What a local index has learned is found: every chunk, every pack, whoever learns and however often."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.errors import CacheError, CorruptObject
from dedupstore.repo import index_values as values
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.index import BlockInfo, Index
from dedupstore.repo.lmdb_index import LmdbIndex, open_index
from dedupstore.repo.segment import PackFacts
from dedupstore.types import ChunkId, SegmentId
from tests.support import index_process
from tests.support.index_process import KEY, facts_of, fill, ids_of, read_everything, segment_of
from tests.support.packs import REPOSITORY, chunk_id, synthetic_facts

ALL = index_process.PACKS * index_process.CHUNKS


@pytest.fixture
def index(tmp_path: Path) -> Iterator[LmdbIndex]:
    with open_index(tmp_path / "cache", REPOSITORY, KEY) as opened:
        yield opened


def locations(index: Index, seeds: list[int]) -> set[tuple[bytes, bytes, int, int, int]]:
    """Every location, by pack id: numbers are this machine's own."""
    found: set[tuple[bytes, bytes, int, int, int]] = set()
    for seed in seeds:
        for pack in range(index_process.PACKS):
            for identifier in ids_of(seed, pack):
                for place in index.find_all(identifier):
                    row = index.pack(place.pack_no)
                    found.add((identifier, row.id, place.block_no, place.position, place.length))
    return found


def test_every_chunk_of_a_segment_is_found_where_it_lies(index: LmdbIndex) -> None:
    index.apply(segment_of(0), facts_of(0))

    assert read_everything(index, 0) == ALL
    assert index.find(chunk_id("never stored")) is None
    assert index.find_all(chunk_id("never stored")) == []
    assert index.segments() == {segment_of(0)}
    assert [(row.id, row.size) for row in index.packs()] == [(fact.id, fact.size) for fact in facts_of(0)]


def test_all_blocks_of_a_pack_come_in_order(index: LmdbIndex) -> None:
    index.apply(segment_of(0), facts_of(0))

    for fact, row in zip(facts_of(0), index.packs(), strict=True):
        blocks = index.blocks(row.no)
        assert blocks == [index.block(row.no, number) for number in range(len(blocks))]
        assert [block.lengths for block in blocks] == [list(block.lengths) for block in fact.blocks()]
    assert index.blocks(4_000_000_000) == []


def test_what_was_pruned_is_remembered_and_still_known(tmp_path: Path) -> None:
    with open_index(tmp_path / "cache", REPOSITORY, KEY) as index:
        index.apply(segment_of(0), facts_of(0))
        index.mark_removed([1])

    with open_index(tmp_path / "cache", REPOSITORY, KEY) as index:
        assert [row.no for row in index.packs() if row.removed] == [1]
        assert all(row.known for row in index.packs())
        assert read_everything(index, 0) == ALL


def test_a_block_keeps_its_bases_and_lengths(index: LmdbIndex) -> None:
    bases = [chunk_id("base 1"), chunk_id("base 2")]
    lengths = [1, 0xFFFFFF, 70_000]
    record = BlockRecord(64, 500, sum(lengths), 2, [chunk_id(str(n)) for n in range(3)], lengths, bases)

    decoded = values.decode_block(values.encode_block(record))

    assert decoded == BlockInfo(offset=64, stored=500, raw=sum(lengths), codec=2, lengths=lengths, bases=bases)


def test_the_largest_numbers_a_pack_allows_fit_a_location() -> None:
    identifier = ChunkId(b"\xff" * 32)
    blocks = [BlockRecord(64, 100, 1, 1, [identifier], [0xFFFFFF], [])]

    (entry,) = values.location_entries(0xFFFFFFFF, blocks)

    assert values.location(identifier, entry[19:32]) == (0xFFFFFFFF, 0, 0, 0xFFFFFF)
    assert (entry[:19], entry[32:]) == (identifier[:19], b"\xff" * 4 + bytes(2))


def test_every_flipped_bit_of_a_location_is_noticed() -> None:
    identifier = chunk_id("x")
    (entry,) = values.location_entries(7, [BlockRecord(64, 100, 5, 1, [identifier], [5], [])])
    value = entry[values.ENTRY_VALUE]

    for bit in range(8 * len(value)):
        flipped = (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")
        with pytest.raises(CacheError):
            values.location(identifier, flipped)


def test_applying_twice_changes_nothing(index: LmdbIndex) -> None:
    index.apply(segment_of(0), facts_of(0))
    before = index.counts()

    index.apply(segment_of(0), facts_of(0))
    index.apply(SegmentId(chunk_id("a compaction of it")), facts_of(0))

    after = index.counts()
    assert (after.chunks, after.copies, after.packs) == (before.chunks, 0, before.packs)
    assert after.segments == 2


def test_a_chunk_stored_again_has_two_locations_and_the_first_stays_first(index: LmdbIndex) -> None:
    ids = ids_of(0, 0)
    index.apply(segment_of(1), [synthetic_facts("one", ids)])
    index.apply(segment_of(2), [synthetic_facts("two", ids[:10], length=100)])

    first, second = index.find_all(ids[3])

    assert index.find(ids[3]) == first
    assert (first.pack_no, first.length) == (0, 65_536)
    assert (second.pack_no, second.length) == (1, 100)
    assert len(index.find_all(ids[10])) == 1


def test_copies_within_one_segment_and_one_pack_are_all_kept(index: LmdbIndex) -> None:
    identifier = chunk_id("again and again")
    facts = [synthetic_facts("a", [identifier] * 3, chunks_per_block=1), synthetic_facts("b", [identifier])]

    index.apply(segment_of(0), facts)

    places = {(place.pack_no, place.block_no) for place in index.find_all(identifier)}
    assert places == {(0, 0), (0, 1), (0, 2), (1, 0)}


def test_an_index_built_again_from_the_same_segments_says_the_same(tmp_path: Path) -> None:
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        with open_index(tmp_path / f"{order[0]}", REPOSITORY, KEY) as opened:
            for seed in order:
                shared = synthetic_facts(f"shared {seed}", ids_of(0, 0)[:50])
                opened.apply(segment_of(seed), [*facts_of(seed), shared])
            found.append(locations(opened, [0, 1, 2]))

    assert found[0] == found[1]
    assert len(found[0]) == 3 * ALL + 3 * 50


def test_a_contradictory_directory_is_refused_before_anything_of_its_pack_is_learned(index: LmdbIndex) -> None:
    good, bad = facts_of(0)[:2]
    broken = PackFacts(
        id=bad.id, size=bad.size, kind=bad.kind, units=1, epoch=1, salt=bytes(24), directory=bad.directory[:-1]
    )

    with pytest.raises(CorruptObject):
        index.apply(segment_of(0), [good, broken])

    assert index.pack_no(bad.id) is None
    assert index.segments() == set()


def test_a_pack_whose_directory_is_not_known_yet_is_known_as_such_until_it_is_learned(tmp_path: Path) -> None:
    whole = facts_of(0)
    bare = [replace(whole[0], directory=b"", repeated=False), *whole[1:]]
    with open_index(tmp_path, REPOSITORY, KEY) as index:
        index.apply(segment_of(0), bare)
        assert [row.known for row in index.packs()] == [False] + [True] * (len(whole) - 1)
    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert index.segments() == {segment_of(0)}
        index.apply(segment_of(1), bare)
        assert not next(index.packs()).known

        index.learn([whole[0]])

        assert all(row.known for row in index.packs())
        assert read_everything(index, 0) == ALL
        index.apply(segment_of(2), bare)
        assert next(index.packs()).known


def test_what_is_learned_is_there_after_reopening(tmp_path: Path) -> None:
    fill(tmp_path, 0)

    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert read_everything(index, 0) == ALL
        assert index.last_verified(2) == 1_000
        assert index.last_verified(99) is None
        assert index.counts().directories == 20


def test_threads_may_look_up_while_one_learns(index: LmdbIndex) -> None:
    index.apply(segment_of(0), facts_of(0))
    wanted = ids_of(0, 1)
    wrong: list[object] = []
    done = threading.Event()

    def look_up() -> None:
        while not done.is_set():
            for position, identifier in enumerate(wanted):
                place = index.find(identifier)
                if place is None or place[:3] != (1, position // 16, position % 16):
                    wrong.append(place)
            index.find_all(wanted[0])
            index.block(1, 0)

    threads = [threading.Thread(target=look_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(1, 8):
        index.apply(segment_of(seed), facts_of(seed))
    done.set()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_opening_twice_in_one_process_shares_the_environment(tmp_path: Path) -> None:
    with open_index(tmp_path, REPOSITORY, KEY) as one, open_index(tmp_path, REPOSITORY, KEY) as other:
        one.apply(segment_of(0), facts_of(0))
        other.refresh()

        assert read_everything(other, 0) == ALL
        one.close()
        assert read_everything(other, 0) == ALL
