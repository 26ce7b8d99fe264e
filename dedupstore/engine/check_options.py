"""What a check is asked to do, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from dedupstore.errors import UsageError
from dedupstore.events import Finding
from dedupstore.types import SnapshotId
from dedupstore.units import parse_size


class Level(IntEnum):
    """How deep a check looks; each one includes those before it, but for RESTORE, which stands for itself."""

    QUICK = 1
    """Listings, sizes, small objects."""

    STRUCTURE = 2
    """Every manifest is read; every chunk a snapshot uses has a usable copy."""

    DATA = 3
    """Packs are read whole, every chunk re-hashed."""

    RESTORE = 4
    """Snapshots are restored to nowhere, whole-file hashes compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataShare:
    """How much of the packs to read: a `fraction` of all bytes, or `bytes`. Least recently verified packs first."""

    fraction: float = 1.0
    bytes: int | None = None

    @classmethod
    def parse(cls, text: str) -> DataShare:
        """From `all`, `5%` or `2G`. Raises UsageError."""
        if text.strip().lower() == "all":
            return cls()
        if text.strip().endswith("%"):
            try:
                percent = float(text.strip()[:-1])
            except ValueError:
                percent = 0.0
            if not 0 < percent <= 100:
                raise UsageError(f"not a share of the data: {text!r}", hints=["write it as 5%, 2G or all"])
            return cls(fraction=percent / 100)
        return cls(bytes=parse_size(text))

    @property
    def all(self) -> bool:
        return self.bytes is None and self.fraction >= 1

    def of(self, total: int) -> int:
        """How many bytes this share of `total` bytes is."""
        return min(total, self.bytes) if self.bytes is not None else int(total * self.fraction)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """One check. `QUICK` alone is seconds; without anything else the structure of all snapshots is checked."""

    level: Level = Level.STRUCTURE
    read_data: DataShare | None = None
    restore: bool = False
    restore_sources: tuple[str, ...] = ()
    """With `restore`: only these sources; empty means all."""

    snapshots: tuple[SnapshotId, ...] = ()
    """Walk only these; empty means all."""

    max_seconds: float | None = None
    """Start no more packs after this long; the next check goes on where this one stopped."""

    object_lock_ns: int = 0
    """For how long objects are to be locked when they are put; 0: nothing is expected of locks."""

    recent_days: int = 30
    """The window in which data counts as recently verified."""

    threads: int = 0

    def includes(self, level: Level) -> bool:
        if level is Level.RESTORE:
            return self.restore
        if level is Level.DATA:
            return self.read_data is not None
        return level is Level.QUICK or self.level >= level or self.read_data is not None or self.restore


@dataclass(slots=True, kw_only=True)
class Counts:
    """What was looked at. Sizes in bytes."""

    packs: int = 0
    packs_read: int = 0
    bytes_read: int = 0
    blocks: int = 0
    chunks: int = 0
    raw_bytes: int = 0
    snapshots: int = 0
    directories: int = 0
    files: int = 0
    restored_snapshots: int = 0
    restored_files: int = 0
    restored_bytes: int = 0
    locks_asked: int = 0
    locks_remembered: int = 0
    """Locks that an earlier check was told of and that nobody can end before it is long enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedFile:
    """A file, or a directory whose listing is lost, that cannot be restored from some snapshots."""

    path: bytes
    source: str
    host: str
    directory: bool
    snapshots: tuple[SnapshotId, ...]
    newest_intact: bool | None
    """Whether the newest snapshot of the source has this path and can restore it; None: not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What the damage means for files. `files` is cut at 10 000; `files_total` is not."""

    chunks: int = 0
    files_total: int = 0
    files: tuple[DamagedFile, ...] = ()
    snapshots: tuple[SnapshotId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of the packs has been read and found right in the last `days` days, on this machine."""

    days: int
    bytes_total: int
    bytes_recent: int
    full_round_days: float | None
    """How long reading everything takes at the rate of these days; None without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The outcome. `findings` is cut at 10 000; `errors`, `warnings` and `notes` count all."""

    counts: Counts
    findings: tuple[Finding, ...]
    errors: int
    warnings: int
    notes: int
    damage: Damage
    coverage: Coverage | None
    complete: bool
    """False when the time ran out before all chosen packs were read."""

    verified: tuple[SnapshotId, ...] = ()
    """Snapshots proven restorable: restored to nowhere, or walked without damage while all data was read."""

    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each check took, by name."""

    recorded: int = 0
    """Damaged packs that nobody knew of before and that are written down now."""

    @property
    def exit_code(self) -> int:
        """4 when stored data is damaged, 3 with warnings, else 0."""
        return 4 if self.errors else 3 if self.warnings else 0
