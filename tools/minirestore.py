#!/usr/bin/env python3
"""minirestore: restores a dedupstore repository (format 1) without dedupstore.

This one file is your insurance: keep a copy beside your recovery key. It was written from docs/format.md alone and
shares no code with the product. It needs Python 3.11 or newer and four packages:

    pip install blake3 zstandard cryptography msgpack

    python minirestore.py REPOSITORY list
    python minirestore.py REPOSITORY restore SNAPSHOT TARGET      SNAPSHOT: an id, its beginning, or `latest`

REPOSITORY is a local directory (copy a bucket to disk first). It only reads the repository, needs no index and no
cache, verifies every byte by tag, chunk id and file hash before it is written, and goes on past what is damaged: exit
code 0 = everything restored, 1 = nothing or not everything (what is missing is named), 2 = usage.

It asks for the passphrase; or give --passphrase-file, --key-file or --recovery-key-file (`-` reads stdin).
"""

from __future__ import annotations

import argparse
import getpass
import hashlib
import hmac
import os
import re
import struct
import sys
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

ID_LETTERS = "0123456789abcdefghjkmnpqrstuvwxy"
RECOVERY_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CONFIG, ROOT, COMMIT = 1, 3, 4  # types of sealed objects
DATA, MANIFEST = 1, 2  # kinds of chunks
CACHE_BYTES = 128 << 20
MAX_PATH_DEPTH = 2000


class Bad(Exception):
    """Something is not what it must be; the text says what."""


# What reading a manifest of unexpected types may raise; one bad entry must not end a restore.
MALFORMED = (Bad, OSError, ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)


def need(condition: object, message: str) -> None:
    if not condition:
        raise Bad(message)


# ---------------------------------------------------------------- primitives (format.md, sections 1, 2, 5)


def id_text(identifier: bytes) -> str:
    number = int.from_bytes(identifier, "big") << 2
    return "".join(ID_LETTERS[number >> shift & 31] for shift in range(125, -1, -5))


def derive(root: bytes, label: bytes, repository: bytes, context: bytes, length: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869)."""
    info = b"dedupstore/v1/" + bytes([len(label)]) + label + repository + len(context).to_bytes(4, "big") + context
    block = result = b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(root, block + info + bytes([counter]), "sha256")
        result += block
    return result[:length]


def decrypt(key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Bad("fails authentication: it is damaged or was altered") from None


def open_once(material: bytes, sealed: bytes, aad: bytes) -> bytes:
    """commitment | ciphertext | tag, under key[32] | nonce[12] | commitment[32]."""
    need(hmac.compare_digest(sealed[:32], material[44:]), "wrong key, or it was altered")
    return decrypt(material[:32], material[32:44], sealed[32:], aad)


def unpack(data: bytes) -> Any:
    """Canonical msgpack: what does not encode to the same bytes again is refused."""
    containers = 0

    def count(value: Any) -> Any:
        nonlocal containers
        containers += 1
        need(containers <= 1 << 18, "an encoded object has too many parts")
        if isinstance(value, dict):
            need(list(value) == sorted(value), "map keys are not sorted")
        return value

    need(len(data) <= 16 << 20, "an encoded object is too large")
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, object_hook=count, list_hook=count)
        again = msgpack.packb(value, use_bin_type=True)
    except (ValueError, TypeError, RecursionError, OverflowError, MemoryError, msgpack.UnpackException) as error:
        raise Bad(f"an encoded object is malformed: {error}") from None
    need(again == data, "an encoded object is not canonical")
    return value


def field(row: Any, name: str, kind: type, size: int | None = None) -> Any:
    value: Any = row.get(name) if isinstance(row, dict) else None
    need(type(value) is kind, f"field {name!r} is missing or malformed")
    need(size is None or len(value) == size, f"field {name!r} has a wrong length")
    return value


# ---------------------------------------------------------------- keys (section 3)


def read_recovery_key(text: str) -> bytes:
    letters = re.sub(r"[\s-]+", "", text).upper().translate(str.maketrans("ILO", "110"))
    need(len(letters) == 56, f"a recovery key has 56 characters, not {len(letters)}")
    number = 0
    for letter in letters:
        need(letter in RECOVERY_LETTERS, f"{letter!r} does not occur in a recovery key")
        number = number << 5 | RECOVERY_LETTERS.index(letter)
    data = number.to_bytes(35, "big")
    check = blake3(b"dedupstore/v1/recovery-key-check" + data[:32]).digest()[:3]
    need(data[32:] == check, "the recovery key's checksum does not match: a character is wrong")
    return data[:32]


def open_slot(slot: bytes, kind: int, secret: bytes, repository: bytes) -> tuple[int, bytes, bytes]:
    """Epoch, master secret and domain secret of one slot."""
    need(len(slot) == 290 and slot[:8] == b"DDKEY1\0\n", "not a key slot of format 1")
    header = slot[:94]
    slot_kind, flags, of, _, _, memory, iterations, lanes, salt = struct.unpack(">BB16s16sQIII32s", header[8:])
    need(of == repository, "a key slot of another repository")
    need(slot_kind == kind, "a key slot of another kind")
    if kind == 1:
        cost = (memory, iterations, lanes)
        # Storage must not choose what we pay. A cheaper cost opens nothing: the header is part of the derivation.
        normal = 1 << 16 <= memory <= 1 << 21 and 1 <= iterations <= 16 and 1 <= lanes <= 16
        need(normal or (flags == 1 and cost == (64, 1, 1)), f"a key slot with the impossible cost {cost}")
        kek = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory).derive(secret)
    else:
        kek = hmac.digest(salt, secret, hashlib.sha256)
    plain = open_once(derive(kek, b"slot", repository, header, 76), slot[94:210], header)
    return struct.unpack(">I32s32s", plain)


# ---------------------------------------------------------------- repository (sections 4 to 7)


class Pack(NamedTuple):
    path: Path
    kind: int
    salt: bytes
    key: bytes
    blocks: list[tuple[int, int, int, int, int, int, int, int]]  # offset stored raw codec chunks bases chunk0 base0
    chunks: bytes  # 35 bytes each
    bases: bytes  # 32 bytes each


class Repository:
    """An opened repository: where every chunk is, by reading all pack trailers once."""

    def __init__(self, path: Path, kind: int, secret: bytes) -> None:
        self.path = path
        self.problems: list[str] = []
        try:
            text = (path / "FORMAT").read_bytes()
        except OSError as error:
            raise Bad(f"no repository at {path}: {error.strerror} (FORMAT)") from None
        match = re.fullmatch(rb"dedupstore (\d+)\n([0-9a-f]{32})\n", text)
        need(match, "FORMAT is damaged, or this is not a repository")
        assert match is not None
        need(match[1] == b"1", f"this repository has format {match[1].decode()}: a newer program is needed")
        self.id = bytes.fromhex(match[2].decode())
        epoch, master, self.domain = self._open_any_slot(kind, secret)
        self.masters = {epoch: master}
        self._read_config()
        self.id_keys = {
            DATA: derive(self.domain, b"id-data", self.id, b"", 32),
            MANIFEST: derive(self.domain, b"id-manifest", self.id, b"", 32),
        }
        self.packs: list[Pack] = []
        self.where: dict[bytes, list[tuple[int, int]]] = {}
        self.cache: OrderedDict[tuple[int, int], dict[bytes, bytes]] = OrderedDict()
        self.cached = 0

    def names(self, folder: str) -> list[str]:
        """Object names of a folder without the sentinels, whose absence means an incomplete copy."""
        try:
            found = sorted(os.listdir(self.path / folder))
        except OSError as error:
            raise Bad(f"cannot list {folder}/: {error.strerror}") from None
        if "-begin" not in found or "zz-end" not in found:
            self.problems.append(f"{folder}/ has lost a sentinel: is this copy of the repository complete?")
        return [name for name in found if name not in ("-begin", "zz-end")]

    def _open_any_slot(self, kind: int, secret: bytes) -> tuple[int, bytes, bytes]:
        opened, reasons = [], []
        for name in self.names("keys"):
            try:
                opened.append(open_slot((self.path / "keys" / name).read_bytes(), kind, secret, self.id))
            except (Bad, OSError) as error:
                reasons.append(f"  {name}: {error}")
        need(opened, "no key slot opens:\n" + "\n".join(reasons or ["  keys/ is empty"]))
        # After a key rotation, or one that was stopped, the same passphrase may open slots of several epochs.
        newest = self._config_epoch()
        return max(opened, key=lambda slot: (slot[0] == newest, slot[0]))

    def _config_epoch(self) -> int:
        """Which epoch the newest config says it is of; 0 if that cannot be seen."""
        try:
            newest = max((self.path / "config").glob("[0-9]*-*"))
            return int.from_bytes(newest.read_bytes()[28:32], "big")
        except (OSError, ValueError):
            return 0

    def open_object(self, sealed: bytes, kind: int, name: str) -> bytes:
        header = sealed[:56]
        need(len(sealed) >= 104 and header[:8] == b"DDOBJ1\0\n", "not a sealed object of format 1")
        found, suite, flags, repository, epoch = struct.unpack(">BBH16sI", header[8:32])
        need((found, suite, flags, repository) == (kind, 1, 0, self.id), "of another type, suite or repository")
        material = derive(self._master(epoch), b"object", self.id, header + name.encode(), 76)
        return open_once(material, sealed[56:], header)

    def _master(self, epoch: int) -> bytes:
        need(epoch in self.masters, f"no key for epoch {epoch}: use a key made after the last key rotation")
        return self.masters[epoch]

    def _read_config(self) -> None:
        """Adds the keys of earlier epochs. Without a readable config only what the slot's own epoch wrote is read."""
        try:
            names = self.names("config")
            need(names, "config/ is empty")
            name = names[-1]
            need(re.fullmatch(r"\d{8}-[0-9a-f]{64}", name), f"foreign object config/{name}")
            need(len(names) < 2 or names[-2][:8] != name[:8], f"two configs have the number {name[:8]}")
            sealed = (self.path / "config" / name).read_bytes()
            need(blake3(sealed).hexdigest() == name[9:], f"config/{name} does not have the hash in its name")
            config = unpack(self.open_object(sealed, CONFIG, f"config-{name[:8]}"))
        except (Bad, OSError) as error:
            self.problems.append(f"the config cannot be read ({error}); going on without the keys of earlier epochs")
            return
        features = field(field(config, "features", dict), "read", list)
        need(config.get("format") == 1 and not features, f"a newer program is needed, for: {features or 'its format'}")
        for epoch, master in field(config, "masters", list):
            self.masters.setdefault(epoch, master)

    def read_directories(self) -> None:
        """Learn where every chunk is. A pack that cannot be read costs only what it holds."""
        self.names("packs")
        for path in sorted(self.path.glob("packs/*/*")):
            try:
                pack = self._read_pack(path)
            except (Bad, OSError) as error:
                self.problems.append(f"pack {path.name}: {error}")
                continue
            for number, block in enumerate(pack.blocks):
                for at in range(block[6], block[6] + block[4]):
                    place = (len(self.packs), number)
                    self.where.setdefault(pack.chunks[at * 35 : at * 35 + 32], []).append(place)
            self.packs.append(pack)

    def _read_pack(self, path: Path) -> Pack:
        match = re.fullmatch(r"([0-9a-f]{64})\.([dm])([1-9a-f][0-9a-f]{0,3})", path.name)
        need(match, "not the name of a pack")
        assert match is not None
        kind, trailer_bytes = " dm".index(match[2]), int(match[3], 16) * 4096
        with open(path, "rb") as file:
            head = file.read(64)
            body_end = file.seek(0, os.SEEK_END) - trailer_bytes
            need(len(head) == 64 and body_end >= 64, "cut short")
            file.seek(body_end)
            trailer = file.read()
        magic, version, found, suite, epoch, wrap, zeros, of, salt = struct.unpack(">8sHBBIB7s16s24s", head)
        need(magic == b"DDPACK1\n", "not a pack of format 1")
        need((version, suite, wrap, zeros) == (1, 1, 0, bytes(7)), "of a newer format, or damaged")
        need(found == kind and of == self.id, "its header contradicts its name or repository")
        key = derive(self._master(epoch), b"pack", self.id, salt + bytes([kind]), 32)
        plain = decrypt(key, trailer[:12], trailer[12:], b"trailer" + head)
        length = int.from_bytes(plain[:4], "big")
        need(4 + length <= len(plain) and not plain[4 + length :].strip(b"\0"), "its trailer is malformed")
        return Pack(path, kind, salt, key, *parse_directory(plain[4 : 4 + length], body_end))

    # Chunks

    def chunk(self, kind: int, identifier: bytes, *, full: bool = False) -> bytes:
        """The verified bytes of a chunk, from any copy that is whole; `full`: not from a delta block."""
        reason = "is in no pack"
        for pack_number, block_number in self.where.get(identifier, ()):
            pack = self.packs[pack_number]
            if pack.kind != kind or (full and pack.blocks[block_number][3] > 1):
                continue
            try:
                return self._block(pack_number, block_number)[identifier]
            except (Bad, OSError) as error:
                reason = f"cannot be read ({error})"
        raise Bad(f"chunk {identifier.hex()[:16]} {reason}")

    def _block(self, pack_number: int, block_number: int) -> dict[bytes, bytes]:
        place = (pack_number, block_number)
        if place in self.cache:
            self.cache.move_to_end(place)
            return self.cache[place]
        chunks, size = self._decode(self.packs[pack_number], block_number)
        self.cache[place] = chunks
        self.cached += size
        while self.cached > CACHE_BYTES and len(self.cache) > 1:
            self.cached -= sum(map(len, self.cache.popitem(last=False)[1].values()))
        return chunks

    def _decode(self, pack: Pack, number: int) -> tuple[dict[bytes, bytes], int]:
        offset, stored, raw_length, codec, count, base_count, chunk0, base0 = pack.blocks[number]
        with open(pack.path, "rb") as file:
            file.seek(offset)
            sealed = file.read(stored)
        need(len(sealed) == stored, "cut short")
        place = struct.pack(">BIBIH", pack.kind, number, codec, raw_length, count)
        payload = decrypt(pack.key, sealed[:12], sealed[12:], self.id + pack.salt + place)
        if codec == 0:
            raw = payload
        else:
            ids = [pack.bases[at * 32 : at * 32 + 32] for at in range(base0, base0 + base_count)]
            bases = b"".join([self.chunk(pack.kind, base, full=True) for base in ids])
            raw = carry_out(payload, raw_length, bases) if codec == 3 else unzstd(payload, raw_length, bases)
        need(len(raw) == raw_length, "a block has another length")
        chunks, start = {}, 0
        for at in range(chunk0, chunk0 + count):
            record = pack.chunks[at * 35 : at * 35 + 35]
            end = start + int.from_bytes(record[32:], "big")
            piece = raw[start:end]
            need(blake3(piece, key=self.id_keys[pack.kind]).digest() == record[:32], "a chunk does not match its id")
            chunks[record[:32]] = piece
            start = end
        return chunks, sum(map(len, chunks.values()))

    # Snapshots

    def snapshots(self) -> list[dict[str, Any]]:
        found = []
        for name in self.names("commits"):
            try:
                commit = unpack(
                    self.open_object((self.path / "commits" / name).read_bytes(), COMMIT, f"commits/{name}")
                )
                plain = self.open_object((self.path / "roots" / name).read_bytes(), ROOT, f"roots/{name}")
                record = unpack(plain)
                need(commit.get("v") == 1 == record.get("v"), "of a newer version")
                need(blake3(plain).digest() == field(commit, "hash", bytes, 32), "not the record that was committed")
                need(id_text(field(record, "id", bytes, 16)) == name, "the record of another snapshot")
                need(not field(record, "features", list), f"needs a newer program, for: {record['features']}")
                field(record, "root", bytes, 32), field(record, "start", int)
                found.append(record)
            except (Bad, OSError) as error:
                self.problems.append(f"snapshot {name}: {error}")
        return sorted(found, key=lambda record: (record["start"], record["id"]))


def parse_directory(data: bytes, body_end: int) -> tuple[list[Any], bytes, bytes]:
    """The block rows (with the numbers of their first chunk and base), the chunk records, the base records."""
    need(len(data) >= 12, "its directory is cut short")
    block_count, chunk_count, base_count = struct.unpack(">III", data[:12])
    chunks_at = 12 + block_count * 16
    bases_at = chunks_at + chunk_count * 35
    need(block_count <= 65535 and bases_at + base_count * 32 == len(data), "its directory has a wrong length")
    chunks, bases = data[chunks_at:bases_at], data[bases_at:]
    lengths = [int.from_bytes(chunks[at + 32 : at + 35], "big") for at in range(0, len(chunks), 35)]
    rows, position, chunk, base = [], 64, 0, 0
    for offset, stored, raw, codec, of_chunks, of_bases in struct.iter_unpack(">IIIBHB", data[12:chunks_at]):
        mine = lengths[chunk : chunk + of_chunks]
        need(position <= offset and offset + stored <= body_end, "its blocks overlap or leave the pack")
        need(codec < 4 and (codec > 1) == bool(of_bases) and of_bases <= 32, "a block has impossible bases")
        need(mine and min(mine) > 0 and len(mine) == of_chunks, "a block has impossible chunks")
        need(sum(mine) == raw <= 32 << 20 and stored > 28, "a block has impossible lengths")
        need(codec or stored == raw + 28, "a block has impossible lengths")
        rows.append((offset, stored, raw, codec, of_chunks, of_bases, chunk, base))
        position, chunk, base = offset + stored, chunk + of_chunks, base + of_bases
    need((chunk, base) == (chunk_count, base_count), "its directory's counts contradict one another")
    return rows, chunks, bases


def unzstd(frame: bytes, raw_length: int, bases: bytes) -> bytes:
    need(frame[:4] == zstandard.FRAME_HEADER, "a block is not a zstd frame")
    try:
        header = zstandard.get_frame_parameters(frame)
        # Before decompressing: python-zstandard allocates what the frame asks for.
        need(header.content_size == raw_length and header.window_size <= 32 << 20, "a zstd frame of another size")
        need(header.dict_id == 0, "a zstd frame with a foreign dictionary")
        words = zstandard.ZstdCompressionDict(bases, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if bases else None
        return zstandard.ZstdDecompressor(dict_data=words).decompress(frame, raw_length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Bad(f"a block does not decompress: {error}") from None


def carry_out(frame: bytes, raw_length: int, bases: bytes) -> bytes:
    """A block of codec 3: literals and copies from the bases, in turns."""
    try:
        size = zstandard.frame_content_size(frame)
    except zstandard.ZstdError as error:
        raise Bad(f"a block does not decompress: {error}") from None
    need(4 <= size <= raw_length, "a script of another size")
    script = unzstd(frame, size, b"")
    literal, at = 4, 4 + int.from_bytes(script[:4], "big")
    end, next_, length = at, 0, 0
    made = bytearray()
    while at < len(script):
        numbers = []
        for _ in range(3):
            value = shift = 0
            while True:
                need(at < len(script) and shift < 35, "a script that is cut short")
                byte, at = script[at], at + 1
                value, shift = value | (byte & 127) << shift, shift + 7
                if byte < 128:
                    break
            numbers.append(value)
        count, copied, jump = numbers
        next_ += count + (jump >> 1 ^ -(jump & 1))
        length += count + copied
        need(literal + count <= end and copied and length <= raw_length, "a script that makes too much")
        need(0 <= next_ <= len(bases) - copied, "a script that leaves the bases")
        made += script[literal : literal + count]
        made += bases[next_ : next_ + copied]
        literal, next_ = literal + count, next_ + copied
    need(literal <= end <= len(script), "a script that is cut short")
    made += script[literal:end]
    return bytes(made)


# ---------------------------------------------------------------- manifests (section 8)


def manifest(repository: Repository, identifier: bytes) -> dict[str, Any]:
    value: dict[str, Any] = unpack(repository.chunk(MANIFEST, identifier))
    need(isinstance(value, dict) and type(value.get("v")) is int and value["v"] == 1, "a manifest of unknown form")
    need(tuple(value) in (("e", "t", "v"), ("p", "v"), ("c", "v")), "a manifest of unknown form")
    return value


def read_directory(repository: Repository, tree: bytes, level: int = 0) -> Iterator[dict[str, Any]]:
    """The entries of a directory, pages unfolded, in order."""
    need(level <= 8, "a directory is paged too deeply")
    value, last = manifest(repository, tree), b""
    if "e" in value:
        base = field(value, "t", int)
        need(-(1 << 63) <= base < 1 << 63, "an impossible base time")
        for entry in field(value, "e", list):
            name = field(entry, "n", bytes)
            # What follows `last < name` can be neither repeated nor empty.
            need(last < name, "directory entries are not in order")
            need(b"/" not in name and b"\0" not in name and name not in (b".", b".."), f"forbidden name {name!r}")
            for key, kind in (("k", str), ("m", int), ("mt", int), ("u", int), ("g", int)):
                field(entry, key, kind)
            mtime = entry["mt"] + base
            need(-(1 << 63) <= mtime < 1 << 63, "an impossible time")
            last = name
            yield {**entry, "mt": mtime}
        return
    for first, page in field(value, "p", list):
        for number, entry in enumerate(read_directory(repository, page, level + 1)):
            need(last < entry["n"] and (number or entry["n"] == first), "directory pages are not in order")
            last = entry["n"]
            yield entry


def references(repository: Repository, entry: dict[str, Any], data_size: int) -> Iterator[tuple[bytes, int]]:
    """Chunk ids and lengths of a file's content."""
    content = entry.get("c", b"")
    if "p" in entry:
        depth, page = entry["p"]
        need(not content and type(depth) is int and 1 <= depth <= 8, "a malformed content list")
        yield from content_page(repository, page, depth, data_size)
    elif len(content) == 32:
        yield content, data_size
    else:
        yield from split_references(content, data_size)


def content_page(repository: Repository, page: bytes, depth: int, size: int) -> Iterator[tuple[bytes, int]]:
    value = manifest(repository, page)
    if depth == 1:
        yield from split_references(field(value, "c", bytes), size)
        return
    rows = field(value, "p", list)
    need(sum(below for _, below in rows) == size, "content pages do not add up")
    for identifier, below in rows:
        yield from content_page(repository, identifier, depth - 1, below)


def split_references(content: bytes, size: int) -> Iterator[tuple[bytes, int]]:
    need(len(content) % 35 == 0, "a content list of a wrong length")
    rows = [
        (content[at : at + 32], int.from_bytes(content[at + 32 : at + 35], "big")) for at in range(0, len(content), 35)
    ]
    need(sum(length for _, length in rows) == size, "a content list does not add up to the file's size")
    yield from rows


def extents(entry: dict[str, Any]) -> list[tuple[int, int]]:
    """Start and end of every stretch of the file that is stored; the holes between them read as zeros."""
    size, holes = entry.get("s", 0), entry.get("ho", [])
    need(type(size) is int and 0 <= size < 1 << 63 and len(holes) % 2 == 0, "malformed size or holes")
    found, position = [], 0
    for start, length in zip(holes[::2], holes[1::2], strict=True):
        need(type(start) is type(length) is int, "malformed holes")
        need(position <= start and length > 0 and start + length <= size, "holes that do not fit their file")
        found.append((position, start))
        position = start + length
    return [(start, end) for start, end in [*found, (position, size)] if end > start]


# ---------------------------------------------------------------- restoring


def shown(path: bytes) -> str:
    """Safe to print: no control characters, no escapes."""
    return ascii(os.fsdecode(path))[1:-1] if not os.fsdecode(path).isprintable() else os.fsdecode(path)


class Restore:
    """Writes one snapshot into a new directory. Everything is created relative to a directory descriptor and must not
    exist yet; links are never followed. So no name and no link in a snapshot leads out of the target.
    """

    def __init__(self, repository: Repository, target: Path, *, owners: bool) -> None:
        self.repository = repository
        self.owners = owners
        self.failures: list[str] = []
        self.notes: list[str] = []
        self.files = self.bytes = 0
        self.links: dict[int, tuple[dict[str, Any], list[bytes]]] = {}
        try:
            target.mkdir(parents=True, exist_ok=True)
            need(not any(target.iterdir()), f"{target} is not empty: name a new directory")
            self.top = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise Bad(f"cannot restore into {target}: {error.strerror}") from None

    def directory(self, tree: bytes, fd: int, path: list[bytes]) -> None:
        """One directory, and below it. A damaged entry is reported and the others go on."""
        need(len(path) < MAX_PATH_DEPTH, "directories are nested too deeply")
        try:
            for entry in read_directory(self.repository, tree):
                where = [*path, entry["n"]]
                try:
                    self.entry(entry, fd, where)
                except MALFORMED as error:
                    self.failures.append(f"{shown(b'/'.join(where))}: {error}")
        except MALFORMED as error:
            self.failures.append(f"{shown(b'/'.join(path)) or 'the top directory'}: not all entries: {error}")

    def entry(self, entry: dict[str, Any], fd: int, path: list[bytes]) -> None:
        name, kind = entry["n"], entry["k"]
        if kind == "d":
            os.mkdir(name, 0o700, dir_fd=fd)
            own = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            try:
                self.directory(field(entry, "d", bytes, 32), own, path)
                self.metadata(own, entry, path)
            finally:
                os.close(own)
        elif kind == "f":
            if not self.linked(entry, fd, path):
                self.file(entry, fd, path)
        elif kind == "l":
            os.symlink(field(entry, "l", bytes), name, dir_fd=fd)
            if self.owners:
                os.chown(name, entry["u"], entry["g"], dir_fd=fd, follow_symlinks=False)
            os.utime(name, ns=(entry["mt"], entry["mt"]), dir_fd=fd, follow_symlinks=False)
        elif kind == "p":
            os.mkfifo(name, 0o600, dir_fd=fd)
            own = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=fd)
            try:
                self.metadata(own, entry, path)
            finally:
                os.close(own)
        else:
            self.notes.append(f"{shown(b'/'.join(path))}: a socket or device, not made")

    def linked(self, entry: dict[str, Any], fd: int, path: list[bytes]) -> bool:
        """Whether this is another name of a file restored before; then it is linked."""
        group = entry.get("lg", 0)
        first = self.links.get(group)
        # A file that changed while its names were read may differ between them: then each gets its own bytes.
        same = ("c", "p", "s", "h", "ho")
        if not group or first is None or any(first[0].get(key) != entry.get(key) for key in same):
            return False
        os.link(b"/".join(first[1]), entry["n"], src_dir_fd=self.top, dst_dir_fd=fd, follow_symlinks=False)
        return True

    def file(self, entry: dict[str, Any], fd: int, path: list[bytes]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        own = os.open(entry["n"], flags, 0o600, dir_fd=fd)
        try:
            self.content(entry, own)
            self.metadata(own, entry, path)
        except BaseException:
            os.unlink(entry["n"], dir_fd=fd)  # a part of a file must not pass for the file
            raise
        finally:
            os.close(own)
        self.files += 1
        if entry.get("lg"):
            self.links.setdefault(entry["lg"], (entry, path))

    def content(self, entry: dict[str, Any], fd: int) -> None:
        stretches = extents(entry)
        data_size = sum(end - start for start, end in stretches)
        whole, count = blake3(), 0
        waiting = iter(stretches)
        position = end = 0
        for identifier, length in references(self.repository, entry, data_size):
            data = self.repository.chunk(DATA, identifier)
            need(len(data) == length, "a chunk has another length than its file says")
            whole.update(data)
            count += 1
            while data:
                if position == end:
                    position, end = next(waiting)
                written = os.pwrite(fd, data[: end - position], position)
                position, data = position + written, data[written:]
        need(count < 2 or "h" in entry, "a file of many chunks has no hash")
        need(entry.get("h", b"") in (b"", whole.digest()), "the file does not match its hash")
        os.ftruncate(fd, entry.get("s", 0))  # holes at the end
        self.bytes += data_size

    def metadata(self, fd: int, entry: dict[str, Any], path: list[bytes]) -> None:
        """Owner, attributes, mode, times: in this order, since each may undo the one after it."""
        if self.owners:
            os.fchown(fd, entry["u"], entry["g"])
        for name, value in entry.get("x", []):
            if not name.startswith((b"security.", b"trusted.")) or self.owners:
                try:
                    os.setxattr(fd, name, value)
                except OSError as error:
                    self.notes.append(f"{shown(b'/'.join(path))}: attribute {name!r} not set: {error.strerror}")
        # Without the owner, setuid and setgid would mean someone else.
        os.fchmod(fd, entry["m"] & (0o7777 if self.owners else 0o1777))
        os.utime(fd, ns=(entry["mt"], entry["mt"]))


# ---------------------------------------------------------------- command line


def read_secret(arguments: argparse.Namespace) -> tuple[int, bytes]:
    def content(path: str) -> bytes:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()

    if arguments.recovery_key_file:
        return 3, read_recovery_key(content(arguments.recovery_key_file).decode("ascii", "replace"))
    if arguments.key_file:
        return 2, content(arguments.key_file)
    if arguments.passphrase_file:
        text = content(arguments.passphrase_file).decode("utf-8").removesuffix("\n").removesuffix("\r")
    else:
        text = getpass.getpass("passphrase: ")
    return 1, unicodedata.normalize("NFC", text).encode("utf-8")


def choose(snapshots: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    found = [record for record in snapshots if id_text(record["id"]).startswith(wanted.replace("-", ""))]
    if wanted == "latest":
        found = snapshots[-1:]
    need(len(found) == 1, f"{len(found)} snapshots match {wanted!r}: see `list`")
    return found[0]


def describe(record: dict[str, Any]) -> str:
    name, files = id_text(record["id"]), record.get("statistics", {}).get("files", 0)
    time = datetime.fromtimestamp(record["start"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    texts = (ascii(record.get(key, ""))[1:-1] for key in ("host", "source"))
    return f"{name[:4]}-{name[4:6]}  {name}  {time}  {files:>8} files  {'  '.join(texts)}"


def run(arguments: argparse.Namespace) -> int:
    repository = Repository(Path(arguments.repository), *read_secret(arguments))
    snapshots = repository.snapshots()
    failures: list[str] = []
    if arguments.command == "list":
        print("\n".join(describe(record) for record in snapshots) or "no snapshots")
    else:
        record = choose(snapshots, arguments.snapshot)
        repository.read_directories()
        restore = Restore(repository, Path(arguments.target), owners=arguments.owners)
        restore.directory(record["root"], restore.top, [])
        failures = restore.failures
        print(f"restored {restore.files} files, {restore.bytes} bytes, into {arguments.target}")
        for note in restore.notes:
            print(f"note: {note}", file=sys.stderr)
    for problem in repository.problems:
        print(f"warning: {problem}", file=sys.stderr)
    for failure in failures:
        print(f"NOT RESTORED: {failure}", file=sys.stderr)
    return 1 if failures or repository.problems else 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="minirestore", description="Restore a dedupstore repository, format 1.")
    parser.add_argument("repository", metavar="REPOSITORY", help="a local directory")
    secrets = parser.add_mutually_exclusive_group()
    for option in ("--passphrase-file", "--key-file", "--recovery-key-file"):
        secrets.add_argument(option, metavar="FILE", help="`-` reads standard input")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the snapshots, oldest first")
    restore = commands.add_parser("restore", help="restore one snapshot into a new directory")
    restore.add_argument("snapshot", metavar="SNAPSHOT", help="an id, its beginning, or `latest`")
    restore.add_argument("target", metavar="TARGET", help="a directory that is empty or does not exist")
    restore.add_argument("--owners", action="store_true", help="as root: owners, setuid and security attributes too")
    arguments = parser.parse_args(argv)
    sys.setrecursionlimit(8 * MAX_PATH_DEPTH)
    try:
        return run(arguments)
    except (Bad, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
