"""`dedup dump`: the archive, unpacked by the tools people have, is the directory as it was."""

from __future__ import annotations

import io
import os
import socket
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.dedup import COMMAND, PATIENCE_SECONDS, SENTINELS, Dedup, write_tree

ROOT = os.geteuid() == 0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Of everything one."""
    tree = write_tree(
        tmp_path / "tree",
        {"a.txt": "hello\n", "sub/b.bin": bytes(range(256)) * 400, "sub/empty": "", "sub/deep/c": "c" * 100_000},
    )
    os.link(tree / "a.txt", tree / "sub" / "same as a")
    (tree / "link").symlink_to("../sub/b.bin")
    os.mkfifo(tree / "pipe")
    (tree / os.fsdecode(b"bad \xff name\n")).write_text("odd")
    (tree / ("long" * 50)).mkdir()
    (tree / ("long" * 50) / ("name" * 40)).write_text("long")
    with (tree / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(3_000_000)
        file.write(b"middle")
        file.truncate(5_000_000)
    (tree / "sub").chmod(0o751)
    (tree / "a.txt").chmod(0o600)
    os.setxattr(tree / "sub" / "b.bin", "user.binary", b"\0\xff=\n")
    os.setxattr(tree / "sub" / "b.bin", "user.text", b"text")
    if ROOT:
        os.mknod(tree / "null", 0o640 | stat.S_IFCHR, os.makedev(1, 3))
        os.chown(tree / "a.txt", 12_345, 3_000_000)
    for number, path in enumerate(sorted(tree.rglob("*"), reverse=True)):
        os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number), follow_symlinks=False)
    os.utime(tree / "sub" / "empty", ns=(0, -1_500_000_001))
    return tree


def described(root: Path, *, whole: bool = True) -> dict[str, tuple[object, ...]]:
    """Everything below a directory as the file system tells it; not `whole`: what a zip archive keeps."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content: object = b""
        if stat.S_ISREG(info.st_mode):
            content = path.read_bytes()
        elif path.is_symlink():
            content = os.readlink(path)
        row: tuple[object, ...] = (stat.filemode(info.st_mode), content)
        if whole:
            names = [] if path.is_symlink() else sorted(os.listxattr(path))
            row += (info.st_mtime_ns, info.st_nlink if not path.is_dir() else 0, info.st_rdev)
            row += (info.st_uid, info.st_gid, [(name, os.getxattr(path, name)) for name in names])
        found[str(path.relative_to(root))] = row
    return found


def test_a_tar_archive_unpacks_to_what_was_there(dedup: Dedup, tree: Path, tmp_path: Path) -> None:
    dedup.snapshot(tree)
    target = tmp_path / "unpacked"
    target.mkdir()

    archive = dedup.ok("dump", "latest:tree").raw

    done = subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-", "-C", str(target)],
        input=archive, capture_output=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert described(target / "tree") == described(tree)
    assert (target / "tree").stat().st_mtime_ns == tree.stat().st_mtime_ns
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        members = {member.name: member for member in opened.getmembers()}
    assert members["tree/sub/b.bin"].pax_headers["SCHILY.xattr.user.text"] == "text"
    assert members["tree/sub/same as a"].islnk()


def test_a_zip_archive_unpacks_to_the_files_and_says_what_it_leaves_out(
    dedup: Dedup, tree: Path, tmp_path: Path
) -> None:
    dedup.snapshot(tree)
    file = tmp_path / "tree.zip"

    run = dedup("dump", "latest:tree", "-o", file)

    assert run.exit_code == 3
    assert "only files, directories and links" in run.err
    assert "no UTF-8 is written as tree/bad \\xff name" in run.err
    assert file.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(file) as opened:
        assert opened.testzip() is None
    target = tmp_path / "unpacked"
    done = subprocess.run(
        ["unzip", "-q", str(file), "-d", str(target)], capture_output=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    kept = {
        name: row
        for name, row in described(tree, whole=False).items()
        if not name.startswith(("bad", "null", "pipe"))
    }  # fmt: skip
    unpacked = {name: row for name, row in described(target / "tree", whole=False).items() if "bad" not in name}
    assert unpacked == kept
    assert int((target / "tree" / "a.txt").stat().st_mtime) == int((tree / "a.txt").stat().st_mtime)


def test_one_file_and_one_directory_can_be_dumped(dedup: Dedup, tree: Path) -> None:
    dedup.snapshot(tree)

    for path, expected in (
        ("tree/a.txt", {"tree/a.txt"}),
        ("tree/sub/deep", {"tree/sub/deep", "tree/sub/deep/c"}),
    ):
        with tarfile.open(fileobj=io.BytesIO(dedup.ok("dump", f"latest:{path}").raw)) as opened:
            assert set(opened.getnames()) == expected
    with tarfile.open(fileobj=io.BytesIO(dedup.ok("dump").raw)) as opened:
        assert "tree" in opened.getnames()
    assert dedup("dump", "latest:nowhere").code == "snapshot.path_not_found"


def test_a_socket_is_told_and_left_out(dedup: Dedup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = write_tree(tmp_path / "t", {"a": "x"})
    monkeypatch.chdir(tree)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        dedup.snapshot(tree)

    run = dedup("dump", "latest:t")

    assert run.exit_code == 3
    assert "t/s: a socket is not kept" in run.err
    with tarfile.open(fileobj=io.BytesIO(run.raw)) as opened:
        assert opened.getnames() == ["t", "t/a"]


def damage(dedup: Dedup) -> None:
    for path in dedup.repository.glob("packs/*/*.d*"):
        if path.name not in SENTINELS:
            content = bytearray(path.read_bytes())
            content[5_000:6_000] = bytes(1_000)
            path.chmod(0o600)
            path.write_bytes(content)


def test_after_damage_the_archive_has_no_end_and_is_said_to_have_none(dedup: Dedup, tmp_path: Path) -> None:
    files = {f"{number:02d}": os.urandom(30_000) for number in range(30)}
    dedup.snapshot(write_tree(tmp_path / "t", files))
    damage(dedup)

    run = dedup("dump", "latest:t")

    assert run.exit_code == 4
    assert run.code == "dump.damaged"
    assert "the archive is incomplete: t/" in run.err
    read = subprocess.run(["tar", "-t"], input=run.raw, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
    assert read.returncode != 0 or not run.raw
    for format_ in ("tar", "zip"):
        file = tmp_path / f"t.{format_}"
        assert dedup("dump", "latest:t", "-o", file).exit_code == 4
        assert not file.exists()
        assert file.with_name(file.name + ".incomplete").exists()
    assert not zipfile.is_zipfile(tmp_path / "t.zip.incomplete")


def test_nothing_is_overwritten_and_nothing_goes_to_a_terminal(
    dedup: Dedup, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dedup.snapshot(tree)
    file = tmp_path / "there"
    file.write_text("precious")

    refused = dedup("dump", "-o", file)
    assert refused.code == "dump.exists"
    assert file.read_text() == "precious"
    assert dedup("dump", "-o", tmp_path / "no" / "where").code == "target.failed"
    assert dedup("dump", "--json").exit_code == 2
    monkeypatch.setattr("dedupstore.cli.output.Output.terminal", True)
    assert dedup("dump").exit_code == 2


def test_a_dump_to_a_file_is_a_stream_of_events_for_programs(dedup: Dedup, tree: Path, tmp_path: Path) -> None:
    dedup.snapshot(tree)

    summary = dedup.ok("dump", "latest:tree", "-o", tmp_path / "t.tar", "--json").summary

    assert summary["files"] >= 6
    assert summary["bytes"] > 5_000_000
    assert tarfile.is_tarfile(tmp_path / "t.tar")
    assert not list(tmp_path.glob("*.incomplete"))


def test_a_reader_that_goes_away_ends_the_dump_quietly(dedup: Dedup, tree: Path) -> None:
    (tree / "big").write_bytes(os.urandom(8 << 20))
    dedup.snapshot(tree)

    with subprocess.Popen(
        [*COMMAND, "dump", "-q"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dedup.process_environment(),
        cwd=dedup.home,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(512)
        process.stdout.close()
        assert process.stderr.read() == b""

    assert process.returncode == 141
