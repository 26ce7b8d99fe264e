"""What every object store must do. A backend's test is a subclass with a `store` fixture."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from dedupstore.errors import ObjectNotFound, StoreError
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import Data, Span

BAD_KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.b", "a b", "a\0b", "ä", "tmp/a", "a" * 600]


class StoreContract:
    """Subclasses give a fixture `store`: an empty store, ready for use."""

    def test_an_object_reads_back_as_the_concatenation_of_its_parts(self, store: ObjectStore) -> None:
        parts: list[Data] = [b"one", bytearray(b"two"), b"", memoryview(b"xthreex")[1:6]]

        store.put("packs/7f/a.d1", parts)

        assert store.get("packs/7f/a.d1") == b"onetwothree"
        assert store.head("packs/7f/a.d1") == 11

    def test_an_object_of_very_many_parts_is_whole(self, store: ObjectStore) -> None:
        parts = [bytes([number % 251]) * (number % 7) for number in range(5000)]

        store.put("index/many", parts)

        assert store.get("index/many") == b"".join(parts)

    def test_parts_of_wider_items_are_taken_as_bytes(self, store: ObjectStore) -> None:
        store.put("index/wide", [memoryview(b"abcdefgh").cast("I")])

        assert store.get("index/wide") == b"abcdefgh"

    def test_an_object_may_be_empty(self, store: ObjectStore) -> None:
        store.put("packs/-begin", [])

        assert store.get("packs/-begin") == b""
        assert store.head("packs/-begin") == 0
        assert list(store.list("packs/")) == [ObjectInfo("packs/-begin", 0)]

    @pytest.mark.parametrize("span", [Span(0, 10), Span(0, 1), Span(9, 1), Span(3, 4), Span(10, 0), Span(0, 0)])
    def test_a_span_gives_exactly_its_bytes(self, store: ObjectStore, span: Span) -> None:
        store.put("roots/a", [b"0123456789"])

        assert store.get("roots/a", span) == b"0123456789"[span.start : span.end]

    @pytest.mark.parametrize(
        "span", [Span(0, 11), Span(10, 1), Span(11, 0), Span(1 << 40, 5), Span(-1, 2), Span(2, -1)]
    )
    def test_a_span_past_the_object_is_an_error_and_never_short(self, store: ObjectStore, span: Span) -> None:
        store.put("roots/a", [b"0123456789"])

        with pytest.raises(StoreError) as caught:
            store.get("roots/a", span)

        assert not isinstance(caught.value, ObjectNotFound)
        assert caught.value.code == "store.short_object", "what tells damage of one object from trouble with the store"

    def test_what_was_never_put_is_not_found(self, store: ObjectStore) -> None:
        store.put("roots/a", [b"x"])

        for key in ("roots/b", "gone/b", "roots/a/b", "roots", "FORMAT"):
            with pytest.raises(ObjectNotFound):
                store.get(key)
            with pytest.raises(ObjectNotFound):
                store.get(key, Span(0, 1))
            with pytest.raises(ObjectNotFound):
                store.head(key)

    def test_a_listing_is_sorted_by_the_whole_key(self, store: ObjectStore) -> None:
        keys = [
            "a-b",
            "a.b/x",
            "a/-begin",
            "a/0",
            "a/00/1",
            "a/0a",
            "a/zz-end",
            "a0",
            "FORMAT",
            "a_b",
            "a/0-x",
            "b/c/d/e",
        ]
        for key in keys:
            store.put(key, [key.encode()])

        rows = list(store.list(""))

        assert rows == [ObjectInfo(key, len(key)) for key in sorted(keys)]

    def test_a_listing_below_a_prefix_holds_only_what_is_below(self, store: ObjectStore) -> None:
        for key in ("packs/00/a", "packs/01/b", "packs-x/c", "packsx", "index/d"):
            store.put(key, [b"1"])

        assert [row.key for row in store.list("packs/")] == ["packs/00/a", "packs/01/b"]
        assert [row.key for row in store.list("packs/01/")] == ["packs/01/b"]
        assert list(store.list("nothing/")) == []

    @pytest.mark.parametrize("prefix", ["packs", "/", "../", "packs//", "tmp/"])
    def test_a_prefix_that_is_no_folder_is_refused(self, store: ObjectStore, prefix: str) -> None:
        with pytest.raises(StoreError):
            list(store.list(prefix))

    def test_a_deleted_object_is_gone_and_deleting_it_again_is_no_error(self, store: ObjectStore) -> None:
        store.put("gc/plan-1", [b"x"])
        store.put("gc/plan-2", [b"y"])

        store.delete("gc/plan-1")
        store.delete("gc/plan-1")
        store.delete("never/was")

        with pytest.raises(ObjectNotFound):
            store.get("gc/plan-1")
        assert [row.key for row in store.list("")] == ["gc/plan-2"]

    def test_repeating_a_put_with_the_same_bytes_is_no_error(self, store: ObjectStore) -> None:
        store.put("packs/00/a", [b"same", b"bytes"])
        store.put("packs/00/a", [b"samebytes"])

        assert store.get("packs/00/a") == b"samebytes"

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_key_that_could_leave_the_store_is_refused(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(StoreError):
            store.put(key, [b"x"])
        with pytest.raises(StoreError):
            store.get(key)
        with pytest.raises(StoreError):
            store.head(key)
        with pytest.raises(StoreError):
            store.delete(key)
        assert list(store.list("")) == []

    def test_a_put_whose_parts_fail_leaves_nothing(self, store: ObjectStore) -> None:
        with pytest.raises(TypeError):
            store.put("roots/a", [b"good", "not bytes"])  # type: ignore[list-item]

        assert list(store.list("")) == []

    def test_everything_put_is_there_after_a_barrier(self, store: ObjectStore) -> None:
        store.barrier()
        for number in range(10):
            store.put(f"packs/{number:02x}/p", [b"x" * number])
        store.barrier()
        store.barrier()

        assert [row.size for row in store.list("packs/")] == list(range(10))

    def test_many_threads_may_use_it_at_once(self, store: ObjectStore) -> None:
        def work(number: int) -> None:
            key = f"packs/{number % 8:02x}/{number:04x}"
            store.put(key, [number.to_bytes(4, "big"), bytes(1000)])
            if number % 10 == 0:
                store.barrier()
            assert store.get(key, Span(0, 4)) == number.to_bytes(4, "big")
            if number % 3 == 0:
                store.delete(key)
            store.put("roots/shared", [b"the same from all"])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(120)))

        keys = [row.key for row in store.list("packs/")]
        assert keys == sorted(f"packs/{number % 8:02x}/{number:04x}" for number in range(120) if number % 3)

    def test_the_url_is_not_empty(self, store: ObjectStore) -> None:
        assert store.url
