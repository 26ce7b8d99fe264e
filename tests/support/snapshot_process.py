"""A process that takes a snapshot each time it is asked to, in a child that may be killed at any moment.

Usage: python -m tests.support.snapshot_process STORE CACHE TREE SOURCE, then lines on its standard input:
`run SECONDS` takes one and kills the child that does after SECONDS (0: never); `call NUMBER` has the child kill itself
before that file call of the store (from 0), `put PREFIX NUMBER` before that object below PREFIX is put. Each line is
answered by one: `done ID`, `failed CODE` or `killed`. Python and the program are imported once, so a run costs what its
work costs.
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
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.local import LocalStore
from tests.support.faults import FaultyStore, FaultySystem, Step
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

    def start(self, line: str = "run 0") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, line: str = "run 0") -> str:
        self.start(line)
        return self.answer()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _DyingSystem(FaultySystem):
    """Its process dies before the file call number `last`."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self._last = last

    def _enter(self, name: str) -> None:
        if self.calls.total() >= self._last:
            _die()
        super()._enter(name)


def _dying_store(inner: ObjectStore, prefix: str, last: int) -> FaultyStore:
    """Its process dies before the put number `last` below `prefix`."""
    seen: list[Step] = []

    def before(step: Step) -> None:
        if not step.done and step.verb == "put" and step.key.startswith(prefix):
            if len(seen) >= last:
                _die()
            seen.append(step)

    return FaultyStore(inner, hook=before)


def _store(path: str, order: list[str]) -> ObjectStore:
    match order:
        case ["call", number]:
            return LocalStore(path, system=_DyingSystem(int(number)))
        case ["put", prefix, number]:
            return _dying_store(LocalStore(path), prefix, int(number))
    return LocalStore(path)


def _child(arguments: list[str], order: list[str], out: int) -> None:
    store, cache, tree, source = arguments
    try:
        with open_repository(_store(store, order), Path(cache)) as repository:
            snapshot = take(repository, tree, source=source, host=source).snapshot
            assert snapshot is not None
            # Acknowledged: from here on it must survive everything.
            os.write(out, f"done {snapshot.id.hex()}".encode())
    except DedupError as error:
        os.write(out, f"failed {error.code}".encode())


def _run(arguments: list[str], order: list[str]) -> str:
    seconds = float(order[1]) if order[0] == "run" else 0.0
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _child(arguments, order, write)
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
        sys.stdout.write(_run(sys.argv[1:], line.split()) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
