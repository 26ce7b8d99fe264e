"""Trying again what failed in a way that may pass: a store around a store, with limits in tries and in time.

Waits grow from try to try and are drawn at random: clients that were turned away together must not come back together.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dedupstore.clock import Clock, SystemClock
from dedupstore.errors import ObjectNotFound, StoreError, StoreSilent
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.storage.versions import Lock, Version, Versions, versions_of
from dedupstore.types import Data, Span
from dedupstore.units import format_duration

Answer = TypeVar("Answer")

_ANY_KEY = "FORMAT"
"""Asked for to find out whether a store says anything at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When to give up. A store that has never answered is rather misspelled than busy, so it is given less."""

    tries: int = 10
    tries_without_any_answer: int = 4
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 20.0
    total_seconds: float = 240.0


class RetryingStore:
    """A store that repeats transient failures of `inner`. Every operation is safe to repeat: objects never change."""

    def __init__(
        self,
        inner: ObjectStore,
        *,
        patience: Patience | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.inner = inner
        self._patience = patience or Patience()
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._jitter = jitter
        self._answered = False

    @property
    def url(self) -> str:
        return self.inner.url

    def put(self, key: str, parts: Sequence[Data]) -> None:
        self._try(lambda: self.inner.put(key, parts))

    def get(self, key: str, span: Span | None = None) -> bytes:
        return self._try(lambda: self.inner.get(key, span))

    def head(self, key: str) -> int:
        return self._try(lambda: self.inner.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """A listing that broke off is begun anew; what was given already is not given again."""
        last = ""
        attempt = _Attempt(self)
        while True:
            try:
                for row in self.inner.list(prefix):
                    if row.key > last:
                        yield row
                        last = row.key
                self._answered = True
                return
            except StoreError as error:
                attempt.failed(error)

    def delete(self, key: str) -> None:
        self._try(lambda: self.inner.delete(key))

    def barrier(self) -> None:
        self._try(self.inner.barrier)

    def close(self) -> None:
        self.inner.close()

    def _answers(self) -> bool:
        """Whether it says anything at all of another object: then it is this one that cannot be had."""
        try:
            self.inner.head(_ANY_KEY)
        except ObjectNotFound:
            return True
        except StoreError as error:
            return not error.transient
        return True

    @property
    def versions(self) -> Versions | None:
        """Those of `inner`, asked as patiently as everything else."""
        inner = versions_of(self.inner)
        return None if inner is None else _RetryingVersions(inner, self)

    def _try(self, work: Callable[[], Answer]) -> Answer:
        attempt = _Attempt(self)
        while True:
            try:
                answer = work()
            except StoreError as error:
                attempt.failed(error)
            else:
                self._answered = True
                return answer


class _RetryingVersions:
    def __init__(self, inner: Versions, store: RetryingStore) -> None:
        self._inner = inner
        self._store = store

    def can_lock(self) -> bool:
        return self._store._try(self._inner.can_lock)

    def all_of(self, prefix: str) -> Iterator[Version]:
        """Begun anew where it broke off; what was given already is passed over, for versions only become more."""
        given: set[str] = set()
        last = ""
        attempt = _Attempt(self._store)
        while True:
            try:
                for version in self._inner.all_of(prefix):
                    if version.key > last:
                        given, last = set(), version.key
                    if version.key == last and version.id not in given:
                        given.add(version.id)
                        yield version
                return
            except StoreError as error:
                attempt.failed(error)

    def read(self, version: Version, span: Span | None = None) -> bytes:
        return self._store._try(lambda: self._inner.read(version, span))

    def lock_of(self, version: Version) -> Lock | None:
        return self._store._try(lambda: self._inner.lock_of(version))

    def lock(self, version: Version, lock: Lock) -> None:
        self._store._try(lambda: self._inner.lock(version, lock))


class _Attempt:
    """One operation and how often it has failed by now."""

    def __init__(self, store: RetryingStore) -> None:
        self._store = store
        self._began = store._clock.monotonic()
        self._tries = 0

    def failed(self, error: StoreError) -> None:
        """Wait before the next try; raise `error` where there is none, saying how often it was tried."""
        store, patience = self._store, self._store._patience
        if not error.transient:
            # Whatever else it says: somebody is there.
            store._answered = True
            raise error
        self._tries += 1
        if error.code != "store.unreachable":
            store._answered = True
        most = patience.tries if store._answered else patience.tries_without_any_answer
        spent = store._clock.monotonic() - self._began
        longest = min(patience.longest_wait_seconds, patience.first_wait_seconds * 2 ** (self._tries - 1))
        wait = longest * (0.5 + store._jitter() / 2)
        if self._tries >= most or spent + wait > patience.total_seconds:
            if self._tries > 1:
                error.why = f"{error.why} (tried {self._tries} times in {format_duration(spent)})"
            if not store._answers():
                raise StoreSilent(
                    error.message, why=error.why, hints=error.hints, code=error.code, transient=True
                ) from error
            raise error
        store._sleep(wait)
