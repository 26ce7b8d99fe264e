from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedupstore.codec.block import BlockSealer, Codec, Payload, encode
from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject
from dedupstore.repo.directory import _BLOCK, _COUNTS, BlockRecord, check_block
from dedupstore.repo.pack import (
    BLOCK_OVERHEAD,
    FinishedPack,
    PackBuilder,
    PackHeader,
    encode_directory,
    padme,
    parse_directory,
    read_pack_directory,
    verify_pack_bytes,
)
from dedupstore.repo.pack_name import PackName
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId, Kind, PackId, RepositoryId
from tests.support.packs import REPOSITORY, build_pack, chunk_id, delta_payload, keyring

RING = keyring()


def stored(pack: FinishedPack) -> bytes:
    return b"".join(pack.parts)


def store_with(pack: FinishedPack, data: bytes | None = None) -> ObjectStore:
    store = MemoryStore()
    store.put(pack.name.key, [stored(pack) if data is None else data])
    return store


def block(offset: int = 64, count: int = 2, bases: int = 0, **changes: int) -> BlockRecord:
    values = {"stored": 128, "raw": 100 * count, "codec": 2 if bases else 1, **changes}
    ids = [chunk_id(f"{offset} {number}") for number in range(count)]
    return BlockRecord(
        offset=offset,
        ids=ids,
        lengths=[100] * count,
        bases=[chunk_id(f"base {number}") for number in range(bases)],
        **values,
    )


# Names and sizes


@given(st.binary(min_size=32, max_size=32), st.sampled_from(Kind), st.integers(1, 1 << 14))
def test_pack_names_round_trip(identifier: bytes, kind: Kind, units: int) -> None:
    name = PackName(id=PackId(identifier), kind=kind, units=units)

    assert PackName.parse(name.key) == name


@given(st.data())
def test_altered_pack_names_are_refused_or_canonical(data: st.DataObject) -> None:
    key = PackName(id=PackId(bytes(range(32))), kind=Kind.DATA, units=18).key
    position = data.draw(st.integers(0, len(key) - 1))
    altered = key[:position] + data.draw(st.text(max_size=2)) + key[position + 1 :]

    try:
        assert PackName.parse(altered).key == altered
    except CorruptObject:
        pass


@given(st.integers(0, 1 << 40))
def test_padme_adds_at_most_an_eighth_and_is_stable(size: int) -> None:
    padded = padme(size)

    assert size <= padded <= size * 1.125 + 1
    assert padme(padded) == padded


# Building


def test_a_pack_reads_back_as_it_was_built() -> None:
    pack = build_pack(RING, [b"first chunk", b"second", b"third" * 1000])

    header, blocks = read_pack_directory(store_with(pack), pack.name, pack.size, RING)

    assert blocks == pack.blocks
    assert (header.kind, header.epoch, header.salt) == (Kind.DATA, 1, pack.salt)
    assert verify_pack_bytes(stored(pack), pack.name, RING) == (header, blocks)
    assert len(stored(pack)) == pack.size and digest(pack.parts) == pack.name.id


def test_a_block_opens_at_the_place_the_directory_names() -> None:
    chunks = [b"first chunk", b"second", b"third" * 1000]
    pack = build_pack(RING, chunks)
    sealer = BlockSealer(RING.pack_key(1, pack.salt, Kind.DATA), REPOSITORY, pack.salt, Kind.DATA)

    raw = []
    for ordinal, record in enumerate(pack.blocks):
        sealed = stored(pack)[record.offset : record.end]
        codec = Codec(record.codec)
        count = len(record.ids)
        raw.append(sealer.open(sealed, ordinal=ordinal, codec=codec, raw_length=record.raw, chunks=count, bases=None))

    assert b"".join(raw) == b"".join(chunks)


@pytest.mark.parametrize("count", [1, 40, 200, 900])
def test_full_packs_have_exactly_the_pack_size_and_whatever_fits_fits(count: int) -> None:
    rng = random.Random(count)
    target = 100_000
    builder = PackBuilder(RING, Kind.DATA, target)
    for number in range(count):
        payload = encode(rng.randbytes(rng.randint(1, 900)), bases=None, level=3)
        raw_length = len(payload.data)
        if not builder.fits(len(payload.data) + BLOCK_OVERHEAD, 1, 0):
            break
        builder.add(payload, raw_length, [chunk_id(str(number))], [raw_length])

    pack = builder.finish(full=True)

    assert pack.size == target == len(stored(pack))
    verify_pack_bytes(stored(pack), pack.name, RING)


def test_short_packs_are_padded_by_the_padme_rule_and_never_beyond_the_pack_size() -> None:
    for count in (1, 20, 90):
        pack = build_pack(RING, [random.Random(count).randbytes(1000)] * count, target=100_000)

        assert pack.size in (padme(pack.size), 100_000)


def test_a_block_larger_than_the_pack_size_gets_a_pack_of_its_own() -> None:
    builder = PackBuilder(RING, Kind.DATA, 10_000)
    data = random.Random(1).randbytes(50_000)

    assert builder.fits(50_028, 1, 0)
    builder.add(Payload(codec=Codec.RAW, data=data), 50_000, [chunk_id("a")], [50_000])
    assert not builder.fits(100, 1, 0)
    pack = builder.finish(full=True)

    assert pack.size == padme(pack.size)
    verify_pack_bytes(stored(pack), pack.name, RING)


def test_equal_content_never_gives_an_equal_name() -> None:
    assert build_pack(RING, [b"same"]).name.id != build_pack(RING, [b"same"]).name.id


def test_delta_blocks_keep_their_bases() -> None:
    builder = PackBuilder(RING, Kind.MANIFEST, 100_000)
    builder.add(delta_payload(b"x" * 50), 100, [chunk_id("a")], [100], [chunk_id("b"), chunk_id("c")])

    pack = builder.finish(full=False)

    assert verify_pack_bytes(stored(pack), pack.name, RING)[1][0].bases == [chunk_id("b"), chunk_id("c")]


def test_a_block_no_reader_would_accept_is_not_built() -> None:
    builder = PackBuilder(RING, Kind.DATA, 100_000)
    for payload, raw, lengths, bases in (
        (Payload(codec=Codec.RAW, data=b"abc"), 4, [4], []),
        (Payload(codec=Codec.ZSTD, data=b"abc"), 5, [4], []),
        (Payload(codec=Codec.ZSTD, data=b"abc"), 4, [4, 0], []),
        (Payload(codec=Codec.ZSTD, data=b"abc"), 4, [4], [chunk_id("b")]),
        (Payload(codec=Codec.DELTA, data=b"abc"), 4, [4], []),
        (Payload(codec=Codec.DELTA, data=b"abc"), 4, [4], [chunk_id("b")] * 33),
    ):
        with pytest.raises(ValueError, match=r"a block|a chunk"):
            builder.add(payload, raw, [chunk_id(str(n)) for n in range(len(lengths))], lengths, bases)


# The directory


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=8))
def test_directories_round_trip(shape: list[tuple[int, int]]) -> None:
    blocks = [block(64 + number * 200, count, bases) for number, (count, bases) in enumerate(shape)]

    assert parse_directory(encode_directory(blocks), body_end=64 + len(shape) * 200) == blocks


@given(st.binary(max_size=400))
def test_garbage_is_never_anything_but_a_corrupt_object(data: bytes) -> None:
    try:
        assert encode_directory(parse_directory(data, body_end=1 << 20)) == data
    except CorruptObject:
        pass


@given(st.data())
def test_altered_directories_are_refused_or_consistent(data: st.DataObject) -> None:
    directory = bytearray(encode_directory([block(64, 3), block(200, 2, 2)]))
    for _ in range(data.draw(st.integers(1, 3))):
        directory[data.draw(st.integers(0, len(directory) - 1))] = data.draw(st.integers(0, 255))

    try:
        blocks = parse_directory(bytes(directory), body_end=400)
    except CorruptObject:
        return
    assert not any(check_block(found) for found in blocks)
    assert all(left.end <= right.offset for left, right in itertools.pairwise(blocks))


@pytest.mark.parametrize(
    "blocks",
    [
        [block(63)],
        [block(64), block(64)],
        [block(64), block(191)],
        [block(400), block(64)],
        [block(2000)],
        [block(950)],
        [block(4_294_967_295)],
        [block(64, codec=3)],
        [block(64, codec=2)],
        [block(64, bases=2, codec=1)],
        [block(64, raw=201)],
        [block(64, raw=(32 << 20) + 1)],
        [block(64, stored=28)],
        [block(64, codec=0)],
        [block(64, count=0, raw=0)],
    ],
    ids=str,
)
def test_overlapping_unordered_or_impossible_blocks_are_refused(blocks: list[BlockRecord]) -> None:
    with pytest.raises(CorruptObject):
        parse_directory(encode_directory(blocks), body_end=1000)


@pytest.mark.parametrize("counts", [(0xFFFFFFFF, 0, 0), (0, 0xFFFFFFFF, 0), (1, 2, 0xFFFFFFFF), (1, 3, 0), (2, 2, 0)])
def test_counts_that_overflow_or_lie_are_refused_without_work(counts: tuple[int, int, int]) -> None:
    directory = _COUNTS.pack(*counts) + encode_directory([block()])[12:]

    with pytest.raises(CorruptObject):
        parse_directory(directory, body_end=1000)


def test_counts_that_fit_the_length_but_not_the_blocks_are_refused() -> None:
    row = _BLOCK.pack(64, 100, 100, 1, 65_535, 0)

    with pytest.raises(CorruptObject):
        parse_directory(_COUNTS.pack(1, 1, 0) + row + bytes(35), body_end=1000)


def test_a_directory_of_13_000_chunks_round_trips() -> None:
    rng = random.Random(1)
    blocks = []
    for number in range(800):
        ids = [ChunkId(rng.randbytes(32)) for _ in range(17)]
        blocks.append(BlockRecord(64 + number * 40_000, 40_000, 17 * 60_000, 1, ids, [60_000] * 17, []))

    assert parse_directory(encode_directory(blocks), body_end=1 << 30) == blocks


# Damage


def test_every_flipped_byte_of_a_pack_is_noticed() -> None:
    pack = build_pack(RING, [b"some chunk", b"another"])
    data = bytearray(stored(pack))
    trailer = pack.size - pack.name.trailer_bytes

    for position in range(len(data)):
        data[position] ^= 1
        with pytest.raises(CorruptObject, match=pack.name.key):
            verify_pack_bytes(data, pack.name, RING)
        # Reading the directory alone sees header and trailer only.
        if position < 64 or (position >= trailer and position % 16 == 0):
            with pytest.raises(CorruptObject, match=pack.name.key):
                read_pack_directory(store_with(pack, bytes(data)), pack.name, pack.size, RING)
        data[position] ^= 1


def test_every_truncation_of_a_pack_is_noticed() -> None:
    pack = build_pack(RING, [b"some chunk", b"another"])
    data = stored(pack)

    for length in [*range(200), *range(200, len(data), 7)]:
        with pytest.raises(CorruptObject):
            verify_pack_bytes(data[:length], pack.name, RING)
        with pytest.raises(CorruptObject):
            read_pack_directory(store_with(pack, data[:length]), pack.name, length, RING)
    with pytest.raises(CorruptObject):
        verify_pack_bytes(data + b"\0", pack.name, RING)


def test_a_renamed_pack_is_refused_even_with_the_right_hash() -> None:
    """Storage may recompute any plain hash: what it cannot make is a trailer."""
    pack = build_pack(RING, [b"some chunk"])
    data = bytearray(stored(pack))
    data[-1] ^= 1
    forged = PackName(id=PackId(digest([data])), kind=Kind.DATA, units=pack.name.units)
    other_kind = PackName(id=pack.name.id, kind=Kind.MANIFEST, units=pack.name.units)
    other_units = PackName(id=pack.name.id, kind=Kind.DATA, units=pack.name.units + 1)

    for name, body in ((forged, bytes(data)), (other_kind, stored(pack)), (other_units, stored(pack))):
        with pytest.raises(CorruptObject):
            verify_pack_bytes(body, name, RING)


def test_a_swapped_pack_is_refused() -> None:
    one, other = build_pack(RING, [b"one"]), build_pack(RING, [b"two"])

    with pytest.raises(CorruptObject) as caught:
        verify_pack_bytes(stored(other), one.name, RING)
    assert "hash" in caught.value.why


def test_a_trailer_moved_to_another_pack_is_refused() -> None:
    one, other = build_pack(RING, [b"one"]), build_pack(RING, [b"two"])
    body = one.size - one.name.trailer_bytes
    mixed = stored(one)[:body] + stored(other)[body:]
    name = PackName(id=PackId(digest([mixed])), kind=Kind.DATA, units=one.name.units)

    with pytest.raises(CorruptObject):
        verify_pack_bytes(mixed, name, RING)


def test_a_pack_of_another_repository_or_epoch_is_refused() -> None:
    pack = build_pack(RING, [b"some chunk"])
    foreign = keyring(RepositoryId(bytes(16)))
    later = keyring()
    later.masters.clear()

    for ring in (foreign, later):
        with pytest.raises(CorruptObject):
            verify_pack_bytes(stored(pack), pack.name, ring)


@settings(max_examples=300)
@given(st.binary(min_size=64, max_size=64), st.integers(0, 64))
def test_header_garbage_is_never_anything_but_a_corrupt_object(noise: bytes, keep: int) -> None:
    genuine = PackHeader(kind=Kind.DATA, epoch=3, repository=REPOSITORY, salt=bytes(24)).encode()
    data = genuine[:keep] + noise[keep:]

    try:
        assert PackHeader.parse(data).encode() == data
    except CorruptObject:
        pass


def test_nothing_of_a_pack_is_readable_without_the_key() -> None:
    chunk = b"a secret sentence that must not be seen" * 3
    pack = build_pack(RING, [chunk])
    data = stored(pack)

    assert b"secret" not in data
    assert bytes(pack.blocks[0].ids[0]) not in data
