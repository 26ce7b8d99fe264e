"""`dedup snapshot` from the outside: what is stored, what is said, how it ends."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dedupstore.codec import crypto
from tests.support.dedup import COMMAND, PATIENCE_SECONDS, Dedup, Run, write_tree
from tests.support.unprivileged import as_nobody, folder_of_nobody


def names(dedup: Dedup, where: str = "latest") -> list[str]:
    return dedup.ok("ls", where, "--recursive").out.splitlines()


def test_a_snapshot_is_one_command_and_names_the_next(dedup: Dedup, site: Path) -> None:
    run = dedup.ok("snapshot", site, "--source", "site")

    assert "4 files" in run.out
    assert "snapshot " in run.out and '"site"' in run.out
    assert "next: dedup restore --at now --to ./restored" in run.err
    assert names(dedup) == [
        "site/", "site/cache/", "site/cache/tmp", "site/index.html", "site/uploads/", "site/uploads/a.txt",
        "site/uploads/b.bin",
    ]  # fmt: skip


def test_a_snapshot_derives_its_key_once(dedup: Dedup, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dedup.snapshot(site)
    derived: list[bytes] = []
    real = crypto.argon2id

    def noted(passphrase: bytes, **cost: Any) -> bytes:
        derived.append(passphrase)
        return real(passphrase, **cost)

    monkeypatch.setattr(crypto, "argon2id", noted)
    dedup.ok("snapshot", site)

    assert len(derived) == 1


def test_a_command_for_the_passphrase_is_run_once(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)
    environ = dedup.process_environment()
    passphrase = environ.pop("DEDUP_PASSPHRASE")
    script = tmp_path / "ask"
    script.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/log\necho '{passphrase}'\n")
    script.chmod(0o700)

    subprocess.run(
        [*COMMAND, "snapshot", str(site)],
        env={**environ, "DEDUP_PASSPHRASE_COMMAND": str(script)},
        check=True, capture_output=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip

    assert (tmp_path / "log").read_text() == "asked\n"


def test_the_next_snapshot_says_what_changed(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    (site / "index.html").write_text("changed")
    (site / "new").write_text("new")
    (site / "cache" / "tmp").unlink()

    run = dedup.ok("snapshot", site)

    assert "4 files (1 new, 1 changed, 1 removed)" in run.out


def test_an_unchanged_source_is_called_so(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)

    assert "(all unchanged)" in dedup.ok("snapshot", site).out
    run = dedup.ok("snapshot", site, "--skip-if-unchanged", "--json")
    assert run.summary["unchanged"] is True
    assert len(dedup.ok("snapshots", "--json").document["snapshots"]) == 2


def test_the_stream_of_events_ends_with_everything_that_counts(dedup: Dedup, site: Path) -> None:
    first = dedup.snapshot(site, "--source", "site", "--tag", "v1", "--tag", "good", "--note", "before the move")

    run = dedup.ok("snapshot", "--json", site, "--source", "site")

    assert run.summary["status"] == "ok"
    assert run.summary["snapshot"]["parent"] == first
    assert run.summary["files"] == {"total": 4, "new": 0, "changed": 0, "unchanged": 4, "removed": 0}
    assert run.summary["bytes"]["new"] == 0
    rows = dedup.ok("snapshots", "--json").document["snapshots"]
    assert rows[0]["tags"] == ["good", "v1"] or rows[0]["tags"] == ["v1", "good"]
    assert rows[0]["note"] == "before the move"
    assert rows[0]["paths"] == [{"path": str(site)}]


def test_what_is_excluded_stays_out(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    write_tree(site, {"keep/.nobackup": "", "keep/x": "x", "big": b"x" * 5000, "old.tmp": "", "listed": "",
                      "c/CACHEDIR.TAG": "Signature: 8a477f597d28d172789f06886806bc55", "c/x": ""})  # fmt: skip
    (tmp_path / "patterns").write_text("# a comment\nlisted\n")

    dedup.snapshot(
        site, "--exclude", "*.tmp", "--exclude", "/cache/", "--exclude-if-present", ".nobackup", "--exclude-caches",
        "--exclude-larger-than", "4k", "--exclude-file", tmp_path / "patterns", "--exclude", "*.bin",
    )  # fmt: skip

    assert names(dedup, "latest:site") == [
        "site/c/", "site/c/CACHEDIR.TAG", "site/index.html", "site/keep/", "site/keep/.nobackup", "site/uploads/",
        "site/uploads/a.txt",
    ]  # fmt: skip


def test_a_dry_run_stores_nothing(dedup: Dedup, site: Path) -> None:
    run = dedup.ok("snapshot", site, "--dry-run")

    assert "would store" in run.out
    assert dedup.ok("snapshots", "--json").document["snapshots"] == []


def test_a_snapshot_can_be_of_another_time_and_host(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site, "--time", "2024-02-29 12:00", "--host", "elsewhere", "--source", "old")

    (row,) = dedup.ok("snapshots", "--json").document["snapshots"]
    assert row["time"].startswith("2024-02-29T12:00:00.000+08:00")
    assert row["host"] == "elsewhere"


@pytest.mark.parametrize("level", ["1", "19"])
def test_the_compression_level_is_a_choice(dedup: Dedup, site: Path, level: str) -> None:
    assert dedup("snapshot", site, "--compression", level).exit_code == 0
    assert dedup("snapshot", site, "--compression", "20").code == "usage"


def test_the_output_of_a_command_is_a_file(dedup: Dedup) -> None:
    dedup.ok("snapshot", "--command", "dump.sql", "--", "sh", "-c", "echo $0 -x", "--flag")

    assert dedup.ok("cat", "latest:dump.sql").raw == b"--flag -x\n"


def test_a_command_that_fails_leaves_no_snapshot(dedup: Dedup) -> None:
    run = dedup("snapshot", "--json", "--command", "dump.sql", "--", "sh", "-c", "echo half; echo broken >&2; exit 9")

    assert run.exit_code == 6
    error = run.events[-2]
    assert error["event"] == "error"
    assert error["code"] == "source.command_failed"
    assert "broken" in error["why"]
    assert run.summary["status"] == "failed"
    assert dedup.ok("snapshots", "--json").document["snapshots"] == []


def test_a_command_gets_no_passphrase(dedup: Dedup) -> None:
    dedup.ok("snapshot", "--command", "env", "--", "env")

    assert b"DEDUP_PASSPHRASE" not in dedup.ok("cat", "latest:env").raw


def test_standard_input_is_stored_under_a_name(dedup: Dedup, tmp_path: Path) -> None:
    (tmp_path / "piped").write_bytes(b"\0piped\xff\n" * 1000)

    with open(tmp_path / "piped", encoding="latin-1") as stream:
        assert dedup("snapshot", "--stdin", "dump", stdin=stream).exit_code == 0

    assert dedup.ok("cat", "latest:dump").raw == b"\0piped\xff\n" * 1000


@pytest.mark.parametrize(
    "arguments",
    [
        ["snapshot"],
        ["snapshot", "--command", "x"],
        ["snapshot", "a", "--stdin", "x"],
        ["snapshot", "a", "--exclude", "["],
        ["snapshot", "a", "--exclude-larger-than", "huge"],
        ["snapshot", "a", "--time", "03/04/26"],
        ["snapshot", "a", "--compression", "fast"],
        ["snapshot", "--command", "a/b", "--", "true"],
    ],
)
def test_a_call_that_makes_no_sense_is_a_usage_error(dedup: Dedup, arguments: list[str]) -> None:
    (dedup.home / "a").mkdir()

    with open(os.devnull, encoding="utf-8") as nothing:
        run = dedup(*arguments, stdin=nothing)

    assert run.exit_code == 2, run.err
    assert run.code.startswith("usage")


def test_a_missing_path_is_a_failed_source(dedup: Dedup) -> None:
    run = dedup("snapshot", "nowhere")

    assert (run.exit_code, run.code) == (6, "source.no_root")


@pytest.fixture
def poor_home() -> Iterator[Path]:
    with folder_of_nobody() as home:
        yield home


def test_a_file_that_cannot_be_read_is_a_warning(poor_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dedup = Dedup(poor_home, monkeypatch)

    def work() -> tuple[Run, Run]:
        write_tree(poor_home / "site", {"good": "x", "secret": "x"})
        (poor_home / "site" / "secret").chmod(0)
        dedup.init()
        return dedup("snapshot", "--json", poor_home / "site"), dedup("snapshots")

    run, listing = as_nobody(work)

    assert run.exit_code == 3
    (warning,) = [event for event in run.events if event["event"] == "warning"]
    assert warning["code"] == "file.unreadable"
    assert warning["path"].endswith("secret")
    assert run.summary["status"] == "warnings"
    assert run.summary["errors"] == 1
    assert run.summary["files"]["total"] == 1
    assert "1 missing" in listing.out


def test_names_of_any_bytes_are_stored_and_shown_safely(dedup: Dedup, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/odd"
    os.mkdir(folder)
    for name in (b"new\nline", b"\x1b[31mred", b"\xff\xfe"):
        with open(folder + b"/" + name, "wb") as file:
            file.write(b"x")

    dedup.ok("snapshot", tmp_path / "odd")

    entries = dedup.ok("ls", "latest:odd", "--json").document["entries"]
    assert {entry["path"] for entry in entries} == {"odd/new\nline", "odd/\x1b[31mred", "odd/��"}
    assert [entry["path_b64"] for entry in entries if "path_b64" in entry] == ["b2RkL//+"]
    run = dedup("snapshot", tmp_path / "odd" / "\x1b[31mred" / "nothing")
    assert "\x1b" not in run.err


def test_a_closed_pipe_does_not_stop_a_backup(dedup: Dedup, site: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as stream:
        done = subprocess.run(
            [*COMMAND, "snapshot", str(site)], stdout=stream, stderr=subprocess.PIPE,
            env=dedup.process_environment(), cwd=dedup.home, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert len(dedup.ok("snapshots", "--json").document["snapshots"]) == 1


def test_a_terminal_is_no_pipe_to_read_from(dedup: Dedup) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert dedup("snapshot", "--stdin", "x", stdin=Keyboard()).code == "usage"


def test_the_repository_is_private(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)

    kits = list(dedup.home.glob("dedup-recovery-*.txt"))
    assert [stat.S_IMODE(kit.stat().st_mode) for kit in kits] == [0o600]
    stored = b"".join(path.read_bytes() for path in dedup.repository.rglob("*") if path.is_file())
    # Needles of eight bytes and more: short ones turn up in random bytes by themselves now and then.
    assert b"index.html" not in stored
    assert b"<h1>hello" not in stored


@pytest.mark.parametrize("option", ["--source", "--tag", "--note", "--host"])
def test_text_that_is_no_text_is_refused(dedup: Dedup, site: Path, option: str) -> None:
    assert dedup("snapshot", site, option, "\udcff").code == "usage"


def test_a_stream_may_have_any_name(dedup: Dedup) -> None:
    assert dedup.snapshot("--command", "\udcff", "--", "true")


@pytest.mark.parametrize("time", ["1960-01-01", "2999-01-01"])
def test_a_time_that_no_record_can_hold_is_refused(dedup: Dedup, site: Path, time: str) -> None:
    assert dedup("snapshot", site, "--time", time).code == "usage.time"
    assert dedup.ok("snapshots", "--json").document == {"v": 1, "snapshots": [], "damaged": []}


def test_a_pipe_without_a_byte_makes_no_snapshot_unless_it_is_meant(dedup: Dedup, tmp_path: Path) -> None:
    with open(os.devnull, encoding="utf-8") as nothing:
        refused = dedup("snapshot", "--stdin", "dump", stdin=nothing)
        dry = dedup("snapshot", "--stdin", "dump", "--dry-run", stdin=nothing)
        assert dedup("snapshots", "--json").document["snapshots"] == []
        meant = dedup("snapshot", "--stdin", "dump", "--allow-empty", stdin=nothing)

    assert (refused.exit_code, refused.code) == (6, "source.empty")
    assert "--allow-empty" in refused.err
    assert dry.code == "source.empty"
    assert meant.exit_code == 0
    assert dedup.ok("cat", "latest:dump").raw == b""
