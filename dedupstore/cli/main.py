"""The entry point `dedup`: builds a session, runs a command, turns every ending into an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from dedupstore.cli import collector
from dedupstore.cli.command import Root
from dedupstore.cli.errors import from_click, interrupted, json_asked
from dedupstore.cli.output import ReaderGone, prepare_streams
from dedupstore.cli.session import Session
from dedupstore.cli.signals import Signals
from dedupstore.clock import SystemClock
from dedupstore.errors import DedupError, UsageError

READER_GONE = 141
"""As a program that SIGPIPE ends."""


def main(arguments: Sequence[str] | None = None, *, root: click.Group | None = None) -> int:
    """Run the command line and return its exit code; raises nothing."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    signals = Signals()
    session = Session(
        clock=SystemClock(),
        environ=os.environ,
        signals=signals,
        stdin=sys.stdin,
        stdout=sys.stdout,
        stderr=sys.stderr,
    )
    with collector.unhurried(), signals.installed():
        try:
            return _run(session, arguments, root or Root())
        except ReaderGone:
            return READER_GONE


def _run(session: Session, arguments: list[str], root: click.Group) -> int:
    cause: BaseException
    try:
        result = root.main(arguments, prog_name="dedup", standalone_mode=False, obj=session)
        return result if isinstance(result, int) else 0
    except DedupError as exc:
        error, cause = exc, exc
    except click.exceptions.NoArgsIsHelpError as exc:
        click.echo(exc.format_message(), err=True)
        return exc.exit_code
    except click.ClickException as exc:
        error, cause = from_click(exc), exc
    except (click.Abort, KeyboardInterrupt) as exc:
        error, cause = _stopped(session), exc
    except ReaderGone:
        raise
    except Exception as exc:
        # Loaded now: nobody should pay for the reporter of bugs on a good day.
        report = importlib.import_module("dedupstore.cli.report")
        error, cause = report.unexpected(exc, session, arguments), exc
    # A mistake in the call ends the parsing before it has seen every option.
    session.settings.json = session.settings.json or json_asked(arguments, session.environ)
    session.out.fail(error)
    if session.settings.verbose >= 2:
        report = importlib.import_module("dedupstore.cli.report")
        session.out.to_stderr(report.scrubbed_traceback(cause, session.environ))
    return error.exit_code


def _stopped(session: Session) -> DedupError:
    if session.signals.exit_code is not None:
        return interrupted(session.signals.exit_code)
    return UsageError(
        "no answer was given", why="standard input ended", hints=["give the answer by an option; see --help"]
    )


if __name__ == "__main__":
    sys.exit(main())
