"""Local indexes whose writers were killed or whose file is damaged: it is noticed or harmless, and the next one starts anew."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedupstore.errors import CacheError
from dedupstore.repo import cache_folder
from dedupstore.repo import index_values as values
from dedupstore.repo.cache_folder import LastWrites, WritingMark
from dedupstore.repo.lmdb_index import LmdbIndex, open_index
from tests.support import index_process
from tests.support.dedup import PATIENCE_SECONDS
from tests.support.index_process import KEY, facts_of, fill, ids_of, read_everything, segment_of
from tests.support.packs import REPOSITORY

ALL = index_process.PACKS * index_process.CHUNKS
ROOT = Path(__file__).parents[2]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[LmdbIndex]:
    with open_index(tmp_path / "cache", REPOSITORY, KEY) as opened:
        yield opened


def in_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.index_process", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS)


def in_child(folder: Path) -> str:
    """Open and read all in a forked child: `all`, `less`, `damaged`, `wrong`, or what killed it."""
    child = os.fork()
    if child == 0:
        code = 4
        try:
            with open_index(folder, REPOSITORY, KEY) as opened:
                code = 0 if read_everything(opened, 0) == ALL else 1
        except CacheError:
            code = 2
        except AssertionError:
            code = 3
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return ("all", "less", "damaged", "wrong", "crash")[os.WEXITSTATUS(status)]


def test_two_processes_learn_into_one_cache(tmp_path: Path) -> None:
    with open_index(tmp_path, REPOSITORY, KEY) as index:
        command = [sys.executable, "-m", "tests.support.index_process", str(tmp_path), "apply", "1", "0"]
        other = subprocess.Popen(command, cwd=ROOT)
        for seed in (0, 2):
            index.apply(segment_of(seed), facts_of(seed))
        assert other.wait(PATIENCE_SECONDS) == 0
        index.refresh()

        assert [read_everything(index, seed) for seed in (0, 1, 2)] == [ALL] * 3
        assert index.segments() == {segment_of(seed) for seed in (0, 1, 2)}
        assert index.counts().packs == 3 * index_process.PACKS
        assert index.counts().copies == 0


# Damage


def test_a_killed_writer_leaves_a_good_index(tmp_path: Path) -> None:
    assert in_process(tmp_path, "die", "0").returncode == -signal.SIGKILL
    assert len(list((tmp_path / REPOSITORY.hex()).glob("writing-*"))) == 1

    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert read_everything(index, 0) == ALL
    assert list((tmp_path / REPOSITORY.hex()).glob("writing-*")) == []


def test_a_cache_whose_last_two_writers_were_killed_is_dropped(tmp_path: Path) -> None:
    """A rotten page can kill whoever writes to it (LMDB, SIGSEGV): the third must not die of it."""
    assert in_process(tmp_path, "die", "0").returncode == -signal.SIGKILL
    assert in_process(tmp_path, "die", "1").returncode == -signal.SIGKILL

    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert index.segments() == set()
        index.apply(segment_of(0), facts_of(0))
    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert read_everything(index, 0) == ALL


def test_a_writer_that_ended_well_absolves_the_cache_of_an_earlier_kill(tmp_path: Path) -> None:
    for seed in (0, 2, 4):
        assert in_process(tmp_path, "die", str(seed)).returncode == -signal.SIGKILL
        with open_index(tmp_path, REPOSITORY, KEY) as index:
            assert segment_of(0) in index.segments()
            index.apply(segment_of(seed + 1), facts_of(seed + 1))


def test_an_apply_killed_between_its_steps_is_finished_by_the_next(index: LmdbIndex) -> None:
    """The first transactions of `apply`, and then nothing: as a kill leaves it."""
    fact = facts_of(0)[0]
    blocks = fact.blocks()
    with index._writing() as writer:
        ((row, _),) = index._number_packs(writer, [(fact, blocks)])
    index._merge_entries(sorted(values.location_entries(row.no, blocks))[:100])

    index.apply(segment_of(0), facts_of(0))

    assert read_everything(index, 0) == ALL
    assert index.counts().copies == 0


def test_after_a_power_loss_the_index_is_built_anew(tmp_path: Path) -> None:
    fill(tmp_path, 0)
    (tmp_path / REPOSITORY.hex() / "writing-0123").write_text("another boot")

    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert index.segments() == set()
        assert index.find(ids_of(0, 0)[0]) is None


def test_a_live_writer_is_never_taken_for_a_dead_one(tmp_path: Path) -> None:
    mark = WritingMark(tmp_path)
    assert cache_folder.last_writes(tmp_path) is LastWrites.ON_DISK

    mark.release(synced=False)
    assert cache_folder.last_writes(tmp_path) is LastWrites.IN_KERNEL

    cache_folder.forget_marks(tmp_path)
    assert cache_folder.last_writes(tmp_path) is LastWrites.ON_DISK


def damage(data: bytearray, kind: str, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    page = at & ~4095
    if kind == "truncated":
        del data[at:]
    elif kind == "zeroed page":
        data[page : page + 4096] = bytes(4096)
    elif kind == "garbage page":
        data[page : page + 4096] = rng.randbytes(4096)
    elif kind == "flipped page header":
        data[page + rng.randrange(40)] ^= 1 << rng.randrange(8)
    elif kind == "flipped bit":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "swapped pages":
        other = rng.randrange(len(data)) & ~4095
        data[page : page + 4096], data[other : other + 4096] = data[other : other + 4096], data[page : page + 4096]


def outcomes_of_damage(folder: Path, kind: str) -> set[str]:
    fill(folder, 0)
    path = folder / REPOSITORY.hex() / "data.mdb"
    genuine = path.read_bytes()
    rng = random.Random(kind)
    outcomes = set()
    for _ in range(20):
        data = bytearray(genuine)
        damage(data, kind, rng)
        # Opened earlier, it may have been dropped: the folder is made anew each time.
        path.parent.mkdir(mode=0o700, exist_ok=True)
        for leftover in path.parent.iterdir():
            leftover.unlink()
        path.write_bytes(data)
        outcomes.add(in_child(folder))
    return outcomes


KINDS = ["truncated", "zeroed page", "garbage page", "flipped page header", "flipped bit", "swapped pages"]


@pytest.mark.parametrize("kind", KINDS)
def test_reading_a_damaged_file_is_noticed_or_harmless_and_never_kills_the_process(tmp_path: Path, kind: str) -> None:
    """Harmless: chunks are found where they are, or not at all. A wrong place or a signal is not."""
    outcomes = outcomes_of_damage(tmp_path, kind)

    assert outcomes <= {"all", "less", "damaged"}
    assert outcomes != {"all"}


@pytest.mark.parametrize("content", [b"", b"\0" * 8192, b"\0" * 100_000, b"garbage " * 5000, b"x"])
def test_a_file_that_is_no_index_is_replaced(tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / REPOSITORY.hex()
    folder.mkdir(mode=0o700)
    (folder / "data.mdb").write_bytes(content)

    with open_index(tmp_path, REPOSITORY, KEY) as index:
        index.apply(segment_of(0), facts_of(0))
        assert read_everything(index, 0) == ALL


def test_damage_found_in_use_has_the_next_opener_start_anew(tmp_path: Path) -> None:
    fill(tmp_path, 0)
    with open_index(tmp_path, REPOSITORY, KEY) as index:
        with index._writing() as writer:
            writer.put(ids_of(0, 0)[0][:19], bytes(13), db=index._environment.dbs["chunks"])
        with pytest.raises(CacheError, match="damaged"):
            index.find(ids_of(0, 0)[0])

    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert index.segments() == set()
    assert sorted(path.name for path in tmp_path.iterdir()) == [REPOSITORY.hex()]


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb"])
def test_a_directory_in_the_place_of_a_file_is_set_aside_at_once(tmp_path: Path, name: str) -> None:
    folder = cache_folder.index_folder(tmp_path / "cache", REPOSITORY, "")
    (folder / name / "below").mkdir(parents=True)

    with open_index(tmp_path / "cache", REPOSITORY, KEY) as opened:
        assert opened.counts().packs == 0

    assert (folder / name).is_file()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [folder.name]
