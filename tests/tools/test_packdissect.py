"""packdissect tells what is in a pack, and the parts it names add up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.golden_repository import FOLDER, MAKERS, PASSPHRASE
from tools.packdissect import main


@pytest.fixture(autouse=True)
def weak_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEDUP_TEST_WEAK_KDF", "1")


@pytest.fixture
def passphrase(tmp_path: Path) -> str:
    path = tmp_path / "passphrase"
    path.write_text(PASSPHRASE + "\n")
    return str(path)


def as_json(capsys: pytest.CaptureFixture[str], repository: Path, passphrase: str, *more: str) -> dict[str, Any]:
    assert main([str(repository), "--json", "--passphrase-file", passphrase, *more]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


DAMAGED = "v1-healed"
"""It keeps a pack with a damaged block, beside a good copy of what that held."""


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - {DAMAGED}))
def test_the_parts_of_every_pack_add_up_and_every_chunk_verifies(
    name: str, passphrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = FOLDER / name / "repository"

    document = as_json(capsys, repository, passphrase, "--verify")

    sizes = {path.name.split(".")[0]: path.stat().st_size for path in repository.glob("packs/*/*")}
    assert {pack["id"]: pack["size"] for pack in document["packs"]} == sizes
    for pack in document["packs"]:
        stored = sum(block["stored"] for block in pack["blocks"])
        assert 64 + stored + pack["fill"] + pack["trailer"] == pack["size"]
        assert pack["fill"] >= 0 and pack["directory"] + 32 <= pack["trailer"]
        assert pack["verified"]
    assert document["totals"]["packs"] == len(sizes)
    assert document["totals"]["size"] == sum(sizes.values())


def test_a_damaged_block_is_told(passphrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    repository = FOLDER / DAMAGED / "repository"

    assert main([str(repository), "--json", "--passphrase-file", passphrase, "--verify"]) == 4
    assert "authentication failed" in capsys.readouterr().err


def test_delta_blocks_show_their_bases(passphrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    totals = as_json(capsys, FOLDER / "v1-delta" / "repository", passphrase)["totals"]

    delta = totals["by_codec"]["delta"]
    assert delta["blocks"] > 0 and delta["bases"] >= delta["blocks"]
    assert delta["ratio"] > totals["by_codec"]["zstd"]["ratio"]


def test_the_text_names_header_blocks_and_totals(passphrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(FOLDER / "v1-files" / "repository"), "--passphrase-file", passphrase]) == 0

    text = capsys.readouterr().out
    assert "header 64" in text
    assert "raw" in text and "zstd" in text
    assert "packs, " in text


def test_one_pack_is_chosen_by_the_beginning_of_its_id(passphrase: str, capsys: pytest.CaptureFixture[str]) -> None:
    repository = FOLDER / "v1-files" / "repository"
    pack = sorted(path.name.split(".")[0] for path in repository.glob("packs/*/*"))[0]

    assert [found["id"] for found in as_json(capsys, repository, passphrase, pack[:12])["packs"]] == [pack]
    assert main([str(repository), "nothing", "--passphrase-file", passphrase]) == 2


def test_a_wrong_passphrase_and_a_damaged_pack_are_errors(
    tmp_path: Path, passphrase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(FOLDER / "v1-files" / "repository", tmp_path / "copy"))
    (tmp_path / "wrong").write_text("wrong")
    assert main([str(copy), "--passphrase-file", str(tmp_path / "wrong")]) == 12

    pack = next(iter(sorted(copy.glob("packs/*/*.d*"))))
    data = bytearray(pack.read_bytes())
    data[200] ^= 1
    pack.write_bytes(data)
    capsys.readouterr()
    assert main([str(copy), "--verify", "--passphrase-file", passphrase]) == 4
    assert "authentication" in capsys.readouterr().err
