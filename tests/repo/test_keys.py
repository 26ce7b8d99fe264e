"""Key rings, and opening one among many slots with the right secret."""

from __future__ import annotations

import dataclasses

import pytest

from dedupstore.codec.claims import ObjectType
from dedupstore.errors import (
    CorruptObject,
    IncompleteListing,
    IntegrityError,
    NothingMatches,
    WrongPassphrase,
)
from dedupstore.repo import keys, layout, slots
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.keys import (
    create_slot,
    import_slot,
    list_slots,
    open_slot,
    prove_slot,
    read_slot,
    start_opening,
)
from dedupstore.repo.slots import DEFAULT_COST, Secret
from dedupstore.storage.base import ObjectInfo
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.keys import (
    CREATED_NS,
    OTHER_REPOSITORY,
    REPOSITORY,
    WEAK,
    fixed_ring,
    store_with_sentinels,
    weak_slot,
)
from tests.support.recording import RecordingStore

RIGHT = Secret.passphrase("correct horse")


WRONG = Secret.passphrase("battery staple")


RECOVERY = Secret.recovery(b"r" * 32)


SALT = bytes(24)


@pytest.fixture
def ring() -> KeyRing:
    return fixed_ring()


@pytest.fixture
def store() -> MemoryStore:
    return store_with_sentinels()


def add(store: MemoryStore, ring: KeyRing, secret: Secret = RIGHT, *, label: str = "", at: int = 0) -> bytes:
    row = create_slot(store, ring, secret, created_ns=CREATED_NS + at, cost=WEAK, label=label, allow_weak=True)
    return row.slot_id


def unlock(store: MemoryStore, secret: Secret = RIGHT, **options: int) -> KeyRing:
    return open_slot(store, REPOSITORY, secret, allow_weak=True, **options)


def test_every_purpose_has_a_key_of_its_own(ring):
    keys = {
        ring.id_key(Kind.DATA).digest(b""),
        ring.id_key(Kind.MANIFEST).digest(b""),
        ring.chunker_key(),
        ring.cache_key(),
        ring.pack_key(1, SALT, Kind.DATA),
        ring.pack_key(1, SALT, Kind.MANIFEST),
        ring.pack_key(1, b"x" * 24, Kind.DATA),
    }

    assert len(keys) == 7
    assert ring.id_key(Kind.DATA) is ring.id_key(Kind.DATA)


def test_a_new_ring_is_random():
    first, second = KeyRing.generate(REPOSITORY), KeyRing.generate(REPOSITORY)

    assert len({first.domain, second.domain, first.masters[1], second.masters[1]}) == 4


def test_a_later_epoch_reads_the_earlier_ones_and_not_the_other_way(ring):
    later = ring.next_epoch()
    old, new = ring.seal(ObjectType.SEGMENT, "index", b"old"), later.seal(ObjectType.SEGMENT, "index", b"new")

    assert later.open(ObjectType.SEGMENT, "index", old) == b"old"
    assert later.pack_key(1, SALT, Kind.DATA) == ring.pack_key(1, SALT, Kind.DATA)
    assert later.chunker_key() == ring.chunker_key()
    with pytest.raises(CorruptObject, match="no key for epoch 2"):
        ring.open(ObjectType.SEGMENT, "index", new)
    with pytest.raises(CorruptObject, match="no key for epoch 2"):
        ring.pack_key(2, SALT, Kind.DATA)


def test_each_of_several_secrets_opens_the_same_keys(store, ring):
    key_file = Secret.key_file(b"f" * 64)
    for secret in (RIGHT, WRONG, key_file, RECOVERY):
        add(store, ring, secret)

    for secret in (RIGHT, WRONG, key_file, RECOVERY):
        opened = unlock(store, secret)
        assert (opened.secrets(), opened.repository) == (ring.secrets(), REPOSITORY)


def test_a_wrong_passphrase_and_altered_slots_say_the_same(store, ring):
    add(store, ring)
    with pytest.raises(WrongPassphrase) as wrong:
        unlock(store, WRONG)
    key = layout.list_complete(store, layout.KEYS)[0].key
    store.objects[key] = store.objects[key][:-1] + b"\xff"

    with pytest.raises(WrongPassphrase) as altered:
        unlock(store)

    assert str(altered.value) == str(wrong.value)
    assert wrong.value.exit_code == 12


def test_one_bad_object_does_not_hide_a_good_slot(store, ring):
    add(store, ring)
    store.put(layout.slot_key(bytes(16)), [b"rubbish"])
    store.put(layout.slot_key(bytes(15) + b"\1"), [b"r" * slots.SLOT_LENGTH])
    store.put("keys/something", [b""])
    import_slot(store, weak_slot(fixed_ring(OTHER_REPOSITORY)), repository=OTHER_REPOSITORY)

    assert unlock(store).secrets() == ring.secrets()
    with pytest.raises(WrongPassphrase, match="wrong passphrase") as caught:
        unlock(store, WRONG)
    assert "4 more could not be tried" in caught.value.why
    assert len(list_slots(store, ring)) == 1


def test_a_huge_object_is_never_fetched(ring):
    class Huge(MemoryStore):
        def list(self, prefix):
            for row in super().list(prefix):
                yield ObjectInfo(row.key, 1 << 30) if "zz" not in row.key and "-begin" not in row.key else row

        def get(self, key, span=None):
            raise AssertionError("fetched")

    store = Huge()
    store.objects.update(store_with_sentinels().objects)
    store.put(layout.slot_key(bytes(16)), [b"huge"])

    with pytest.raises(CorruptObject, match="not a key slot"):
        unlock(store)


def test_a_slot_under_the_name_of_another_is_refused(store, ring):
    store.put(layout.slot_key(bytes(16)), [weak_slot(ring)])

    with pytest.raises(CorruptObject, match="not a key slot"):
        unlock(store)
    with pytest.raises(CorruptObject, match="not a key slot"):
        read_slot(store, bytes(16))


def test_only_slots_of_another_repository_say_so(store):
    import_slot(store, weak_slot(fixed_ring(OTHER_REPOSITORY)), repository=OTHER_REPOSITORY)

    with pytest.raises(CorruptObject, match="another repository"):
        unlock(store)


def test_no_slot_at_all_is_damage_and_points_to_the_kit(store):
    with pytest.raises(IntegrityError, match="no key slot") as caught:
        unlock(store)

    assert "kit" in caught.value.hints[0]


def test_an_unmounted_disk_is_not_an_empty_key_folder():
    with pytest.raises(IncompleteListing):
        unlock(MemoryStore())


def test_the_wrong_kind_of_secret_names_the_right_ones(store, ring):
    add(store, ring, RECOVERY)

    with pytest.raises(WrongPassphrase, match="no key slot takes a passphrase") as caught:
        unlock(store)

    assert "recovery key" in caught.value.why


@pytest.mark.parametrize(("bound", "tried"), [(0, 8), (9, 9), (20, 20)])
def test_planted_slots_cost_a_bounded_number_of_attempts(store, ring, monkeypatch, bound, tried):
    for number in range(30):
        import_slot(store, weak_slot(ring, "planted", seed=f"planted {number}"), repository=REPOSITORY)
    attempts = 0
    real = slots.crypto.argon2id

    def counted(*arguments: bytes, **costs: int) -> bytes:
        nonlocal attempts
        attempts += 1
        return real(*arguments, **costs)

    monkeypatch.setattr(slots.crypto, "argon2id", counted)
    monkeypatch.setattr(keys, "_MAX_KDF_WORK", bound * WEAK.work)

    with pytest.raises(WrongPassphrase) as caught:
        unlock(store)

    assert attempts == tried
    assert caught.value.code == "repo.too_many_keys"
    assert f"{30 - tried} more are there" in caught.value.why


def test_of_many_keys_the_last_one_that_is_tried_opens_as_well(store, ring):
    """So many as a repository can have: the oldest of equal cost comes last."""
    mine = add(store, ring, at=-1)
    for number in range(63):
        import_slot(store, weak_slot(ring, "others", seed=f"{number}"), repository=REPOSITORY)

    assert unlock(store).secrets() == ring.secrets()
    assert unlock(store, slot_id=mine).secrets() == ring.secrets()


def test_a_named_slot_is_found_among_many(store, ring):
    for number in range(12):
        add(store, ring, WRONG, at=number)
    mine = add(store, ring, at=-1)

    assert unlock(store, slot_id=mine).secrets() == ring.secrets()
    with pytest.raises(NothingMatches):
        unlock(store, slot_id=bytes(16))


def test_cheap_slots_are_tried_before_dear_ones(store, ring, monkeypatch):
    create_slot(store, ring, RIGHT, created_ns=CREATED_NS + 9, cost=DEFAULT_COST)
    add(store, ring)
    costs = []
    real = slots.crypto.argon2id

    def noted(*arguments: bytes, **options: int) -> bytes:
        costs.append(options["m_kib"])
        return real(*arguments, **options)

    monkeypatch.setattr(slots.crypto, "argon2id", noted)

    unlock(store)

    assert costs == [WEAK.memory_kib]


def test_after_a_rotation_the_old_slot_of_the_same_passphrase_is_passed_over(store, ring):
    later = ring.next_epoch()
    add(store, later, at=0)
    add(store, ring, at=1)

    assert unlock(store).epoch == 1
    assert unlock(store, epoch=2).epoch == 2
    with pytest.raises(WrongPassphrase, match="earlier epoch"):
        unlock(store, epoch=3)


def test_the_slot_of_a_rotation_that_was_stopped_is_passed_over(store, ring):
    add(store, ring, at=0)
    early = add(store, ring.at_epoch(3), at=1)

    assert unlock(store, epoch=1).secrets() == ring.secrets()
    with pytest.raises(WrongPassphrase, match="not finished") as caught:
        unlock(store, epoch=2, slot_id=early)
    assert caught.value.code == "repo.early_key"


def test_a_slot_is_proven_by_its_secret(store, ring):
    other = fixed_ring().next_epoch()
    slot_id = add(store, ring)

    prove_slot(store, ring, slot_id, RIGHT, allow_weak=True)

    with pytest.raises(WrongPassphrase):
        prove_slot(store, ring, slot_id, WRONG, allow_weak=True)
    with pytest.raises(IntegrityError, match="does not give the keys"):
        prove_slot(store, other, slot_id, RIGHT, allow_weak=True)


def test_a_later_epoch_is_asked_for_when_it_is_met(ring):
    later = ring.next_epoch()
    asked: list[int] = []

    def renew() -> dict[int, bytes]:
        asked.append(1)
        return later.masters

    old = dataclasses.replace(ring, renew=renew)
    sealed = later.seal(ObjectType.SEGMENT, "index", b"new")

    assert old.open(ObjectType.SEGMENT, "index", sealed) == b"new"
    assert old.open(ObjectType.SEGMENT, "index", sealed) == b"new"
    assert (old.epoch, len(asked)) == (1, 1)
    assert old.seal(ObjectType.SEGMENT, "index", b"")[28:32] == b"\0\0\0\1"
    with pytest.raises(CorruptObject, match="no key for epoch 3"):
        old.pack_key(3, SALT, Kind.DATA)


def test_a_ring_cannot_be_changed(ring):
    with pytest.raises(dataclasses.FrozenInstanceError):
        ring.epoch = 2


def test_what_is_begun_is_the_slot_that_is_tried_first(store, ring, monkeypatch):
    salts = []
    real = slots.crypto.argon2id

    def noted(*arguments, salt, **named):
        salts.append(salt)
        return real(*arguments, salt=salt, **named)

    monkeypatch.setattr(slots.crypto, "argon2id", noted)
    add(store, ring, at=1)
    add(store, ring, WRONG, at=2)
    salts.clear()
    assert unlock(store).secrets() == ring.secrets()
    late = list(salts)
    salts.clear()

    secret = start_opening(store, REPOSITORY, RIGHT, allow_weak=True)

    assert unlock(store, secret).secrets() == ring.secrets()
    # The newest slot is another passphrase's, the next one opens; neither is derived twice.
    assert salts == late
    assert len(set(salts)) == 2


def test_nothing_is_begun_where_no_slot_takes_the_secret(store, ring):
    add(store, ring)

    started = start_opening(store, REPOSITORY, RECOVERY, allow_weak=True)

    assert started == RECOVERY and started.ahead is None


def test_a_store_that_cannot_be_listed_says_so_at_the_beginning(ring):
    with pytest.raises(IncompleteListing):
        start_opening(MemoryStore(), REPOSITORY, RIGHT, allow_weak=True)


def test_a_slot_that_was_read_is_read_again_only_where_it_is_not_listed_any_more(store, ring):
    first = add(store, ring)
    recording = RecordingStore(store)
    started = start_opening(recording, REPOSITORY, RIGHT, allow_weak=True)
    recording.calls.clear()

    assert open_slot(recording, REPOSITORY, started, allow_weak=True).epoch == ring.epoch
    assert [call.verb for call in recording.calls] == ["list"]

    store.delete(layout.slot_key(first))
    with pytest.raises(IntegrityError, match="no key slot"):
        open_slot(recording, REPOSITORY, started, allow_weak=True)
