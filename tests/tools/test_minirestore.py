"""The golden repositories restore for ever, by the product and by the independent reader, to the same bytes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.clock import SystemClock
from dedupstore.engine.restore import restore
from dedupstore.engine.restore_options import RestoreOptions
from dedupstore.errors import StoreError
from dedupstore.events import Collector
from dedupstore.repo.recovery import format_recovery_key
from dedupstore.repo.repository import Repository
from dedupstore.storage.local import LocalStore
from dedupstore.types import ChunkId, Kind
from tests.support.faults import Fault, FaultPlan, FaultyStore
from tests.support.golden_repository import FOLDER, KEY_FILE, LARGEST, MAKERS, PASSPHRASE, RECOVERY_KEY, Tree, describe
from tests.support.repositories import SECRET, new_repository
from tests.support.rotating import rotate
from tools import minirestore
from tools.minirestore import Bad, main, read_recovery_key


def expected_of(name: str) -> list[Tree]:
    trees: list[Tree] = json.loads((FOLDER / name / "expected.json").read_text())
    return trees


@pytest.fixture
def passphrase(tmp_path: Path) -> str:
    path = tmp_path / "passphrase"
    path.write_text(PASSPHRASE + "\n")
    return str(path)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A golden repository that may be damaged."""
    return Path(shutil.copytree(FOLDER / "v1-files" / "repository", tmp_path / "repository"))


def restore_by_hand(repository: Path, passphrase: str, snapshot: str, target: Path) -> int:
    return main([str(repository), "--passphrase-file", passphrase, "restore", snapshot, str(target)])


def listed(repository: Path, passphrase: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The full ids that `list` prints, oldest first."""
    assert main([str(repository), "--passphrase-file", passphrase, "list"]) == 0
    return [line.split()[1] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_independent_reader_restores_every_snapshot_of_every_golden_repository(
    name: str, tmp_path: Path, passphrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = FOLDER / name / "repository"
    expected = expected_of(name)

    ids = listed(repository, passphrase, capsys)

    assert len(ids) == len(expected)
    for number, (snapshot, tree) in enumerate(zip(ids, expected, strict=True)):
        assert restore_by_hand(repository, passphrase, snapshot, tmp_path / str(number)) == 0
        assert describe(tmp_path / str(number)) == tree


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_product_restores_every_snapshot_of_every_golden_repository(name: str, tmp_path: Path) -> None:
    store = LocalStore.open(str(FOLDER / name / "repository"))
    with Repository.open(store, SECRET, clock=SystemClock(), cache_path=None, allow_weak=True) as repository:
        repository.look()
        snapshots = repository.catalog.snapshots().snapshots
        expected = expected_of(name)

        assert len(snapshots) == len(expected)
        for number, (snapshot, tree) in enumerate(zip(snapshots, expected, strict=True)):
            target, collector = tmp_path / str(number), Collector()
            options = RestoreOptions(target=os.fsencode(target))
            restore(repository.reader, snapshot, options, listener=collector, cancel=CancelToken())
            assert collector.findings == []
            assert describe(target) == tree


def test_every_golden_repository_has_a_maker_and_is_small() -> None:
    folders = [path for path in FOLDER.iterdir() if path.is_dir()]

    assert sorted(path.name for path in folders) == sorted(MAKERS)
    for path in folders:
        assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < LARGEST + 100_000


def test_the_independent_reader_imports_nothing_of_the_product() -> None:
    tree = ast.parse(Path(minirestore.__file__).read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}

    outside = {name.split(".")[0] for name in modules} - sys.stdlib_module_names

    assert outside == {"blake3", "zstandard", "cryptography", "msgpack"}


def test_a_recovery_key_and_a_key_file_open_it_too(tmp_path: Path) -> None:
    repository = str(FOLDER / "v1-files" / "repository")
    (tmp_path / "paper").write_text(format_recovery_key(RECOVERY_KEY).lower())
    (tmp_path / "file").write_bytes(KEY_FILE)

    assert main([repository, "--recovery-key-file", str(tmp_path / "paper"), "list"]) == 0
    assert main([repository, "--key-file", str(tmp_path / "file"), "list"]) == 0


def test_a_mistyped_recovery_key_is_noticed_before_any_slot_is_tried() -> None:
    text = format_recovery_key(RECOVERY_KEY)
    wrong = ("1" if text[0] != "1" else "2") + text[1:]

    assert read_recovery_key(text.replace("-", " ")) == RECOVERY_KEY
    with pytest.raises(Bad, match="checksum"):
        read_recovery_key(wrong)


def test_a_wrong_passphrase_is_one_clear_line_for_each_slot(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong").write_text("wrong")

    assert main([str(copy), "--passphrase-file", str(tmp_path / "wrong"), "list"]) == 1
    assert "no key slot opens" in (error := capsys.readouterr().err)
    assert "wrong key, or it was altered" in error


def test_no_repository_and_a_newer_one_are_said_so(
    copy: Path, tmp_path: Path, passphrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere"), "--passphrase-file", passphrase, "list"]) == 1
    assert "no repository at" in capsys.readouterr().err

    (copy / "FORMAT").write_bytes((copy / "FORMAT").read_bytes().replace(b"dedupstore 1", b"dedupstore 2"))
    assert main([str(copy), "--passphrase-file", passphrase, "list"]) == 1
    assert "newer program" in capsys.readouterr().err


def test_it_restores_without_index_config_and_sentinels_and_says_what_is_missing(
    copy: Path, tmp_path: Path, passphrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("index", "config", "gc"):
        shutil.rmtree(copy / folder)
    (copy / "packs" / "-begin").unlink()

    assert restore_by_hand(copy, passphrase, "latest", tmp_path / "out") == 1

    assert describe(tmp_path / "out") == expected_of("v1-files")[0]
    error = capsys.readouterr().err
    assert "config cannot be read" in error
    assert "packs/ has lost a sentinel" in error


def test_any_flipped_byte_of_a_pack_costs_files_by_name_and_never_gives_wrong_bytes(
    copy: Path, tmp_path: Path, passphrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = expected_of("v1-files")[0]
    packs = sorted(copy.glob("packs/*/*.d*"))
    lost = 0
    for number, pack in enumerate(packs):
        good = pack.read_bytes()
        pack.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
        out = tmp_path / str(number)

        code = restore_by_hand(copy, passphrase, "latest", out)

        pack.write_bytes(good)
        error = capsys.readouterr().err
        restored = describe(out)
        missing = expected.keys() - restored.keys()
        lost += len(missing)
        assert (code == 1) == bool(missing)
        for path in missing:
            assert expected[path].get("b3"), f"{path} is no file"
        assert error.count("NOT RESTORED") == len(missing)
        for path, row in restored.items():
            assert row.get("b3") == expected[path].get("b3")
    assert lost


@pytest.mark.parametrize("folder", ["commits", "roots", "keys", "config"])
def test_a_flipped_byte_of_any_other_object_is_refused(
    folder: str, copy: Path, tmp_path: Path, passphrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (copy / folder).iterdir():
        if not path.name.startswith(("-", "zz")):
            data = bytearray(path.read_bytes())
            data[100] ^= 1
            path.write_bytes(data)

    assert restore_by_hand(copy, passphrase, "latest", tmp_path / "out") == 1
    assert capsys.readouterr().err


def test_a_target_that_is_not_empty_is_refused(copy: Path, tmp_path: Path, passphrase: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")

    assert restore_by_hand(copy, passphrase, "latest", tmp_path / "out") == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_what_the_product_writes_today_restores_too(tmp_path: Path, passphrase: str) -> None:
    """Beside the frozen repositories: a change of the format shows here before a golden one is made for it."""
    with new_repository(LocalStore.create(str(tmp_path / "r"))) as repository:
        with repository.writer(repository.look()) as writer:
            chunk: ChunkId = writer.save(Kind.DATA, b"hello")
    store = LocalStore.open(str(tmp_path / "r"))
    reader = minirestore.Repository(tmp_path / "r", 1, PASSPHRASE.encode())
    reader.read_directories()

    assert reader.chunk(minirestore.DATA, chunk) == b"hello"
    assert reader.problems == []
    assert store.url.endswith("/r")


def test_the_slot_of_a_rotation_that_was_stopped_does_not_stand_in_the_way(copy: Path, passphrase: str) -> None:
    with Repository.open(LocalStore(copy), SECRET, clock=SystemClock(), cache_path=None, allow_weak=True) as repository:
        rotation = FaultPlan(fault=Fault.FAIL_BEFORE, at=0, verb="put", below="config/")
        with pytest.raises(StoreError):
            rotate(replace(repository, store=FaultyStore(repository.store, rotation)))

    assert len(list(copy.glob("keys/[0-9a-y]*"))) > 1
    assert main([str(copy), "--passphrase-file", passphrase, "list"]) == 0
