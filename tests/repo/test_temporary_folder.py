"""What a killed owner of a temporary index left is deleted by the next one, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dedupstore.errors import CacheError
from dedupstore.repo.lmdb_index import temporary_index
from dedupstore.repo.temporary_folder import TemporaryFolder
from tests.support.packs import REPOSITORY

KEY = bytes(range(32))
DAY_SECONDS = 24 * 3600

HOLDER = """
import sys
from pathlib import Path
from dedupstore.repo.lmdb_index import temporary_index
index = temporary_index(bytes(16), bytes(32), Path(sys.argv[1]))
print(index.folder, flush=True)
sys.stdin.read()
"""


def test_a_living_owner_keeps_its_folder_and_a_killed_one_loses_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        theirs = Path(holder.stdout.readline().strip())
        with temporary_index(REPOSITORY, KEY, tmp_path) as index:
            assert sorted(tmp_path.iterdir()) == sorted([theirs, index.folder])
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert (theirs / "data.mdb").exists()

    with temporary_index(REPOSITORY, KEY, tmp_path) as index:
        assert list(tmp_path.iterdir()) == [index.folder]

    assert list(tmp_path.iterdir()) == []


def test_two_owners_of_one_process_let_each_other_be(tmp_path: Path) -> None:
    first, second = TemporaryFolder(tmp_path), TemporaryFolder(tmp_path)

    assert sorted(tmp_path.iterdir()) == sorted([first.path, second.path])

    first.remove()
    assert list(tmp_path.iterdir()) == [second.path]
    second.remove()


def test_only_folders_of_that_name_and_of_a_day_are_taken_for_abandoned(tmp_path: Path) -> None:
    young, old, other = tmp_path / "dedup-index-young", tmp_path / "dedup-index-old", tmp_path / "other"
    link, target = tmp_path / "dedup-index-link", tmp_path / "target"
    for folder in (young, old, other, target):
        folder.mkdir()
        (folder / "data.mdb").write_bytes(b"x")
    link.symlink_to(target)
    for folder in (old, other, target):
        past = folder.stat().st_mtime - DAY_SECONDS - 60
        os.utime(folder, (past, past))

    TemporaryFolder(tmp_path).remove()

    assert sorted(tmp_path.iterdir()) == sorted([young, other, target, link])
    assert (target / "data.mdb").exists()


def test_no_place_is_a_cache_error(tmp_path: Path) -> None:
    with pytest.raises(CacheError):
        TemporaryFolder(tmp_path / "missing")
