"""A whole run with a stand-in for dedup: cp behind dedup's command line."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.records import load
from benchmarks.run import main
from benchmarks.tools import Action, Database, Dedup, Job, Place, Restic, TarZstd, all_tools
from benchmarks.workloads import WORKLOADS

STAND_IN = """
import os, subprocess, sys
command, *rest = sys.argv[1:]
repository = rest[rest.index("-r") + 1] if "-r" in rest else ""
if command == "version":
    print("stand-in 1")
elif command == "init":
    os.mkdir(repository)
elif command == "snapshot":
    subprocess.run(["rm", "-rf", f"{repository}/{rest[0]}"], check=True)
    subprocess.run(["cp", "-a", rest[0], repository], check=True)
elif command == "restore" and "LOSE" not in os.environ["PATH"]:
    subprocess.run(["cp", "-a", f"{repository}/.", rest[rest.index("--to") + 1]], check=True)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setenv("DEDUP", f"{sys.executable} -S {script}")
    return tmp_path


def bench(work: Path, *more: str) -> int:
    return main(["--scale", "small", "--repeat", "1", "--tools", "dedup,cp", "--work", str(work), *more])


def test_a_run_leaves_figures_a_page_and_a_chart(stand_in: Path) -> None:
    code = bench(stand_in / "work", "--only", "tree", "--output", str(stand_in / "out"))

    result = load(stand_in / "out" / "small.json")["tree"]
    taken = [(sample.step, sample.tool) for sample in result.samples]
    assert code == 0
    assert result.failures == ()
    assert taken == [
        ("first", "dedup"),
        ("again", "dedup"),
        ("restore", "dedup"),
        ("restore", "cp"),
        ("next", "dedup"),
        ("restore-next", "dedup"),
        ("check", "dedup"),
    ]
    assert result.samples[0].added_bytes == result.input_bytes
    assert "| restore | cp -a |" in (stand_in / "out" / "small.md").read_text()
    assert (stand_in / "out" / "small.svg").read_text().startswith("<svg")
    assert not list((stand_in / "work" / "run" / "tree").iterdir())


def test_a_restore_that_loses_files_fails_the_run(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin:/LOSE")

    code = bench(stand_in / "work", "--only", "sql")

    [failure] = load(stand_in / "work" / "results" / "small.json")["sql"].failures
    assert code == 1
    assert (failure.step, failure.tool) == ("restore", "dedup")


def test_a_limit_that_was_not_measured_fails_only_an_enforcing_run(stand_in: Path) -> None:
    assert bench(stand_in / "work", "--only", "startup") == 0
    assert bench(stand_in / "work", "--only", "tree", "--report", "--enforce") == 1


def test_an_unknown_workload_is_named_with_those_that_exist() -> None:
    with pytest.raises(SystemExit, match="no workload 'tee'; there are tree, sql"):
        main(["--scale", "small", "--only", "tee"])


def test_every_limit_and_panel_names_a_step_and_a_tool_that_takes_it() -> None:
    tools = all_tools(Path("/nowhere"))
    for workload in WORKLOADS.values():
        steps = {step.name: step for step in workload.steps}
        for limit in workload.limits:
            assert limit.step is None or {"dedup", limit.peer or "dedup"} <= set(steps[limit.step].tools)
            assert (limit.peer is None) is (limit.value is not None)
        assert all(panel.step in steps for panel in workload.panels)
        assert all(set(step.tools) <= tools.keys() for step in workload.steps)


def test_a_tool_has_a_command_for_every_step_it_takes(tmp_path: Path) -> None:
    files = Job(place=Place(root=tmp_path), stage=tmp_path, item="tree", snapshots=1)
    database = replace(files, database=Database(file="shop.sql", bare=("true",), restored="new"))
    tools = all_tools(tmp_path)
    for workload in WORKLOADS.values():
        for step in workload.steps:
            for name in step.tools:
                job = database if "bare" in workload.steps[0].tools else files
                assert tools[name].pipeline(step.action, job).commands


def test_commands_keep_to_the_place_and_hide_the_passphrase(tmp_path: Path) -> None:
    place = Place(root=tmp_path / "place")
    job = Job(place=place, stage=tmp_path, item="tree", snapshots=3)
    for tool in (Dedup(("dedup",)), Restic(), TarZstd()):
        command = str(tool.pipeline(Action.SNAPSHOT, job))
        assert "benchmark, not a secret" not in command
        values = tool.environment(place).values()
        assert all(value.startswith((str(place.root), "benchmark")) for value in values)
