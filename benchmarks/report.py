"""Turns samples into medians, limits kept or missed, and a page of Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.records import Sample, WorkloadResult
from benchmarks.workloads.base import Figure, Limit, Step, Workload

OURS = "dedup"
SMALL = 1 / 20
"""Factors up to here are told as one part in so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The middle and the ends of a figure over all repetitions."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A limit held against the figures. `met` is None when a figure is missing."""

    work: str
    must: str
    measured: str
    met: bool | None

    @property
    def word(self) -> str:
        return {True: "met", False: "**missed**", None: "not measured"}[self.met]


def value_of(sample: Sample, figure: Figure) -> float:
    """One figure of a sample."""
    if figure is Figure.RATE:
        return sample.input_bytes / sample.wall_seconds
    return float(getattr(sample, figure.value))


def summarize(result: WorkloadResult, step: str | None, tool: str, figure: Figure) -> Summary | None:
    """The figure of a tool in a step; with no step the largest median of all steps. None without samples."""
    if step is None:
        steps = dict.fromkeys(sample.step for sample in result.samples)
        found = (summarize(result, name, tool, figure) for name in steps)
        return max((summary for summary in found if summary), key=lambda summary: summary.median, default=None)
    values = [value_of(s, figure) for s in result.samples if s.step == step and s.tool == tool]
    if not values:
        return None
    return Summary(median=median(values), low=min(values), high=max(values))


def judge(workload: Workload, result: WorkloadResult | None) -> Iterator[Verdict]:
    """Every limit of the workload, in its order."""
    titles = {step.name: step.title for step in workload.steps}
    for limit in workload.limits:
        work = f"{workload.title}: {titles[limit.step] if limit.step else 'every step'}"
        ours = summarize(result, limit.step, OURS, limit.figure) if result else None
        if limit.peer is None:
            yield _against_value(work, limit, ours)
        else:
            figure = limit.peer_figure or limit.figure
            peer = summarize(result, limit.step, limit.peer, figure) if result else None
            yield _against_peer(work, limit, ours, peer)


NOUNS = {
    Figure.WALL: "wall time",
    Figure.ADDED: "added",
    Figure.STORED: "stored",
    Figure.MEMORY: "peak memory",
    Figure.RATE: "read",
    Figure.REQUESTS: "requests",
    Figure.WAIT: "longest wait of a writer",
}


def _against_value(work: str, limit: Limit, ours: Summary | None) -> Verdict:
    assert limit.value is not None, "a limit without a peer has a value"
    must = f"{NOUNS[limit.figure]} {'≥' if limit.at_least else '≤'} {show(limit.value, limit.figure)}"
    if ours is None:
        return Verdict(work=work, must=must, measured="-", met=None)
    met = ours.median >= limit.value if limit.at_least else ours.median <= limit.value
    return Verdict(work=work, must=must, measured=show(ours.median, limit.figure), met=met)


def _against_peer(work: str, limit: Limit, ours: Summary | None, peer: Summary | None) -> Verdict:
    small = limit.factor <= SMALL
    wanted = f"1/{1 / limit.factor:.0f} of" if small else f"{limit.factor:g} x"
    theirs = f"{limit.peer}'s {NOUNS[limit.peer_figure]}" if limit.peer_figure else limit.peer
    must = f"{NOUNS[limit.figure]} ≤ {wanted} {theirs}"
    if ours is None or peer is None:
        return Verdict(work=work, must=must, measured="-", met=None)
    met = ours.median <= limit.factor * peer.median
    # Nothing at all added is better than any part of what the peer added.
    part = f"1/{peer.median / ours.median:.1f}" if small and ours.median > 0 else f"{_ratio(ours, peer):.2f} x"
    figures = f"{show(ours.median, limit.figure)} against {show(peer.median, limit.figure)}"
    return Verdict(work=work, must=must, measured=f"{part} ({figures})", met=met)


def _ratio(ours: Summary, peer: Summary) -> float:
    return ours.median / peer.median if peer.median else float("inf")


def show(value: float, figure: Figure) -> str:
    """A figure with its unit, three digits or so."""
    if figure is Figure.REQUESTS:
        return f"{value:.0f}"
    if figure in (Figure.WALL, Figure.WAIT):
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
    if figure is Figure.RATE:
        return f"{value / 1e9:.2f} GB/s"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.0f} {unit}" if value >= 100 * size else f"{value / size:.2f} {unit}"
    return f"{value:.0f} B"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Markdown lines of a table; the first row is its head."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in body:
        yield f"| {' | '.join(row)} |"


def markdown(
    workloads: Sequence[Workload], results: Mapping[str, WorkloadResult], titles: Mapping[str, str], *, full: bool
) -> str:
    """The whole page."""
    lines = ["# Benchmark results", ""]
    if not full:
        lines += ["Small data, made to test the harness: the figures say nothing about the tools.", ""]
    else:
        lines += ["![The figures as a chart](full.svg)", ""]
    verdicts = [verdict for workload in workloads for verdict in judge(workload, results.get(workload.name))]
    rows = [("work", "must", "measured", "verdict")]
    rows += [(verdict.work, verdict.must, verdict.measured, verdict.word) for verdict in verdicts]
    lines += [_tally(verdicts), "", *table(rows), ""]
    for workload in workloads:
        if workload.name in results:
            lines += _section(workload, results[workload.name], titles)
    return "\n".join(lines).rstrip() + "\n"


def _tally(verdicts: Sequence[Verdict]) -> str:
    met, missed, unknown = (sum(verdict.met is state for verdict in verdicts) for state in (True, False, None))
    return f"Of {len(verdicts)} limits {met} are met, {missed} missed, {unknown} not measured."


def _section(workload: Workload, result: WorkloadResult, titles: Mapping[str, str]) -> Iterator[str]:
    yield from (f"## {workload.title}", "")
    count = "one file" if result.input_files == 1 else f"{result.input_files:,} files"
    data = f"{count}, {show(result.input_bytes, Figure.STORED)}"
    yield f"{data}; median of {result.repetitions} (lowest-highest); {result.date}, commit {result.commit}."
    yield ""
    yield "; ".join(f"{key}: {value}" for key, value in result.machine.items()) + "."
    yield ""
    yield "; ".join(f"{titles.get(name, name)}: {version}" for name, version in result.versions.items()) + "."
    yield ""
    # What only some workloads have is a column only there.
    more = [figure for figure in (Figure.REQUESTS, Figure.WAIT) if any(value_of(s, figure) for s in result.samples)]
    head = ("step", "tool", "wall", "processor time", "peak memory", "added", "stored")
    rows = [(*head, *(NOUNS[figure] for figure in more))]
    for step in workload.steps:
        if step.shown:
            rows += _step_rows(step, result, titles, more)
    yield from (*table(rows), "")
    for failure in result.failures:
        yield f"* {failure.tool} failed in {failure.step}, repetition {failure.repetition + 1}: {failure.message}"
    if result.failures:
        yield ""


def _with_range(wall: Summary) -> str:
    middle = show(wall.median, Figure.WALL)
    if wall.low == wall.high:
        return middle
    return f"{middle} ({show(wall.low, Figure.WALL)}-{show(wall.high, Figure.WALL)})"


def _step_rows(
    step: Step, result: WorkloadResult, titles: Mapping[str, str], more: Sequence[Figure]
) -> Iterator[tuple[str, ...]]:
    for tool in step.tools:
        wall = summarize(result, step.name, tool, Figure.WALL)
        if wall is None:
            continue
        mine = [sample for sample in result.samples if sample.step == step.name and sample.tool == tool]
        busy = median(sample.user_seconds + sample.system_seconds for sample in mine)
        sizes = ("-", "-")
        if mine[0].added_bytes:
            sizes = (
                show(median(sample.added_bytes for sample in mine), Figure.ADDED),
                show(median(sample.stored_bytes for sample in mine), Figure.STORED),
            )
        yield (
            step.title,
            titles.get(tool, tool),
            _with_range(wall),
            show(busy, Figure.WALL),
            show(median(sample.peak_rss_bytes for sample in mine), Figure.MEMORY),
            *sizes,
            *(show(median(value_of(sample, figure) for sample in mine), figure) for figure in more),
        )
