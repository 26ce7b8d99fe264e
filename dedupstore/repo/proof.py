"""What an object's name proves of its bytes, without any key: what a mirror can hold a copy against.

| object | proven |
|---|---|
| packs, config, index | every byte: the name carries the BLAKE3 of the object |
| keys | that it is a slot of this repository and of that name |
| roots, commits, forgotten, marks, gc | that it is a sealed object of this repository and of the type its name says |
| sentinels, FORMAT | every byte: they are fixed |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dedupstore.codec.claims import ObjectType, peek_claims
from dedupstore.codec.hashing import StreamHash, digest
from dedupstore.errors import CorruptObject
from dedupstore.repo import layout
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.slot_header import parse_header
from dedupstore.types import Data, RepositoryId

PROVEN = (layout.PACKS, layout.INDEX, layout.CONFIG)
"""Below these a name proves every byte; of the others, small ones, only the beginning."""

_SEALED = {
    layout.ROOTS: ObjectType.ROOT,
    layout.COMMITS: ObjectType.COMMIT,
    layout.FORGOTTEN: ObjectType.FORGOTTEN,
}
_COLLECTED = {
    "plan": ObjectType.PLAN,
    "done": ObjectType.DONE,
    "bad": ObjectType.BAD,
    "checked": ObjectType.CHECKED,
}


def prove(key: str, data: bytes, repository: RepositoryId) -> None:
    """Raise CorruptObject unless `data` is what `key` says it is, as far as that can be told without a key."""
    prefix = key[: key.find("/") + 1]
    if key == layout.FORMAT_KEY:
        right = data == layout.format_text(repository)
    elif key in layout.SENTINELS:
        right = True
    elif prefix in PROVEN:
        right = digest([data]) == _hash_in(key)
    elif prefix == layout.KEYS:
        header = parse_header(data)
        right = header.slot_id == layout.parse_id_key(key, prefix) and header.repository == repository
    elif prefix in _SEALED:
        layout.parse_id_key(key, prefix)
        right = peek_claims(data, key) == (_SEALED[prefix], repository)
    elif prefix == layout.MARKS:
        layout.parse_mark_key(key)
        right = peek_claims(data, key) == (ObjectType.MARK, repository)
    elif prefix == layout.GC:
        right = peek_claims(data, key) == (_COLLECTED[layout.parse_gc_key(key)[0]], repository)
    else:
        raise CorruptObject(f"{key} is not the name of an object that dedup writes")
    if not right:
        raise _disproved(key)


def proving(key: str, pieces: Iterable[Data]) -> Iterator[Data]:
    """Hand on the pieces of an object below `PROVEN`; after the last one CorruptObject unless its name proves them all."""
    wanted, found = _hash_in(key), StreamHash()
    for piece in pieces:
        found.update(piece)
        yield piece
    if found.digest() != wanted:
        raise _disproved(key)


def _hash_in(key: str) -> bytes:
    if key.startswith(layout.PACKS):
        return PackName.parse(key).id
    return layout.parse_segment_key(key) if key.startswith(layout.INDEX) else layout.parse_config_key(key)[1]


def _disproved(key: str) -> CorruptObject:
    return CorruptObject(f"{key} is damaged", why="its bytes are not those its name says")
