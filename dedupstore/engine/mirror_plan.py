"""What a mirror lacks, has too much, and has otherwise: two listings compared, nothing read, nothing changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from dedupstore.errors import Refused, RepositoryNotFound
from dedupstore.events import Finding
from dedupstore.repo import layout
from dedupstore.repo.identity import identify
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import RepositoryId
from dedupstore.units import format_id

Sizes = dict[str, int]
"""Objects of one listing: size by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorOptions:
    """How to mirror. With `delete`, what the source no longer has goes from the target, too."""

    delete: bool = False
    despite_damage: bool = False
    """Show new snapshots although an object they may need could not be copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorPlan:
    """What is to be copied and deleted, as two listings say. Sizes in bytes.

    `roots` and `snapshots` (markers) were listed before everything they refer to: what one of these names was stored
    by then. So packs and segments may be listed later and again, and are never listed too early.
    """

    repository: RepositoryId
    fresh: bool
    """The target is no repository yet."""

    heads: tuple[ObjectInfo, ...]
    """Key slots and configs that are to be copied."""

    roots: tuple[ObjectInfo, ...]
    snapshots: tuple[ObjectInfo, ...]
    forgotten: tuple[ObjectInfo, ...]
    marks: tuple[ObjectInfo, ...]
    """Of snapshots that the target shows or is to show."""

    marks_begin: bool
    """The source has `marks/` and the target does not: its sentinels come first."""

    marks_lost: bool
    """The target has marks, and the source has no `marks/` at all any more."""

    done: tuple[ObjectInfo, ...]
    """Records of prunes of the source: by them pruned packs can be told from lost ones."""

    delete: tuple[ObjectInfo, ...]
    """In the order in which they go: markers, records, marks, segments, packs, key slots."""

    objects: int
    size: int
    """How many objects, and bytes, are to be copied."""

    slots_left: int
    """Key slots that only the target has: they still open it."""

    @property
    def delete_size(self) -> int:
        return sum(row.size for row in self.delete)

    @property
    def snapshots_deleted(self) -> int:
        return sum(row.key.startswith(layout.COMMITS) for row in self.delete)


def _heads(source: ObjectStore) -> tuple[Sizes, Sizes]:
    """Key slots and configs that belong together: a rotation of the keys puts slots, then a config, and deletes slots."""
    configs = listed(source, layout.CONFIG)
    while True:
        slots = listed(source, layout.KEYS)
        before, configs = configs, listed(source, layout.CONFIG)
        if configs == before:
            return slots, configs


def plan_mirror(source: ObjectStore, target: ObjectStore, options: MirrorOptions) -> MirrorPlan:
    """Compare two stores. Raises Refused for a target that is something else, RepositoryNotFound for no source.

    The listings of the source come in the order opposite to that of writing, see `MirrorPlan`.
    """
    repository = identify(source)
    fresh = _is_fresh(target, repository)
    commits, roots, forgotten, segments, packs = (
        listed(source, prefix)
        for prefix in (
            layout.COMMITS,
            layout.ROOTS,
            layout.FORGOTTEN,
            layout.INDEX,
            layout.PACKS,
        )
    )
    slots, configs = _heads(source)
    # What was forgotten while the rest was listed may be pruned already: the packs it needs are not those listed.
    commits = {key: size for key, size in listed(source, layout.COMMITS).items() if key in commits}
    if not fresh:
        require_unpruned(source, target)
    marks = layout.list_if_there(source, layout.MARKS)
    marked = None if fresh else layout.list_if_there(target, layout.MARKS)
    done = done_records(source)
    there = (
        _everything(target)
        if fresh
        else {key: size for prefix in _SEEN for key, size in listed(target, prefix).items()} | _sizes(marked or [])
    )
    if fresh:
        _require_own(target, there, {**slots, **configs})
    else:
        _require_same_configs(target, there, configs)
    wanted_roots = {key: size for key, size in roots.items() if _is_wanted(key, commits, forgotten, options)}
    # A mark that was made before its snapshot was listed is listed here: marks were listed after markers.
    shown = {*commits, *_below(there, layout.COMMITS)}
    wanted_marks = {key: size for key, size in _sizes(marks or []).items() if _commit_of_mark(key) in shown}
    wanted = {**configs, **slots, **packs, **segments, **wanted_roots, **commits, **wanted_marks, **done}
    if options.delete:
        wanted |= forgotten
    missing = {key: size for key, size in wanted.items() if key not in there}
    alive = {name.partition("/")[2] for name in (*roots, *commits, *forgotten)}
    extra = _extra(there, {**wanted, **forgotten}, alive) if options.delete else ()
    if extra and not commits:
        raise _would_empty(source, target)
    return MirrorPlan(
        repository=repository,
        fresh=fresh,
        heads=rows_of({**slots, **configs}, missing),
        roots=rows_of(wanted_roots, missing),
        snapshots=rows_of(commits, missing),
        forgotten=rows_of(forgotten, missing),
        marks=rows_of(wanted_marks, missing),
        marks_begin=marks is not None and marked is None,
        marks_lost=marks is None and bool(marked),
        done=rows_of(done, missing),
        delete=extra,
        objects=len(missing),
        size=sum(missing.values()),
        slots_left=0 if options.delete else len(set(_below(there, layout.KEYS)) - set(slots)),
    )


_SEEN = (
    layout.COMMITS,
    layout.ROOTS,
    layout.FORGOTTEN,
    layout.INDEX,
    layout.PACKS,
    layout.KEYS,
    layout.CONFIG,
    layout.GC,
)
_DELETED = (layout.COMMITS, layout.FORGOTTEN, layout.ROOTS, layout.MARKS, layout.INDEX, layout.PACKS, layout.KEYS)


def listed(store: ObjectStore, prefix: str) -> Sizes:
    """The objects under a prefix by name. Raises IncompleteListing."""
    return _sizes(layout.list_complete(store, prefix))


def done_records(store: ObjectStore) -> Sizes:
    """The records of prunes that were carried out. Plans and the like are about one place and stay there."""
    return {key: size for key, size in listed(store, layout.GC).items() if layout.parse_gc_key(key)[0] == "done"}


def require_unpruned(source: ObjectStore, target: ObjectStore) -> None:
    """Raise Refused when somebody has condemned or pruned packs of the target itself.

    What was pruned there would come back under its old name, and may be deleted again by a prune that has looked
    before. Records of prunes that came with a mirror are in the source, too, and are listed there later.
    """
    own = [key for key in listed(target, layout.GC) if layout.parse_gc_key(key)[0] in ("plan", "done")]
    there = done_records(source)
    if any(key not in there for key in own):
        raise Refused(
            f"{target.url} has gone its own way",
            why="it was pruned itself, so its packs are no longer those of the repository",
            hints=[
                "mirror to an empty place",
                "a mirror shrinks with its repository: prune that, then dedup mirror --delete",
            ],
            code="mirror.diverged",
        )


def rows_of(group: Sizes, missing: Sizes) -> tuple[ObjectInfo, ...]:
    return tuple(ObjectInfo(key, size) for key, size in sorted(group.items()) if key in missing)


def conflicts(source: Sizes, target: Sizes) -> list[Finding]:
    """Objects of one name and two sizes: one of them is cut or foreign, and none is overwritten."""
    return [
        Finding(
            code="mirror.conflict",
            message=f"{key} has {target[key]} bytes in the mirror and {size} in the repository; it is not overwritten",
            severity="error",
        )
        for key, size in source.items()
        if target.get(key, size) != size
    ]


def _is_fresh(target: ObjectStore, repository: RepositoryId) -> bool:
    try:
        found = identify(target)
    except RepositoryNotFound:
        return True
    if found != repository:
        raise Refused(
            f"{target.url} holds another repository",
            why=f"{found.hex()} there, {repository.hex()} here; a mirror is the same repository at another place",
            hints=["name an empty place", f"or copy snapshots between the two: dedup copy --to {target.url}"],
            code="mirror.other_repository",
        )
    return False


def _everything(target: ObjectStore) -> Sizes:
    return {row.key: row.size for row in target.list("") if row.key not in layout.SENTINELS}


def _require_own(target: ObjectStore, there: Sizes, heads: Sizes) -> None:
    """A place without FORMAT holds nothing, or what a mirror that was stopped had put before FORMAT."""
    if any(heads.get(key) != size for key, size in there.items()):
        raise Refused(
            f"{target.url} is not empty",
            why="something lies there that is no part of this repository",
            hints=["choose another place; nothing was changed"],
            code="mirror.not_empty",
        )


def _require_same_configs(target: ObjectStore, there: Sizes, configs: Sizes) -> None:
    """Two configs with one number are an error of every reader: never make a second one."""
    ours = {layout.parse_config_key(key)[0]: key for key in configs}
    for key in _below(there, layout.CONFIG):
        if ours.get(layout.parse_config_key(key)[0]) != key:
            raise Refused(
                f"{target.url} has gone its own way",
                why=f"its {key} is not that of the repository: somebody has changed the mirror itself",
                hints=["mirror to an empty place; nothing was changed"],
                code="mirror.diverged",
            )


def _is_wanted(key: str, commits: Sizes, forgotten: Sizes, options: MirrorOptions) -> bool:
    """Records of runs that are not finished stay where they are: without their marker they would be of no use."""
    name = key.removeprefix(layout.ROOTS)
    return layout.COMMITS + name in commits or (options.delete and layout.FORGOTTEN + name in forgotten)


def _extra(there: Sizes, wanted: Sizes, alive: Set[str]) -> tuple[ObjectInfo, ...]:
    """What only the target has. A mark goes with its snapshot and never before: it may protect it."""
    return tuple(
        ObjectInfo(key, there[key])
        for prefix in _DELETED
        for key in sorted(_below(there, prefix))
        if key not in wanted and not (prefix == layout.MARKS and _name_of_mark(key) in alive)
    )


def _name_of_mark(key: str) -> str:
    return format_id(layout.parse_mark_key(key)[0])


def _commit_of_mark(key: str) -> str:
    return layout.COMMITS + _name_of_mark(key)


def _sizes(rows: Iterable[ObjectInfo]) -> Sizes:
    return {row.key: row.size for row in rows}


def _below(sizes: Sizes, prefix: str) -> Sequence[str]:
    return [key for key in sizes if key.startswith(prefix)]


def _would_empty(source: ObjectStore, target: ObjectStore) -> Refused:
    return Refused(
        f"{source.url} has no snapshot, and {target.url} would lose what it has",
        why="--delete makes the mirror what the repository is, and an emptied repository is rarely meant",
        hints=["leave out --delete"],
        code="mirror.would_empty",
    )
