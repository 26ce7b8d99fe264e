"""Errors as a person reads them (what, why, try, code) and as a program does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import click

from dedupstore.cancel import AGAIN
from dedupstore.errors import DedupError, Interrupted, UsageError
from dedupstore.units import printable

_TRUE = {"1", "true", "t", "yes", "y", "on"}


def render(error: DedupError, *, styled: bool = False) -> str:
    """The lines for stderr, without a line end."""
    word = "\x1b[1;31merror:\x1b[0m" if styled else "error:"
    return "\n".join(_lines(error, word))


def document(error: DedupError) -> dict[str, object]:
    """The fields of the JSON `error` event."""
    return {
        "code": error.code,
        "exit_code": error.exit_code,
        "message": safe(error.message),
        "why": safe(error.why),
        "try": [safe(hint) for hint in error.hints],
    }


def safe(text: str) -> str:
    """The text without control characters: names of files and of servers may be in it."""
    try:
        return printable(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:  # halves of letters that stand for no byte
        return printable(text.encode("utf-8", "backslashreplace"))


def from_click(error: click.ClickException) -> DedupError:
    """A mistake in the call, in our own words, with the help to read."""
    message = error.format_message()
    hints: list[str] = []
    possibilities = getattr(error, "possibilities", None)
    if possibilities:
        message = getattr(error, "message", message)
        hints.append(f"did you mean {' or '.join(possibilities)}?")
    context = getattr(error, "ctx", None)
    hints.append(f"{context.command_path if context is not None else 'dedup'} --help")
    return UsageError(_lowered(message), hints=hints)


def interrupted(exit_code: int) -> DedupError:
    error = Interrupted("stopped", why="by a signal", hints=[AGAIN])
    error.exit_code = exit_code
    return error


def json_asked(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether output is to be JSON, for a command line that could not be parsed."""
    before_rest = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before_rest or environ.get("DEDUP_JSON", "").lower() in _TRUE


def _lines(error: DedupError, word: str) -> Iterator[str]:
    yield f"{word} {safe(error.message)}"
    if error.why:
        yield f"  why: {safe(error.why)}"
    for number, hint in enumerate(error.hints):
        yield f"  {'try:' if number == 0 else '    '} {safe(hint)}"
    yield f"  code: {error.code} (exit {error.exit_code})"


def _lowered(message: str) -> str:
    """click's sentences in the form of ours: no capital, no full stop."""
    return f"{message[:1].lower()}{message[1:]}".rstrip(".")
