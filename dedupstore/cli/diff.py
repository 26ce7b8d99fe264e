"""`dedup diff`."""

from __future__ import annotations

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import path_argument, with_access
from dedupstore.cli.output import Output, path_fields
from dedupstore.cli.selecting import selection
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import entry_fields, kind_word, snapshot_fields
from dedupstore.service import look as service
from dedupstore.service.access import Access
from dedupstore.service.database_diff import TableChange
from dedupstore.units import format_bytes, format_count, format_number

_SIGNS = {"added": "+", "removed": "-", "changed": "M", "metadata": "m", "replaced": "T"}


@command(
    "diff",
    examples=[
        "dedup diff latest~1 latest",
        "dedup diff 4kq2 5r01 site/uploads --name-only",
        "dedup diff latest~7 latest --stat",
    ],
)
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.argument("path", metavar="[PATH]", default="")
@options.source_option
@options.host_option
@click.option("--stat", is_flag=True, help="Only how many and how much.")
@click.option("--name-only", is_flag=True, help="Only the paths.")
@click.pass_obj
def diff(
    session: Session,
    before: str,
    after: str,
    path: str,
    source: str | None,
    host: str | None,
    stat: bool,
    name_only: bool,
) -> None:
    """Show what changed between two snapshots.

    + added, - removed, M changed, m other owner, mode or time, T of another kind. Between two dumps of a database also
    which tables have more or fewer rows, or another definition; ! where half of the rows are gone.
    """
    left = selection(session, snapshot=before, source=source, host=host)
    right = selection(session, snapshot=after, source=source, host=host)
    out = session.out
    changes: list[dict[str, object]] = []

    def visit(change: service.ChangeInfo) -> None:
        if stat:
            return
        if out.json:
            changes.append(_fields(out, change))
        elif name_only:
            out.line(out.name(change.path))
        else:
            out.line(_text(out, change))

    def work(access: Access) -> service.DiffSummary:
        return service.compare(access, left, right, path_argument(path), visit)

    found = with_access(session, work)
    out.document(
        {
            "before": snapshot_fields(out, found.before),
            "after": snapshot_fields(out, found.after),
            **({} if stat else {"changes": changes}),
            "counts": found.counts,
            "bytes": {"added": found.bytes_added, "removed": found.bytes_removed},
            "tables": [_table_fields(change) for change in found.tables],
        }
    )
    if not name_only:
        for change in () if stat else found.tables:
            out.line(_table_text(change))
        _summary(out, found)


def _fields(out: Output, change: service.ChangeInfo) -> dict[str, object]:
    return {
        "kind": change.kind,
        **path_fields(change.path),
        "before": entry_fields(out, change.before) if change.before is not None else None,
        "after": entry_fields(out, change.after) if change.after is not None else None,
    }


def _text(out: Output, change: service.ChangeInfo) -> str:
    before, after = change.before, change.after
    line = f"{_SIGNS[change.kind]} {out.name(change.path)}"
    if before is not None and after is not None:
        if change.kind == "replaced":
            return f"{line}  {kind_word(before.kind)} -> {kind_word(after.kind)}"
        if change.kind == "changed" and before.kind == "f":
            return f"{line}  {format_bytes(before.size)} -> {format_bytes(after.size)}"
        return line
    entry = before or after
    return f"{line}  {format_bytes(entry.size)}" if entry is not None and entry.kind == "f" else line


def _table_fields(change: TableChange) -> dict[str, object]:
    return {
        "kind": change.kind,
        "database": safe(change.database),
        "table": safe(change.table),
        "rows": {"before": change.rows_before, "after": change.rows_after, "difference": change.rows},
        "redefined": change.redefined,
    }


def _table_text(change: TableChange) -> str:
    words = []
    if change.rows:
        words.append(f"{'+' if change.rows > 0 else '-'}{format_number(abs(change.rows), 'row')}")
        if change.kind == "changed" and change.rows_before is not None and change.rows_after is not None:
            words.append(f"{format_count(change.rows_before)} -> {format_count(change.rows_after)}")
    if change.redefined:
        words.append("another definition")
    alarm = "  !" if change.alarming else ""
    return f"{_SIGNS[change.kind]} {safe(change.database)}: {safe(change.table)}  {', '.join(words)}".rstrip() + alarm


def _summary(out: Output, found: service.DiffSummary) -> None:
    words = ", ".join(f"{format_count(found.counts[kind])} {kind}" for kind in _SIGNS if kind in found.counts)
    out.line(
        f"{found.before.short} ({out.minute(found.before.time_ns)}) to {found.after.short} "
        f"({out.minute(found.after.time_ns)}): {words or 'nothing changed'}"
    )
    if found.tables:
        more = sum(change.rows for change in found.tables if change.rows is not None and change.rows > 0)
        fewer = -sum(change.rows for change in found.tables if change.rows is not None and change.rows < 0)
        out.line(
            f"{format_number(len(found.tables), 'table')} with other rows or another definition: "
            f"{format_count(more)} rows more, {format_count(fewer)} fewer"
        )
    if found.counts:
        out.line(f"{format_bytes(found.bytes_added)} added, {format_bytes(found.bytes_removed)} removed")
