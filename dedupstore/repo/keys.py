"""The key slots in a repository's store: made, tried, listed, removed. Names and bytes are told by slots.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from dedupstore.errors import (
    DedupError,
    IntegrityError,
    NothingMatches,
    ObjectNotFound,
    Refused,
    StoreError,
    WrongPassphrase,
)
from dedupstore.repo import layout
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.slot_header import SLOT_LENGTH, KdfCost, SlotKind, not_a_slot, parse_header
from dedupstore.repo.slots import (
    DEFAULT_COST,
    Secret,
    SlotLabel,
    check_repository,
    derive_ahead,
    open_label,
    open_slot_bytes,
    seal_slot,
)
from dedupstore.storage.base import ObjectStore
from dedupstore.types import RepositoryId
from dedupstore.units import format_id

# Storage can plant slots that are expensive to try; availability is not promised, our time and memory are bounded.
_MAX_KDF_ATTEMPTS = 8
"""So many slots are tried whatever they cost,"""

_MAX_KDF_WORK = 64 * DEFAULT_COST.work
"""and more while all of them together cost no more than this: 10 s on the machine where the default takes 0.16 s."""

_MAX_SLOTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotInfo:
    """One row of `dedup key list`. `label` is None without an open ring, or when the slot was altered."""

    slot_id: bytes
    kind: SlotKind
    created_ns: int
    cost: KdfCost
    label: SlotLabel | None

    @property
    def id_text(self) -> str:
        return format_id(self.slot_id)


def create_slot(
    store: ObjectStore,
    ring: KeyRing,
    secret: Secret,
    *,
    created_ns: int,
    cost: KdfCost = DEFAULT_COST,
    label: str = "",
    allow_weak: bool = False,
    first: bool = False,
) -> SlotInfo:
    """Add a slot that opens `ring`'s current epoch; durable and read back when this returns.

    `first`: of a repository that is being made. Its slots are not listed: listings may lag and not show the sentinels yet.
    Raises Refused `refused.too_many_keys` where no opening would get as far as to try it, or one that is there.
    """
    if not first:
        _require_room(store, ring, secret, cost)
    slot = seal_slot(
        secret,
        ring.secrets(),
        repository=ring.repository,
        created_ns=created_ns,
        cost=cost,
        label=label,
        allow_weak=allow_weak,
    )
    import_slot(store, slot, repository=ring.repository)
    return _info(slot, ring)


def _require_room(store: ObjectStore, ring: KeyRing, secret: Secret, cost: KdfCost) -> None:
    slots, findings = _readable_slots(store, None)
    own = [row for row in _rows(slots, ring) if row.kind is secret.kind and row.label is not None]
    full = len(slots) + len(findings) >= _MAX_SLOTS
    if secret.kind is SlotKind.PASSPHRASE:
        work = cost.work + sum(row.cost.work for row in own)
        full = full or (len(own) >= _MAX_KDF_ATTEMPTS and work > _MAX_KDF_WORK)
    if full:
        raise Refused(
            "there are too many keys for one more",
            why=f"{len(own)} of its kind are there; not all would be tried when somebody opens the repository",
            hints=["remove one that nobody needs: dedup key list, then dedup key remove ID", "or add a key file"],
            code="refused.too_many_keys",
        )


def import_slot(store: ObjectStore, slot: bytes, *, repository: RepositoryId) -> None:
    """Store a slot's bytes, for example those of a recovery kit. The name of a slot is its id: it replaces nothing."""
    header = parse_header(slot)
    check_repository(header, repository)
    key = layout.slot_key(header.slot_id)
    store.put(key, [slot])
    store.barrier()
    if store.get(key) != slot:
        raise StoreError("the new key slot reads back differently", why=f"at {store.url}, {key}")


def read_slot(store: ObjectStore, slot_id: bytes) -> bytes:
    """A slot's bytes, as a recovery kit carries them."""
    key = layout.slot_key(slot_id)
    return _read(store, key, store.head(key))


def _read(store: ObjectStore, key: str, size: int) -> bytes:
    # Its size first: an object of a gigabyte is not a slot, and need not be fetched to know.
    if size != SLOT_LENGTH:
        raise not_a_slot(f"{key} has {size} bytes where a slot has {SLOT_LENGTH}")
    slot = store.get(key)
    if layout.slot_key(parse_header(slot).slot_id) != key:
        raise not_a_slot(f"{key} holds a slot of another name")
    return slot


def open_slot(
    store: ObjectStore,
    repository: RepositoryId,
    secret: Secret,
    *,
    slot_id: bytes | None = None,
    epoch: int | None = None,
    allow_weak: bool = False,
) -> KeyRing:
    """The key ring, by the first slot this secret opens; cheap slots are tried first, then new ones.

    With `slot_id` only that slot is tried. `epoch` is the one of the newest config, and no other will do: slots of earlier
    epochs may be left, and that of a rotation under way or stopped, which open by the same passphrase. Raises
    WrongPassphrase when none opens, or what is wrong with the slots when none could be tried at all.
    """
    slots, findings = _readable_slots(store, slot_id, {} if slot_id is not None else secret.read)
    failure: WrongPassphrase | None = None
    order = _in_order_of_trial(slots, secret.kind)
    attempts = work = 0
    for slot in order:
        work += parse_header(slot).cost.work
        if attempts >= _MAX_KDF_ATTEMPTS and work > _MAX_KDF_WORK:
            if failure is None or failure.code == WrongPassphrase.code:
                raise _untried(secret, attempts, len(order) - attempts)
            break
        try:
            secrets = open_slot_bytes(slot, secret, repository=repository, allow_weak=allow_weak)
        except WrongPassphrase as exc:
            failure = failure or exc
        except DedupError as exc:
            findings.append(exc)
            continue
        else:
            if epoch is None or secrets.epoch == epoch:
                return KeyRing.from_secrets(repository, secrets)
            failure = _key_of_another(secrets.epoch, epoch)
        attempts += 1
    raise _explain(store, slots, secret, failure, findings)


def prove_slot(store: ObjectStore, ring: KeyRing, slot_id: bytes, secret: Secret, *, allow_weak: bool = False) -> None:
    """Open a slot as it lies in the store, with nothing but its secret. Raises IntegrityError when it gives other keys."""
    found = open_slot(store, ring.repository, secret, slot_id=slot_id, allow_weak=allow_weak)
    if found.secrets() != ring.secrets():
        raise IntegrityError("the new key slot does not give the keys of the repository", why="it was not put to use")


def slot_of(store: ObjectStore, ring: KeyRing, secret: Secret, *, allow_weak: bool = False) -> SlotInfo:
    """The newest slot of the current epoch that this secret opens. Raises IntegrityError when it is gone."""
    rows = list_slots(store, ring)
    fitting = [row for row in rows if row.kind is secret.kind and row.label and row.label.epoch == ring.epoch]
    for row in reversed(fitting):
        # Trying costs a key derivation; with one candidate there is nothing to find out.
        if len(fitting) == 1 or _opens(store, ring, row.slot_id, secret, allow_weak):
            return row
    raise IntegrityError("the key slot that was opened is gone", hints=["dedup key list"], code="key.not_found")


def _opens(store: ObjectStore, ring: KeyRing, slot_id: bytes, secret: Secret, allow_weak: bool) -> bool:
    try:
        open_slot(store, ring.repository, secret, slot_id=slot_id, allow_weak=allow_weak)
    except StoreError:
        raise
    except DedupError:
        return False
    return True


def start_opening(store: ObjectStore, repository: RepositoryId, secret: Secret, *, allow_weak: bool = False) -> Secret:
    """The same secret with the slots that were read; the key for the one that is tried first is being derived from now on.

    Raises what is wrong with the store or with that slot.
    """
    slots, _ = _readable_slots(store, None)
    secret = replace(secret, read={layout.slot_key(parse_header(slot).slot_id): slot for slot in slots})
    for slot in _in_order_of_trial(slots, secret.kind)[:1]:
        return derive_ahead(slot, secret, repository=repository, allow_weak=allow_weak)
    return secret


def _in_order_of_trial(slots: Sequence[bytes], kind: SlotKind) -> list[bytes]:
    headers = [(parse_header(slot), slot) for slot in slots]
    wanted = [(header.cost.work, -header.created_ns, slot) for header, slot in headers if header.kind is kind]
    return [slot for _, _, slot in sorted(wanted)]


def list_slots(store: ObjectStore, ring: KeyRing) -> list[SlotInfo]:
    """Every readable slot of this repository, oldest first."""
    slots, _ = _readable_slots(store, None)
    return sorted(_rows(slots, ring), key=lambda row: (row.created_ns, row.slot_id))


def _rows(slots: Iterable[bytes], ring: KeyRing) -> list[SlotInfo]:
    return [_info(slot, ring) for slot in slots if parse_header(slot).repository == ring.repository]


def remove_slot(store: ObjectStore, ring: KeyRing, slot_id: bytes) -> None:
    """Delete one slot, readable or not. Refuses the last one that opens the current epoch: nobody could ever again.

    A copy of the slot that someone already has still opens this epoch; only a new epoch ends that.
    """
    key = layout.slot_key(slot_id)
    try:
        taken = store.get(key)
    except ObjectNotFound as exc:
        raise _no_such_slot(slot_id) from exc
    if not _others_open(store, ring, slot_id):
        raise _last_slot()
    store.delete(key)
    store.barrier()
    if not _others_open(store, ring, slot_id):
        # Somebody else removed the other one at the same moment. Both are put back by whoever sees that.
        store.put(key, [taken])
        store.barrier()
        raise _last_slot()


def _others_open(store: ObjectStore, ring: KeyRing, slot_id: bytes) -> bool:
    """Whether another slot opens the current epoch. An altered one is no way in, nor is one of an earlier epoch."""
    others = [row for row in list_slots(store, ring) if row.slot_id != slot_id]
    return any(row.label is not None and row.label.epoch == ring.epoch for row in others)


def _last_slot() -> Refused:
    return Refused(
        "this is the last key slot",
        why="without it nobody can open the repository again",
        hints=["add another first: dedup key add"],
        code="refused.last_slot",
    )


def _readable_slots(
    store: ObjectStore, wanted: bytes | None, read: Mapping[str, bytes] = MappingProxyType({})
) -> tuple[list[bytes], list[DedupError]]:
    """Slots of good shape, and what is wrong with the others: one bad object must not hide a good slot.

    `read`: those that need not be read again. The name of a slot is its id, so one name never means another slot.
    """
    slots: list[bytes] = []
    findings: list[DedupError] = []
    for row in layout.list_complete(store, layout.KEYS)[:_MAX_SLOTS]:
        try:
            if wanted is None or layout.parse_id_key(row.key, layout.KEYS) == wanted:
                slots.append(read.get(row.key) or _read(store, row.key, row.size))
        except ObjectNotFound:
            continue
        except StoreError:
            raise
        except DedupError as exc:
            findings.append(exc)
    if wanted is not None and not slots and not findings:
        raise _no_such_slot(wanted)
    return slots, findings


def _no_such_slot(slot_id: bytes) -> NothingMatches:
    return NothingMatches(f"no key slot {format_id(slot_id)}", hints=["dedup key list"], code="key.not_found")


def _untried(secret: Secret, tried: int, left: int) -> WrongPassphrase:
    return WrongPassphrase(
        f"none of the {tried} cheapest keys opens by this {secret.kind.noun}",
        why=f"{left} more are there and were not tried, for that could take for ever",
        hints=["try again", "with another key: dedup key list, then dedup key remove what nobody needs"],
        code="repo.too_many_keys",
    )


def _key_of_another(epoch: int, wanted: int) -> WrongPassphrase:
    if epoch > wanted:
        return WrongPassphrase(
            "this key is of a rotation that was not finished",
            why=f"it opens epoch {epoch}; the repository is at epoch {wanted}",
            hints=["use a key from before the rotation, and finish it: dedup key rotate --take-over"],
            code="repo.early_key",
        )
    return WrongPassphrase(
        "this key is of an earlier epoch",
        why=f"it opens epoch {epoch}; the repository is at epoch {wanted}",
        hints=["use a key made after the rotation"],
        code="repo.old_key",
    )


def _explain(
    store: ObjectStore,
    slots: Sequence[bytes],
    secret: Secret,
    failure: WrongPassphrase | None,
    findings: Sequence[DedupError],
) -> DedupError:
    if failure is not None:
        if findings:
            why = f"{len(findings)} more could not be tried: {findings[0].message}"
            return WrongPassphrase(failure.message, why=why, hints=failure.hints, code=failure.code)
        return failure
    if findings:
        return findings[0]
    if not slots:
        return IntegrityError(
            "the repository has no key slot",
            why=f"nothing under keys/ at {store.url}",
            hints=["put one back from the recovery kit: dedup key add --kit FILE"],
            code="repo.no_slots",
        )
    kinds = sorted({parse_header(slot).kind.noun for slot in slots})
    return WrongPassphrase(
        f"no key slot takes a {secret.kind.noun}", why=f"this repository opens by {', '.join(kinds)}"
    )


def _info(slot: bytes, ring: KeyRing) -> SlotInfo:
    header = parse_header(slot)
    return SlotInfo(
        slot_id=header.slot_id,
        kind=header.kind,
        created_ns=header.created_ns,
        cost=header.cost,
        label=open_label(slot, ring.domain),
    )
