"""Anything that may happen to a repository, in any order, against a dictionary that says what must be in it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from dedupstore.engine.prune_plan import DAY_NS
from dedupstore.repo import layout
from tests.support import evidence
from tests.support.world import CLIENTS, WEEK_NS, Interruption, Stop, World

NAMES = some.sampled_from(["a", "b", "sub/c", "sub/d", "deep/e"])
CONTENTS = some.integers(0, 9)
NUMBERS = some.integers(0, 1000)
SOURCES = some.sampled_from(["site", "blog"])
STOPS = some.none() | some.builds(Interruption, some.integers(0, 60), some.sampled_from(Stop))


class RepositoryMachine(RuleBasedStateMachine):
    """The rules. Each is a call of the world, which knows what must come of it."""

    @initialize(content=CONTENTS)
    def begin(self, content: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="world-"))
        self.world = World(self.folder)
        self.world.write("a", content)
        self.world.write("sub/c", 3)
        self.world.snapshot("site", None)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.heal()
            self.world.assert_holds()
            shutil.rmtree(self.folder)

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name: str, content: int) -> None:
        self.step()
        self.world.write(name, content)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.step()
        self.world.remove(name)

    @rule(source=SOURCES, name=NAMES, content=CONTENTS, stop=STOPS)
    def snapshot(self, source: str, name: str, content: int, stop: Interruption | None) -> None:
        """Of a tree in which something has changed: others are dull."""
        self.step()
        self.world.write(name, content)
        self.world.snapshot(source, stop)

    @rule(number=NUMBERS, stop=STOPS)
    def forget(self, number: int, stop: Interruption | None) -> None:
        self.step()
        self.world.forget(number, stop)

    @rule(number=NUMBERS, stop=STOPS)
    def undo(self, number: int, stop: Interruption | None) -> None:
        self.step()
        self.world.undo(number, stop)

    @rule(grace=some.sampled_from([0, DAY_NS]), window=some.sampled_from([0, WEEK_NS]), stop=STOPS)
    def prune(self, grace: int, window: int, stop: Interruption | None) -> None:
        self.step()
        self.world.prune(grace_ns=grace, window_ns=window, stop=stop)

    @rule(number=NUMBERS, stop=STOPS)
    def forget_and_prune(self, number: int, stop: Interruption | None) -> None:
        self.step()
        self.world.forget(number, None)
        self.world.prune(grace_ns=0, window_ns=0, stop=stop)

    @rule(days=some.sampled_from([0.1, 2, 8, 40]))
    def wait(self, days: float) -> None:
        self.step()
        self.world.clock.advance(days * 24 * 3600)

    @rule(stop=STOPS)
    def copy(self, stop: Interruption | None) -> None:
        self.step()
        self.world.copy(stop)

    @rule(stop=STOPS, delete=some.booleans())
    def mirror(self, stop: Interruption | None, delete: bool) -> None:
        self.step()
        self.world.mirror(stop, delete=delete)

    @rule(stop=STOPS)
    def repair(self, stop: Interruption | None) -> None:
        self.step()
        self.world.repair(stop)

    @rule(stop=STOPS)
    def mend(self, stop: Interruption | None) -> None:
        self.step()
        self.world.mend(stop)

    @rule(number=NUMBERS, position=some.integers(0, 100_000), stop=STOPS)
    def flip_and_mend(self, number: int, position: int, stop: Interruption | None) -> None:
        """With everything copied and mirrored before: what is damaged is to be had."""
        self.step()
        self.world.copy(None)
        self.world.mirror(None, delete=False)
        self.world.flip(layout.PACKS, number, position)
        self.world.mend(stop)

    @rule()
    def lose_cache(self) -> None:
        self.step()
        self.world.lose_cache()

    @rule(client=some.integers(0, CLIENTS - 1))
    def go_on_as(self, client: int) -> None:
        self.step()
        self.world.client = client

    @rule(number=NUMBERS)
    def lose_segment(self, number: int) -> None:
        self.step()
        self.world.lose_segment(number)

    @rule(
        folder=some.sampled_from([layout.PACKS, layout.PACKS, layout.INDEX, layout.ROOTS, layout.COMMITS]),
        number=NUMBERS, position=some.integers(0, 100_000),
    )  # fmt: skip
    def flip(self, folder: str, number: int, position: int) -> None:
        self.step()
        self.world.flip(folder, number, position)

    @rule()
    def heal(self) -> None:
        self.step()
        self.world.heal()

    @rule()
    def restore_from_mirror(self) -> None:
        self.step()
        self.world.restore_from_mirror()

    def step(self) -> None:
        evidence.count(evidence.STEPS)
        # No two snapshots of one moment: which is the newer would be chance.
        self.world.clock.advance(60)


def explore(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        RepositoryMachine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck), deadline=None
        ),
    )


def test_whatever_happens_every_promise_is_kept() -> None:
    explore(examples=40, steps=15)


@pytest.mark.slow
def test_whatever_happens_for_long_every_promise_is_kept() -> None:
    explore(examples=150, steps=40)
