"""A small world of packs, snapshots and plans, in which every interleaving of writers and pruners is tried.

The store offers LIST, PUT and DELETE, each at once or not at all; a step of a process is exactly one of them. A crash is
a process that takes no step any more, so what holds in every state that can be reached holds after every crash.

A chunk is a letter. A block is full, or a delta that names its bases by their letters: it can be read where every base
has a full copy. What a snapshot consists of is a string of chunks. Sets are bit masks: bit i of `packs`, `index`, ... is
pack i, bit i of `roots` and `acked` is snapshot i. Snapshot 0 is being forgotten by `forgetter`; 1 is kept.

A pack may be rotten: it is listed, and nothing can be read of it. Who looks before a check has written that down counts on
it, and is excused: that is damage. From then on nobody may.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

Local = tuple[Any, ...]
"""What one process knows: first its next step, then whatever it has seen."""

Step = tuple[str, Local, "State"]
Process = Callable[[Local, "State"], Iterator[Step]]


class Block(NamedTuple):
    bases: str
    chunks: str


class Plan(NamedTuple):
    """Condemned packs. Of a marker that marks: the roots that it marked."""

    packs: int
    marked: int = 0


class State(NamedTuple):
    packs: int
    born: int
    """Packs that ever existed: no name is used twice."""

    index: int
    """Packs that a durable segment describes."""

    roots: int
    acked: int
    """Snapshots that exist for their owner: acknowledged, and not forgotten."""

    done: int
    """Packs that some done record names."""

    plans: tuple[Plan | None, ...]
    locals: tuple[Local, ...]
    bad: int = 0
    """Packs that a record of damage names."""

    excused: int = 0
    """Snapshots that were judged while no record named what is rotten."""

    @property
    def condemned(self) -> int:
        mask = 0
        for plan in self.plans:
            mask |= plan.packs if plan else 0
        return mask

    def put(self, pack: int) -> State:
        return self._replace(packs=self.packs | pack, born=self.born | pack)


def full(chunks: Iterable[str]) -> tuple[Block, ...]:
    return tuple(Block("", chunk) for chunk in chunks)


SCENES: dict[str, tuple[dict[str, tuple[Block, ...]], str, str]] = {
    "delta": ({"pb": full("b"), "pc": (Block("b", "c"),)}, "b", "c"),
    "flat": ({"pb": full("b"), "pc": full("c")}, "b", "c"),
    "one pack": ({"pp": (*full("b"), Block("b", "c"))}, "b", "c"),
    "blocks": ({"pb": (Block("", "bx"),), "pc": (Block("b", "cd"),)}, "bd", "c"),
    "copies": ({"pb": full("b"), "pc": (Block("b", "c"),), "pf": full("c")}, "b", "c"),
    "two bases": ({"pa": full("a"), "pb": full("b"), "p1": (Block("a", "c"),), "p2": (Block("b", "c"),)}, "ab", "c"),
    "deep": ({"pa": full("a"), "pb": full("b"), "pd": (Block("a", "b"),), "pc": (Block("b", "c"),)}, "a", "bc"),
    "crossed": ({"pb": full("b"), "pc": full("c"), "p1": (Block("b", "c"),), "p2": (Block("c", "b"),)}, "b", "c"),
    "twice": ({"p1": full("c"), "p2": full("c"), "pb": full("b")}, "b", "c"),
    "base twice": ({"pb": full("b"), "pB": full("b"), "pc": (Block("b", "c"),)}, "b", "c"),
    "shared": ({"pb": full("b"), "pm": (*full("k"), Block("b", "c"))}, "bc", "k"),
}
"""Packs that are there and indexed at first; the chunks of snapshots 0 and 1."""


class World:
    """The packs of one exploration, by bit, and what can be read from which."""

    def __init__(self, scene: str, options: frozenset[str]) -> None:
        self.options = options
        self.depth = 9 if "chains of deltas" in options else 1
        self.names: list[str] = []
        self.blocks: dict[int, tuple[Block, ...]] = {}
        self.full: dict[str, int] = defaultdict(int)
        self.deltas: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._bits: dict[tuple[str, tuple[Block, ...]], int] = {}
        packs, first, second = SCENES[scene]
        if "all forgotten" in options:
            first, second = first + second, ""
        self.snapshots = ["" if "root is gone" in options else first, second]
        self.at_first = sum(self.pack(name, blocks) for name, blocks in packs.items())
        rotten = {name for option in options if option.startswith("rotten ") for name in option.split()[1:]}
        assert rotten <= packs.keys()
        self.rotten = sum(1 << number for number, name in enumerate(self.names) if name in rotten)

    def pack(self, name: str, blocks: tuple[Block, ...]) -> int:
        """The bit of a pack with this name and content."""
        key = ("" if "names are used again" in self.options else name, blocks)
        if key not in self._bits:
            bit = self._bits[key] = 1 << len(self.names)
            self.names.append(name)
            self.blocks[bit] = blocks
            for block in blocks:
                for chunk in block.chunks:
                    if block.bases:
                        self.deltas[chunk].append((bit, block.bases))
                    else:
                        self.full[chunk] |= bit
        return self._bits[key]

    def usable(self, chunk: str, packs: int, depth: int | None = None) -> bool:
        """Whether the chunk can be read from these packs alone."""
        left = self.depth if depth is None else depth
        if self.full[chunk] & packs:
            return True
        return left > 0 and any(
            bit & packs and all(self.usable(base, packs, left - 1) for base in bases)
            for bit, bases in self.deltas[chunk]
        )

    def has_copy(self, chunk: str, packs: int) -> bool:
        return bool(self.full[chunk] & packs) or any(bit & packs for bit, _ in self.deltas[chunk])

    def lost_bases(self, bases: str, safe: int) -> str:
        return "".join(base for base in bases if not self.full[base] & safe)

    def reached(self, roots: int) -> list[str]:
        return sorted(
            {chunk for number, chunks in enumerate(self.snapshots) if roots >> number & 1 for chunk in chunks}
        )

    def show(self, packs: int) -> str:
        return " ".join(name for number, name in enumerate(self.names) if packs >> number & 1)


def combine(options: Sequence[Sequence[tuple[Block, ...]]]) -> list[tuple[Block, ...]]:
    """Every way to take one of each, united."""
    return sorted({tuple(sorted({block for part in pick for block in part})) for pick in product(*options)})


class Exploration(NamedTuple):
    states: int
    lost: str
    """The chunk of an acknowledged snapshot that cannot be read any more; empty when there is none."""

    trace: list[str]
    """The shortest way there."""

    labels: frozenset[str]


def explore(
    world: World, start: State, processes: Sequence[tuple[str, Process]], *, alike_from: int, at_most: int = 2_000_000
) -> Exploration:
    """Breadth first. Processes from `alike_from` on are alike: their order does not matter."""
    numbers: dict[State, int] = {start: 0}
    order, parents = [start], [(-1, "")]
    labels: set[str] = set()

    @lru_cache(None)
    def unreadable(acked: int, packs: int) -> str:
        return "".join(chunk for chunk in world.reached(acked) if not world.usable(chunk, packs))

    at = 0
    while at < len(order):
        state = order[at]
        lost = unreadable(state.acked & ~state.excused, state.packs & state.index & ~world.rotten)
        if lost:
            return Exploration(len(order), lost, _trace(parents, at), frozenset(labels))
        for number, (name, steps) in enumerate(processes):
            local = state.locals[number]
            if local[0] == "end":
                continue
            for label, after, changed in steps(local, state):
                locals_ = (*state.locals[:number], after, *state.locals[number + 1 :])
                if number >= alike_from:
                    locals_ = locals_[:alike_from] + tuple(sorted(locals_[alike_from:]))
                found = changed._replace(locals=locals_)
                labels.add(label)
                if found not in numbers:
                    numbers[found] = len(order)
                    order.append(found)
                    parents.append((at, f"{name}: {label}"))
        at += 1
        assert len(order) <= at_most, "more states than this test is meant to visit"
    return Exploration(len(order), "", [], frozenset(labels))


def _trace(parents: list[tuple[int, str]], at: int) -> list[str]:
    lines = []
    while at >= 0:
        at, label = parents[at]
        lines.append(label)
    return lines[-2::-1]
