"""Repositories of the configuration: named, defaulted, opened by what is written down, and never by what disagrees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.configuration import write
from tests.support.dedup import PASSPHRASE, Dedup

OTHER = "another-passphrase-altogether"


@pytest.fixture
def machine(dedup: Dedup, tmp_path: Path) -> Dedup:
    """A repository that only the configuration knows, and no variable that says anything."""
    for name in ("DEDUP_REPO", "DEDUP_PASSPHRASE"):
        dedup.setenv(name, None)
    write(tmp_path / "main.pass", f"{PASSPHRASE}\n")
    write(tmp_path / "other.pass", f"{OTHER}\n")
    configure(tmp_path)
    return dedup


def configure(tmp_path: Path, more: str = "", passphrase: str = "main.pass") -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'default_repo = "main"\n[repos.main]\nurl = "{tmp_path}/repository"\n'
        f'passphrase = "file:{tmp_path}/{passphrase}"\n{more}',
    )


def test_without_any_flag_the_default_repository_is_meant(machine: Dedup, site: Path) -> None:
    machine.snapshot(site, "--source", "site")

    assert "site" in machine.ok("snapshots").out
    machine.ok("check", "--read-data")


def test_a_repository_is_named_or_given_by_its_place(machine: Dedup, site: Path, tmp_path: Path) -> None:
    machine.snapshot(site)

    for url in ("repo:main", tmp_path / "repository", f"{tmp_path}/repository/"):
        assert len(machine.ok("snapshots", "-r", url, "--json").document["snapshots"]) == 1
    machine.setenv("DEDUP_REPO", "repo:main")
    assert len(machine.ok("snapshots", "--json").document["snapshots"]) == 1


def test_the_only_repository_is_the_default(machine: Dedup, tmp_path: Path) -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.only]\nurl = "{tmp_path}/repository"\npassphrase = "file:{tmp_path}/main.pass"\n',
    )

    machine.ok("snapshots")


def test_of_two_repositories_none_is_guessed(machine: Dedup, tmp_path: Path) -> None:
    write(tmp_path / "etc" / "config.toml", '[repos.a]\nurl = "/a"\n[repos.b]\nurl = "/b"\n')

    run = machine("snapshots")

    assert (run.exit_code, run.code) == (2, "usage.no_repository")


def test_an_unknown_name_is_refused_with_the_near_one(machine: Dedup) -> None:
    run = machine("snapshots", "-r", "repo:mian")

    assert run.code == "config.unknown_repo"
    assert 'did you mean "main"?' in run.err


def test_a_passphrase_of_the_environment_that_disagrees_is_refused(machine: Dedup) -> None:
    machine.setenv("DEDUP_PASSPHRASE", OTHER)

    run = machine("snapshots")

    assert (run.exit_code, run.code) == (8, "config.passphrase_conflict")
    assert OTHER not in run.err


def test_the_same_passphrase_twice_is_no_conflict(machine: Dedup) -> None:
    machine.setenv("DEDUP_PASSPHRASE", PASSPHRASE)

    machine.ok("snapshots")


def test_a_repository_is_not_created_with_a_passphrase_that_disagrees(machine: Dedup, tmp_path: Path) -> None:
    configure(tmp_path, f'[repos.new]\nurl = "{tmp_path}/new"\npassphrase = "file:{tmp_path}/main.pass"\n')
    machine.setenv("DEDUP_PASSPHRASE", OTHER)

    run = machine("init", "-r", "repo:new", "--insecure-test-kdf")

    assert run.code == "config.passphrase_conflict"
    assert not (tmp_path / "new").exists()


def test_the_configuration_gives_the_passphrase_of_a_new_repository(machine: Dedup, site: Path, tmp_path: Path) -> None:
    configure(tmp_path, f'[repos.new]\nurl = "{tmp_path}/new"\npassphrase = "file:{tmp_path}/other.pass"\n')

    machine.ok("init", "-r", "repo:new", "--insecure-test-kdf", "--chunk-size", "4KiB")
    machine.snapshot(site, "-r", "repo:new")

    machine.setenv("DEDUP_PASSPHRASE", OTHER)
    machine.ok("check", "--read-data", "-r", tmp_path / "new")


def test_a_key_file_named_for_this_call_wins_against_the_configuration(machine: Dedup, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    machine.ok("key", "add", "--key-file", key)
    configure(tmp_path, passphrase="other.pass")
    assert machine("snapshots").exit_code == 12

    machine.setenv("DEDUP_KEY_FILE", str(key))
    machine.ok("snapshots")


def test_the_configuration_may_name_a_key_file(machine: Dedup, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    machine.ok("key", "add", "--key-file", key)
    write(tmp_path / "etc" / "config.toml", f'[repos.main]\nurl = "{tmp_path}/repository"\nkey_file = "{key}"\n')

    machine.ok("snapshots")


def test_a_secret_that_cannot_be_had_is_an_error_and_no_question(machine: Dedup, tmp_path: Path) -> None:
    (tmp_path / "main.pass").unlink()

    run = machine("snapshots")

    assert run.code == "secret.unreadable"
    assert str(tmp_path / "main.pass") in run.err


def test_copies_and_mirrors_go_to_repositories_of_the_configuration(machine: Dedup, site: Path, tmp_path: Path) -> None:
    configure(
        tmp_path,
        f'[repos.nas]\nurl = "{tmp_path}/nas"\npassphrase = "file:{tmp_path}/other.pass"\n'
        f'[repos.usb]\nurl = "{tmp_path}/usb"\n',
    )
    machine.ok("init", "-r", "repo:nas", "--insecure-test-kdf", "--chunk-size", "4KiB")
    machine.snapshot(site)

    machine.ok("copy", "--to", "repo:nas")
    machine.ok("mirror", "--to", "repo:usb", "--init")
    machine.ok("replicas", "set", "repo:usb", "--offsite")

    rows = machine.ok("replicas", "--json").document["replicas"]
    assert [row["url"] for row in rows] == [str(tmp_path / "nas"), str(tmp_path / "usb")]
    machine.ok("check", "--read-data", "-r", "repo:nas")


def test_suggested_commands_repeat_the_configuration_that_was_named(machine: Dedup, site: Path, tmp_path: Path) -> None:
    own = write(
        tmp_path / "own.toml", f'[repos.x]\nurl = "{tmp_path}/repository"\npassphrase = "file:{tmp_path}/main.pass"\n'
    )

    run = machine.ok("snapshot", "-c", own, "-r", "repo:x", site)

    assert f"dedup restore -r repo:x -c {own} --at now" in run.err


def test_whoever_names_place_and_passphrase_needs_no_configuration(machine: Dedup, tmp_path: Path) -> None:
    write(tmp_path / "etc" / "config.toml", "this is no TOML\n")
    assert machine("snapshots").code == "config.syntax"

    machine.setenv("DEDUP_PASSPHRASE", PASSPHRASE)
    machine.ok("snapshots", "-r", tmp_path / "repository")


def test_the_limits_of_a_repository_hold_for_what_is_sent(machine: Dedup, tmp_path: Path) -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.main]\nurl = "{tmp_path}/repository"\npassphrase = "file:{tmp_path}/main.pass"\nlimit_upload = "1MB/s"\n',
    )
    source = tmp_path / "random"
    source.write_bytes(os.urandom(500_000))
    sent: list[int] = []

    def take(pace: object, count: int) -> None:
        sent.append(count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dedupstore.storage.throttle.Pace.take", take)
        machine.snapshot(source)
        assert sum(sent) > 500_000
        sent.clear()
        machine.setenv("DEDUP_PASSPHRASE", PASSPHRASE)
        machine.snapshot(source, "-r", tmp_path / "repository")
    assert sent == []


def test_a_lock_that_a_place_cannot_give_is_refused_and_not_passed_over(machine: Dedup, tmp_path: Path) -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'[repos.main]\nurl = "{tmp_path}/repository"\npassphrase = "file:{tmp_path}/main.pass"\nobject_lock = "14d"\n',
    )

    refused = machine("snapshots")

    assert (refused.exit_code, refused.code) == (2, "config.invalid_value")
    assert "objects cannot be locked" in refused.err
    assert "take object_lock out" in refused.err
