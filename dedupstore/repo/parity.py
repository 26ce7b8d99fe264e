"""Parity of a pack: enough to mend it where it was damaged in one place, or in several that do not fall together.

```
parity/<hh>/<pack id>    "DDPAR1\\0\\n" | version u16 = 1 | data stripes u16 = 31 | sector u32 = 4096 | pack size u64 | pack id[32]
                         | parity stripe[K * 4096] | CRC-32 of each sector of the pack u32 ... | BLAKE3 of all before [32]
```
The pack, filled with zeros, is cut into 31 stripes of K sectors; the parity stripe is the XOR of them. Sectors at the same
place of each stripe form a group with that of the parity stripe: one of a group can be computed from the others. So any
damage can be mended that hits no group twice: every run that touches up to K sectors, a 31st of the pack, wherever it lies.

The checksums only say which sectors are bad; what proves a mended pack is its name. Made from sealed bytes, parity tells
storage nothing. Whole stripes are combined as integers: fast, and nothing to install (docs/decisions/0032-repairs.md).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Sequence

from dedupstore.codec.hashing import digest
from dedupstore.errors import CorruptObject, ObjectNotFound
from dedupstore.repo import layout
from dedupstore.storage.base import ObjectStore
from dedupstore.types import Data, PackId

MAGIC = b"DDPAR1\0\n"
VERSION = 1
STRIPES = 31
SECTOR_BYTES = 4096

_HEAD = struct.Struct(">8sHHIQ32s")
_HASH_BYTES = 32
_KEY = re.compile(r"parity/([0-9a-f]{2})/([0-9a-f]{64})")


def parity_key(pack: PackId) -> str:
    text = pack.hex()
    return f"{layout.PARITY}{text[:2]}/{text}"


def parse_parity_key(key: str) -> PackId:
    """The pack it belongs to. Raises CorruptObject for a name this program does not write."""
    match = _KEY.fullmatch(key)
    if match is None or match[1] != match[2][:2]:
        raise CorruptObject(f"{key!r} is not the name of a parity object")
    return PackId(bytes.fromhex(match[2]))


def keeps_parity(store: ObjectStore) -> bool:
    """Whether packs of this repository get parity: one object says so, for every client."""
    try:
        store.head(layout.PARITY_SWITCH)
    except ObjectNotFound:
        return False
    return True


def listed_parity(store: ObjectStore) -> dict[PackId, int]:
    """The packs that have parity, and the size of it. Strangers are left out; a missing row costs nothing but itself."""
    found: dict[PackId, int] = {}
    for row in store.list(layout.PARITY):
        try:
            found[parse_parity_key(row.key)] = row.size
        except CorruptObject:
            continue
    return found


def make_parity(pack: PackId, parts: Sequence[Data]) -> bytes:
    """The parity object of a pack that is the concatenation of `parts`."""
    data = memoryview(b"".join(parts) if len(parts) != 1 else parts[0])
    size = len(data)
    stripe = _stripe_bytes(size)
    # Little-endian, so that a stripe that is cut short is one with zeros at its end.
    total = 0
    for start in range(0, size, stripe):
        total ^= int.from_bytes(data[start : start + stripe], "little")
    sums = [zlib.crc32(data[at : at + SECTOR_BYTES]) for at in range(0, size, SECTOR_BYTES)]
    head = _HEAD.pack(MAGIC, VERSION, STRIPES, SECTOR_BYTES, size, pack)
    body = b"".join((head, total.to_bytes(stripe, "little"), struct.pack(f">{len(sums)}I", *sums)))
    return body + digest([body])


def prove_parity(pack: PackId, parity: bytes) -> int:
    """The size of the pack. Raises CorruptObject unless the object is what was written for that pack."""
    body = memoryview(parity)[: max(0, len(parity) - _HASH_BYTES)]
    if len(body) < _HEAD.size or digest([body]) != parity[len(body) :]:
        raise CorruptObject(f"{parity_key(pack)} is damaged", why="its bytes are not those that were written")
    magic, version, stripes, sector, size, named = _HEAD.unpack_from(body)
    sectors = -(-size // SECTOR_BYTES)
    if (magic, version, stripes, sector, named) != (MAGIC, VERSION, STRIPES, SECTOR_BYTES, pack) or len(
        body
    ) != _HEAD.size + _stripe_bytes(size) + 4 * sectors:
        raise CorruptObject(f"{parity_key(pack)} is no parity of that pack")
    return int(size)


def mend_pack(pack: PackId, damaged: bytes, parity: bytes) -> bytes:
    """The pack as it was, proven by its name. Raises CorruptObject when the damage is more than parity can mend."""
    size = prove_parity(pack, parity)
    stripe = _stripe_bytes(size)
    per_stripe = stripe // SECTOR_BYTES
    whole = bytearray(damaged[:size].ljust(size, b"\0"))
    sums = struct.unpack_from(f">{-(-size // SECTOR_BYTES)}I", parity, _HEAD.size + stripe)
    view = memoryview(whole)
    bad = [
        sector
        for sector, right in enumerate(sums)
        if zlib.crc32(view[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES]) != right
    ]
    if len({sector % per_stripe for sector in bad}) < len(bad):
        raise CorruptObject(
            f"pack {pack.hex()[:16]} cannot be mended by its parity",
            why=f"{len(bad)} of its {len(sums)} sectors are bad, and several of them depend on one another",
        )
    for sector in bad:
        _mend_sector(view, sector, parity, stripe)
    view.release()
    made = bytes(whole)
    if digest([made]) != pack:
        raise CorruptObject(
            f"pack {pack.hex()[:16]} cannot be mended by its parity", why="the result does not match its name"
        )
    return made


def _mend_sector(view: memoryview, bad: int, parity: bytes, stripe: int) -> None:
    """Compute one sector from all others of its group."""
    offset = bad * SECTOR_BYTES % stripe
    total = int.from_bytes(parity[_HEAD.size + offset : _HEAD.size + offset + SECTOR_BYTES], "little")
    at = bad * SECTOR_BYTES
    for start in range(offset, len(view), stripe):
        if start != at:
            total ^= int.from_bytes(view[start : start + SECTOR_BYTES], "little")
    length = min(SECTOR_BYTES, len(view) - at)
    view[at : at + length] = total.to_bytes(SECTOR_BYTES, "little")[:length]


def _stripe_bytes(size: int) -> int:
    sectors = -(-size // SECTOR_BYTES)
    return max(1, -(-sectors // STRIPES)) * SECTOR_BYTES
