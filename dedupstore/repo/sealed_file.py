"""One file of this machine's cache that is read and written whole, sealed under the key of the cache."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dedupstore.codec.crypto import Cipher
from dedupstore.errors import CacheError, CorruptObject, Refused
from dedupstore.repo.cache_files import drop_abandoned, replace_file
from dedupstore.repo.cache_folder import secure_folder
from dedupstore.repo.keyring import KeyRing

MAX_BYTES = 256 << 20


class SealedFile:
    """`<folder>/<repository, hex>-<name>`. Losing it is no error, and neither is a disk that does not take it."""

    def __init__(self, folder: Path, keyring: KeyRing, name: str) -> None:
        self._path = folder / f"{keyring.repository.hex()}-{name}"
        self._cipher = Cipher(keyring.cache_key())
        self._context = f"dedupstore {name} 1".encode("ascii")

    def read(self) -> bytes:
        """What was written last; nothing when that is damaged, or of another key."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                return self._cipher.decrypt(file.read(MAX_BYTES), self._context)
        except (OSError, CorruptObject):
            return b""

    def write(self, parts: Iterable[bytes]) -> None:
        """Replace it as a whole."""
        with suppress(OSError, CacheError, Refused):
            secure_folder(self._path.parent)
            drop_abandoned(self._path.parent)
            replace_file(self._path, [self._cipher.encrypt(b"".join(parts), self._context)])
