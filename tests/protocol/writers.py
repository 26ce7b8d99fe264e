"""The writers of the protocol, step by step: who does the same in the program stands beside each.

`options` of the world name rules that are left out: each must lead to a lost chunk, or it is no rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

from tests.protocol.world import Block, Local, State, Step, World, combine, full

MAX_LOOKS = 2
"""So often does a hasty writer look again before it stops."""


class Writer:
    """A writer at liberty: it may use any copy there is at W2, and looks at every chunk at W5.

    `repo.commit.SnapshotCommitter` on its long way; `again` counts looks.
    """

    def __init__(self, world: World, name: str, want: str, bases: str = "", *, crashes: bool = False) -> None:
        self.world, self.name, self.want, self.bases, self.crashes = world, name, want, bases, crashes
        self.snapshot = 1 << len(world.snapshots)
        world.snapshots.append(want)
        self.start: Local = ("look",)

    def __call__(self, local: Local, state: State) -> Iterator[Step]:
        world, options = self.world, self.world.options
        match local:
            case ("look",):
                yield from self._encode(state)
            case ("put", str(name), tuple(blocks), *rest):
                pack = world.pack(name, blocks)
                yield f"W3 PUT pack {name}", ("segment", pack, *rest), state.put(pack)
            case ("segment", int(pack), str(then), int(known)):
                after = self._after(then, known | pack)
                yield "W3 PUT segment", after, state._replace(index=state.index | pack)
            case ("root", int(known)):
                after = ("commit",) if "no look at W5" in options else ("gc", known, 0)
                yield "W4 PUT root", after, state._replace(roots=state.roots | self.snapshot)
            case ("late root",):
                yield "W4 PUT root, too late", ("commit",), state._replace(roots=state.roots | self.snapshot)
            case ("gc", int(known), int(again)):
                out = state.condemned | (0 if "bad copies count at W5" in options else state.bad)
                yield "W5 LIST gc", ("packs", known, again, out), judged(world, state, self.snapshot)
            case ("packs", int(known), int(again), int(out)):
                yield from self._look_again(state, known, again, out)
            case ("commit",):
                changed = state._replace(acked=state.acked | self.snapshot, roots=state.roots | self.snapshot)
                yield "W6 PUT commit", ("end",), changed

    def _after(self, then: str, known: int) -> Local:
        if then == "root" and "look before root" in self.world.options:
            return ("gc", known, 0)
        if then.startswith("again "):
            return ("gc", known, int(then.removeprefix("again ")))
        return (then, known) if then == "root" else (then,)

    def _encode(self, state: State) -> Iterator[Step]:
        """W1, W2: each chunk is there, or stored in full, or as a delta of a base with a full copy."""
        world = self.world
        for pick in product(*[self._encodings(chunk, state.index) for chunk in self.want]):
            blocks = tuple(sorted(block for block in pick if block))
            new = {block.chunks for block in blocks if not block.bases}
            if not all(world.full[base] & state.index or base in new for block in blocks for base in block.bases):
                continue
            if blocks:
                yield "W1 LIST", ("put", self.name, blocks, "end" if self.crashes else "root", state.index), state
            elif not self.crashes:
                yield "W1 LIST; all is there", self._after("root", state.index), state

    def _encodings(self, chunk: str, known: int) -> Iterator[Block | None]:
        if self.world.has_copy(chunk, known):
            yield None
        yield Block("", chunk)
        for base in self.bases:
            if base != chunk and (self.world.full[base] & known or base in self.want):
                yield Block(base, chunk)

    def _look_again(self, state: State, known: int, again: int, out: int) -> Iterator[Step]:
        """W5: what is not usable from safe packs is stored again; in full, or else the look is repeated."""
        options = self.world.options
        safe = known & ~out & (-1 if "no LIST packs at W5" in options else state.packs)
        present = state.packs & state.index & ~self.world.rotten
        for blocks, final in self._store_again(safe, present, again):
            if not blocks:
                after: Local = ("late root",) if "look before root" in options else ("commit",)
                yield "W5 LIST packs; all is safe", after, state
                continue
            then = f"again {again + 1}"
            if final or "no second look" in options:
                then = "late root" if "look before root" in options else "commit"
            kind = "deltas" if any(block.bases for block in blocks) else "in full"
            yield f"W5 LIST packs; stored again {kind}", ("put", f"{self.name}r{again}", blocks, then, known), state

    def _store_again(self, safe: int, present: int, again: int) -> list[tuple[tuple[Block, ...], bool]]:
        world, options = self.world, self.world.options
        depth = 2 if "bases of bases count" in options else None
        missing = [
            chunk
            for chunk in self.want
            if not (
                world.has_copy(chunk, safe) if "bases do not count" in options else world.usable(chunk, safe, depth)
            )
        ]
        ways: list[list[tuple[Block, ...]]] = []
        for chunk in missing:
            ways.append([full(chunk)])
            if again:
                continue
            for bit, bases in world.deltas[chunk]:
                lost = world.lost_bases(bases, safe)
                if bit & safe and lost and all(world.usable(base, present) for base in lost):
                    ways[-1].append(full(lost))
            ways[-1] += [(Block(base, chunk),) for base in self.bases if base != chunk and world.full[base] & safe]
        return [(blocks, all(Block("", chunk) in blocks for chunk in missing)) for blocks in combine(ways)]


class View(NamedTuple):
    """What a hasty writer saw: `repo.view.View`. A pack of which some is bad is usable, and the chunk in it is not."""

    usable: int
    whole: bool
    """Nothing is lost, condemned or known to be bad."""

    pruned: bool
    """There ever was a prune."""

    bad: int

    @property
    def good(self) -> int:
        return self.usable & ~self.bad


class HastyWriter:
    """The writer as it is, with its short cuts: `engine.snapshot`, `repo.view`, `repo.commit._untouched`.

    Takes over a parent (snapshot 0) without a look where the view is whole, uses chunks without asking for their bases
    where nothing was ever pruned, and goes past W5 where no pack that was usable has gone.
    """

    def __init__(self, world: World, name: str, want: str) -> None:
        self.world, self.name, self.want = world, name, want
        self.snapshot = 1 << len(world.snapshots)
        world.snapshots.append(want)
        self.start: Local = ("parent",)

    def __call__(self, local: Local, state: State) -> Iterator[Step]:
        match local:
            case ("parent",):
                # The list of snapshots: is there a parent?
                yield "W1 LIST commits", ("gc", 0, state.acked & 1), state
            case ("gc", int(turn), *rest):
                seen = (state.condemned, state.bad, state.done)
                after = judged(self.world, state, self.snapshot) if turn else state
                yield f"W{1 if not turn else 5} LIST gc", ("index", turn, *rest, *seen), after
            case ("index", int(turn), *rest):
                yield "LIST index", ("packs", turn, *rest, state.index), state
            case ("packs", 0, int(parent), *seen):
                yield "W1 LIST packs", ("parent again", parent, self._view(state, *seen)), state
            case ("parent again", int(parent), View() as view):
                yield from self._store(state, bool(parent), view)
            case ("put", tuple(blocks), int(turn), View() as view):
                pack = self.world.pack(f"{self.name}.{turn}", blocks)
                yield "W3 PUT pack", ("segment", pack, turn, view), state.put(pack)
            case ("segment", int(pack), int(turn), View() as view):
                then: Local = ("root",) if not turn else ("gc", turn + 1)
                after = (*then, view._replace(usable=view.usable | pack))
                yield "W3 PUT segment", after, state._replace(index=state.index | pack)
            case ("root", View() as view):
                yield "W4 PUT root", ("gc", 1, view), state._replace(roots=state.roots | self.snapshot)
            case ("packs", int(turn), View() as before, *seen):
                yield from self._look_again(state, turn, before, self._view(state, *seen))
            case ("commit",):
                if state.roots & self.snapshot:
                    yield "W6 PUT commit", ("end",), state._replace(acked=state.acked | self.snapshot)

    def _view(self, state: State, condemned: int, bad: int, done: int, index: int) -> View:
        lost = index & ~state.packs & ~done
        if "pruned by a later record" in self.world.options:
            lost = index & ~state.packs & ~state.done
        worse = bad & state.packs and "the short cut goes past damage" not in self.world.options
        whole = not (lost or condemned or worse)
        return View(index & state.packs & ~condemned, whole, bool(done), bad & state.packs)

    def _store(self, state: State, parent: bool, view: View) -> Iterator[Step]:
        options = self.world.options
        if view.pruned and not state.roots & 1 and "parent not looked at again" not in options:
            parent = False
        closed = view.whole and (not view.pruned or "pruned is as good as never" in options)
        missing = [
            chunk
            for chunk in self.want
            if not (parent and view.whole and chunk in self.world.snapshots[0])
            and not (self.world.has_copy(chunk, view.good) if closed else self.world.usable(chunk, view.good))
        ]
        if missing:
            yield "W2 stores", ("put", full(missing), 0, view), state
        else:
            yield "W2 all is there", ("root", view), state

    def _look_again(self, state: State, turn: int, before: View, view: View) -> Iterator[Step]:
        options = self.world.options
        untouched = before.whole and view.whole
        if "packs may go" not in options:
            untouched = untouched and not before.usable & ~view.usable
        if "the first prune is like any" not in options:
            untouched = untouched and (before.pruned or not view.pruned)
        missing = [chunk for chunk in self.want if not self.world.usable(chunk, view.good)]
        if (turn == 1 and untouched) or not missing:
            yield "W5 all is safe" if not untouched else "W5 untouched", ("commit",), state
        elif turn <= MAX_LOOKS and all(
            self.world.usable(chunk, state.packs & state.index & ~self.world.rotten) for chunk in missing
        ):
            yield "W5 stores again", ("put", full(missing), turn, view), state
        else:
            yield "W5 gives up", ("end",), state


def judged(world: World, state: State, snapshots: int) -> State:
    """Whoever judges by this listing of gc knows what is rotten, or is excused."""
    excused = snapshots if world.rotten & ~state.bad else 0
    return state._replace(excused=state.excused & ~snapshots | excused)
