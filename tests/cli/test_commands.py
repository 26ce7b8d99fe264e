"""The table of commands is true, help is complete and starts with examples, and nothing is loaded early."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dedupstore.cli.command import Root, load
from dedupstore.cli.commands import COMMANDS, SECTIONS, Entry
from dedupstore.cli.main import main
from tests.support.dedup import PATIENCE_SECONDS, Dedup

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("rich", "boto3", "botocore", "cryptography", "lmdb", "zstandard", "blake3", "msgpack", "croniter",
         "platformdirs", "subprocess", "hashlib", "logging", "asyncio", "socket", "json", "zoneinfo")  # fmt: skip
OPENING = {"cryptography", "blake3", "msgpack", "hashlib", "json"}
"""What opening a repository takes, and comparing it with what this machine has seen of it."""


def all_commands(command: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            found += all_commands(inner, (*path, name))
    return found


def test_every_command_stands_under_a_heading_once() -> None:
    names = [entry.name for entry in COMMANDS]

    assert len(names) == len(set(names))
    assert {entry.section for entry in COMMANDS} <= set(SECTIONS)
    assert all(entry.summary.endswith(".") and len(entry.summary) <= 60 for entry in COMMANDS)


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_every_command_loads_and_explains_itself(entry: Entry) -> None:
    loaded = load(entry)

    assert loaded.name == entry.name
    for path, command in all_commands(loaded, (entry.name,)):
        text = command.get_help(
            click.Context(command, info_name=" ".join(("dedup", *path)), parent=click.Context(Root()))
        )
        first, example = text.splitlines()[:2]
        assert first == "Examples:", path
        assert "dedup" in example, path
        assert command.help, path
        undocumented = [
            parameter.name
            for parameter in command.params
            if isinstance(parameter, click.Option) and not parameter.help and not parameter.hidden
        ]
        assert not undocumented, path


def test_the_help_lists_every_command_under_its_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    text = capsys.readouterr().out
    assert text.startswith("Examples:\n  dedup snapshot ")
    for section in {entry.section for entry in COMMANDS}:
        assert f"\n{section}:\n" in text
    for entry in COMMANDS:
        assert f"\n  {entry.name} " in text
        assert entry.summary in text


def loaded_by(*arguments: str, environ: dict[str, str] | None = None) -> set[str]:
    """The modules of a process that has run `dedup` with these arguments."""
    return modules_after(f"from dedupstore.cli.main import main\nassert main({list(arguments)!r}) == 0", environ)


def modules_after(code: str, environ: dict[str, str] | None = None) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules, file=sys.stderr)"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    return set(done.stderr.split())


def test_the_help_loads_no_command_and_no_heavy_library() -> None:
    loaded = loaded_by("--help")

    assert not loaded & {entry.target.partition(":")[0] for entry in COMMANDS}
    assert not loaded & set(HEAVY)
    frame = {"cli", "errors", "types", "units", "clock", "events", "cancel"}
    assert {name.split(".")[1] for name in loaded if name.startswith("dedupstore.")} <= frame


def test_a_list_of_snapshots_loads_only_what_opens_a_repository(dedup: Dedup, site: Path) -> None:
    dedup.snapshot(site)

    loaded = loaded_by("snapshots", environ=dedup.process_environment())

    assert not loaded & (set(HEAVY) - OPENING)
    # Neither the index nor what reads and writes packs, nor the grammar of times.
    assert not loaded & {"dedupstore.repo.repository", "dedupstore.repo.reader", "dedupstore.policy.timespec"}


def test_what_shows_snapshots_is_not_loaded_before_the_key_is_being_derived() -> None:
    loaded = modules_after("import dedupstore.cli.snapshots")

    assert "dedupstore.repo.slots" in loaded
    late = ("cli.listing", "service.selection", "repo.opening", "repo.config", "repo.catalog", "model.snapshot")
    assert not loaded & {f"dedupstore.{name}" for name in late}


def test_what_takes_a_snapshot_is_not_loaded_before_the_key_is_being_derived() -> None:
    loaded = modules_after("import dedupstore.cli.snapshot")

    assert "dedupstore.repo.slots" in loaded
    late = ("cli.snapshot_given", "service.snapshot", "service.repository", "repo.repository", "engine.archive")
    assert not loaded & {f"dedupstore.{name}" for name in late}


def test_a_mirror_loads_neither_the_index_nor_what_reads_and_writes_packs() -> None:
    loaded = modules_after("import dedupstore.cli.mirror")

    assert not loaded & {"dedupstore.repo.repository", "dedupstore.repo.reader", "dedupstore.repo.lmdb_index", "lmdb"}


def test_a_mirror_that_is_made_loads_nothing_that_opens_a_repository(dedup: Dedup, site: Path, tmp_path: Path) -> None:
    dedup.snapshot(site)

    loaded = loaded_by("mirror", "--to", str(tmp_path / "mirror"), "--init", environ=dedup.process_environment())

    assert (tmp_path / "mirror" / "FORMAT").exists()
    assert not loaded & {"cryptography", "msgpack", "zstandard", "lmdb", "hashlib", "socket", "platformdirs"}
    assert not loaded & {"dedupstore.repo.slots", "dedupstore.repo.pack", "dedupstore.service.secrets"}


def test_the_shell_is_told_the_commands_without_loading_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_DEDUP_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "dedup sn")
    monkeypatch.setenv("COMP_CWORD", "1")

    with pytest.raises(SystemExit):
        main([])

    assert capsys.readouterr().out.split() == ["plain,snapshot", "plain,snapshots"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert main(["completion", shell, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)

    assert f"_DEDUP_COMPLETE={shell}_complete" in script
    assert "%(" not in script
    assert document["script"].strip() == script.strip()


def test_the_bash_script_is_valid() -> None:
    code = "from dedupstore.cli.main import main; raise SystemExit(main(['completion', 'bash']))"
    script = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    ).stdout

    subprocess.run(["bash", "-n"], input=script, text=True, timeout=PATIENCE_SECONDS, check=True)


def test_version_tells_what_is_at_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    text = capsys.readouterr().out
    assert main(["version", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["--version"]) == 0

    assert capsys.readouterr().out == f"dedup {document['version']}\n"
    assert text.startswith(f"dedup {document['version']}\nPython {document['python']}")
    assert document["chunker"] in ("c", "python")
    assert all(document["libraries"].values())


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["help"], "Examples:\n  dedup snapshot"),
        (["help", "version"], "Examples:\n  dedup version"),
        (["help", "code"], "CODE "),
        (["help", "code", "repo.not_found"], "repo.not_found\n\n  There is no repository"),
        (["help", "exit-codes"], "EXIT  MEANS\n   0  all done"),
    ],
)
def test_help_explains(arguments: list[str], start: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0

    assert capsys.readouterr().out.startswith(start)


def test_help_knows_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "code", "repo.notfound"]) == 5
    assert "dedup help code repo.not_found" in capsys.readouterr().err

    assert main(["help", "nonsense"]) == 2
    assert main(["help", "version", "deeper"]) == 2
