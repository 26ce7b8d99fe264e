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
from dedupstore.model.entry import DIRECTORY, FIFO, FILE, MAX_INLINE_CHUNKS, MAX_NAME, SYMLINK, Entry, encode_entry
from dedupstore.model.rows import read_entries
from dedupstore.model.tree import MAX_PAGE_ENTRIES, decode_page, read_tree
from dedupstore.model.wire import Value, pack
from dedupstore.types import ChunkId

ID = ChunkId(bytes(range(32)))
BASE = 1_700_000_000_123_456_789
HAVE_KERNEL = module._HAVE_KERNEL

needs_kernel = pytest.mark.skipif(not HAVE_KERNEL, reason="built without a compiler")


def references(*lengths: int) -> bytes:
    return b"".join(bytes([number % 256]) * 32 + length.to_bytes(3, "big") for number, length in enumerate(lengths))


ORDINARY = [
    Entry(name=b"a", kind=FILE, mode=0o644, uid=1000, gid=1000, user="me", group="us", size=7, content=ID, mtime=BASE),
    Entry(name=b"b", kind=FILE, mode=0o4755, uid=70_000, gid=2**32 - 1, ctime=-5, mtime=-(2**40)),
    Entry(
        name=b"c", kind=FILE, mode=0, size=300, content=references(100, 200), hash=ID, link_group=2**62, page_size=512
    ),
    Entry(name=b"c.", kind=DIRECTORY, mode=0o755, tree=ID, user="x" * 32, group="y" * 256),
    Entry(name=b"d" * 256, kind=SYMLINK, mode=0o777, target=b"../x"),
    Entry(name=b"e" * MAX_NAME, kind=FIFO, mode=0o600),
    Entry(name=b"f", kind="s", mode=0o600, ctime=3),
    Entry(name=b"text", kind=FIFO, mode=0o600, user="Jos\u00e9", group="Dom\u00e4nen-Benutzer"),
    Entry(name=b"\xff", kind=FILE, mode=0o644, size=255 * 256, content=references(*[255] * MAX_INLINE_CHUNKS)),
]
LEFT_TO_PYTHON = [
    Entry(name=b"hole", kind=FILE, mode=0o644, size=17, holes=(0, 10), content=ID),
    Entry(name=b"list", kind=FILE, mode=0o644, size=17, pages=(1, ID)),
    Entry(name=b"node", kind="c", mode=0o600, device=(1, 3)),
    Entry(name=b"mark", kind=FILE, mode=0o600, xattrs=((b"user.a", b"b"),)),
]


def page(rows: list[Value], base_ns: Value = BASE) -> bytes:
    return pack({"e": rows, "t": base_ns, "v": 1})


def encoded(entries: list[Entry], base_ns: int = BASE) -> bytes:
    return page([encode_entry(entry, base_ns) for entry in entries], base_ns)


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
        made = bytearray(small)
        for _ in range(chooser.randint(1, 3)):
            at = chooser.randrange(len(made))
            change = chooser.randrange(4)
            if change == 0:
                made[at] ^= 1 << chooser.randrange(8)
            elif change == 1:
                made[at] = chooser.randrange(256)
            elif change == 2:
                del made[at : at + chooser.randint(1, 4)]
            else:
                made[at:at] = chooser.randbytes(chooser.randint(1, 4))
        found = read_entries(bytes(made))
        understood += found is not None
        assert found is None or found == in_python(bytes(made)), bytes(made)
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
