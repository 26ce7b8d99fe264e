"""A store that remembers what was asked and in which order, for tests of write orders."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import Data, Span


@dataclass(frozen=True, slots=True)
class Call:
    """One finished operation. `key` is the prefix of a list, empty for a barrier; `size` the bytes moved."""

    verb: str
    key: str = ""
    size: int = 0
    span: Span | None = field(default=None, compare=False)
    """Of a get: which part was asked for."""

    @property
    def folder(self) -> str:
        """The part of the key before the first slash: `packs`, `index`, `roots`, …"""
        return self.key.partition("/")[0]


class RecordingStore:
    """Passes everything on; `calls` holds what succeeded, in the order in which it returned."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.calls: list[Call] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.inner.url

    def put(self, key: str, parts: Sequence[Data]) -> None:
        self.inner.put(key, parts)
        self._log("put", key, sum(memoryview(part).nbytes for part in parts))

    def get(self, key: str, span: Span | None = None) -> bytes:
        data = self.inner.get(key, span)
        self._log("get", key, len(data), span)
        return data

    def head(self, key: str) -> int:
        size = self.inner.head(key)
        self._log("head", key)
        return size

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        # Logged when asked: what a listing must follow, it must follow from its beginning.
        self._log("list", prefix)
        return self.inner.list(prefix)

    def delete(self, key: str) -> None:
        self.inner.delete(key)
        self._log("delete", key)

    def barrier(self) -> None:
        self.inner.barrier()
        self._log("barrier")

    def close(self) -> None:
        self.inner.close()

    def _log(self, verb: str, key: str = "", size: int = 0, span: Span | None = None) -> None:
        with self._lock:
            self.calls.append(Call(verb, key, size, span))


def outline(calls: Sequence[Call], *, verbs: Sequence[str] = ("put", "delete", "barrier")) -> list[str]:
    """The order of work in short, repeats folded: `["put packs", "barrier", "put index", …]`."""
    lines: list[str] = []
    for call in calls:
        if call.verb in verbs:
            line = f"{call.verb} {call.folder}".rstrip()
            if not lines or lines[-1] != line:
                lines.append(line)
    return lines


def positions(calls: Sequence[Call], wanted: Callable[[Call], bool]) -> list[int]:
    return [number for number, call in enumerate(calls) if wanted(call)]


def assert_barrier_between(
    calls: Sequence[Call], earlier: Callable[[Call], bool], later: Callable[[Call], bool]
) -> None:
    """Every `later` call must have a barrier between itself and every `earlier` call before it; both must occur."""
    first, second = positions(calls, earlier), positions(calls, later)
    assert first and second, "the calls to compare do not occur at all"
    barriers = positions(calls, lambda call: call.verb == "barrier")
    for after in second:
        for before in (number for number in first if number < after):
            assert any(before < barrier < after for barrier in barriers), (
                f"no barrier between {calls[before]} (call {before}) and {calls[after]} (call {after})"
            )
