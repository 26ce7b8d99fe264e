"""New keys for a repository: another secret for a slot, or a new epoch for everything written from now on.

Whatever opens the repository goes last, so that it opens at every moment, and after a stop at any step.

A new epoch, with the repository at epoch e and config n:

| step | what |
|---|---|
| R1 look | LIST config, keys. A slot of an epoch after e is of a rotation that is under way or was stopped: refuse, or, told that it was stopped, leave its epoch out |
| R2 slot | PUT a slot of the new epoch, BARRIER; it is read back and opened by its secret |
| R3 look again | LIST keys, config. No other slot of an epoch after e but those left out, and n still the newest; else take the slot back, and refuse |
| R4 config | PUT config n + (new epoch - e), sealed under the new epoch, with all earlier master secrets, BARRIER. **From here on the new epoch is in force.** LIST config: it is the newest, and none came between n and it; else take both back, and refuse. It is read back and opened |
| R5 old slots | DELETE the slots of earlier epochs, BARRIER. They open nothing that is written from now on |

Of two rotations at once each puts its slot, then looks: at least one sees the other, and gives way. Nobody deletes the
slot of another one before its own config is in force, and never that of a later epoch: whoever took over a rotation that
was slow and not dead would come into force with no key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dedupstore.errors import IntegrityError, NothingMatches, Refused, StoreError
from dedupstore.repo import layout
from dedupstore.repo.config import RepositoryConfig, StoredConfig, find_config, open_config, put_config
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.keys import SlotInfo, create_slot, list_slots, prove_slot, remove_slot
from dedupstore.repo.slot_header import KdfCost
from dedupstore.repo.slots import Secret
from dedupstore.storage.base import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSlot:
    """What a new slot is opened by, and how it is made."""

    secret: Secret
    created_ns: int
    cost: KdfCost
    label: str = ""
    allow_weak: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A slot that took the place of others. `left`: those the store did not let us delete."""

    slot: SlotInfo
    removed: tuple[SlotInfo, ...]
    left: tuple[SlotInfo, ...]
    epoch: int


def change_slot(store: ObjectStore, ring: KeyRing, old: SlotInfo, new: NewSlot) -> Changed:
    """Put a slot for another secret in the place of `old`, which goes once the new one has opened."""
    slot = _create(store, ring, new)
    removed, left = _remove(store, ring, [old])
    return Changed(slot=slot, removed=removed, left=left, epoch=ring.epoch)


def rotate(
    store: ObjectStore, ring: KeyRing, config: RepositoryConfig, new: NewSlot, *, take_over: bool = False
) -> Changed:
    """Begin a new epoch, which `new` alone opens: whoever holds any key from before reads nothing written from now on.

    `take_over`: a slot that is left of another rotation belongs to one that was stopped for good. Raises Refused
    `key.rotation_under_way`, with nothing changed.
    """
    stored = find_config(store)  # R1
    if stored.epoch != ring.epoch:
        raise _under_way("the keys were rotated a moment ago")
    early = _after(list_slots(store, ring), ring.epoch)
    if early and not take_over:
        raise _under_way(f"there is a key of epoch {max(map(_epoch, early))}, and the repository is at {ring.epoch}")
    later = ring.at_epoch(max(map(_epoch, early), default=ring.epoch) + 1)
    slot = _create(store, later, new)  # R2
    known = {row.slot_id for row in early} | {slot.slot_id}
    strangers = [row for row in _after(list_slots(store, ring), ring.epoch) if row.slot_id not in known]
    if strangers or find_config(store).key != stored.key:  # R3
        _take_back(store, layout.slot_key(slot.slot_id))
        raise _under_way("another one began at the same moment")
    _put_config(store, later, config, stored, slot)  # R4
    removed, left = _remove(store, later, _before(list_slots(store, later), later.epoch))  # R5
    return Changed(slot=slot, removed=removed, left=left, epoch=later.epoch)


def _create(store: ObjectStore, ring: KeyRing, new: NewSlot) -> SlotInfo:
    slot = create_slot(
        store,
        ring,
        new.secret,
        created_ns=new.created_ns,
        cost=new.cost,
        label=new.label,
        allow_weak=new.allow_weak,
    )
    prove_slot(store, ring, slot.slot_id, new.secret, allow_weak=new.allow_weak)
    return slot


def _put_config(
    store: ObjectStore, ring: KeyRing, config: RepositoryConfig, before: StoredConfig, slot: SlotInfo
) -> None:
    """R4. The number follows the epoch: a rotation that was taken over, and was not dead, does not win."""
    older = tuple(sorted((epoch, master) for epoch, master in ring.masters.items() if epoch != ring.epoch))
    wanted = replace(config, older_masters=older)
    key = put_config(store, ring, wanted, number=before.number + ring.epoch - before.epoch)
    rows = sorted(row.key for row in layout.list_complete(store, layout.CONFIG))
    numbers = [layout.parse_config_key(row)[0] for row in rows]
    # One in between was slow and not dead: its master is not known here, and what is written under it would be lost.
    if rows[-1] != key or [number for number in numbers if number > before.number] != [numbers[-1]]:
        _take_back(store, key, layout.slot_key(slot.slot_id))
        raise _under_way("another one was faster")
    found, _ = open_config(find_config(store), ring)
    if found != wanted:
        raise IntegrityError("the new configuration reads back differently", why=f"at {store.url}, {key}")


def _take_back(store: ObjectStore, *keys: str) -> None:
    for key in keys:
        store.delete(key)
    store.barrier()


def _remove(
    store: ObjectStore, ring: KeyRing, rows: Iterable[SlotInfo]
) -> tuple[tuple[SlotInfo, ...], tuple[SlotInfo, ...]]:
    """Delete slots; those that went, and those that the store keeps."""
    removed: list[SlotInfo] = []
    left: list[SlotInfo] = []
    for row in rows:
        try:
            remove_slot(store, ring, row.slot_id)
            removed.append(row)
        except NothingMatches:
            # Gone already: taken back, or removed by somebody else.
            continue
        except StoreError as error:
            if not error.is_denial:
                raise
            left.append(row)
    return tuple(removed), tuple(left)


def _after(rows: Iterable[SlotInfo], epoch: int) -> list[SlotInfo]:
    return [row for row in rows if _epoch(row) > epoch]


def _before(rows: Iterable[SlotInfo], epoch: int) -> list[SlotInfo]:
    # One that was altered is for `check` to tell: it may hide something.
    return [row for row in rows if 0 < _epoch(row) < epoch]


def _epoch(row: SlotInfo) -> int:
    """0 for a slot that was altered: it opens nothing."""
    return row.label.epoch if row.label is not None else 0


def _under_way(why: str) -> Refused:
    return Refused(
        "another rotation of the keys is under way, or was stopped",
        why=why,
        hints=["wait for it; if it was stopped for good: dedup key rotate --take-over"],
        code="key.rotation_under_way",
    )
