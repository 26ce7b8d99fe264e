"""Where local files live: configuration, cache and state, per user or as systemd says."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from dedupstore.errors import Refused

_APP = "dedup"


def cache_dir(environ: Mapping[str, str]) -> Path:
    """What can be rebuilt at any time: `DEDUP_CACHE_DIR`, systemd's `CACHE_DIRECTORY`, else the user's."""
    return _chosen(environ, "DEDUP_CACHE_DIR", "CACHE_DIRECTORY") or _of_user("user_cache_path")


def state_dir(environ: Mapping[str, str]) -> Path:
    """What must survive: marks against rollback, reports. `DEDUP_STATE_DIR`, `STATE_DIRECTORY`, else the user's."""
    return _chosen(environ, "DEDUP_STATE_DIR", "STATE_DIRECTORY") or _of_user("user_state_path")


def private_directory(path: Path) -> Path:
    """The directory, made 0700 if it is missing.

    Refused when it is a symbolic link, belongs to someone else, or others may write to it: whoever can
    swap these files can make this program forget what it has seen.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise Refused(f"{path} is a symbolic link", hints=["name the real directory"], code="local.unsafe_directory")
    if found.st_uid != os.geteuid():
        raise Refused(
            f"{path} belongs to another user (uid {found.st_uid})",
            hints=["run as that user, or set DEDUP_STATE_DIR and DEDUP_CACHE_DIR to directories of your own"],
            code="local.unsafe_directory",
        )
    if found.st_mode & 0o022:
        raise Refused(f"others may write to {path}", hints=[f"chmod 700 {path}"], code="local.unsafe_directory")
    return path


def _of_user(kind: str) -> Path:
    """The platform's own directory of this kind, by the name of the function that tells it."""
    # Loaded only when no variable says where: it takes as long as reading a list of snapshots.
    return Path(getattr(import_module("platformdirs"), kind)(_APP))


def _chosen(environ: Mapping[str, str], own: str, systemd: str) -> Path | None:
    # systemd lists several directories with colons between them; the first is the one it names by the unit.
    text = environ.get(own) or environ.get(systemd, "").split(":")[0]
    return Path(text).expanduser() if text else None
