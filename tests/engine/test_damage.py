"""What is broken how, which finding tells it, at which level, and that everything else stays readable."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.codec.claims import ObjectType
from dedupstore.engine.check_options import CheckOptions, CheckReport, Counts, DataShare, Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.damage import DamageWalk
from dedupstore.engine.sound_walk import SoundWalk
from dedupstore.errors import DedupError, IntegrityError, ObjectNotFound, RepositoryTooNew, StoreError
from dedupstore.events import NullListener
from dedupstore.model.entry import FILE
from dedupstore.model.tree import read_content
from dedupstore.repo import layout
from dedupstore.repo.gcplan import Plan
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.damages import (
    Damage,
    Scene,
    check,
    empty_pack,
    extend_pack,
    flip,
    flip_fill,
    flip_first,
    flip_pack,
    foreign,
    lose_commits,
    lose_first_root,
    lose_marks,
    only,
    remove_first,
    remove_pack,
    rename_pack,
    swap_packs,
    swap_roots,
    truncate_pack,
    zero_page,
)
from tests.support.repositories import (
    assert_restores,
    entries_of,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    segment_facts,
    take,
)

QUICK = CheckOptions(level=Level.QUICK)
STRUCTURE = CheckOptions()
DATA = CheckOptions(read_data=DataShare())
RESTORE = CheckOptions(restore=True)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    tree = make_tree(tmp_path_factory.mktemp("damage") / "tree")
    store = MemoryStore()
    snapshots, expected = [], []
    with new_repository(store) as repository:
        for seed in range(3):
            result = take(repository, tree)
            assert result.snapshot is not None
            snapshots.append(result.snapshot.id)
            expected.append(files_below(tree))
            mutate_tree(tree, seed)
        by_id = {fact.id: fact for fact in segment_facts(repository)}
        # The two data packs of the first snapshot are stored by two threads: the full one counts as the first.
        full = repository.config.pack_bytes
        order = sorted(repository.index.packs(), key=lambda row: (row.kind, row.size != full, row.no))
        packs = [by_id[row.id].name for row in order]
        bodies = {by_id[row.id].name.key: (64, by_id[row.id].blocks()[-1].end) for row in order}
    return Scene(dict(store.objects), snapshots, expected, packs, bodies)


TABLE: list[tuple[str, Damage, CheckOptions, set[str], bool]] = [
    # what, how, the cheapest check that finds it, what it says, whether that is an error
    ("FORMAT flipped", flip_first("FORMAT", 20), QUICK, {"check.format"}, True),
    ("FORMAT lost", remove_first("FORMAT"), QUICK, {"check.format"}, True),
    ("config flipped", flip_first("config/"), QUICK, {"check.config_damaged"}, True),
    ("config lost", remove_first("config/"), QUICK, {"check.config_damaged"}, True),
    ("slot flipped in its label", flip_first("keys/"), QUICK, {"check.key_damaged", "check.no_key"}, True),
    ("slot flipped in its header", flip_first("keys/", 9), QUICK, {"check.key_damaged", "check.no_key"}, True),
    ("slot lost", remove_first("keys/"), QUICK, {"check.no_key"}, True),
    ("sentinel lost", lambda store, scene: store.delete("packs/zz-end"), QUICK, {"check.listing_incomplete"}, True),
    ("foreign object", foreign("packs/ab/readme"), QUICK, {"check.foreign_object"}, False),
    ("foreign snapshot name", foreign("commits/x"), QUICK, {"check.foreign_object"}, False),
    ("foreign mark", foreign("marks/x"), QUICK, {"check.foreign_object"}, False),
    ("marks cut short", lambda store, scene: store.delete("marks/zz-end"), QUICK, {"check.listing_incomplete"}, True),
    ("marks gone", lose_marks, QUICK, {"check.listing_incomplete"}, True),
    ("pack lost", remove_pack(Kind.DATA, 0), QUICK, {"check.pack_missing"}, True),
    ("pack truncated", truncate_pack, QUICK, {"check.pack_size"}, True),
    ("pack extended", extend_pack, QUICK, {"check.pack_size"}, True),
    ("pack emptied", empty_pack, QUICK, {"check.pack_size"}, True),
    ("commit flipped", flip_first("commits/"), QUICK, {"check.snapshot_damaged"}, True),
    ("root flipped", flip_first("roots/"), QUICK, {"check.snapshot_damaged"}, True),
    ("root lost", lose_first_root, QUICK, {"check.root_missing"}, True),
    ("roots swapped", swap_roots, QUICK, {"check.snapshot_damaged"}, True),
    ("commits lost", lose_commits, QUICK, {"check.uncommitted"}, False),
    ("data pack lost", remove_pack(Kind.DATA, 0), STRUCTURE, {"check.pack_missing", "check.file_damaged"}, True),
    (
        "manifest pack lost",
        remove_pack(Kind.MANIFEST, 0),
        STRUCTURE,
        {"check.pack_missing", "check.directory_damaged"},
        True,
    ),
    ("manifest block flipped", flip_pack(Kind.MANIFEST, 0, 200), STRUCTURE, {"check.directory_damaged"}, True),
    ("block flipped", flip_pack(Kind.DATA, 0, 200), DATA, {"check.pack_damaged", "check.file_damaged"}, True),
    ("delta block flipped", flip_pack(Kind.DATA, -1, 200), DATA, {"check.pack_damaged", "check.file_damaged"}, True),
    ("4 KiB zeroed", zero_page, DATA, {"check.pack_damaged", "check.file_damaged"}, True),
    ("packs swapped", swap_packs, QUICK, {"check.pack_size"}, True),
    ("pack header flipped", flip_pack(Kind.DATA, 0, 12), DATA, {"check.pack_damaged"}, True),
    ("pack salt flipped", flip_pack(Kind.DATA, 0, 45), DATA, {"check.pack_damaged"}, True),
    ("pack trailer flipped", flip_pack(Kind.DATA, 0, -9), DATA, {"check.pack_damaged"}, True),
    ("fill flipped", flip_fill, DATA, {"check.pack_damaged"}, True),
    ("pack renamed", rename_pack, QUICK, {"check.pack_renamed"}, True),
    ("pack renamed", rename_pack, STRUCTURE, {"check.file_damaged"}, True),
    ("data pack lost", remove_pack(Kind.DATA, 0), RESTORE, {"check.restore_failed"}, True),
    ("block flipped", flip_pack(Kind.DATA, 0, 200), RESTORE, {"check.restore_failed"}, True),
]


@pytest.mark.parametrize(
    ("damage", "options", "expected", "error"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_damage_is_found_named_and_nothing_else_is_hit(
    scene: Scene, damage: Damage, options: CheckOptions, expected: set[str], error: bool
) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        damage(store, scene)

        report = check(repository, options)

        assert expected <= {finding.code for finding in report.findings}, report.findings
        assert report.exit_code == 4 if error else report.exit_code in (0, 3)
        if options is STRUCTURE or options is DATA:
            assert_report_is_exact(repository, scene, report)


@pytest.mark.parametrize("damage", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_walk_beside_the_reading_tells_what_one_after_it_tells(scene: Scene, damage: Damage) -> None:
    reports = []
    for threads in (1, 2):
        store = scene.store()
        with open_repository(store) as repository:
            damage(store, scene)
            reports.append(check(repository, CheckOptions(read_data=DataShare(), threads=threads)))

    after, beside = reports
    assert beside.counts == after.counts
    assert beside.damage == after.damage
    assert sorted(map(repr, beside.findings)) == sorted(map(repr, after.findings))
    assert beside.exit_code == after.exit_code
    assert beside.complete and after.complete


@pytest.mark.parametrize("knows", [False, True], ids=["another machine", "a machine that knows it"])
@pytest.mark.parametrize("damage", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_quick_walk_says_yes_only_where_the_thorough_one_finds_nothing(
    scene: Scene, damage: Damage, knows: bool
) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        if knows:
            repository.look()
        damage(store, scene)
        session = Session(repository, STRUCTURE, NullListener(), CancelToken())
        try:
            counts = Counts()
            thorough = DamageWalk(session.load_manifest, session.health, CancelToken(), counts, lambda: None)
            for snapshot in session.snapshots():
                thorough.walk(snapshot)
            quick = SoundWalk(session.load_manifest, session.health, lambda: None)

            assert quick.sound(session.snapshots()) == (thorough.found == 0)
            if not thorough.found:
                assert (quick.directories, quick.files) == (counts.directories, counts.files)
        finally:
            session.close()


def assert_report_is_exact(repository: Repository, scene: Scene, report: CheckReport) -> None:
    """Reading every file of every snapshot fails for exactly those the report names, and gives the right bytes else."""
    told = {(identifier, file.path) for file in report.damage.files for identifier in file.snapshots}
    lost = set()
    repository.drop_index()
    repository.look()
    reader = repository.reader
    for identifier in scene.snapshots:
        snapshot = repository.catalog.get(identifier)
        try:
            for path, entry in entries_of(reader.load_manifest, snapshot):
                if entry.kind == FILE:
                    try:
                        for chunk, _ in read_content(reader.load_manifest, entry):
                            reader.read(Kind.DATA, chunk)
                    except (IntegrityError, StoreError):
                        lost.add((identifier, path))
        except (IntegrityError, StoreError):
            # A directory is gone; which one, the walk above cannot go on to tell.
            assert any(file.directory and identifier in file.snapshots for file in report.damage.files)
            return
    assert told == lost


def test_damage_is_told_by_file_snapshot_and_newest_copy(scene: Scene) -> None:
    """The pack of the second snapshot is lost: the first one is whole, and of a file later changed the newest copy, too."""
    store = scene.store()
    with open_repository(store) as repository:
        repository.look()
        second = [row for row in repository.index.packs() if row.kind is Kind.DATA]
        named = {fact.id for fact in list(segment_facts(repository))}
        assert {row.id for row in second} <= named
        key = scene.key(Kind.DATA, len([pack for pack in scene.packs if pack.kind is Kind.DATA]) - 1)
        del store.objects[key]

        report = check(repository, STRUCTURE)

        hit = report.damage
        assert hit.files_total == len(hit.files) > 0
        assert hit.chunks > 0
        assert {file.source for file in hit.files} == {"site"}
        for file in hit.files:
            last = scene.snapshots[-1]
            assert file.newest_intact is (last not in file.snapshots and file.path in scene.expected[-1])
        intact = [number for number, identifier in enumerate(scene.snapshots) if identifier not in hit.snapshots]
        for number in intact:
            assert_restores(repository, repository.catalog.get(scene.snapshots[number]), scene.expected[number])
        assert intact


def test_a_lost_base_makes_its_delta_chunks_unreadable(scene: Scene) -> None:
    """The closure over delta bases: the chunk's own block is whole, what it is a delta to is not."""
    store = scene.store()
    with open_repository(store) as repository:
        repository.look()
        flip(store, scene.key(Kind.DATA, 0), 200)

        report = check(repository, DATA)

        assert scene.snapshots[-1] in report.damage.snapshots
        assert_report_is_exact(repository, scene, report)


def test_a_sample_that_meets_a_bad_base_names_the_pack_it_lies_in(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        repository.look()
        rows = list(repository.index.packs())
        delta = max((row for row in rows if row.kind is Kind.DATA), key=lambda row: row.no)
        repository.index.mark_verified([row.no for row in rows if row.no != delta.no], 1)
        for number in range(len([pack for pack in scene.packs if pack.kind is Kind.DATA]) - 1):
            begin, end = scene.bodies[scene.key(Kind.DATA, number)]
            for at in range(begin, end, 512):
                flip(store, scene.key(Kind.DATA, number), at)

        report = check(repository, CheckOptions(read_data=DataShare(bytes=1)))

        assert report.counts.packs_read == 1
        assert "check.pack_damaged" in {finding.code for finding in report.findings}


def test_a_damaged_segment_costs_nothing_once_another_says_the_same(scene: Scene, tmp_path: Path) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        key = only(store, "index/")
        flip(store, key, 100)
        before = check(repository, STRUCTURE)
        assert {"check.segment_damaged", "check.index_incomplete"} <= {finding.code for finding in before.findings}
        assert before.damage.files_total == 0

    with open_repository(store) as repository:
        take(repository, make_tree(tmp_path / "another", seed=2))
        after = check(repository, STRUCTURE)

    assert {finding.code for finding in after.findings} == {"check.segment_superseded"}
    assert after.exit_code == 0


def test_a_plan_is_told_and_a_damaged_one_is_an_error(scene: Scene) -> None:
    store = scene.store()
    with open_repository(store) as repository:
        plan = Plan(packs=(scene.packs[0].id,), roots=(), creator="test", time_ns=1)
        key = layout.plan_key(bytes(16))
        store.put(key, [repository.keyring.seal(ObjectType.PLAN, key, plan.encode())])
        assert {finding.code for finding in check(repository, DATA).findings} == {"check.plan_open"}

        flip(store, key, -3)
        report = check(repository, QUICK)

    assert {finding.code for finding in report.findings} == {"check.plan_damaged"}
    assert report.exit_code == 4


@pytest.mark.parametrize("seed", range(4))
def test_every_flipped_bit_anywhere_is_found(scene: Scene, seed: int) -> None:
    """Random bits of random objects; a sentinel's body and the shape of its name alone carry no data."""
    chooser = random.Random(seed)
    keys = [key for key in scene.objects if key not in layout.SENTINELS]
    for _ in range(15):
        store = scene.store()
        with open_repository(store) as repository:
            key = chooser.choice(keys)
            at, bit = chooser.randrange(len(store.objects[key])), 1 << chooser.randrange(8)
            data = bytearray(store.objects[key])
            data[at] ^= bit
            store.objects[key] = bytes(data)

            report = check(repository, DATA)

            assert report.exit_code == 4, (key, at, bit, report.findings)


@pytest.mark.parametrize("folder", ["FORMAT", "config/", "keys/", "index/", "roots/", "commits/", "packs/"])
def test_every_length_is_survived_and_found(scene: Scene, folder: str) -> None:
    """Truncated at many lengths, and with garbage at its end: opening or checking says so, nothing crashes."""
    key = only(scene.store(), folder)
    whole = scene.objects[key]
    lengths = sorted({0, 1, 2, 63, 64, 65, 100, len(whole) // 2, len(whole) - 1})
    for data in [*(whole[:length] for length in lengths if length < len(whole)), whole + b"garbage"]:
        store = scene.store()
        store.objects[key] = data
        try:
            with open_repository(store) as repository:
                code = check(repository, DATA).exit_code
        except DedupError as error:
            code = error.exit_code
        assert code in (4, 10, 12, 13), (key, len(data))


def test_an_object_of_another_repository_under_our_name_is_refused(scene: Scene, tmp_path: Path) -> None:
    """Same program, same shape, other keys: pack, segment, root, commit and slot of a stranger."""
    other = MemoryStore()
    tree = make_tree(tmp_path / "tree")
    with new_repository(other) as stranger:
        take(stranger, tree)
    for folder in ("packs/", "index/", "roots/", "commits/", "keys/", "config/"):
        store = scene.store()
        with open_repository(store) as repository:
            store.objects[only(store, folder)] = other.objects[only(other, folder)]

            report = check(repository, DATA)

            assert report.exit_code == 4, folder


def test_opening_a_damaged_repository_says_what_is_wrong(scene: Scene) -> None:
    for damage, codes in (
        (remove_first("FORMAT"), {"repo.not_found"}),
        (flip_first("FORMAT", 3), {"repo.corrupt_object"}),
        (flip_first("config/"), {"repo.corrupt_object"}),
        (flip_first("keys/", 120), {"repo.wrong_passphrase"}),
    ):
        store = scene.store()
        damage(store, scene)
        with pytest.raises((IntegrityError, RepositoryTooNew, DedupError, ObjectNotFound)) as raised:
            open_repository(store)
        assert raised.value.code in codes
