"""`dedup replicas`: what is proven is said with its age, what cannot be known is said to be unknown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dedupstore.service import replica_state as state
from tests.support.configuration import write
from tests.support.dedup import Dedup

OTHER = "walnut-ninety-nine-bicycles"


def rules(dedup: Dedup) -> dict[str, dict[str, Any]]:
    return {rule["name"]: rule for rule in dedup.ok("replicas", "--json").document["rules"]}


def statuses(dedup: Dedup) -> dict[str, str]:
    return {name: rule["status"] for name, rule in rules(dedup).items()}


@pytest.fixture
def mirror(dedup: Dedup, site: Path, tmp_path: Path) -> Path:
    dedup.snapshot(site, "--source", "site")
    dedup.ok("mirror", "--to", tmp_path / "mirror", "--init")
    return tmp_path / "mirror"


def test_without_a_replica_the_report_says_what_is_missing_and_how_to_get_it(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)

    found = rules(dedup)

    assert found["copies"]["found"] == 2 and found["copies"]["status"] == "missing"
    assert "dedup mirror --to" in found["copies"]["hint"]
    assert found["offsite"]["status"] == found["offline or immutable"]["status"] == "missing"
    assert found["errors"]["status"] == "unknown" and "--read-data" in found["errors"]["hint"]
    assert dedup("replicas", "--exit-code").exit_code == 3


def test_a_mirror_is_looked_at_and_its_lag_is_told(dedup: Dedup, site: Path, mirror: Path) -> None:
    (before,) = dedup.ok("replicas", "--json").document["replicas"]
    dedup.snapshot(site, "--source", "site", "--time", "now", "--force")

    (after,) = dedup.ok("replicas", "--json").document["replicas"]

    assert (before["way"], before["missing"], before["seen"]) == ("mirror", 0, "now")
    assert (after["missing"], after["snapshots"]) == (1, 1) and after["newest_missing"] is not None
    assert after["behind_s"] >= 0
    text = dedup.ok("replicas").out
    assert str(mirror) in text and "1 of them behind" in text


def test_a_replica_is_opened_as_the_configuration_says_of_its_place(dedup: Dedup, mirror: Path, tmp_path: Path) -> None:
    """As every other command does, which refuses to lock anything in a directory."""
    second = f'[repos.second]\nurl = "{mirror}"\nobject_lock = "14d"\n'
    path = write(tmp_path / "c.toml", f'[repos.main]\nurl = "{dedup.repository}"\n{second}')

    run = dedup.ok("replicas", "-r", "repo:main", "-c", path, "--json")

    (replica,) = run.document["replicas"]
    assert "Object Lock" in replica["seen"]
    assert dedup("snapshots", "-r", "repo:second", "-c", path).code == "config.invalid_value"


def test_a_copy_is_remembered_with_what_was_there(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site, "--source", "site")
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)
    dedup.ok("init", "-r", tmp_path / "other", "--insecure-test-kdf")
    dedup.setenv("DEDUP_NEW_PASSPHRASE", None)
    dedup.setenv("DEDUP_TO_PASSPHRASE", OTHER)
    dedup.ok("copy", "--to", tmp_path / "other")

    (replica,) = dedup.ok("replicas", "--json").document["replicas"]

    assert (replica["way"], replica["missing"], replica["seen"]) == ("copy", 0, "then")
    assert replica["repository"] != dedup.ok("replicas", "--json").document["repository"]


def test_zero_errors_are_proven_by_reading_every_place_and_lost_by_one_damaged(
    dedup: Dedup, site: Path, mirror: Path
) -> None:
    assert statuses(dedup)["errors"] == "unknown"
    dedup.ok("check", "--read-data")
    assert "--verify" in rules(dedup)["errors"]["hint"]
    dedup.ok("mirror", "--to", mirror, "--verify")
    assert statuses(dedup)["errors"] == "proven"

    pack = next((mirror / "packs").glob("*/*.d*"))
    pack.chmod(0o600)
    whole = pack.read_bytes()
    pack.write_bytes(whole[:80] + b"\0" * 8 + whole[88:])
    assert dedup("mirror", "--to", mirror, "--verify").exit_code == 4

    assert rules(dedup)["errors"]["status"] == "missing" and rules(dedup)["errors"]["found"] == 1
    pack.write_bytes(whole)
    dedup.ok("mirror", "--to", mirror, "--verify")
    assert statuses(dedup)["errors"] == "proven"


def test_a_quick_check_proves_nothing_about_errors(dedup: Dedup, site: Path, mirror: Path) -> None:
    dedup.ok("check", "--quick")
    dedup.ok("check", "--read-data=50%")
    dedup.ok("mirror", "--to", mirror, "--verify")

    assert statuses(dedup)["errors"] == "unknown"


def test_what_nobody_can_see_is_unknown_until_it_is_stated(dedup: Dedup, site: Path, mirror: Path) -> None:
    assert statuses(dedup)["offsite"] == statuses(dedup)["offline or immutable"] == "unknown"

    dedup.ok("replicas", "set", mirror, "--offsite", "--offline")
    found = rules(dedup)
    assert found["offsite"]["status"] == found["offline or immutable"]["status"] == "stated"
    assert "as you said" in found["offsite"]["proof"] and found["offsite"]["time"] is not None
    dedup.ok("mirror", "--to", mirror)
    assert statuses(dedup)["offsite"] == "stated", "a later run keeps what was stated"

    dedup.ok("replicas", "set", mirror, "--not-offsite")
    assert statuses(dedup)["offsite"] == "unknown"


def test_one_file_system_is_one_medium(dedup: Dedup, site: Path, mirror: Path) -> None:
    assert rules(dedup)["media"]["status"] == "missing" and rules(dedup)["media"]["found"] == 1


def test_a_replica_that_was_taken_away_is_told_from_one_that_is_there(dedup: Dedup, site: Path, mirror: Path) -> None:
    shutil.move(mirror, mirror.with_name("away"))

    (replica,) = dedup.ok("replicas", "--json").document["replicas"]
    assert replica["seen"] not in ("now", "then") and replica["missing"] == 0
    assert "not looked at now" in rules(dedup)["copies"]["proof"]

    dedup.setenv("DEDUP_REPO", str(mirror))
    dedup.ok("init", "--insecure-test-kdf")
    dedup.setenv("DEDUP_REPO", str(dedup.repository))
    (replica,) = dedup.ok("replicas", "--json").document["replicas"]
    assert "another repository" in replica["seen"] and replica["missing"] == 1
    assert rules(dedup)["copies"]["found"] == 2


def test_a_replica_can_be_taken_from_the_list_and_an_unknown_one_is_named(
    dedup: Dedup, site: Path, mirror: Path
) -> None:
    unknown = dedup("replicas", "set", "/nowhere", "--offsite")
    assert (unknown.exit_code, unknown.code) == (5, "replicas.unknown")
    assert dedup("replicas", "set", mirror).exit_code == 2

    dedup.ok("replicas", "remove", mirror)

    assert dedup.ok("replicas", "--json").document["replicas"] == []
    assert (mirror / "FORMAT").exists()
    dedup.ok("check", "-r", mirror, "--read-data")


def test_the_state_file_is_private_and_a_damaged_one_is_refused(
    dedup: Dedup, site: Path, mirror: Path, tmp_path: Path
) -> None:
    (path,) = (tmp_path / "state").glob("replicas-*.json")
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o077 == 0
    path.write_text(path.read_text()[:-10])

    broken = dedup("replicas")
    assert (broken.exit_code, broken.code) == (8, "local.state_damaged")
    mirrored = dedup("mirror", "--to", mirror)
    assert mirrored.exit_code == 0 and "not remembered" in mirrored.err


def test_a_state_directory_that_cannot_be_written_costs_the_memory_and_no_mirror(
    dedup: Dedup, site: Path, tmp_path: Path
) -> None:
    dedup.snapshot(site)
    (tmp_path / "file").touch()
    dedup.setenv("DEDUP_STATE_DIR", str(tmp_path / "file" / "state"))

    run = dedup("mirror", "--to", tmp_path / "mirror", "--init")

    assert run.exit_code == 0 and "not remembered" in run.err
    dedup.ok("check", "-r", tmp_path / "mirror", "--read-data")


def test_what_is_remembered_comes_back_as_it_was(tmp_path: Path) -> None:
    environ = {"DEDUP_STATE_DIR": str(tmp_path / "state")}
    notes: list[object] = []
    replica = state.Replica(
        url="/mnt/a", way="copy", repository="ab", first_ns=1, last_ns=2, complete=True, snapshots=("x", "y"), device=7
    )

    state.remember_run(environ, "cd", replica, notes.append)
    state.state_facts(environ, "cd", "/mnt/a", {"offsite": True}, 5)
    (found,) = state.replicas_of(environ, "cd")

    assert not notes
    assert found.facts == {"offsite": state.Fact(value=True, time_ns=5)}
    assert (found.url, found.snapshots, found.device, found.first_ns) == ("/mnt/a", ("x", "y"), 7, 1)
    assert state.replicas_of(environ, "other") == ()
    assert json.loads((tmp_path / "state" / "replicas-cd.json").read_text())["v"] == 1
