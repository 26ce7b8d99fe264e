"""Runs a workload: every tool takes every step, in turn, so that a noisy minute hits all of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.data import Bench
from benchmarks.measure import CommandFailed, run_pipeline, settle
from benchmarks.records import Failure, Sample
from benchmarks.subject import Subject
from benchmarks.tools import Action, Place, Tool, base_environment
from benchmarks.workloads.base import Step, Workload

TIMEOUT_SECONDS = 1800.0
SMALL_SAMPLES = 1
Report = Callable[[str], None]


@dataclass(slots=True)
class Contestant:
    """One tool with its repository in the current repetition."""

    tool: Tool
    place: Place
    surroundings: Mapping[str, str]
    snapshots: int = 0

    @property
    def environment(self) -> dict[str, str]:
        return base_environment(self.place) | dict(self.surroundings) | dict(self.tool.environment(self.place))


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

    def run(self, subject: Subject, repetitions: int) -> None:
        """Fill samples and failures. A tool that fails is left out for the rest of the repetition."""
        for repetition in range(repetitions):
            contestants = self._start(subject, repetition)
            for step in self.workload.steps:
                step.arrange(subject)
                for name in _rotated(step.tools, repetition):
                    if name in contestants:
                        self._take(step, contestants, name, subject, repetition)
            for contestant in contestants.values():
                subject.remove(contestant.place)

    def _start(self, subject: Subject, repetition: int) -> dict[str, Contestant]:
        """Empty repositories for all tools that the workload has a step for."""
        wanted = {name for step in self.workload.steps for name in step.tools}
        contestants = {}
        for name, tool in self.tools.items():
            if name not in wanted:
                continue
            place = subject.place(self.bench.work / "run" / self.workload.name / name)
            contestant = Contestant(tool, place, subject.environment)
            pipeline = tool.initialize(place)
            try:
                if pipeline:
                    run_pipeline(
                        pipeline,
                        environment=contestant.environment,
                        log=place.log,
                        timeout_seconds=TIMEOUT_SECONDS,
                    )
                contestants[name] = contestant
            except CommandFailed as error:
                self._fail("init", name, repetition, error)
        return contestants

    def _take(
        self, step: Step, contestants: dict[str, Contestant], name: str, subject: Subject, repetition: int
    ) -> None:
        settle(self.settle_seconds)
        count = step.samples if self.bench.full else min(step.samples, SMALL_SAMPLES)
        try:
            for _ in range(count):
                # Before each command, not each step: systems take from the cache what has lain there for a minute.
                subject.warm()
                sample = self._measure(step, contestants[name], subject, repetition)
                self.samples.append(sample)
        except CommandFailed as error:
            del contestants[name]
            self._fail(step.name, name, repetition, error)
        else:
            self.report(
                f"{self.workload.name} {repetition + 1} {step.name:<13}{name:<10}{sample.wall_seconds:8.3f} s"
                f"{sample.peak_rss_bytes / 1e6:8.1f} MB memory{sample.added_bytes / 1e6:10.2f} MB added"
            )

    def _measure(self, step: Step, contestant: Contestant, subject: Subject, repetition: int) -> Sample:
        place = contestant.place
        job = subject.job(place, contestant.snapshots)
        before = subject.stored_bytes(place)
        with ExitStack() as around:
            if step.action is Action.RESTORE:
                # A fast restore of something else is worth nothing; contents are compared once, names always.
                around.enter_context(subject.restoring(place, contents=repetition == 0))
            with subject.watch() as further:
                usage = run_pipeline(
                    contestant.tool.pipeline(step.action, job),
                    environment=contestant.environment,
                    log=place.log,
                    timeout_seconds=TIMEOUT_SECONDS,
                )
            after = subject.stored_bytes(place)
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
            input_bytes=subject.size()[1],
            requests=further.requests,
            longest_wait_seconds=further.longest_wait_seconds,
        )

    def _fail(self, step: str, tool: str, repetition: int, error: CommandFailed) -> None:
        self.failures.append(Failure(step=step, tool=tool, repetition=repetition, message=str(error)))
        self.report(f"{self.workload.name} {repetition + 1} {step:<13}{tool:<10}FAILED {error}")


def _rotated(names: tuple[str, ...], by: int) -> Iterator[str]:
    """All names, each repetition beginning with another, so that nobody always runs first."""
    start = by % len(names)
    yield from names[start:] + names[:start]
