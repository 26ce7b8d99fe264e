"""What mends and what writes anew, as rows of the table of actions (see actions.py).

Most of it starts from a repository in which something is damaged. Until it is mended, what must hold is that no object that
was there is changed or gone: with the bytes put back that were damaged, every promise is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions
from dedupstore.engine.donors import CopyDonor, MirrorDonor
from dedupstore.engine.parity import make_all_parity
from dedupstore.engine.rekey import execute_rekey, old_keys
from dedupstore.engine.repair_packs import repair_packs
from dedupstore.engine.repair_snapshots import REPAIR_OF, repair_snapshots
from dedupstore.errors import DedupError
from dedupstore.events import NullListener
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_content
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.parity import listed_parity
from dedupstore.repo.repository import Repository
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import ChunkId
from dedupstore.units import format_id
from tests.support.actions import Action, assert_restorable, copy_into, empty, keeps
from tests.support.damaging import flip, known_bad
from tests.support.pruning import check, plans, prune
from tests.support.repositories import assert_restores, entries_of, open_repository, stored_files
from tests.support.rotating import rotate
from tests.support.scenes import Scene, store_of

STEP_BYTES = 40_000
"""Of a rekey: less than what there is."""


@dataclass(frozen=True, slots=True)
class Hurt:
    """What is damaged of the newest snapshot. What a flip hits has one copy: nothing was pruned in the scene."""

    files: tuple[bytes, ...] = ()
    """A block of each has a flipped bit."""

    lost: bytes = b""
    """A pack with a part of this file is gone, unless it is one with a flipped bit."""

    directory: bool = False
    """Whether the top directory has a flipped bit as well."""

    parity: bool = False
    """Whether packs have parity."""

    known: bool = True
    """Whether a check has found it."""


FLIPPED = Hurt(files=(b"noise0", b"steady"))
UNKNOWN = Hurt(files=(b"noise0", b"steady"), known=False)
PARITY = Hurt(files=(b"noise0",), directory=True, parity=True)
WORST = Hurt(files=(b"steady",), lost=b"noise0", directory=True)
WORST_UNKNOWN = Hurt(files=(b"steady",), lost=b"noise0", directory=True, known=False)


@cache
def hurt(scene: Scene, how: Hurt) -> Mapping[str, bytes]:
    store = scene.store()
    with open_repository(store) as repository:
        if how.parity:
            _make_parity(repository)
        repository.look()
        snapshot = repository.catalog.snapshots().snapshots[-1]
        found = {path.split(b"/")[-1]: entry for path, entry in entries_of(repository.reader.load_manifest, snapshot)}

        def first(name: bytes) -> ChunkId:
            return next(chunk for chunk, _ in read_content(repository.reader.load_manifest, found[name]))

        chunks = [first(name) for name in how.files]
        lost = _pack_of(repository, first(how.lost)) if how.lost else ""
        if lost and lost not in [_pack_of(repository, chunk) for chunk in chunks]:
            del store.objects[lost]
        for chunk in [*chunks, *([snapshot.root] if how.directory else ())]:
            at = repository.index.find(chunk)
            assert at is not None
            block = repository.index.block(at.pack_no, at.block_no)
            flip(store, repository.index.pack(at.pack_no).name.key, block.offset + block.stored // 2)
        if how.known:
            assert check(repository).exit_code == 4
    return dict(store.objects)


def _pack_of(repository: Repository, chunk: ChunkId) -> str:
    at = repository.index.find(chunk)
    assert at is not None
    return repository.index.pack(at.pack_no).name.key


def untouched(how: Hurt) -> Callable[[Scene, MemoryStore], None]:
    """Nothing that was there is changed or gone; with the good bytes put back, everything is as it should be."""

    def sound(scene: Scene, store: MemoryStore) -> None:
        before = hurt(scene, how)
        assert {key: store.objects[key] for key in before} == before
        twin = store_of(store.objects)
        twin.objects.update(scene.objects)
        with open_repository(twin) as repository:
            there = {snapshot.id for snapshot in repository.catalog.snapshots().snapshots}
            assert scene.kept.keys() <= there
            assert_restorable(repository, lambda one: _files_of(scene, repository, one))

    return sound


def _files_of(scene: Scene, repository: Repository, snapshot: Snapshot) -> Mapping[bytes, bytes]:
    """One of the kept ones; or one that was made of a damaged one, which has some of its files and no others."""
    original = dict(snapshot.details).get(REPAIR_OF)
    if original is None:
        return scene.kept[snapshot.id]
    (files,) = [files for one, files in scene.kept.items() if format_id(one) == original]
    found = stored_files(repository, snapshot)
    assert found.items() <= files.items()
    return found


# What is done


def mend(repository: Repository, *, mirror: ObjectStore | None = None, copy: Mapping[str, bytes] | None = None) -> None:
    cancel = CancelToken()
    donor = MirrorDonor(repository, mirror) if mirror is not None else None
    other = CopyDonor(repository, open_repository(store_of(copy, "memory:copy")), cancel) if copy is not None else None
    try:
        report = repair_packs(repository, mirror=donor, copy=other, listener=NullListener(), cancel=cancel)
    finally:
        for one in (donor, other):
            if one is not None:
                one.close()
    if report.exit_code:
        raise DedupError("something was not to be had")


def _mend_by_parity(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        mend(repository)


def _mend_by_mirror(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        mend(repository, mirror=scene.store())


@cache
def _copied(scene: Scene) -> Mapping[str, bytes]:
    store = store_of(empty(scene), "memory:copy")
    copy_into(scene, store)
    return store.objects


def _mend_by_copy(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        mend(repository, copy=_copied(scene))


def _mended(scene: Scene, store: MemoryStore) -> None:
    """Everything restores; and when a prune has taken the damage away, nothing is left to tell."""
    with open_repository(store) as repository:
        _assert_whole(scene, repository)
        prune(repository)
        assert repository.look().whole
        _assert_whole(scene, repository)
        assert not [finding for finding in check(repository).findings if finding.severity != "note"]


def _assert_whole(scene: Scene, repository: Repository) -> None:
    repository.look()
    for snapshot, files in scene.kept.items():
        assert_restores(repository, repository.catalog.get(snapshot), files)
    report = check(repository)
    assert (report.exit_code, report.damage.files_total) == (0, 0)


def _check(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        report = check(repository)
        if report.exit_code != 4 or any(finding.code == "check.not_recorded" for finding in report.findings):
            raise DedupError("the damage was not found, or could not be written down")


def _checked(scene: Scene, store: MemoryStore) -> None:
    """Whoever comes knows it: a second check adds nothing."""
    with open_repository(store) as repository:
        assert known_bad(repository).packs
        assert check(repository).recorded == 0


def _check_and_mend(scene: Scene, store: ObjectStore) -> None:
    """As `dedup check --repair --from` does."""
    with open_repository(store) as repository:
        if check(repository).exit_code != 4:
            return
        mend(repository, mirror=scene.store())
        again = check_repository(repository, CheckOptions(), listener=NullListener(), cancel=CancelToken())
        if again.exit_code:
            raise DedupError("something is damaged still")


def _repair_snapshots(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        repair_snapshots(repository, listener=NullListener(), cancel=CancelToken())


def _snapshots_repaired(scene: Scene, store: MemoryStore) -> None:
    """Each damaged one has one without exactly what a check calls damaged."""
    with open_repository(store) as repository:
        repository.look()
        damage = check(repository).damage
        made = {dict(one.details)[REPAIR_OF]: one for one in repository.catalog.snapshots().snapshots if _is_made(one)}
        assert damage.snapshots and made.keys() == {format_id(one) for one in damage.snapshots}
        for original in damage.snapshots:
            found = stored_files(repository, made[format_id(original)])
            lost = {hit.path for hit in damage.files if original in hit.snapshots}
            assert lost and found.keys() == scene.kept[original].keys() - lost


def _is_made(snapshot: Snapshot) -> bool:
    return REPAIR_OF in dict(snapshot.details)


def _make_parity(repository: Repository) -> None:
    report = make_all_parity(repository, dry_run=False, listener=NullListener(), cancel=CancelToken())
    assert report.exit_code == 0, report.findings


def _parity(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        _make_parity(repository)


def _parity_made(scene: Scene, store: MemoryStore) -> None:
    packs = {PackName.parse(row.key).id for row in layout.list_complete(store, layout.PACKS)}
    assert listed_parity(store).keys() == packs


@cache
def _rotated(scene: Scene) -> Mapping[str, bytes]:
    store = scene.store()
    with open_repository(store) as repository:
        rotate(repository)
    return dict(store.objects)


def _rekey(scene: Scene, store: ObjectStore) -> None:
    with open_repository(store) as repository:
        execute_rekey(repository, max_repack=None, listener=NullListener(), cancel=CancelToken(), step_bytes=STEP_BYTES)


def _rekeyed(scene: Scene, store: MemoryStore) -> None:
    with open_repository(store) as repository:
        repository.look()
        assert old_keys(repository).packs == 0
        assert plans(store) == []


def _damaged_row(
    name: str, how: Hurt, act: Callable[[Scene, ObjectStore], None], done: Callable[[Scene, MemoryStore], None]
) -> Action:
    return Action(name=name, act=act, done=done, sound=untouched(how), before=lambda scene: hurt(scene, how))


MENDING = (
    _damaged_row("check of damage", UNKNOWN, _check, _checked),
    _damaged_row("check --repair", WORST_UNKNOWN, _check_and_mend, _mended),
    _damaged_row("repair packs by parity", PARITY, _mend_by_parity, _mended),
    _damaged_row("repair packs from a mirror", WORST, _mend_by_mirror, _mended),
    _damaged_row("repair packs from a copy", WORST, _mend_by_copy, _mended),
    _damaged_row("repair snapshots", FLIPPED, _repair_snapshots, _snapshots_repaired),
    Action(name="repair parity", act=_parity, done=_parity_made, sound=keeps),
    Action(name="key rekey", act=_rekey, done=_rekeyed, sound=keeps, before=_rotated),
)
