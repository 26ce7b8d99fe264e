"""Running commands, and comparing what was restored with what was saved."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.measure import CommandFailed, Pipeline, Usage, assert_same, run_pipeline, size_of


def run(tmp_path: Path, *commands: tuple[str, ...], timeout_seconds: float = 30.0) -> Usage:
    pipeline = Pipeline(commands=commands, cwd=tmp_path)
    environment = {"PATH": os.environ["PATH"]}
    return run_pipeline(pipeline, environment=environment, log=tmp_path / "log", timeout_seconds=timeout_seconds)


def test_commands_of_a_pipeline_are_connected_and_counted(tmp_path: Path) -> None:
    usage = run(tmp_path, ("echo", "hello"), ("tr", "a-z", "A-Z"), ("tee", "out"))

    assert (tmp_path / "out").read_text() == "HELLO\n"
    assert usage.wall_seconds > 0
    assert usage.peak_rss_bytes > 0


def test_a_failing_command_anywhere_in_a_pipeline_fails_it_and_quotes_its_words(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"exit codes \[2, 0\].*No such file"):
        run(tmp_path, ("ls", "missing"), ("cat",))


def test_a_program_that_does_not_exist_is_a_failed_command(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="no-such-program"):
        run(tmp_path, ("no-such-program",))


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="not done after"):
        run(tmp_path, ("sleep", "30"), timeout_seconds=0.3)


def test_a_reader_that_stops_early_ends_its_writer(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"exit codes \[-13, 0\]"):
        run(tmp_path, ("yes",), ("head", "-1"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    root = tmp_path / "saved"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_bytes(b"content")
    (root / "link").symlink_to("sub/file")
    return root


def test_a_size_counts_regular_files_only(saved: Path) -> None:
    assert size_of(saved) == (1, 7)
    assert size_of(saved / "sub" / "file") == (1, 7)
    assert size_of(saved / "missing") == (0, 0)


def test_an_exact_copy_is_the_same(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy", symlinks=True)

    assert_same(saved, tmp_path / "copy", contents=True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "sub" / "file").unlink(), "1 names"),
        (lambda root: (root / "sub" / "file").chmod(0o600), "mode"),
        (lambda root: os.utime(root / "sub" / "file", (1, 1)), "modification time"),
        (lambda root: (root / "sub" / "file").write_bytes(b"longer content"), "14 bytes"),
    ],
)
def test_every_difference_is_found(saved: Path, tmp_path: Path, damage: object, words: str) -> None:
    shutil.copytree(saved, tmp_path / "copy", symlinks=True)
    assert callable(damage)
    damage(tmp_path / "copy")

    with pytest.raises(CommandFailed, match=words):
        assert_same(saved, tmp_path / "copy", contents=False)


def test_other_contents_of_the_same_length_are_found_when_contents_are_compared(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "copy", symlinks=True)
    times = (saved / "sub" / "file").stat()
    (tmp_path / "copy" / "sub" / "file").write_bytes(b"CONTENT")
    os.utime(tmp_path / "copy" / "sub" / "file", ns=(times.st_atime_ns, times.st_mtime_ns))

    with pytest.raises(CommandFailed, match="other contents"):
        assert_same(saved, tmp_path / "copy", contents=True)
