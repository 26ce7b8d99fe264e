"""The kernel's entries of a page are those of the decoder or none, for every page anyone could write."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedupstore.errors import CorruptObject, DedupError
from dedupstore.model import rows as module
from dedupstore.model.entry import FIFO, FILE, SYMLINK, Entry
from dedupstore.model.rows import read_entries
from dedupstore.model.tree import MAX_PAGE_ENTRIES, decode_page, read_tree
from dedupstore.model.wire import pack
from dedupstore.types import ChunkId
from tests.support.pages import (
    BASE,
    DEVICE,
    FILES,
    FOLDER,
    HOLE,
    ID,
    LARGE,
    LONGEST_NAME,
    damaged,
    encoded,
)

HAVE_KERNEL = module._HAVE_KERNEL

needs_kernel = pytest.mark.skipif(not HAVE_KERNEL, reason="built without a compiler")


ORDINARY = [
    *FILES,
    FOLDER,
    Entry(name=b"d" * 256, kind=SYMLINK, mode=0o777, target=b"../x"),
    Entry(name=LONGEST_NAME, kind=FIFO, mode=0o600),
    Entry(name=b"f", kind="s", mode=0o600, ctime=3),
    Entry(name=b"text", kind=FIFO, mode=0o600, user="Jos\u00e9", group="Dom\u00e4nen-Benutzer"),
    LARGE,
]
LEFT_TO_PYTHON = [
    HOLE,
    Entry(name=b"list", kind=FILE, mode=0o644, size=17, pages=(1, ID)),
    DEVICE,
    Entry(name=b"mark", kind=FILE, mode=0o600, xattrs=((b"user.a", b"b"),)),
]


def in_python(made: bytes) -> list[Entry] | None:
    try:
        return list(decode_page(made))
    except DedupError:
        return None


@needs_kernel
@pytest.mark.parametrize("entry", ORDINARY, ids=lambda entry: repr(entry.name[:4]))
@pytest.mark.parametrize("base_ns", [0, 1, -1, BASE, -BASE, 2**61, -(2**61)])
def test_ordinary_entries_come_back_as_they_were_written(entry: Entry, base_ns: int) -> None:
    assert read_entries(encoded([entry], base_ns)) == [entry]


@needs_kernel
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, MAX_PAGE_ENTRIES])
def test_pages_of_every_length_are_understood(count: int) -> None:
    entries = [Entry(name=b"%06d" % n, kind=FILE, mode=0o644, size=n + 1, content=ID) for n in range(count)]

    assert read_entries(encoded(entries)) == entries


@pytest.mark.parametrize("entry", LEFT_TO_PYTHON, ids=lambda entry: entry.name.decode())
def test_python_reads_what_the_kernel_does_not(entry: Entry) -> None:
    made = encoded([ORDINARY[0], entry])

    assert read_entries(made) is None
    assert list(read_tree(lambda _: made, ID)) == [ORDINARY[0], entry]


@needs_kernel
@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_never_give_other_entries_than_pythons(seed: int) -> None:
    chooser = random.Random(seed)
    small = encoded([*ORDINARY[:4], Entry(name=b"l", kind=SYMLINK, mode=0o777, target=b"x")])
    understood = 0
    for _ in range(1_000):
        made = damaged(small, chooser)
        found = read_entries(made)
        understood += found is not None
        assert found is None or found == in_python(made), made
    assert understood


@needs_kernel
def test_a_page_that_ends_anywhere_is_not_understood() -> None:
    made = encoded(ORDINARY[:4])
    for length in range(len(made)):
        assert read_entries(made[:length]) is None


@needs_kernel
@settings(max_examples=200)
@given(st.binary(max_size=200))
@example(b"\x83\xa1e\xdc\xff\xff")
@example(b"\x83\xa1e\x91\x81\xa1n\xc6\xff\xff\xff\xff")
def test_any_bytes_at_all_are_survived(made: bytes) -> None:
    found = read_entries(made)
    assert found is None or found == in_python(made)


@pytest.mark.parametrize("names", [(b"b", b"a"), (b"a", b"a")], ids=["descending", "twice"])
def test_names_that_do_not_ascend_are_refused_whoever_read_them(names: tuple[bytes, bytes]) -> None:
    made = encoded([Entry(name=name, kind=FILE, mode=0o644) for name in names])

    with pytest.raises(CorruptObject, match="not in order"):
        list(read_tree(lambda _: made, ID))


@pytest.mark.parametrize("entry", [ORDINARY[0], LEFT_TO_PYTHON[0]], ids=["kernel", "python"])
def test_a_page_that_begins_with_another_name_than_its_list_says_is_refused(entry: Entry) -> None:
    made = {ID: pack({"p": [[b"other", ChunkId(bytes(32))]], "v": 1}), bytes(32): encoded([entry])}

    with pytest.raises(CorruptObject, match="out of order"):
        list(read_tree(lambda chunk: made[chunk], ID))


def test_without_the_kernel_python_reads() -> None:
    code = (
        "import sys; sys.modules['dedupstore.model._survey'] = None\n"
        "from dedupstore.model import rows\n"
        "assert rows.read_entries(b'') is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(module.__file__).parents[2])
