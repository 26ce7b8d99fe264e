"""Restores that meet damage, full disks, silent stores, interruptions and each other: what is there is verified."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dedupstore.cancel import CancelToken
from dedupstore.engine import small_batch
from dedupstore.engine.restore import restore
from dedupstore.engine.restore_options import Action, RestoreOptions
from dedupstore.errors import Interrupted, Refused, StoreError, TargetFailed
from dedupstore.events import Collector
from tests.support.restoring import (
    CHUNK,
    DictReader,
    Tree,
    content_of,
    file_entry,
    folder_entry,
    link_entry,
    restore_tree,
    run_restore,
    save_tree,
    snapshot_of,
)


def numbered(count: int) -> bytes:
    return b"".join(b"%07d\n" % number for number in range(count))


def test_a_damaged_chunk_costs_its_files_and_no_others(reader: DictReader, target: bytes) -> None:
    tree: Tree = {b"good": b"good", b"bad": b"bad", b"long": numbered(2000), b"fine": numbered(300) + b"!"}
    root = save_tree(reader, tree)
    reader.damaged = {
        chunk
        for chunk, data in reader.chunks.items()
        if data == b"bad" or data == numbered(2000)[5 * CHUNK : 6 * CHUNK]
    }

    done = run_restore(reader, snapshot_of(root), RestoreOptions(target=target))

    assert set(os.listdir(target)) == {b"good", b"fine"}
    assert done.result.exit_code == 4
    assert set(done.codes) == {"restore.chunk_damaged"}
    assert sorted(path for path in done.paths if path) == [b"bad", b"long"]


def test_a_missing_chunk_and_a_damaged_directory_are_named(reader: DictReader, target: bytes) -> None:
    inner = folder_entry(reader, b"broken", {b"lost": b"lost"})
    root = save_tree(reader, {b"broken": inner, b"gone": b"gone", b"here": b"here"})
    assert inner.tree is not None
    reader.damaged.add(inner.tree)
    gone = next(chunk for chunk, data in reader.chunks.items() if data == b"gone")
    del reader.places[gone], reader.chunks[gone]

    done = run_restore(reader, snapshot_of(root), RestoreOptions(target=target))

    assert content_of(target) == {b"broken": {}, b"here": b"here"}
    assert sorted(zip(done.codes, done.paths, strict=True)) == [
        ("restore.chunk_damaged", b"gone"),
        ("restore.directory_damaged", b"broken"),
    ]


def test_a_wrong_whole_file_hash_keeps_the_file_invisible(reader: DictReader, target: bytes) -> None:
    tree: Tree = {b"wrong": file_entry(reader, b"wrong", numbered(500), hash=bytes(32))}

    done = restore_tree(reader, tree, target)

    assert os.listdir(target) == []
    assert (done.codes, done.result.exit_code) == (["restore.chunk_damaged"], 4)


def test_an_interrupted_restore_leaves_no_partial_file_and_continues(reader: DictReader, target: bytes) -> None:
    tree: Tree = {b"a%03d" % number: b"content %d" % number for number in range(40)}
    tree[b"large"] = numbered(5000)
    snapshot = snapshot_of(save_tree(reader, tree))
    cancel = CancelToken()
    reader.on_block.append(lambda: cancel.cancel() if len(reader.decoded) > 7 else None)

    with pytest.raises(Interrupted):
        restore(reader, snapshot, RestoreOptions(target=target), listener=Collector(), cancel=cancel)

    left = os.listdir(target)
    assert left and not any(name.startswith(b".dedup-") for name in left)
    reader.on_block.clear()
    done = run_restore(reader, snapshot, RestoreOptions(target=target))
    assert content_of(target) == tree
    assert done.result.actions[Action.KEEP] == len(left)


def test_stale_temporaries_of_the_same_snapshot_go_and_others_stay(reader: DictReader, target: bytes) -> None:
    root = save_tree(reader, {b"f": b"x"})
    os.mkdir(target)
    for name in (b".dedup-01010101-0123abcd-1f", b".dedup-02020202-0123abcd-1f", b".dedup-01010101-mine"):
        with open(os.path.join(target, name), "wb"):
            pass

    run_restore(reader, snapshot_of(root), RestoreOptions(target=target))

    assert set(os.listdir(target)) == {b"f", b".dedup-02020202-0123abcd-1f", b".dedup-01010101-mine"}


def test_a_full_disk_ends_the_restore_without_temporaries(
    reader: DictReader, target: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    real = os.pwritev

    def pwritev(fd: int, parts: Sequence[memoryview], offset: int) -> int:
        nonlocal written
        written += sum(map(len, parts))
        if written > 3000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, parts, offset)

    monkeypatch.setattr(os, "pwritev", pwritev)

    with pytest.raises(TargetFailed, match="cannot write"):
        restore_tree(reader, {b"a": b"small", b"big": numbered(4000), b"c": {b"d": b"x" * 900}}, target)

    names = [name for _, _, files in os.walk(target) for name in files]
    assert not any(name.startswith(b".dedup-") or name == b"big" for name in names)


def test_trouble_of_the_store_ends_the_restore(reader: DictReader, target: bytes) -> None:
    def fail() -> None:
        raise StoreError("the store is unreachable")

    reader.on_block.append(fail)

    with pytest.raises(StoreError):
        restore_tree(reader, {b"a": numbered(400)}, target)

    assert os.listdir(target) == []


def test_two_restores_never_write_into_one_target(reader: DictReader, target: bytes) -> None:
    snapshot = snapshot_of(save_tree(reader, {b"f": b"x"}))
    second: list[BaseException] = []

    def try_another() -> None:
        try:
            run_restore(DictReader(reader.chunks, reader.places), snapshot, RestoreOptions(target=target))
        except BaseException as exc:
            second.append(exc)

    def interfere() -> None:
        thread = threading.Thread(target=try_another)
        thread.start()
        thread.join()

    reader.on_block.append(interfere)

    run_restore(reader, snapshot, RestoreOptions(target=target))

    assert [type(exc) for exc in second] == [Refused]


def test_a_chunk_of_another_length_than_its_manifest_says_is_refused(reader: DictReader, target: bytes) -> None:
    pieces = file_entry(reader, b"pieces", numbered(300))
    lying = b"".join(
        pieces.content[start : start + 32] + length.to_bytes(3, "big")
        for start, length in zip(range(0, 105, 35), (400, 1000, 1000), strict=True)
    )
    longer = file_entry(reader, b"longer", b"abc", size=9)

    done = restore_tree(reader, {b"longer": longer, b"lying": replace(pieces, content=lying)}, target)

    assert os.listdir(target) == []
    assert done.result.exit_code == 4
    assert sorted(path for path in done.paths if path) == [b"longer", b"lying"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_owner_that_cannot_exist_is_left_as_it_is_made(reader: DictReader, target: bytes) -> None:
    odd = replace(file_entry(reader, b"odd", b"abc"), uid=2**32 - 1, gid=2**32 - 1)

    done = restore_tree(reader, {b"odd": odd, b"plain": b"x"}, target, owners=True)

    assert done.result.files == 2
    assert os.stat(os.path.join(target, b"odd")).st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets owners")
def test_where_root_may_not_set_owners_everything_else_is_restored(
    reader: DictReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without the right, a share that squashes root, a memory stick without owners."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chown", refuse)
    monkeypatch.setattr(small_batch, "write_files", lambda files: [errno.EPERM] * len(files))
    setuid = file_entry(reader, b"s", b"program", uid=1234, gid=1234, mode=0o4755)
    tree: Tree = {
        b"s": setuid,
        b"d": folder_entry(reader, b"d", {b"f": file_entry(reader, b"f", b"content", uid=1234)}, uid=1234),
        b"l": replace(link_entry(b"l", b"s"), uid=1234),
    }
    target = os.fsencode(tmp_path / "r")

    done = restore_tree(reader, tree, target, owners=True, special=True)

    assert content_of(target) == {b"s": b"program", b"d": {b"f": b"content"}, b"l": ("link", b"s")}
    assert (done.codes, done.result.dropped) == ([], {"refused owner": 4})
    assert os.stat(target + b"/s").st_mode & 0o7777 == 0o755
