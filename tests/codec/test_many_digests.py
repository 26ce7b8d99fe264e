"""BLAKE3 of many pieces in C: whatever the pieces, what the library says."""

from __future__ import annotations

import random
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedupstore.codec.hashing import Keyed, digests, digests_in_python
from dedupstore.types import Data

_blake3 = pytest.importorskip("dedupstore.codec._blake3")

KEY = b"whats the Elvish word for friend"
NOISE = random.Random(3).randbytes(300_000)
EDGES = [0, 1, 63, 64, 65, 127, 128, 129, 1023, 1024, 1025, 2047, 2048, 2049, 3072, 3073, 16_384, 65_537]
lengths = st.one_of(st.sampled_from(EDGES), st.integers(0, 20_000))

# On a processor without such vectors the library serves, and there is nothing to compare.
paths = pytest.mark.parametrize(
    "path", _blake3.PATHS or [pytest.param("", marks=pytest.mark.skip(reason="this processor has no such vectors"))]
)


def pieces_of(sizes: list[int]) -> list[Data]:
    """Overlapping pieces that begin at odd places."""
    return [memoryview(NOISE)[number : number + size] for number, size in enumerate(sizes)]


@paths
@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "keyed"])
def test_every_number_of_blocks_and_leaves_is_hashed_as_by_the_library(key: bytes | None, path: str) -> None:
    sizes = [*range(0, 6_000, 13), *EDGES, *range(1024, 70 * 1024, 1024), 300_000]
    pieces = pieces_of(sizes)

    assert _blake3.digests(key, pieces, path) == digests_in_python(key, pieces)
    for piece in pieces[::7]:
        assert _blake3.digests(key, [piece], path) == digests_in_python(key, [piece])


@paths
@settings(max_examples=150, deadline=None)
@given(sizes=st.lists(lengths, max_size=70))
def test_pieces_of_any_lengths_share_the_lanes_and_nothing_else(path: str, sizes: list[int]) -> None:
    pieces = pieces_of(sizes)

    assert _blake3.digests(KEY, pieces, path) == digests_in_python(KEY, pieces)


def test_anything_that_holds_bytes_is_a_piece_and_stays_as_it_was() -> None:
    pieces = (b"bytes", bytearray(b"bytearray" * 500), memoryview(NOISE)[7:5_000], b"")

    assert _blake3.digests(KEY, pieces) == digests_in_python(KEY, pieces) == Keyed(KEY).digests(pieces)
    pieces[1].append(1)  # type: ignore[union-attr]  # Nothing holds its buffer any more.


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"short", [b"x"]), ValueError),
        ((KEY, [b"x"], "no such path"), ValueError),
        ((KEY, [b"x", "text"]), TypeError),
        ((KEY, 3), TypeError),
        ((KEY, [memoryview(NOISE)[::2]]), BufferError),
        (("text" * 8, [NOISE, None]), TypeError),
    ],
)
def test_what_is_no_key_no_piece_and_no_path_is_refused(arguments: tuple[object, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        _blake3.digests(*arguments)


def test_many_threads_hash_at_once() -> None:
    pieces = pieces_of([5_000, 100_000, 1, 70_000])
    expected = digests_in_python(KEY, pieces)
    found: list[list[bytes]] = []

    threads = [threading.Thread(target=lambda: found.extend(digests(KEY, pieces) for _ in range(50))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [expected] * 200


@pytest.mark.parametrize(
    ("kernel", "serves"),
    [
        ("None", "digests_in_python"),
        ("types.SimpleNamespace(PATHS=(), digests=None)", "digests_in_python"),
        (
            "types.SimpleNamespace(PATHS=('x',), digests=lambda key, pieces: [bytes(32)] * len(pieces))",
            "digests_in_python",
        ),
    ],
    ids=["not compiled", "no vectors", "wrong"],
)
def test_the_library_serves_where_the_kernel_is_missing_or_wrong(kernel: str, serves: str) -> None:
    program = (
        f"import sys, types; import dedupstore.codec; sys.modules['dedupstore.codec._blake3'] = {kernel}\n"
        f"if {kernel}: dedupstore.codec._blake3 = sys.modules['dedupstore.codec._blake3']\n"
        "from dedupstore.codec import hashing; print(hashing.digests.__name__)"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert said.strip() == serves
