from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.errors import CacheError, CorruptObject, Refused
from dedupstore.repo import cache_folder
from dedupstore.repo import index_values as values
from dedupstore.repo.cache_folder import LastWrites, WritingMark
from dedupstore.repo.directory import BlockRecord
from dedupstore.repo.index import BlockInfo, Index
from dedupstore.repo.lmdb_index import LmdbIndex, drop_index, open_index, temporary_index
from dedupstore.repo.segment import PackFacts
from dedupstore.types import ChunkId, RepositoryId, SegmentId
from tests.support import index_process
from tests.support.dedup import PATIENCE_SECONDS
from tests.support.index_process import KEY, facts_of, fill, ids_of, read_everything, segment_of
from tests.support.packs import REPOSITORY, chunk_id, synthetic_facts

ALL = index_process.PACKS * index_process.CHUNKS
ROOT = Path(__file__).parents[2]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[LmdbIndex]:
    with open_index(tmp_path / "cache", REPOSITORY, KEY) as opened:
        yield opened


def locations(index: Index, seeds: list[int]) -> set[tuple[bytes, bytes, int, int, int]]:
    """Every location, by pack id: numbers are this machine's own."""
    found: set[tuple[bytes, bytes, int, int, int]] = set()
    for seed in seeds:
        for pack in range(index_process.PACKS):
            for identifier in ids_of(seed, pack):
                for place in index.find_all(identifier):
                    row = index.pack(place.pack_no)
                    found.add((identifier, row.id, place.block_no, place.position, place.length))
    return found


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


# What it is for


def test_every_chunk_of_a_segment_is_found_where_it_lies(index: LmdbIndex) -> None:
    index.apply(segment_of(0), facts_of(0))

    assert read_everything(index, 0) == ALL
    assert index.find(chunk_id("never stored")) is None
    assert index.find_all(chunk_id("never stored")) == []
    assert index.segments() == {segment_of(0)}
    assert [(row.id, row.size) for row in index.packs()] == [(fact.id, fact.size) for fact in facts_of(0)]


def test_all_blocks_of_a_pack_come_in_order(index: LmdbIndex) -> None:
    index.apply(segment_of(0), facts_of(0))

    for fact, row in zip(facts_of(0), index.packs(), strict=True):
        blocks = index.blocks(row.no)
        assert blocks == [index.block(row.no, number) for number in range(len(blocks))]
        assert [block.lengths for block in blocks] == [list(block.lengths) for block in fact.blocks()]
    assert index.blocks(4_000_000_000) == []


def test_what_was_pruned_is_remembered_and_still_known(tmp_path: Path) -> None:
    with open_index(tmp_path / "cache", REPOSITORY, KEY) as index:
        index.apply(segment_of(0), facts_of(0))
        index.mark_removed([1])

    with open_index(tmp_path / "cache", REPOSITORY, KEY) as index:
        assert [row.no for row in index.packs() if row.removed] == [1]
        assert all(row.known for row in index.packs())
        assert read_everything(index, 0) == ALL


def test_a_block_keeps_its_bases_and_lengths(index: LmdbIndex) -> None:
    bases = [chunk_id("base 1"), chunk_id("base 2")]
    lengths = [1, 0xFFFFFF, 70_000]
    record = BlockRecord(64, 500, sum(lengths), 2, [chunk_id(str(n)) for n in range(3)], lengths, bases)

    decoded = values.decode_block(values.encode_block(record))

    assert decoded == BlockInfo(offset=64, stored=500, raw=sum(lengths), codec=2, lengths=lengths, bases=bases)


def test_the_largest_numbers_a_pack_allows_fit_a_location() -> None:
    identifier = ChunkId(b"\xff" * 32)
    blocks = [BlockRecord(64, 100, 1, 1, [identifier], [0xFFFFFF], [])]

    (entry,) = values.location_entries(0xFFFFFFFF, blocks)

    assert values.location(identifier, entry[19:32]) == (0xFFFFFFFF, 0, 0, 0xFFFFFF)
    assert (entry[:19], entry[32:]) == (identifier[:19], b"\xff" * 4 + bytes(2))


def test_every_flipped_bit_of_a_location_is_noticed() -> None:
    identifier = chunk_id("x")
    (entry,) = values.location_entries(7, [BlockRecord(64, 100, 5, 1, [identifier], [5], [])])
    value = entry[values.ENTRY_VALUE]

    for bit in range(8 * len(value)):
        flipped = (int.from_bytes(value, "big") ^ 1 << bit).to_bytes(len(value), "big")
        with pytest.raises(CacheError):
            values.location(identifier, flipped)


def test_applying_twice_changes_nothing(index: LmdbIndex) -> None:
    index.apply(segment_of(0), facts_of(0))
    before = index.counts()

    index.apply(segment_of(0), facts_of(0))
    index.apply(SegmentId(chunk_id("a compaction of it")), facts_of(0))

    after = index.counts()
    assert (after.chunks, after.copies, after.packs) == (before.chunks, 0, before.packs)
    assert after.segments == 2


def test_a_chunk_stored_again_has_two_locations_and_the_first_stays_first(index: LmdbIndex) -> None:
    ids = ids_of(0, 0)
    index.apply(segment_of(1), [synthetic_facts("one", ids)])
    index.apply(segment_of(2), [synthetic_facts("two", ids[:10], length=100)])

    first, second = index.find_all(ids[3])

    assert index.find(ids[3]) == first
    assert (first.pack_no, first.length) == (0, 65_536)
    assert (second.pack_no, second.length) == (1, 100)
    assert len(index.find_all(ids[10])) == 1


def test_copies_within_one_segment_and_one_pack_are_all_kept(index: LmdbIndex) -> None:
    identifier = chunk_id("again and again")
    facts = [synthetic_facts("a", [identifier] * 3, chunks_per_block=1), synthetic_facts("b", [identifier])]

    index.apply(segment_of(0), facts)

    places = {(place.pack_no, place.block_no) for place in index.find_all(identifier)}
    assert places == {(0, 0), (0, 1), (0, 2), (1, 0)}


def test_an_index_built_again_from_the_same_segments_says_the_same(tmp_path: Path) -> None:
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        with open_index(tmp_path / f"{order[0]}", REPOSITORY, KEY) as opened:
            for seed in order:
                shared = synthetic_facts(f"shared {seed}", ids_of(0, 0)[:50])
                opened.apply(segment_of(seed), [*facts_of(seed), shared])
            found.append(locations(opened, [0, 1, 2]))

    assert found[0] == found[1]
    assert len(found[0]) == 3 * ALL + 3 * 50


def test_a_contradictory_directory_is_refused_before_anything_of_its_pack_is_learned(index: LmdbIndex) -> None:
    good, bad = facts_of(0)[:2]
    broken = PackFacts(
        id=bad.id, size=bad.size, kind=bad.kind, units=1, epoch=1, salt=bytes(24), directory=bad.directory[:-1]
    )

    with pytest.raises(CorruptObject):
        index.apply(segment_of(0), [good, broken])

    assert index.pack_no(bad.id) is None
    assert index.segments() == set()


def test_a_pack_whose_directory_is_not_known_yet_is_known_as_such_until_it_is_learned(tmp_path: Path) -> None:
    whole = facts_of(0)
    bare = [replace(whole[0], directory=b"", repeated=False), *whole[1:]]
    with open_index(tmp_path, REPOSITORY, KEY) as index:
        index.apply(segment_of(0), bare)
        assert [row.known for row in index.packs()] == [False] + [True] * (len(whole) - 1)
    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert index.segments() == {segment_of(0)}
        index.apply(segment_of(1), bare)
        assert not next(index.packs()).known

        index.learn([whole[0]])

        assert all(row.known for row in index.packs())
        assert read_everything(index, 0) == ALL
        index.apply(segment_of(2), bare)
        assert next(index.packs()).known


def test_what_is_learned_is_there_after_reopening(tmp_path: Path) -> None:
    fill(tmp_path, 0)

    with open_index(tmp_path, REPOSITORY, KEY) as index:
        assert read_everything(index, 0) == ALL
        assert index.last_verified(2) == 1_000
        assert index.last_verified(99) is None
        assert index.counts().directories == 20


def test_threads_may_look_up_while_one_learns(index: LmdbIndex) -> None:
    index.apply(segment_of(0), facts_of(0))
    wanted = ids_of(0, 1)
    wrong: list[object] = []
    done = threading.Event()

    def look_up() -> None:
        while not done.is_set():
            for position, identifier in enumerate(wanted):
                place = index.find(identifier)
                if place is None or place[:3] != (1, position // 16, position % 16):
                    wrong.append(place)
            index.find_all(wanted[0])
            index.block(1, 0)

    threads = [threading.Thread(target=look_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for seed in range(1, 8):
        index.apply(segment_of(seed), facts_of(seed))
    done.set()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_opening_twice_in_one_process_shares_the_environment(tmp_path: Path) -> None:
    with open_index(tmp_path, REPOSITORY, KEY) as one, open_index(tmp_path, REPOSITORY, KEY) as other:
        one.apply(segment_of(0), facts_of(0))
        other.refresh()

        assert read_everything(other, 0) == ALL
        one.close()
        assert read_everything(other, 0) == ALL


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
