import pytest

from dedupstore.errors import ObjectNotFound
from dedupstore.storage.memory import MemoryStore
from dedupstore.storage.meter import MeteredStore
from dedupstore.types import Span
from tests.storage.contract import StoreContract


class TestMeteredStore(StoreContract):
    @pytest.fixture
    def store(self) -> MeteredStore:
        return MeteredStore(MemoryStore())


def test_operations_rows_and_bytes_are_counted_by_verb() -> None:
    store = MeteredStore(MemoryStore())

    store.put("packs/a", [b"12345", b"678"])
    store.put("packs/b", [b""])
    store.get("packs/a", Span(2, 3))
    store.get("packs/a")
    store.head("packs/a")
    list(store.list("packs/"))
    store.barrier()
    store.delete("packs/b")

    usage = store.usage()
    assert usage.operations == {"put": 2, "get": 2, "head": 1, "list": 1, "barrier": 1, "delete": 1}
    assert (usage.bytes_written, usage.bytes_read, usage.rows_listed) == (8, 11, 2)


def test_a_failed_operation_counts_but_moves_no_bytes() -> None:
    store = MeteredStore(MemoryStore())

    with pytest.raises(ObjectNotFound):
        store.get("packs/a")

    assert store.usage().operations["get"] == 1
    assert store.usage().bytes_read == 0


def test_a_listing_given_up_early_counts_the_rows_it_gave() -> None:
    store = MeteredStore(MemoryStore())
    for name in "abc":
        store.put(f"packs/{name}", [b"1"])

    rows = store.list("packs/")
    next(rows)
    rows.close()  # type: ignore[attr-defined]

    assert store.usage().rows_listed == 1
