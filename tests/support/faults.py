"""Stores and disks that fail exactly when told: the k-th operation, in one chosen way.

A test walks k = 0, 1, 2, … until a run passes without meeting its fault (`every_fault` does that).
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from os import DirEntry, stat_result, statvfs_result, strerror
from typing import TypeVar

from dedupstore.errors import ObjectNotFound, StoreError, StoreFull, StoreReadOnly
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.storage.system import System
from dedupstore.types import Data, Span
from tests.support import evidence

T = TypeVar("T")

VERBS = ("put", "get", "head", "list", "delete", "barrier")
WRITES = ("put", "delete", "barrier")


class Fault(Enum):
    """What goes wrong, and the verbs it can happen to."""

    FAIL_BEFORE = ("an error; nothing was done", VERBS)
    FAIL_AFTER = ("an error although it was done", VERBS)
    FULL = ("StoreFull; nothing was done", ("put",))
    READ_ONLY = ("StoreReadOnly; nothing was done", ("put", "delete"))
    NOT_FOUND = ("404 for an object that is there", ("get", "head"))
    TRUNCATED = ("the second half of the bytes is missing", ("get",))
    FLIPPED = ("one bit in the middle differs", ("get",))
    WRONG_RANGE = ("as many bytes, from another place", ("get",))
    WITHOUT_LAST_PAGE = ("a listing that ends early", ("list",))
    EMPTY_LISTING = ("a listing without rows", ("list",))

    @property
    def verbs(self) -> tuple[str, ...]:
        verbs: tuple[str, ...] = self.value[1]
        return verbs


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """`fault` meets operation number `at` (from 0), counting only `verb` or else all verbs it can happen to."""

    fault: Fault
    at: int
    verb: str | None = None
    writes_only: bool = False
    """Count only what changes the store."""
    below: str = ""
    """Count only keys and prefixes that start so; barriers have the key ""."""
    times: int | None = 1
    """How many operations in a row; None: from then on always."""
    transient: bool = False
    page_rows: int = 1
    """How many rows the lost last page has."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation about to start (`done` False) or just finished (True, also when it failed)."""

    number: int
    verb: str
    key: str
    done: bool


class FaultyStore:
    """Passes operations to `inner` except where the plan strikes.

    `hook` is called in the caller's thread before and after every operation: a scheduler may block
    there, a kill test may kill the process there. `operations` counts all that were started.
    """

    def __init__(
        self, inner: ObjectStore, plan: FaultPlan | None = None, *, hook: Callable[[Step], None] | None = None
    ) -> None:
        self.inner = inner
        self.plan = plan
        self.operations = 0
        self.by_verb: Counter[str] = Counter()
        self.fired = 0
        """How many operations met the fault."""
        self._hook = hook
        self._eligible = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.inner.url

    def put(self, key: str, parts: Sequence[Data]) -> None:
        self._perform("put", key, lambda: self.inner.put(key, parts))

    def get(self, key: str, span: Span | None = None) -> bytes:
        return self._perform("get", key, lambda: self.inner.get(key, span), lambda data, fault: _damaged(data, fault))

    def head(self, key: str) -> int:
        return self._perform("head", key, lambda: self.inner.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        rows: tuple[ObjectInfo, ...] = self._perform(
            "list", prefix, lambda: tuple(self.inner.list(prefix)), lambda rows, fault: self._shortened(rows, fault)
        )
        return iter(rows)

    def delete(self, key: str) -> None:
        self._perform("delete", key, lambda: self.inner.delete(key))

    def barrier(self) -> None:
        self._perform("barrier", "", self.inner.barrier)

    def close(self) -> None:
        self.inner.close()

    def _perform(self, verb: str, key: str, work: Callable[[], T], alter: Callable[[T, Fault], T] | None = None) -> T:
        number, fault = self._begin(verb, key)
        if self._hook:
            self._hook(Step(number, verb, key, done=False))
        try:
            if fault is not None:
                self._raise_before(fault, verb, key)
            result = work()
            if fault is Fault.FAIL_AFTER:
                raise self._error(verb, key)
            return alter(result, fault) if alter and fault else result
        finally:
            if self._hook:
                self._hook(Step(number, verb, key, done=True))

    def _begin(self, verb: str, key: str) -> tuple[int, Fault | None]:
        with self._lock:
            number = self.operations
            self.operations += 1
            self.by_verb[verb] += 1
            plan = self.plan
            if plan is None or not key.startswith(plan.below):
                return number, None
            if verb != plan.verb if plan.verb else verb not in plan.fault.verbs:
                return number, None
            if plan.writes_only and verb not in WRITES:
                return number, None
            since = self._eligible - plan.at
            self._eligible += 1
            if since < 0 or (plan.times is not None and since >= plan.times):
                return number, None
            self.fired += 1
            evidence.count(evidence.FAULTS)
            return number, plan.fault

    def _raise_before(self, fault: Fault, verb: str, key: str) -> None:
        if fault is Fault.FAIL_BEFORE:
            raise self._error(verb, key)
        if fault is Fault.FULL:
            raise StoreFull(f"cannot {verb} {key}", why="injected: no space left")
        if fault is Fault.READ_ONLY:
            raise StoreReadOnly(f"cannot {verb} {key}", why="injected: read-only")
        if fault is Fault.NOT_FOUND:
            raise ObjectNotFound(f"there is no {key}", why="injected")

    def _error(self, verb: str, key: str) -> StoreError:
        transient = self.plan is not None and self.plan.transient
        return StoreError(f"cannot {verb} {key}", why="injected fault", transient=transient)

    def _shortened(self, rows: tuple[ObjectInfo, ...], fault: Fault) -> tuple[ObjectInfo, ...]:
        if fault is Fault.EMPTY_LISTING:
            return ()
        rows_lost = self.plan.page_rows if self.plan else 1
        return rows[: max(0, len(rows) - rows_lost)]


def _damaged(data: bytes, fault: Fault) -> bytes:
    if fault is Fault.TRUNCATED:
        return data[: len(data) // 2]
    if fault is Fault.FLIPPED and data:
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    if fault is Fault.WRONG_RANGE:
        return data[1:] + data[:1]
    return data


def every_fault(
    fault: Fault, run: Callable[[FaultPlan], FaultyStore], *, verb: str | None = None, writes_only: bool = False,
    times: int | None = 1, every: int = 1,
) -> int:  # fmt: skip
    """Call `run` with the fault at operation 0, 1, 2, …, or each `every`-th, until it did not strike; say where.

    `run` acts, asserts, and gives back the store it used.
    """
    for at in itertools.count(step=every):
        plan = FaultPlan(fault=fault, at=at, verb=verb, writes_only=writes_only, times=times)
        if not run(plan).fired:
            return at
    raise AssertionError("unreachable")


class FaultySystem(System):
    """File calls that fail by plan: `{("fdatasync", 0): errno.EIO}` fails the first fdatasync.

    `always` fails every call of a name: `{"link": errno.EPERM}`. `most_written` caps one writev.
    """

    def __init__(
        self,
        failures: Mapping[tuple[str, int], int] | None = None,
        *,
        always: Mapping[str, int] | None = None,
        most_written: int | None = None,
        inner: System | None = None,
    ) -> None:
        self.failures = dict(failures or {})
        self.always = dict(always or {})
        self.most_written = most_written
        self.inner = inner or System()
        self.calls: Counter[str] = Counter()
        self.fired = 0
        self._lock = threading.Lock()

    def _enter(self, name: str) -> None:
        with self._lock:
            number = self.failures.get((name, self.calls[name]), self.always.get(name))
            self.calls[name] += 1
            self.fired += number is not None
        if number is not None:
            raise OSError(number, strerror(number))

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        self._enter("open")
        return self.inner.open(path, flags, mode)

    def close(self, descriptor: int) -> None:
        # As in the kernel, a close that fails has closed.
        self.inner.close(descriptor)
        self._enter("close")

    def writev(self, descriptor: int, parts: Sequence[memoryview]) -> int:
        self._enter("writev")
        if self.most_written is None:
            return self.inner.writev(descriptor, parts)
        return self.inner.writev(descriptor, [parts[0][: self.most_written]])

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        self._enter("pread")
        return self.inner.pread(descriptor, length, offset)

    def pread_into(self, descriptor: int, buffer: memoryview, offset: int) -> int:
        self._enter("pread")
        return self.inner.pread_into(descriptor, buffer, offset)

    def fdatasync(self, descriptor: int) -> None:
        self._enter("fdatasync")
        self.inner.fdatasync(descriptor)

    def fsync(self, descriptor: int) -> None:
        self._enter("fsync")
        self.inner.fsync(descriptor)

    def fstat(self, descriptor: int) -> stat_result:
        self._enter("fstat")
        return self.inner.fstat(descriptor)

    def stat(self, path: str) -> stat_result:
        self._enter("stat")
        return self.inner.stat(path)

    def lstat(self, path: str) -> stat_result:
        self._enter("lstat")
        return self.inner.lstat(path)

    def statvfs(self, path: str) -> statvfs_result:
        self._enter("statvfs")
        return self.inner.statvfs(path)

    def scandir(self, path: str) -> AbstractContextManager[Iterator[DirEntry[str]]]:
        self._enter("scandir")
        return self.inner.scandir(path)

    def link(self, source: str, target: str) -> None:
        self._enter("link")
        self.inner.link(source, target)

    def rename(self, source: str, target: str) -> None:
        self._enter("rename")
        self.inner.rename(source, target)

    def unlink(self, path: str) -> None:
        self._enter("unlink")
        self.inner.unlink(path)

    def mkdir(self, path: str, mode: int) -> None:
        self._enter("mkdir")
        self.inner.mkdir(path, mode)

    def token(self) -> str:
        return self.inner.token()
