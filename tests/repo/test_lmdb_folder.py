"""Whose a local index is, what its file tells others, and the places that cannot hold one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.errors import CacheError, Refused
from dedupstore.repo import index_values as values
from dedupstore.repo.cache_folder import secure_folder
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.lmdb_index import LmdbIndex, drop_index, open_index, temporary_index
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import RepositoryId
from tests.support import index_process
from tests.support.dedup import PATIENCE_SECONDS
from tests.support.index_process import KEY, facts_of, fill, ids_of, read_everything, segment_of
from tests.support.packs import REPOSITORY, chunk_id
from tests.support.repositories import new_repository, open_repository

ALL = index_process.PACKS * index_process.CHUNKS
ROOT = Path(__file__).parents[2]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[LmdbIndex]:
    with open_index(tmp_path / "cache", REPOSITORY, KEY) as opened:
        yield opened


def test_an_index_under_another_key_or_of_another_repository_is_dropped(tmp_path: Path) -> None:
    fill(tmp_path, 0)
    with open_index(tmp_path, REPOSITORY, bytes([1]) * 32) as index:
        assert index.segments() == set()

    other = RepositoryId(bytes(16))
    os.rename(tmp_path / REPOSITORY.hex(), tmp_path / other.hex())
    with open_index(tmp_path, other, bytes([1]) * 32) as index:
        assert index.counts().packs == 0


def test_dropping_is_allowed_while_it_is_open(tmp_path: Path) -> None:
    with open_index(tmp_path, REPOSITORY, KEY) as old:
        old.apply(segment_of(0), facts_of(0))
        drop_index(tmp_path, REPOSITORY)

        with open_index(tmp_path, REPOSITORY, KEY) as new:
            assert new.segments() == set()
        assert read_everything(old, 0) == ALL


# The folder


def test_nothing_in_the_file_tells_a_length_a_name_or_a_key(tmp_path: Path) -> None:
    """Lengths are the thing to hide: they are what breaks the chunker's key."""
    lengths = [0xABCDE1 + number for number in range(16)]
    ids = [chunk_id(str(number)) for number in range(16)]
    record = BlockRecord(64, 4_000, sum(lengths), 1, ids, lengths, [])
    with open_index(tmp_path, REPOSITORY, KEY) as index:
        facts = facts_of(0)
        index.apply(segment_of(0), facts)
        index.put_directories([(ids[0][:20], b"a very private file name")])
        with index._writing() as writer:
            for key, value in index._block_items(9, [record]):
                writer.put(key, value, db=index._environment.dbs["blocks"])
            for entry in values.location_entries(9, [record]):
                writer.put(entry[:19], entry[values.ENTRY_VALUE], db=index._environment.dbs["chunks"])

    data = (tmp_path / REPOSITORY.hex() / "data.mdb").read_bytes()

    # Needles of five bytes and more: three would turn up in random bytes by themselves now and then.
    columns = [bytes(length >> shift & 0xFF for length in lengths) for shift in (16, 8, 0)]
    located = [position.to_bytes(2, "big") + length.to_bytes(3, "big") for position, length in enumerate(lengths)]
    assert b"private" not in data
    assert not any(needle in data for needle in columns + located)
    assert bytes(ids_of(0, 0)[0]) not in data


def test_a_cache_folder_is_made_private(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)

    for path in (tmp_path / "a" / "b", shared):
        open_index(path, REPOSITORY, KEY).close()
        assert path.stat().st_mode & 0o777 == 0o700
        assert (path / REPOSITORY.hex()).stat().st_mode & 0o777 == 0o700
        assert (path / REPOSITORY.hex() / "data.mdb").stat().st_mode & 0o077 == 0


def test_a_symlinked_cache_folder_is_refused(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    (real / REPOSITORY.hex()).symlink_to(tmp_path)

    for path in (tmp_path / "link", real):
        with pytest.raises(Refused):
            open_index(path, REPOSITORY, KEY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_cache_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    path.mkdir()
    os.chown(path, 12345, 12345)

    with pytest.raises(Refused, match="another user"):
        open_index(path, REPOSITORY, KEY)


def test_a_temporary_index_leaves_nothing(tmp_path: Path) -> None:
    with temporary_index(REPOSITORY, KEY, tmp_path) as index:
        index.apply(segment_of(0), facts_of(0))
        assert read_everything(index, 0) == ALL
        assert index.folder.parent == tmp_path

    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_a_cache_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises((CacheError, Refused)):
        open_index(tmp_path / "file", REPOSITORY, KEY)
    with pytest.raises(CacheError):
        temporary_index(REPOSITORY, KEY, tmp_path / "file")


def test_a_folder_of_a_read_only_disk_is_a_cache_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, mode: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "chmod", refuse)

    with pytest.raises(CacheError, match="cannot be used"):
        secure_folder(tmp_path)


def test_a_full_disk_is_a_cache_error_and_the_old_facts_stay(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: both fail the write in the middle of a transaction."""
    fill(tmp_path, 0)
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from dedupstore.errors import CacheError\n"
        "from tests.support.index_process import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "index = open_index(Path(sys.argv[1]), REPOSITORY, KEY)\n"
        "size = (index.folder / 'data.mdb').stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, size + 8192))\n"
        "try: index.apply(segment_of(1), facts_of(1)); print('applied')\n"
        "except CacheError as error: print('CacheError')\n"
        "print(read_everything(index, 0))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )

    assert done.stdout.split() == ["CacheError", str(ALL)], done.stderr
    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert read_everything(index, 0) == ALL
        index.apply(segment_of(1), facts_of(1))
        assert read_everything(index, 1) == ALL


def test_a_forked_child_is_told_to_open_it_again(index: LmdbIndex, tmp_path: Path) -> None:
    index.apply(segment_of(0), facts_of(0))
    assert index.find(ids_of(0, 0)[0]) is not None

    child = os.fork()
    if child == 0:
        code = 1
        try:
            index.find(ids_of(0, 0)[0])
        except CacheError:
            code = 0
        finally:
            os._exit(code)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert read_everything(index, 0) == ALL


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    index = open_index(tmp_path, REPOSITORY, KEY)
    index.close()
    index.close()

    with pytest.raises(CacheError, match="closed"):
        index.find(chunk_id("x"))
    with pytest.raises(CacheError, match="closed"):
        index.apply(segment_of(0), [])


class AsItWas(MemoryStore):
    """What a bucket was at some time."""

    past_ns = 0

    @property
    def place(self) -> str:
        return f"memory: at {self.past_ns}"


def test_looks_at_the_past_leave_one_index_however_many_times_are_named(tmp_path: Path) -> None:
    store = AsItWas()
    new_repository(store).close()
    for store.past_ns in range(1, 4):
        with open_repository(store, tmp_path) as repository:
            repository.look()

    assert len([folder for folder in tmp_path.iterdir() if folder.is_dir()]) == 1
