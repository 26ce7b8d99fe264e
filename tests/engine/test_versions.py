"""The table of paths says what the snapshots say: compared with walks over every snapshot, path by path."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine import versions
from dedupstore.engine.find import Wanted, find
from dedupstore.engine.versions import Timeline, _next_batch, learn
from dedupstore.engine.walk import walk
from dedupstore.errors import UsageError
from dedupstore.events import Collector
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.lmdb_versions import temporary_versions
from dedupstore.repo.repository import Repository
from dedupstore.repo.versions import VANISHED, version_of
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import RepositoryId
from tests.support.repositories import make_tree, mutate_tree, new_repository, open_repository, take


def snapshots_of(repository: Repository) -> list[Snapshot]:
    return list(repository.catalog.snapshots().snapshots)


def brute_force(repository: Repository, snapshots: list[Snapshot]) -> dict[bytes, list[list[object]]]:
    """Path -> runs of snapshots of one source and host that have one version, as [version, first, last, count]."""
    repository.look()
    load, keyed = repository.reader.load_manifest, repository.versions.keyed
    found: dict[bytes, list[list[object]]] = {}
    groups: dict[tuple[str, str], list[Snapshot]] = {}
    for snapshot in snapshots:
        groups.setdefault((snapshot.source, snapshot.host), []).append(snapshot)
    for group in groups.values():
        before: dict[bytes, list[object]] = {}
        for snapshot in group:
            now: dict[bytes, list[object]] = {}
            for path, entry in walk(load, snapshot.root):
                version = version_of(keyed, entry)
                run = before.get(path)
                if run is None or run[0] != version:
                    run = [version, snapshot.id, snapshot.id, 0]
                    found.setdefault(path, []).append(run)
                run[2], run[3] = snapshot.id, int(str(run[3])) + 1
                now[path] = run
            before = now
    return found


def told(repository: Repository, snapshots: list[Snapshot]) -> dict[bytes, list[list[object]]]:
    """The same from the table."""
    timeline = Timeline(repository.versions, snapshots)
    names = [name for block in repository.versions.names() for name in block.split(b"\0") if name]
    assert len(names) == len(set(names))
    return {
        path: [[one.version, one.first.id, one.last.id, one.snapshots] for one in seen]
        for path, seen in timeline.versions(iter(names))
        if seen
    }


def bring_up_to_date(repository: Repository) -> list[Snapshot]:
    collector = Collector()
    learned = learn(repository, snapshots_of(repository), collector, CancelToken())
    assert collector.findings == []
    return learned


def change(tree: Path, chooser: random.Random) -> None:
    """Anything that may happen to a path: also back to what it was, to another kind, and directories that go."""
    mutate_tree(tree, chooser.randrange(10**6))
    swapped = tree / "swapped"
    match chooser.randrange(6):
        case 0:
            if swapped.is_dir():
                (swapped / "below").unlink()
                swapped.rmdir()
            swapped.write_text(chooser.choice("ab"))
        case 1:
            swapped.unlink(missing_ok=True) if not swapped.is_dir() else None
            swapped.mkdir(exist_ok=True)
            (swapped / "below").write_text("x")
        case 2:
            (tree / "empty").chmod(chooser.choice((0o600, 0o644)))
        case 3:
            (tree / "comes and goes").unlink() if (tree / "comes and goes").exists() else (
                tree / "comes and goes"
            ).touch()
        case 4:
            os.utime(tree / "readme.txt", ns=(1, chooser.randrange(3)))


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with new_repository(MemoryStore(), tmp_path / "cache") as made:
        yield made


@pytest.mark.parametrize("seed", range(4))
def test_every_version_of_every_path_is_what_the_snapshots_hold(
    repository: Repository, tmp_path: Path, seed: int
) -> None:
    chooser = random.Random(seed)
    tree = make_tree(tmp_path / "tree", seed)
    for number in range(8):
        take(repository, tree, source=chooser.choice(("site", "site", "other")), host=chooser.choice(("a", "a", "b")))
        change(tree, chooser)
        if number % 3 == 1:
            bring_up_to_date(repository)

    learned = bring_up_to_date(repository)

    assert learned == snapshots_of(repository)
    assert told(repository, learned) == brute_force(repository, learned)
    # Asked about some of them only, as after a forget or for one source.
    some = [snapshot for snapshot in learned if chooser.random() < 0.6]
    assert told(repository, some) == brute_force(repository, some)


def test_an_unchanged_snapshot_costs_no_events_and_reads_no_manifest(repository: Repository, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    take(repository, tree)
    bring_up_to_date(repository)
    take(repository, tree)
    asked: list[bytes] = []
    plain = repository.reader.load_manifest
    repository.reader.load_manifest = lambda chunk: asked.append(chunk) or plain(chunk)  # type: ignore[method-assign,func-returns-value]

    learned = bring_up_to_date(repository)

    assert asked == []
    timeline = Timeline(repository.versions, learned)
    [(_, [seen])] = timeline.versions(iter([b"tree/readme.txt"]))
    assert (seen.first.id, seen.last.id, seen.snapshots) == (learned[0].id, learned[1].id, 2)


@pytest.mark.parametrize("how", ["random", "zeros", "cut", "gone", "of another repository"])
def test_losing_the_table_loses_nothing(repository: Repository, tmp_path: Path, how: str) -> None:
    tree = make_tree(tmp_path / "tree")
    for seed in range(3):
        take(repository, tree)
        mutate_tree(tree, seed)
    before = told(repository, bring_up_to_date(repository))
    file = repository.versions.folder / "data.mdb"
    repository.close()
    size = file.stat().st_size
    match how:
        case "random":
            file.write_bytes(os.urandom(size))
        case "zeros":
            file.write_bytes(bytes(size))
        case "cut":
            os.truncate(file, size // 2 // 4096 * 4096)
        case "gone":
            file.unlink()
        case _:
            with new_repository(MemoryStore(), tmp_path / "another cache") as other:
                take(other, tree)
                bring_up_to_date(other)
                foreign = other.versions.folder / "data.mdb"
            file.write_bytes(foreign.read_bytes())

    with open_repository(repository.store, tmp_path / "cache") as opened:
        assert told(opened, bring_up_to_date(opened)) == before


def test_a_killed_run_leaves_nothing_that_is_believed(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "PATHS_PER_STEP", 5)
    tree = make_tree(tmp_path / "tree")
    take(repository, tree)
    bring_up_to_date(repository)
    mutate_tree(tree, 1)
    take(repository, tree)
    plain = repository.versions.add

    def killed(number: int, items: list[object]) -> None:
        plain(number, items)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(repository.versions, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        bring_up_to_date(repository)
    monkeypatch.undo()
    mutate_tree(tree, 2)
    take(repository, tree)

    learned = bring_up_to_date(repository)

    assert told(repository, learned) == brute_force(repository, learned)


def test_a_base_that_was_pruned_is_done_without(tmp_path: Path) -> None:
    store = MemoryStore()
    with new_repository(store, tmp_path / "cache") as repository:
        tree = make_tree(tmp_path / "tree")
        first = take(repository, tree).snapshot
        bring_up_to_date(repository)
        assert first is not None
        mutate_tree(tree, 1)
        take(repository, tree)
        store.delete(layout.root_key(first.id))
        store.delete(layout.commit_key(first.id))

        learned = bring_up_to_date(repository)

        assert told(repository, learned) == brute_force(repository, learned)


def test_damaged_manifests_are_told_and_the_rest_is_searched(tmp_path: Path) -> None:
    store = MemoryStore()
    with new_repository(store, tmp_path / "cache") as repository:
        take(repository, make_tree(tmp_path / "one", 1), source="one")
        before = {row.key for row in store.list(layout.PACKS)}
        take(repository, make_tree(tmp_path / "two", 2), source="two")
        for row in list(store.list(layout.PACKS)):
            if row.key not in before and ".m" in row.key:
                store.delete(row.key)
    with open_repository(store, tmp_path / "cache") as repository:
        collector = Collector()

        learned = learn(repository, snapshots_of(repository), collector, CancelToken())

        assert [snapshot.source for snapshot in learned] == ["one"]
        assert [finding.code for finding in collector.findings] == ["versions.unreadable"]
        assert told(repository, learned) == brute_force(repository, learned)


def test_what_removed_snapshots_held_is_dropped_in_time(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "_STALE_LEAST", 2)
    monkeypatch.setattr(versions, "_STALE_FACTOR", 1)
    tree = make_tree(tmp_path / "tree")
    for seed in range(4):
        take(repository, tree)
        mutate_tree(tree, seed)
    bring_up_to_date(repository)
    for snapshot in snapshots_of(repository)[:3]:
        repository.store.delete(layout.root_key(snapshot.id))
        repository.store.delete(layout.commit_key(snapshot.id))

    learned = bring_up_to_date(repository)

    assert len(repository.versions.snapshots()) == 1
    assert told(repository, learned) == brute_force(repository, learned)


def test_a_stolen_table_holds_no_name(repository: Repository, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "very secret name of a file").write_text("x")
    take(repository, tree)
    bring_up_to_date(repository)
    names = [name for block in repository.versions.names() for name in block.split(b"\0") if len(name) > 12]
    folder = repository.versions.folder
    repository.close()

    stored = b"".join(path.read_bytes() for path in folder.iterdir())

    assert b"tree/very secret name of a file" in names
    assert not [name for name in names if name in stored or (name.rsplit(b"/", 1)[-1] in stored and len(name) > 30)]


NAMES = ["a.txt", "b/a.txt", "b/A.TXT", "b/c/d.sql", "b/c.d/x[1].sql", "line\nbreak.txt", "b/caf\xe9.txt", "x/y/z"]


@pytest.mark.parametrize(
    ("pattern", "options", "expected"),
    [
        ("*.txt", {}, {"a.txt", "b/a.txt", "line\nbreak.txt", "b/caf\xe9.txt"}),
        ("*.txt", {"ignore_case": True}, {"a.txt", "b/a.txt", "b/A.TXT", "line\nbreak.txt", "b/caf\xe9.txt"}),
        ("/a.txt", {}, {"a.txt"}),
        ("b/*.txt", {}, {"b/a.txt", "b/caf\xe9.txt"}),
        ("**/*.sql", {}, {"b/c/d.sql", "b/c.d/x[1].sql"}),
        ("b/**", {}, {name for name in NAMES if name.startswith("b/")} | {"b/c", "b/c.d"}),
        ("**/a.txt", {}, {"a.txt", "b/a.txt"}),
        ("CAF\xc9.txt", {"ignore_case": True}, {"b/caf\xe9.txt"}),
        ("caf?.txt", {}, {"b/caf\xe9.txt"}),
        ("x[[]1].sql", {}, {"b/c.d/x[1].sql"}),
        ("[!a].*", {}, {"b/A.TXT", "b/c/d.sql", "b/c.d"}),
        ("[!a]*.txt", {}, {"line\nbreak.txt", "b/caf\xe9.txt"}),
        ("c.d", {}, {"b/c.d"}),
        ("c*d*", {}, {"b/c.d"}),
        ("y", {}, {"x/y"}),
        ("nothing", {}, set()),
        (r"\.sql$", {"regex": True}, {"b/c/d.sql", "b/c.d/x[1].sql"}),
        (r"^b/[^/]*$", {"regex": True}, {"b/a.txt", "b/A.TXT", "b/c", "b/c.d", "b/caf\xe9.txt"}),
        ("^.*$", {"regex": True}, {*NAMES, "b", "b/c", "b/c.d", "x", "x/y"} - {"line\nbreak.txt"}),
    ],
)
def test_patterns_mean_what_the_help_says(
    repository: Repository, tmp_path: Path, pattern: str, options: dict[str, bool], expected: set[str]
) -> None:
    tree = tmp_path / "t"
    for name in NAMES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x")
    for top in sorted(tree.iterdir()):
        take(repository, top, source=top.name)
    learned = bring_up_to_date(repository)
    timeline = Timeline(repository.versions, learned)

    found = find(repository.versions, timeline, Wanted(pattern=pattern, **options), CancelToken())  # type: ignore[arg-type]

    assert {os.fsdecode(one.path) for one in found} == expected


@pytest.mark.parametrize(("pattern", "regex"), [("(", True), ("[z-a]", False), ("a\0b", False)])
def test_a_pattern_that_means_nothing_is_refused(repository: Repository, pattern: str, regex: bool) -> None:
    with pytest.raises(UsageError):
        list(
            find(
                repository.versions,
                Timeline(repository.versions, []),
                Wanted(pattern=pattern, regex=regex),
                CancelToken(),
            )
        )


def test_paths_of_any_length_become_blocks_that_can_be_read_again() -> None:
    """8192 paths of 5 KB each in one block would be more than a frame may hold: found damaged after each rebuild."""
    with closing(temporary_versions(RepositoryId(bytes(16)), bytes(32))) as table:
        paths = [b"%05d/" % number + b"long/" * 1000 for number in range(9000)]
        items = iter([(path, VANISHED) for path in paths])
        number = table.begin()
        while batch := _next_batch(items):
            table.add(number, batch)

        found = [name for block in table.names() for name in block.split(b"\0") if name]

    assert found == paths
