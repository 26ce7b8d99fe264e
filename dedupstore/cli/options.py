"""Options that several commands share, and the global ones every command accepts in either place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_GIVEN = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)

PROGRESS_MODES = ("auto", "bar", "log", "none")


@dataclass(slots=True)
class Settings:
    """What the global options say, wherever they stood: flag after the command > flag before it > environment."""

    repo: str | None = None
    config: str | None = None
    at_store_time: str | None = None
    json: bool = False
    progress: str = "auto"
    quiet: bool = False
    verbose: int = 0
    no_color: bool = False
    no_input: bool = False
    yes: bool = False
    utc: bool = False


class GlobalOption(click.Option):
    """An option kept in `Settings` instead of being handed to the command's function."""

    def __init__(self, declarations: Sequence[str], **attributes: Any) -> None:
        super().__init__(declarations, expose_value=False, callback=_remember, **attributes)


def global_options(*, from_environment: bool) -> list[GlobalOption]:
    """New instances of the global options.

    Only those of `dedup` itself read the environment (`DEDUP_REPO`, `DEDUP_JSON`, …): a variable must not
    win against a flag that stands before the command's name.
    """

    def flag(*declarations: str, **attributes: Any) -> GlobalOption:
        return GlobalOption(declarations, allow_from_autoenv=from_environment, **attributes)

    return [
        flag("-r", "--repo", metavar="URL", help="The repository: a directory, or s3://bucket/prefix."),
        flag("-c", "--config", metavar="FILE", help="This configuration instead of the usual files."),
        flag("--at-store-time", metavar="TIME", help="The storage as it was then, read-only: a bucket with versions."),
        flag("--json", is_flag=True, help="Machine-readable output on stdout."),
        flag("--progress", type=click.Choice(PROGRESS_MODES), help="How to show progress."),
        flag("-q", "--quiet", is_flag=True, help="No progress, no hints."),
        flag("-v", "--verbose", count=True, help="More detail; twice: with tracebacks."),
        flag("--no-color", is_flag=True, help="No colours (also: NO_COLOR)."),
        flag("--no-input", is_flag=True, help="Never ask; fail instead."),
        flag("-y", "--yes", is_flag=True, help="Answer questions about plans with yes."),
        flag("--utc", is_flag=True, help="Show times in UTC."),
    ]


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    # While the shell asks for completions there is no session, and nothing to remember.
    if context.obj is not None and context.get_parameter_source(str(parameter.name)) in _GIVEN:
        setattr(context.obj.settings, str(parameter.name), value)


def selectors(function: Decorated) -> Decorated:
    """Adds `--at --snapshot --source --host --tag`: which snapshot is meant."""
    for decorator in (tag_option, host_option, source_option, snapshot_option, at_option):
        function = decorator(function)
    return function


def at_option(function: Decorated) -> Decorated:
    return click.option("--at", metavar="TIME", help='As of then: "yesterday 18:00", 2026-11-20, "2h ago", now.')(
        function
    )


def snapshot_option(function: Decorated) -> Decorated:
    return click.option("--snapshot", metavar="ID", help="An id (4 letters are enough), latest, latest~2, @tag:NAME.")(
        function
    )


def source_option(function: Decorated) -> Decorated:
    return click.option("--source", metavar="NAME", help="Only snapshots of this source.")(function)


def host_option(function: Decorated) -> Decorated:
    return click.option("--host", metavar="NAME", help="Only snapshots made on this host.")(function)


def tag_option(function: Decorated) -> Decorated:
    return click.option(
        "--tag", "tags", metavar="TAG", multiple=True, help="Only snapshots with this tag; repeatable."
    )(function)


def storage_class_option(function: Decorated) -> Decorated:
    return click.option(
        "--storage-class",
        metavar="CLASS",
        default="",
        help="In a bucket: the class of new file contents, as STANDARD_IA.",
    )(function)


def dry_run_option(function: Decorated) -> Decorated:
    return click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")(function)
