"""Blocks: which codec is chosen, where a block opens, and that chunks are what their ids say."""

from __future__ import annotations

import os

import pytest
from zstandard import ZstdCompressor

from dedupstore.codec import patch
from dedupstore.codec.block import BASED, STORED_OVERHEAD, BlockSealer, Codec, Payload, encode, split_verified
from dedupstore.codec.compression import MAX_RAW_LENGTH, compress, compress_delta
from dedupstore.codec.hashing import Keyed
from dedupstore.errors import CorruptChunk, CorruptObject, DedupError, RepositoryTooNew
from dedupstore.types import ChunkId, Kind
from dedupstore.units import KIB, MIB
from tests.support.keys import OTHER_REPOSITORY, REPOSITORY
from tests.support.repositories import random_bytes

KEY = bytes(range(32))
SALT = bytes(range(24))
TEXT = b"".join(b"INSERT INTO posts VALUES (%d, 'a note on %d');\n" % (n, n * 7919 % 10007) for n in range(4000))


def sealer(*, kind: Kind = Kind.DATA, salt: bytes = SALT, repository: bytes = REPOSITORY) -> BlockSealer:
    return BlockSealer(KEY, repository, salt, kind)


def test_text_is_compressed_noise_is_kept_and_not_copied():
    noise = os.urandom(MIB)

    assert encode(TEXT).codec is Codec.ZSTD
    assert encode(noise) == Payload(codec=Codec.RAW, data=noise)
    assert encode(noise).data is noise


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", b"ab" * 3, random_bytes("noise", 100)],
    ids=["nothing", "a byte", "a few", "noise"],
)
def test_what_cannot_shrink_is_kept_raw(raw):
    assert encode(raw) == Payload(codec=Codec.RAW, data=raw)


def test_a_delta_is_taken_where_it_pays():
    changed = TEXT
    for number in range(100, 160):
        changed = changed.replace(b"(%d, 'a note" % number, b"(%d, 'another note, longer" % (number * 7))

    payload = encode(changed, bases=TEXT)

    assert payload.codec is Codec.DELTA
    assert len(payload.data) < 1000


def test_where_hardly_anything_changed_a_patch_is_made():
    changed = TEXT.replace(b"a note on 7919)", b"a new note)").replace(b"(100,", b"(100000,")

    payload = encode(changed, bases=TEXT)

    assert payload.codec is (Codec.PATCH if patch._HAVE_KERNEL else Codec.DELTA)
    assert len(payload.data) < 100
    sealed = sealer().seal(payload, ordinal=0, raw_length=len(changed), chunks=1)
    place = {"ordinal": 0, "codec": payload.codec, "raw_length": len(changed), "chunks": 1}
    assert sealer().open(sealed, **place, bases=TEXT) == changed
    with pytest.raises(CorruptObject):
        sealer().open(sealed, **place, bases=TEXT[:100])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no frame", compress(b""), compress(b"\0\0\0"), compress(bytes(5)), compress(TEXT),
        ZstdCompressor(write_content_size=False).compress(bytes(4)), compress_delta(bytes(4), TEXT) + b"x",
    ],
)  # fmt: skip
def test_a_sealed_patch_that_makes_something_else_is_refused(data):
    sealed = sealer().seal(Payload(codec=Codec.PATCH, data=data), ordinal=0, raw_length=6, chunks=1)

    with pytest.raises(CorruptObject):
        sealer().open(sealed, ordinal=0, codec=Codec.PATCH, raw_length=6, chunks=1, bases=TEXT)


def test_noise_that_reappears_shifted_is_a_delta_too():
    noise = os.urandom(128 * KIB)

    assert encode(noise[1000:] + b"x" * 1000, bases=noise).codec in BASED


def test_a_delta_that_saves_nothing_falls_back():
    noise = os.urandom(128 * KIB)

    assert encode(TEXT, bases=noise).codec is Codec.ZSTD
    assert encode(os.urandom(128 * KIB), bases=noise).codec is Codec.RAW
    assert encode(TEXT, bases=b"").codec is Codec.ZSTD


def test_a_block_beyond_the_limit_is_not_made():
    with pytest.raises(ValueError, match="at most"):
        encode(bytes(MAX_RAW_LENGTH + 1))


def test_every_codec_comes_back_from_a_view():
    bases = TEXT[: 64 * KIB]
    for payload, given in (
        (Payload(codec=Codec.RAW, data=TEXT), None),
        (Payload(codec=Codec.ZSTD, data=compress(TEXT)), None),
        (Payload(codec=Codec.DELTA, data=compress_delta(TEXT, bases)), bases),
    ):
        stored = sealer().seal(payload, ordinal=3, raw_length=len(TEXT), chunks=5)
        opened = sealer().open(
            memoryview(stored), ordinal=3, codec=payload.codec, raw_length=len(TEXT), chunks=5, bases=given
        )

        assert opened == TEXT
        assert len(stored) == len(payload.data) + STORED_OVERHEAD


PLACE = {"ordinal": 3, "codec": int(Codec.ZSTD), "raw_length": len(TEXT), "chunks": 5}


@pytest.mark.parametrize(
    "claim", [{"ordinal": 4}, {"codec": 0}, {"codec": 2}, {"raw_length": len(TEXT) - 1}, {"chunks": 6}]
)
def test_a_block_opens_only_in_its_place(claim):
    stored = sealer().seal(encode(TEXT), ordinal=3, raw_length=len(TEXT), chunks=5)

    with pytest.raises(CorruptObject, match="authentication"):
        sealer().open(stored, **{**PLACE, **claim}, bases=b"bases")


@pytest.mark.parametrize("other", [{"kind": Kind.MANIFEST}, {"salt": bytes(24)}, {"repository": OTHER_REPOSITORY}])
def test_a_block_opens_only_in_its_pack(other):
    stored = sealer().seal(encode(TEXT), ordinal=3, raw_length=len(TEXT), chunks=5)

    with pytest.raises(CorruptObject, match="authentication"):
        sealer(**other).open(stored, **PLACE)


def test_any_flipped_or_missing_byte_of_a_block_is_refused():
    raw = b"hello, block " * 10
    stored = sealer().seal(encode(raw), ordinal=0, raw_length=len(raw), chunks=1)

    for position in range(len(stored)):
        damaged = bytearray(stored)
        damaged[position] ^= 0x10
        for bad in (bytes(damaged), stored[:position]):
            with pytest.raises(CorruptObject):
                sealer().open(bad, ordinal=0, codec=Codec.ZSTD, raw_length=len(raw), chunks=1)


def test_a_sealed_lie_about_the_length_is_refused():
    for payload in (Payload(codec=Codec.RAW, data=b"12345"), Payload(codec=Codec.ZSTD, data=compress(b"12345"))):
        stored = sealer().seal(payload, ordinal=0, raw_length=6, chunks=1)

        with pytest.raises(CorruptObject):
            sealer().open(stored, ordinal=0, codec=payload.codec, raw_length=6, chunks=1)


def test_a_block_of_a_codec_to_come_says_newer():
    class Future:
        codec = 9
        data = b"..."

    stored = sealer().seal(Future(), ordinal=0, raw_length=6, chunks=1)

    with pytest.raises(RepositoryTooNew, match="codec 9"):
        sealer().open(stored, ordinal=0, codec=9, raw_length=6, chunks=1)


def chunk_ids(keyed: Keyed, *chunks: bytes) -> list[ChunkId]:
    return [ChunkId(keyed.digest(chunk)) for chunk in chunks]


def test_the_chunks_of_a_block_are_views_of_it():
    keyed = Keyed(KEY)
    raw = b"firstsecond"

    chunks = split_verified(raw, chunk_ids(keyed, b"first", b"second", b""), [5, 6, 0], keyed)

    assert [bytes(chunk) for chunk in chunks] == [b"first", b"second", b""]
    assert all(chunk.obj is raw for chunk in chunks)


def test_a_poisoned_chunk_is_named():
    keyed = Keyed(KEY)
    ids = chunk_ids(keyed, b"first", b"other!")

    with pytest.raises(CorruptChunk, match=ids[1].hex()[:16]):
        split_verified(b"firstsecond", ids, [5, 6], keyed)


def test_a_manifest_cannot_pass_for_file_data():
    data_key, manifest_key = Keyed(KEY), Keyed(bytes(32))

    with pytest.raises(CorruptChunk):
        split_verified(b"tree", chunk_ids(manifest_key, b"tree"), [4], data_key)


@pytest.mark.parametrize("lengths", [[5], [5, 5], [5, 7], [5, 6, 0]])
def test_lengths_that_do_not_fill_the_block_are_refused(lengths):
    keyed = Keyed(KEY)

    with pytest.raises(DedupError):
        split_verified(b"firstsecond", chunk_ids(keyed, b"first", b"second"), lengths, keyed)
