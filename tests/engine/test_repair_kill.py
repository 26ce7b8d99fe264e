"""Real processes that repair, killed at their writes: nothing is shown that is not whole, and the next run ends the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.engine.repair_snapshots import REPAIR_OF
from dedupstore.repo import layout
from dedupstore.repo.parity import listed_parity
from dedupstore.storage.local import LocalStore
from dedupstore.types import Kind
from tests.support.damaging import check, flip
from tests.support.pruning import prune
from tests.support.replica_process import run_killed, run_repair
from tests.support.replicating import History, assert_mirrored, make_history
from tests.support.repositories import assert_restores, open_repository

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("repair kill"), snapshots=2)


def on_disk(path: Path, objects: dict[str, bytes]) -> Path:
    store = LocalStore.create(str(path))
    for key, data in objects.items():
        store.put(key, [data])
    store.close()
    return path


@pytest.fixture
def mirror(history: History, tmp_path: Path) -> Path:
    return on_disk(tmp_path / "mirror", history.objects)


@pytest.fixture
def broken(history: History, tmp_path: Path) -> Path:
    """A manifest pack is lost, and a block of each data pack damaged; a check has said so."""
    store = history.store()
    with open_repository(store) as repository:
        repository.look()
        rows = list(repository.index.packs())
        for row in rows:
            if row.kind is Kind.DATA:
                flip(store, row.name.key, 100)
        del store.objects[next(row.name.key for row in reversed(rows) if row.kind is Kind.MANIFEST)]
        assert check(repository).exit_code == 4
    return on_disk(tmp_path / "broken", store.objects)


def kill_everywhere(way: str, mirror: Path, place: Path, moment: str, total: int) -> int:
    """Kill runs one after the other on the same repository, at operations spread over the first run's."""
    numbers = range(total // 2, total, max(1, total // 12))
    return sum(run_killed(way, mirror, place, place, number, moment) is None for number in numbers)


def operations(way: str, mirror: Path, tmp_path: Path, place: Path) -> int:
    """How many operations a run takes that nobody kills, on a copy of the repository."""
    objects = {row.key: LocalStore(str(place)).get(row.key) for row in LocalStore(str(place)).list("")}
    done = run_killed(way, mirror, on_disk(tmp_path / "counted", objects), tmp_path, -1, "after")
    assert done is not None
    return done


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_repair_of_packs_is_ended_by_the_next(
    history: History, mirror: Path, broken: Path, tmp_path: Path, moment: str
) -> None:
    total = operations("packs", mirror, tmp_path, broken)

    killed = kill_everywhere("packs", mirror, broken, moment, total)
    run_repair("packs", LocalStore(str(mirror)), LocalStore(str(broken)))

    assert killed >= 2
    assert_mirrored(LocalStore(str(broken)), history.states, list(history.states))
    with open_repository(LocalStore(str(broken))) as repository:
        prune(repository)
        assert repository.look().whole


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_repair_of_snapshots_shows_none_that_is_half(
    history: History, mirror: Path, broken: Path, tmp_path: Path, moment: str
) -> None:
    total = operations("snapshots", mirror, tmp_path, broken)

    killed = kill_everywhere("snapshots", mirror, broken, moment, total)
    run_repair("snapshots", LocalStore(str(mirror)), LocalStore(str(broken)))

    assert killed >= 2
    run_repair("packs", LocalStore(str(mirror)), LocalStore(str(broken)))
    with open_repository(LocalStore(str(broken))) as repository:
        listing = repository.catalog.snapshots()
        assert not listing.damaged
        for snapshot in listing.snapshots:
            if REPAIR_OF not in dict(snapshot.details):
                assert_restores(repository, snapshot, history.states[snapshot.id])
        assert check(repository).exit_code == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_parity_that_was_being_made_is_made_by_the_next_run(
    history: History, mirror: Path, tmp_path: Path, moment: str
) -> None:
    place = on_disk(tmp_path / "place", history.objects)
    total = operations("parity", mirror, tmp_path, place)

    killed = kill_everywhere("parity", mirror, place, moment, total)
    run_repair("parity", LocalStore(str(mirror)), LocalStore(str(place)))

    assert killed >= 1
    store = LocalStore(str(place))
    packs = {row.key.rsplit("/")[-1].split(".")[0] for row in layout.list_complete(store, layout.PACKS)}
    assert {pack.hex() for pack in listed_parity(store)} == packs
    assert_mirrored(store, history.states, list(history.states))
