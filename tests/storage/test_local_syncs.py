"""Calls that fail and syncs in a directory: every failed call is a store error, and what a barrier promises is on disk."""

import errno
import os
import threading
from pathlib import Path

import pytest

from dedupstore.errors import StoreError, StoreFull, StoreReadOnly
from dedupstore.storage.directories import SYNCS
from dedupstore.storage.local import LocalStore
from dedupstore.storage.system import System
from tests.support.faults import FaultySystem


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A store as `create` makes it, without the 256 folders for packs: they only cost time here."""
    path = str(tmp_path / "store")
    os.makedirs(f"{path}/tmp")
    return path


def temporary_files(root: str) -> list[str]:
    return os.listdir(f"{root}/tmp")


# Failing disks


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EROFS, StoreReadOnly),
        (errno.EACCES, StoreReadOnly),
        (errno.EPERM, StoreReadOnly),
        (errno.EIO, StoreError),
        (errno.ENAMETOOLONG, StoreError),
    ],
)
@pytest.mark.parametrize("call", ["open", "writev", "fdatasync", "close", "link", "mkdir"])
def test_every_failing_call_of_a_put_is_a_store_error_and_leaves_nothing(
    root: str, call: str, number: int, expected: type[StoreError]
) -> None:
    system = FaultySystem(always={call: number} | ({"rename": number} if call == "link" else {}))
    store = LocalStore(root, system=system)

    with pytest.raises(expected) as caught:
        store.put("new/a", [b"x"])

    assert type(caught.value) is expected
    assert caught.value.why
    assert temporary_files(root) == []
    assert list(LocalStore(root).list("")) == []
    assert store._directories._open == {}


def test_a_failed_sync_is_answered_by_one_rewrite_under_another_name(root: str) -> None:
    class Names(FaultySystem):
        def __init__(self) -> None:
            super().__init__({("fdatasync", 0): errno.EIO})
            self.created: list[str] = []

        def open(self, path: str, flags: int, mode: int = 0o600) -> int:
            if flags & os.O_CREAT:
                self.created.append(path)
            return super().open(path, flags, mode)

    system = Names()

    LocalStore(root, system=system).put("roots/a", [b"x" * 5000])

    assert LocalStore(root).get("roots/a") == b"x" * 5000
    assert len(set(system.created)) == 2
    assert system.calls["fdatasync"] == 2
    assert temporary_files(root) == []


@pytest.mark.parametrize("call", ["fdatasync", "close"])
def test_a_second_failed_sync_fails_the_put(root: str, call: str) -> None:
    system = FaultySystem(always={call: errno.EIO})

    with pytest.raises(StoreError):
        LocalStore(root, system=system).put("roots/a", [b"x"])

    assert system.calls["fdatasync"] == 2
    assert temporary_files(root) == []


def test_a_failed_barrier_stays_failed(root: str) -> None:
    store = LocalStore(root, system=FaultySystem({("fsync", 1): errno.EIO}))
    store.put("packs/00/a", [b"x"])

    with pytest.raises(StoreError):
        store.barrier()
    # The kernel would say yes to a second fsync without having written anything.
    with pytest.raises(StoreError):
        store.barrier()
    store.put("packs/00/b", [b"x"])
    with pytest.raises(StoreError):
        store.barrier()


def put_in_folders(store: LocalStore, count: int) -> None:
    for number in range(count):
        store.put(f"packs/{number:02x}/a", [b"x"])


def test_a_barrier_over_many_folders_syncs_several_at_once(root: str) -> None:
    class Together(System):
        meeting = threading.Barrier(SYNCS)

        def fsync(self, descriptor: int) -> None:
            self.meeting.wait(60)
            super().fsync(descriptor)

    store = LocalStore(root, system=Together())
    put_in_folders(store, 2 * SYNCS - 2)  # the root and packs come on top

    store.barrier()

    assert store._directories._open == {}


@pytest.mark.parametrize("at", [0, 1, SYNCS, 2 * SYNCS + 1])
def test_one_failed_sync_of_many_fails_the_barrier_and_every_later_one(root: str, at: int) -> None:
    system = FaultySystem({("fsync", at): errno.EIO})
    store = LocalStore(root, system=system)
    put_in_folders(store, 2 * SYNCS)

    with pytest.raises(StoreError):
        store.barrier()

    syncs = system.calls["fsync"]
    with pytest.raises(StoreError):
        store.barrier()
    assert system.calls["fsync"] == syncs


def test_a_barrier_that_fails_returns_when_no_sync_is_under_way(root: str) -> None:
    class OneFails(System):
        def __init__(self) -> None:
            self.failed, self.running = threading.Event(), 0
            self.lock, self.first = threading.Lock(), True

        def fsync(self, descriptor: int) -> None:
            with self.lock:
                first, self.first = self.first, False
                self.running += 1
            try:
                if first:
                    raise OSError(errno.EIO, "injected")
                assert self.failed.wait(60)
                super().fsync(descriptor)
            finally:
                with self.lock:
                    self.running -= 1
                self.failed.set()

    system = OneFails()
    store = LocalStore(root, system=system)
    put_in_folders(store, 2 * SYNCS)

    with pytest.raises(StoreError):
        store.barrier()

    assert system.running == 0


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_directories_is_used_and_remembered(root: str, number: int) -> None:
    store = LocalStore(root, system=FaultySystem(always={"fsync": number}))
    assert not store.weak_durability
    store.put("packs/00/a", [b"x"])

    store.barrier()

    assert store.weak_durability


def test_a_barrier_waits_for_a_barrier_that_is_under_way(root: str) -> None:
    class Slow(System):
        def __init__(self) -> None:
            self.syncing, self.go_on = threading.Event(), threading.Event()
            self.synced = 0

        def fsync(self, descriptor: int) -> None:
            self.syncing.set()
            assert self.go_on.wait(600)
            super().fsync(descriptor)
            self.synced += 1

    system = Slow()
    store = LocalStore(root, system=system)
    store.put("packs/00/a", [b"x"])
    first = threading.Thread(target=store.barrier)
    first.start()
    assert system.syncing.wait(600)
    seen: list[int] = []

    def wait_for_the_barrier() -> None:
        store.barrier()
        seen.append(system.synced)

    second = threading.Thread(target=wait_for_the_barrier)
    second.start()
    second.join(timeout=0.05)
    assert second.is_alive() and not seen

    system.go_on.set()
    first.join()
    second.join()

    assert seen == [3]  # the root, packs and packs/00


def test_a_put_during_a_barrier_belongs_to_the_next_one(root: str) -> None:
    class PutsMeanwhile(System):
        def __init__(self) -> None:
            self.syncs = 0

        def fsync(self, descriptor: int) -> None:
            self.syncs += 1
            if self.syncs == 1:
                store.put("packs/00/b", [b"y"])
            super().fsync(descriptor)

    system = PutsMeanwhile()
    store = LocalStore(root, system=system)
    store.put("packs/00/a", [b"x"])

    store.barrier()
    store.barrier()

    # The put came while the root was synced, before packs and packs/00 were: only the root is synced again.
    assert system.syncs == 4


def test_running_out_of_descriptors_is_worth_a_second_try(root: str) -> None:
    with pytest.raises(StoreError) as caught:
        LocalStore(root, system=FaultySystem(always={"open": errno.EMFILE})).get("roots/a")

    assert caught.value.transient
