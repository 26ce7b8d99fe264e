"""`dedup restore --at` of a whole configuration: what belongs together, how far it is, and when that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.service import configured
from dedupstore.service.records import SOURCES
from tests.support.configuration import write
from tests.support.dedup import Dedup, read_tree, write_tree


@pytest.fixture
def machine(dedup: Dedup, tmp_path: Path) -> Dedup:
    """Two directories of one last name and a command, all configured."""
    write_tree(tmp_path / "a" / "srv", {"index.html": "a1", "deep/er": "x"})
    write_tree(tmp_path / "b" / "srv", {"conf": "b1"})
    configure(tmp_path, ("site", "conf", "numbers"))
    return dedup


def configure(tmp_path: Path, names: tuple[str, ...]) -> None:
    tables = {
        "site": f'[sources.site]\ntype = "files"\npaths = ["{tmp_path}/a/srv"]\n',
        "conf": f'[sources.conf]\ntype = "files"\npaths = ["{tmp_path}/b/srv"]\n',
        "numbers": f'[sources.numbers]\ntype = "command"\ncommand = ["cat", "{tmp_path}/numbers"]\nfilename = "n.txt"\n',
    }
    write(tmp_path / "etc" / "config.toml", 'host = "here"\n' + "".join(tables[name] for name in names))
    write(tmp_path / "numbers", "42\n")


def take(dedup: Dedup, day: int, *names: str, hour: int = 3) -> None:
    dedup("snapshot", *names, "--time", f"2025-11-{day} {hour:02d}:00")


def test_a_time_brings_every_source_back_as_of_then(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 20)
    (tmp_path / "a" / "srv" / "index.html").write_text("a2")
    take(machine, 21)

    run = machine.ok("restore", "--at", "2025-11-20 12:00", "--to", tmp_path / "out")

    assert read_tree(tmp_path / "out") == {
        "conf/srv/conf": b"b1", "numbers/n.txt": b"42\n", "site/srv/deep/er": b"x", "site/srv/index.html": b"a1",
    }  # fmt: skip
    assert run.out.count("9 h 00 min before") == 3
    assert "3 of 3 sources restored below" in run.out
    machine.ok("check", "--read-data")


def test_programs_are_told_the_set_and_each_result(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 20)
    take(machine, 20, "site", hour=9)

    run = machine.ok("restore", "--at", "2025-11-20 12:00", "--to", tmp_path / "out", "--json")

    (found,) = [event for event in run.events if event["event"] == "set"]
    assert [(row["source"], row["distance_s"], row["behind_s"]) for row in found["members"]] == [
        ("site", 3 * 3600, 0), ("conf", 9 * 3600, 6 * 3600), ("numbers", 9 * 3600, 6 * 3600),
    ]  # fmt: skip
    assert found["host"] == "here" and found["lacking"] == []
    assert [(row["source"], row["exit_code"], row["verified"]) for row in run.summary["results"]] == [
        ("site", 0, True), ("conf", 0, True), ("numbers", 0, True),
    ]  # fmt: skip


def test_without_a_target_a_new_directory_is_named_after_the_time(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 20)

    machine.ok("restore", "--at", "2025-11-20 12:00")
    machine.ok("restore", "--at", "2025-11-20 12:00")

    assert {path.name for path in tmp_path.glob("restored-*")} == {
        "restored-20251120-030000",
        "restored-20251120-030000-2",
    }


def test_sources_that_are_too_far_apart_are_refused_unless_that_is_wanted(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 20)
    (tmp_path / "numbers").unlink()
    take(machine, 22)

    run = machine("restore", "--at", "2025-11-22 12:00", "--to", tmp_path / "out")

    assert (run.exit_code, run.code) == (8, "restore.set_apart")
    assert '"numbers" is 48 h 00 min older than the newest' in run.err
    assert "take them all the same: --tolerance 2d" in run.err
    assert not (tmp_path / "out").exists()
    assert machine("restore", "--at", "2025-11-22 12:00", "--to", tmp_path / "out", "--tolerance", "1d").exit_code == 8
    machine.ok("restore", "--at", "2025-11-22 12:00", "--to", tmp_path / "out", "--tolerance", "2d")
    assert (tmp_path / "out" / "numbers" / "n.txt").read_text() == "42\n"


def test_a_source_without_any_snapshot_is_told_and_refused(machine: Dedup, tmp_path: Path) -> None:
    (tmp_path / "numbers").unlink()
    take(machine, 20)

    run = machine("restore", "--at", "now", "--to", tmp_path / "out")

    assert run.code == "restore.set_apart" and '"numbers" has no snapshot at or before that time' in run.err
    assert "take what there is: --tolerance any\n" in run.err
    machine.ok("restore", "--at", "now", "--to", tmp_path / "out", "--tolerance", "any")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"site", "conf"}


def test_what_was_never_piped_in_is_told_and_not_missed(machine: Dedup, tmp_path: Path) -> None:
    with (tmp_path / "etc" / "config.toml").open("a") as config:
        config.write('[sources.piped]\ntype = "stdin"\nfilename = "x"\n')
    for name in ("site", "conf"):
        take(machine, 20, name)

    lost = machine("restore", "--at", "now", "--to", tmp_path / "out")
    assert lost.code == "restore.set_apart"
    assert '"numbers" has no snapshot' in lost.err and '"piped"' not in lost.err
    take(machine, 20, "numbers")
    run = machine.ok("restore", "--at", "now", "--to", tmp_path / "out")

    assert "nothing was ever piped into it" in run.out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"site", "conf", "numbers"}


def test_one_source_by_itself_is_never_too_far_away(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 10)

    machine.ok("restore", "--at", "2025-11-27", "--source", "site", "--to", tmp_path / "out")

    assert (tmp_path / "out" / "srv" / "index.html").read_text() == "a1"


def test_a_run_over_some_sources_does_not_shrink_the_set(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 20)
    (tmp_path / "b" / "srv" / "conf").write_text("b2")
    take(machine, 20, "conf", hour=9)
    machine.snapshot(tmp_path / "a", "--host", "here", "--source", "by hand", "--time", "2025-11-20 10:00")

    machine.ok("restore", "--at", "2025-11-20 12:00", "--to", tmp_path / "out")

    assert {path.name for path in (tmp_path / "out").iterdir()} == {"site", "conf", "numbers"}
    assert (tmp_path / "out" / "conf" / "srv" / "conf").read_text() == "b2"


def test_a_source_that_was_added_later_is_not_missed_before(machine: Dedup, tmp_path: Path) -> None:
    configure(tmp_path, ("site", "conf"))
    take(machine, 10)
    configure(tmp_path, ("site", "conf", "numbers"))
    take(machine, 20)

    machine.ok("restore", "--at", "2025-11-15", "--to", tmp_path / "out")

    assert {path.name for path in (tmp_path / "out").iterdir()} == {"site", "conf"}


def test_paths_choose_the_sources_that_have_them(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 20)

    machine.ok("restore", "--at", "2025-11-21", "srv/deep", "--to", tmp_path / "one")
    machine.ok("restore", "--at", "2025-11-21", "srv", "--to", tmp_path / "two")
    nothing = machine("restore", "--at", "2025-11-21", "srv/none", "--to", tmp_path / "three")

    assert read_tree(tmp_path / "one") == {"srv/deep/er": b"x"}
    assert {path.name for path in (tmp_path / "two").iterdir()} == {"site", "conf"}
    assert (nothing.exit_code, nothing.code) == (5, "snapshot.path_not_found")


def test_of_several_machines_none_is_guessed(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 20)
    machine.ok("snapshot", "--host", "there", "--time", "2025-11-20 04:00")

    run = machine("restore", "--at", "2025-11-21", "--to", tmp_path / "out")

    assert run.exit_code == 2 and "say which: --host here" in run.err
    machine.ok("restore", "--at", "2025-11-21", "--host", "there", "--to", tmp_path / "out")


def test_before_the_first_run_the_oldest_snapshot_is_named(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 20)

    assert machine("restore", "--at", "2025-11-19", "--to", tmp_path / "out").code == "snapshot.none_before"


def test_one_that_fails_does_not_stop_the_others(machine: Dedup, tmp_path: Path) -> None:
    take(machine, 20)
    write_tree(tmp_path / "out", {"site/srv/index.html": "in the way"})

    run = machine("restore", "--at", "2025-11-21", "--to", tmp_path / "out", "--no-input", "--json")

    assert run.exit_code == 8
    assert [(row["source"], row["exit_code"]) for row in run.summary["results"]] == [
        ("site", 8), ("conf", 0), ("numbers", 0),
    ]  # fmt: skip
    assert (tmp_path / "out" / "site" / "srv" / "index.html").read_text() == "in the way"


def test_in_place_each_goes_to_where_it_came_from(machine: Dedup, tmp_path: Path) -> None:
    configure(tmp_path, ("site", "conf"))
    take(machine, 20)
    (tmp_path / "a" / "srv" / "index.html").write_text("spoilt")
    (tmp_path / "b" / "srv" / "conf").unlink()

    machine.ok("restore", "--at", "2025-11-21", "--in-place", "--yes")

    assert (tmp_path / "a" / "srv" / "index.html").read_text() == "a1"
    assert (tmp_path / "b" / "srv" / "conf").read_text() == "b1"
    machine.ok("check", "--read-data")


def test_a_name_that_leads_elsewhere_is_no_directory(
    machine: Dedup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(configured, "details_of", lambda loaded: ((SOURCES, "site\n../evil\nsite\nconf"),))
    take(machine, 20, "site", "conf")
    machine.ok(
        "snapshot", tmp_path / "b" / "srv", "--source", "../evil", "--host", "here", "--time", "2025-11-20 02:00"
    )

    machine.ok("restore", "--at", "2025-11-20 12:00", "--to", tmp_path / "out")

    assert sorted(read_tree(tmp_path / "out")) == ["conf/srv/conf", "site/srv/deep/er", "site/srv/index.html"]
    assert not (tmp_path / "evil").exists()
    machine.ok("check", "--read-data")
