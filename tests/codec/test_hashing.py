"""BLAKE3: against the published vectors, and keyed apart."""

from __future__ import annotations

import pytest

from dedupstore.codec.hashing import Keyed, StreamHash, derive_bytes, digest

# github.com/BLAKE3-team/BLAKE3 test_vectors.json: input 0, 1, …, 250, 0, …; 1 byte and 1024 bytes.
KEY = b"whats the Elvish word for friend"
PLAIN_1024 = "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"
KEYED_1024 = "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4"


def vector_input(length: int) -> bytes:
    return bytes(index % 251 for index in range(length))


def test_the_published_vectors_hold():
    data = vector_input(1024)

    assert digest([data]).hex() == PLAIN_1024
    assert Keyed(KEY).digest(data).hex() == KEYED_1024


def test_pieces_hash_as_their_concatenation():
    data = vector_input(1024)
    stream = StreamHash()

    for start in range(0, len(data), 100):
        stream.update(memoryview(data)[start : start + 100])

    assert stream.digest() == digest([data]) == digest([data[:7], bytearray(data[7:])])


def test_another_key_gives_another_id():
    assert Keyed(b"a" * 32).digest(b"x") != Keyed(b"b" * 32).digest(b"x")


def test_derived_bytes_depend_on_the_context_and_extend():
    short = derive_bytes(KEY, b"gear", 32)

    assert derive_bytes(KEY, b"gear", 4096)[:32] == short
    assert derive_bytes(KEY, b"other", 32) != short


def test_a_key_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        Keyed(b"short")
