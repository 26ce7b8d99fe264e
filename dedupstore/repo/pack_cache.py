"""Packs and parts of packs as they are in storage, kept on this machine: what the next increment is compressed against.

`<cache>/<repository, hex>-packs/`, one file each:

| name | holds |
|---|---|
| `<pack id, hex>` | a pack that was put from here |
| `<pack id, hex>-<offset>` | a block that was fetched |

Only sealed bytes, as storage has them. What is read from here is decrypted, decompressed and hashed as if it had come from
storage; what does not open is dropped and fetched. Nothing is synced: after a power loss a file may hold anything.

The files take no more than a limit. What was not used for longest goes first, but never what this process has put or used:
a source larger than the limit, read in the same order every time, would otherwise find nothing of what it needs.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from dedupstore.errors import CacheError, Refused
from dedupstore.repo.cache_files import drop_abandoned, remove_file, replace_file
from dedupstore.repo.cache_folder import secure_folder
from dedupstore.repo.pack_name import PackName
from dedupstore.types import Data, PackId, RepositoryId, Span

_HEX = 64
_NAME = re.compile(r"([0-9a-f]{64})(?:-([0-9]+))?")


class PackCache:
    """The files of one repository. Safe to call from many threads; a disk that does not take a file is no error."""

    def __init__(self, folder: Path, repository: RepositoryId, limit_bytes: int) -> None:
        self._folder = folder / f"{repository.hex()}-packs"
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._ages: dict[str, int] = {}
        """When files were used last, before this process."""

        self._used: set[str] = set()
        self._total = 0
        self._usable = False
        try:
            secure_folder(folder)
            secure_folder(self._folder)
            self._look()
            self._usable = True
        except (OSError, CacheError, Refused):
            # It is told by who cannot do without the folder.
            self._sizes.clear()

    def has(self, name: PackName, span: Span) -> bool:
        """Whether that part of a pack is here, as far as is known."""
        return bool(self._files(name, span))

    def read(self, name: PackName, span: Span) -> bytes | None:
        """That part of a pack, not verified; None when it is not here."""
        for file, start in self._files(name, span):
            try:
                descriptor = os.open(self._folder / file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    data = os.pread(descriptor, span.length, start)
                    self._touch(file, descriptor)
                finally:
                    os.close(descriptor)
            except OSError:
                data = b""
            if len(data) == span.length:
                return data
            self._remove(file)
        return None

    def keep_pack(self, name: PackName, parts: Sequence[Data]) -> None:
        """Keep a pack that was put from here."""
        self._keep(name.id.hex(), parts)

    def keep_part(self, name: PackName, span: Span, data: Data) -> None:
        """Keep what was fetched, once it is verified."""
        self._keep(f"{name.id.hex()}-{span.start}", [data])

    def drop(self, name: PackName, span: Span) -> None:
        """What was read there does not open."""
        for file, _ in self._files(name, span):
            self._remove(file)

    def forget(self, packs: Iterable[PackId]) -> None:
        """Drop what is here of packs that are not in storage any more: what was pruned should be gone."""
        with self._lock:
            files = list(self._sizes)
        gone = {pack.hex() for pack in packs} if files else set()
        for file in files:
            if file[:_HEX] in gone:
                self._remove(file)

    def _files(self, name: PackName, span: Span) -> list[tuple[str, int]]:
        """The files that hold that part, and where in them it begins."""
        whole = name.id.hex()
        with self._lock:
            places = ((whole, span.start), (f"{whole}-{span.start}", 0))
            return [(file, start) for file, start in places if start + span.length <= self._sizes.get(file, 0)]

    def _keep(self, file: str, parts: Sequence[Data]) -> None:
        size = sum(memoryview(part).nbytes for part in parts)
        if not self._usable or not self._make_room(file, size):
            return
        if not replace_file(self._folder / file, parts):
            # A full disk: what is here already goes on being of use.
            self._remove(file)

    def _make_room(self, file: str, size: int) -> bool:
        """Take room for a file, and count it as here; False where there is none, or it is here."""
        with self._lock:
            if file in self._sizes:
                return False
            old = sorted((file for file in self._sizes if file not in self._used), key=self._ages.__getitem__)
            free = self._limit - self._total
            going = []
            for each in old:
                if free >= size:
                    break
                going.append(each)
                free += self._sizes[each]
            if free < size:
                return False
            for each in going:
                self._total -= self._sizes.pop(each)
            self._sizes[file] = size
            self._total += size
            self._used.add(file)
        for each in going:
            remove_file(self._folder / each)
        return True

    def _touch(self, file: str, descriptor: int) -> None:
        with self._lock:
            if file in self._used:
                return
            self._used.add(file)
        with suppress(OSError):
            os.utime(descriptor)

    def _remove(self, file: str) -> None:
        with self._lock:
            self._total -= self._sizes.pop(file, 0)
            self._used.discard(file)
        remove_file(self._folder / file)

    def _look(self) -> None:
        """What earlier processes have left; what one of them was killed over, and what is too much, goes."""
        drop_abandoned(self._folder)
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name) is None:
                    continue
                found = entry.stat(follow_symlinks=False)
                self._sizes[entry.name] = found.st_size
                self._ages[entry.name] = found.st_mtime_ns
                self._total += found.st_size
        for file in sorted(self._sizes, key=self._ages.__getitem__):
            if self._total <= self._limit:
                break
            self._remove(file)
