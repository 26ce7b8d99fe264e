"""The records of a run and their JSON form; figures are kept raw, so that a report can be made again."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One command's figures."""

    step: str
    tool: str
    repetition: int
    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_rss_bytes: int
    added_bytes: int
    """By how much the repository grew."""
    stored_bytes: int
    """The size of the repository after the step: the lengths of all its files."""
    input_bytes: int
    requests: int = 0
    """What was asked of a server that keeps the repository."""
    longest_wait_seconds: float = 0.0
    """How long a program that writes to the data meanwhile had to wait, at worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A command that did not do its work; its tool has no more samples in that repetition."""

    step: str
    tool: str
    repetition: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadResult:
    """All of one workload, with what is needed to judge it on its own: workloads may be run on different days."""

    name: str
    date: str
    commit: str
    machine: dict[str, str]
    versions: dict[str, str]
    repetitions: int
    input_files: int
    input_bytes: int
    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...]


def load(path: Path) -> dict[str, WorkloadResult]:
    """The results in a file, by workload; none when there is no file."""
    if not path.exists():
        return {}
    document = json.loads(path.read_text())
    if document["schema"] != SCHEMA:
        raise ValueError(f"{path} has schema {document['schema']}, this is {SCHEMA}: run the benchmarks again")
    return {record["name"]: _decode(record) for record in document["workloads"]}


def _decode(record: dict[str, Any]) -> WorkloadResult:
    samples = tuple(Sample(**sample) for sample in record.pop("samples"))
    failures = tuple(Failure(**failure) for failure in record.pop("failures"))
    return WorkloadResult(**record, samples=samples, failures=failures)


def save(path: Path, results: dict[str, WorkloadResult]) -> None:
    """Write all results, one sample a line so that a diff can be read."""
    blocks = []
    for result in results.values():
        record = asdict(result)
        lists = {key: record.pop(key) for key in ("samples", "failures")}
        fields = [f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items()]
        for key, rows in lists.items():
            lines = ",\n".join(f"      {json.dumps(row)}" for row in rows)
            fields.append(f'    "{key}": [\n{lines}\n    ]' if rows else f'    "{key}": []')
        blocks.append("   {\n" + ",\n".join(fields) + "\n   }")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{\n  "schema": {SCHEMA},\n  "workloads": [\n' + ",\n".join(blocks) + "\n  ]\n}\n")
