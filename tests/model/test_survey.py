"""The kernel's survey of a page is Python's or none, for every page anyone could write."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedupstore.model import survey as module
from dedupstore.model.entry import FIFO, FILE, MAX_INLINE_CHUNKS, MAX_NAME, SYMLINK, Entry, encode_entry
from dedupstore.model.survey import survey, survey_in_python
from dedupstore.model.tree import MAX_PAGE_ENTRIES
from dedupstore.model.wire import MAX_ARRAYS, Value, pack
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
    page,
    references,
)

needs_kernel = pytest.mark.skipif(survey is survey_in_python, reason="built without a compiler")


ORDINARY = [
    *FILES,
    FOLDER,
    Entry(name=b"d" * 256, kind=SYMLINK, mode=0o777, target=b"../x", user="Jos\u00e9", group="\u20ac" * 256),
    Entry(name=LONGEST_NAME, kind=FIFO, mode=0o600, xattrs=((b"user.a", b""), (b"user.b", b"x" * 70_000))),
    LARGE,
]
LEFT_TO_PYTHON = [
    HOLE,
    DEVICE,
]


def test_a_survey_has_the_names_the_chunks_and_the_directories() -> None:
    first, last, files, chunks, trees = survey(encoded(ORDINARY)) or pytest.fail("not understood")

    assert (first, last, files) == (b"a", b"\xff", 4)
    assert chunks[:3] == [(ID, 7), (bytes(32), 100), (bytes([1]) * 32, 200)]
    assert len(chunks) == 3 + MAX_INLINE_CHUNKS
    assert trees == [ID]


def test_an_empty_directory_refers_to_nothing() -> None:
    assert survey(encoded([], 0)) == (b"", b"", 0, [], [])


@pytest.mark.parametrize("entry", ORDINARY, ids=lambda entry: repr(entry.name[:4]))
@pytest.mark.parametrize("base_ns", [0, 1, -1, BASE, -BASE, 2**61, -(2**61)])
def test_ordinary_entries_are_understood_at_once(entry: Entry, base_ns: int) -> None:
    assert survey(encoded([entry], base_ns)) == survey_in_python(encoded([entry], base_ns)) is not None


@pytest.mark.parametrize("count", [1, 15, 16, 17, MAX_PAGE_ENTRIES])
def test_pages_of_every_length_are_understood(count: int) -> None:
    made = encoded([Entry(name=b"%06d" % n, kind=FILE, mode=0o644, size=n + 1, content=ID) for n in range(count)])

    assert survey(made) == survey_in_python(made) is not None


@pytest.mark.parametrize("entry", LEFT_TO_PYTHON, ids=lambda entry: entry.name.decode())
def test_python_knows_what_the_kernel_does_not(entry: Entry) -> None:
    assert survey_in_python(encoded([entry])) is not None
    assert survey(encoded([entry])) in (None, survey_in_python(encoded([entry])))


GOOD = encode_entry(ORDINARY[0], BASE)
MANY = encode_entry(ORDINARY[2], BASE)
DIRECTORY_ROW = encode_entry(FOLDER, BASE)
LINK = encode_entry(ORDINARY[4], BASE)
LIMITS = {"m": 2**12, "u": 2**32, "g": 2**32, "ps": 2**32, "s": 2**24, "lg": 2**63}
NO_NUMBERS: list[Value] = [-1, True, None, b"1", "1", 2**64 - 1, -(2**63)]


def changed(row: dict[str, Value], **fields: Value) -> dict[str, Value]:
    return dict(sorted({**row, **fields}.items()))


def without(row: dict[str, Value], key: str) -> dict[str, Value]:
    return {name: value for name, value in row.items() if name != key}


OPTIONAL = ("un", "gn", "h", "l", "lg", "ps")

WRONG: list[bytes] = [
    *(page([changed(GOOD, **{key: value})]) for key, limit in LIMITS.items() for value in [limit, *NO_NUMBERS]),
    *(page([without(row, key)]) for row in (GOOD, MANY, DIRECTORY_ROW, LINK) for key in row if key not in OPTIONAL),
    *(page([changed(GOOD, n=name)]) for name in (b"", b".", b"..", b"a/b", b"a\0", b"x" * (MAX_NAME + 1), "a", 1)),
    *(page([changed(GOOD, k=kind)]) for kind in ("", "x", "ff", "d", "l", "c", "b", b"f", 1)),
    *(page([changed(GOOD, c=content)]) for content in (b"", bytes(31), bytes(33), references(6), references(3, 3), "")),
    page([changed(MANY, c=references(*[1] * (MAX_INLINE_CHUNKS + 1)), s=MAX_INLINE_CHUNKS + 1)]),
    page([changed(GOOD, s=0)]),
    page([changed(GOOD, s=2**24)]),
    page([changed(GOOD, d=ID)]),
    page([changed(GOOD, d=b"")]),
    page([changed(DIRECTORY_ROW, d=bytes(31))]),
    page([changed(DIRECTORY_ROW, c=ID)]),
    page([changed(DIRECTORY_ROW, h=ID)]),
    page([changed(GOOD, h=bytes(31))]),
    page([changed(LINK, l=b"a\0b")]),
    page([changed(LINK, l=b"x" * (MAX_NAME + 1))]),
    page([changed(GOOD, un="x" * 257)]),
    page([changed(GOOD, gn=b"x")]),
    page([changed(GOOD, gn="\u00e9" * 257)]),
    *(page([changed(GOOD, un="xxx")]).replace(b"xxx", text) for text in (b"x\xe9x", b"\xed\xa0\x80", b"x\xc0\x80")),
    page([changed(GOOD, y=1)]),
    page([changed(GOOD, mtx=1)]),
    *(page([GOOD]).replace(pack(key), pack(key + "\0")) for key in without(GOOD, "s") if len(key) == 1),
    page([changed(GOOD, mt=2**63 - 1)], 2**62),
    page([changed(GOOD, mt=-(2**63))], -1),
    page([changed(GOOD, ct=2**63 - 1)], 10**9),
    page([changed(GOOD, ct=-(2**63))], -1),
    page([changed(GOOD, x=[[b"", b""]])]),
    page([changed(GOOD, x=[[b"b", b""], [b"a", b""]])]),
    page([changed(GOOD, x=[[b"a", b""], [b"a", b""]])]),
    page([changed(GOOD, x=[[b"a\0", b""]])]),
    page([changed(GOOD, x=[[b"a"]])]),
    page([changed(GOOD, x=[[b"a", b"", b""]])]),
    page([changed(GOOD, x=[[b"a", "x"]])]),
    page([GOOD, GOOD]),
    page([changed(GOOD, n=b"b"), GOOD]),
    page([changed(GOOD, n=b"ab"), GOOD]),
    page([GOOD, 1]),
    page([dict(reversed(GOOD.items()))]),
    page([changed(GOOD, n=b"%06d" % number) for number in range(MAX_PAGE_ENTRIES + 1)]),
    *(page([GOOD], value) for value in (2**63, None, "1", True)),
    pack({"e": [GOOD], "t": BASE, "v": 2}),
    pack({"e": [GOOD], "t": BASE, "v": True}),
    pack({"e": [GOOD], "t": BASE}),
    pack({"e": [GOOD], "t": BASE, "v": 1, "w": 1}),
    pack({"e": 1, "t": BASE, "v": 1}),
    pack({"p": [[b"a", ID]], "v": 1}),
    pack({"c": references(1), "v": 1}),
    pack([]),
    b"",
    page([GOOD]) + b"\0",
    page([GOOD])[:-1],
]


@pytest.mark.parametrize("made", WRONG, ids=range(len(WRONG)))
def test_a_page_that_is_wrong_anywhere_has_no_survey(made: bytes) -> None:
    assert survey_in_python(made) is None
    assert survey(made) is None


@pytest.mark.parametrize(("above", "understood"), [(0, True), (1, False)])
def test_a_page_of_more_arrays_than_python_takes_has_no_survey(above: int, understood: bool) -> None:
    """Each attribute is one, each list of them, and the list of entries."""
    per_entry = 4095
    rows: list[Value] = []
    left = MAX_ARRAYS - 1 + above
    while left:
        count = min(per_entry, left - 1)
        rows.append(changed(GOOD, n=b"%03d" % len(rows), x=[[b"%04d" % number, b""] for number in range(count)]))
        left -= count + 1
    made = page(rows)

    assert (survey_in_python(made) is not None) == understood
    assert (survey(made) is not None) == understood


LONG_FORMS = [
    (b"\xa1m\xcd\x01\xa4", b"\xa1m\xce\x00\x00\x01\xa4"),
    (b"\xa1n\xc4\x01a", b"\xa1n\xc5\x00\x01a"),
    (b"\xa1n\xc4\x01a", b"\xa1n\xc6\x00\x00\x00\x01a"),
    (b"\xa1k\xa1f", b"\xa1k\xd9\x01f"),
    (b"\xa1s\x07", b"\xa1s\xcc\x07"),
    (b"\xa1s\x07", b"\xa1s\xd0\x07"),
    (b"\xa1s\x07", b"\xa1s\xcf" + bytes(7) + b"\x07"),
    (b"\xa1e\x91", b"\xa1e\xdc\x00\x01"),
    (b"\xa1v\x01", b"\xa1v\xd1\x00\x01"),
    (b"\xa1v\x01", b"\xd9\x01v\x01"),
    (b"\x83\xa1e", b"\xde\x00\x03\xa1e"),
]


@pytest.mark.parametrize(("short", "long"), LONG_FORMS)
def test_a_second_encoding_of_the_same_page_has_no_survey(short: bytes, long: bytes) -> None:
    made = page([GOOD])
    assert survey(made) is not None
    assert made.count(short) == 1

    made = made.replace(short, long)

    assert survey_in_python(made) is None
    assert survey(made) is None


@needs_kernel
@pytest.mark.parametrize("number", [-33, -32, -1, -128, -129, -(2**15), -(2**15) - 1, -(2**31), -(2**31) - 1, -(2**63)])
def test_negative_numbers_are_read_as_python_reads_them(number: int) -> None:
    made = page([changed(GOOD, mt=number, ct=number)], 0)

    assert survey(made) == survey_in_python(made) is not None


@needs_kernel
@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_never_get_another_survey_than_pythons(seed: int) -> None:
    chooser = random.Random(seed)
    small = encoded([ORDINARY[0], ORDINARY[2], ORDINARY[3], Entry(name=b"l", kind=SYMLINK, mode=0o777, target=b"x")])
    for _ in range(2_000):
        made = damaged(small, chooser)
        found = survey(made)
        assert found is None or found == survey_in_python(made), made


@needs_kernel
def test_a_page_that_ends_anywhere_is_not_understood() -> None:
    made = encoded(ORDINARY[:4])
    for length in range(len(made)):
        assert survey(made[:length]) is None


@needs_kernel
@settings(max_examples=200)
@given(st.binary(max_size=200))
@example(b"\x83\xa1e\xdc\xff\xff")
@example(b"\x83\xa1e\x91\x81\xa1n\xc6\xff\xff\xff\xff")
def test_any_bytes_at_all_are_survived(made: bytes) -> None:
    found = survey(made)
    assert found is None or found == survey_in_python(made)


@needs_kernel
def test_only_bytes_are_taken() -> None:
    with pytest.raises(TypeError):
        survey(bytearray(encoded(ORDINARY)))  # type: ignore[arg-type]


def test_without_the_kernel_python_surveys() -> None:
    code = (
        "import sys; sys.modules['dedupstore.model._survey'] = None\n"
        "from dedupstore.model import survey\n"
        "assert survey.survey is survey.survey_in_python\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(module.__file__).parents[2])
