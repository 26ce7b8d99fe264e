"""What a check has found damaged is no copy any more: it is stored again, relied on by nobody, and pruned first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedupstore.codec.block import Codec
from dedupstore.engine.check_options import CheckOptions, Level
from dedupstore.engine.prune_plan import Reason
from dedupstore.errors import RepositoryError
from dedupstore.repo import layout
from dedupstore.repo.gcplan import Plan, put_plan
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.damaging import assert_whole, check, chunk_of, content_of, flip, flip_file, known_bad
from tests.support.faults import Fault, FaultPlan, FaultyStore
from tests.support.pack_layouts import LAYOUTS, Scene, build
from tests.support.pruning import forget, plan, plans, prune, sweep
from tests.support.repairing import break_trailer, cut, lose
from tests.support.repositories import assert_restores, files_below, open_repository, random_bytes, take

QUICK = CheckOptions(level=Level.QUICK)


STRUCTURE = CheckOptions()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("known bad") / "tree"


@pytest.fixture(scope="module")
def scene(tree: Path) -> Scene:
    return build(LAYOUTS["full"], tree)


@pytest.fixture
def store(scene: Scene) -> MemoryStore:
    return scene.store()


@pytest.fixture
def repository(store: MemoryStore, tmp_path: Path) -> Iterator[Repository]:
    with open_repository(store, tmp_path / "cache") as opened:
        opened.look()
        yield opened


def heal(repository: Repository, tree: Path) -> None:
    """The next snapshot, on a machine that was told by nobody but the repository."""
    with open_repository(repository.store) as other:
        assert not take(other, tree).findings
    repository.look()


def test_what_is_damaged_is_stored_again_by_the_next_snapshot_and_then_pruned(
    repository: Repository, store: MemoryStore, scene: Scene, tree: Path
) -> None:
    fact = flip_file(store, repository, scene, "a")
    before = check(repository)
    assert (before.exit_code, before.recorded, before.damage.files_total) == (4, 1, 1)
    assert known_bad(repository).packs == {fact.id: frozenset({0})}

    with open_repository(store) as other:
        taken = take(other, tree)

    assert taken.statistics.chunks_new == 1
    assert_whole(repository, scene)
    planned = plan(repository)
    assert [(choice.row.id, choice.reason) for choice in planned.choices] == [(fact.id, Reason.DAMAGED)]
    prune(repository)
    assert fact.name.key not in store.objects
    assert repository.look().whole
    assert [one for one in check(repository).findings if one.severity != "note"] == []
    assert_whole(repository, scene)


def test_a_second_check_tells_what_is_known_by_whom_it_hits(
    repository: Repository, store: MemoryStore, scene: Scene
) -> None:
    flip_file(store, repository, scene, "a")
    check(repository)
    records = [key for key in store.objects if key.startswith("gc/bad-")]

    for options in (CheckOptions(), CheckOptions(snapshots=(scene.snapshots[1],))):
        report = check(repository, options)
        assert report.exit_code == 4
        assert [file.path for file in report.damage.files] == [b"tree/a"]
        assert report.recorded == 0
    again = check(repository)

    assert {finding.code: finding.severity for finding in again.findings} == {
        "check.pack_damaged": "note",
        "check.file_damaged": "error",
    }
    assert [key for key in store.objects if key.startswith("gc/bad-")] == records


def test_a_known_bad_copy_is_no_target_of_deduplication_and_no_base(
    repository: Repository, store: MemoryStore, scene: Scene
) -> None:
    fact = flip_file(store, repository, scene, "b")
    with repository.writer(repository.look()) as writer:
        assert writer.has(chunk_of(repository, "b")) and writer.has(chunk_of(repository, "B"))
    check(repository)

    with repository.writer(repository.look()) as writer:
        assert not writer.has(chunk_of(repository, "b"))
        assert not writer.has(chunk_of(repository, "B")), "its base cannot be read"
        assert writer.has(chunk_of(repository, "c")), "another block of the same pack"
        changed = writer.save(Kind.DATA, content_of("b") + b"one more line", like=[chunk_of(repository, "b")])
    at = repository.index.find(changed)

    assert at is not None
    assert repository.index.block(at.pack_no, at.block_no).codec != Codec.DELTA
    assert fact.id in known_bad(repository).packs


def break_header(store: MemoryStore, fact: PackFacts) -> None:
    flip(store, fact.name.key, 45)


def break_fill(store: MemoryStore, fact: PackFacts) -> None:
    flip(store, fact.name.key, fact.blocks()[-1].end)


@pytest.mark.parametrize(
    "knows",
    [
        pytest.param(False, id="another machine"),
        pytest.param(True, id="a machine that knows it", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("damage", [lose, cut, break_trailer, break_header, break_fill])
@pytest.mark.parametrize("pack", ["a b c", "d", "B C e", "manifests 0", "manifests 1"])
def test_whatever_happens_to_a_pack_a_snapshot_and_a_prune_leave_nothing_of_it(
    repository: Repository, store: MemoryStore, scene: Scene, tree: Path, tmp_path: Path, pack: str,
    damage: Callable[[MemoryStore, PackFacts], None], knows: bool,
) -> None:  # fmt: skip
    """What only the first snapshot needed may be lost with it: then that snapshot is forgotten first."""
    fact = scene.packs[pack]
    damage(store, fact)
    if not knows:
        repository.drop_index()
    first = check(repository)
    assert first.exit_code == 4 and first.recorded == 1

    heal(repository, tree)
    report = check(repository)
    assert set(report.damage.snapshots) <= set(scene.snapshots)
    for identifier in report.damage.snapshots:
        forget(repository, repository.catalog.get(identifier))
    assert check(repository).exit_code == 0
    assert check(repository, QUICK).exit_code in (0, 3)
    prune(repository)
    prune(repository)

    assert fact.name.key not in store.objects
    assert repository.look().whole
    assert plans(store) == []
    final = check(repository)
    assert [one for one in final.findings if one.severity != "note"] == []
    assert not {"check.pack_missing", "check.pack_size", "check.pack_damaged"} & {one.code for one in final.findings}
    with open_repository(store) as other:
        assert other.look().whole
        assert_restores(other, other.catalog.snapshots().snapshots[-1], files_below(tree))


def test_a_prune_does_not_take_the_good_copy_because_of_a_bad_one(
    repository: Repository, store: MemoryStore, scene: Scene, tree: Path
) -> None:
    """Two packs hold the chunk; the one whose copy is good is condemned."""
    flip_file(store, repository, scene, "a")
    check(repository)
    heal(repository, tree)
    (good,) = [
        repository.index.pack(copy.pack_no)
        for copy in repository.index.find_all(chunk_of(repository, "a"))
        if repository.index.pack(copy.pack_no).id not in known_bad(repository).packs
    ]
    put_plan(store, repository.keyring, Plan(packs=(good.id,), roots=(), creator="test", time_ns=0))

    report = sweep(repository)

    assert (report.packs_deleted, report.bytes_moved) == (1, len(content_of("a")))
    assert_whole(repository, scene)


def test_a_prune_does_not_take_the_good_copy_of_a_base_because_of_a_bad_one(
    repository: Repository, store: MemoryStore, scene: Scene
) -> None:
    """B is a delta to b. The good copy of b is condemned, and nothing but B needs it any more."""
    forget(repository, repository.catalog.get(scene.snapshots[0]))
    with repository.writer(repository.look()) as writer:
        writer.store_again(Kind.DATA, chunk_of(repository, "b"), content_of("b"))
    flip_file(store, repository, scene, "b")
    check(repository)
    (good,) = [
        repository.index.pack(copy.pack_no)
        for copy in repository.index.find_all(chunk_of(repository, "b"))
        if repository.index.pack(copy.pack_no).id not in known_bad(repository).packs
    ]
    put_plan(store, repository.keyring, Plan(packs=(good.id,), roots=(), creator="test", time_ns=0))

    assert sweep(repository).packs_deleted == 1

    repository.look()
    assert repository.reader.read(Kind.DATA, chunk_of(repository, "B")) == content_of("B")
    assert check(repository).exit_code == 0
    prune(repository)
    assert repository.look().whole and check(repository).exit_code == 0


@pytest.mark.parametrize("knows", [False, True])
def test_a_pack_of_which_nothing_can_be_read_is_condemned_by_whoever_knows_what_it_held(
    tmp_path: Path, knows: bool
) -> None:
    """It has the base of a delta elsewhere, which no snapshot needs any more: the chunk was stored again in full."""
    tree = tmp_path / "tree"
    short = build(LAYOUTS["short"], tree)
    store, fact = short.store(), short.packs["a b c d"]
    with open_repository(store, tmp_path / "cache") as repository:
        if knows:
            repository.look()
        store.objects[fact.name.key] = random_bytes("other bytes", fact.size)
        check(repository)
        heal(repository, tree)
        for identifier in check(repository).damage.snapshots:
            forget(repository, repository.catalog.get(identifier))

        chosen = {choice.row.id: choice.reason for choice in plan(repository).choices}
        prune(repository)

        assert chosen[fact.id] is Reason.DEAD
        assert fact.name.key not in store.objects and repository.look().whole
        assert [one for one in check(repository).findings if one.severity != "note"] == []
        assert_restores(repository, repository.catalog.snapshots().snapshots[-1], files_below(tree))


def test_a_pack_with_the_last_copy_is_not_chosen_however_bad_it_is(
    repository: Repository, store: MemoryStore, scene: Scene
) -> None:
    fact = flip_file(store, repository, scene, "a")
    check(repository)

    prune(repository)

    assert fact.name.key in store.objects and plans(store) == []
    assert check(repository).damage.files_total == 1
    for identifier in scene.snapshots:
        forget(repository, repository.catalog.get(identifier))
    prune(repository)
    assert fact.name.key not in store.objects and check(repository).exit_code == 0


def test_a_lost_pack_that_is_needed_is_not_told_as_pruned(
    repository: Repository, store: MemoryStore, scene: Scene
) -> None:
    fact = scene.packs["d"]
    del store.objects[fact.name.key]
    assert check(repository).recorded == 1

    prune(repository)

    assert repository.look().lost == {fact.id}
    assert check(repository).damage.files_total == 1
    store.objects[fact.name.key] = scene.objects[fact.name.key]
    assert_whole(repository, scene)


def test_a_pack_that_was_put_back_by_hand_counts_for_a_check(
    repository: Repository, store: MemoryStore, scene: Scene
) -> None:
    fact = flip_file(store, repository, scene, "a")
    assert check(repository).exit_code == 4
    store.objects[fact.name.key] = scene.objects[fact.name.key]

    for options in (STRUCTURE, CheckOptions(restore=True)):
        assert check(repository, options).findings == ()
    assert_whole(repository, scene)


def test_what_a_check_of_the_structure_meets_is_recorded_by_block(
    repository: Repository, store: MemoryStore, scene: Scene, tree: Path
) -> None:
    """A directory of the second snapshot is a delta to that of the first: only the block at fault is recorded."""
    fact = scene.packs["manifests 0"]
    numbers = range(len(fact.blocks()))
    for number in numbers:
        flip(store, fact.name.key, fact.blocks()[number].offset + 20)

    report = check(repository, STRUCTURE)

    assert report.exit_code == 4 and report.recorded == 1
    assert known_bad(repository).packs == {fact.id: frozenset(numbers)}
    heal(repository, tree)
    for identifier in check(repository, STRUCTURE).damage.snapshots:
        forget(repository, repository.catalog.get(identifier))
    assert check(repository).exit_code == 0


@pytest.mark.parametrize("fault", [Fault.READ_ONLY, Fault.FULL, Fault.FAIL_BEFORE])
def test_a_store_that_takes_nothing_does_not_make_a_check_fail(
    store: MemoryStore, scene: Scene, tmp_path: Path, fault: Fault
) -> None:
    faulty = FaultyStore(store, FaultPlan(fault=fault, at=0, verb="put", times=None))
    with open_repository(faulty) as repository:
        flip_file(store, repository, scene, "a")

        report = check(repository)

        assert faulty.fired == 1
        assert (report.exit_code, report.recorded) == (4, 0)
        assert "check.not_recorded" in {finding.code for finding in report.findings}
        faulty.plan = None
        assert check(repository).recorded == 1


@pytest.mark.parametrize("fault", [Fault.TRUNCATED, Fault.FAIL_BEFORE, Fault.WRONG_RANGE])
@pytest.mark.parametrize("at", [0, 1])
def test_of_two_readings_of_a_damaged_pack_that_differ_what_was_read_once_is_whole(
    store: MemoryStore, scene: Scene, fault: Fault, at: int
) -> None:
    """One of its three blocks is damaged; one of the readings is wrong besides."""
    with open_repository(store) as repository:
        fact = flip_file(store, repository, scene, "a")
    faulty = FaultyStore(store, FaultPlan(fault=fault, at=at, verb="get", below=fact.name.key))
    with open_repository(faulty) as repository:
        repository.look()

        check(repository)

        assert faulty.fired
        assert known_bad(repository).packs == {fact.id: frozenset({0})}


@pytest.mark.parametrize("fault", [Fault.TRUNCATED, Fault.FAIL_BEFORE, Fault.WRONG_RANGE, Fault.NOT_FOUND])
def test_what_is_known_of_a_pack_does_not_grow_by_one_reading_that_was_wrong(
    store: MemoryStore, scene: Scene, fault: Fault
) -> None:
    with open_repository(store) as repository:
        fact = flip_file(store, repository, scene, "a")
        assert check(repository).recorded == 1
    faulty = FaultyStore(store, FaultPlan(fault=fault, at=0, verb="get", below=fact.name.key))
    with open_repository(faulty) as repository:
        repository.look()

        report = check(repository, STRUCTURE)

        assert faulty.fired
        assert (report.exit_code, report.recorded) == (4, 0)
        assert known_bad(repository).packs == {fact.id: frozenset({0})}


def test_a_damaged_record_is_a_warning_and_its_damage_is_found_again(
    repository: Repository, store: MemoryStore, scene: Scene
) -> None:
    flip_file(store, repository, scene, "a")
    check(repository)
    (key,) = [key for key in store.objects if key.startswith("gc/bad-")]
    flip(store, key, -3)

    assert ("check.record_damaged", "warning") in {
        (finding.code, finding.severity) for finding in check(repository, QUICK).findings
    }
    assert check(repository).recorded == 1


def test_damage_recorded_while_a_snapshot_runs_is_noticed_before_it_commits(
    store: MemoryStore, scene: Scene, tree: Path
) -> None:
    """It was looked at before; now its root is published, and what it relies on is known to be bad."""

    class Meanwhile(MemoryStore):
        def put(self, key: str, parts: object) -> None:
            super().put(key, parts)  # type: ignore[arg-type]
            if key.startswith(layout.ROOTS):
                with open_repository(store) as other:
                    flip_file(store, other, scene, "a")
                    check(other)

    meanwhile = Meanwhile("memory:meanwhile")
    meanwhile.objects = store.objects
    with open_repository(meanwhile) as repository:
        with pytest.raises(RepositoryError) as raised:
            take(repository, tree)
        assert raised.value.code == "snapshot.chunks_lost"
    again = open_repository(store)
    with again as repository:
        taken = take(repository, tree).snapshot
        assert_restores(repository, taken, files_below(tree))
        assert_whole(repository, scene)
