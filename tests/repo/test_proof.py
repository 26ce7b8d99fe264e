"""What a name proves without a key, object by object."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.errors import CorruptObject
from dedupstore.model.mark import NOTE, Mark
from dedupstore.repo import layout
from dedupstore.repo.gcplan import Done, put_done
from dedupstore.repo.proof import PROVEN, prove, proving
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import RepositoryId
from tests.support.repositories import make_tree, new_repository, take


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], RepositoryId]:
    store = MemoryStore()
    tree: Path = make_tree(tmp_path_factory.mktemp("proof") / "tree")
    with new_repository(store) as opened:
        snapshot = take(opened, tree).snapshot
        assert snapshot is not None
        opened.catalog.add_mark(snapshot.id, Mark(kind=NOTE, time_ns=1, text="proven"))
        put_done(opened.store, opened.keyring, Done(packs=(), creator="test", time_ns=1))
        return dict(store.objects), opened.id


def test_every_object_of_a_repository_is_what_its_name_says(
    repository: tuple[dict[str, bytes], RepositoryId],
) -> None:
    objects, identifier = repository

    assert len(objects) > 20
    for key, data in objects.items():
        prove(key, data, identifier)


def test_a_flipped_bit_anywhere_is_noticed_where_the_name_carries_a_hash(
    repository: tuple[dict[str, bytes], RepositoryId],
) -> None:
    objects, identifier = repository
    for key, data in objects.items():
        if key.startswith(PROVEN) and key not in layout.SENTINELS:
            for at in (0, len(data) // 2, len(data) - 1):
                flipped = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                with pytest.raises(CorruptObject):
                    prove(key, flipped, identifier)
                with pytest.raises(CorruptObject):
                    list(proving(key, [flipped[:at], flipped[at:]]))
            assert b"".join(proving(key, [data[:100], data[100:]])) == data


def test_objects_of_another_repository_or_under_another_name_are_refused(
    repository: tuple[dict[str, bytes], RepositoryId],
) -> None:
    objects, identifier = repository
    other = RepositoryId(bytes(16))
    for prefix in (layout.KEYS, layout.ROOTS, layout.COMMITS, layout.MARKS, layout.GC):
        key = next(key for key in objects if key.startswith(prefix) and key not in layout.SENTINELS)
        with pytest.raises(CorruptObject):
            prove(key, objects[key], other)
        with pytest.raises(CorruptObject):
            prove(key, objects[key][:50], identifier)
    root, commit = (next(key for key in objects if key.startswith(prefix) and "-" not in key and "zz" not in key)
                    for prefix in (layout.ROOTS, layout.COMMITS))  # fmt: skip
    with pytest.raises(CorruptObject):
        prove(root, objects[commit], identifier)
    with pytest.raises(CorruptObject):
        prove(layout.plan_key(bytes(16)), objects[commit], identifier)
    for stranger in ("holiday.jpg", "packs/ff/whatever", "parity/00/x"):
        with pytest.raises(CorruptObject):
            prove(stranger, b"", identifier)
