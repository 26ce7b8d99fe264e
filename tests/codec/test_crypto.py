"""Derivation, the cipher and sealed objects: what opens, and everything that must not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes, hmac

from dedupstore.codec import claims, crypto
from dedupstore.codec.claims import ObjectType, peek_epoch
from dedupstore.codec.crypto import Cipher, derive, open_object, seal_object
from dedupstore.errors import CorruptObject, DedupError, RepositoryTooNew
from tests.support.keys import OTHER_REPOSITORY, REPOSITORY

ROOT = bytes(range(32))
PAYLOAD = b"the payload of a segment"


def seal(type: ObjectType = ObjectType.SEGMENT, name: str = "index") -> bytes:
    return seal_object(ROOT, type=type, repository=REPOSITORY, epoch=1, name=name, payload=PAYLOAD)


def open_as(
    sealed: bytes,
    *,
    root: bytes = ROOT,
    type: ObjectType = ObjectType.SEGMENT,
    repository: bytes = REPOSITORY,
    epoch: int = 1,
    name: str = "index",
) -> bytes:
    return open_object(root, type=type, repository=repository, epoch=epoch, name=name, sealed=sealed)


def test_derive_is_hkdf_expand_of_the_written_info():
    info = b"dedupstore/v1/" + b"\x04pack" + REPOSITORY + b"\0\0\0\3ctx"
    mac = hmac.HMAC(ROOT, hashes.SHA256())
    mac.update(info + b"\1")

    assert derive(ROOT, "pack", REPOSITORY, b"ctx") == mac.finalize()


def test_every_field_of_a_derivation_matters():
    keys = {
        derive(ROOT, "pack", REPOSITORY, b"ctx"),
        derive(bytes(32), "pack", REPOSITORY, b"ctx"),
        derive(ROOT, "pac", REPOSITORY, b"kctx"),
        derive(ROOT, "pack", OTHER_REPOSITORY, b"ctx"),
        derive(ROOT, "pack", REPOSITORY),
    }

    assert len(keys) == 5


def test_a_cipher_opens_views_of_what_it_sealed_and_never_repeats_a_nonce():
    cipher = Cipher(ROOT)
    sealed = [cipher.encrypt(memoryview(PAYLOAD), b"aad") for _ in range(1000)]

    assert {cipher.decrypt(memoryview(b"x" + data)[1:], b"aad") for data in sealed} == {PAYLOAD}
    assert len({data[: crypto.NONCE_LENGTH] for data in sealed}) == 1000


@pytest.mark.parametrize("length", [0, 11, 27, 28])
def test_a_cut_or_foreign_ciphertext_is_corrupt(length):
    with pytest.raises(CorruptObject):
        Cipher(ROOT).decrypt(bytes(length), b"")


def test_a_sealed_object_comes_back():
    assert open_as(seal()) == PAYLOAD
    assert peek_epoch(seal()) == 1
    assert len(seal()) == len(PAYLOAD) + claims.OBJECT_OVERHEAD


def test_any_flipped_byte_of_a_sealed_object_is_refused_by_name():
    sealed = seal()

    for position in range(len(sealed)):
        for bit in (0x01, 0x80):
            damaged = bytearray(sealed)
            damaged[position] ^= bit
            with pytest.raises(DedupError, match="index") as caught:
                open_as(bytes(damaged))
            assert caught.value.exit_code in (4, 13)


def test_a_sealed_object_of_any_other_length_is_refused():
    sealed = seal()

    for length in range(len(sealed)):
        with pytest.raises(CorruptObject):
            open_as(sealed[:length])
    with pytest.raises(CorruptObject):
        open_as(sealed + b"\0")


@pytest.mark.parametrize("name", ["indey", "", "index/"])
def test_an_object_does_not_open_under_another_name(name):
    with pytest.raises(CorruptObject, match="fails authentication"):
        open_as(seal(), name=name)


def test_an_object_does_not_open_as_another_type_epoch_or_repository():
    for reader, message in (
        ({"type": ObjectType.ROOT}, "another type"),
        ({"epoch": 2}, "another epoch"),
        ({"repository": OTHER_REPOSITORY}, "another repository"),
    ):
        with pytest.raises(CorruptObject, match=message):
            open_as(seal(), **reader)


def test_relabelling_the_header_does_not_help():
    sealed = bytearray(seal())
    sealed[8] = ObjectType.ROOT

    with pytest.raises(CorruptObject, match="fails authentication"):
        open_as(bytes(sealed), type=ObjectType.ROOT)


def test_another_key_is_noticed_by_the_commitment():
    with pytest.raises(CorruptObject, match="fails authentication"):
        open_as(seal(), root=bytes(32))


@pytest.mark.parametrize(("position", "value"), [(5, ord("2")), (9, 2), (10, 1), (11, 1)])
def test_an_unknown_version_suite_or_flag_says_newer(position, value):
    sealed = bytearray(seal())
    sealed[position] = value

    with pytest.raises(RepositoryTooNew, match="newer format"):
        open_as(bytes(sealed))


def test_argon2id_agrees_with_the_standard():
    # RFC 9106 has no vector without secret and associated data; this one is of the reference implementation's test.c.
    hashed = crypto.argon2id(b"password", salt=b"somesalt", m_kib=256, t=2, p=1, length=32)

    assert hashed.hex() == "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"
