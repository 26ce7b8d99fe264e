"""AES-256-GCM, HKDF, Argon2id and the sealed-object envelope, whose bytes `claims.py` lays out.

key[32] | nonce[12] | commitment[32] = derive(root, "object", repository, bytes 0..55 | logical name); AAD = bytes 0..55.
The key is fresh for every object (the salt), so the derived nonce never meets a second message. The commitment makes
the ciphertext open under one key only, which AES-GCM alone does not promise.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from dedupstore.codec.claims import (
    COMMITMENT_LENGTH,
    HEADER,
    MAGIC,
    SALT_LENGTH,
    SUITE,
    TAG_LENGTH,
    ObjectType,
    parse_claims,
)
from dedupstore.errors import CorruptObject
from dedupstore.types import Data

KEY_LENGTH = 32
NONCE_LENGTH = 12
OVERHEAD = NONCE_LENGTH + TAG_LENGTH
REPOSITORY_LENGTH = 16

_PREFIX = b"dedupstore/v1/"

RandomSource = Callable[[int], bytes]
"""Gives that many unpredictable bytes. Everything but golden vectors uses `random_bytes`."""


def random_bytes(count: int) -> bytes:
    """Unpredictable bytes from the operating system: no state of ours that a fork or a cloned VM could repeat."""
    return os.urandom(count)


def derive(root: bytes, label: str, repository: bytes, context: bytes = b"", length: int = KEY_LENGTH) -> bytes:
    """Key bytes for one purpose: HKDF-Expand-SHA256 of a uniform 32-byte `root`.

    info = "dedupstore/v1/" | len(label) u8 | label | repository[16] | len(context) u32 | context. Every field is
    fixed or length-prefixed, so two purposes can never meet in the same bytes.
    """
    if len(root) != KEY_LENGTH or len(repository) != REPOSITORY_LENGTH:
        raise ValueError("derive needs a root of 32 bytes and a repository id of 16")
    name = label.encode("ascii")
    info = b"".join((_PREFIX, bytes((len(name),)), name, repository, struct.pack(">I", len(context)), context))
    return HKDFExpand(SHA256(), length, info).derive(root)


def extract(secret: bytes, *, salt: bytes) -> bytes:
    """A uniform 32-byte root from a secret that is strong but not uniform (HKDF-Extract-SHA256)."""
    return HKDF.extract(SHA256(), salt, secret)


def argon2id(passphrase: bytes, *, salt: bytes, m_kib: int, t: int, p: int, length: int) -> bytes:
    """Stretch a passphrase. The caller has checked the cost: this allocates `m_kib` KiB at once."""
    return Argon2id(salt=salt, length=length, iterations=t, lanes=p, memory_cost=m_kib).derive(passphrase)


def equal(left: bytes, right: bytes) -> bool:
    """Compare without telling by time where the first difference is."""
    return hmac.compare_digest(left, right)


class Cipher:
    """AES-256-GCM under one key with random nonces: nonce[12] | ciphertext | tag[16].

    Only for keys that see far fewer than 2**32 messages (one per pack: at most 65 536). Safe to share between
    threads; large calls release the GIL.
    """

    __slots__ = ("_aead", "_random")

    def __init__(self, key: bytes, *, random: RandomSource = random_bytes) -> None:
        if len(key) != KEY_LENGTH:
            raise ValueError(f"an AES-256 key has {KEY_LENGTH} bytes, not {len(key)}")
        self._aead = AESGCM(key)
        self._random = random

    def encrypt(self, data: Data, aad: bytes) -> bytes:
        nonce = self._random(NONCE_LENGTH)
        # Encrypting in place and copying once is up to 7 times faster than `nonce + encrypt(...)`, which holds two
        # large fresh objects at a time and so pays for new pages from the kernel on every block.
        sealed = bytearray(len(data) + OVERHEAD)
        sealed[:NONCE_LENGTH] = nonce
        self._aead.encrypt_into(nonce, data, aad, memoryview(sealed)[NONCE_LENGTH:])
        return bytes(sealed)

    def decrypt(self, sealed: Data, aad: bytes) -> bytes:
        """The plaintext, nothing of it when a single bit differs (CorruptObject)."""
        if len(sealed) < OVERHEAD:
            raise CorruptObject("sealed bytes are cut short", why=f"{len(sealed)} bytes, {OVERHEAD} at least")
        view = memoryview(sealed)
        try:
            return self._aead.decrypt(view[:NONCE_LENGTH], view[NONCE_LENGTH:], aad)
        except InvalidTag as exc:
            raise CorruptObject("authentication failed", why="the stored bytes are not what was written") from exc


def seal_once(material: bytes, data: Data, aad: bytes) -> bytes:
    """commitment | ciphertext | tag under `material` = key[32] | nonce[12] | commitment[32], used for one message."""
    key, nonce, commitment = _split_material(material)
    return commitment + AESGCM(key).encrypt(nonce, data, aad)


def open_once(material: bytes, sealed: Data, aad: bytes) -> bytes:
    """What `seal_once` was given; the commitment is compared before anything is decrypted. Raises CorruptObject."""
    key, nonce, commitment = _split_material(material)
    view = memoryview(sealed)
    if not equal(bytes(view[:COMMITMENT_LENGTH]), commitment):
        raise CorruptObject("authentication failed", why="wrong key, or the stored bytes are not what was written")
    try:
        return AESGCM(key).decrypt(nonce, view[COMMITMENT_LENGTH:], aad)
    except InvalidTag as exc:
        raise CorruptObject("authentication failed", why="the stored bytes are not what was written") from exc


MATERIAL_LENGTH = KEY_LENGTH + NONCE_LENGTH + COMMITMENT_LENGTH


def _split_material(material: bytes) -> tuple[bytes, bytes, bytes]:
    nonce_end = KEY_LENGTH + NONCE_LENGTH
    return material[:KEY_LENGTH], material[KEY_LENGTH:nonce_end], material[nonce_end:]


def seal_object(
    root: bytes,
    *,
    type: ObjectType,
    repository: bytes,
    epoch: int,
    name: str,
    payload: bytes,
    random: RandomSource = random_bytes,
) -> bytes:
    """The bytes to store for `payload`; they open only as this type, under this logical name."""
    header = HEADER.pack(MAGIC, type, SUITE, 0, repository, epoch, random(SALT_LENGTH))
    return header + seal_once(_object_material(root, repository, header, name), payload, header)


def open_object(root: bytes, *, type: ObjectType, repository: bytes, epoch: int, name: str, sealed: bytes) -> bytes:
    """The payload of a sealed object of exactly this type, repository, epoch and logical name, or CorruptObject."""
    found_type, found_repository, found_epoch = parse_claims(sealed, name)
    if found_type != type:
        raise CorruptObject(f"{name} is an object of another type", why=f"type {found_type}, wanted {type.name}")
    if found_repository != repository:
        raise CorruptObject(f"{name} belongs to another repository", why=f"it is of {found_repository.hex()}")
    if found_epoch != epoch:
        raise CorruptObject(f"{name} is of another epoch", why=f"epoch {found_epoch}, wanted {epoch}")
    header = bytes(sealed[: HEADER.size])
    material = _object_material(root, repository, header, name)
    try:
        return open_once(material, memoryview(sealed)[HEADER.size :], header)
    except CorruptObject as exc:
        raise CorruptObject(f"{name} fails authentication", why=exc.why) from exc


def _object_material(root: bytes, repository: bytes, header: bytes, name: str) -> bytes:
    return derive(root, "object", repository, header + name.encode("utf-8"), MATERIAL_LENGTH)
