"""Small repositories and source trees for tests: real keys, real packs, everything small and repeatable.

make_tree(tmp_path / "tree", seed=1)
with new_repository(MemoryStore()) as repository:
    first = take(repository, tmp_path / "tree").snapshot
    assert stored_files(repository, first) == files_below(tmp_path / "tree")
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from dedupstore.cancel import CancelToken
from dedupstore.chunking.params import ChunkerParams
from dedupstore.clock import Clock, SystemClock
from dedupstore.codec.hashing import StreamHash
from dedupstore.engine.snapshot import SnapshotPlan, SnapshotResult, take_snapshot
from dedupstore.events import NullListener
from dedupstore.model.entry import DIRECTORY, FILE, SYMLINK, Entry
from dedupstore.model.snapshot import Snapshot
from dedupstore.model.tree import read_content, read_tree
from dedupstore.repo import layout
from dedupstore.repo.lmdb_index import LmdbIndex, temporary_index
from dedupstore.repo.repository import InitOptions, Repository
from dedupstore.repo.segment import PackFacts, decode_segment
from dedupstore.repo.slot_header import KdfCost
from dedupstore.repo.slots import Secret
from dedupstore.repo.view import complete, sync_segments
from dedupstore.sources.exclude import Excluder, ExcludeRules
from dedupstore.sources.roots import resolve_roots
from dedupstore.storage.base import ObjectStore
from dedupstore.types import Kind

SECRET = Secret.passphrase("correct horse battery staple")

SMALL = InitOptions(
    chunker=ChunkerParams.for_average(4096),
    block_bytes=16 << 10,
    delta_block_bytes=8 << 10,
    pack_bytes=128 << 10,
    cost=KdfCost.insecure_for_tests(),
    allow_weak=True,
)
"""Chunks of 4 KiB, packs of 128 KiB: a tree of 300 KB has several packs with many blocks."""


def random_bytes(seed: str, count: int) -> bytes:
    """Bytes that do not compress, always the same for one seed."""
    return hashlib.shake_256(seed.encode()).digest(count)


def text_bytes(seed: int, lines: int) -> bytes:
    """A text that compresses well; no two lines are equal."""
    chooser = random.Random(seed)
    return b"".join(b"%08d line %d of %d\n" % (chooser.randrange(10**8), number, seed) for number in range(lines))


def make_tree(path: Path, seed: int = 1, *, scale: int = 1) -> Path:
    """A directory with what snapshots meet: small and large files, an empty one, links, odd names, a deep path.

    About 300 KB at `scale` 1. The same seed makes the same bytes, whatever is there already must not be.
    """
    chooser = random.Random(seed)
    path.mkdir(parents=True)
    (path / "empty").touch()
    (path / "readme.txt").write_bytes(text_bytes(seed, 40))
    (path / "noise.bin").write_bytes(random_bytes(f"{seed} noise", 90_000 * scale))
    (path / "dump.sql").write_bytes(text_bytes(seed + 1, 3_000 * scale))
    (path / os.fsdecode(b"odd \xff\n name")).write_bytes(b"odd")
    deep = path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "deep.txt").write_bytes(text_bytes(seed + 2, 10))
    (path / "a" / "link").symlink_to("b/c/deep.txt")
    os.link(path / "noise.bin", path / "a" / "same as noise")
    for number in range(20 * scale):
        folder = path / f"many{number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number:03d}").write_bytes(random_bytes(f"{seed} {number}", chooser.randrange(1, 4_000)))
    return path


def mutate_tree(path: Path, seed: int) -> None:
    """Change a tree as a day does: rows in the dump, an appended file, one new, one gone, one renamed."""
    chooser = random.Random(seed)
    dump = path / "dump.sql"
    rows = dump.read_bytes().splitlines(keepends=True)
    for _ in range(max(1, len(rows) // 100)):
        rows[chooser.randrange(len(rows))] = b"%08d changed in round %d\n" % (chooser.randrange(10**8), seed)
    dump.write_bytes(b"".join(rows))
    with (path / "readme.txt").open("ab") as file:
        file.write(b"round %d\n" % seed)
    (path / "many0" / f"new{seed}").write_bytes(random_bytes(f"new {seed}", 5_000))
    names = sorted((path / "many1").iterdir())
    if len(names) > 2:
        names[0].unlink()
        names[1].rename(names[1].with_name(f"renamed{seed}"))


def new_repository(
    store: ObjectStore, cache_path: Path | None = None, *, options: InitOptions = SMALL, clock: Clock | None = None
) -> Repository:
    """Make a repository in `store` and leave it open."""
    made, _ = Repository.create(store, SECRET, options, clock=clock or SystemClock(), cache_path=cache_path)
    return made


def open_repository(store: ObjectStore, cache_path: Path | None = None, *, clock: Clock | None = None) -> Repository:
    """Open a repository made by `new_repository`."""
    return Repository.open(store, SECRET, clock=clock or SystemClock(), cache_path=cache_path, allow_weak=True)


PLAN = SnapshotPlan(
    source="site", kind="files", host="host", user="user", tool="test", excluder=Excluder(ExcludeRules())
)


def take(repository: Repository, path: Path | str, **plan: object) -> SnapshotResult:
    """A snapshot of one directory; keywords are fields of SnapshotPlan."""
    roots = resolve_roots([os.fsencode(path)])
    full = replace(PLAN, roots=roots, **plan)  # type: ignore[arg-type]
    return take_snapshot(repository, full, listener=NullListener(), cancel=CancelToken())


def files_below(path: Path) -> dict[bytes, bytes]:
    """Every name below a directory, as a snapshot of it shows it, with the hash of a file or the text of a link."""
    found: dict[bytes, bytes] = {}
    top = os.fsencode(path)
    for folder, folders, names in os.walk(top):
        for name in [*folders, *names]:
            full = os.path.join(folder, name)
            shown = os.path.relpath(full, os.path.dirname(top))
            mode = os.lstat(full).st_mode
            if stat.S_ISLNK(mode):
                found[shown] = b"-> " + os.readlink(full)
            elif stat.S_ISREG(mode):
                with open(full, "rb") as file:
                    found[shown] = _hash([file.read()])
    return found


def stored_files(repository: Repository, snapshot: Snapshot) -> dict[bytes, bytes]:
    """The same of a snapshot, every chunk read from the repository through its verifying reader."""
    repository.look()
    reader = repository.reader
    return {
        path: _hash(reader.read(Kind.DATA, chunk) for chunk, _ in read_content(reader.load_manifest, entry))
        if entry.kind == FILE
        else b"-> " + entry.target
        for path, entry in entries_of(reader.load_manifest, snapshot)
        if entry.kind in (FILE, SYMLINK)
    }


def entries_of(load: Callable[..., bytes], snapshot: Snapshot) -> Iterator[tuple[bytes, Entry]]:
    """Every entry of a snapshot with its path, in tree order."""
    stack: list[tuple[bytes, object]] = [(b"", snapshot.root)]
    while stack:
        prefix, tree = stack.pop()
        for entry in read_tree(load, tree):  # type: ignore[arg-type]
            path = prefix + entry.name
            yield path, entry
            if entry.kind == DIRECTORY:
                stack.append((path + b"/", entry.tree))


def assert_restores(repository: Repository, snapshot: Snapshot | None, expected: Mapping[bytes, bytes]) -> None:
    """The snapshot holds exactly these files, byte for byte."""
    assert snapshot is not None
    found = stored_files(repository, snapshot)
    assert found.keys() == expected.keys()
    different = [path for path in found if found[path] != expected[path]]
    assert not different, f"restored with other content: {different}"


def chunk_locations(repository: Repository) -> set[tuple[bytes, int, int, int, bytes]]:
    """Every (pack id, block, position, length, chunk id) that the segments in the store describe; no cache involved."""
    with fresh_index(repository) as index:
        found: set[tuple[bytes, int, int, int, bytes]] = set()
        for fact in segment_facts(repository):
            for block_no, block in enumerate(fact.blocks()):
                for position, (chunk, length) in enumerate(zip(block.ids, block.lengths, strict=True)):
                    for at in index.find_all(chunk):
                        found.add((index.pack(at.pack_no).id, at.block_no, at.position, at.length, chunk))
                    assert (fact.id, block_no, position, length, chunk) in found
        return found


def segment_facts(repository: Repository) -> Iterator[PackFacts]:
    """What every readable segment says."""
    for row in layout.list_complete(repository.store, layout.INDEX):
        for fact in decode_segment(repository.keyring, row.key, repository.store.get(row.key)):
            yield complete(repository.store, repository.keyring, fact)


def fresh_index(repository: Repository) -> LmdbIndex:
    """A temporary index built from the segments in the store."""
    index = temporary_index(repository.id, repository.keyring.cache_key())
    sync_segments(repository.store, repository.keyring, index)
    return index


def _hash(parts: Iterable[bytes]) -> bytes:
    whole = StreamHash()
    for part in parts:
        whole.update(part)
    return whole.digest()
