"""The part of a snapshot's tree that is to be restored, met in tree order with bounded memory."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Union

from dedupstore.engine.restore_options import Filter, Verdict
from dedupstore.engine.target import Folder
from dedupstore.engine.walk import MAX_DEPTH
from dedupstore.errors import CorruptObject, IntegrityError, NothingMatches, ObjectNotFound
from dedupstore.model.entry import DIRECTORY, Entry
from dedupstore.model.tree import Load, read_tree
from dedupstore.types import ChunkId
from dedupstore.units import printable

MAX_HELD_BYTES = 16 << 20
"""Manifest bytes kept for directories under way; beyond it the outer ones are read again when they are returned to."""

Selection = Union["dict[bytes, Selection]", None]
"""Names to follow below a directory; None means everything."""

Place = Callable[[bytes], "tuple[Folder, bytes] | None"]
"""Where a path at the top of the snapshot goes: the folder, and its name there (b"" when it is the folder itself).

None for a directory that exists only in the snapshot, above things that come from several places.
"""


class Step(enum.IntEnum):
    ENTER = 1
    LEAVE = 2
    LEAF = 3


class Met(NamedTuple):
    """One step of the walk. `whole`: on leaving, everything below was meant to be restored and could be listed."""

    step: Step
    folder: Folder
    entry: Entry
    whole: bool = False


def select(load: Load, root: ChunkId, paths: Sequence[bytes]) -> Selection:
    """The selection for some paths. Raises NothingMatches, before anything is written, if one does not exist."""
    if not paths:
        return None
    chosen: dict[bytes, Selection] = {}
    for path in paths:
        names = [name for name in path.split(b"/") if name not in (b"", b".")]
        if not names:
            return None
        _require(load, root, path, names)
        level = chosen
        for name in names[:-1]:
            below = level.setdefault(name, {})
            if below is None:
                break
            level = below
        else:
            level[names[-1]] = None
    return chosen


def _require(load: Load, tree: ChunkId, path: bytes, names: list[bytes]) -> None:
    for depth, name in enumerate(names):
        found: Entry | None = None
        near: list[bytes] = []
        for entry in read_tree(load, tree):
            if entry.name == name:
                found = entry
                break
            if len(near) < 10_000:
                near.append(entry.name)
        last = depth == len(names) - 1
        if found is not None and (last or found.tree is not None):
            tree = found.tree or tree
            continue
        prefix = b"/".join(names[:depth])
        raise NothingMatches(
            f"{printable(path)} is not in this snapshot",
            why=f"{printable(prefix) or 'the top level'} has no {'directory' if found else 'entry'} {printable(name)}",
            hints=_near(prefix, name, near),
            code="restore.path_not_found",
        )


def _near(prefix: bytes, name: bytes, names: list[bytes]) -> list[str]:
    by_text = {printable(candidate): candidate for candidate in names}
    close = difflib.get_close_matches(printable(name), list(by_text), n=3, cutoff=0.5)
    start = printable(prefix) + "/" if prefix else ""
    return [f"did you mean {start}{match}" for match in close]


class _Frame:
    """One directory under way."""

    __slots__ = (
        "folder",
        "entry",
        "rows",
        "last",
        "selection",
        "entered",
        "dead",
        "whole",
        "held",
        "prefix",
        "virtual",
    )

    def __init__(self, folder: Folder, entry: Entry, selection: Selection, prefix: bytes, *, whole: bool) -> None:
        self.folder = folder
        self.entry = entry
        self.rows: Iterator[Entry] | None = None
        self.last = b""
        self.selection = selection
        self.prefix = prefix
        self.entered = False
        self.dead = False
        self.whole = whole
        self.held = 0
        self.virtual: bytes | None = None
        """For the top and directories that exist only in the snapshot: the path of what is in it, up to a slash."""


class TreeWalk:
    """Iterate it once. ENTER comes before anything inside a directory, LEAVE after; call `skip` on an ENTER to
    leave the directory out.

    A directory whose manifest cannot be read is told to `on_damage` and left out from there on; the walk goes on.
    Trouble of the store itself is raised.
    """

    def __init__(
        self, load: Load, root: ChunkId, place: Place, *, selection: Selection, filter: Filter | None,
        on_damage: Callable[[bytes, str], None],
    ) -> None:  # fmt: skip
        self._load = load
        self._place = place
        self._filter = filter
        self._on_damage = on_damage
        self._skipped = False
        self._held = 0
        top = _Frame(Folder(None, b""), Entry(name=b"", kind=DIRECTORY, mode=0, tree=root), selection, b"", whole=False)
        top.entered, top.virtual = True, b""
        self._stack = [top]

    def skip(self) -> None:
        """Leave out the directory just entered, with everything below."""
        self._skipped = True

    def __iter__(self) -> Iterator[Met]:
        stack = self._stack
        plain = self._filter is None
        while stack:
            frame = stack[-1]
            if plain and frame.selection is None and frame.entered and frame.virtual is None:
                # By far the most frequent case, without the questions below.
                folder = frame.folder
                entry = None
                while not frame.dead and (entry := self._next(frame)) is not None and entry.kind != DIRECTORY:
                    yield Met(Step.LEAF, folder, entry)
            else:
                entry = None if frame.dead else self._next(frame)
            if entry is None:
                stack.pop()
                self._held -= frame.held
                if frame.entered and not frame.dead and frame.virtual is None:
                    yield Met(Step.LEAVE, frame.folder, frame.entry, frame.whole)
                continue
            selection = frame.selection
            if selection is not None:
                if entry.name not in selection:
                    continue
                selection = selection[entry.name]
            yield from self._visit(frame, entry, selection)

    def _visit(self, frame: _Frame, entry: Entry, selection: Selection) -> Iterator[Met]:
        verdict = Verdict.TAKE
        path = b""
        if self._filter is not None:
            path = frame.prefix + entry.name
            verdict = self._filter(path, entry.kind == DIRECTORY)
            if verdict is Verdict.SKIP:
                return
        folder = frame.folder
        if frame.virtual is not None:
            placed = self._place(frame.virtual + entry.name)
            if placed is None:
                only = _Frame(folder, entry, selection, path + b"/", whole=False)
                only.entered, only.virtual = True, frame.virtual + entry.name + b"/"
                self._stack.append(only)
                return
            folder, entry.name = placed
        if entry.kind == DIRECTORY:
            if len(self._stack) >= MAX_DEPTH:
                self._on_damage(folder.child_path(entry.name), "directories are nested too deeply")
                return
            taken = verdict is Verdict.TAKE and selection is None
            below = Folder(folder, entry.name) if entry.name else folder
            prefix = path + b"/" if self._filter is not None else b""
            self._stack.append(_Frame(below, entry, selection, prefix, whole=taken))
            if taken:
                yield from self._announce()
        elif verdict is Verdict.TAKE:
            if not frame.entered:
                yield from self._announce()
            if not frame.dead:
                yield Met(Step.LEAF, folder, entry)

    def _announce(self) -> Iterator[Met]:
        """Enter every directory on the way that was not entered yet, from the top."""
        for number, frame in enumerate(self._stack):
            if frame.entered:
                continue
            frame.entered = True
            yield Met(Step.ENTER, frame.folder, frame.entry, frame.whole)
            if self._skipped:
                self._skipped = False
                for dead in self._stack[number:]:
                    dead.dead = dead.entered = True
                return

    def _next(self, frame: _Frame) -> Entry | None:
        """The next entry of a directory, or None at its end or where it becomes unreadable."""
        try:
            if frame.rows is None:
                frame.rows = self._rows(frame)
            return next(frame.rows, None)
        except (IntegrityError, ObjectNotFound) as exc:
            frame.whole = False
            self._on_damage(frame.folder.path, exc.message)
            return None

    def _rows(self, frame: _Frame) -> Iterator[Entry]:
        def load(chunk: ChunkId) -> bytes:
            data = self._load(chunk)
            self._held += len(data) - frame.held
            frame.held = len(data)
            if self._held > MAX_HELD_BYTES:
                self._park()
            return data

        tree = frame.entry.tree
        if tree is None:
            raise CorruptObject("a directory without a tree")
        passed = frame.last
        for entry in read_tree(load, tree):
            if entry.name > passed:
                frame.last = entry.name
                yield entry

    def _park(self) -> None:
        """Let go of the outermost pages; their directories are read again from where they were."""
        for frame in self._stack[:-1]:
            if frame.held:
                self._held -= frame.held
                frame.held = 0
                frame.rows = None
                if self._held <= MAX_HELD_BYTES // 2:
                    return
