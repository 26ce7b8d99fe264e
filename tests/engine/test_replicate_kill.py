"""Real processes that copy and mirror, killed: what is shown is whole, and running again is all that is ever needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.repo import layout
from dedupstore.storage.local import LocalStore
from tests.support.replica_process import run_killed
from tests.support.replicating import History, assert_copied, assert_mirrored, make_history
from tests.support.repositories import new_repository

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return make_history(tmp_path_factory.mktemp("kill"), snapshots=2)


@pytest.fixture
def source(history: History, tmp_path: Path) -> Path:
    store = LocalStore.create(str(tmp_path / "source"))
    for key, data in history.objects.items():
        store.put(key, [data])
    store.close()
    return tmp_path / "source"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_mirror_shows_nothing_wrong_and_is_completed_by_the_next_run(
    history: History, source: Path, tmp_path: Path, moment: str
) -> None:
    target, killed = tmp_path / "target", 0
    LocalStore.create(str(target)).close()
    for number in (16, 24, 28, 31, 36):
        killed += run_killed("mirror", source, target, tmp_path, number, moment) is None
        store = LocalStore(str(target))
        if (target / layout.FORMAT_KEY).exists():
            assert_mirrored(store, history.states)
    run_killed("mirror", source, target, tmp_path, -1, moment)

    assert killed >= 2
    assert_mirrored(LocalStore(str(target)), history.states, list(history.states))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_killed_copy_shows_nothing_wrong_and_is_completed_by_the_next_run(
    history: History, source: Path, tmp_path: Path, moment: str
) -> None:
    target, cache, killed = tmp_path / "target", tmp_path / "cache", 0
    new_repository(LocalStore.create(str(target))).close()
    for number in (8, 16, 20, 22, 24):
        killed += run_killed("copy", source, target, cache, number, moment) is None
        assert_copied(LocalStore(str(target)), history)
    run_killed("copy", source, target, cache, -1, moment)

    assert killed >= 2
    assert_copied(LocalStore(str(target)), history, list(history.states))
