"""Commands that end in every way a command can end, for the tests of the frame around them."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

import click

from dedupstore.cli import consent, options, progress, prompts
from dedupstore.cli.command import Root, command, group
from dedupstore.cli.commands import Entry
from dedupstore.cli.main import main
from dedupstore.cli.session import Session
from dedupstore.errors import RepositoryNotFound
from dedupstore.events import Finding, Progress

NAMES = (
    "settings",
    "warns",
    "refuses",
    "bug",
    "streams",
    "floods",
    "stops",
    "polite",
    "asks",
    "secret",
    "nested",
    "selects",
)


def run(*arguments: str, names: Sequence[str] = NAMES) -> int:
    """`dedup` with the commands of this file instead of the real ones."""
    entries = [Entry(name, f"tests.support.commands:{name}", "Everyday", f"Tests: {name}.") for name in names]
    return main(list(arguments), root=Root(entries))


@command("settings", examples=["dedup settings"])
@click.option("--depth", type=int, default=0, help="Some number.")
@click.pass_obj
def settings(session: Session, depth: int) -> None:
    """Print the global settings."""
    found = session.settings
    names = ("repo", "config", "json", "progress", "quiet", "verbose", "no_color", "no_input", "yes", "utc")
    click.echo(" ".join(f"{name}={getattr(found, name)}" for name in names) + f" depth={depth}")


@command("selects", examples=["dedup selects --at now"])
@options.selectors
@options.dry_run_option
def selects(at: str, snapshot: str, source: str, host: str, tags: tuple[str, ...], dry_run: bool) -> None:
    """Print the selectors."""
    click.echo(f"{at} {snapshot} {source} {host} {tags} {dry_run}")


@command("warns", examples=["dedup warns"])
@click.pass_obj
def warns(session: Session) -> int:
    """End with warnings."""
    session.out.line("data")
    session.out.note("told to the person")
    return 3


@command("refuses", examples=["dedup refuses"])
def refuses() -> None:
    """End with an error that a user can meet."""
    raise RepositoryNotFound(
        "no repository at /mnt/\x1b[31mbackup",
        why="the directory is empty",
        hints=["mount it", "dedup init -r /mnt/backup"],
    )


@command("bug", examples=["dedup bug"])
@click.argument("words", nargs=-1)
def bug(words: tuple[str, ...]) -> None:
    """End with an error nobody expected."""
    raise ValueError(
        f"hunter2hunter2 at https://user:sesame@host/?token=abc {'0123456789abcdef' * 4} {words and 'given'}"
    )


@command("streams", examples=["dedup streams"])
@click.option("--fail", is_flag=True, help="Break half-way.")
@click.pass_obj
def streams(session: Session, fail: bool) -> int:
    """Long work with progress, findings and a summary."""
    session.out.begin("snapshot", source="site")
    with progress.showing(session) as listener:
        listener.progress(Progress(phase="store", files_done=1, files_total=4, bytes_done=10, bytes_total=40))
        listener.finding(Finding(code="file.unreadable", message="permission denied", path=b"a/\xff.txt"))
        if fail:
            raise RepositoryNotFound("gone")
    session.out.finish("warnings", exit_code=3, files={"new": 3})
    return 3


@command("floods", examples=["dedup floods"])
@click.option("--stream", is_flag=True, help="As a long-running command.")
@click.pass_obj
def floods(session: Session, stream: bool) -> None:
    """Print for ever, or far too much."""
    if stream:
        session.out.begin("snapshot")
    for number in range(20_000):
        session.out.line(f"line {number}")
        session.out.event("line", number=number)
    session.out.finish()
    session.out.note("the work went on to its end")


@command("stops", examples=["dedup stops"])
@click.argument("number", type=int)
def stops(number: int) -> None:
    """Be hit by a signal at a place that nobody prepared."""
    os.kill(os.getpid(), number)
    raise AssertionError("not reached")


@command("polite", examples=["dedup polite"])
@click.argument("number", type=int)
@click.pass_obj
def polite(session: Session, number: int) -> None:
    """Be hit by a signal in work that asks its token."""
    token = session.take_token()
    session.out.begin("snapshot")
    with progress.showing(session) as listener:
        listener.progress(Progress(phase="store", bytes_done=5))
        if hasattr(signal, "SIGUSR1"):
            os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), number)
        session.out.line("the step was finished")
        token.check()


@command("asks", examples=["dedup asks"])
@click.pass_obj
def asks(session: Session) -> None:
    """Ask whether to go on."""
    session.out.line(f"agreed: {consent.confirm(session, 'Delete it?')}")


@command("secret", examples=["dedup secret"])
@click.pass_obj
def secret(session: Session) -> None:
    """Need a passphrase."""
    session.out.line(f"{len(prompts.passphrase(session))} bytes")


@group("nested", examples=["dedup nested deep"])
def nested() -> None:
    """A command with subcommands."""


@nested.command("deep", examples=["dedup nested deep"])
@click.pass_obj
def deep(session: Session) -> None:
    """Print the repository."""
    session.out.line(str(session.require_repository_url()))
