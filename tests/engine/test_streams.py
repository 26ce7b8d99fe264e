"""A snapshot of streams: what its record says of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dedupstore.cancel import CancelToken
from dedupstore.engine.snapshot import SnapshotPlan, SnapshotResult, take_snapshot
from dedupstore.events import NullListener
from dedupstore.repo.repository import Repository
from dedupstore.sources.base import NamedStream
from dedupstore.storage.memory import MemoryStore
from tests.support.repositories import PLAN, new_repository


class _Text:
    def __init__(self, text: bytes) -> None:
        self._text = text

    def readinto(self, view: memoryview, /) -> int:
        count = min(len(view), len(self._text))
        view[:count], self._text = self._text[:count], self._text[count:]
        return count


def _taken(repository: Repository, plan: SnapshotPlan) -> SnapshotResult:
    return take_snapshot(repository, plan, listener=NullListener(), cancel=CancelToken())


def test_a_snapshot_is_as_old_as_the_streams_that_were_open_before() -> None:
    with new_repository(MemoryStore()) as repository:
        now_ns = repository.clock.now_ns()
        streams = [NamedStream(name=b"dump.sql", stream=_Text(b"of a while ago"))]

        taken = _taken(repository, replace(PLAN, streams=streams, began_ns=now_ns - 10**9))

        assert taken.snapshot is not None
        assert taken.snapshot.start_ns == now_ns - 10**9
        assert taken.snapshot.end_ns >= now_ns


def test_what_a_source_says_of_itself_is_asked_when_it_was_read() -> None:
    said: list[tuple[str, str]] = [("given", "before")]

    def streams() -> Iterator[NamedStream]:
        yield NamedStream(name=b"dump.sql", stream=_Text(b"text"))
        said.append(("server", "11.4"))

    with new_repository(MemoryStore()) as repository:
        plan = replace(PLAN, streams=streams(), details=(("own", "detail"),), found=lambda: tuple(said))

        taken = _taken(repository, plan)

        assert taken.snapshot is not None
        assert taken.snapshot.details == (("own", "detail"), ("given", "before"), ("server", "11.4"))
