"""The shop's rows are the same every time, change as they should, and reach every kind of database."""

import sqlite3
import sys
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.live import make_shop
from benchmarks.records import load
from benchmarks.run import main
from benchmarks.shop import TABLES, ShopCounts, write_rows

COUNTS = ShopCounts(orders=800)


def test_a_hundredth_of_the_rows_changes_half_of_them_among_the_newest(tmp_path: Path) -> None:
    write_rows(tmp_path / "a", COUNTS)
    write_rows(tmp_path / "b", COUNTS)

    for table in TABLES:
        rows, changed = ((tmp_path / "a" / f"{table}{kind}.tsv").read_text() for kind in ("", ".changed"))
        keys = [int(line.split("\t")[0]) for line in changed.splitlines()]
        total = COUNTS.rows(table)
        assert [int(line.split("\t")[0]) for line in rows.splitlines()] == list(range(1, total + 1))
        assert total * 0.008 <= len(keys) <= total * 0.012
        assert sum(key > total * 0.98 - 1 for key in keys) >= len(keys) // 2
        assert not set(changed.splitlines()) & set(rows.splitlines())
        assert (tmp_path / "b" / f"{table}.tsv").read_text() == rows


def test_the_rows_are_no_easy_prey(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", COUNTS)

    text = b"".join((tmp_path / "rows" / f"{table}.tsv").read_bytes() for table in TABLES)
    assert 0.3 < len(zlib.compress(text, 6)) / len(text) < 0.6


def test_the_sqlite_file_is_changed_in_place(tmp_path: Path) -> None:
    make_shop(tmp_path, counts=COUNTS)

    with closing(sqlite3.connect(tmp_path / "v1")) as database:
        database.execute("ATTACH ? AS later", (str(tmp_path / "v2"),))
        for table in TABLES:
            query = f"SELECT count(*) FROM (SELECT * FROM later.{table} EXCEPT SELECT * FROM main.{table})"
            changed = database.execute(query).fetchone()[0]
            assert COUNTS.rows(table) * 0.008 <= changed <= COUNTS.rows(table) * 0.012
    assert (tmp_path / "v1").stat().st_size <= (tmp_path / "v2").stat().st_size


def test_who_writes_to_a_database_in_use_tells_how_long_it_waited(tmp_path: Path) -> None:
    arguments = ["--scale", "small", "--repeat", "1", "--only", "sqlite-live", "--tools", "bare"]

    assert main([*arguments, "--work", str(tmp_path)]) == 0

    samples = load(tmp_path / "results" / "small.json")["sqlite-live"].samples
    assert [sample.step for sample in samples] == ["first", "changed", "locked"]
    assert all(0 < sample.longest_wait_seconds < 60 for sample in samples)


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["postgres", "mariadb", "sqlite-live", "s3"])
def test_a_small_run_with_real_servers(workload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEDUP", f"{sys.executable} -m dedupstore.cli.main")
    monkeypatch.setenv("DEDUP_BENCH_DIR", "/nowhere")
    # The servers run as users of their own, who have to reach the rows.
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)

    code = main(
        ["--scale", "small", "--repeat", "1", "--only", workload, "--tools", "dedup,bare", "--work", str(tmp_path)]
    )

    result = load(tmp_path / "results" / "small.json")[workload]
    taken = {sample.step: sample for sample in result.samples if sample.tool == "dedup"}
    assert code == 0, result.failures
    if workload == "s3":
        assert 0 < taken["again"].requests < taken["first"].requests
        assert taken["restore"].added_bytes == 0
    else:
        assert 0 < taken["changed"].added_bytes < taken["first"].added_bytes / 4
