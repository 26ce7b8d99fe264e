"""Data sets are the same every time, and versions appear under one path."""

from pathlib import Path

import pytest

from benchmarks.data import Bench, DataSet, prepare
from benchmarks.generate import make_mixed_file, make_tree
from benchmarks.measure import walk
from benchmarks.rows import Counts, make_dump, make_sqlite

COUNTS = Counts(users=300, posts=400, comments=500)


def two_versions(root: Path) -> tuple[str, ...]:
    for name in ("v1", "v2"):
        (root / name).write_text(name)
    return ("v1", "v2")


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return prepare(Bench(work=tmp_path, full=False), "set", "item", 1, two_versions)


def test_each_version_is_shown_under_the_same_path(data: DataSet) -> None:
    contents = []
    for number in (0, 1, 1, 0):
        data.show(number)
        contents.append(data.shown.read_text())

    assert contents == ["v1", "v2", "v2", "v1"]


def test_data_are_made_once_and_again_when_the_parameters_change(data: DataSet, tmp_path: Path) -> None:
    def fail(root: Path) -> tuple[str, ...]:
        raise AssertionError("made again")

    bench = Bench(work=tmp_path, full=False)

    assert prepare(bench, "set", "item", 1, fail) == data
    with pytest.raises(AssertionError, match="made again"):
        prepare(bench, "set", "item", 2, fail)


def test_half_made_data_are_made_anew(data: DataSet, tmp_path: Path) -> None:
    (data.root / "recipe.json").unlink()
    data.show(1)

    again = prepare(Bench(work=tmp_path, full=False), "set", "item", 1, two_versions)
    again.show(0)

    assert again.shown.read_text() == "v1"


def test_a_dump_changes_about_one_row_in_a_hundred_and_keeps_its_order(tmp_path: Path) -> None:
    make_dump(tmp_path, counts=COUNTS)

    before, after = ((tmp_path / name).read_text().splitlines() for name in ("v1", "v2"))
    changed = [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert 8 <= len(changed) <= 12
    assert [line.split(",")[0] for line in before] == [line.split(",")[0] for line in after]


def test_generators_give_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "tree").mkdir(parents=True)
        (tmp_path / name / "mixed").mkdir()
        (tmp_path / name / "sqlite").mkdir()
        make_tree(tmp_path / name / "tree", files=5)
        make_mixed_file(tmp_path / name / "mixed", size=3_000_001)
        make_sqlite(tmp_path / name / "sqlite", counts=COUNTS)

    names = [relative for relative, _ in walk(tmp_path / "a") if (tmp_path / "a" / relative).is_file()]
    assert len(names) == 2 * 5 + 1 + 2
    for relative in names:
        assert (tmp_path / "a" / relative).read_bytes() == (tmp_path / "b" / relative).read_bytes()
    assert (tmp_path / "a" / "mixed" / "v1").stat().st_size == 3_000_001
