"""What a look at the store makes of segments that leave directories out, and of packs that are gone or damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, CheckReport, DataShare
from dedupstore.engine.repair import RepairReport, repair_index
from dedupstore.errors import CorruptObject
from dedupstore.events import NullListener
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.repository import Repository
from dedupstore.repo.segment import PackFacts, decode_segment
from dedupstore.storage.memory import MemoryStore
from dedupstore.types import Kind
from tests.support.recording import RecordingStore
from tests.support.repositories import (
    assert_restores,
    chunk_locations,
    files_below,
    make_tree,
    mutate_tree,
    new_repository,
    open_repository,
    take,
)

Break = Callable[[MemoryStore, str], None]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree")


@pytest.fixture
def repository(store: MemoryStore, tree: Path) -> Iterator[Repository]:
    """Two snapshots: a full data pack and short ones of both kinds."""
    with new_repository(store) as made:
        take(made, tree)
        mutate_tree(tree, 1)
        take(made, tree)
        yield made


def said(repository: Repository) -> list[PackFacts]:
    """What the segments themselves say, nothing filled in."""
    store, keyring = repository.store, repository.keyring
    rows = layout.list_complete(store, layout.INDEX)
    return [fact for row in rows for fact in decode_segment(keyring, row.key, store.get(row.key))]


def known_locations(repository: Repository) -> set[tuple[bytes, int, int, int, bytes]]:
    """Where this machine's index says that chunks are, of all that the store holds."""
    index = repository.index
    return {
        (index.pack(at.pack_no).id, at.block_no, at.position, at.length, row[4])
        for row in chunk_locations(repository)
        for at in index.find_all(row[4])  # type: ignore[arg-type]
    }


def short_pack(repository: Repository, kind: Kind = Kind.DATA) -> PackFacts:
    """The one of the first snapshot; segments are listed in any order."""
    short = [fact for fact in said(repository) if not fact.repeated and fact.kind is kind]
    return min(short, key=lambda fact: repository.index.pack_no(fact.id) or 0)


def check(repository: Repository, *, data: bool = False) -> CheckReport:
    options = CheckOptions(read_data=DataShare()) if data else CheckOptions()
    return check_repository(repository, options, listener=NullListener(), cancel=CancelToken())


def repair(repository: Repository) -> RepairReport:
    return repair_index(repository, dry_run=False, listener=NullListener(), cancel=CancelToken())


def remove(store: MemoryStore, key: str) -> None:
    del store.objects[key]


def bend(store: MemoryStore, key: str) -> None:
    """Change the last byte, whatever it is: of a pack that is its trailer's."""
    data = store.objects[key]
    store.objects[key] = data[:-1] + bytes([data[-1] ^ 1])


def test_short_packs_are_named_without_their_directories_and_full_ones_with_them(repository: Repository) -> None:
    facts = said(repository)

    assert {fact.repeated for fact in facts if fact.kind is Kind.DATA} == {True, False}
    full = repository.config.pack_bytes
    assert all(fact.repeated == (fact.size == full) for fact in facts if fact.kind is Kind.DATA)
    assert not any(fact.repeated for fact in facts if fact.kind is Kind.MANIFEST)


def test_another_machine_learns_the_same_places_with_one_request_for_each_short_pack(
    repository: Repository, store: MemoryStore
) -> None:
    recording = RecordingStore(store)
    with open_repository(recording) as other:
        view = other.look()

        reads = [call for call in recording.calls if call.verb == "get" and call.folder == "packs"]
        assert len(reads) == sum(not fact.repeated for fact in said(repository)) > 0
        assert max(call.size for call in reads) <= 4096
        assert view.whole and not view.orphans
        assert all(row.known for row in other.index.packs())
        assert known_locations(other) == known_locations(repository) == chunk_locations(repository)


def test_the_machine_that_wrote_a_pack_does_not_ask_for_its_directory(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    recording = RecordingStore(store)
    with open_repository(recording) as other:
        other.look()
        recording.calls.clear()
        mutate_tree(tree, 2)
        take(other, tree)
        other.look()

    ranges = [call for call in recording.calls if call.verb == "get" and call.folder == "packs" and call.span]
    assert ranges, "directories are read for their deltas"
    # Nothing but the trailer reaches to the end of a pack.
    assert not [call for call in ranges if call.span and call.span.end == len(store.objects[call.key])]


@pytest.mark.parametrize("damage", [remove, bend])
@pytest.mark.parametrize("kind", Kind)
def test_a_short_pack_that_is_gone_or_has_no_readable_trailer_is_lost_and_the_others_are_fine(
    repository: Repository, store: MemoryStore, damage: Break, kind: Kind
) -> None:
    pack = short_pack(repository, kind)
    before = chunk_locations(repository)
    damage(store, pack.name.key)

    with open_repository(store) as other:
        view = other.look()

        assert view.lost == {pack.id} and not view.whole and not view.orphans
        number = other.index.pack_no(pack.id)
        assert number is not None and number not in view.usable
        assert not other.index.pack(number).known
        assert known_locations(other) == {row for row in before if row[0] != pack.id}
        assert len(view.usable) == len({fact.id for fact in said(repository)}) - 1


@pytest.mark.parametrize("damage", [remove, bend])
def test_what_such_a_pack_held_is_stored_again_by_the_next_snapshot(
    repository: Repository, store: MemoryStore, tree: Path, damage: Break
) -> None:
    """No file has changed, so nothing but the unknown directory can tell that its bytes must be read."""
    for kind in Kind:
        damage(store, short_pack(repository, kind).name.key)

    with open_repository(store) as other:
        done = take(other, tree)

        assert done.snapshot is not None and not done.findings
    with open_repository(store) as another:
        another.look()
        assert_restores(another, done.snapshot, files_below(tree))


@pytest.mark.parametrize("damage", [remove, bend])
def test_a_pack_that_is_back_is_used_by_a_machine_that_missed_it(
    repository: Repository, store: MemoryStore, tree: Path, damage: Break
) -> None:
    """One bad reading must not hide a pack from this machine for ever."""
    key = short_pack(repository).name.key
    good = store.objects[key]
    damage(store, key)
    with open_repository(store) as other:
        assert not other.look().whole

        store.objects[key] = good

        assert other.look().whole
        assert known_locations(other) == chunk_locations(repository)
        assert_restores(other, other.catalog.snapshots().snapshots[-1], files_below(tree))


def test_a_directory_that_does_not_parse_ends_no_look(
    repository: Repository, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only who has the keys can write one; it costs its own pack."""
    pack = short_pack(repository)
    genuine = PackFacts.blocks

    def bent(fact: PackFacts) -> object:
        if fact.id == pack.id and fact.directory:
            raise CorruptObject("bent")
        return genuine(fact)

    monkeypatch.setattr(PackFacts, "blocks", bent)
    with open_repository(store) as other:
        assert other.look().lost == {pack.id}


def test_check_and_repair_agree_about_a_broken_trailer(repository: Repository, store: MemoryStore, tree: Path) -> None:
    pack = short_pack(repository)
    assert repair(repository).segments_written == 0
    bend(store, pack.name.key)

    with open_repository(store) as other:
        other.look()
        report, repaired = check(other), repair(other)

        assert report.exit_code == 4 and report.damage.files_total > 0
        assert repaired.exit_code == 4
        assert (repaired.packs_unreadable, repaired.packs_indexed, repaired.segments_written) == (1, 0, 0)
        assert {finding.code for finding in repaired.findings} == {"repair.pack_unreadable"}
        whole = check(other, data=True)
        assert "check.pack_damaged" in {finding.code for finding in whole.findings}
        assert "check.pack_unindexed" not in {finding.code for finding in whole.findings}


def test_check_and_repair_agree_about_a_lost_short_pack(repository: Repository, store: MemoryStore) -> None:
    pack = short_pack(repository)
    remove(store, pack.name.key)

    with open_repository(store) as other:
        other.look()
        report, repaired = check(other), repair(other)

        assert "check.pack_missing" in {finding.code for finding in report.findings}
        assert report.damage.files_total > 0
        assert (repaired.packs_indexed, repaired.packs_unreadable, repaired.segments_written) == (0, 0, 0)


def test_a_repaired_index_agrees_with_segments_that_leave_directories_out(
    repository: Repository, store: MemoryStore, tree: Path
) -> None:
    before = chunk_locations(repository)
    damaged = next(key for key in sorted(store.objects) if key.startswith("index/") and key not in layout.SENTINELS)
    bend(store, damaged)

    with open_repository(store) as other:
        repaired = repair(other)

        assert repaired.packs_indexed > 0 and repaired.exit_code == 0
        assert {finding.code for finding in check(other, data=True).findings} == {"check.segment_superseded"}
        assert repair(other).segments_written == 0
    del store.objects[damaged]
    assert chunk_locations(repository) == before
    packs = [key for key in store.objects if key.startswith(layout.PACKS) and key not in layout.SENTINELS]
    assert {PackName.parse(key).id for key in packs} == {row[0] for row in before}
