"""Every exit code a user can meet, from the outside. Those of single commands stand with their tests."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.dedup import COMMAND, SENTINELS, Dedup


def test_no_repository_is_10(dedup: Dedup) -> None:
    run = dedup("snapshots", "-r", "/nowhere/at/all")

    assert (run.exit_code, run.code) == (10, "repo.not_found")
    (dedup.home / "empty").mkdir()
    assert dedup("snapshots", "-r", "empty").exit_code == 10
    dedup.setenv("DEDUP_REPO", None)
    assert (dedup("snapshots").exit_code, dedup("snapshots").code) == (2, "usage.no_repository")


def test_a_wrong_passphrase_is_12_and_is_not_shown(dedup: Dedup) -> None:
    dedup.setenv("DEDUP_PASSPHRASE", "hunter2-hunter2")

    run = dedup("snapshots", "-vv")

    assert (run.exit_code, run.code) == (12, "repo.wrong_passphrase")
    assert "hunter2" not in run.out + run.err
    dedup.setenv("DEDUP_PASSPHRASE", None)
    assert (dedup("snapshots").exit_code, dedup("snapshots").code) == (2, "usage.no_passphrase")


def test_whatever_is_said_is_said_once(dedup: Dedup) -> None:
    secret = dedup.home / "passphrase"
    secret.write_text("hunter2-hunter2\n")
    secret.chmod(0o640)
    dedup.setenv("DEDUP_PASSPHRASE", None)
    dedup.setenv("DEDUP_PASSPHRASE_FILE", str(secret))

    run = dedup("snapshots")

    assert run.exit_code == 12
    assert run.out == ""
    assert [line.split(":")[0] for line in run.err.splitlines() if not line.startswith("  ")] == ["note", "error"]
    assert run.err.count("its group can read the secret file") == run.err.count("wrong passphrase") == 1


def test_a_newer_format_is_13(dedup: Dedup) -> None:
    marker = dedup.repository / "FORMAT"
    marker.chmod(0o600)
    marker.write_bytes(marker.read_bytes().replace(b"1", b"9", 1))

    assert dedup("snapshots").exit_code == 13


def test_an_unmounted_part_of_storage_is_7(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    (dedup.repository / "commits").rename(dedup.home / "elsewhere")

    run = dedup("snapshots")

    assert (run.exit_code, run.code) == (7, "store.incomplete_listing")


def test_credentials_in_a_url_are_refused_and_not_repeated(dedup: Dedup) -> None:
    run = dedup("snapshots", "-r", "s3://key:hunter2@bucket/prefix")

    assert (run.exit_code, run.code) == (2, "config.secret_in_url")
    assert "hunter2" not in run.err


def test_a_damaged_record_is_4_and_hides_no_other(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    dedup.snapshot(site, "--force")
    record = sorted(
        path for path in dedup.repository.glob("roots/*") if "begin" not in path.name and "zz" not in path.name
    )[0]
    record.chmod(0o600)
    data = record.read_bytes()
    record.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    run = dedup("snapshots")

    assert run.exit_code == 4
    assert len(run.out.splitlines()) == 2
    assert "cannot be read" in run.err
    assert dedup("check").exit_code == 4


def test_who_gets_the_newest_is_told_of_snapshots_that_cannot_be_read(dedup: Dedup, site: Path) -> None:
    older = dedup.snapshot(site)
    newer = dedup.snapshot(site)
    marker = dedup.repository / "commits" / newer
    marker.chmod(0o600)
    marker.write_bytes(b"rotten")

    for arguments in (["restore", "--to", "r"], ["ls"], ["cat", "latest:site/index.html"]):
        told = dedup.ok(*arguments).err
        assert "warning: 1 snapshot cannot be read" in told
        assert newer[:4] in told
    assert "warning" not in dedup.ok("ls", older).err


def test_a_pack_that_is_gone_is_4_also_for_a_machine_that_knows_it(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    for pack in dedup.repository.glob("packs/*/*.m*"):
        pack.unlink()

    run = dedup("ls", "latest")

    assert (run.exit_code, run.code) == (4, "repo.missing_pack")
    assert "try: dedup check" in run.err


def test_a_machine_without_cache_that_finds_no_index_is_told_how_to_get_it(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    shutil.rmtree(dedup.home / "cache")
    for segment in dedup.repository.glob("index/*"):
        if segment.name not in SENTINELS:
            segment.unlink()

    run = dedup("ls", "latest")

    assert (run.exit_code, run.code) == (4, "repo.missing_chunk")
    assert "dedup repair index" in run.err
    dedup.ok("repair", "index")
    dedup.ok("ls", "latest")
    dedup.ok("check")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_stop_no_snapshot(dedup: Dedup, site: Path, closed: str) -> None:
    command = f"{shlex.join([*COMMAND, 'snapshot', str(site)])} {closed}"

    run = subprocess.run(["sh", "-c", command], env=dedup.process_environment(), capture_output=True, check=False)

    assert run.returncode == 0, run.stderr
    assert len(dedup.ok("snapshots", "--json").document["snapshots"]) == 1
    dedup.ok("check")


def test_a_closed_standard_input_is_no_empty_file(dedup: Dedup) -> None:
    command = f"{shlex.join([*COMMAND, 'snapshot', '--stdin', 'dump.sql'])} <&-"

    run = subprocess.run(["sh", "-c", command], env=dedup.process_environment(), capture_output=True, check=False)

    assert run.returncode == 6
    assert dedup.ok("snapshots", "--json").document["snapshots"] == []
