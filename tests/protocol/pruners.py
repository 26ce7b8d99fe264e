"""Who takes away, and who tells what is damaged: the other processes of the protocol, in the manner of `writers`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from tests.protocol.world import Block, Local, Plan, State, Step, World, combine, full

MAX_ROUNDS = 2
"""So often does a sweeper move something before it stops."""

LISTS = ("roots", "index", "gc", "packs", "index again")
"""`engine.prune._sweep_once`: E2, E3."""

WRONG_LISTS = {
    "gc before index": ("roots", "gc", "packs", "index", "index again"),
    "no second index": ("roots", "index", "gc", "packs"),
    "roots last": ("index", "gc", "packs", "index again", "roots"),
}


class Forgetter:
    """`dedup forget`, then the end of the undo window: `engine.prune_roots.expire_roots`."""

    def __init__(self, world: World) -> None:
        self.start: Local = ("forget",)

    def __call__(self, local: Local, state: State) -> Iterator[Step]:
        if local[0] == "forget" and state.acked & 1:
            yield "DELETE commits/0", ("expire",), state._replace(acked=state.acked & ~1)
        else:
            yield "DELETE roots/0", ("end",), state._replace(roots=state.roots & ~1)


class Marker:
    """`engine.prune.condemn`, M4. Blind: whatever it condemns, nothing may be lost."""

    start: Local = ("put",)

    def __init__(self, world: World, number: int, condemns: str) -> None:
        self.world, self.number, self.condemns = world, number, condemns

    def __call__(self, local: Local, state: State) -> Iterator[Step]:
        bits = [1 << number for number in range(len(self.world.names)) if state.packs >> number & 1]
        if self.condemns == "any":
            choices = [sum(some) for count in range(len(bits)) for some in combinations(bits, count + 1)]
        else:
            wanted = self.condemns.split()
            choices = [sum(b for b in bits if wanted == ["all"] or self.world.names[b.bit_length() - 1] in wanted)]
        for packs in filter(None, choices):
            plans = (*state.plans[: self.number], Plan(packs), *state.plans[self.number + 1 :])
            yield f"M4 PUT plan of {self.world.show(packs)}", ("end",), state._replace(plans=plans)


class Checker:
    """`engine.known_damage.record_damage`."""

    start: Local = ("check",)

    def __init__(self, world: World) -> None:
        self.rotten = world.rotten

    def __call__(self, local: Local, state: State) -> Iterator[Step]:
        yield "PUT bad", ("end",), state._replace(bad=self.rotten)


class Sweeper:
    """`engine.prune._sweep_once` with `engine.evacuate`: E1 to E7, over and over. Any number of them are alike."""

    start: Local = ("start", 0)

    def __init__(self, world: World) -> None:
        self.world = world
        self.lists = next((order for name, order in WRONG_LISTS.items() if name in world.options), LISTS)

    def __call__(self, local: Local, state: State) -> Iterator[Step]:
        options = self.world.options
        match local:
            case ("start", int(rounds)):
                seen = [number for number, plan in enumerate(state.plans) if plan and rounds < MAX_ROUNDS]
                for take in (some for count in range(len(seen)) for some in combinations(seen, count + 1)):
                    packs = 0
                    for number in take:
                        plan = state.plans[number]
                        packs |= plan.packs if plan else 0
                    yield f"E1 LIST gc, takes {take}", ("look", rounds, take, packs, 0, ()), state
            case ("look", int(rounds), tuple(take), int(packs), int(number), tuple(view)):
                yield from self._look(state, rounds, take, packs, number, view)
            case ("index", int(rounds), int(unindexed)):
                yield "E3 PUT segment, restart", ("start", rounds), state._replace(index=state.index | unindexed)
            case ("put", int(rounds), tuple(take), int(packs), tuple(blocks)):
                yield from self._put(state, rounds, take, packs, blocks)
            case ("segment", int(rounds), tuple(take), int(packs), int(new)):
                after = ("delete", rounds + 1, take, packs)
                yield "E5 PUT segment", after, state._replace(index=state.index | new)
            case ("delete", int(rounds), tuple(take), int(packs)):
                if "plan first" in options and any(state.plans[number] for number in take):
                    yield "E7 DELETE plan, too early", local, self._without_plan(state, take)
                    return
                left = packs & state.packs
                for bit in (bit for bit in self.world.blocks if bit & left):
                    yield f"E6 DELETE {self.world.show(bit)}", local, state._replace(packs=state.packs & ~bit)
                if not left:
                    changed = state._replace(done=state.done | packs)
                    yield "E7 PUT done", ("unplan", rounds, take), changed
            case ("unplan", int(rounds), tuple(take)):
                changed = self._without_plan(state, take)
                more = any(changed.plans[number] for number in take)
                yield "E7 DELETE plan", local if more else ("start", rounds), changed

    def _without_plan(self, state: State, take: Sequence[int]) -> State:
        number = next((number for number in take if state.plans[number]), None)
        if number is None:
            return state
        return state._replace(plans=(*state.plans[:number], None, *state.plans[number + 1 :]))

    def _look(
        self, state: State, rounds: int, take: tuple[int, ...], packs: int, number: int, view: tuple[int, ...]
    ) -> Iterator[Step]:
        options = self.world.options
        what = self.lists[number]
        condemned = packs | (0 if "only own plans" in options else state.condemned)
        out = condemned | (0 if "bad copies count at E4" in options else state.bad)
        found = {"roots": state.roots, "gc": out, "packs": state.packs}.get(what, state.index)
        view = (*view, found)
        if what == "gc" and self.world.rotten & ~state.bad:
            state = state._replace(excused=-1)
        if number + 1 < len(self.lists):
            yield f"E LIST {what}", ("look", rounds, take, packs, number + 1, view), state
            return
        seen = dict(zip(self.lists, view, strict=True))
        seen.setdefault("index again", seen["index"])
        unindexed = packs & seen["packs"] & ~seen["index again"]
        if unindexed and "unindexed packs are passed over" not in options:
            yield f"E LIST {what}; not all indexed", ("index", rounds, unindexed), state
            return
        for blocks in self._decide(packs, seen):
            if blocks == "rescue":
                yield "E4 rescues and takes the plan back", ("unplan", rounds, take), state
            elif blocks:
                yield f"E4 moves {_text(blocks)}", ("put", rounds, take, packs, blocks), state
            else:
                yield "E4 nothing moves", ("delete", rounds, take, packs), state

    def _put(
        self, state: State, rounds: int, take: tuple[int, ...], packs: int, blocks: tuple[Block, ...]
    ) -> Iterator[Step]:
        serial = 0
        while state.born & (bit := self.world.pack(f"e{serial} {_text(blocks)}", blocks)):
            if "names are used again" in self.world.options:
                break
            serial += 1
        yield "E5 PUT pack", ("segment", rounds, take, packs, bit), state.put(bit)
        if packs & ~state.packs:
            yield "E5 GET: gone, restart", ("start", rounds), state

    def _decide(self, packs: int, seen: dict[str, int]) -> list[tuple[Block, ...]] | list[str]:
        """E4: everything that may be moved; `engine.evacuate` does one of these."""
        world, options = self.world, self.world.options
        present = -1 if "no LIST packs at E3" in options else seen["packs"]
        safe = seen["index"] & ~seen["gc"] & present
        here = packs & seen["packs"] & seen["index again"]
        source = seen["packs"] & seen["index again"] & ~world.rotten
        outside = source & ~packs & (safe if "only safe packs depend" in options else -1)
        live = world.reached(seen["roots"])
        ways: list[list[tuple[Block, ...]]] = []
        bases = {b for chunk in live for bit, names in world.deltas[chunk] if bit & outside for b in names}
        for base in sorted(bases):
            kept = world.has_copy(base, safe) if "a base may be a delta" in options else world.full[base] & safe
            if world.full[base] & here & ~world.rotten and not kept and "bases may go" not in options:
                ways.append([full(base)])
                if "a base may become a delta" in options:
                    ways[-1] += [(Block(a, base),) for a in "ab" if a != base and world.full[a] & safe]
        for chunk in live:
            if not world.has_copy(chunk, here) or world.usable(chunk, safe):
                continue
            found = [full(chunk)] if world.usable(chunk, source) else []
            sound = [pack for pack in world.blocks if pack & here & ~world.rotten]
            for bit, block in ((pack, block) for pack in sound for block in world.blocks[pack]):
                lost = "" if "moved without bases" in options else world.lost_bases(block.bases, safe)
                known = not block.bases or bit & seen["index"] or "moved though unindexed" in options
                if chunk in block.chunks and known and all(world.usable(base, source) for base in lost):
                    found.append((block, *full(lost)))
            if "new references" in options:
                found += [(Block(base, chunk),) for base in "ab" if base != chunk and world.full[base] & safe]
            if found:
                # What cannot be read from anywhere no acknowledged snapshot needs.
                ways.append(found)
        if "plans are taken back" in options and ways:
            return ["rescue"]
        return combine(ways)


def _text(blocks: Sequence[Block]) -> str:
    return " + ".join(
        f"delta({block.bases}) of {block.chunks}" if block.bases else f"full {block.chunks}" for block in blocks
    )
