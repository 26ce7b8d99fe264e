"""Key slots: who can open the repository, and the recovery kit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dedupstore.errors import IntegrityError, NothingMatches, UsageError
from dedupstore.repo.catalog import Catalog
from dedupstore.repo.config import Operation, find_config, open_config
from dedupstore.repo.identity import identify
from dedupstore.repo.keys import SlotInfo, create_slot, import_slot, list_slots, read_slot, remove_slot, slot_of
from dedupstore.repo.recovery import (
    RecoveryKit,
    format_kit,
    format_recovery_key,
    generate_recovery_key,
    parse_kit,
    verify_recovery,
)
from dedupstore.repo.repository import Repository
from dedupstore.repo.rotation import Changed, NewSlot, change_slot, rotate
from dedupstore.repo.slot_header import KdfCost, SlotKind, parse_header
from dedupstore.repo.slots import DEFAULT_COST, STRONG_COST, Secret
from dedupstore.service.access import Access, Credential
from dedupstore.service.opened import open_repository
from dedupstore.storage.registry import open_store
from dedupstore.units import format_id

_MIN_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """One way in. `label` and `current` are None when the slot was altered."""

    id: str
    kind: str
    label: str | None
    created_ns: int
    memory_kib: int
    iterations: int
    current: bool | None
    """Whether it opens what is written today, not only what was written before a rotation."""


def list_keys(access: Access) -> list[KeyInfo]:
    """Every key slot, oldest first."""
    with open_repository(access) as repository:
        rows = list_slots(repository.store, repository.keyring)
        return [_info(row, repository.keyring.epoch) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A new slot; `recovery_key` is shown once and kept nowhere."""

    key: KeyInfo
    recovery_key: str = field(default="", repr=False)
    kit: str = field(default="", repr=False)


def add_key(access: Access, new: Credential, *, label: str = "", strong: bool = False, weak: bool = False) -> Added:
    """One more passphrase or key file."""
    with open_repository(access) as repository:
        return Added(key=_create(access, repository, new.secret(), label=label, cost=_cost(strong=strong, weak=weak)))


def add_recovery_key(access: Access, *, label: str = "recovery key") -> Added:
    """A slot for a new recovery key, and the kit with that key printed on it."""
    with open_repository(access) as repository:
        key = generate_recovery_key()
        row = _create(access, repository, Secret.recovery(key), label=label, cost=DEFAULT_COST)
        kit = _kit_of(repository, _slot_id(repository, row.id), recovery_key=key)
        return Added(key=row, recovery_key=format_recovery_key(key), kit=kit)


def import_kit(url: str, text: str) -> str:
    """Put the slot of a recovery kit back into its repository; the id of the slot. Opens nothing."""
    kit = parse_kit(text)
    store = open_store(url)
    try:
        import_slot(store, kit.slot, repository=identify(store))
    finally:
        store.close()
    return format_id(parse_header(kit.slot).slot_id)


def remove_key(access: Access, prefix: str, agree: Callable[[KeyInfo], None]) -> KeyInfo:
    """Raises Refused for the last key, NothingMatches for an id that is none. `agree` is told which goes, and may raise."""
    with open_repository(access) as repository:
        slot_id = _slot_id(repository, prefix)
        row = next(row for row in list_slots(repository.store, repository.keyring) if row.slot_id == slot_id)
        info = _info(row, repository.keyring.epoch)
        agree(info)
        remove_slot(repository.store, repository.keyring, slot_id)
        return info


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """A new key, and those that went for it. `left`: the storage does not let anybody delete them."""

    key: KeyInfo
    removed: tuple[KeyInfo, ...]
    left: tuple[KeyInfo, ...]
    epoch: int


def change_key(
    access: Access, new: Credential, *, prefix: str = "", strong: bool = False, weak: bool = False
) -> Replaced:
    """Another passphrase or key file in the place of the one that opened the repository, or of the key `prefix`."""
    with open_repository(access) as repository:
        store, ring = repository.store, repository.keyring
        if prefix:
            slot_id = _slot_id(repository, prefix)
            old = next(row for row in list_slots(store, ring) if row.slot_id == slot_id)
        else:
            old = _own(access, repository)
            if old.kind is SlotKind.RECOVERY:
                raise UsageError(
                    "a recovery key was used, and it is not said what is to be changed",
                    hints=["name the key: dedup key list, then dedup key change ID"],
                )
        label = old.label.text if old.label is not None else ""
        changed = change_slot(store, ring, old, _new_slot(access, new, label, strong=strong, weak=weak))
        return _replaced(changed, ring.epoch)


def rotate_keys(
    access: Access,
    new: Credential | None = None,
    *,
    strong: bool = False,
    weak: bool = False,
    take_over: bool = False,
) -> Replaced:
    """Begin a new epoch, which is opened by `new`, or by what opens the repository now; no other key opens it."""
    with open_repository(access, Operation.WRITE) as repository:
        own = _own(access, repository)
        if new is None and own.kind is SlotKind.RECOVERY:
            raise UsageError(
                "a recovery key was used, and it is not said what opens the repository from now on",
                hints=["give a new passphrase: dedup key rotate --new-passphrase"],
            )
        label = own.label.text if own.label is not None and own.kind is not SlotKind.RECOVERY else ""
        changed = rotate(
            repository.store,
            repository.keyring,
            repository.config,
            _new_slot(access, new or access.credential, label, strong=strong, weak=weak),
            take_over=take_over,
        )
        # Remembered at once, not at the next opening: storage could show the old keys again until then.
        access.watch(repository.catalog, changed.epoch, find_config(repository.store).number)
        return _replaced(changed, changed.epoch)


def kit(access: Access) -> str:
    """The recovery kit for the key that opened the repository. It holds no secret."""
    with open_repository(access) as repository:
        return _kit_of(repository, _own(access, repository).slot_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What a recovery kit was found to open. `snapshots` is None when the repository was not looked at."""

    repository: str
    location: str
    slot: str
    kind: str
    snapshots: int | None


def needed_for(text: str) -> str:
    """What is needed besides a kit's text: `passphrase`, `key file`, or nothing."""
    parsed = parse_kit(text)
    return "" if parsed.secret is not None else parsed.kind.noun


def verify_kit(text: str, credential: Credential | None, url: str | None, *, allow_weak: bool) -> Verified:
    """Unwrap a kit's slot for real and read the repository with nothing but what came out of it.

    `credential` is needed when the kit does not hold its recovery key. `url` of None: only unwrap.
    Raises WrongPassphrase, IntegrityError `key.kit_outdated`.
    """
    parsed = parse_kit(text)
    secret = parsed.secret
    if secret is None:
        if credential is None:
            raise UsageError(f"this kit opens by its {parsed.kind.noun}", hints=["give it as for any other command"])
        secret = credential.secret()
    ring = verify_recovery(parsed, secret, allow_weak=allow_weak)
    snapshots = None
    if url is not None:
        store = open_store(url)
        try:
            if identify(store) != ring.repository:
                raise UsageError(
                    f"the kit is not of the repository at {store.url}",
                    why=f"it is for {ring.repository.hex()}",
                    hints=["name its own: -r URL"],
                    code="usage.recovery_kit",
                )
            stored = find_config(store)
            if stored.epoch != ring.epoch:
                raise IntegrityError(
                    "the recovery kit is out of date",
                    why=f"it opens epoch {ring.epoch}; the repository is at epoch {stored.epoch}",
                    hints=["print a new one: dedup key kit"],
                    code="key.kit_outdated",
                )
            _, ring = open_config(stored, ring)
            snapshots = len(Catalog(store, ring).snapshots().snapshots)
        finally:
            store.close()
    return Verified(
        repository=ring.repository.hex(),
        location=parsed.location,
        slot=format_id(parse_header(parsed.slot).slot_id),
        kind=parsed.kind.noun,
        snapshots=snapshots,
    )


def kit_location(text: str) -> str:
    """Where the kit says that its repository is."""
    return parse_kit(text).location


def _create(access: Access, repository: Repository, secret: Secret, *, label: str, cost: KdfCost) -> KeyInfo:
    row = create_slot(
        repository.store,
        repository.keyring,
        secret,
        created_ns=access.clock.now_ns(),
        cost=cost,
        label=label,
        allow_weak=access.allow_weak,
    )
    return _info(row, repository.keyring.epoch)


def _own(access: Access, repository: Repository) -> SlotInfo:
    """The key that opened the repository."""
    return slot_of(repository.store, repository.keyring, access.secret, allow_weak=access.allow_weak)


def _new_slot(access: Access, new: Credential, label: str, *, strong: bool, weak: bool) -> NewSlot:
    return NewSlot(
        secret=new.secret(),
        created_ns=access.clock.now_ns(),
        cost=_cost(strong=strong, weak=weak),
        label=label,
        allow_weak=access.allow_weak,
    )


def _replaced(changed: Changed, epoch: int) -> Replaced:
    return Replaced(
        key=_info(changed.slot, epoch),
        removed=tuple(_info(row, epoch) for row in changed.removed),
        left=tuple(_info(row, epoch) for row in changed.left),
        epoch=epoch,
    )


def _cost(*, strong: bool, weak: bool) -> KdfCost:
    if weak:
        return KdfCost.insecure_for_tests()
    return STRONG_COST if strong else DEFAULT_COST


def _kit_of(repository: Repository, slot_id: bytes, *, recovery_key: bytes | None = None) -> str:
    slot = read_slot(repository.store, slot_id)
    return format_kit(
        RecoveryKit(location=repository.store.url, repository=repository.id, slot=slot, recovery_key=recovery_key)
    )


def _slot_id(repository: Repository, prefix: str) -> bytes:
    wanted = prefix.replace("-", "").lower()
    if len(wanted) < _MIN_PREFIX:
        raise UsageError(f"{prefix!r} is too short for the id of a key", hints=["give four characters or more"])
    rows = [row for row in list_slots(repository.store, repository.keyring) if row.id_text.startswith(wanted)]
    if not rows:
        raise NothingMatches(
            f"no key slot has an id that begins with {prefix!r}", hints=["dedup key list"], code="key.not_found"
        )
    if len(rows) > 1:
        raise UsageError(f"{prefix!r} begins the id of {len(rows)} keys", hints=["give more of it"])
    return rows[0].slot_id


def _current(row: SlotInfo, epoch: int) -> bool:
    return row.label is not None and row.label.epoch == epoch


def _info(row: SlotInfo, epoch: int) -> KeyInfo:
    return KeyInfo(
        id=row.id_text,
        kind=row.kind.noun,
        label=row.label.text if row.label is not None else None,
        created_ns=row.created_ns,
        memory_kib=row.cost.memory_kib if row.kind is SlotKind.PASSPHRASE else 0,
        iterations=row.cost.iterations if row.kind is SlotKind.PASSPHRASE else 0,
        current=_current(row, epoch) if row.label is not None else None,
    )
