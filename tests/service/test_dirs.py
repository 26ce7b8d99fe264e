"""Local directories are where the user says, and private."""

from __future__ import annotations

from pathlib import Path

import pytest

from dedupstore.errors import Refused
from dedupstore.service.dirs import cache_dir, private_directory, state_dir


def test_the_own_variable_wins_over_systemd_over_the_platform() -> None:
    assert cache_dir({"DEDUP_CACHE_DIR": "/a", "CACHE_DIRECTORY": "/b:/c"}) == Path("/a")
    assert cache_dir({"CACHE_DIRECTORY": "/b:/c"}) == Path("/b")
    assert state_dir({"DEDUP_STATE_DIR": "/a"}) == Path("/a")
    assert state_dir({}).name == "dedup"
    assert cache_dir({}) != state_dir({})


def test_a_missing_directory_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    path = private_directory(tmp_path / "new" / "state")

    assert path.stat().st_mode & 0o777 == 0o700


def test_a_link_and_a_directory_others_may_write_to_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)

    with pytest.raises(Refused, match="symbolic link"):
        private_directory(tmp_path / "link")
    with pytest.raises(Refused, match="others may write"):
        private_directory(tmp_path / "shared")
