"""What a disk may hold after a power cut: record file operations, then build every state a crash could leave.

    before = read_tree(root)
    recorder = RecordingSystem()
    store = LocalStore(root, system=recorder)
    …; store.barrier(); recorder.acknowledge("snapshot 1")
    for state in CrashSimulator(recorder.operations, root, before).states():
        repository in state.store() must hold everything named in state.acknowledged

The model is POSIX at its weakest (ALICE, OSDI'14): unsynced writes and names are lost or kept one by
one, writes are torn or leave zeros behind; only an fsync of the file and of its directory forbids it.
Names in `tmp/` are always kept: nothing may depend on them.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum

from dedupstore.storage.memory import MemoryStore
from dedupstore.storage.names import TEMPORARY, check_key
from dedupstore.storage.system import System
from tests.support import evidence

_NEVER = 1 << 60


class Act(Enum):
    CREATE = "create"
    WRITE = "write"
    LINK = "link"
    RENAME = "rename"
    UNLINK = "unlink"
    MAKE_DIRECTORY = "mkdir"
    SYNC_FILE = "sync file"
    SYNC_DIRECTORY = "sync directory"
    ACKNOWLEDGE = "acknowledge"


_NAMING = frozenset({Act.CREATE, Act.LINK, Act.RENAME, Act.UNLINK, Act.MAKE_DIRECTORY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that succeeded. `path` is where a name appears or goes, a synced directory, or a label."""

    act: Act
    path: str = ""
    source: str = ""
    file: int | None = None
    """Which file, whatever its names; None for one that was there before."""
    data: bytes = b""
    offset: int = 0
    opened: int = 0
    """For a directory sync: how many operations were recorded when its descriptor was opened."""

    @property
    def directory(self) -> str:
        return os.path.dirname(self.path)


class RecordingSystem(System):
    """Performs file calls through `inner` and records the ones that succeeded and change something."""

    def __init__(self, inner: System | None = None) -> None:
        self.operations: list[Operation] = []
        self._inner = inner or System()
        self._lock = threading.RLock()
        self._names: dict[str, int] = {}
        self._files: dict[int, list[int]] = {}
        self._directories: dict[int, tuple[str, int]] = {}
        self._next_file = 0

    def acknowledge(self, label: str) -> None:
        """Note that the program has just promised that everything so far is durable."""
        self._log(Operation(act=Act.ACKNOWLEDGE, path=label))

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        with self._lock:
            descriptor = self._inner.open(path, flags, mode)
            if flags & os.O_DIRECTORY:
                self._directories[descriptor] = (path, len(self.operations))
            elif flags & os.O_CREAT:
                self._next_file += 1
                self._names[path] = self._next_file
                self._files[descriptor] = [self._next_file, 0]
                self._log(Operation(act=Act.CREATE, path=path, file=self._next_file))
            return descriptor

    def close(self, descriptor: int) -> None:
        with self._lock:
            self._files.pop(descriptor, None)
            self._directories.pop(descriptor, None)
            self._inner.close(descriptor)

    def writev(self, descriptor: int, parts: Sequence[memoryview]) -> int:
        with self._lock:
            written = self._inner.writev(descriptor, parts)
            opened = self._files[descriptor]
            data = b"".join(parts)[:written]
            self._log(Operation(act=Act.WRITE, file=opened[0], data=data, offset=opened[1]))
            opened[1] += written
            return written

    def fdatasync(self, descriptor: int) -> None:
        with self._lock:
            self._inner.fdatasync(descriptor)
            self._log(Operation(act=Act.SYNC_FILE, file=self._files[descriptor][0]))

    def fsync(self, descriptor: int) -> None:
        with self._lock:
            self._inner.fsync(descriptor)
            path, opened = self._directories[descriptor]
            self._log(Operation(act=Act.SYNC_DIRECTORY, path=path, opened=opened))

    def link(self, source: str, target: str) -> None:
        with self._lock:
            self._inner.link(source, target)
            self._log(Operation(act=Act.LINK, source=source, path=target, file=self._names.get(source)))

    def rename(self, source: str, target: str) -> None:
        with self._lock:
            self._inner.rename(source, target)
            self._log(Operation(act=Act.RENAME, source=source, path=target, file=self._names.pop(source, None)))

    def unlink(self, path: str) -> None:
        with self._lock:
            self._inner.unlink(path)
            self._log(Operation(act=Act.UNLINK, path=path, file=self._names.pop(path, None)))

    def mkdir(self, path: str, mode: int) -> None:
        with self._lock:
            self._inner.mkdir(path, mode)
            self._log(Operation(act=Act.MAKE_DIRECTORY, path=path))

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return self._inner.pread(descriptor, length, offset)

    def stat(self, path: str) -> os.stat_result:
        return self._inner.stat(path)

    def lstat(self, path: str) -> os.stat_result:
        return self._inner.lstat(path)

    def scandir(self, path: str) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        return self._inner.scandir(path)

    def token(self) -> str:
        return self._inner.token()

    def _log(self, operation: Operation) -> None:
        with self._lock:
            self.operations.append(operation)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTree:
    """The files and directories below a root; paths are relative to it."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    directories: frozenset[str] = frozenset()


def read_tree(root: str) -> DiskTree:
    """What is below `root`, for a simulation that starts from something."""
    files: dict[str, bytes] = {}
    directories: set[str] = set()
    for folder, folders, names in os.walk(root):
        directories.update(os.path.relpath(os.path.join(folder, name), root) for name in folders)
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                files[os.path.relpath(path, root)] = file.read()
    return DiskTree(files=files, directories=frozenset(directories))


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashState:
    """One thing the disk may hold after the crash, and what had been promised before it."""

    label: str
    files: Mapping[str, bytes]
    directories: frozenset[str]
    acknowledged: tuple[str, ...]

    def store(self) -> MemoryStore:
        """The objects a store opened on this disk would show."""
        store = MemoryStore(f"crash:{self.label}")
        for path, data in self.files.items():
            if not path.startswith(f"{TEMPORARY}/"):
                check_key(path)
                store.objects[path] = data
        return store

    def write_to(self, root: str) -> None:
        """Make this state real below `root`, which must not exist or be empty."""
        os.makedirs(root, exist_ok=True)
        for path in sorted(self.directories):
            os.makedirs(os.path.join(root, path), exist_ok=True)
        for path, data in self.files.items():
            with open(os.path.join(root, path), "xb") as file:
                file.write(data)


@dataclass(frozen=True, slots=True)
class _Tear:
    """One write that reached the disk in part: `kept` bytes of it, then zeros if `padded`."""

    operation: int
    kept: int
    padded: bool


class CrashSimulator:
    """All crash states of one recorded run. `before` is the tree it started from; None: no root yet."""

    def __init__(self, operations: Sequence[Operation], root: str, before: DiskTree | None = None) -> None:
        self._operations = list(operations)
        self._root = os.path.abspath(root)
        self._before = before
        self._temporary = os.path.join(self._root, TEMPORARY)
        self._durable_from = self._find_syncs()
        self._contents: dict[tuple[object, ...], bytes] = {}

    def states(self, *, random_subsets: int = 0, seed: int = 0, every: int = 1) -> Iterator[CrashState]:
        """Each different state once: every prefix, all unsynced lost, all kept, one lost, one kept, one torn.

        `random_subsets` more per prefix; `every` looks at each n-th prefix (and the last) of a long run.
        """
        chooser = random.Random(seed)
        seen: set[object] = set()
        for end in range(len(self._operations) + 1):
            if end % every and end != len(self._operations):
                continue
            pending = self._pending(end)
            for name, kept, tear in self._variants(pending, random_subsets, chooser):
                state = self._build(end, f"after {end}: {name}", kept, tear)
                # bytes keep their hash, and `_content` hands out the same bytes again.
                mark = (frozenset(state.store().objects.items()), state.directories, state.acknowledged)
                if mark not in seen:
                    seen.add(mark)
                    evidence.count(evidence.CRASHES)
                    yield state

    def _find_syncs(self) -> list[int]:
        """For each operation, the number of the first sync that makes it durable."""
        durable_from = [_NEVER] * len(self._operations)
        file_sync: dict[int | None, int] = {}
        directory_sync: dict[str, int] = {}
        for number in range(len(self._operations) - 1, -1, -1):
            operation = self._operations[number]
            if operation.act is Act.SYNC_FILE:
                file_sync[operation.file] = number
            elif operation.act is Act.SYNC_DIRECTORY:
                directory_sync[operation.path] = number
            elif operation.act is Act.WRITE:
                durable_from[number] = file_sync.get(operation.file, _NEVER)
            elif operation.act in _NAMING:
                durable_from[number] = directory_sync.get(operation.directory, _NEVER)
        return durable_from

    def _pending(self, end: int) -> list[int]:
        """The operations before `end` that a crash at `end` may undo."""
        return [
            number
            for number, operation in enumerate(self._operations[:end])
            if (operation.act is Act.WRITE or (operation.act in _NAMING and operation.directory != self._temporary))
            and self._durable_from[number] >= end
        ]

    def _variants(
        self, pending: list[int], random_subsets: int, chooser: random.Random
    ) -> Iterator[tuple[str, frozenset[int], _Tear | None]]:
        everything = frozenset(pending)
        yield "all unsynced lost", frozenset(), None
        yield "all unsynced kept", everything, None
        for number in pending:
            yield f"only {number} lost", everything - {number}, None
            yield f"only {number} kept", frozenset({number}), None
            operation = self._operations[number]
            if operation.act is Act.WRITE:
                for kept in {0, 512, 4096, len(operation.data) // 4096 * 4096}:
                    if kept < len(operation.data):
                        yield f"{number} torn at {kept}", everything, _Tear(number, kept, False)
                        yield f"{number} torn at {kept}, then zeros", everything, _Tear(number, kept, True)
        for _ in range(random_subsets if len(pending) > 1 else 0):
            subset = frozenset(number for number in pending if chooser.random() < 0.5)
            yield f"kept {sorted(subset)}", subset, None

    def _build(self, end: int, label: str, kept: frozenset[int], tear: _Tear | None) -> CrashState:
        names: dict[str, int | str | None] = {}
        directories: set[str] = set()
        writes: dict[int | None, list[int]] = {}
        acknowledged: list[str] = []
        if self._before is not None:
            directories.add(self._root)
            directories.update(f"{self._root}/{path}" for path in self._before.directories)
            names.update((f"{self._root}/{path}", path) for path in self._before.files)
        lost = set(self._pending(end)) - kept
        for number, operation in enumerate(self._operations[:end]):
            if number in lost:
                continue
            if operation.act is Act.WRITE:
                writes.setdefault(operation.file, []).append(number)
            elif operation.act in (Act.CREATE, Act.LINK, Act.RENAME):
                old = names.get(operation.source)
                names[operation.path] = old if operation.file is None else operation.file
                if operation.act is Act.RENAME:
                    names.pop(operation.source, None)
            elif operation.act is Act.UNLINK:
                names.pop(operation.path, None)
            elif operation.act is Act.MAKE_DIRECTORY:
                directories.add(operation.path)
            elif operation.act is Act.ACKNOWLEDGE:
                acknowledged.append(operation.path)
        reachable = self._reachable(directories)
        files = {
            os.path.relpath(path, self._root): self._content(file, writes, tear)
            for path, file in names.items()
            if os.path.dirname(path) in reachable
        }
        below = frozenset(os.path.relpath(path, self._root) for path in reachable if path != self._root)
        return CrashState(label=label, files=files, directories=below, acknowledged=tuple(acknowledged))

    def _reachable(self, directories: set[str]) -> set[str]:
        """A directory whose own name was lost takes all below it along. Sorted: parents come first."""
        reachable: set[str] = set()
        for path in sorted(directories):
            if path == self._root or os.path.dirname(path) in reachable:
                reachable.add(path)
        return reachable

    def _content(self, file: int | str | None, writes: Mapping[int | None, list[int]], tear: _Tear | None) -> bytes:
        if isinstance(file, str):
            return self._before.files[file] if self._before else b""
        numbers = tuple(writes.get(file, ()))
        torn = tear if tear is not None and tear.operation in numbers else None
        identity = (file, numbers, torn)
        if identity not in self._contents:
            content = bytearray()
            for number in numbers:
                operation, data = self._operations[number], self._operations[number].data
                if torn is not None and number == torn.operation:
                    data = data[: torn.kept] + bytes(len(data) - torn.kept if torn.padded else 0)
                # A lost write before this one leaves a hole.
                content.extend(bytes(max(0, operation.offset - len(content))))
                content[operation.offset : operation.offset + len(data)] = data
            self._contents[identity] = bytes(content)
        return self._contents[identity]


def durability_faults(operations: Sequence[Operation], root: str) -> list[str]:
    """Every broken rule in a recorded run; empty when it is sound.

    A name may appear outside `tmp/` only after all writes to its file and a sync of that file; no write
    may follow. Before an acknowledgement each changed directory was synced, through a descriptor
    opened before the change.
    """
    temporary = os.path.join(os.path.abspath(root), TEMPORARY)
    faults: list[str] = []
    unsynced: set[int | None] = set()
    visible: set[int | None] = set()
    changes: list[tuple[int, Operation]] = []
    for number, operation in enumerate(operations):
        if operation.act is Act.WRITE:
            unsynced.add(operation.file)
            if operation.file in visible:
                faults.append(f"{number}: a write to a file that is visible already")
        elif operation.act is Act.SYNC_FILE:
            unsynced.discard(operation.file)
        elif operation.act is Act.SYNC_DIRECTORY:
            changes = [
                (when, change)
                for when, change in changes
                if change.directory != operation.path or operation.opened > when
            ]
        elif operation.act is Act.ACKNOWLEDGE:
            faults += [
                f"{number}: {operation.path!r} promised, but {change.act.value} {change.path} (operation {when}) "
                "has no sync of its directory through a descriptor opened before"
                for when, change in changes
            ]
        elif temporary not in (operation.directory, operation.path):
            changes.append((number, operation))
            if operation.act in (Act.CREATE, Act.LINK, Act.RENAME):
                visible.add(operation.file)
                if operation.file in unsynced or operation.act is Act.CREATE:
                    faults.append(f"{number}: {operation.path} is visible before its bytes are synced")
    return faults
