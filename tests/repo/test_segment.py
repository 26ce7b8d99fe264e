from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedupstore.codec.claims import ObjectType
from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject
from dedupstore.repo import layout
from dedupstore.repo.segment import _parse, decode_segment, encode_segment, pack_facts
from dedupstore.types import Kind, RepositoryId, SegmentId
from tests.support.packs import build_pack, chunk_id, keyring, synthetic_facts

RING = keyring()


def test_segments_round_trip_with_their_directories() -> None:
    packs = [build_pack(RING, [b"one", b"two"]), build_pack(RING, [b"tree"], kind=Kind.MANIFEST)]
    facts = [pack_facts(pack) for pack in packs]

    identifier, key, sealed = encode_segment(RING, facts)
    found = decode_segment(RING, key, sealed)

    assert found == facts
    assert key == layout.segment_key(identifier)
    assert [fact.blocks() for fact in found] == [pack.blocks for pack in packs]
    assert [fact.name for fact in found] == [pack.name for pack in packs]


def test_a_directory_that_is_not_repeated_takes_no_bytes_and_leaves_the_others_where_they_belong() -> None:
    facts = [pack_facts(build_pack(RING, [b"pack %d" % number, b"x"])) for number in range(3)]
    facts[1] = replace(facts[1], repeated=False)

    _, key, sealed = encode_segment(RING, facts)
    found = decode_segment(RING, key, sealed)

    assert found == [facts[0], replace(facts[1], directory=b""), facts[2]]
    assert [len(fact.blocks()) for fact in found] == [1, 0, 1]
    assert len(encode_segment(RING, [replace(fact, repeated=True) for fact in facts])[2]) - len(sealed) == len(
        facts[1].directory
    )
    assert encode_segment(RING, found)[2][:56] != sealed[:56], "every sealing has its own salt"


def test_an_empty_segment_is_one() -> None:
    _, key, sealed = encode_segment(RING, [])

    assert decode_segment(RING, key, sealed) == []


def test_every_flipped_byte_of_a_segment_is_noticed_with_and_without_its_name() -> None:
    _, key, sealed = encode_segment(RING, [synthetic_facts("a", [chunk_id("x")])])
    data = bytearray(sealed)

    for position in range(len(data)):
        data[position] ^= 1
        with pytest.raises(CorruptObject):
            decode_segment(RING, key, data)
        data[position] ^= 1
    data[-1] ^= 1
    with pytest.raises(CorruptObject):
        decode_segment(RING, layout.segment_key(SegmentId(digest([data]))), data)


def test_a_swapped_or_foreign_segment_is_refused() -> None:
    _, key, _ = encode_segment(RING, [synthetic_facts("a", [chunk_id("x")])])
    _, other_key, other = encode_segment(RING, [synthetic_facts("b", [chunk_id("y")])])

    with pytest.raises(CorruptObject):
        decode_segment(RING, key, other)
    with pytest.raises(CorruptObject):
        decode_segment(keyring(RepositoryId(bytes(16))), other_key, other)


def test_another_type_of_object_is_no_segment() -> None:
    sealed = RING.seal(ObjectType.PLAN, layout.SEGMENT_NAME, b"\x00\x01" + bytes(4))

    with pytest.raises(CorruptObject):
        decode_segment(RING, layout.segment_key(SegmentId(digest([sealed]))), sealed)


def test_a_pack_named_twice_is_refused() -> None:
    facts = synthetic_facts("a", [chunk_id("x")])
    _, key, sealed = encode_segment(RING, [facts, facts])

    with pytest.raises(CorruptObject):
        decode_segment(RING, key, sealed)


@given(st.data())
def test_a_payload_of_any_bytes_is_facts_or_a_corrupt_object(data: st.DataObject) -> None:
    sealed = encode_segment(RING, [synthetic_facts("a", [chunk_id("x")])])[2]
    payload = bytearray(RING.open(ObjectType.SEGMENT, layout.SEGMENT_NAME, sealed))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))

    for altered in (bytes(payload), bytes(payload[:cut])):
        try:
            for fact in _parse(altered):
                fact.blocks()
        except CorruptObject:
            pass
