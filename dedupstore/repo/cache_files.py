"""Files of a cache: each is there whole or not at all, and a disk that does not take one is no error.

Nothing is synced: after a power loss a file may hold anything, so whoever reads one verifies it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dedupstore.types import Data

_HIDDEN = re.compile(r"\.writing-[0-9a-f]{16}")


def replace_file(path: Path, parts: Iterable[Data]) -> bool:
    """Write a file for its owner alone, in place of the one of that name; False when the disk does not take it."""
    hidden = path.with_name(f".writing-{secrets.token_hex(8)}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(hidden, flags, 0o600), "wb") as output:
            # Whoever finds it unlocked takes its writer for dead; at worst this one file is not kept.
            fcntl.flock(output, fcntl.LOCK_EX)
            for part in parts:
                output.write(part)
            output.flush()
            os.replace(hidden, path)
    except OSError:
        remove_file(hidden)
        return False
    except BaseException:
        remove_file(hidden)
        raise
    return True


def remove_file(path: Path) -> None:
    """Where it cannot be, it stays: what it holds is not believed."""
    with suppress(OSError):
        os.unlink(path)


def drop_abandoned(folder: Path) -> None:
    """Delete what killed writers left half-written. Raises OSError when the folder cannot be read."""
    with os.scandir(folder) as entries:
        hidden = [entry for entry in entries if _HIDDEN.fullmatch(entry.name)]
    for entry in hidden:
        with suppress(OSError), open(os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_file(Path(entry.path))
