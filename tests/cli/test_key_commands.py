"""Passphrases, key files, recovery keys and kits: who gets in, who does not, and what is never shown."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path

from tests.support.dedup import COMMAND, PASSPHRASE, PATIENCE_SECONDS, SENTINELS, Dedup, read_tree
from tests.support.repositories import random_bytes

OTHER = "another-passphrase-of-mine"


def use(dedup: Dedup, *, passphrase: str | None = None, key_file: Path | None = None, kit: Path | None = None) -> None:
    """From now on the repository is opened by exactly this."""
    dedup.setenv("DEDUP_PASSPHRASE", passphrase)
    dedup.setenv("DEDUP_KEY_FILE", None if key_file is None else str(key_file))
    dedup.setenv("DEDUP_RECOVERY_KEY_FILE", None if kit is None else str(kit))


def test_a_second_passphrase_opens_the_repository(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)

    run = dedup.ok("key", "add", "--label", "laptop", "--insecure-test-kdf")

    assert OTHER not in run.out + run.err
    rows = dedup.ok("key", "list", "--json").document["keys"]
    assert [(row["kind"], row["label"], row["current"]) for row in rows] == [
        ("passphrase", "passphrase", True), ("passphrase", "laptop", True),
    ]  # fmt: skip
    use(dedup, passphrase=OTHER)
    assert "laptop" in dedup.ok("key", "list").out
    assert OTHER not in dedup.ok("key", "kit").out


def test_a_removed_passphrase_opens_nothing(dedup: Dedup) -> None:
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)
    dedup.ok("key", "add", "--insecure-test-kdf")
    first, second = (row["id"] for row in dedup.ok("key", "list", "--json").document["keys"])

    assert dedup("key", "remove", second[:8]).code == "usage.no_input"
    dedup.ok("key", "remove", second[:8], "--yes")
    assert dedup("key", "remove", first, "--yes").code == "refused.last_slot"
    assert dedup("key", "remove", "yyyyyyyy").code == "key.not_found", "there is nothing to agree to"
    assert dedup("key", "remove", "yy", "--yes").exit_code == 2

    use(dedup, passphrase=OTHER)
    assert (dedup("snapshots").exit_code, dedup("snapshots").code) == (12, "repo.wrong_passphrase")


def test_a_key_file_opens_the_repository(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    key = dedup.home / "key"
    key.write_bytes(bytes(range(128, 160)) + b"\n\r\n")
    key.chmod(0o600)
    short = dedup.home / "short"
    short.write_bytes(b"short")
    short.chmod(0o600)

    dedup.ok("key", "add", "--key-file", key)

    assert dedup("key", "add", "--key-file", short).exit_code == 2
    use(dedup, key_file=key)
    assert len(dedup.ok("snapshots", "--json").document["snapshots"]) == 1
    assert "opened by the key file" in dedup.ok("key", "kit").out
    key.chmod(0o644)
    assert (dedup("snapshots").exit_code, dedup("snapshots").code) == (8, "secret.file_not_private")


def test_a_kit_is_saved_once_and_for_its_owner(dedup: Dedup) -> None:
    run = dedup.ok("key", "kit", "--out", "kit.txt")

    kit = dedup.home / "kit.txt"
    assert stat.S_IMODE(kit.stat().st_mode) == 0o600
    assert PASSPHRASE not in kit.read_text()
    assert "kit.txt" in run.out
    assert dedup("key", "kit", "--out", "kit.txt").exit_code == 8
    assert dedup.ok("key", "kit").out == kit.read_text()


def test_a_kit_is_proven_by_unwrapping_it(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    (kit,) = dedup.home.glob("dedup-recovery-*.txt")

    run = dedup.ok("key", "verify-recovery", kit)
    offline = dedup.ok("key", "verify-recovery", kit, "--offline", "--json").document

    assert "opens the repository as it is today: 1 snapshot can be read" in run.out
    assert offline["snapshots"] is None
    use(dedup, passphrase="wrong-wrong-wrong")
    assert dedup("key", "verify-recovery", kit).exit_code == 12
    lines = kit.read_text().splitlines()
    armor = next(number for number, line in enumerate(lines) if line.startswith("-----BEGIN")) + 1
    lines[armor] = ("B" if lines[armor][20] == "A" else "A").join((lines[armor][:20], lines[armor][21:]))
    kit.write_text("\n".join(lines))
    assert dedup("key", "verify-recovery", kit).exit_code == 2


def test_a_kit_with_its_recovery_key_needs_nothing_else(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    dedup.ok("key", "kit", "--recovery", "--out", "kit.txt")
    kit = dedup.home / "kit.txt"
    use(dedup)
    dedup.setenv("DEDUP_REPO", None)

    run = dedup.ok("key", "verify-recovery", kit)

    assert "opened by the recovery key printed on it" in run.out
    use(dedup, kit=kit)
    dedup.ok("restore", "-r", str(dedup.repository), "--to", "restored")
    assert (dedup.home / "restored" / "site" / "index.html").exists()


def test_a_recovery_key_is_shown_once(dedup: Dedup) -> None:
    document = dedup.ok("key", "add", "--recovery", "--json").document

    text = document["recovery_key"]
    assert len(text.replace("-", "").split()) == 2
    (dedup.home / "typed").write_text(text.lower().replace("-", " "))
    (dedup.home / "typed").chmod(0o600)
    use(dedup, kit=dedup.home / "typed")
    rows = dedup.ok("key", "list", "--json").document["keys"]
    assert [row["kind"] for row in rows] == ["passphrase", "recovery key"]


def test_a_lost_key_slot_is_put_back_from_the_kit(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    (kit,) = dedup.home.glob("dedup-recovery-*.txt")
    for slot in dedup.repository.glob("keys/*"):
        if slot.name not in SENTINELS:
            slot.unlink()
    assert dedup("snapshots").code == "repo.no_slots"

    dedup.ok("key", "add", "--kit", kit)

    assert len(dedup.ok("snapshots", "--json").document["snapshots"]) == 1


def test_a_kit_of_another_repository_is_refused(dedup: Dedup, tmp_path: Path) -> None:
    dedup.ok("init", "-r", tmp_path / "other", "--insecure-test-kdf")
    (kit,) = [path for path in dedup.home.glob("dedup-recovery-*.txt") if str(tmp_path / "other") in path.read_text()]

    assert dedup("key", "add", "--kit", kit).code == "repo.foreign_slot"
    assert dedup("key", "verify-recovery", kit).code == "usage.recovery_kit"
    assert dedup("key", "verify-recovery", tmp_path / "missing").exit_code != 0


def test_ways_of_adding_exclude_one_another(dedup: Dedup) -> None:
    assert dedup("key", "add", "--recovery", "--key-file", "x").code == "usage"
    assert dedup("key", "add").code == "usage.no_passphrase"
    dedup.setenv("DEDUP_TEST_WEAK_KDF", None)
    assert dedup("key", "add", "--insecure-test-kdf").code == "usage"
    assert dedup("init", "-r", "elsewhere", "--insecure-test-kdf").code == "usage"
    assert dedup("snapshots").code == "refused.test_only_cost"


def test_a_new_passphrase_takes_the_place_of_the_old_one(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)
    (before,) = dedup.ok("key", "list", "--json").document["keys"]

    document = dedup.ok("key", "change", "--insecure-test-kdf", "--json").document

    assert [row["id"] for row in document["removed"]] == [before["id"]]
    assert (document["left"], document["key"]["label"]) == ([], before["label"])
    assert (dedup("snapshots").exit_code, dedup("snapshots").code) == (12, "repo.wrong_passphrase")
    use(dedup, passphrase=OTHER)
    dedup.ok("check", "--read-data")
    dedup.setenv("DEDUP_NEW_PASSPHRASE", PASSPHRASE)
    run = dedup.ok("key", "change", "--insecure-test-kdf")
    assert "added    passphrase" in run.out and "removed  passphrase" in run.out
    assert "next: dedup key kit" in run.err
    use(dedup, passphrase=PASSPHRASE)
    assert len(dedup.ok("key", "list", "--json").document["keys"]) == 1


def test_a_wrong_passphrase_changes_nothing(dedup: Dedup) -> None:
    before = sorted(dedup.repository.glob("keys/*"))
    use(dedup, passphrase="wrong-wrong-wrong")
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)

    for command in ("change", "rotate"):
        run = dedup("key", command, "--insecure-test-kdf", "--yes")

        assert (run.exit_code, run.code) == (12, "repo.wrong_passphrase")
    assert sorted(dedup.repository.glob("keys/*")) == before


def test_a_forgotten_passphrase_is_replaced_with_the_recovery_key(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    dedup.ok("key", "kit", "--recovery", "--out", "kit.txt")
    (lost,) = [row for row in dedup.ok("key", "list", "--json").document["keys"] if row["kind"] == "passphrase"]
    use(dedup, kit=dedup.home / "kit.txt")
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)

    assert dedup("key", "change", "--insecure-test-kdf").exit_code == 2
    dedup.ok("key", "change", lost["id"][:8], "--insecure-test-kdf")

    use(dedup, passphrase=OTHER)
    dedup.ok("check", "--read-data")
    rows = dedup.ok("key", "list", "--json").document["keys"]
    assert [row["kind"] for row in rows] == ["recovery key", "passphrase"]


def test_rotated_keys_are_opened_by_the_key_in_use_alone(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    dedup.ok("key", "kit", "--recovery", "--out", "kit.txt")
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)
    dedup.ok("key", "add", "--label", "laptop", "--insecure-test-kdf")
    dedup.setenv("DEDUP_NEW_PASSPHRASE", None)
    assert dedup("key", "rotate", "--insecure-test-kdf").code == "usage.no_input"

    document = dedup.ok("key", "rotate", "--insecure-test-kdf", "--yes", "--json").document

    assert document["epoch"] == 2
    assert sorted(row["kind"] for row in document["removed"]) == ["passphrase", "passphrase", "recovery key"]
    assert dedup.ok("repo", "info", "--json").document["epoch"] == 2
    (site / "uploads" / "new.bin").write_bytes(bytes(range(250)) * 90)
    dedup.snapshot(site)
    assert len(dedup.ok("snapshots", "--json").document["snapshots"]) == 2
    dedup.ok("check", "--read-data")
    dedup.ok("restore", "--to", "restored")
    assert (dedup.home / "restored/site/uploads/new.bin").read_bytes() == (site / "uploads/new.bin").read_bytes()
    run = dedup("key", "verify-recovery", dedup.home / "kit.txt")
    assert (run.exit_code, run.code) == (4, "key.kit_outdated")
    use(dedup, passphrase=OTHER)
    assert dedup("snapshots").code == "repo.wrong_passphrase"


def test_rotated_keys_may_be_opened_by_something_new(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    key = dedup.home / "key"
    key.write_bytes(bytes(range(128, 160)))
    key.chmod(0o600)

    dedup.ok("key", "rotate", "--key-file", key, "--yes")

    assert dedup("snapshots").exit_code == 12
    use(dedup, key_file=key)
    dedup.setenv("DEDUP_NEW_PASSPHRASE", OTHER)
    run = dedup.ok("key", "rotate", "--insecure-test-kdf", "--yes")
    assert "epoch    3" in run.out and "removed  key file" in run.out
    use(dedup, passphrase=OTHER)
    dedup.ok("check", "--read-data")


def test_a_snapshot_under_way_ends_although_the_keys_are_rotated(dedup: Dedup, site: Path) -> None:
    """Two real processes; the one that stores waits for its source until the other one has rotated."""
    dedup.snapshot(site)
    gate = dedup.home / "gate"
    os.mkfifo(gate)
    command = [*COMMAND, "snapshot", "--command", "slow.txt", "--", "cat", str(gate)]
    environment = dedup.process_environment()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        # Opening it returns once the command of the other process reads: its repository is open by then.
        with gate.open("wb") as feed:
            feed.write(b"before\n")
            dedup.ok("key", "rotate", "--insecure-test-kdf", "--yes")
            feed.write(b"after\n")
        _, err = process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == 0, err
    newest = dedup.ok("snapshots", "--json").document["snapshots"][-1]["id"]
    assert dedup.ok("cat", f"{newest}:slow.txt").out == "before\nafter\n"
    dedup.ok("check", "--read-data")


def test_what_was_stored_is_written_again_under_the_new_keys(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)
    assert dedup.ok("key", "rekey", "--json").summary["before"]["packs"] == 0
    dedup.ok("key", "rotate", "--yes", "--insecure-test-kdf")
    packs = {path for path in dedup.repository.glob("packs/*/*") if path.name not in SENTINELS}

    planned = dedup.ok("key", "rekey", "--dry-run", "--json").summary
    assert planned["dry_run"] and planned["done"] is None
    assert planned["chosen"]["packs"] == planned["before"]["packs"] == planned["left"]["packs"] > 0
    assert all(path.exists() for path in packs)
    done = dedup.ok("key", "rekey", "--json").summary

    assert done["epoch"] == 2 and done["done"]["packs_deleted"] == planned["before"]["packs"]
    assert done["left"] == {"bytes": 0, "packs": 0, "segments": 0, "snapshots": 1}
    assert not any(path.exists() for path in packs)
    run = dedup.ok("key", "rekey")
    assert "0 packs, 0 B under keys before epoch 2" in run.out and "next:" not in run.err
    dedup.ok("check", "--read-data")
    dedup.ok("restore", "--to", "restored")
    assert (dedup.home / "restored/site/index.html").read_bytes() == (site / "index.html").read_bytes()


def test_a_bounded_rekey_says_that_there_is_more(dedup: Dedup, site: Path) -> None:
    for number in range(3):
        (site / "uploads" / f"{number}.bin").write_bytes(random_bytes(str(number), 50_000))
        dedup.snapshot(site)
    dedup.ok("key", "rotate", "--yes", "--insecure-test-kdf")

    run = dedup.ok("key", "rekey", "--max-repack", "1K")

    assert "left  " in run.out and "next: dedup key rekey" in run.err
    dedup.ok("check", "--read-data")
    assert "left  " not in dedup.ok("key", "rekey").out
    dedup.ok("check", "--read-data")


def test_a_process_that_rekeys_is_killed_and_another_one_goes_on(dedup: Dedup, site: Path) -> None:
    for number in range(4):
        (site / "uploads" / f"{number}.bin").write_bytes(random_bytes(str(number), 300_000))
        dedup.snapshot(site)
    dedup.ok("key", "rotate", "--yes", "--insecure-test-kdf")
    before = set(dedup.repository.glob("gc/plan-*"))
    command = [*COMMAND, "key", "rekey", "--max-repack", "1K"]

    with subprocess.Popen(command, env=dedup.process_environment(), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and set(dedup.repository.glob("gc/*-[0-9a-y]*")) == before:
            time.sleep(0.001)
        process.kill()

    dedup.ok("check", "--read-data")
    left = dedup.ok("key", "rekey", "--json").summary["left"]
    assert left["packs"] == left["segments"] == 0
    dedup.ok("check", "--read-data")
    dedup.ok("restore", "--to", "restored")
    assert read_tree(dedup.home / "restored/site") == read_tree(site)
