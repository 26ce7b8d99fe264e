"""The slots in a store: made, listed and removed, and a way in always stays."""

from __future__ import annotations

import dataclasses

import pytest

from dedupstore.errors import (
    NothingMatches,
    Refused,
    RepositoryError,
    WrongPassphrase,
)
from dedupstore.repo import keys, layout
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.keys import (
    create_slot,
    import_slot,
    list_slots,
    open_slot,
    remove_slot,
)
from dedupstore.repo.slot_header import KdfCost, SlotKind
from dedupstore.repo.slots import DEFAULT_COST, Secret
from dedupstore.storage.memory import MemoryStore
from tests.support.keys import (
    CREATED_NS,
    REPOSITORY,
    WEAK,
    fixed_ring,
    store_with_sentinels,
    weak_slot,
)

RIGHT = Secret.passphrase("correct horse")


WRONG = Secret.passphrase("battery staple")


RECOVERY = Secret.recovery(b"r" * 32)


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


def test_no_key_is_made_that_would_not_be_tried(store, ring, monkeypatch):
    monkeypatch.setattr(keys, "_MAX_KDF_WORK", 10 * WEAK.work)
    made = [add(store, ring, Secret.passphrase(f"number {number}"), at=number) for number in range(10)]

    with pytest.raises(Refused, match="too many keys") as caught:
        add(store, ring, Secret.passphrase("number 10"), at=10)
    with pytest.raises(Refused, match="too many keys"):
        # Dearer ones come after all others.
        create_slot(store, ring, RIGHT, created_ns=CREATED_NS, cost=DEFAULT_COST)

    assert caught.value.code == "refused.too_many_keys"
    assert len(list_slots(store, ring)) == 10
    for number in range(10):
        assert unlock(store, Secret.passphrase(f"number {number}")).secrets() == ring.secrets()
    add(store, ring, RECOVERY)
    remove_slot(store, ring, made[0])
    add(store, ring, Secret.passphrase("number 10"), at=10)
    assert unlock(store, Secret.passphrase("number 10")).secrets() == ring.secrets()


def test_planted_keys_do_not_count_as_keys_of_the_repository(store, ring, monkeypatch):
    """Their labels do not open."""
    monkeypatch.setattr(keys, "_MAX_KDF_WORK", 10 * WEAK.work)
    stranger = dataclasses.replace(fixed_ring(), domain=bytes(32))
    for number in range(10):
        import_slot(store, weak_slot(stranger, "planted", seed=f"{number}"), repository=REPOSITORY)

    add(store, ring, at=1)

    assert unlock(store).secrets() == ring.secrets()


def test_the_list_shows_kind_age_label_and_epoch(store, ring):
    add(store, ring, RECOVERY, label="paper in the safe", at=5)
    add(store, ring.next_epoch(), label="laptop")

    rows = list_slots(store, ring)

    assert [(row.kind, row.label.text, row.label.epoch, row.created_ns - CREATED_NS) for row in rows] == [
        (SlotKind.PASSPHRASE, "laptop", 2, 0),
        (SlotKind.RECOVERY, "paper in the safe", 1, 5),
    ]


def test_a_removed_slot_opens_nothing(store, ring):
    doomed = add(store, ring, WRONG)
    add(store, ring)

    remove_slot(store, ring, doomed)

    assert unlock(store).secrets() == ring.secrets()
    with pytest.raises(WrongPassphrase):
        unlock(store, WRONG)
    with pytest.raises(NothingMatches):
        remove_slot(store, ring, doomed)


def test_the_last_slot_cannot_be_removed(store, ring):
    last = add(store, ring)

    with pytest.raises(Refused) as caught:
        remove_slot(store, ring, last)

    assert caught.value.code == "refused.last_slot"
    assert unlock(store).secrets() == ring.secrets()


def test_two_that_remove_each_other_s_slot_at_once_leave_a_way_in(store, ring, monkeypatch):
    first, second = add(store, ring), add(store, ring, WRONG)
    delete = store.delete

    def both_at_once(key):
        delete(layout.slot_key(first))
        delete(layout.slot_key(second))

    monkeypatch.setattr(store, "delete", both_at_once)

    with pytest.raises(Refused) as caught:
        remove_slot(store, ring, first)

    assert caught.value.code == "refused.last_slot"
    assert unlock(store).secrets() == ring.secrets()


def test_altered_and_outdated_slots_do_not_count_as_another_way_in(store, ring):
    later = ring.next_epoch()
    last = add(store, later)
    add(store, ring, WRONG)
    altered = layout.slot_key(add(store, later, RECOVERY))
    store.objects[altered] = store.objects[altered][:-1] + bytes((store.objects[altered][-1] ^ 1,))

    with pytest.raises(Refused, match="last key slot"):
        remove_slot(store, later, last)


def test_an_unreadable_slot_can_be_removed(store, ring):
    add(store, ring)
    store.put(layout.slot_key(bytes(16)), [b"rubbish"])

    remove_slot(store, ring, bytes(16))

    assert layout.slot_key(bytes(16)) not in store.objects


def test_a_slot_is_never_made_at_a_cost_out_of_range(store, ring):
    with pytest.raises(RepositoryError, match="outside the allowed range"):
        create_slot(store, ring, RIGHT, created_ns=0, cost=KdfCost(memory_kib=1024, iterations=3, lanes=4))

    assert layout.list_complete(store, layout.KEYS) == []
