"""Runs commands and tells what they cost: time, memory, bytes on disk; and makes every run start equal."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")
READ_SIZE = 1 << 20


class CommandFailed(Exception):
    """A measured command ended with an error, ran too long or restored something else than was saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Commands connected by pipes, run in one directory."""

    commands: tuple[tuple[str, ...], ...]
    cwd: Path

    def __str__(self) -> str:
        return " | ".join(" ".join(argv) for argv in self.commands)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a pipeline used.

    Times are sums over its commands and all their children; memory is the largest process of each
    command, summed over the commands of the pipeline.
    """

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_rss_bytes: int


def run_pipeline(pipeline: Pipeline, *, environment: Mapping[str, str], log: Path, timeout_seconds: float) -> Usage:
    """Run to the end with all output going to the log. Raises CommandFailed with the log's last lines."""
    with log.open("a") as stream:
        stream.write(f"$ {pipeline}\n")
    spec = json.dumps({"commands": pipeline.commands, "log": str(log)})
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(CHILD), spec],
        cwd=pipeline.cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{pipeline}: not done after {timeout_seconds:.0f} s") from None
        finally:
            # The commands are in the session of their launcher: an interrupted run must not leave them behind.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode != 0:
        raise CommandFailed(f"{pipeline}: {errors.strip().splitlines()[-1]}")
    record = json.loads(output)
    if any(record["exit_codes"]):
        raise CommandFailed(f"{pipeline}: exit codes {record['exit_codes']}; {_last_lines(log)}")
    return Usage(
        wall_seconds=record["wall_seconds"],
        user_seconds=record["user_seconds"],
        system_seconds=record["system_seconds"],
        peak_rss_bytes=record["peak_rss_bytes"],
    )


def _last_lines(log: Path, count: int = 5) -> str:
    return " / ".join(log.read_text(errors="replace").splitlines()[-count:])


def walk(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry at and below the path, as (path relative to it, its own stat), parents first."""
    own = path.lstat()
    yield "", own
    pending = [""] if stat.S_ISDIR(own.st_mode) else []
    while pending:
        directory = pending.pop()
        with os.scandir(path / directory) as entries:
            for entry in entries:
                relative = f"{directory}/{entry.name}" if directory else entry.name
                yield relative, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(relative)


def size_of(path: Path) -> tuple[int, int]:
    """How many regular files there are at the path and how many bytes they have (length, not blocks)."""
    if not path.exists():
        return 0, 0
    lengths = [entry.st_size for _, entry in walk(path) if stat.S_ISREG(entry.st_mode)]
    return len(lengths), sum(lengths)


def read_all(path: Path) -> None:
    """Read every file once, so that each tool finds the same warm page cache."""
    buffer = bytearray(READ_SIZE)
    for relative, entry in walk(path):
        if stat.S_ISREG(entry.st_mode):
            with open(path / relative if relative else path, "rb", buffering=0) as stream:
                while stream.readinto(buffer):
                    pass


def settle(seconds: float) -> None:
    """Let the disk finish the last run's writes, so that they are not charged to the next one; 0 does nothing."""
    if not seconds:
        return
    os.sync()
    time.sleep(seconds)


def assert_same(expected: Path, actual: Path, *, contents: bool) -> None:
    """Raise CommandFailed unless both have the same entries, modes, times (in seconds), lengths and contents."""
    if not os.path.lexists(actual):
        raise CommandFailed(f"nothing was restored at {actual}")
    wanted = dict(walk(expected))
    found = dict(walk(actual))
    if wanted.keys() != found.keys():
        odd = sorted(wanted.keys() ^ found.keys())
        raise CommandFailed(f"the restored tree differs in {len(odd)} names, the first is {odd[0]!r}")
    for relative, entry in wanted.items():
        _assert_same_entry(relative, entry, found[relative])
        if contents and stat.S_ISREG(entry.st_mode):
            _assert_same_bytes(expected / relative if relative else expected, actual / relative if relative else actual)


def _assert_same_entry(relative: str, wanted: os.stat_result, found: os.stat_result) -> None:
    if wanted.st_mode != found.st_mode:
        raise CommandFailed(f"{relative!r} was restored with mode {found.st_mode:o} instead of {wanted.st_mode:o}")
    if not stat.S_ISDIR(wanted.st_mode) and wanted.st_size != found.st_size:
        raise CommandFailed(f"{relative!r} was restored with {found.st_size} bytes instead of {wanted.st_size}")
    if not stat.S_ISLNK(wanted.st_mode) and int(wanted.st_mtime) != int(found.st_mtime):
        raise CommandFailed(f"{relative!r} was restored with another modification time")


def _assert_same_bytes(wanted: Path, found: Path) -> None:
    with open(wanted, "rb") as left, open(found, "rb") as right:
        while True:
            expected = left.read(READ_SIZE)
            if expected != right.read(READ_SIZE):
                raise CommandFailed(f"{found} was restored with other contents")
            if not expected:
                return
