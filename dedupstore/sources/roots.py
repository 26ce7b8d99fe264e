"""From the paths a user names to the entries at the top of a snapshot."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from dedupstore.errors import SourceFailed, UsageError
from dedupstore.units import printable

WHOLE_SYSTEM = b"root"
"""The name of `/` inside a snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """One top-level entry."""

    name: bytes
    """Where it lies inside the snapshot; `a/uploads` means a directory `a` that exists only in the snapshot."""

    path: bytes
    """Where it is on this machine: absolute, without any symbolic link."""

    stat: os.stat_result

    @property
    def parts(self) -> tuple[bytes, ...]:
        return tuple(self.name.split(b"/"))


def resolve_roots(paths: Sequence[bytes], cwd: bytes | None = None, *, one_file_system: bool = False) -> list[Root]:
    """The roots in byte order of their names, which are unique and never lie below one another.

    A root is called by its last name as typed, even when that is a symbolic link to the directory that is read.
    Roots with one last name get as many of the directories above as tell them apart: /a/uploads and /b/uploads
    become a/uploads and b/uploads. A path named twice counts once. A root inside another one is refused, because
    it would be stored twice, unless `one_file_system` keeps the outer one from reaching it.

    Raises SourceFailed for a root that is missing or cannot be looked at, UsageError for a set that makes no sense.
    """
    found: dict[bytes, tuple[tuple[bytes, ...], os.stat_result]] = {}
    for path in paths:
        real, typed, stat = _locate(path, cwd)
        found.setdefault(real, (typed, stat))
    if not found:
        raise UsageError("no path to take a snapshot of", hints=["dedup snapshot /srv/site"])
    _refuse_nested({real: stat for real, (_, stat) in found.items()}, one_file_system=one_file_system)
    names = _shortest_names({real: typed for real, (typed, _) in found.items()})
    roots = [Root(name=b"/".join(names[real]), path=real, stat=stat) for real, (_, stat) in found.items()]
    return sorted(roots, key=lambda root: root.name)


def _locate(path: bytes, cwd: bytes | None) -> tuple[bytes, tuple[bytes, ...], os.stat_result]:
    """The real path, the components of the path as typed (its directories made real), and what is there."""
    if not path or b"\0" in path:
        raise UsageError(f"not a path: {printable(path)!r}")
    absolute = os.path.join(cwd or os.getcwdb(), path).rstrip(b"/") or b"/"
    try:
        real = os.path.realpath(absolute, strict=True)
        stat = os.lstat(real)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise SourceFailed(
            f"cannot read {printable(path)}",
            why=why,
            hints=["check the path; is the disk mounted?"],
            code="source.no_root",
        ) from error
    above, last = os.path.split(absolute)
    typed = real if last in (b"", b".", b"..") else os.path.join(os.path.realpath(above), last)
    return real, (WHOLE_SYSTEM, *(part for part in typed.split(b"/") if part)), stat


def _refuse_nested(stats: dict[bytes, os.stat_result], *, one_file_system: bool) -> None:
    for inner, stat in stats.items():
        above = inner
        while above != b"/":
            above = os.path.dirname(above)
            outer = stats.get(above)
            if outer is None or (one_file_system and outer.st_dev != stat.st_dev):
                continue
            raise UsageError(
                f"{printable(inner)} lies inside {printable(above)}",
                why="it would be in the snapshot twice",
                hints=[f"leave out {printable(inner)}, or make two snapshots with two --source names"],
            )


def _shortest_names(typed: dict[bytes, tuple[bytes, ...]]) -> dict[bytes, tuple[bytes, ...]]:
    depths = dict.fromkeys(typed, 1)
    while True:
        names = {real: parts[-depths[real] :] for real, parts in typed.items()}
        clashing = _clashing(names)
        growing = [real for real in clashing if depths[real] < len(typed[real])]
        if not growing:
            break
        for real in growing:
            depths[real] += 1
    if clashing:
        # Only `/`, whose name inside is "root", next to a /root of its own file system.
        first, second, *_ = sorted(clashing)
        raise UsageError(
            f"{printable(first)} and {printable(second)} have the same name inside a snapshot",
            hints=["make two snapshots with two --source names"],
        )
    return names


def _clashing(names: dict[bytes, tuple[bytes, ...]]) -> set[bytes]:
    """The roots whose name equals another's, or lies above or below it."""
    owners: dict[tuple[bytes, ...], list[bytes]] = {}
    for real, name in names.items():
        owners.setdefault(name, []).append(real)
    clashing: set[bytes] = set()
    for name, reals in owners.items():
        if len(reals) > 1:
            clashing.update(reals)
        for length in range(1, len(name)):
            if (above := owners.get(name[:length])) is not None:
                clashing.update(above, reals)
    return clashing
