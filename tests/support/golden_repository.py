"""Golden repositories: made once by this script, read for ever by every later version and by tools/minirestore.py.

    python -m tests.support.golden_repository [NAME ...]     makes those that do not exist yet; never replaces one

Each is `tests/golden/repositories/<name>/` with `repository/` (the objects as a local store keeps them) and
`expected.json`: for every snapshot, oldest first, what a restore must give back. Keys and salts are random, so a
repository made again would have other bytes: the old one is the promise, hence the refusal to replace it.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from dedupstore.cancel import CancelToken
from dedupstore.chunking.params import ChunkerParams
from dedupstore.clock import FrozenClock
from dedupstore.codec.block import Codec
from dedupstore.engine.parity import make_all_parity
from dedupstore.engine.repair_packs import repair_packs
from dedupstore.events import NullListener
from dedupstore.model.entry import DIRECTORY, FILE
from dedupstore.model.mark import NOTE, PROTECT, TAGS, UNPROTECT, Mark
from dedupstore.repo.config import put_config
from dedupstore.repo.forgetting import delete_commits, put_markers
from dedupstore.repo.keys import create_slot
from dedupstore.repo.repository import Repository
from dedupstore.repo.slot_header import KdfCost
from dedupstore.repo.slots import DEFAULT_COST, Secret
from dedupstore.storage.local import LocalStore
from dedupstore.types import Kind
from tests.support.damaging import check
from tests.support.repositories import (
    SECRET,
    SMALL,
    entries_of,
    new_repository,
    random_bytes,
    segment_facts,
    take,
    text_bytes,
)

FOLDER = Path(__file__).parent.parent / "golden" / "repositories"
PASSPHRASE = "correct horse battery staple"
RECOVERY_KEY = bytes(range(100, 132))
KEY_FILE = bytes(range(64))
TIME_NS = 1_750_000_000_123_456_789
LARGEST = 200_000

Tree = dict[str, dict[str, object]]


def describe(top: Path) -> Tree:
    """What a restored directory holds: by path, everything that a restore gives back on any machine."""
    found: Tree = {}
    links: dict[int, str] = {}
    for folder, folders, names in os.walk(top):
        for name in sorted([*folders, *names]):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            shown = os.path.relpath(path, top)
            row: dict[str, object] = {"mode": oct(status.st_mode), "mtime": status.st_mtime_ns}
            if stat.S_ISREG(status.st_mode):
                row["size"] = status.st_size
                row["b3"] = blake3(Path(path).read_bytes()).hexdigest()
                if status.st_nlink > 1:
                    row["same_as"] = links.setdefault(status.st_ino, shown)
            elif stat.S_ISLNK(status.st_mode):
                target = os.readlink(os.fsencode(path))
                row["target"] = os.fsdecode(target) if len(target) < 100 else blake3(target).hexdigest()
            found[shown] = row
    return dict(sorted(found.items()))


@dataclass(slots=True)
class Making:
    """One repository being made: its store, its open repository, the source tree, what was expected so far."""

    work: Path
    store: LocalStore
    repository: Repository
    clock: FrozenClock
    expected: list[Tree]

    @property
    def source(self) -> Path:
        return self.work / "source"

    def snapshot(self) -> None:
        """Fix all times, take a snapshot, remember what it must restore to."""
        paths = [
            os.path.join(folder, name) for folder, folders, names in os.walk(self.source) for name in folders + names
        ]
        for number, path in enumerate(sorted(paths, key=os.fsencode, reverse=True)):
            time_ns = TIME_NS + len(self.expected) * 10**12 + number * 1_000_001
            os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
        os.utime(self.source, ns=(TIME_NS, TIME_NS))
        self.clock.advance(3600)
        result = take(self.repository, self.source)
        assert result.snapshot is not None and not result.findings
        self.expected.append(describe(self.work))

    def codecs(self) -> set[int]:
        return {block.codec for fact in segment_facts(self.repository) for block in fact.blocks()}


def make_files(making: Making) -> None:
    """Every kind of entry that needs no privileges; one slot of each kind; several full packs."""
    source = making.source
    (source / "empty").touch()
    (source / "one byte").write_bytes(b"x")
    (source / "text").write_bytes(text_bytes(1, 1500))
    (source / "noise").write_bytes(random_bytes("golden noise", 50_000))
    (source / os.fsdecode(b"caf\xe9 \n\x1b[31m")).write_bytes(b"not UTF-8")
    (source / ("n" * 255)).write_bytes(b"a long name")
    (source / "dir" / "below").mkdir(parents=True)
    (source / "dir" / "empty dir").mkdir()
    (source / "dir" / "below" / "same text").write_bytes(text_bytes(1, 1500))
    os.link(source / "noise", source / "dir" / "noise, linked")
    os.link(source / "noise", source / "dir" / "below" / "noise, linked again")
    (source / "to dir").symlink_to("dir")
    (source / "dangling").symlink_to("/nowhere/../at all")
    os.symlink(b"\xff\xfe", os.fsencode(source / "odd target"))
    os.mkfifo(source / "fifo", 0o640)
    for mode in (0o400, 0o755, 0o1777):
        (source / f"mode {mode:o}").write_bytes(b"%o" % mode)
        (source / f"mode {mode:o}").chmod(mode)
    (source / "dir" / "empty dir").chmod(0o500)
    making.snapshot()
    create_slot(
        making.store, making.repository.keyring, Secret.recovery(RECOVERY_KEY), created_ns=TIME_NS, label="paper"
    )
    create_slot(making.store, making.repository.keyring, Secret.key_file(KEY_FILE), created_ns=TIME_NS, label="file")
    assert {Codec.RAW, Codec.ZSTD} <= making.codecs()


def make_delta(making: Making) -> None:
    """Three versions of a dump and a directory: delta blocks of data and of manifests."""
    dump = making.source / "dump.sql"
    rows = text_bytes(2, 4000).splitlines(keepends=True)
    for round_number in range(3):
        for number in range(round_number, len(rows), 97):
            rows[number] = b"row %d changed in round %d\n" % (number, round_number)
        dump.write_bytes(b"".join(rows))
        for number in range(60):
            (making.source / f"file{number:02d}").write_bytes(b"content %d\n" % (number // (1 + round_number)))
        making.snapshot()
    assert Codec.DELTA in making.codecs()
    kinds = {
        fact.kind for fact in segment_facts(making.repository) for block in fact.blocks() if block.codec == Codec.DELTA
    }
    assert len(kinds) == 2, "no delta block of manifests"


def make_patch(making: Making) -> None:
    """Three versions of a dump in which a few values change, one row comes and one goes: patches, of full chunks only."""
    dump = making.source / "dump.sql"
    rows = text_bytes(3, 4500).splitlines(keepends=True)
    for number in range(3):
        rows[500 + number] = rows[500 + number][:10] + b"CHANGED" + rows[500 + number][17:]
        rows[4000] = b"changed again in round %d\n" % number
        del rows[100]
        rows.insert(3000, b"a row of its own, in round %d\n" % number)
        dump.write_bytes(b"".join(rows))
        making.snapshot()
    assert Codec.PATCH in making.codecs()


def make_paged(making: Making) -> None:
    """A directory in three pages (long link targets fill them) and a file whose content list is paged."""
    folder = making.source / "many links"
    folder.mkdir()
    for number in range(540):
        (folder / f"link{number:03d}").symlink_to("x" * 4000 + str(number))
    (making.source / "long.txt").write_bytes(
        b"".join(b"line %08d of a long and dull text\n" % n for n in range(44_000))
    )
    making.snapshot()
    snapshot = making.repository.catalog.snapshots().snapshots[0]
    entries = dict(entries_of(making.repository.reader.load_manifest, snapshot))
    assert entries[b"source/long.txt"].pages is not None
    pages = [path for path, entry in entries.items() if entry.kind == DIRECTORY]
    assert pages == [b"source", b"source/many links"]


def make_sparse(making: Making) -> None:
    """Holes at the start, in the middle, at the end, and nothing but a hole."""
    layouts = {"middle": [0, 300_000], "start": [200_000], "end": [0], "both": [65_536, 131_072], "only": []}
    for name, offsets in layouts.items():
        with (making.source / name).open("wb") as file:
            file.truncate(400_000)
            for offset in offsets:
                file.seek(offset)
                file.write(text_bytes(offset, 700))
    making.snapshot()
    snapshot = making.repository.catalog.snapshots().snapshots[0]
    files = [entry for _, entry in entries_of(making.repository.reader.load_manifest, snapshot) if entry.kind == FILE]
    assert len(files) == 5 and all(entry.holes for entry in files), "this file system keeps no holes"


def make_production_kdf(making: Making) -> None:
    """One small snapshot; its only slot costs what a real one does."""
    (making.source / "file").write_bytes(b"small\n")
    making.snapshot()


def make_epochs(making: Making) -> None:
    """Two epochs: the key of the first is in the config of the second, and only its slot opens everything."""
    (making.source / "old").write_bytes(text_bytes(5, 200))
    making.snapshot()
    ring = making.repository.keyring.next_epoch()
    config = replace(making.repository.config, older_masters=((1, ring.masters[1]),))
    put_config(making.store, ring, config, number=2)
    create_slot(
        making.store, ring, SECRET, created_ns=TIME_NS, cost=KdfCost.insecure_for_tests(), label="new", allow_weak=True
    )
    making.repository.close()
    making.repository = Repository.open(making.store, SECRET, clock=making.clock, cache_path=None, allow_weak=True)
    assert making.repository.keyring.epoch == 2
    (making.source / "new").write_bytes(text_bytes(6, 200))
    making.snapshot()


def make_marks(making: Making) -> None:
    """Three snapshots and a forgotten one; what was said of them later, and a forget that was stopped half-way."""
    for number in range(4):
        (making.source / "file").write_bytes(text_bytes(number, 30))
        making.snapshot()
    catalog = making.repository.catalog
    first, second, third, fourth = (snapshot.id for snapshot in catalog.snapshots().snapshots)
    for snapshot, mark in (
        (second, Mark(kind=PROTECT, time_ns=TIME_NS, until_ns=TIME_NS * 2, text="audit")),
        (second, Mark(kind=TAGS, time_ns=TIME_NS, add=("pinned", "release"), remove=("none",))),
        (second, Mark(kind=TAGS, time_ns=TIME_NS, remove=("release",))),
        (third, Mark(kind=PROTECT, time_ns=TIME_NS)),
        (third, Mark(kind=UNPROTECT, time_ns=TIME_NS)),
        (fourth, Mark(kind=NOTE, time_ns=TIME_NS, text="the newest")),
    ):
        catalog.add_mark(snapshot, mark)
    records = {identifier: catalog.get(identifier).encode() for identifier in (first, third)}
    put_markers(making.store, making.repository.keyring, records, TIME_NS)
    delete_commits(making.store, [first])
    del making.expected[0]


def make_healed(making: Making) -> None:
    """A block that was damaged, written down, and mended by parity: the bad copy is still there, beside a good one."""
    (making.source / "noise").write_bytes(random_bytes("golden healed", 60_000))
    repository = making.repository
    assert make_all_parity(repository, dry_run=False, listener=NullListener(), cancel=CancelToken()).made == 0
    making.snapshot()
    fact = next(fact for fact in segment_facts(repository) if fact.kind is Kind.DATA)
    path = Path(making.store.url) / fact.name.key
    data = bytearray(path.read_bytes())
    data[fact.blocks()[0].offset + 100] ^= 1
    path.write_bytes(data)
    assert check(repository).recorded == 1
    report = repair_packs(repository, listener=NullListener(), cancel=CancelToken())
    assert report.chunks and not report.lost
    repository.look()
    assert check(repository).exit_code == 0


MAKERS: dict[str, Callable[[Making], None]] = {
    "v1-files": make_files,
    "v1-delta": make_delta,
    "v1-patch": make_patch,
    "v1-paged": make_paged,
    "v1-sparse": make_sparse,
    "v1-production-kdf": make_production_kdf,
    "v1-epochs": make_epochs,
    "v1-marks": make_marks,
    "v1-healed": make_healed,
}


def make(name: str) -> None:
    """Write one golden repository. Raises FileExistsError when there is one of that name."""
    target = FOLDER / name
    target.mkdir(parents=True)
    cost = DEFAULT_COST if name == "v1-production-kdf" else KdfCost.insecure_for_tests()
    packs = 32 << 10 if name == "v1-files" else 128 << 10
    options = replace(SMALL, cost=cost, pack_bytes=packs)
    if name == "v1-patch":
        options = replace(options, chunker=ChunkerParams.for_average(64 << 10), delta_block_bytes=128 << 10)
    clock = FrozenClock(TIME_NS)
    with tempfile.TemporaryDirectory() as folder:
        work, place = Path(folder) / "work", Path(folder) / "repository"
        (work / "source").mkdir(parents=True)
        store = LocalStore.create(str(place))
        repository = new_repository(store, options=options, clock=clock)
        making = Making(work, store, repository, clock, [])
        MAKERS[name](making)
        making.repository.close()
        shutil.copytree(place, target / "repository", ignore=_only_objects)
    (target / "expected.json").write_text(json.dumps(making.expected, indent=0, sort_keys=True) + "\n")
    size = sum(path.stat().st_size for path in (target / "repository").rglob("*") if path.is_file())
    assert size <= LARGEST, f"{name} has {size} bytes"


def _only_objects(folder: str, names: list[str]) -> list[str]:
    """What not to copy: empty folders, which git would not keep."""
    return [
        name
        for name in names
        if os.path.isdir(os.path.join(folder, name)) and not os.listdir(os.path.join(folder, name))
    ]


def main(names: list[str]) -> None:
    for name in names or [name for name in MAKERS if not (FOLDER / name).exists()]:
        make(name)


if __name__ == "__main__":
    main(sys.argv[1:])
