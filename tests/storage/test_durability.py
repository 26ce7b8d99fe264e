"""What survives a power cut or a failing disk: the rules of a put checked over recorded file operations."""

import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from dedupstore.errors import StoreError
from dedupstore.storage.directories import SYNCS
from dedupstore.storage.local import LocalStore
from tests.support.crash import Act, CrashSimulator, RecordingSystem, durability_faults, read_tree
from tests.support.faults import FaultySystem

OBJECTS = {"packs/00/a": b"A" * 9000, "packs/01/b": b"B" * 300, "index/s": b"S" * 5000, "roots/r": b"R" * 700}


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A store as `create` makes it, without the 256 folders for packs: they only cost time here."""
    path = str(tmp_path / "store")
    os.makedirs(f"{path}/tmp")
    return path


def write_and_acknowledge(store: LocalStore, recorder: RecordingSystem) -> None:
    """Put all objects, with a promise after every second one and a delete at the end."""
    for number, (key, data) in enumerate(OBJECTS.items()):
        store.put(key, [data[:100], data[100:]])
        if number % 2:
            store.barrier()
            recorder.acknowledge(f"put {number}")
    store.delete("packs/01/b")
    store.barrier()
    recorder.acknowledge("deleted")


def promised(acknowledged: Sequence[str]) -> tuple[set[str], set[str]]:
    """The keys that must be there, and those that must not."""
    if "deleted" in acknowledged:
        return set(OBJECTS) - {"packs/01/b"}, {"packs/01/b"}
    if "put 3" in acknowledged:
        # The delete may have happened already, though not promised yet.
        return set(OBJECTS) - {"packs/01/b"}, set()
    return {"packs/00/a", "packs/01/b"} if acknowledged else set(), set()


def acknowledgements(recorder: RecordingSystem) -> tuple[str, ...]:
    return tuple(operation.path for operation in recorder.operations if operation.act is Act.ACKNOWLEDGE)


@pytest.mark.parametrize("without_links", [False, True])
def test_every_visible_name_follows_a_sync_of_its_file_and_every_promise_one_of_its_folder(
    root: str, without_links: bool
) -> None:
    system = FaultySystem(always={"link": errno.EPERM} if without_links else {}, most_written=4096)
    recorder = RecordingSystem(system)

    write_and_acknowledge(LocalStore(root, system=recorder), recorder)

    assert durability_faults(recorder.operations, root) == []


def test_a_promise_about_many_folders_follows_a_sync_of_each(root: str) -> None:
    recorder = RecordingSystem()
    store = LocalStore(root, system=recorder)

    for number in range(3 * SYNCS):
        store.put(f"packs/{number:02x}/a", [b"x"])
    store.barrier()
    recorder.acknowledge("all")

    synced = {operation.path for operation in recorder.operations if operation.act is Act.SYNC_DIRECTORY}
    assert len(synced) == 3 * SYNCS + 2
    assert durability_faults(recorder.operations, root) == []


def test_creating_a_store_is_durable_when_it_returns(tmp_path: Path) -> None:
    root = str(tmp_path / "parent" / "store")
    recorder = RecordingSystem()

    store = LocalStore.create(root, system=recorder)
    recorder.acknowledge("created")
    store.put("new/folder/a", [b"x"])
    store.barrier()
    recorder.acknowledge("put")

    assert durability_faults(recorder.operations, root) == []
    *_, final = CrashSimulator(recorder.operations, root).states(every=10_000)
    assert final.files == {"new/folder/a": b"x"}


@pytest.mark.parametrize("without_links", [False, True])
def test_after_a_crash_objects_are_whole_or_absent_and_promised_ones_are_there(root: str, without_links: bool) -> None:
    before = read_tree(root)
    recorder = RecordingSystem(FaultySystem(always={"link": errno.EPERM} if without_links else {}))
    write_and_acknowledge(LocalStore(root, system=recorder), recorder)

    states = list(CrashSimulator(recorder.operations, root, before).states(random_subsets=5))

    assert len(states) > 15
    assert {state.acknowledged for state in states} >= {(), ("put 1",), ("put 1", "put 3")}
    for state in states:
        objects = state.store().objects
        present, absent = promised(state.acknowledged)
        assert all(OBJECTS[key] == data for key, data in objects.items()), state.label
        assert present <= set(objects), state.label
        assert not absent & set(objects), state.label


def test_a_crash_state_on_disk_is_a_store_that_goes_on(root: str, tmp_path: Path) -> None:
    before = read_tree(root)
    recorder = RecordingSystem()
    write_and_acknowledge(LocalStore(root, system=recorder), recorder)

    for number, state in enumerate(CrashSimulator(recorder.operations, root, before).states(every=7)):
        again = str(tmp_path / f"state-{number}")
        state.write_to(again)
        store = LocalStore(again)
        assert {row.key: row.size for row in store.list("")} == {
            key: len(data) for key, data in state.store().objects.items()
        }
        for key, data in OBJECTS.items():
            store.put(key, [data])
            assert store.get(key) == data
        store.barrier()
        store.close()


def test_concurrent_puts_and_barriers_keep_the_rules(root: str) -> None:
    recorder = RecordingSystem()
    store = LocalStore(root, system=recorder)

    with ThreadPoolExecutor(6) as pool:
        for number in range(60):
            pool.submit(store.put, f"packs/{number % 4:02x}/{number:02x}", [bytes(100)])
            if number % 7 == 0:
                pool.submit(store.barrier)
    store.barrier()
    recorder.acknowledge("all")

    assert durability_faults(recorder.operations, root) == []


class TestTheInstruments:
    """The linter and the simulator must notice a store that is careless."""

    def run(self, root: str, system: RecordingSystem) -> CrashSimulator:
        before = read_tree(root)
        store = LocalStore(root, system=system)
        store.put("roots/r", [OBJECTS["roots/r"]])
        store.barrier()
        system.acknowledge("put")
        return CrashSimulator(system.operations, root, before)

    def test_a_missing_file_sync_is_noticed(self, root: str) -> None:
        class Careless(RecordingSystem):
            def fdatasync(self, descriptor: int) -> None:
                pass

        recorder = Careless()
        states = list(self.run(root, recorder).states())

        assert any("before its bytes are synced" in fault for fault in durability_faults(recorder.operations, root))
        contents = {state.files["roots/r"] for state in states if "roots/r" in state.files}
        whole = OBJECTS["roots/r"]
        assert contents == {whole, b"", bytes(700), whole[:512], whole[:512] + bytes(188)}

    def test_a_missing_directory_sync_is_noticed(self, root: str) -> None:
        class Careless(RecordingSystem):
            def fsync(self, descriptor: int) -> None:
                pass

        recorder = Careless()
        states = list(self.run(root, recorder).states())

        assert any("no sync of its directory" in fault for fault in durability_faults(recorder.operations, root))
        assert any(state.acknowledged and "roots/r" not in state.files for state in states)

    def test_a_directory_opened_after_the_change_is_noticed(self, root: str) -> None:
        recorder = RecordingSystem()
        LocalStore(root, system=recorder).put("roots/r", [b"x"])
        for path in (f"{root}/roots", root):
            descriptor = recorder.open(path, os.O_RDONLY | os.O_DIRECTORY)
            recorder.fsync(descriptor)
            recorder.close(descriptor)
        recorder.acknowledge("put")

        assert len(durability_faults(recorder.operations, root)) == 2  # the new folder and the object in it


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "writev", "fdatasync", "close", "link", "fsync", "mkdir", "unlink", "lstat"])
def test_a_fault_at_any_file_operation_never_breaks_a_promise(tmp_path: Path, call: str, number: int) -> None:
    for at in count():
        path = str(tmp_path / f"store-{at}")
        os.makedirs(f"{path}/tmp")
        system = FaultySystem({(call, at): number})
        recorder = RecordingSystem(system)
        store = LocalStore(path, system=recorder)

        with suppress(StoreError):
            write_and_acknowledge(store, recorder)

        # Through another store: what any process finds.
        objects = {row.key: LocalStore(path).get(row.key) for row in LocalStore(path).list("")}
        present, absent = promised(acknowledgements(recorder))
        assert objects.items() <= OBJECTS.items()
        assert present <= set(objects)
        assert not absent & set(objects)
        assert durability_faults(recorder.operations, path) == []
        store.close()
        if not system.fired:
            assert acknowledgements(recorder) == ("put 1", "put 3", "deleted")
            break


def test_a_removed_tmp_folder_comes_back_without_a_promise_about_it(root: str) -> None:
    os.rmdir(f"{root}/tmp")
    Path(f"{root}/FORMAT").write_bytes(b"1")
    recorder = RecordingSystem()
    store = LocalStore(root, system=recorder)

    store.put("roots/r", [b"x"])
    store.barrier()
    recorder.acknowledge("put")

    assert durability_faults(recorder.operations, root) == []
