"""`dedup mount`, mounted for real: what is seen through the kernel is what was stored."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from dedupstore.service import mount as service
from tests.support.dedup import PATIENCE_SECONDS, SENTINELS, Dedup, write_tree
from tests.support.mounting import mounted, require_fuse, unmount


@pytest.fixture(autouse=True)
def fuse() -> None:
    require_fuse()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = write_tree(
        tmp_path / "tree",
        {"a.txt": "hello\n", "sub/b.bin": os.urandom(700_000), "sub/empty": "", "sub/deep/c": "c" * 5_000},
    )
    os.link(tree / "a.txt", tree / "sub" / "same as a")
    (tree / "link").symlink_to("sub/b.bin")
    os.mkfifo(tree / "pipe")
    (tree / os.fsdecode(b"bad \xff name\n")).write_text("odd")
    with (tree / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(3_000_000)
        file.write(b"middle")
        file.truncate(5_000_000)
    many = tree / "many"
    many.mkdir()
    for number in range(600):
        (many / f"{number:04d}").write_text(str(number))
    (tree / "sub").chmod(0o751)
    (tree / "a.txt").chmod(0o640)
    os.setxattr(tree / "sub" / "b.bin", "user.binary", b"\0\xff=\n")
    if os.geteuid() == 0:
        os.chown(tree / "a.txt", 12_345, 54_321)
    for number, path in enumerate(sorted(tree.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number), follow_symlinks=False)
    return tree


def described(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content: object = b""
        if stat.S_ISREG(info.st_mode):
            content = path.read_bytes()
        elif path.is_symlink():
            content = os.readlink(path)
        names = [] if path.is_symlink() else sorted(os.listxattr(path))
        found[str(path.relative_to(root))] = (
            stat.filemode(info.st_mode), content, info.st_mtime_ns, info.st_uid, info.st_gid,
            info.st_nlink if stat.S_ISREG(info.st_mode) else 0, [(name, os.getxattr(path, name)) for name in names],
        )  # fmt: skip
    return found


def test_what_is_mounted_is_what_was_stored(dedup: Dedup, tree: Path) -> None:
    first = dedup.snapshot(tree, "--source", "site", "--time", "2026-01-01 12:00")
    (tree / "a.txt").write_text("changed\n")
    second = dedup.snapshot(tree, "--source", "site", "--time", "2026-01-02 12:00")
    names = [f"2026-01-01_1200_{first[:4]}-{first[4:6]}", f"2026-01-02_1200_{second[:4]}-{second[4:6]}"]

    with mounted(dedup) as mount:
        assert sorted(os.listdir(mount.path)) == ["by-source", "by-time"]
        assert sorted(os.listdir(mount.path / "by-time")) == names
        assert sorted(os.listdir(mount.path / "by-source" / "site")) == [*names, "latest"]
        assert os.readlink(mount.path / "by-source" / "site" / "latest") == names[1]
        assert (mount.path / "by-time" / names[0] / "tree" / "a.txt").read_text() == "hello\n"
        latest = mount.path / "by-source" / "site" / "latest" / "tree"
        assert described(latest) == described(tree)
        one, other = latest / "a.txt", latest / "sub" / "same as a"
        assert (
            one.stat().st_ino
            == other.stat().st_ino
            == (mount.path / "by-time" / names[1] / "tree" / "a.txt").stat().st_ino
        )
        assert (latest / "sparse").stat().st_blocks * 512 < 1_000_000
        inode = latest.stat().st_ino
        assert mount.end() == 0
        assert not os.path.ismount(mount.path)
        assert "unmounted" in mount.err
    with mounted(dedup) as mount:
        assert (mount.path / "by-source" / "site" / "latest" / "tree").stat().st_ino == inode


def test_nothing_can_be_written(dedup: Dedup, tree: Path) -> None:
    dedup.snapshot(tree, "--source", "site")

    with mounted(dedup, "--source", "site") as mount:
        for change in (
            lambda: (mount.path / "tree" / "a.txt").write_text("x"),
            lambda: (mount.path / "tree" / "new").touch(),
            lambda: (mount.path / "tree" / "a.txt").unlink(),
            lambda: (mount.path / "tree" / "a.txt").chmod(0o777),
            lambda: (mount.path / "new").mkdir(),
        ):
            with pytest.raises(OSError) as raised:
                change()
            assert raised.value.errno == errno.EROFS
        with pytest.raises(FileNotFoundError):
            (mount.path / "tree" / "nothing").stat()
        with pytest.raises(NotADirectoryError):
            (mount.path / "tree" / "a.txt" / "below").stat()


def test_files_are_read_from_anywhere_in_any_order(dedup: Dedup, tree: Path) -> None:
    dedup.snapshot(tree, "--source", "site")

    with mounted(dedup, "--snapshot", "latest") as mount:
        for name in ("sub/b.bin", "sparse"):
            data = (tree / name).read_bytes()
            descriptor = os.open(mount.path / "tree" / name, os.O_RDONLY)
            try:
                for offset in (650_000, 0, 300_001, 699_999, 1, 2_999_990, 4_999_999, 10**9):
                    assert os.pread(descriptor, 4_096, offset) == data[offset : offset + 4_096]
            finally:
                os.close(descriptor)
        done = subprocess.run(
            ["tar", "-cf", "-", "-C", str(mount.path), "tree"], capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_new_snapshots_appear_and_a_selection_shows_one(
    dedup: Dedup, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dedup.snapshot(tree, "--source", "a/b", "--time", "2026-01-01 12:00")
    with mounted(dedup, "--at", "2026-01-01 13:00") as mount:
        assert os.listdir(mount.path) == ["tree"]

    with mounted(dedup) as mount:
        assert os.listdir(mount.path / "by-source") == ["a_b"]
        dedup.snapshot(tree, "--source", "later", "--time", "2026-01-02 12:00")
        # The list may be a few seconds old: ask until it is not.
        while len(os.listdir(mount.path / "by-time")) < 2:
            assert mount.process.poll() is None
        assert (mount.path / "by-source" / "later" / "latest" / "tree" / "a.txt").read_text() == "hello\n"


def spoil(dedup: Dedup, letter: str, *, delete: bool) -> None:
    """Delete the packs of a kind, or write zeros into their blocks."""
    for path in dedup.repository.glob(f"packs/*/*.{letter}*"):
        if path.name in SENTINELS:
            continue
        path.chmod(0o600)
        if delete:
            path.unlink()
        else:
            content = bytearray(path.read_bytes())
            content[70 : len(content) - 8_192] = bytes(len(content) - 8_262)
            path.write_bytes(content)


@pytest.mark.parametrize("delete", [False, True], ids=["damaged", "pruned meanwhile"])
def test_what_cannot_be_read_is_an_error_and_a_line_and_not_the_end(dedup: Dedup, tree: Path, delete: bool) -> None:
    dedup.snapshot(tree)

    with mounted(dedup, "--snapshot", "latest") as mount:
        assert (mount.path / "tree" / "a.txt").stat().st_size == 6
        spoil(dedup, "d", delete=delete)
        for name in ("sub/b.bin", "sub/deep/c", "sub/b.bin"):
            with pytest.raises(OSError) as raised:
                (mount.path / "tree" / name).read_bytes()
            assert raised.value.errno == errno.EIO
        # Names are in other packs, and are still there.
        assert len(os.listdir(mount.path / "tree" / "many")) == 600
        assert mount.end(signal.SIGTERM) == 4
        assert mount.err.count("tree/sub/b.bin") == 1
        assert not os.path.ismount(mount.path)


def test_directories_that_cannot_be_read_are_no_empty_ones(dedup: Dedup, tree: Path) -> None:
    dedup.snapshot(tree)

    with mounted(dedup, "--snapshot", "latest") as mount:
        spoil(dedup, "m", delete=True)
        with pytest.raises(OSError) as raised:
            os.listdir(mount.path / "tree" / "many")
        assert raised.value.errno == errno.EIO


def test_a_mount_that_is_unmounted_from_outside_ends_well(dedup: Dedup, tree: Path) -> None:
    dedup.snapshot(tree)

    with mounted(dedup) as mount:
        unmount(mount.path)
        _, mount.err = mount.process.communicate(timeout=PATIENCE_SECONDS)
        assert mount.process.returncode == 0


def test_a_mount_whose_program_was_killed_is_told_from_a_directory(dedup: Dedup, tree: Path) -> None:
    dedup.snapshot(tree)

    with mounted(dedup) as mount:
        mount.end(signal.SIGKILL)
        run = dedup("mount", mount.path)
        unmount(mount.path)

    assert run.code == "mount.target"
    assert "mount whose program is gone" in run.err
    assert f"{service.unmount_command(str(mount.path))}" in run.err


def test_what_is_no_empty_directory_is_refused(dedup: Dedup, tree: Path) -> None:
    dedup.snapshot(tree)

    assert dedup("mount", tree).code == "mount.target"
    assert dedup("mount", tree / "no" / "where").code == "mount.target"
    assert dedup("mount", tree, "--at", "now", "--snapshot", "latest").exit_code == 2
    (dedup.home / "empty").mkdir()
    assert dedup("mount", dedup.home / "empty", "--snapshot", "nothing").exit_code == 5


def test_what_is_missing_is_named_with_the_way_to_install_it(
    dedup: Dedup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (dedup.home / "empty").mkdir()
    write_tree(
        tmp_path / "modules",
        {"no_libfuse.py": "raise OSError('Unable to find libfuse')", "no_mfusepy.py": "import nothing_of_this_name"},
    )
    monkeypatch.syspath_prepend(tmp_path / "modules")
    for module, hint in (("no_mfusepy", "pip install 'dedupstore[mount]'"), ("no_libfuse", "apt install fuse3")):
        with monkeypatch.context() as patch:
            patch.setattr(service, "_FUSE", module)
            run = dedup("mount", dedup.home / "empty")
        assert run.code == "mount.unavailable"
        assert hint in run.err
    monkeypatch.setattr(service, "_DEVICE", Path("/dev/no such device"))
    assert "there is no /dev/no such device" in dedup("mount", dedup.home / "empty").err
