"""Which snapshots this machine has proven restorable, and when: `forget` never drops the last of a source.

Kept in the state directory, sealed: a stolen disk must not tell ids. Losing the file loses a guard, never data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from dedupstore.codec.crypto import Cipher
from dedupstore.errors import DedupError
from dedupstore.events import Finding
from dedupstore.model.wire import Value, pack, unpack
from dedupstore.repo.keys import KeyRing
from dedupstore.service.access import Access
from dedupstore.service.dirs import private_directory, state_dir
from dedupstore.types import SnapshotId

_AAD = b"dedupstore/v1/verified"


def read_verified(access: Access, keyring: KeyRing) -> dict[SnapshotId, int]:
    """When each snapshot was last verified here, in nanoseconds since the epoch; empty when nothing is known."""
    path = _path(access, keyring)
    try:
        rows = unpack(_cipher(keyring).decrypt(path.read_bytes(), _AAD))
    except FileNotFoundError:
        return {}
    except (OSError, DedupError) as error:
        access.note(
            Finding(
                code="local.verified_unreadable",
                message=f"what was verified on this machine cannot be read ({error}); it is not taken into account",
            )
        )
        return {}
    found: dict[SnapshotId, int] = {}
    for row in rows if isinstance(rows, list) else []:
        match row:
            case [bytes(identifier), int(time_ns)]:
                found[SnapshotId(identifier)] = time_ns
    return found


def record_verified(
    access: Access, keyring: KeyRing, snapshots: Iterable[SnapshotId], existing: Iterable[SnapshotId], time_ns: int
) -> None:
    """Remember that these snapshots were verified now; those that do not exist any more are dropped.

    A failure is a note: the check itself has succeeded.
    """
    now: Mapping[SnapshotId, int] = dict.fromkeys(snapshots, time_ns)
    if not now:
        return
    alive = set(existing)
    known = {**read_verified(access, keyring), **now}
    rows: list[Value] = [[identifier, known[identifier]] for identifier in sorted(known.keys() & alive)]
    path = _path(access, keyring)
    try:
        private_directory(state_dir(access.environ))
        private_directory(path.parent)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(_cipher(keyring).encrypt(pack(rows), _AAD))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, DedupError) as error:
        access.note(
            Finding(
                code="local.verified_unwritable",
                message=f"cannot remember on this machine what was verified ({error})",
                severity="note",
            )
        )


def _path(access: Access, keyring: KeyRing) -> Path:
    return state_dir(access.environ) / "verified" / keyring.repository.hex()


def _cipher(keyring: KeyRing) -> Cipher:
    return Cipher(keyring.cache_key())
