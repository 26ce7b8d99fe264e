"""Packs whose directory a segment repeats and packs whose directory is in their trailer alone, each broken each way.

What must come of it differs (docs/decisions/0014): who has not read the trailer of a short pack before finds nothing in
it once the trailer is gone. Everything else costs the damaged bytes and no others, whatever the layout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.codec.hashing import digest
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, Damage, DataShare
from dedupstore.errors import IntegrityError, ObjectNotFound
from dedupstore.events import Finding, NullListener
from dedupstore.model.entry import FILE
from dedupstore.model.tree import read_content
from dedupstore.repo.repository import Repository
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind, PackId
from tests.support.pack_layouts import LAYOUTS, Scene, build
from tests.support.repositories import assert_restores, entries_of, open_repository, take

STRUCTURE = CheckOptions()
DATA = CheckOptions(read_data=DataShare())
RESTORE = CheckOptions(restore=True)

Break = Callable[[bytes], bytes]


def flip(at: int) -> Break:
    def flipped(data: bytes) -> bytes:
        at_byte = bytearray(data)
        at_byte[at] ^= 0x10
        return bytes(at_byte)

    return flipped


def missing(data: bytes) -> bytes:
    raise AssertionError("a pack that is missing has no bytes")


SHORTENED: dict[str, Break] = {
    "missing": missing,
    "emptied": lambda data: b"",
    "cut in its blocks": lambda data: data[: len(data) // 2],
    "cut in its trailer": lambda data: data[:-1],
}
HEADER: dict[str, Break] = {"epoch": flip(12), "salt": flip(45)}
TRAILER: dict[str, Break] = {"nonce": flip(-4096), "tag": flip(-9)}
"""All trailers here have one unit."""

PACKS = [
    ("full", "a b c"),
    ("full", "d"),
    ("short", "a b c d"),
    ("short", "B C e"),
    ("two short", "b d"),
    ("two open, one full", "a c f"),
    ("two open, one full", "h"),
]
SHORT_PACKS = [(layout, pack) for layout, pack in PACKS if not LAYOUTS[layout].packs[pack]]
FULL_PACKS = [(layout, pack) for layout, pack in PACKS if LAYOUTS[layout].packs[pack]]
MANIFESTS = [("short", "manifests 0"), ("short", "manifests 1")]

LOST: dict[str, tuple[str, list[int], bool]] = {
    # the content: the file, the snapshots that lose it, whether the newest one has another that is whole
    **{name: (name, [0, 1], False) for name in "adfgh"},
    "b": ("b", [0, 1], False),  # B is a delta to it
    "B": ("b", [1], False),
    "c": ("c", [0], True),
    "C": ("c", [1], False),
    "e": ("e", [1], False),
}

Told = dict[bytes, tuple[bool, list[int], bool | None]]
"""By path: whether a directory is told, the snapshots it is lost from, whether the newest copy is whole."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    base = tmp_path_factory.mktemp("packs")
    return {name: build(layout, base / name / "tree") for name, layout in LAYOUTS.items()}


def broken(scene: Scene, pack: str, damage: Break, store: MemoryStore) -> None:
    key = scene.packs[pack].name.key
    if damage is missing:
        del store.objects[key]
    else:
        store.objects[key] = damage(store.objects[key])


def check(repository: Repository, options: CheckOptions) -> CheckReport:
    return check_repository(repository, options, listener=NullListener(), cancel=CancelToken())


def examine(scene: Scene, pack: str, damage: Break, options: CheckOptions, *, knows: bool = False) -> CheckReport:
    """Check a repository in which one pack is broken, on a machine that never saw it or one that saw it whole."""
    store = scene.store()
    with open_repository(store) as repository:
        if knows:
            repository.look()
        broken(scene, pack, damage, store)
        return check(repository, options)


def codes(report: CheckReport) -> Counter[str]:
    return Counter(finding.code for finding in report.findings)


def told(scene: Scene, damage: Damage) -> Told:
    assert damage.files_total == len(damage.files)
    assert {identifier for file in damage.files for identifier in file.snapshots} == set(damage.snapshots)
    return {
        file.path: (file.directory, [scene.snapshots.index(one) for one in file.snapshots], file.newest_intact)
        for file in damage.files
    }


def loss_of(pack: str) -> Told:
    """What is lost with all that a pack holds."""
    if pack.startswith("manifests"):
        # The directories of the second snapshot are deltas to those of the first.
        return {b"": (True, [0, 1] if pack == "manifests 0" else [1], False)}
    rows = [LOST[name] for name in pack.split()]
    return {b"tree/" + name.encode(): (False, snapshots, intact) for name, snapshots, intact in rows}


def chunks_of(pack: str) -> int:
    """How many chunks that snapshots use cannot be read when a pack is lost."""
    if pack.startswith("manifests"):
        return 2 if pack == "manifests 0" else 1
    return len(pack.split()) + ("b" in pack.split())


def assert_lost(scene: Scene, pack: str, report: CheckReport) -> None:
    """The report names what the pack held, and nothing else."""
    assert told(scene, report.damage) == loss_of(pack)
    assert report.damage.chunks == chunks_of(pack)
    assert report.exit_code == 4


def file_findings(pack: str) -> Counter[str]:
    kind = "directory" if pack.startswith("manifests") else "file"
    return Counter({f"check.{kind}_damaged": len(loss_of(pack))})


def unreadable(scene: Scene, store: MemoryStore) -> set[tuple[int, bytes]]:
    """Which files another machine fails to read, of which snapshot; all others have the right bytes."""
    failed: set[tuple[int, bytes]] = set()
    with open_repository(store) as repository:
        repository.look()
        reader = repository.reader
        for number, identifier in enumerate(scene.snapshots):
            expected = scene.expected[number]
            for path, entry in entries_of(reader.load_manifest, repository.catalog.get(identifier)):
                if entry.kind != FILE:
                    continue
                try:
                    parts = [reader.read(Kind.DATA, chunk) for chunk, _ in read_content(reader.load_manifest, entry)]
                except (IntegrityError, ObjectNotFound):
                    failed.add((number, path))
                else:
                    assert digest(parts) == expected[path], path
    return failed


def lost_files(pack: str) -> set[tuple[int, bytes]]:
    return {(number, path) for path, (_, snapshots, _) in loss_of(pack).items() for number in snapshots}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sound_repository_of_every_layout_has_no_findings(scenes: dict[str, Scene], layout: str) -> None:
    for options in (STRUCTURE, DATA, RESTORE):
        with open_repository(scenes[layout].store()) as repository:
            assert check(repository, options).findings == ()
    assert unreadable(scenes[layout], scenes[layout].store()) == set()


@pytest.mark.parametrize("knows", [False, True], ids=["another machine", "a machine that knows it"])
@pytest.mark.parametrize("damage", SHORTENED.values(), ids=SHORTENED)
@pytest.mark.parametrize(("layout", "pack"), PACKS + MANIFESTS)
def test_a_pack_that_is_gone_or_too_short_costs_what_it_held(
    scenes: dict[str, Scene], layout: str, pack: str, damage: Break, knows: bool
) -> None:
    """Its segment is not at fault: the other packs that it describes are as before."""
    scene = scenes[layout]
    said = Counter({"check.pack_missing" if damage is missing else "check.pack_size": 1})

    report = examine(scene, pack, damage, STRUCTURE, knows=knows)

    assert_lost(scene, pack, report)
    assert codes(report) == said + file_findings(pack)

    report = examine(scene, pack, damage, DATA, knows=knows)

    assert_lost(scene, pack, report)
    # Examining a delta block, its base is looked for where it should be.
    held_a_base = "b" in pack.split() or pack == "manifests 0"
    assert codes(report) - said - file_findings(pack) in [Counter(), Counter({"check.pack_damaged": int(held_a_base)})]


@pytest.mark.parametrize("damage", SHORTENED.values(), ids=SHORTENED)
@pytest.mark.parametrize(("layout", "pack"), PACKS)
def test_beside_a_pack_that_is_gone_or_too_short_all_else_is_readable(
    scenes: dict[str, Scene], layout: str, pack: str, damage: Break
) -> None:
    store = scenes[layout].store()
    broken(scenes[layout], pack, damage, store)

    failed = unreadable(scenes[layout], store)

    if LAYOUTS[layout].packs[pack] and damage is not missing:
        # The segment says where its blocks are: those before the cut can still be read.
        assert failed <= lost_files(pack)
    else:
        assert failed == lost_files(pack)


@pytest.mark.parametrize("damage", SHORTENED.values(), ids=SHORTENED)
@pytest.mark.parametrize(("layout", "pack"), PACKS)
def test_a_restore_goes_on_past_a_pack_that_is_gone_or_too_short(
    scenes: dict[str, Scene], layout: str, pack: str, damage: Break
) -> None:
    """The newest snapshot, restored to nowhere: the files that are told are those that were lost."""
    report = examine(scenes[layout], pack, damage, RESTORE)

    newest = {path for number, path in lost_files(pack) if number == 1}
    failed = {finding.path for finding in report.findings if finding.code == "check.restore_failed"}
    assert failed <= newest if LAYOUTS[layout].packs[pack] else failed == newest
    assert report.exit_code == 4


@pytest.mark.parametrize("knows", [False, True], ids=["another machine", "a machine that knows it"])
@pytest.mark.parametrize("damage", HEADER.values(), ids=HEADER)
@pytest.mark.parametrize(("layout", "pack"), PACKS + MANIFESTS)
def test_a_damaged_header_is_told_and_costs_nothing(
    scenes: dict[str, Scene], layout: str, pack: str, damage: Break, knows: bool
) -> None:
    """The segment's row says all that a header says, be the directory repeated there or not."""
    scene = scenes[layout]

    assert examine(scene, pack, damage, STRUCTURE, knows=knows).findings == ()
    assert_told_without_loss(scene.packs[pack].id, examine(scene, pack, damage, DATA, knows=knows))

    store = scene.store()
    broken(scene, pack, damage, store)
    assert unreadable(scene, store) == set()


@pytest.mark.parametrize("knows", [False, True], ids=["another machine", "a machine that knows it"])
@pytest.mark.parametrize("damage", TRAILER.values(), ids=TRAILER)
@pytest.mark.parametrize(("layout", "pack"), FULL_PACKS)
def test_a_damaged_trailer_that_a_segment_repeats_is_told_and_costs_nothing(
    scenes: dict[str, Scene], layout: str, pack: str, damage: Break, knows: bool
) -> None:
    scene = scenes[layout]

    assert examine(scene, pack, damage, STRUCTURE, knows=knows).findings == ()
    assert_told_without_loss(scene.packs[pack].id, examine(scene, pack, damage, DATA, knows=knows))

    store = scene.store()
    broken(scene, pack, damage, store)
    assert unreadable(scene, store) == set()


@pytest.mark.parametrize("damage", TRAILER.values(), ids=TRAILER)
@pytest.mark.parametrize(("layout", "pack"), SHORT_PACKS + MANIFESTS)
def test_a_damaged_trailer_that_no_segment_repeats_costs_the_pack(
    scenes: dict[str, Scene], layout: str, pack: str, damage: Break
) -> None:
    scene = scenes[layout]

    report = examine(scene, pack, damage, STRUCTURE)

    assert_lost(scene, pack, report)
    assert codes(report) == file_findings(pack)

    for knows in (False, True):
        report = examine(scene, pack, damage, DATA, knows=knows)

        assert_lost(scene, pack, report)
        assert codes(report) == Counter({"check.pack_damaged": 1}) + file_findings(pack)
        assert pack_finding(report).message.endswith("; nothing of it can be read")


@pytest.mark.parametrize("damage", TRAILER.values(), ids=TRAILER)
@pytest.mark.parametrize(("layout", "pack"), SHORT_PACKS)
def test_beside_a_short_pack_with_a_damaged_trailer_all_else_is_readable(
    scenes: dict[str, Scene], layout: str, pack: str, damage: Break
) -> None:
    """And the machine that read the trailer before reads the pack, too: its blocks are whole."""
    scene = scenes[layout]
    store = scene.store()
    with open_repository(store) as knowing:
        knowing.look()
        broken(scene, pack, damage, store)

        assert unreadable(scene, store) == lost_files(pack)
        assert check(knowing, STRUCTURE).findings == ()
        for identifier, expected in zip(scene.snapshots, scene.expected, strict=True):
            assert_restores(knowing, knowing.catalog.get(identifier), expected)


@pytest.mark.parametrize("damage", [*SHORTENED.values(), *TRAILER.values()], ids=[*SHORTENED, *TRAILER])
@pytest.mark.parametrize(("layout", "pack"), [row for row in PACKS if row[1] != "B C e"])
def test_what_is_lost_and_still_there_to_be_read_is_stored_again(
    scenes: dict[str, Scene], tmp_path: Path, layout: str, pack: str, damage: Break
) -> None:
    """After the next snapshot of the files of the first one, that one is whole, on any machine: copies are tried
    one after the other, and a pack that is too short for one of them ends nothing."""
    scene = scenes[layout]
    store = scene.store()
    broken(scene, pack, damage, store)
    tree = restored_tree(scene, tmp_path / "tree")
    with open_repository(store) as repository:
        done = take(repository, tree, force=True)
        assert done.snapshot is not None and not done.findings

    with open_repository(store) as another:
        report = check(another, DATA)
        restored = check(another, RESTORE)

        assert report.damage.files_total == 0
        assert "check.restore_failed" not in codes(restored)
        assert_restores(another, another.catalog.get(done.snapshot.id), scene.expected[0])
        assert_restores(another, another.catalog.get(scene.snapshots[0]), scene.expected[0])


def restored_tree(scene: Scene, path: Path) -> Path:
    """The files of the first snapshot as they were, from a sound copy of the repository."""
    path.mkdir()
    with open_repository(scene.store()) as sound:
        sound.look()
        reader = sound.reader
        for name, entry in entries_of(reader.load_manifest, sound.catalog.get(scene.snapshots[0])):
            if entry.kind == FILE:
                chunks = [reader.read(Kind.DATA, chunk) for chunk, _ in read_content(reader.load_manifest, entry)]
                (path.parent / name.decode()).write_bytes(b"".join(chunks))
    return path


def pack_finding(report: CheckReport) -> Finding:
    (finding,) = [finding for finding in report.findings if finding.code == "check.pack_damaged"]
    return finding


def assert_told_without_loss(pack: PackId, report: CheckReport) -> None:
    assert codes(report) == Counter({"check.pack_damaged": 1})
    assert pack.hex()[:16] in pack_finding(report).message
    assert pack_finding(report).message.endswith("; all its chunks can be read")
    assert report.damage == Damage()
    assert report.exit_code == 4
