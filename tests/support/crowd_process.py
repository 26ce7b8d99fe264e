"""Many processes at one repository: a server that forks a child for each thing to do, which may be killed or stopped.

Usage: python -m tests.support.crowd_process FOLDER, then lines on its standard input: `start ROLE SLOT SEED` is answered by
`started PID`, and once the child has ended by `ended PID STATUS` and what it said, as one JSON list. What a child said
before it was killed counts: `going` before it forgets anything, `done` once something is acknowledged. `signal PID NUMBER`
kills, stops or continues one.

Python and the program are imported once, so an action costs what its work costs. A slot is a machine: it has a cache of
its own, and writers have a tree.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen
from types import TracebackType
from typing import Any, Self

from dedupstore.engine.forget import execute_forget
from dedupstore.engine.undo_forget import forgotten_snapshots
from dedupstore.errors import DedupError
from dedupstore.model.snapshot import Snapshot
from dedupstore.policy.retention import Policy
from dedupstore.repo import layout
from dedupstore.repo.repository import Repository
from dedupstore.storage.local import LocalStore
from tests.support import forgetting
from tests.support.pruning import check, prune
from tests.support.replicating import run_mirror
from tests.support.repositories import files_below, open_repository, random_bytes, stored_files, take, text_bytes

ROOT = Path(__file__).parents[2]
KEEP = forgetting.options(Policy(last=3), count_bursts=True)

LOOKS = 6

Said = list[dict[str, Any]]


@dataclass(slots=True)
class Ended:
    """A child that is gone: its exit status (negative: the signal that killed it), and what it had said."""

    pid: int
    role: str
    status: int
    said: Said


class Crowd:
    """The other side of the pipe."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.support.crowd_process", str(folder)]
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT)
        self.running: dict[int, tuple[str, str]] = {}
        """Role and slot of each child."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.running:
            self.signal(pid, signal.SIGKILL)
        self._process.communicate()

    def start(self, role: str, slot: str, seed: int) -> list[Ended]:
        """Fork one; those that ended meanwhile."""
        self._order(f"start {role} {slot} {seed}")
        ended = []
        while isinstance(line := self._read(), Ended):
            ended.append(line)
        self.running[line] = role, slot
        return ended

    def signal(self, pid: int, number: int) -> None:
        """Nothing happens when it has ended meanwhile."""
        self._order(f"signal {pid} {int(number)}")

    def wait(self) -> Ended:
        """The next that ends."""
        line = self._read()
        assert isinstance(line, Ended)
        return line

    def _order(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _read(self) -> Ended | int:
        assert self._process.stdout is not None
        word, pid, *rest = self._process.stdout.readline().split(" ", 3)
        if word == "started":
            return int(pid)
        return Ended(int(pid), self.running.pop(int(pid))[0], int(rest[0]), json.loads(rest[1]))


# What they do, each in a process of its own


@dataclass(slots=True)
class Child:
    folder: Path
    slot: str
    chooser: random.Random
    out: int
    said: Said = field(default_factory=list)

    def say(self, **words: object) -> None:
        os.write(self.out, json.dumps(words).encode() + b"\n")

    def open(self) -> Repository:
        return open_repository(LocalStore(str(self.folder / "store")), self.folder / f"cache-{self.slot}")

    def state(self, note: str) -> dict[bytes, bytes]:
        rows = json.loads((self.folder / "states" / note).read_text())
        return {bytes.fromhex(name): bytes.fromhex(digest) for name, digest in rows.items()}


def write(child: Child) -> None:
    """Change the tree, say what it holds now, take a snapshot whose note names that."""
    tree = child.folder / f"tree-{child.slot}"
    tree.mkdir(exist_ok=True)
    for _ in range(child.chooser.randrange(1, 4)):
        path = tree / f"f{child.chooser.randrange(8)}"
        if child.chooser.random() < 0.2:
            path.unlink(missing_ok=True)
        elif child.chooser.random() < 0.5:
            path.write_bytes(random_bytes(f"{child.chooser.randrange(30)}", 9_000))
        else:
            text = bytearray(text_bytes(1, 800))
            text[4000:4040] = b"%040d" % child.chooser.randrange(10**6)
            path.write_bytes(text)
    note = f"{child.slot}-{child.chooser.getrandbits(64):016x}"
    rows = {name.hex(): digest.hex() for name, digest in files_below(tree).items()}
    (child.folder / "states" / note).write_text(json.dumps(rows))
    with child.open() as repository:
        taken = take(repository, tree, source=child.slot, host=child.slot, note=note).snapshot
        assert taken is not None
        child.say(done=taken.id.hex())


def forget(child: Child) -> None:
    with child.open() as repository:
        plan = forgetting.planned(repository, KEEP)
        child.say(going=[snapshot.id.hex() for snapshot in plan.removed])
        execute_forget(repository.catalog, plan, repository.clock)


def undo(child: Child) -> None:
    with child.open() as repository:
        catalog = repository.catalog
        gone = forgotten_snapshots(catalog)
        if gone:
            child.say(done=forgetting.undo(repository, child.chooser.choice(gone).snapshot.id).id.hex())


def sweep(child: Child) -> None:
    with child.open() as repository:
        prune(repository)


def verify(child: Child) -> None:
    with child.open() as repository:
        child.say(found=[finding.message for finding in check(repository).findings if finding.severity != "note"])


def restore(child: Child) -> None:
    with child.open() as repository:
        snapshots = repository.catalog.snapshots().snapshots
        for snapshot in child.chooser.sample(snapshots, min(2, len(snapshots))):
            child.say(restored=snapshot.id.hex(), right=_is_right(child, repository, snapshot))


def _is_right(child: Child, repository: Repository, snapshot: Snapshot) -> bool:
    """Looking again finds what a prune has moved meanwhile; what was forgotten and pruned need not be there."""
    for _ in range(LOOKS):
        try:
            return stored_files(repository, snapshot) == child.state(snapshot.note)
        except DedupError as error:
            child.say(missed=error.in_one_line)
            if not repository.catalog.has_commit(snapshot.id):
                return True
    return False


def mirror(child: Child) -> None:
    target = child.folder / "mirror"
    if not (target / layout.FORMAT_KEY).exists():
        # One that was killed while it made the place is gone on with, as by the command.
        LocalStore.create(str(target)).close()
    result = run_mirror(LocalStore(str(child.folder / "store")), LocalStore(str(target)), delete=True)
    child.say(mirrored=result.exit_code)


ROLES: dict[str, Callable[[Child], None]] = {
    "writer": write, "forgetter": forget, "undoer": undo, "pruner": sweep, "checker": verify, "restorer": restore,
    "mirrorer": mirror,
}  # fmt: skip


def _run(folder: Path, role: str, slot: str, seed: int, out: int) -> None:
    child = Child(folder, slot, random.Random(seed), out)
    try:
        ROLES[role](child)
    except DedupError as error:
        child.say(failed=error.code, why=error.in_one_line, where=traceback.format_exc().splitlines()[-12:])


def _fork(folder: Path, role: str, slot: str, seed: int) -> tuple[int, int]:
    read, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(read)
            _run(folder, role, slot, seed, write_end)
            status = 0
        finally:
            os._exit(status)
    os.close(write_end)
    return pid, read


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    folder, stdin = Path(sys.argv[1]), sys.stdin.fileno()
    waiting = selectors.DefaultSelector()
    waiting.register(stdin, selectors.EVENT_READ)
    heard: dict[int, tuple[int, bytearray]] = {}
    orders = bytearray()
    while waiting.get_map():
        for key, _ in waiting.select():
            part = os.read(key.fd, 1 << 16)
            if not part:
                waiting.unregister(key.fd)
            if key.fd == stdin:
                orders += part
                while b"\n" in orders:
                    line, _, rest = bytes(orders).partition(b"\n")
                    orders[:] = rest
                    _obey(folder, line.decode().split(), heard, waiting)
                continue
            heard[key.fd][1].extend(part)
            if not part:
                os.close(key.fd)
                pid, text = heard.pop(key.fd)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                said = [json.loads(row) for row in bytes(text).splitlines()]
                _tell(f"ended {pid} {status} {json.dumps(said)}")


def _obey(
    folder: Path, words: list[str], heard: dict[int, tuple[int, bytearray]], waiting: selectors.BaseSelector
) -> None:
    match words:
        case ["start", role, slot, seed]:
            pid, read = _fork(folder, role, slot, int(seed))
            heard[read] = pid, bytearray()
            waiting.register(read, selectors.EVENT_READ)
            _tell(f"started {pid}")
        case ["signal", pid, number] if int(pid) in {each for each, _ in heard.values()}:
            # Not waited for yet: nobody else has that number.
            os.kill(int(pid), int(number))


if __name__ == "__main__":
    main()
