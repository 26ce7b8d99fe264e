"""`dedup find`."""

from __future__ import annotations

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.instants import instant
from dedupstore.cli.opening import with_access
from dedupstore.cli.searching import Indexing, range_text, size_text, version_fields
from dedupstore.cli.selecting import selection, snapshot_filter
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import moment
from dedupstore.errors import UsageError
from dedupstore.service import find as service
from dedupstore.service.access import Access
from dedupstore.units import format_number, parse_size

_TYPES = ("f", "d", "l", "p", "s", "c", "b")


@command(
    "find",
    examples=[
        "dedup find '*.sql'",
        "dedup find 'site/**/config.php' --source site",
        "dedup find invoice --ignore-case --regex --type f --newer '30 days ago'",
        "dedup find '*.jpg' --at yesterday --larger 1M --limit 20",
    ],
)
@click.argument("pattern")
@click.option("-i", "--ignore-case", is_flag=True, help="Capital and small letters are the same.")
@click.option("--regex", is_flag=True, help="PATTERN is a regular expression, found anywhere in the path.")
@click.option(
    "--type", "types", type=click.Choice(_TYPES), multiple=True,
    help="Only files (f), directories (d), links (l), fifos (p), sockets (s), devices (c, b); repeatable.",
)  # fmt: skip
@click.option("--newer", metavar="TIME", help="Only files changed then or later.")
@click.option("--older", metavar="TIME", help="Only files changed then or earlier.")
@click.option("--larger", metavar="SIZE", help="Only files of at least this size.")
@click.option("--smaller", metavar="SIZE", help="Only files of at most this size.")
@options.selectors
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="Stop after N paths.")
@click.pass_obj
def find(
    session: Session, pattern: str, ignore_case: bool, regex: bool, types: tuple[str, ...], newer: str | None,
    older: str | None, larger: str | None, smaller: str | None, at: str | None, snapshot: str | None,
    source: str | None, host: str | None, tags: tuple[str, ...], limit: int | None,
) -> int:  # fmt: skip
    """Find paths by name in all snapshots.

    PATTERN is a glob: *.jpg is about names at any depth; with a / it is about the whole path, as dedup ls shows it, and
    ** stands for any number of directories. Shown are the newest version that answers, and the snapshots that have it.
    """
    wanted = service.Wanted(
        pattern=pattern,
        regex=regex,
        ignore_case=ignore_case,
        kinds=frozenset(types),
        newer_ns=instant(session, newer),
        older_ns=instant(session, older),
        larger=parse_size(larger) if larger is not None else None,
        smaller=parse_size(smaller) if smaller is not None else None,
    )
    if at and snapshot:
        raise UsageError("--at and --snapshot exclude one another")
    one = selection(session, snapshot=snapshot, at=at, source=source, host=host, tags=tags) if at or snapshot else None
    search = service.Search(filter=snapshot_filter(session, source=source, host=host, tags=tags), one=one)
    out, token = session.out, session.take_token()
    found: list[dict[str, object]] = []

    def work(access: Access) -> service.SearchResult:
        with Indexing(session) as indexing:

            def visit(one: service.FoundInfo) -> None:
                indexing.close()
                if out.json:
                    found.append({**version_fields(out, one.version), "versions": one.versions})
                else:
                    out.line(_line(session, one))

            return service.find(access, search, wanted, limit, visit, indexing.listener, token)

    result = with_access(session, work)
    out.findings(result.findings)
    out.document({"paths": found, "snapshots": result.snapshots, "more": result.more})
    if result.more:
        out.note(f"stopped after {format_number(result.paths, 'path')}; there are more: --limit")
    elif not result.paths:
        out.note(f"nothing found in {format_number(result.snapshots, 'snapshot')}")
    return result.exit_code


def _line(session: Session, found: service.FoundInfo) -> str:
    out, version = session.out, found.version
    return (
        f"{size_text(version):>10}  {moment(out.minute, version.mtime_ns)}  "
        f"{range_text(out, version):<16}  {out.name(version.path)}"
    )
