"""Snapshots as a file system, for as long as somebody wants to look at them."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from dedupstore.engine.mounted import MountedSnapshots, View
from dedupstore.errors import DedupError, Refused
from dedupstore.events import Finding
from dedupstore.service.access import Access
from dedupstore.service.opened import open_repository
from dedupstore.service.selection import Selection, choose

# Loaded only to mount: its library is an extra, and a part of the system that need not be there.
_FUSE = "dedupstore.service.fuse"
_DEVICE = Path("/dev/fuse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`one`: show only this snapshot. `stamp` writes a time as part of a directory's name."""

    target: Path
    stamp: Callable[[int], str]
    one: Selection | None = None
    allow_other: bool = False


def run(request: Request, access: Access, ready: Callable[[], None], trouble: Callable[[Finding], None]) -> int:
    """Mount, serve, unmount. `ready` is called once the directory can be used, `trouble` for what cannot be read.

    Returns the exit code. Raises DedupError `mount.unavailable` when this machine cannot mount, Refused for a directory
    that is no empty one.
    """
    fuse = _library()
    _check_target(request.target)
    failed = False

    def tell(path: bytes, error: DedupError) -> None:
        nonlocal failed
        failed = True
        trouble(Finding(code=error.code, message=f"{error.message}: {error.why}", path=path, severity="error"))

    with open_repository(access) as repository:
        one = choose(repository.catalog, request.one, note=repository.on_note) if request.one is not None else None
        mounted = MountedSnapshots(repository, View(stamp=request.stamp, one=one), tell)
        code: int = fuse.serve(mounted, os.fspath(request.target), ready, allow_other=request.allow_other)
    if code:
        raise DedupError(
            f"{request.target} could not be mounted",
            why=f"libfuse said why above (its code: {code})",
            hints=["is something mounted there already? mount | grep fuse", "for --allow-other see /etc/fuse.conf"],
            code="mount.failed",
        )
    return 4 if failed else 0


def unmount_command(target: str) -> str:
    """What ends a mount from another terminal; `target` as a shell wants it."""
    return f"umount {target}" if os.geteuid() == 0 else f"fusermount3 -u {target}"


def _library() -> ModuleType:
    """The room of mfusepy. Raises DedupError `mount.unavailable`, with what to install."""
    try:
        module = importlib.import_module(_FUSE)
    except ImportError as exc:
        raise _unavailable("mfusepy is not installed", "pip install 'dedupstore[mount]'") from exc
    except OSError as exc:
        raise _unavailable("libfuse is not installed", "apt install fuse3") from exc
    if not _DEVICE.exists():
        raise _unavailable(f"there is no {_DEVICE}", "modprobe fuse; in a container: --device /dev/fuse")
    if os.geteuid() != 0 and not (shutil.which("fusermount3") or shutil.which("fusermount")):
        raise _unavailable("fusermount3 is not installed", "apt install fuse3")
    return module


def _unavailable(why: str, hint: str) -> DedupError:
    return DedupError("this machine cannot mount", why=why, hints=[hint], code="mount.unavailable")


def _check_target(target: Path) -> None:
    try:
        names = os.listdir(target)
    except OSError as exc:
        if exc.errno == errno.ENOTCONN:
            raise Refused(
                f"{target} is a mount whose program is gone",
                hints=[unmount_command(os.fspath(target))],
                code="mount.target",
            ) from exc
        raise Refused(
            f"{target} is no directory to mount on", why=exc.strerror or str(exc), hints=[f"mkdir -p {target}"],
            code="mount.target",
        ) from exc  # fmt: skip
    if names:
        raise Refused(
            f"{target} is not empty",
            why="what is in it would be hidden",
            hints=["name an empty directory"],
            code="mount.target",
        )
