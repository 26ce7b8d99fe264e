"""A process that takes real snapshots, each in a child it may kill: for crash and concurrency tests.

Usage: python -m tests.support.snapshot_process STORE CACHE TREE SOURCE, then lines on its standard input:
`run SECONDS`: take one in a child and kill it after that time if it is still at it (0: let it finish). The answer is one
line: `done ID`, `killed`, or `failed CODE`. Everything is imported once, so a run costs what its work costs.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from types import TracebackType
from typing import Self

from dedupstore.errors import DedupError
from dedupstore.storage.local import LocalStore
from tests.support.repositories import open_repository, take

ROOT = Path(__file__).parents[2]


class SnapshotProcess:
    """The other side of the pipe."""

    def __init__(self, store: Path, cache: Path, tree: Path, source: str) -> None:
        command = [sys.executable, "-m", "tests.support.snapshot_process", str(store), str(cache), str(tree), source]
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def start(self, seconds: float = 0.0) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"run {seconds}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, seconds: float = 0.0) -> str:
        self.start(seconds)
        return self.answer()


def _child(arguments: list[str], out: int) -> None:
    store, cache, tree, source = arguments
    try:
        with open_repository(LocalStore(store), Path(cache)) as repository:
            snapshot = take(repository, tree, source=source, host=source).snapshot
            assert snapshot is not None
            # Acknowledged: from here on it must survive everything.
            os.write(out, f"done {snapshot.id.hex()}".encode())
    except DedupError as error:
        os.write(out, f"failed {error.code}".encode())


def _run(arguments: list[str], seconds: float) -> str:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _child(arguments, write)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    if seconds:
        # Ends early when the child does.
        signal.sigtimedwait({signal.SIGCHLD}, seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    # Its signal may still be pending, and would end the wait for the next child at once.
    signal.sigtimedwait({signal.SIGCHLD}, 0)
    with os.fdopen(read, "rb") as answer:
        text = answer.read().decode()
    return text or ("killed" if os.WIFSIGNALED(status) else f"failed status {status}")


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    for line in sys.stdin:
        sys.stdout.write(_run(sys.argv[1:], float(line.split()[1])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
