"""Medians, limits and the written forms of benchmark results."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.chart import chart
from benchmarks.records import Failure, Sample, WorkloadResult, load, save
from benchmarks.report import judge, markdown, show, summarize
from benchmarks.tools import Action
from benchmarks.workloads.base import Figure, Limit, Panel, Step, Workload


def no_data(_: object) -> None:
    raise AssertionError("a report needs no data")


def workload(*limits: Limit) -> Workload:
    return Workload(
        name="tree",
        title="A tree",
        prepare=no_data,  # type: ignore[arg-type]  # nothing is prepared here
        steps=(
            Step(name="first", title="first snapshot", action=Action.SNAPSHOT),
            Step(name="again", title="unchanged", action=Action.SNAPSHOT),
        ),
        limits=limits,
        panels=(Panel(step="first", figure=Figure.WALL, title="First <snapshot>"),),
    )


def sample(tool: str, wall: float, *, step: str = "first", repetition: int = 0, added: int = 0) -> Sample:
    return Sample(
        step=step,
        tool=tool,
        repetition=repetition,
        wall_seconds=wall,
        user_seconds=wall / 2,
        system_seconds=0.1,
        peak_rss_bytes=int(wall * 100_000_000),
        added_bytes=added,
        stored_bytes=added * 2,
        input_bytes=4_000_000_000,
    )


def result(*samples: Sample, failures: tuple[Failure, ...] = ()) -> WorkloadResult:
    return WorkloadResult(
        name="tree",
        date="2026-11-22",
        commit="abc",
        machine={"cores": "2"},
        versions={"dedup": "1", "tar": "2"},
        repetitions=3,
        input_files=2,
        input_bytes=10,
        samples=samples,
        failures=failures,
    )


def test_a_summary_has_the_median_and_the_ends() -> None:
    three = result(*(sample("dedup", wall, repetition=number) for number, wall in enumerate((3.0, 1.0, 9.0))))

    summary = summarize(three, "first", "dedup", Figure.WALL)

    assert summary is not None
    assert (summary.median, summary.low, summary.high) == (3.0, 1.0, 9.0)


def test_a_limit_against_a_peer_is_met_up_to_the_factor_and_missed_beyond() -> None:
    limit = Limit(step="first", figure=Figure.WALL, peer="restic", factor=0.5)

    kept = list(judge(workload(limit), result(sample("dedup", 2.0), sample("restic", 4.0))))
    missed = list(judge(workload(limit), result(sample("dedup", 2.1), sample("restic", 4.0))))

    assert [verdict.word for verdict in kept + missed] == ["met", "**missed**"]
    assert missed[0].must == "wall time ≤ 0.5 x restic"
    assert missed[0].measured == "0.53 x (2.10 s against 4.00 s)"


def test_a_small_factor_is_told_as_a_fraction() -> None:
    limit = Limit(step="first", figure=Figure.ADDED, peer="restic", factor=1 / 40)

    [verdict] = judge(workload(limit), result(sample("dedup", 1, added=1000), sample("restic", 1, added=50_000)))

    assert verdict.must == "added ≤ 1/40 of restic"
    assert verdict.measured == "1/50.0 (1.00 kB against 50.00 kB)"
    assert verdict.met is True


def test_adding_nothing_meets_every_limit_on_added_bytes() -> None:
    limit = Limit(step="first", figure=Figure.ADDED, peer="restic", factor=1 / 40)

    [verdict] = judge(workload(limit), result(sample("dedup", 1), sample("restic", 1, added=50_000)))

    assert verdict.met is True


def test_a_rate_must_be_at_least_its_value() -> None:
    limit = Limit(step="first", figure=Figure.RATE, value=2e9, at_least=True)

    slow, fast = (next(judge(workload(limit), result(sample("dedup", wall)))) for wall in (2.5, 1.0))

    assert (slow.met, fast.met) == (False, True)
    assert fast.measured == "4.00 GB/s"


def test_a_limit_without_a_step_holds_for_the_worst_step() -> None:
    limit = Limit(step=None, figure=Figure.MEMORY, value=300e6)

    [verdict] = judge(workload(limit), result(sample("dedup", 1.0), sample("dedup", 4.0, step="again")))

    assert verdict.met is False
    assert verdict.measured == "400 MB"


@pytest.mark.parametrize("found", [None, result(), result(sample("dedup", 1.0)), result(sample("restic", 1.0))])
def test_a_limit_with_a_missing_figure_is_neither_met_nor_missed(found: WorkloadResult | None) -> None:
    limit = Limit(step="first", figure=Figure.WALL, peer="restic", factor=0.5)

    assert [verdict.met for verdict in judge(workload(limit), found)] == [None]


@pytest.mark.parametrize(
    ("value", "figure", "text"),
    [
        (0.0421, Figure.WALL, "42 ms"),
        (12.345, Figure.WALL, "12.35 s"),
        (999, Figure.ADDED, "999 B"),
        (1_350_000, Figure.ADDED, "1.35 MB"),
        (271_000_000, Figure.STORED, "271 MB"),
        (2_345_000_000, Figure.RATE, "2.35 GB/s"),
    ],
)
def test_figures_are_shown_with_a_unit(value: float, figure: Figure, text: str) -> None:
    assert show(value, figure) == text


def test_the_page_tells_verdicts_figures_and_failures() -> None:
    limit = Limit(step="first", figure=Figure.WALL, peer="tar", factor=1.0)
    failure = Failure(step="again", tool="restic", repetition=1, message="exit codes [1]")
    measured = result(sample("dedup", 2.0, added=7), sample("tar", 1.0, added=9), failures=(failure,))

    page = markdown([workload(limit)], {"tree": measured}, {"tar": "tar | zstd"}, full=True)

    assert "Of 1 limits 0 are met, 1 missed, 0 not measured." in page
    assert "| A tree: first snapshot | wall time ≤ 1 x tar | 2.00 x (2.00 s against 1.00 s) | **missed** |" in page
    assert "* restic failed in again, repetition 2: exit codes [1]" in page


def test_results_survive_writing_and_reading(tmp_path: Path) -> None:
    failure = Failure(step="first", tool="tar", repetition=0, message="m")
    written = {"tree": result(sample("dedup", 2.0), sample("tar", 1.0), failures=(failure,))}

    save(tmp_path / "deep" / "full.json", written)

    assert load(tmp_path / "deep" / "full.json") == written
    assert load(tmp_path / "none.json") == {}


def test_the_chart_is_well_formed_and_draws_the_longest_bar_for_the_slowest() -> None:
    drawing = chart([workload()], {"tree": result(sample("dedup", 1.0), sample("restic", 4.0))}, {})

    root = ElementTree.fromstring(drawing)
    bars = [float(bar.attrib["width"]) for bar in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert bars[1] == pytest.approx(4 * bars[0], rel=0.01)
    assert "First &lt;snapshot&gt;" in drawing
