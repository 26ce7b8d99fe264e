"""What a prune would do: steps M1 to M3. Reads and changes nothing.

Whatever is chosen here affects cost and never safety: plans are carried out by what the store says then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from dedupstore.cancel import CancelToken
from dedupstore.codec.block import BASED
from dedupstore.engine.evacuate import directory_of
from dedupstore.engine.liveness import ChunkBits, Marker
from dedupstore.engine.prune_needed import Needed
from dedupstore.engine.prune_roots import Roots, survey_roots
from dedupstore.engine.prune_survey import Survey, survey
from dedupstore.errors import IntegrityError, StoreError, StoreGone
from dedupstore.events import Finding, Listener
from dedupstore.repo.catalog import UNDO_WINDOW_SECONDS
from dedupstore.repo.directory import BASE_BYTES, BLOCK_BYTES, CHUNK_BYTES
from dedupstore.repo.gcplan import Plan
from dedupstore.repo.index import Index, PackRow
from dedupstore.repo.pack_name import PackName
from dedupstore.repo.packer import size_of_packs
from dedupstore.repo.repository import Repository
from dedupstore.repo.writer import WriterSettings
from dedupstore.types import Kind
from dedupstore.units import format_number

SECOND_NS = 10**9
DAY_NS = 24 * 3600 * SECOND_NS

MAX_WASTE = 0.05
"""Packs are rewritten until at most this share of what is needed is wasted beside it, the worst first."""

SMALL_SHARE = 4
"""A pack is small below a quarter of the size of a full one."""

REKEY_CREATOR = "dedup key rekey"
"""Who says so in the plans of a rekey."""

MANY_SMALL = 16
"""So many small packs of one kind are merged. Fewer stay: each prune would write them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions:
    """Times in nanoseconds, sizes in bytes."""

    grace_ns: int = DAY_NS
    """How long a plan waits before it is carried out, and how long a pack nobody needs yet is taken for a new one."""

    undo_window_ns: int = UNDO_WINDOW_SECONDS * SECOND_NS
    max_repack: int | None = None
    """How much may be written again; packs that nobody needs go in any case."""

    rekey: bool = False
    """Not to free space: packs under earlier keys are chosen, and no others, and such plans are carried out at once."""


class Reason(Enum):
    """Why a pack is chosen."""

    DEAD = "nothing in it is needed"
    OLD_KEY = "written under earlier keys"
    DAMAGED = "damaged, and nothing is lost with it"
    SPARSE = "much of it is not needed"
    SMALL = "small, merged with others"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A pack to go, and how many of its bytes have to move."""

    row: PackRow
    needed: int
    directory: int
    """Bytes that the directories of new packs need for what moves."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A plan that is there already."""

    key: str
    packs: int
    bytes: int
    due_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """Everything a prune would do. Run it once: the next one starts from a new plan."""

    roots: Roots
    choices: tuple[Choice, ...]
    waiting: tuple[Waiting, ...]
    orphans: tuple[tuple[PackName, int], ...]
    """Name and size of packs that a run left without an index, long enough ago."""

    packs: int
    """All that are no plan's yet."""

    bytes: int
    """What they take up."""

    young: int
    """Packs that nobody needs and that may belong to a snapshot being made."""

    bytes_written: int
    """What moves will take up in new packs, with directories and padding, near enough."""

    @property
    def bytes_going(self) -> int:
        return sum(choice.row.size for choice in self.choices) + sum(size for _, size in self.orphans)

    @property
    def bytes_moving(self) -> int:
        return sum(choice.needed for choice in self.choices)

    @property
    def bytes_free(self) -> int:
        """What the choices will free, near enough."""
        return max(0, self.bytes_going - self.bytes_written)

    def count(self, reason: Reason) -> int:
        return sum(choice.reason is reason for choice in self.choices)


def plan_prune(repository: Repository, options: PruneOptions, *, listener: Listener, cancel: CancelToken) -> PrunePlan:
    """Raises IntegrityError, with nothing written, when a root, a manifest or a listing cannot be trusted."""
    try:
        return _plan(repository, options, listener, cancel)
    except IntegrityError:
        # Another sweeper may have moved what was about to be read; twice in a row it is damaged.
        return _plan(repository, options, listener, cancel)


def _plan(repository: Repository, options: PruneOptions, listener: Listener, cancel: CancelToken) -> PrunePlan:
    roots = survey_roots(repository, options.undo_window_ns)
    # After the roots: what they refer to was indexed before they were published.
    seen = survey(repository)
    needed = Needed(repository.index, seen)
    # What is missing is asked for only where something is: it costs a look at every chunk.
    on_lost = needed.missing if seen.lost else None
    Marker(repository, seen.present, needed.chunk, listener, cancel, on_lost=on_lost, bad=seen.bad).mark(roots.kept)
    needed.add_bases()
    rows = [row for row in repository.index.packs() if row.no in seen.safe]
    now_ns = repository.clock.now_ns()
    young = {no for no, when in seen.modified_ns.items() if now_ns - options.grace_ns < when}
    epoch = repository.keyring.epoch
    pinned = True
    while pinned:
        usage = [_use(repository.index, row, needed.copies) for row in rows]
        choices: tuple[Choice, ...]
        if options.rekey:
            choices = _choose_old(usage, young, epoch, options.max_repack, needed)
        else:
            choices = (
                *_lost(repository.index, seen, needed),
                *_choose([use for use in usage if use.row.no not in young], repository, options, seen, needed),
            )
        # Each round keeps more, until nothing that goes is leant on.
        pinned = needed.add_pinned(repository, rows, {choice.row.no for choice in choices})
    if roots.doubted:
        listener.finding(_doubted(roots))
    return PrunePlan(
        roots=roots,
        choices=choices,
        waiting=_waiting(seen, repository, options),
        orphans=() if options.rekey else _orphans(seen, now_ns - options.grace_ns),
        packs=len(rows),
        bytes=sum(row.size for row in rows),
        young=sum(use.needed == 0 for use in usage if use.row.no in young and _is_asked_for(use.row, options, epoch)),
        bytes_written=_written(choices, _full_sizes(repository)),
    )


def _doubted(roots: Roots) -> Finding:
    days = format_number(roots.pause_ns // DAY_NS, "day")
    message = (
        f"{format_number(len(roots.doubted), 'snapshot')} forgotten before a long pause can still be brought back: by this "
        f"clock nothing was written here for {days}; is it right? They go when the time to undo it has passed once more, "
        "or at once: dedup prune --undo-window 0"
    )
    return Finding(code="prune.clock", message=message, severity="note")


def _full_sizes(repository: Repository) -> dict[Kind, int]:
    """How large a pack may become."""
    return {Kind.DATA: repository.config.pack_bytes, Kind.MANIFEST: WriterSettings().manifest_pack}


def _written(choices: Sequence[Choice], full: dict[Kind, int]) -> int:
    def of(kind: Kind) -> int:
        moving = [choice for choice in choices if choice.row.kind is kind]
        needed, directory = sum(choice.needed for choice in moving), sum(choice.directory for choice in moving)
        return size_of_packs(needed, directory, full[kind])

    return sum(map(of, Kind))


@dataclass(frozen=True, slots=True)
class _Use:
    row: PackRow
    used: int
    """Bytes of all its blocks."""

    needed: int
    """Bytes of what would be moved."""

    directory: int
    """Bytes that directories need for that."""

    @property
    def wasted(self) -> int:
        return self.used - self.needed

    def going(self, reason: Reason) -> Choice:
        return Choice(row=self.row, needed=self.needed, directory=self.directory, reason=reason)


def _use(index: Index, row: PackRow, copies: ChunkBits) -> _Use:
    used = needed = directory = 0
    for block_no, block in enumerate(index.blocks(row.no)):
        used += block.stored
        kept = copies.positions(row.no, block_no)
        if kept and block.codec in BASED:
            # It moves as it is.
            needed += block.stored
            directory += BLOCK_BYTES + CHUNK_BYTES * len(block.lengths) + BASE_BYTES * len(block.bases)
        elif kept:
            # Not rounded down to nothing: what nobody needs is deleted by plans that need no room.
            needed += max(1, block.stored * sum(block.lengths[position] for position in kept) // block.raw)
            directory += BLOCK_BYTES + CHUNK_BYTES * len(kept)
    return _Use(row, used, needed, directory)


def _lost(index: Index, seen: Survey, needed: Needed) -> list[Choice]:
    """Packs that are gone, are known to be, and of which nothing is missed: the record of this prune explains them."""
    rows = [index.pack(no) for no in sorted(seen.lost - needed.missed)]
    return [Choice(row=row._replace(size=0), needed=0, directory=0, reason=Reason.DEAD) for row in rows]


def _choose(
    usage: Sequence[_Use], repository: Repository, options: PruneOptions, seen: Survey, needed: Needed
) -> tuple[Choice, ...]:
    chosen = [use.going(Reason.DEAD) for use in usage if not use.needed]
    alive = [use for use in usage if use.needed and use.row.no not in needed.irreplaceable]
    budget = options.max_repack
    wasted, kept = sum(use.wasted for use in alive), sum(use.needed for use in alive)
    moving: set[int] = set()
    damaged = set(seen.bad.packs())
    for use in alive:
        # First of all, whatever is wasted: what is left in it should lie in a pack that its name proves.
        if use.row.no not in damaged or not _is_described(repository, use.row):
            continue
        if budget is not None:
            if use.needed > budget:
                continue
            budget -= use.needed
        wasted -= use.wasted
        moving.add(use.row.no)
        chosen.append(use.going(Reason.DAMAGED))
    alive = [use for use in alive if use.row.no not in damaged]
    for use in sorted(alive, key=lambda use: use.wasted / use.used, reverse=True):
        if not use.wasted or wasted <= kept * MAX_WASTE:
            break
        if budget is not None:
            if use.needed > budget:
                continue
            budget -= use.needed
        wasted -= use.wasted
        moving.add(use.row.no)
        chosen.append(use.going(Reason.SPARSE))
    for use in _small(repository, [use for use in alive if use.row.no not in moving], budget):
        chosen.append(use.going(Reason.SMALL))
    return tuple(chosen)


def _is_asked_for(row: PackRow, options: PruneOptions, epoch: int) -> bool:
    return row.epoch < epoch or not options.rekey


def _choose_old(
    usage: Sequence[_Use], young: set[int], epoch: int, max_repack: int | None, needed: Needed
) -> tuple[Choice, ...]:
    """Packs of earlier epochs, the oldest first; one at least of those that move, however little may be written.

    Left are those with a damaged copy of what is nowhere else, and those that nobody needs yet.
    """
    chosen: list[Choice] = []
    moved = 0
    for use in usage:
        if use.row.epoch >= epoch or use.row.no in needed.irreplaceable:
            continue
        if not use.needed:
            if use.row.no not in young:
                chosen.append(use.going(Reason.DEAD))
        elif max_repack is None or not moved or moved + use.needed <= max_repack:
            moved += use.needed
            chosen.append(use.going(Reason.OLD_KEY))
    return tuple(chosen)


def _is_described(repository: Repository, row: PackRow) -> bool:
    """Whether it can still be said which chunks a damaged pack holds: those that move are found by that."""
    try:
        directory_of(repository, row)
    except StoreGone:
        raise
    except (IntegrityError, StoreError):
        return False
    return True


def _small(repository: Repository, usage: Sequence[_Use], budget: int | None) -> list[_Use]:
    """Many small packs of a kind. Too few to be worth it are none."""
    full = _full_sizes(repository)
    by_kind: dict[Kind, list[_Use]] = defaultdict(list)
    for use in sorted(usage, key=lambda use: use.row.size):
        if use.row.size * SMALL_SHARE > full[use.row.kind]:
            continue
        if budget is not None:
            if use.needed > budget:
                continue
            budget -= use.needed
        by_kind[use.row.kind].append(use)
    return [use for uses in by_kind.values() if len(uses) >= MANY_SMALL for use in uses]


def _orphans(seen: Survey, until_ns: int) -> tuple[tuple[PackName, int], ...]:
    condemned = {pack for plan in seen.plans.values() for pack in plan.packs}
    return tuple(
        (name, size) for name, size, when in seen.unindexed if name.id not in condemned and not when > until_ns
    )


def due_ns(condemned: Plan, options: PruneOptions, now_ns: int) -> int:
    """When a plan may be carried out. One that says it is of the day after tomorrow was made by a wrong clock: now."""
    ours = options.rekey and condemned.creator == REKEY_CREATOR
    if ours or options.grace_ns == 0 or condemned.time_ns > now_ns + 2 * DAY_NS:
        return now_ns
    return condemned.time_ns + options.grace_ns


def _waiting(seen: Survey, repository: Repository, options: PruneOptions) -> tuple[Waiting, ...]:
    found = []
    for key, plan in sorted(seen.plans.items()):
        numbers = [repository.index.pack_no(pack) for pack in plan.packs]
        present = [no for no in numbers if no is not None and no in seen.present]
        found.append(
            Waiting(
                key=key,
                packs=len(present),
                bytes=sum(repository.index.pack(no).size for no in present),
                due_ns=due_ns(plan, options, repository.clock.now_ns()),
            )
        )
    return tuple(found)
