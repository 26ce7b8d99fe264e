"""Small files in this machine's state directory: private, replaced as a whole, readable by a person."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dedupstore.errors import DedupError, Refused
from dedupstore.events import Finding
from dedupstore.service.dirs import private_directory
from dedupstore.units import printable

VERSION = 1
MAX_BYTES = 64 << 20

Document = dict[str, Any]
Note = Callable[[Finding], None]


def read(path: Path) -> Document:
    """What is in the file; an empty document when there is none. Raises Refused for what this program did not write."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _unreadable(path, "it is no file")
        with open(descriptor, "rb", closefd=False) as file:
            document = json.loads(file.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, "it is damaged") from error
    finally:
        os.close(descriptor)
    if not isinstance(document, dict) or document.get("v") != VERSION:
        raise _unreadable(path, "it is damaged, or of a newer dedup")
    return document


def update(path: Path, change: Callable[[Document], None]) -> None:
    """Change the document, alone among all processes; it is durable when this returns, and never half there."""
    private_directory(path.parent)
    lock = os.open(path.parent / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        document = read(path)
        change(document)
        document["v"] = VERSION
        _replace(path, json.dumps(document, indent=1, sort_keys=True).encode())
    finally:
        os.close(lock)


def keep(path: Path, change: Callable[[Document], None], note: Note) -> None:
    """Change the document as `update` does. A state directory that cannot be written is a note: the work itself is done."""
    try:
        update(path, change)
    except (OSError, DedupError) as error:
        reason = error.message if isinstance(error, DedupError) else error.strerror
        message = f"this run is not remembered in {printable(os.fsencode(path))}: {reason}"
        note(Finding(code="local.state_not_kept", message=message, severity="note"))


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unreadable(path: Path, why: str) -> Refused:
    return Refused(
        f"the state file {path} cannot be used",
        why=why,
        hints=["move it away: it holds what this machine remembers, and no backup data"],
        code="local.state_damaged",
    )
