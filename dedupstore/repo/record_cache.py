"""Records of snapshots as storage gave them once, kept on this machine: each is fetched once.

`<cache>/<repository, hex>-records`, one file under the cache key, replaced as a whole: names of objects and their sealed
bytes, with size and time as they were listed. Never the truth: only a listing says that a snapshot exists, what is kept
counts as long as it is listed just as it was, and it is opened and compared as if it had come from storage. What is not
listed any more is forgotten, so that nothing comes back from here. Used by one thread.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.sealed_file import SealedFile
from dedupstore.storage.base import ObjectInfo

_ROW = struct.Struct(">HIqI")
_ANY_TIME = -1
"""Of a record that was put from here: when storage says that was shows in the next listing."""

_MAX_RECORD_BYTES = 1 << 20


class RecordCache:
    """The records of one repository. Losing them costs a request each; no method fails for want of a disk."""

    def __init__(self, folder: Path, keyring: KeyRing) -> None:
        self._file = SealedFile(folder, keyring, "records")
        self._held: dict[str, tuple[int, int, bytes]] | None = None
        self._changed = False

    def get(self, row: ObjectInfo | None) -> bytes | None:
        """The sealed bytes of an object that is listed as `row`; None when they are not here, or were of another one."""
        found = None if row is None else self._rows().get(row.key)
        if found is None or row is None or found[0] != row.size:
            return None
        if found[1] == _ANY_TIME:
            self._rows()[row.key] = (row.size, row.modified_ns, found[2])
            self._changed = True
            return found[2]
        return found[2] if found[1] == row.modified_ns else None

    def keep(self, row: ObjectInfo, sealed: bytes) -> None:
        """Keep what was fetched and found to be whole."""
        if len(sealed) == row.size <= _MAX_RECORD_BYTES:
            self._rows()[row.key] = (row.size, row.modified_ns, sealed)
            self._changed = True

    def keep_own(self, key: str, sealed: bytes) -> None:
        """Keep what was put from here just now."""
        self.keep(ObjectInfo(key, len(sealed), _ANY_TIME), sealed)

    def forget_others(self, listed: Iterable[str]) -> None:
        """Forget all but these."""
        rows = self._rows()
        gone = rows.keys() - set(listed)
        for key in gone:
            del rows[key]
        self._changed = self._changed or bool(gone)

    def save(self) -> None:
        """Write what changed; a disk that does not take it is no reason to fail."""
        if not self._changed or self._held is None:
            return
        self._changed = False
        parts: list[bytes] = []
        for key, (size, modified_ns, sealed) in self._held.items():
            name = key.encode("ascii")
            parts += (_ROW.pack(len(name), size, modified_ns, len(sealed)), name, sealed)
        self._file.write(parts)

    def _rows(self) -> dict[str, tuple[int, int, bytes]]:
        if self._held is None:
            self._held = self._read()
        return self._held

    def _read(self) -> dict[str, tuple[int, int, bytes]]:
        plain = self._file.read()
        rows: dict[str, tuple[int, int, bytes]] = {}
        at = 0
        while at < len(plain):
            name_length, size, modified_ns, length = _ROW.unpack_from(plain, at)
            at += _ROW.size
            key = plain[at : at + name_length].decode("ascii")
            at += name_length
            rows[key] = (size, modified_ns, plain[at : at + length])
            at += length
        return rows
