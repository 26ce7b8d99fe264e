"""Snapshot records and commit markers come back as they were; anything else is damaged, or of a newer dedup."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedupstore.errors import CorruptObject, RepositoryTooNew
from dedupstore.model.snapshot import Commit, Snapshot, Statistics
from dedupstore.model.wire import pack, unpack_map
from dedupstore.types import ChunkId, SnapshotId

SNAPSHOT = Snapshot(
    id=SnapshotId(bytes(range(16))),
    run=bytes(16),
    source="site",
    kind="files",
    trigger="manual",
    host="host",
    user="user",
    start_ns=1_700_000_000_000_000_000,
    end_ns=1_700_000_001_000_000_000,
    root=ChunkId(bytes(32)),
    parent=SnapshotId(bytes(16)),
    tags=("daily", "before upgrade"),
    note="a note",
    origins=((b"site", b"/srv/site"), (b"\xff", b"/srv/\xff")),
    chunker=(65536, 1, 262144, 16384),
    tool="dedup 0.1",
    statistics=Statistics(files=3, bytes_total=1000),
    details=(("database", "shop"),),
)
TEXTS = st.text(max_size=40)
TIMES = st.integers(0, 2**63 - 1)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    return Snapshot(
        id=SnapshotId(draw(st.binary(min_size=16, max_size=16))),
        run=draw(st.binary(min_size=16, max_size=16)),
        source=draw(TEXTS),
        kind=draw(TEXTS),
        trigger=draw(TEXTS),
        host=draw(TEXTS),
        user=draw(TEXTS),
        start_ns=draw(TIMES),
        end_ns=draw(TIMES),
        root=ChunkId(draw(st.binary(min_size=32, max_size=32))),
        parent=draw(st.none() | st.binary(min_size=16, max_size=16).map(SnapshotId)),
        tags=tuple(draw(st.lists(TEXTS, max_size=4))),
        note=draw(TEXTS),
        origins=tuple(draw(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=3))),
        chunker=tuple(draw(st.lists(st.integers(0, 2**32), max_size=4))),
        tool=draw(TEXTS),
        statistics=Statistics(**{field.name: draw(st.integers(0, 2**60)) for field in fields(Statistics)}),
        details=tuple(draw(st.lists(st.tuples(TEXTS, TEXTS), max_size=3))),
    )


@given(snapshots())
def test_a_record_comes_back_as_it_was_and_has_one_encoding(snapshot: Snapshot) -> None:
    data = snapshot.encode()

    found = Snapshot.decode(data)

    assert found == snapshot
    assert found.encode() == data


@given(snapshots(), st.data())
def test_mutated_bytes_of_a_record_raise_nothing_but_the_two_errors(snapshot: Snapshot, draw: st.DataObject) -> None:
    data = bytearray(snapshot.encode())
    for _ in range(draw.draw(st.integers(1, 3))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))

    try:
        found = Snapshot.decode(bytes(data))
    except (CorruptObject, RepositoryTooNew):
        return
    assert len(found.id) == 16 and len(found.root) == 32


@given(st.binary(min_size=32, max_size=32), TIMES, st.data())
def test_mutated_bytes_of_a_marker_raise_nothing_but_the_two_errors(
    hash_: bytes, time: int, draw: st.DataObject
) -> None:
    commit = Commit(record_hash=hash_, time_ns=time)
    data = bytearray(commit.encode())
    assert Commit.decode(bytes(data)) == commit
    data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))

    try:
        assert Commit.decode(bytes(data)) != commit
    except (CorruptObject, RepositoryTooNew):
        pass


def changed(**changes: Any) -> bytes:
    row: dict[str, Any] = {**unpack_map(SNAPSHOT.encode()), **changes}
    return pack({key: row[key] for key in sorted(row) if row[key] is not ...})


@pytest.mark.parametrize("field", sorted(unpack_map(SNAPSHOT.encode()).keys() - {"v", "parent"}))
def test_every_field_must_be_there_and_of_its_type(field: str) -> None:
    for value in (..., [{}], True):
        with pytest.raises(CorruptObject):
            Snapshot.decode(changed(**{field: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": bytes(15)},
        {"run": bytes(17)},
        {"root": bytes(31)},
        {"root": "r" * 32},
        {"parent": bytes(15)},
        {"parent": "p" * 16},
        {"start": -1},
        {"end": 2**63},
        {"host": b"host"},
        {"note": "n" * 65_537},
        {"tags": [1]},
        {"chunker": ["1"]},
        {"chunker": [True]},
        {"origins": [[b"a"]]},
        {"origins": [["a", "b"]]},
        {"details": [[b"a", b"b"]]},
        {"details": [["a", "b", "c"]]},
        {"statistics": {"files": "3"}},
        {"statistics": {"files": True}},
        {"statistics": []},
        {"unknown": 1.5},
    ],
    ids=str,
)
def test_a_bent_record_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CorruptObject):
        Snapshot.decode(changed(**changes))


@pytest.mark.parametrize("version", [0, 2, None, ..., "1", True])
def test_a_record_of_another_version_says_that_it_is_newer(version: Any) -> None:
    with pytest.raises(RepositoryTooNew):
        Snapshot.decode(changed(v=version))
    with pytest.raises(RepositoryTooNew):
        Commit.decode(
            pack(
                {key: value for key, value in {"hash": bytes(32), "time": 0, "v": version}.items() if value is not ...}
            )
        )


def test_an_unknown_feature_says_so_and_an_unknown_field_or_number_is_ignored() -> None:
    with pytest.raises(RepositoryTooNew, match="future"):
        Snapshot.decode(changed(features=["future"]))

    assert Snapshot.decode(changed(unknown=[1], statistics={"bytes_total": 1000, "files": 3, "moons": 2})) == SNAPSHOT


def test_zeros_are_not_written_into_statistics() -> None:
    assert Statistics().encode() == {}
    assert replace(SNAPSHOT, statistics=Statistics()) == Snapshot.decode(changed(statistics={}))


def test_the_logical_time_is_the_start() -> None:
    assert SNAPSHOT.time_ns == SNAPSHOT.start_ns
