"""Every command that changes a repository, as one row: what it starts from, what it does, and what must come of it.

Tests walk the rows: a fault at every operation of its store, a power cut at every call of its disk. Whatever happens, what
was kept is kept, and running the command again is all that is ever needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from dedupstore.cancel import CancelToken
from dedupstore.engine.copy import copy_snapshots
from dedupstore.engine.origin import origin_of
from dedupstore.engine.repair import repair_index
from dedupstore.engine.undo_forget import UNDO_OF
from dedupstore.errors import DedupError, NothingMatches
from dedupstore.events import NullListener
from dedupstore.model.mark import PROTECT, Mark
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.keys import create_slot, list_slots, remove_slot
from dedupstore.repo.repository import Repository
from dedupstore.repo.slot_header import KdfCost
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import SnapshotId
from dedupstore.units import parse_id
from tests.support import forgetting, rotating
from tests.support.pruning import check, plans, prune
from tests.support.replicating import run_mirror
from tests.support.repositories import SECRET, assert_restores, new_repository, open_repository, take
from tests.support.rotating import NEW_SECRET
from tests.support.scenes import OPTIONS, Files, Scene, open_any, store_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """`act` does it to a store, `done` says whether it was done, `sound` whether every promise is kept, done or not."""

    name: str
    act: Callable[[Scene, ObjectStore], object]
    done: Callable[[Scene, MemoryStore], None]
    before: Callable[[Scene], Mapping[str, bytes]] = lambda scene: scene.objects
    sound: Callable[[Scene, MemoryStore], None]


# What must hold


def keeps(scene: Scene, store: MemoryStore, *, but: frozenset[SnapshotId] = frozenset(), undoable: bool = True) -> None:
    """All that was kept is there, `but` these may be forgotten; and what is forgotten can be brought back."""
    known = scene.kept | scene.forgotten
    with open_any(store) as repository:
        snapshots = assert_restorable(repository, lambda snapshot: known.get(snapshot.id) or _made_of(scene, snapshot))
        there = {snapshot.id for snapshot in snapshots}
        assert scene.kept.keys() - but <= there
        back = {SnapshotId(parse_id(text)) for one in snapshots for name, text in one.details if name == UNDO_OF}
    if undoable:
        with open_any(store_of(store.objects)) as repository:
            for identifier in known.keys() - there - back:
                assert_restores(repository, forgetting.undo(repository, identifier), known[identifier])


def assert_restorable(repository: Repository, files_of: Callable[[Snapshot], Files]) -> tuple[Snapshot, ...]:
    """Every snapshot there is restores, and a check that reads everything finds nothing; the snapshots."""
    listing = repository.catalog.snapshots()
    assert not listing.damaged
    for snapshot in listing.snapshots:
        assert_restores(repository, snapshot, files_of(snapshot))
    assert not [finding for finding in check(repository).findings if finding.severity != "note"]
    return listing.snapshots


def keeps_copies(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        assert_restorable(repository, lambda copy: scene.kept[_original(repository, copy)])


def keeps_mirrored(scene: Scene, store: MemoryStore) -> None:
    if layout.FORMAT_KEY in store.objects:
        with open_repository(store) as repository:
            assert_restorable(repository, lambda snapshot: scene.kept[snapshot.id])


def keeps_nothing(scene: Scene, store: MemoryStore) -> None:
    if layout.FORMAT_KEY in store.objects:
        with open_repository(store) as repository:
            assert assert_restorable(repository, lambda snapshot: scene.files) == ()


def _made_of(scene: Scene, snapshot: Snapshot) -> Files:
    """A new snapshot is of the tree as it is, or of the one that it brings back."""
    undone = dict(snapshot.details).get(UNDO_OF)
    return scene.files if undone is None else scene.forgotten[SnapshotId(parse_id(undone))]


def _original(repository: Repository, copy: Snapshot) -> SnapshotId:
    return SnapshotId(parse_id(origin_of(copy, repository.id).snapshot))


# What is done


def going(scene: Scene) -> SnapshotId:
    """The older one of the two that are kept."""
    return min(scene.kept, key=list(scene.kept).index)


def _snapshot(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        take(repository, scene.tree)


def _snapshot_done(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        assert_restores(repository, repository.catalog.snapshots().snapshots[-1], scene.files)
        assert len(repository.catalog.snapshots().snapshots) > len(scene.kept)


def _forget(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository, suppress(NothingMatches):
        forgetting.forget(repository, forgetting.options(None, going(scene)))


def _forget_done(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        assert repository.catalog.committed() == scene.kept.keys() - {going(scene)}


def _undo(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        try:
            forgetting.undo(repository, next(iter(scene.forgotten)))
        except NothingMatches as error:
            if error.code != "snapshot.not_forgotten":
                raise


def _undo_done(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        assert [one for one in repository.catalog.snapshots().snapshots if UNDO_OF in dict(one.details)]


def _prune(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        prune(repository)


def _prune_done(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        # What a stopped prune had left is carried out; what that made is small, and may be merged once.
        prune(repository)
        assert prune(repository).packs_condemned == 0
        assert plans(store) == []
        assert repository.catalog.committed() == scene.kept.keys()


def _protect(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        repository.catalog.add_mark(going(scene), Mark(kind=PROTECT, time_ns=1))


def _protect_done(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        book = repository.catalog.marks()
        book.require_whole()
        assert book.of(repository.catalog.get(going(scene))).protected


def _without_segments(scene: Scene) -> Mapping[str, bytes]:
    return {
        key: data
        for key, data in scene.objects.items()
        if not key.startswith(layout.INDEX) or key == f"{layout.INDEX}-begin"
    }


def _repair(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        report = repair_index(repository, listener=NullListener(), cancel=CancelToken())
        if report.exit_code:
            raise DedupError("something could not be read")


def _repair_done(scene: Scene, store: MemoryStore) -> None:
    keeps(scene, store)


def _nothing_lost(scene: Scene, store: MemoryStore) -> None:
    """While there is no index everything is there all the same."""
    twin = store_of(store.objects)
    _repair(scene, twin)
    keeps(scene, twin)


def _add_key(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        create_slot(
            store, repository.keyring, NEW_SECRET, created_ns=1, cost=KdfCost.insecure_for_tests(), label="second",
            allow_weak=True,
        )  # fmt: skip


def _add_key_done(scene: Scene, store: MemoryStore) -> None:
    for secret in (SECRET, NEW_SECRET):
        rotating.open_by(store, secret).close()


@cache
def _with_two_keys(scene: Scene) -> Mapping[str, bytes]:
    store = scene.store()
    _add_key(scene, store)
    return store.objects


def _remove_key(scene: Scene, store: ObjectStore) -> None:
    with open_any(store) as repository:
        rows = [row for row in list_slots(store, repository.keyring) if row.label and row.label.text == "second"]
        for row in rows:
            remove_slot(store, repository.keyring, row.slot_id)


def _remove_key_done(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        assert len(list_slots(store, repository.keyring)) == 1


def _change_key(scene: Scene, store: ObjectStore) -> None:
    with open_any(store) as repository, suppress(NothingMatches):
        rotating.change(repository)


def _change_key_done(scene: Scene, store: MemoryStore) -> None:
    rotating.open_by(store, NEW_SECRET).close()


def _rotate(scene: Scene, store: ObjectStore) -> None:
    with open_any(store) as repository:
        rotating.rotate(repository, NEW_SECRET, take_over=True)


def _rotate_done(scene: Scene, store: MemoryStore) -> None:
    with rotating.open_by(store, NEW_SECRET) as repository:
        assert repository.keyring.epoch > 1


@cache
def empty(scene: Scene) -> Mapping[str, bytes]:
    """A repository with keys of its own."""
    store = MemoryStore()
    new_repository(store, options=OPTIONS).close()
    return store.objects


def copy_into(scene: Scene, store: ObjectStore) -> None:
    with open_repository(scene.store()) as here, open_repository(store) as there:
        copy_snapshots(here, there, here.catalog.snapshots().snapshots, listener=NullListener(), cancel=CancelToken())


def _copy_done(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        copies = repository.catalog.snapshots().snapshots
        assert sorted(_original(repository, copy) for copy in copies) == sorted(scene.kept)


def _mirror(scene: Scene, store: ObjectStore) -> None:
    if run_mirror(scene.store(), store).exit_code:
        raise DedupError("the mirror is not complete")


def _mirror_done(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        assert repository.catalog.committed() == scene.kept.keys()


@cache
def _mirrored(scene: Scene) -> Mapping[str, bytes]:
    target = MemoryStore("memory:mirror")
    run_mirror(scene.store(), target)
    return target.objects


@cache
def _smaller(scene: Scene) -> Mapping[str, bytes]:
    """The repository after one more snapshot was forgotten and everything pruned."""
    source = scene.store()
    _forget(scene, source)
    _prune(scene, source)
    return source.objects


def _mirror_and_delete(scene: Scene, store: ObjectStore) -> None:
    if run_mirror(store_of(_smaller(scene)), store, delete=True).exit_code:
        raise DedupError("the mirror is not complete")


def _init(scene: Scene, store: ObjectStore) -> None:
    with suppress(DedupError):
        open_repository(store).close()
        return
    new_repository(store, options=OPTIONS).close()


def _init_done(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        assert_restores(repository, take(repository, scene.tree).snapshot, scene.files)


def _keeps_but_one(scene: Scene, store: MemoryStore) -> None:
    keeps(scene, store, but=frozenset({going(scene)}))


def _keeps_after_prune(scene: Scene, store: MemoryStore) -> None:
    keeps(scene, store, undoable=False)


ACTIONS = (
    Action(name="init", act=_init, done=_init_done, sound=keeps_nothing, before=lambda scene: {}),
    Action(name="snapshot", act=_snapshot, done=_snapshot_done, sound=keeps),
    Action(name="forget", act=_forget, done=_forget_done, sound=_keeps_but_one),
    Action(name="undo-forget", act=_undo, done=_undo_done, sound=keeps),
    Action(name="prune", act=_prune, done=_prune_done, sound=_keeps_after_prune),
    Action(name="protect", act=_protect, done=_protect_done, sound=keeps),
    Action(name="repair index", act=_repair, done=_repair_done, sound=_nothing_lost, before=_without_segments),
    Action(name="key add", act=_add_key, done=_add_key_done, sound=keeps),
    Action(name="key remove", act=_remove_key, done=_remove_key_done, sound=keeps, before=_with_two_keys),
    Action(name="key change", act=_change_key, done=_change_key_done, sound=keeps),
    Action(name="key rotate", act=_rotate, done=_rotate_done, sound=keeps),
    Action(name="copy", act=copy_into, done=_copy_done, sound=keeps_copies, before=empty),
    Action(name="mirror", act=_mirror, done=_mirror_done, sound=keeps_mirrored, before=lambda scene: {}),
    Action(name="mirror --delete", act=_mirror_and_delete, done=_forget_done, sound=keeps_mirrored, before=_mirrored),
)
