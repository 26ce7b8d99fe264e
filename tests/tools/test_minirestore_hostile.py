"""Manifests, frames, scripts and directories that no program of ours wrote, read by the independent reader: refused, or harmless."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import tempfile
from pathlib import Path

import msgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tools import minirestore
from tools.minirestore import Bad, carry_out, parse_directory, read_directory, unpack, unzstd


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
