"""Versions between two trees: each is there whole, in any order, and the ends are the trees themselves."""

from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.data import Bench, DataSet, prepare
from benchmarks.measure import assert_same, walk
from benchmarks.releases import Releases, prepare_releases

COUNT = 4


def make_ends(root: Path) -> tuple[str, ...]:
    for version, own in (("v1", "left"), ("v2", "right")):
        tree = root / version
        (tree / "deep" / own).mkdir(parents=True)
        (tree / "deep" / own / "file").write_text(own)
        (tree / "same").write_text("same")
        (tree / "link").symlink_to(own)
        for number in range(20):
            (tree / f"changed-{number}").write_text(f"{version} {number}")
    return ("v1", "v2")


@pytest.fixture
def ends(tmp_path: Path) -> DataSet:
    return prepare(Bench(work=tmp_path, full=False), "ends", "tree", 1, make_ends)


@pytest.fixture
def releases(tmp_path: Path, ends: DataSet) -> Releases:
    return prepare_releases(Bench(work=tmp_path, full=False), "releases", ends, COUNT)


def contents(tree: Path) -> dict[str, str]:
    return {
        path: (tree / path).readlink().name if (tree / path).is_symlink() else (tree / path).read_text()
        for path, _ in walk(tree)
        if not (tree / path).is_dir() or (tree / path).is_symlink()
    }


def test_the_first_and_the_last_version_are_the_two_trees(releases: Releases, ends: DataSet) -> None:
    ends.show(0)
    for number, tree in ((0, ends.shown), (COUNT - 1, ends.root / "v2"), (0, ends.shown)):
        releases.show(number)

        assert contents(releases.shown) == contents(tree)
        assert {path for path, _ in walk(releases.shown)} == {path for path, _ in walk(tree)}


def test_every_version_changes_a_part_and_none_changes_back(releases: Releases, ends: DataSet) -> None:
    ends.show(0)
    newer = contents(ends.root / "v2")
    done = []
    for number in range(COUNT):
        releases.show(number)
        shown = contents(releases.shown)
        done.append({path for path in newer if shown.get(path) == newer[path]})

    assert all(before < after for before, after in pairwise(done))
    assert max(len(after - before) for before, after in pairwise(done)) < len(newer) / 2


def test_a_change_that_was_interrupted_is_made_whole(releases: Releases, ends: DataSet) -> None:
    releases.show(2)
    (releases.root / "state").unlink()
    (releases.shown / "changed-3").unlink()

    releases.show(0)

    ends.show(0)
    assert contents(releases.shown) == contents(ends.shown)
    assert_same(ends.shown / "changed-3", releases.shown / "changed-3", contents=True)
