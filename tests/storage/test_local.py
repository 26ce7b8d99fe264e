import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedupstore.errors import ObjectNotFound, Refused, StoreError, StoreFull, StoreMissing
from dedupstore.storage.local import LARGEST_WHOLE_GET_BYTES, LocalStore
from dedupstore.storage.system import System
from dedupstore.types import Span
from tests.storage.contract import StoreContract
from tests.support.faults import FaultySystem

DAY_NS = 24 * 3600 * 10**9


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A store as `create` makes it, without the 256 folders for packs: they only cost time here."""
    path = str(tmp_path / "store")
    os.makedirs(f"{path}/tmp")
    return path


def temporary_files(root: str) -> list[str]:
    return os.listdir(f"{root}/tmp")


class TestLocalStore(StoreContract):
    @pytest.fixture
    def store(self, root: str) -> Iterator[LocalStore]:
        store = LocalStore(root)
        yield store
        store.barrier()
        assert temporary_files(root) == []
        assert store._directories._open == {}  # no descriptor outlives its barrier
        store.close()


class TestLocalStoreWithoutHardLinks(StoreContract):
    @pytest.fixture
    def store(self, root: str) -> Iterator[LocalStore]:
        yield LocalStore(root, system=FaultySystem(always={"link": errno.EPERM}))
        assert temporary_files(root) == []


class TestLocalStoreWithShortWrites(StoreContract):
    @pytest.fixture
    def store(self, root: str) -> LocalStore:
        return LocalStore(root, system=FaultySystem(most_written=3))


# Creating


def test_create_makes_a_private_directory_with_parents_and_pack_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "parents" / "store"

    store = LocalStore.create(str(path))

    assert path.stat().st_mode & 0o777 == 0o700
    assert len(list((path / "packs").iterdir())) == 256
    assert list(store.list("")) == []


def test_create_completes_what_an_interrupted_create_left(tmp_path: Path) -> None:
    for at in range(258):
        path = str(tmp_path / f"store-{at}")
        if at % 16 == 0 or at < 4:
            with pytest.raises(StoreError):
                LocalStore.create(path, system=FaultySystem({("mkdir", at): errno.EIO}))

            LocalStore.create(path)

            assert len(os.listdir(f"{path}/packs")) == 256


def test_create_takes_an_empty_mount_point(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()

    assert list(LocalStore.create(str(tmp_path)).list("")) == []


def test_create_refuses_a_directory_with_other_content(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")

    with pytest.raises(Refused, match="cannot create"):
        LocalStore.create(str(tmp_path))

    assert os.listdir(tmp_path) == ["letter.txt"]


def test_create_below_a_file_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError) as caught:
        LocalStore.create(str(tmp_path / "file" / "store"))

    assert "Not a directory" in caught.value.why


# Missing and unmounted disks


def test_every_operation_on_a_missing_root_says_that_the_disk_may_not_be_mounted(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "missing"))
    operations: list[Callable[[], object]] = [
        lambda: store.get("FORMAT"),
        lambda: store.head("FORMAT"),
        lambda: list(store.list("")),
        lambda: list(store.list("packs/")),
        lambda: store.put("FORMAT", [b"x"]),
        lambda: store.delete("FORMAT"),
        lambda: store.delete("packs/00/a"),
        lambda: store.free_bytes(),
        lambda: store.sweep_temporary(DAY_NS),
    ]

    for operation in operations:
        with pytest.raises(StoreMissing, match="no repository at") as caught:
            operation()
        assert "is the disk mounted?" in caught.value.why
        # Absence of the disk must never look like absence of an object.
        assert not isinstance(caught.value, ObjectNotFound)
    assert not (tmp_path / "missing").exists()


def test_the_empty_mount_point_of_an_unmounted_disk_is_not_filled(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path))

    with pytest.raises(StoreMissing, match="no repository at"):
        store.put("packs/00/a", [b"x"])

    assert os.listdir(tmp_path) == []


def test_put_makes_folders_that_a_copying_tool_dropped(root: str) -> None:
    store = LocalStore(root)
    store.put("FORMAT", [b"1"])
    subprocess.run(["find", root, "-mindepth", "1", "-type", "d", "-empty", "-delete"], check=True)
    assert os.listdir(root) == ["FORMAT"]

    store.put("packs/00/a", [b"x"])
    store.barrier()

    assert [row.key for row in store.list("")] == ["FORMAT", "packs/00/a"]


# Files that are not ours


def test_links_pipes_and_foreign_names_are_not_objects(root: str, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("outside")
    store = LocalStore(root)
    store.put("roots/a", [b"x"])
    os.symlink(tmp_path / "outside", f"{root}/roots/link")
    os.mkfifo(f"{root}/roots/pipe")
    for name in (".nfs0001", "a b", "x~", ".hidden"):
        Path(f"{root}/roots/{name}").write_text("foreign")
    Path(f"{root}/tmp/leftover").write_text("unfinished")

    assert [row.key for row in store.list("")] == ["roots/a"]
    for key in ("roots/link", "roots/pipe"):
        with pytest.raises(StoreError):
            store.get(key)
        with pytest.raises(StoreError):
            store.put(key, [b"outside"])
    assert (tmp_path / "outside").read_text() == "outside"


def test_a_folder_that_is_a_link_makes_the_listing_fail_instead_of_shrinking_it(root: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", f"{root}/index")

    with pytest.raises(StoreError):
        list(LocalStore(root).list(""))


def test_an_object_of_another_size_is_never_replaced(root: str) -> None:
    store = LocalStore(root)
    store.put("roots/a", [b"first"])

    for system in (System(), FaultySystem(always={"link": errno.EOPNOTSUPP})):
        with pytest.raises(StoreError, match="roots/a") as caught:
            LocalStore(root, system=system).put("roots/a", [b"another"])
        assert caught.value.code == "store.conflict"

    assert store.get("roots/a") == b"first"
    assert temporary_files(root) == []


def test_a_huge_file_is_not_read_into_memory(root: str) -> None:
    with open(f"{root}/FORMAT", "wb") as file:
        file.truncate(LARGEST_WHOLE_GET_BYTES + 1)
    store = LocalStore(root)

    with pytest.raises(StoreError, match="FORMAT"):
        store.get("FORMAT")

    assert store.get("FORMAT", Span(LARGEST_WHOLE_GET_BYTES, 1)) == b"\0"


def test_a_file_that_shrinks_while_it_is_read_is_an_error(root: str) -> None:
    class Shrinking(System):
        def pread(self, descriptor: int, length: int, offset: int) -> bytes:
            return super().pread(descriptor, min(length, 4), offset) if offset < 8 else b""

    LocalStore(root).put("roots/a", [b"0123456789"])

    with pytest.raises(StoreError) as caught:
        LocalStore(root, system=Shrinking()).get("roots/a")

    assert caught.value.code == "store.short_object"
    assert LocalStore(root, system=Shrinking()).get("roots/a", Span(0, 8)) == b"01234567"


def test_objects_are_private_files(root: str) -> None:
    LocalStore(root).put("new/deep/a", [b"x"])

    assert os.stat(f"{root}/new/deep/a").st_mode & 0o777 == 0o600
    assert os.stat(f"{root}/new/deep").st_mode & 0o777 == 0o700


def test_reading_without_permission_names_the_permission(root: str) -> None:
    LocalStore(root).put("roots/a", [b"x"])
    store = LocalStore(root, system=FaultySystem(always={"open": errno.EACCES}))

    with pytest.raises(StoreError) as caught:
        store.get("roots/a")

    assert caught.value.code == "store.permission"
    assert not caught.value.transient


# Housekeeping


def test_only_leftovers_older_than_a_day_are_swept(root: str) -> None:
    store = LocalStore(root)
    now_ns = 1_700_000_000 * 10**9
    for name, age_ns in (("old", DAY_NS + 1), ("young", DAY_NS - 10**9), ("future", -DAY_NS)):
        Path(f"{root}/tmp/{name}").write_text(name)
        os.utime(f"{root}/tmp/{name}", ns=(now_ns - age_ns, now_ns - age_ns))

    assert store.sweep_temporary(now_ns) == 1

    assert sorted(temporary_files(root)) == ["future", "young"]


def test_free_bytes_is_what_the_disk_reports_for_those_who_are_not_root(root: str) -> None:
    class Disk(System):
        def statvfs(self, path: str) -> os.statvfs_result:
            assert path == root
            # f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_favail, f_flag, f_namemax
            return os.statvfs_result((1 << 20, 4096, 1000, 500, 400, 90, 80, 70, 0, 255))

    assert LocalStore(root, system=Disk()).free_bytes() == 400 * 4096


def test_the_url_is_absolute_and_survives_a_change_of_directory(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = LocalStore("store")
    store.put("FORMAT", [b"1"])

    monkeypatch.chdir("/")

    assert store.url == root
    assert store.get("FORMAT") == b"1"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[str]:
    """A tmpfs with room for 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mount = tmp_path / "disk"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", mount], capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount a tmpfs: {done.stderr.decode().strip()}")
    try:
        yield str(mount)
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_really_full_disk_is_store_full_and_deleting_makes_room(small_disk: str) -> None:
    store = LocalStore.create(f"{small_disk}/store")
    stored = 0
    while store.free_bytes() >= 110_000:
        store.put(f"packs/00/{stored:02x}", [bytes(100_000)])
        stored += 1
    with pytest.raises(StoreFull) as caught:
        store.put("packs/00/ee", [bytes(200_000)])

    assert "no space left" in caught.value.why
    assert "dedup prune" in caught.value.hints[0] and "forgetting takes some kB itself" in caught.value.hints[1]
    assert temporary_files(store.url) == []
    assert [row.size for row in store.list("packs/")] == [100_000] * stored
    store.delete("packs/00/00")
    store.put("packs/00/ff", [bytes(100_000)])
    store.barrier()
    store.close()


def test_a_disk_that_goes_away_is_not_an_empty_one(small_disk: str) -> None:
    store = LocalStore.create(small_disk)
    store.put("roots/a", [b"x"])
    store.barrier()
    store.close()
    subprocess.run(["umount", small_disk], check=True)
    try:
        with pytest.raises(StoreMissing):
            store.put("roots/b", [b"y"])
        assert os.listdir(small_disk) == []
    finally:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", small_disk], check=True)
