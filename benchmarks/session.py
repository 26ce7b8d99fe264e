"""Runs a workload: every tool takes every step, in turn, so that a noisy minute hits all of them."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from benchmarks.data import Bench, DataSet
from benchmarks.measure import CommandFailed, assert_same, read_all, run_pipeline, settle, size_of
from benchmarks.records import Failure, Sample
from benchmarks.tools import Action, Job, Place, Tool, base_environment
from benchmarks.workloads.base import Step, Workload

TIMEOUT_SECONDS = 1800.0
SMALL_SAMPLES = 1
Report = Callable[[str], None]


@dataclass(slots=True)
class Contestant:
    """One tool with its repository in the current repetition."""

    tool: Tool
    place: Place
    snapshots: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return base_environment(self.place) | dict(self.tool.environment(self.place))


@dataclass(slots=True)
class Session:
    """One workload with the tools that are there."""

    bench: Bench
    workload: Workload
    tools: Mapping[str, Tool]
    settle_seconds: float
    report: Report
    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def run(self, data: DataSet, repetitions: int) -> None:
        """Fill samples and failures. A tool that fails is left out for the rest of the repetition."""
        for repetition in range(repetitions):
            contestants = self._start(repetition)
            for step in self.workload.steps:
                step.arrange(data)
                for name in _rotated(step.tools, repetition):
                    if name in contestants:
                        self._take(step, contestants, name, data, repetition)
            for contestant in contestants.values():
                shutil.rmtree(contestant.place.root)

    def _start(self, repetition: int) -> dict[str, Contestant]:
        """Empty repositories for all tools that the workload has a step for."""
        wanted = {name for step in self.workload.steps for name in step.tools}
        contestants = {}
        for name, tool in self.tools.items():
            if name not in wanted:
                continue
            contestant = Contestant(tool, Place(root=self.bench.work / "run" / self.workload.name / name))
            contestant.place.clear()
            pipeline = tool.initialize(contestant.place)
            try:
                if pipeline:
                    run_pipeline(
                        pipeline,
                        environment=contestant.environment,
                        log=contestant.place.log,
                        timeout_seconds=TIMEOUT_SECONDS,
                    )
                contestants[name] = contestant
            except CommandFailed as error:
                self._fail("init", name, repetition, error)
        return contestants

    def _take(self, step: Step, contestants: dict[str, Contestant], name: str, data: DataSet, repetition: int) -> None:
        settle(self.settle_seconds)
        count = step.samples if self.bench.full else min(step.samples, SMALL_SAMPLES)
        try:
            for _ in range(count):
                # Before each command, not each step: systems take from the cache what has lain there for a minute.
                read_all(data.shown)
                sample = self._measure(step, contestants[name], data, repetition)
                self.samples.append(sample)
        except CommandFailed as error:
            del contestants[name]
            self._fail(step.name, name, repetition, error)
        else:
            self.report(
                f"{self.workload.name} {repetition + 1} {step.name:<13}{name:<10}{sample.wall_seconds:8.3f} s"
                f"{sample.peak_rss_bytes / 1e6:8.1f} MB memory{sample.added_bytes / 1e6:10.2f} MB added"
            )

    def _measure(self, step: Step, contestant: Contestant, data: DataSet, repetition: int) -> Sample:
        place = contestant.place
        job = Job(place=place, stage=data.stage, item=data.item, snapshots=contestant.snapshots)
        if step.action is Action.RESTORE:
            place.target.mkdir()
        before = size_of(place.repository)[1]
        usage = run_pipeline(
            contestant.tool.pipeline(step.action, job),
            environment=contestant.environment,
            log=place.log,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        after = size_of(place.repository)[1]
        if step.action is Action.RESTORE:
            # A fast restore of something else is worth nothing; contents are compared once, names always.
            assert_same(data.shown, place.target / data.item, contents=repetition == 0)
            shutil.rmtree(place.target)
        if step.action is Action.SNAPSHOT:
            contestant.snapshots += 1
        return Sample(
            step=step.name,
            tool=contestant.tool.name,
            repetition=repetition,
            wall_seconds=usage.wall_seconds,
            user_seconds=usage.user_seconds,
            system_seconds=usage.system_seconds,
            peak_rss_bytes=usage.peak_rss_bytes,
            added_bytes=after - before,
            stored_bytes=after,
            input_bytes=size_of(data.shown)[1],
        )

    def _fail(self, step: str, tool: str, repetition: int, error: CommandFailed) -> None:
        self.failures.append(Failure(step=step, tool=tool, repetition=repetition, message=str(error)))
        self.report(f"{self.workload.name} {repetition + 1} {step:<13}{tool:<10}FAILED {error}")


def _rotated(names: tuple[str, ...], by: int) -> Iterator[str]:
    """All names, each repetition beginning with another, so that nobody always runs first."""
    start = by % len(names)
    yield from names[start:] + names[:start]
