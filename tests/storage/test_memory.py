import pytest

from dedupstore.errors import StoreError
from dedupstore.storage.memory import MemoryStore
from tests.storage.contract import StoreContract


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


def test_another_object_under_the_same_name_is_never_replaced_silently() -> None:
    store = MemoryStore()
    store.put("roots/a", [b"first"])

    with pytest.raises(StoreError, match="roots/a"):
        store.put("roots/a", [b"another"])

    assert store.get("roots/a") == b"first"
