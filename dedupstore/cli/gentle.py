"""Options for leaving others something of the machine: a rate for reading, priorities at processor and disk."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dedupstore.cli.session import Session

if TYPE_CHECKING:
    from dedupstore.service.config_schema import Config
    from dedupstore.service.pace import Pace

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Gentle:
    """What was asked for; fields that say nothing leave it to the configuration, where one is used."""

    limit_rate: str = ""
    nice: int | None = None
    ionice: str | None = None

    def begin(self, session: Session, config: Config | None = None) -> Pace | None:
        """Lower the priorities of this process, before it starts threads, and return what reading is to keep to."""
        nice, ionice, rate = self.nice, self.ionice, None
        if config is not None:
            nice = config.nice if nice is None else nice
            ionice = config.ionice if ionice is None else ionice
            rate = config.limit_rate
        if self.limit_rate:
            rate = import_module("dedupstore.service.config_values").parse_rate(self.limit_rate)
        if nice is not None or ionice is not None:
            lower = import_module("dedupstore.service.priority").lower
            lower(nice, ionice, lambda finding: session.out.findings([finding]))
        if rate is None:
            return None
        made: Pace = import_module("dedupstore.service.pace").reading_pace(
            rate, session.clock, session.signals.token, time.sleep
        )
        return made


def gentle_options(function: Decorated) -> Decorated:
    """Adds `--limit-rate`, `--nice` and `--ionice`."""
    for decorator in (
        click.option("--ionice", type=click.Choice(("best-effort", "idle")), help="Let others go first at the disk."),
        click.option("--nice", metavar="N", type=click.IntRange(0, 19), help="Let others go first: 19 is the kindest."),
        click.option("--limit-rate", metavar="RATE", default="", help="Read no more a second than that: 20MB/s."),
    ):
        function = decorator(function)
    return function
