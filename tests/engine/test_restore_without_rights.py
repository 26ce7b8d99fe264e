"""Restoring without root over directories that are closed to us, or are somebody else's."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.engine.restore_options import RestoreOptions
from dedupstore.engine.target import Target
from dedupstore.errors import TargetFailed
from tests.support.restoring import (
    DictReader,
    content_of,
    file_entry,
    folder_entry,
    run_restore,
    save_tree,
    snapshot_of,
)
from tests.support.unprivileged import as_nobody, folder_of_nobody


@pytest.fixture
def poor_folder() -> Iterator[Path]:
    with folder_of_nobody() as folder:
        yield folder


def test_without_rights_read_only_directories_are_filled_again(reader: DictReader, poor_folder: Path) -> None:
    target = os.fsencode(poor_folder / "mine")
    locked = folder_entry(reader, b"locked", {b"f": b"x", b"g": b"y"}, mode=0o555)
    foreign = replace(file_entry(reader, b"foreign", b"z"), uid=1, gid=1)
    snapshot = snapshot_of(save_tree(reader, {b"locked": locked, b"foreign": foreign}))

    def twice() -> tuple[int, dict[str, int], dict[bytes, object]]:
        first = run_restore(reader, snapshot, RestoreOptions(target=target, owners=True))
        os.chmod(target + b"/locked", 0o700)
        os.unlink(target + b"/locked/f")
        os.chmod(target + b"/locked", 0o555)
        second = run_restore(reader, snapshot, RestoreOptions(target=target))
        return first.result.exit_code + second.result.exit_code, dict(first.result.dropped), content_of(target)

    code, dropped, found = as_nobody(twice)

    assert found == {b"locked": {b"f": b"x", b"g": b"y"}, b"foreign": b"z"}
    assert (code, stat.S_IMODE(os.stat(target + b"/locked").st_mode)) == (0, 0o555)
    assert dropped["owner"] >= 1


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o200, 0o555])
def test_without_rights_directories_of_ours_that_are_closed_to_us_are_compared_and_closed_again(
    reader: DictReader, poor_folder: Path, mode: int
) -> None:
    target = os.fsencode(poor_folder / "mine")
    closed = folder_entry(reader, b"closed", {b"f": b"x", b"g": b"y"}, mode=mode)
    snapshot = snapshot_of(save_tree(reader, {b"closed": closed}))

    def thrice() -> tuple[list[str], list[int], dict[bytes, object]]:
        done = run_restore(reader, snapshot, RestoreOptions(target=target))
        os.chmod(target + b"/closed", 0o700)
        os.unlink(target + b"/closed/f")
        os.chmod(target + b"/closed", mode)
        again = run_restore(reader, snapshot, RestoreOptions(target=target))
        part = run_restore(reader, snapshot, RestoreOptions(target=target, paths=(b"closed/g",)))
        found = stat.S_IMODE(os.stat(target + b"/closed").st_mode)
        os.chmod(target + b"/closed", 0o700)
        files = [one.result.files for one in (done, again, part)]
        return done.codes + again.codes + part.codes, [*files, found], content_of(target)

    assert as_nobody(thrice) == ([], [2, 1, 0, mode], {b"closed": {b"f": b"x", b"g": b"y"}})


def test_a_directory_of_somebody_else_is_filled_and_its_mode_is_said_to_be_wrong(
    reader: DictReader, poor_folder: Path
) -> None:
    if os.geteuid():
        pytest.skip("only root can give a directory away")
    target = poor_folder / "mine"
    (target / "shared").mkdir(parents=True)
    (target / "shared").chmod(0o777)
    os.chown(target, 65534, 65534)
    shared = folder_entry(reader, b"shared", {b"f": b"x"}, mode=0o700)
    snapshot = snapshot_of(save_tree(reader, {b"shared": shared}))

    done = as_nobody(lambda: run_restore(reader, snapshot, RestoreOptions(target=os.fsencode(target))).result)

    assert (target / "shared" / "f").read_bytes() == b"x"
    assert [finding.message for finding in done.findings] == [
        "its owner, mode and times were not restored: Operation not permitted"
    ]


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o555])
def test_a_closed_directory_that_cannot_be_listed_is_closed_again(
    reader: DictReader, poor_folder: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = os.fsencode(poor_folder / "mine")
    closed = folder_entry(reader, b"closed", {b"f": b"x"}, mode=mode)
    snapshot = snapshot_of(save_tree(reader, {b"closed": closed}))
    listed = Target._list

    def broken(self: Target, fd: int, *, sweep: bool) -> Mapping[bytes, os.stat_result]:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("/closed"):
            raise OSError(errno.EIO, "input/output error")
        return listed(self, fd, sweep=sweep)

    def twice() -> tuple[int, int, int]:
        first = run_restore(reader, snapshot, RestoreOptions(target=target)).result.exit_code
        opened = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(Target, "_list", broken)
        with pytest.raises(TargetFailed):
            run_restore(reader, snapshot, RestoreOptions(target=target))
        left = len(os.listdir("/proc/self/fd")) - opened
        return first, left, stat.S_IMODE(os.stat(target + b"/closed").st_mode)

    assert as_nobody(twice) == (0, 0, mode)
