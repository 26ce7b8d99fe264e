"""`dedup config`: what is checked, shown and written, and how it ends."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from tests.support.configuration import WHOLE, write
from tests.support.dedup import Dedup


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dedup:
    """A machine without a repository and without a configuration."""
    return Dedup(tmp_path, monkeypatch)


def test_check_says_what_was_read(machine: Dedup, tmp_path: Path) -> None:
    write(tmp_path / "etc" / "config.toml", WHOLE)

    run = machine.ok("config", "check")

    assert f"  read     {tmp_path}/etc/config.toml\n" in run.out
    assert "  ok       2 repositories, 6 sources\n" in run.out
    assert "  later    replicas, schedules, verify, alerts, notify, server: read, and not carried out" in run.out
    assert machine.ok("config", "check", "--json").document == {
        "v": 1, "ok": True, "files": [f"{tmp_path}/etc/config.toml"], "closed": [], "faults": [],
    }  # fmt: skip


def test_check_without_any_file_says_how_to_begin(machine: Dedup) -> None:
    run = machine.ok("config", "check")

    assert "there is no configuration" in run.out
    assert "dedup config init" in run.err


def test_check_lists_every_mistake_with_file_and_line(machine: Dedup, tmp_path: Path) -> None:
    path = write(
        tmp_path / "etc" / "config.toml", '[repos.main]\nurl = "x"\n[sources.site]\ntype = "files"\npath = ["/x"]\n'
    )

    run = machine("config", "check")
    document = machine("config", "check", "--json").document

    assert run.exit_code == 2
    assert f'{path}:5: sources.site.path: unknown key "path"; did you mean "paths"?\n' in run.out
    assert run.out.count(str(path)) == 3
    assert document["ok"] is False
    assert [fault["code"] for fault in document["faults"]] == [
        "config.invalid_value", "config.unknown_key", "config.missing",
    ]  # fmt: skip


def test_a_wrong_configuration_stops_what_needs_it(machine: Dedup, tmp_path: Path) -> None:
    path = write(tmp_path / "other.toml", "colour = 1\n")

    run = machine("config", "show", "-c", path)

    assert run.exit_code == 2
    assert run.code == "config.unknown_key"
    assert f"{path}:1" in run.err


def test_the_variable_names_the_file_and_the_flag_wins(machine: Dedup, tmp_path: Path) -> None:
    machine.setenv("DEDUP_CONFIG", str(write(tmp_path / "a.toml", '[repos.a]\nurl = "/a"\n')))
    other = write(tmp_path / "b.toml", '[repos.b]\nurl = "/b"\n')

    assert machine.ok("config", "show").out == '[repos.a]\nurl = "/a"\n'
    assert machine.ok("config", "show", "-c", other).out == '[repos.b]\nurl = "/b"\n'


def test_show_gives_one_document_and_hides_addresses(machine: Dedup, tmp_path: Path) -> None:
    write(tmp_path / "etc" / "config.toml", WHOLE)

    run = machine.ok("config", "show")

    shown, given = tomllib.loads(run.out), tomllib.loads(WHOLE)
    assert {name: shown[name] for name in shown if name != "notify"} == {
        name: given[name] for name in given if name != "notify"
    }
    assert shown["notify"]["ops"] == {"urls": ["…"], "webhook": "…"}
    for call in (("config", "show", "--json"), ("config", "show", "--origin")):
        assert "token-in-an-address" not in machine.ok(*call).out


def test_show_origin_tells_files_variables_flags_and_defaults(machine: Dedup, tmp_path: Path) -> None:
    path = write(tmp_path / "etc" / "config.toml", '[sources.x]\ntype = "files"\npaths = ["/x"]\ncompression = 3\n')

    rows = [line.split(maxsplit=1) for line in machine.ok("config", "show", "--origin", "-r", "/flag").out.splitlines()]

    origins = dict(rows)
    assert origins["sources.x.paths"].endswith(f"{path}:3")
    assert origins["sources.x.compression"].endswith(f"{path}:4")
    assert origins["sources.x.hook_timeout"].endswith("default")
    assert origins["passphrase"].split() == ["…", "env", "DEDUP_PASSPHRASE"]
    assert [rest.split(maxsplit=1)[1].strip() for key, rest in rows if key == "default_repo"] == [
        "flag --repo", "env DEDUP_REPO",
    ]  # fmt: skip


def test_the_schema_is_one_json_document(machine: Dedup) -> None:
    described = json.loads(machine.ok("config", "schema").out)

    assert described["$schema"].startswith("http://json-schema.org/")
    assert set(described["properties"]) >= {"repos", "sources", "retention", "replicas", "schedules", "server"}
    assert machine.ok("config", "schema", "--json").document["properties"] == described["properties"]


def test_init_writes_a_private_file_once(machine: Dedup, tmp_path: Path) -> None:
    folder = tmp_path / "etc" if os.geteuid() == 0 else tmp_path / ".config" / "dedup"

    run = machine.ok("config", "init", "-r", "/mnt/disk", "--passphrase", "command:pass show backup")

    path = folder / "config.toml"
    assert f"  written  {path}\n" in run.out
    assert path.stat().st_mode & 0o777 == 0o600
    assert machine.ok("config", "check").exit_code == 0
    assert tomllib.loads(path.read_text())["repos"]["main"] == {
        "url": "/mnt/disk", "passphrase": "command:pass show backup",
    }  # fmt: skip
    again = machine("config", "init")
    assert (again.exit_code, again.code) == (8, "config.exists")


def test_init_prints_and_takes_another_place(machine: Dedup, tmp_path: Path) -> None:
    printed = machine.ok("config", "init", "--print", "-r", "/x").out
    machine.ok("config", "init", "-c", tmp_path / "own" / "dedup.toml", "-r", "/x")

    assert (tmp_path / "own" / "dedup.toml").read_text() == printed
    assert not (tmp_path / "etc").exists()
    assert machine("config", "init", "--print", "--passphrase", "hunter2").code == "config.secret_reference"


def test_edit_opens_the_editor_and_checks_what_comes_out(machine: Dedup, tmp_path: Path) -> None:
    path = write(tmp_path / "own" / "config.toml", '[repos.a]\nurl = "/a"\n')
    for editor, code in (("sed -i s/a]/b]/", 0), ("sed -i s/url/ulr/", 2)):
        machine.setenv("EDITOR", editor)
        assert machine("config", "edit", "-c", tmp_path / "own").exit_code == code

    assert path.read_text() == '[repos.b]\nulr = "/a"\n'
    for editor in ("false", "/no/such/editor"):
        machine.setenv("EDITOR", editor)
        assert machine("config", "edit", "-c", path).exit_code == 2
    assert machine("config", "edit").code == "config.unreadable"
