"""`dedup help`: what a code means, in more words than fit below an error."""

from __future__ import annotations

import difflib
import textwrap

import click

from dedupstore.cli.codes import PAGES
from dedupstore.cli.command import command
from dedupstore.cli.session import Session
from dedupstore.errors import NothingMatches

EXIT_CODES = {
    0: "all done",
    1: "failed (unclassified)",
    2: "usage or configuration error",
    3: "finished with warnings: the snapshot is saved, some files could not be read",
    4: "integrity error found",
    5: "nothing matches (no snapshot at that time, path not in it)",
    6: "the source failed: no snapshot was made",
    7: "storage unreachable, or it refused, after retries",
    8: "refused for safety",
    10: "the repository does not exist",
    11: "not used; nothing here waits for a lock",
    12: "wrong passphrase or key",
    13: "the repository needs a newer dedup",
    130: "interrupted (SIGINT); the next run uses what this one did",
    143: "terminated (SIGTERM); the next run uses what this one did",
}


@command(
    "help",
    examples=["dedup help restore", "dedup help code", "dedup help code repo.not_found", "dedup help exit-codes"],
)
@click.argument("words", nargs=-1, metavar="[COMMAND | code [CODE] | exit-codes]")
@click.pass_context
def help_(context: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command, an error code, or the exit codes."""
    session = context.find_object(Session)
    assert session is not None
    if words[:1] == ("code",):
        _codes(session, words[1:])
    elif words == ("exit-codes",):
        _exit_codes(session)
    else:
        _command(context.find_root(), words)


def _codes(session: Session, words: tuple[str, ...]) -> None:
    out = session.out
    pages = sorted(PAGES.items())
    if not words:
        out.document({"codes": [{"code": name, "text": text} for name, text in pages]})
        out.table(("CODE", "MEANS"), [(name, text.split(". ")[0].rstrip(".")) for name, text in pages])
        return
    name = words[0]
    if name not in PAGES:
        near = difflib.get_close_matches(name, PAGES, n=3)
        hints = [f"dedup help code {found}" for found in near] or ["dedup help code"]
        raise NothingMatches(f"no code {name!r}", hints=hints, code="help.no_such_code")
    out.document({"code": name, "text": PAGES[name]})
    out.line(f"{name}\n")
    out.line(textwrap.fill(PAGES[name], 88, initial_indent="  ", subsequent_indent="  "))


def _exit_codes(session: Session) -> None:
    out = session.out
    out.document({"exit_codes": [{"exit_code": number, "means": text} for number, text in EXIT_CODES.items()]})
    out.table(("EXIT", "MEANS"), [(str(number), text) for number, text in EXIT_CODES.items()], right=("EXIT",))
    out.line("\nTreat a code that is not in this list as a failure.")


def _command(root: click.Context, words: tuple[str, ...]) -> None:
    """The same text as `--help` of that command."""
    context, found = root, root.command
    for word in words:
        name, inner, _ = found.resolve_command(context, [word]) if isinstance(found, click.Group) else (None, None, [])
        if inner is None:
            raise click.exceptions.NoSuchCommand(word, ctx=context)
        found, context = inner, click.Context(inner, info_name=name, parent=context)
    click.echo(found.get_help(context))
