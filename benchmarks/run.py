"""`python -m benchmarks.run`: measures, and writes JSON, a page and a chart. See README.md beside this file."""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from benchmarks.chart import chart
from benchmarks.data import Bench, DataUnavailable
from benchmarks.install import install_peers
from benchmarks.machine import commit, describe_machine, file_system, versions
from benchmarks.records import WorkloadResult, load, save
from benchmarks.report import judge, markdown
from benchmarks.session import Session
from benchmarks.tools import Tool, all_tools
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.base import Workload

DEFAULT_WORK = Path("/var/tmp/dedup-bench")
SETTLE_SECONDS = 0.3
RESULTS = Path(__file__).with_name("results")
Named = TypeVar("Named")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line; names of workloads and tools are separated by commas."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--only", type=_names, metavar="NAME,...", help=f"workloads: {', '.join(WORKLOADS)}")
    parser.add_argument("--tools", type=_names, metavar="NAME,...", help="measure only these tools")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="repetitions (default: %(default)s)")
    parser.add_argument("--scale", choices=("full", "small"), default="full", help="small: test the harness")
    parser.add_argument("--work", type=Path, default=Path(os.environ.get("DEDUP_BENCH_DIR", DEFAULT_WORK)))
    parser.add_argument("--output", type=Path, help="directory of the results (default: beside this file)")
    parser.add_argument("--install", action="store_true", help="install the peers, then end")
    parser.add_argument("--report", action="store_true", help="write page and chart again from the JSON, then end")
    parser.add_argument("--enforce", action="store_true", help="exit with 1 when a limit is missed")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def choose(available: dict[str, Named], names: list[str] | None, what: str) -> dict[str, Named]:
    """The named ones in their own order, or all. Ends the program for an unknown name."""
    unknown = [name for name in names or () if name not in available]
    if unknown:
        raise SystemExit(f"no {what} {unknown[0]!r}; there are {', '.join(available)}")
    return {name: item for name, item in available.items() if names is None or name in names}


def installed(tools: dict[str, Tool]) -> dict[str, Tool]:
    """The tools that can be started; tells about the others."""
    found = {}
    for name, tool in tools.items():
        if tool.version():
            found[name] = tool
        else:
            print(f"{name} cannot be started and is left out (peers: --install; dedup: set $DEDUP)", file=sys.stderr)
    return found


def measure(bench: Bench, workload: Workload, tools: dict[str, Tool], options: argparse.Namespace) -> WorkloadResult:
    """Prepare the data, then run the workload."""
    print(f"{workload.name}: preparing data", flush=True)
    data = workload.prepare(bench)
    machine = describe_machine() | {"file system": file_system(bench.work)}
    session = Session(
        bench=bench,
        workload=workload,
        tools=tools,
        settle_seconds=SETTLE_SECONDS if bench.full else 0.0,
        report=lambda line: print(line, flush=True),
    )
    with workload.open(bench, data) as subject:
        subject.show(0)
        files, length = subject.size()
        session.run(subject, options.repeat)
    return WorkloadResult(
        name=workload.name,
        date=datetime.now(UTC).date().isoformat(),
        commit=commit(),
        machine=machine,
        versions=versions(tools.values()),
        repetitions=options.repeat,
        input_files=files,
        input_bytes=length,
        samples=tuple(session.samples),
        failures=tuple(session.failures),
    )


def write_report(output: Path, bench: Bench, results: dict[str, WorkloadResult]) -> None:
    """The page and the chart of all results, also of those of earlier runs."""
    titles = {tool.name: tool.title for tool in all_tools(bench.work).values()}
    workloads = list(WORKLOADS.values())
    (output / f"{bench.scale}.md").write_text(markdown(workloads, results, titles, full=bench.full))
    (output / f"{bench.scale}.svg").write_text(chart(workloads, results, titles))


def main(arguments: Sequence[str]) -> int:
    """0, or 1 when a command failed or, with --enforce, a limit was missed."""
    options = parse(arguments)
    bench = Bench(work=options.work.absolute(), full=options.scale == "full")
    bench.work.mkdir(parents=True, exist_ok=True)
    if options.install:
        install_peers(bench.work)
        return 0
    # Results of small data are for nobody's eyes but the tester's: they stay out of the project.
    output: Path = options.output or (RESULTS if bench.full else bench.work / "results")
    record = output / f"{bench.scale}.json"
    results = load(record)
    chosen = choose(dict(WORKLOADS), options.only, "workload")
    if not options.report:
        tools = installed(choose(all_tools(bench.work), options.tools, "tool"))
        for name, workload in chosen.items():
            try:
                results[name] = measure(bench, workload, tools, options)
            except DataUnavailable as error:
                raise SystemExit(f"{name}: {error}") from error
            results = {known: results[known] for known in WORKLOADS if known in results}
            # Written after every workload: what an interrupted run has measured is kept.
            save(record, results)
            write_report(output, bench, results)
    write_report(output, bench, results)
    print(f"written: {output / bench.scale}.json, .md and .svg")
    return verdict(chosen, results, enforce=options.enforce)


def verdict(chosen: dict[str, Workload], results: dict[str, WorkloadResult], *, enforce: bool) -> int:
    """The exit code for the chosen workloads."""
    failed = any(results[name].failures for name in chosen if name in results)
    judged = [verdict for name, workload in chosen.items() for verdict in judge(workload, results.get(name))]
    return 1 if failed or (enforce and any(one.met is not True for one in judged)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
