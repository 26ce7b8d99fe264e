"""Locks of objects as the server told them once, kept on this machine: no listing tells them, so each costs a request.

Only of a mode in which nobody can end a lock early: what was seen once is true until then, and may only have become
longer. What we asked the server to lock is not kept before it has said that it is locked. Rows of 24 bytes: a hash of
place, name and id of the version, and the second at which its lock ends.
"""

from __future__ import annotations

import struct
from pathlib import Path

from dedupstore.codec.hashing import digest
from dedupstore.repo.keyring import KeyRing
from dedupstore.repo.sealed_file import SealedFile
from dedupstore.storage.versions import COMPLIANCE, Lock, Version

_ROW = struct.Struct(">16sq")


class LockMemory:
    """The locks of the versions of one repository at one place; `place` as of `place_of`. `get` is safe from many threads."""

    def __init__(self, folder: Path, keyring: KeyRing, place: str) -> None:
        self._file = SealedFile(folder, keyring, "locks")
        self._place = place.encode("utf-8")
        self._ends: dict[bytes, int] = dict(_ROW.iter_unpack(self._file.read()))
        self._changed = False

    def get(self, version: Version) -> Lock | None:
        """A lock that is as long as this at least; None: not known."""
        end = self._ends.get(self._name(version))
        return None if end is None else Lock(end * 10**9, COMPLIANCE)

    def keep(self, version: Version, lock: Lock | None) -> None:
        """Remember what the server told, if it stands."""
        if lock is not None and lock.stands:
            self._ends[self._name(version)] = lock.until_ns // 10**9
            self._changed = True

    def save(self, now_ns: int) -> None:
        """Write what is in force, of other places too, if anything is new."""
        if self._changed:
            now = now_ns // 10**9
            self._file.write(_ROW.pack(name, end) for name, end in self._ends.items() if end > now)
            self._changed = False

    def _name(self, version: Version) -> bytes:
        return digest([b"\0".join((self._place, version.key.encode("utf-8"), version.id.encode("utf-8")))])[:16]
