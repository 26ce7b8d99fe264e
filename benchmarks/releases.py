"""Many versions of a source tree between two real ones, shown in place, without room for a copy of each.

Version 0 is the older tree. In each next one an equal part of the files that differ between the two has become as it is
in the newer tree, its time with it; which part is chosen by a hash of the name, so every version touches the tree
everywhere. The last version is the newer tree, but that files both have alike keep their older times.
"""

import os
import shutil
import zlib
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from benchmarks.data import Bench, DataSet, Maker, prepare
from benchmarks.measure import walk

OLD, NEW = "old", "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Releases(DataSet):
    """Versions by number, from 0 to the last. Below `old` and `new` is what differs, below `stage` the whole tree."""

    count: int

    def show(self, number: int) -> None:
        """Change the tree to be that version. An interrupted change is done again from the beginning."""
        paths = _differing(self.root)
        state = self.root / "state"
        known = int(state.read_text()) if state.exists() else None
        state.unlink(missing_ok=True)
        for place, path in enumerate(paths):
            # Place 0 changes with version 1, the last one with the last version.
            changes_with = 1 + place * (self.count - 1) // len(paths)
            is_new = changes_with <= number
            if known is None or (changes_with <= known) is not is_new:
                _put(self.root / (NEW if is_new else OLD), self.shown, path)
        state.write_text(str(number))


def prepare_releases(bench: Bench, name: str, ends: DataSet, count: int) -> Releases:
    """`count` versions from the first to the last of `ends`."""

    def make(root: Path) -> tuple[str, ...]:
        ends.show(0)
        older, newer = ends.shown, ends.root / ends.versions[-1]
        for path in _compare(older, newer):
            for side, tree in ((OLD, older), (NEW, newer)):
                (root / side).mkdir(exist_ok=True)
                _put(tree, root / side, path)
        shutil.copytree(older, root / "stage" / ends.item, symlinks=True)
        return tuple(map(str, range(count)))

    maker: Maker = make
    data = prepare(bench, name, ends.item, [count, *ends.versions], maker)
    return Releases(root=data.root, item=data.item, versions=data.versions, count=count)


def _compare(older: Path, newer: Path) -> list[str]:
    """The paths of files and links that are not alike in both trees."""
    sides = [{path: entry for path, entry in walk(tree) if not S_ISDIR(entry.st_mode)} for tree in (older, newer)]
    differing = sides[0].keys() ^ sides[1].keys()
    for path in sides[0].keys() & sides[1].keys():
        before, after = sides[0][path], sides[1][path]
        if before.st_mode != after.st_mode:
            differing.add(path)
        elif S_ISREG(before.st_mode):
            if not cmp(older / path, newer / path, shallow=False):
                differing.add(path)
        elif os.readlink(older / path) != os.readlink(newer / path):
            differing.add(path)
    return sorted(differing)


def _differing(root: Path) -> list[str]:
    """What `_compare` found, in the order in which it changes."""
    found = {path for side in (OLD, NEW) for path, entry in walk(root / side) if not S_ISDIR(entry.st_mode)}
    return sorted(found, key=lambda path: (zlib.crc32(os.fsencode(path)), path))


def _put(source: Path, target: Path, path: str) -> None:
    """Make a file or link in `target` as in `source`: with its times, or not there."""
    there, here = source / path, target / path
    here.unlink(missing_ok=True)
    if os.path.lexists(there):
        here.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(there, here, follow_symlinks=False)
        return
    for parent in here.parents:
        if parent == target or not parent.exists() or any(parent.iterdir()):
            return
        parent.rmdir()
