"""The golden repositories restore for ever, by the product and by the independent reader, to the same bytes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

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
from tools.minirestore import Bad, carry_out, main, parse_directory, read_directory, read_recovery_key, unpack, unzstd


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


class Manifests:
    """Manifests in memory, as the reader's functions ask for them."""

    def __init__(self) -> None:
        self.chunks: dict[bytes, bytes] = {}

    def add(self, value: object) -> bytes:
        name = bytes([len(self.chunks)]) * 32
        self.chunks[name] = msgpack.packb(value)
        return name

    def chunk(self, kind: int, identifier: bytes, *, full: bool = False) -> bytes:
        return self.chunks[identifier]


def row(name: bytes, kind: str = "f", **more: object) -> dict[str, object]:
    return dict(sorted({"ct": 0, "g": 0, "k": kind, "m": 0o644, "mt": 0, "n": name, "u": 0, **more}.items()))


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0b"])
def test_a_hostile_name_is_refused(name: bytes) -> None:
    manifests = Manifests()
    tree = manifests.add({"e": [row(name)], "t": 0, "v": 1})

    with pytest.raises(Bad):
        list(read_directory(manifests, tree))  # type: ignore[arg-type]


@pytest.mark.parametrize("base", [..., None, True, 0.0, b"", 1 << 63, (1 << 63) - 1])
def test_a_base_time_that_is_none_or_leads_out_of_63_bits_is_refused(base: object) -> None:
    manifests = Manifests()
    page = {"e": [row(b"a", mt=1)], "t": base, "v": 1}
    tree = manifests.add({key: value for key, value in page.items() if value is not ...})

    with pytest.raises(Bad):
        list(read_directory(manifests, tree))  # type: ignore[arg-type]


def test_times_are_relative_to_the_base_of_their_page() -> None:
    manifests = Manifests()
    pages = [
        manifests.add({"e": [row(b"a"), row(b"b", mt=-7)], "t": 10**18, "v": 1}),
        manifests.add({"e": [row(b"c", mt=5)], "t": -(1 << 63), "v": 1}),
    ]
    tree = manifests.add({"p": [[b"a", pages[0]], [b"c", pages[1]]], "v": 1})

    found = {entry["n"]: entry["mt"] for entry in read_directory(manifests, tree)}  # type: ignore[arg-type]

    assert found == {b"a": 10**18, b"b": 10**18 - 7, b"c": 5 - (1 << 63)}


def test_a_mode_is_restored_whatever_the_umask_is(tmp_path: Path) -> None:
    manifests = Manifests()
    inner = manifests.add({"e": [], "t": 0, "v": 1})
    rows = [row(b"d", "d", d=inner, m=0o1777), row(b"f", m=0o666), row(b"p", "p", m=0o664)]
    restoring = minirestore.Restore(manifests, tmp_path / "out", owners=False)  # type: ignore[arg-type]

    before = os.umask(0o077)
    try:
        restoring.directory(manifests.add({"e": rows, "t": 0, "v": 1}), restoring.top, [])
    finally:
        os.umask(before)

    assert restoring.failures == []
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert modes == {"d": 0o1777, "f": 0o666, "p": 0o664}


def test_a_link_cannot_lead_what_comes_after_it_out_of_the_target(tmp_path: Path) -> None:
    """Two entries of one name would be a link and then a directory behind it: names must ascend."""
    manifests = Manifests()
    inner = manifests.add({"e": [row(b"planted")], "t": 0, "v": 1})
    tree = manifests.add({"e": [row(b"a", "l", l=b"/etc"), row(b"a", "d", d=inner)], "t": 0, "v": 1})
    restoring = minirestore.Restore(manifests, tmp_path / "out", owners=False)  # type: ignore[arg-type]

    restoring.directory(tree, restoring.top, [])

    assert os.readlink(tmp_path / "out" / "a") == "/etc"
    assert len(restoring.failures) == 1
    assert "not in order" in restoring.failures[0]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=6,
)
KEYS = ["c", "ct", "d", "g", "gn", "h", "ho", "k", "l", "lg", "m", "mt", "n", "p", "ps", "r", "s", "u", "un", "x"]


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from("fdlps"), bent=st.dictionaries(st.sampled_from(KEYS), ANY, max_size=4))
def test_no_entry_whatever_its_fields_hold_stops_the_restore_of_the_others(kind: str, bent: dict[str, object]) -> None:
    manifests = Manifests()
    hostile = {**row(b"hostile", kind, l=b"/etc/passwd", d=bytes([9] * 32)), **bent}
    tree = manifests.add({"e": [row(b"before"), dict(sorted(hostile.items())), row(b"~after")], "t": 0, "v": 1})
    with tempfile.TemporaryDirectory() as folder:
        restoring = minirestore.Restore(manifests, Path(folder) / "out", owners=False)  # type: ignore[arg-type]

        restoring.directory(tree, restoring.top, [])

        os.close(restoring.top)
        assert os.listdir(folder) == ["out"]
        names = os.listdir(os.fsencode(folder) + b"/out")
        assert b"before" in names
        assert b"~after" in names or restoring.failures


def test_directories_without_end_end(tmp_path: Path) -> None:
    """Ids are hashes, so this takes a chain of manifests; here one names itself."""
    manifests = Manifests()
    tree = manifests.add({"e": [row(b"d", "d", d=bytes(32)), row(b"file")], "t": 0, "v": 1})
    restoring = minirestore.Restore(manifests, tmp_path / "out", owners=False)  # type: ignore[arg-type]

    try:
        restoring.directory(tree, restoring.top, [])

        assert (tmp_path / "out" / "file").exists()
        assert restoring.failures
    finally:
        # Too deep for Python, and so for pytest, which would fail to remove it in a later run.
        subprocess.run(["rm", "-rf", tmp_path / "out"], check=True)


def test_pages_that_repeat_are_refused() -> None:
    manifests = Manifests()
    page = manifests.add({"e": [row(b"a"), row(b"b")], "t": 0, "v": 1})
    tree = manifests.add({"p": [[b"a", page], [b"a", page]], "v": 1})

    with pytest.raises(Bad, match="order"):
        list(read_directory(manifests, tree))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 2000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\x00\x50\x00\x00" + b"\x90" * 0x500000,
        b"\xc1",
        b"\xcd\x00\x01",
        b"\x82\xa1b\x01\xa1a\x01",
        b"\x82\xa1a\x01\xa1a\x01",
        b"\x01\x01",
        b"\xd9\x01a",
    ],
)
def test_what_is_not_canonical_msgpack_is_refused(data: bytes) -> None:
    with pytest.raises(Bad):
        unpack(data)


def test_a_zstd_frame_that_lies_about_its_size_is_refused() -> None:
    with pytest.raises(Bad):
        unzstd(bytes.fromhex("28b52ffd") + b"\xe0" + struct.pack("<Q", 1 << 40) + b"\x01\x00\x00", 100, b"")


@pytest.mark.parametrize(
    "script",
    [
        b"", b"\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\xff", b"\0\0\0\0\0\x0a\2", b"\0\0\0\0\0\x0a\1", b"\0\0\0\0\0\x0b\0",
        b"\0\0\0\0\0\0\0", b"\0\0\0\1a\2\x08\0", b"\0\0\0\0\0\x0a", b"\0\0\0\0\0\x0a\x80", b"\0\0\0\0\0\x0a\0\0\x0a\x13",
        b"\0\0\0\0" + b"\x80" * 5 + b"\0\x0a\0", b"\0\0\0\0" + b"\xff" * 4 + b"\x7f\x0a\0", b"\0\0\0\0" + b"\0\1\0" * 5,
    ],
)  # fmt: skip
def test_a_script_that_leaves_its_bases_or_makes_too_much_is_refused(script: bytes) -> None:
    frame = zstandard.ZstdCompressor(write_checksum=False).compress(script)

    with pytest.raises(Bad):
        carry_out(frame, 16, b"0123456789")


def test_a_script_makes_literals_and_copies_in_turns() -> None:
    frame = zstandard.ZstdCompressor(write_checksum=False).compress(b"\0\0\0\3xyz\1\3\2\1\2\x0b")

    assert carry_out(frame, 20, b"0123456789") == b"x234y01z"


def test_a_directory_that_contradicts_itself_is_refused() -> None:
    good = struct.pack(">III", 1, 1, 0) + struct.pack(">IIIBHB", 64, 38, 10, 0, 1, 0) + bytes(32) + b"\0\0\x0a"
    assert parse_directory(good, 200)[0]

    for data, body_end in [
        (good, 101),
        (good[:-1], 200),
        (struct.pack(">III", 2, 1, 0) + good[12:], 200),
        (good.replace(struct.pack(">II", 64, 38), struct.pack(">II", 63, 38)), 200),
        (good[:-1] + b"\x0b", 200),
        (good[:24] + b"\x02" + good[25:], 200),
        (good[:24] + b"\x07" + good[25:], 200),
    ]:
        with pytest.raises(Bad):
            parse_directory(data, body_end)


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
