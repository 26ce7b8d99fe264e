"""Passphrases, key files, recovery keys and kits: who gets in, who does not, and what is never shown."""

from __future__ import annotations

import stat
from pathlib import Path

from tests.support.dedup import PASSPHRASE, SENTINELS, Dedup

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
    assert dedup("key", "remove", "yyyyyyyy", "--yes").code == "key.not_found"
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
