"""Config objects: the highest number counts, nothing about them is taken on storage's word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dedupstore.codec.claims import ObjectType
from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject, IncompleteListing, RepositoryTooNew
from dedupstore.model import wire
from dedupstore.repo import layout, pack
from dedupstore.repo.config import (
    MAX_PACK_BYTES,
    Features,
    Operation,
    RepositoryConfig,
    decode_config,
    encode_config,
    find_config,
    open_config,
    put_config,
    require_features,
    require_sizes,
)
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.keys import CREATED_NS, OTHER_REPOSITORY, REPOSITORY, fixed_ring, store_with_sentinels

RING = fixed_ring()
CONFIG = RepositoryConfig(
    repository=REPOSITORY,
    created_ns=CREATED_NS,
    chunker={"min": 16384, "avg": 65536, "max": 262144, "function": 1},
    block_bytes=1 << 20,
    delta_block_bytes=1 << 17,
    pack_bytes=32 << 20,
    kdf_note="argon2id 64 MiB, 3, 4",
)


@pytest.fixture
def store() -> MemoryStore:
    return store_with_sentinels()


def test_a_config_comes_back():
    config = replace(CONFIG, older_masters=((1, b"m" * 32),))

    assert decode_config(encode_config(config)) == config


def test_the_highest_number_counts_even_beyond_nine(store):
    for number in (1, 2, 10):
        put_config(store, RING, replace(CONFIG, pack_bytes=number << 20), number=number)

    stored = find_config(store)

    assert (stored.number, stored.epoch) == (10, 1)
    assert open_config(stored, RING)[0].pack_bytes == 10 << 20


def test_an_old_config_cannot_be_passed_off_under_a_new_number(store):
    put_config(store, RING, CONFIG, number=1)
    sealed = find_config(store).sealed
    store.put(layout.config_key(2, digest((sealed,))), [sealed])

    with pytest.raises(CorruptObject, match="config-00000002 fails authentication"):
        open_config(find_config(store), RING)


def test_two_configs_with_one_number_are_an_error(store):
    for _ in range(2):
        put_config(store, RING, CONFIG, number=1)

    with pytest.raises(CorruptObject) as caught:
        find_config(store)

    assert caught.value.code == "repo.config_conflict"


def test_a_missing_or_hidden_config_is_an_error(store):
    with pytest.raises(CorruptObject, match="no config"):
        find_config(store)
    with pytest.raises(IncompleteListing):
        find_config(MemoryStore())


def test_a_config_that_is_not_its_name_is_refused(store):
    key = put_config(store, RING, CONFIG, number=1)
    store.objects[key] = store.objects[key][:-1] + bytes((store.objects[key][-1] ^ 1,))

    with pytest.raises(CorruptObject, match="does not match its name"):
        find_config(store)


def test_a_config_opens_only_with_the_keys_of_its_repository(store):
    put_config(store, RING, CONFIG, number=1)

    with pytest.raises(CorruptObject, match="another repository"):
        open_config(find_config(store), fixed_ring(OTHER_REPOSITORY))


def test_older_masters_open_what_earlier_epochs_wrote(store):
    old_segment = RING.seal(ObjectType.SEGMENT, "index", b"old")
    later = RING.next_epoch()
    put_config(store, later, replace(CONFIG, older_masters=((1, RING.masters[1]),)), number=2)
    fresh = replace(later, masters={2: later.masters[2]})

    _, ring = open_config(find_config(store), fresh)

    assert ring.epoch == 2
    assert ring.open(ObjectType.SEGMENT, "index", old_segment) == b"old"
    assert ring.pack_key(1, bytes(24), Kind.DATA) == RING.pack_key(1, bytes(24), Kind.DATA)


def test_the_masters_are_not_shown():
    assert repr(b"m" * 32) not in repr(replace(CONFIG, older_masters=((1, b"m" * 32),)))


def test_unknown_features_stop_exactly_what_needs_them():
    config = replace(CONFIG, features=Features(write=("parity",), gc=("tiers",)))

    require_features(config, Operation.READ)
    for operation, feature in ((Operation.WRITE, "parity"), (Operation.GC, "tiers")):
        with pytest.raises(RepositoryTooNew) as caught:
            require_features(config, operation)
        assert feature in caught.value.why


def test_an_unknown_feature_for_reading_or_a_newer_format_stops_everything():
    for config in (replace(CONFIG, features=Features(read=("quantum",))), replace(CONFIG, format_version=2)):
        with pytest.raises(RepositoryTooNew, match="newer dedup"):
            decode_config(encode_config(config))


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"block": -1},
        {"block": True},
        {"block": "big"},
        {"chunker": []},
        {"chunker": {"avg": b""}},
        {"features": {"gc": [], "read": []}},
        {"features": {"gc": [], "read": [1], "write": []}},
        {"kdf": b""},
        {"masters": [[1]]},
        {"masters": [[1, b"short"]]},
        {"masters": {}},
        {"repository": b"short"},
        {"format": None},
    ],
)
def test_a_config_of_another_shape_is_malformed(change):
    fields = wire.unpack_map(encode_config(CONFIG)) | change

    with pytest.raises(CorruptObject, match="malformed"):
        decode_config(wire.pack(dict(sorted(fields.items()))))


def test_bytes_that_are_no_config_are_corrupt():
    for data in (b"", b"\xc0", encode_config(CONFIG) + b"\0", encode_config(CONFIG)[:-1]):
        with pytest.raises(CorruptObject):
            decode_config(data)


@pytest.mark.parametrize("field", ["block_bytes", "delta_block_bytes", "pack_bytes"])
def test_sizes_that_no_block_or_pack_can_have_stop_writers_only(field):
    config = replace(CONFIG, **{field: 1 << 63})

    assert decode_config(encode_config(config)) == config
    with pytest.raises(CorruptObject, match="malformed"):
        require_sizes(config)
    require_sizes(replace(CONFIG, block_bytes=16 << 20, delta_block_bytes=0, pack_bytes=(1 << 32) - 1))


def test_the_largest_pack_of_a_config_is_that_of_the_format():
    assert MAX_PACK_BYTES == pack.MAX_PACK_BYTES
