"""What the object name of a pack says of it; loads nothing that opens one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dedupstore.errors import CorruptObject
from dedupstore.types import Kind, PackId

UNIT_BYTES = 4096
MAX_UNITS = 1 << 14
"""A trailer of 64 MiB: what a reader is ready to hold for one pack's directory."""

_NAME = re.compile(r"packs/([0-9a-f]{2})/([0-9a-f]{64})\.([dm])([1-9a-f][0-9a-f]{0,3})")
_KINDS = {kind.letter: kind for kind in Kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class PackName:
    """What a pack's object name says: its id, its kind, and the size of its trailer."""

    id: PackId
    kind: Kind
    units: int

    @property
    def key(self) -> str:
        text = self.id.hex()
        return f"packs/{text[:2]}/{text}.{self.kind.letter}{self.units:x}"

    @property
    def trailer_bytes(self) -> int:
        return self.units * UNIT_BYTES

    @classmethod
    def parse(cls, key: str) -> PackName:
        """Raises CorruptObject for a name this program does not write."""
        match = _NAME.fullmatch(key)
        if match is None or match[1] != match[2][:2]:
            raise CorruptObject(f"{key!r} is not the name of a pack")
        units = int(match[4], 16)
        if units > MAX_UNITS:
            raise CorruptObject(f"{key!r} names a trailer of {units * UNIT_BYTES} bytes")
        return cls(id=PackId(bytes.fromhex(match[2])), kind=_KINDS[match[3]], units=units)
