"""`dedup protect`, `unprotect`, `tag` and `note`: what is said of a snapshot after it was made."""

from __future__ import annotations

import click

from dedupstore.cli import options
from dedupstore.cli.command import command
from dedupstore.cli.errors import safe
from dedupstore.cli.instants import instant
from dedupstore.cli.opening import with_access
from dedupstore.cli.selecting import selection
from dedupstore.cli.session import Session
from dedupstore.cli.shapes import protection_text, snapshot_fields
from dedupstore.service import marks as service


@command("protect", examples=["dedup protect 4kq2-m8", 'dedup protect latest --until 2027-01-01 --reason "audit 2026"'])
@click.argument("snapshot", metavar="SNAP")
@click.option("--until", metavar="TIME", help="No longer than that: 2027-01-01, 2027-01-01 09:00.")
@click.option("--reason", metavar="TEXT", default="", help="Why; shown to whoever tries to forget it.")
@options.source_option
@options.host_option
@click.pass_obj
def protect(
    session: Session, snapshot: str, until: str | None, reason: str, source: str | None, host: str | None
) -> None:
    """Let nobody forget a snapshot, until then or until it is unprotected."""
    wanted = selection(session, snapshot=snapshot, source=source, host=host)
    until_ns = instant(session, until)
    _show(
        session, with_access(session, lambda access: service.protect(access, wanted, until_ns=until_ns, reason=reason))
    )


@command("unprotect", examples=["dedup unprotect 4kq2-m8"])
@click.argument("snapshot", metavar="SNAP")
@options.source_option
@options.host_option
@click.pass_obj
def unprotect(session: Session, snapshot: str, source: str | None, host: str | None) -> None:
    """End the protection of a snapshot: rules may let go of it again."""
    wanted = selection(session, snapshot=snapshot, source=source, host=host)
    _show(session, with_access(session, lambda access: service.unprotect(access, wanted)))


@command("tag", examples=["dedup tag latest --add pinned", "dedup tag 4kq2-m8 --add release --remove draft"])
@click.argument("snapshot", metavar="SNAP")
@click.option("--add", metavar="TAG", multiple=True, help="A tag to add; repeatable. A snapshot tagged pinned stays.")
@click.option("--remove", metavar="TAG", multiple=True, help="A tag to take away; repeatable.")
@options.source_option
@options.host_option
@click.pass_obj
def tag(
    session: Session,
    snapshot: str,
    add: tuple[str, ...],
    remove: tuple[str, ...],
    source: str | None,
    host: str | None,
) -> None:
    """Add tags to a snapshot or take them away."""
    wanted = selection(session, snapshot=snapshot, source=source, host=host)
    _show(session, with_access(session, lambda access: service.tag(access, wanted, add=add, remove=remove)))


@command("note", examples=['dedup note 4kq2-m8 "before the move to the new server"', 'dedup note 4kq2-m8 ""'])
@click.argument("snapshot", metavar="SNAP")
@click.argument("text", metavar="TEXT")
@options.source_option
@options.host_option
@click.pass_obj
def note(session: Session, snapshot: str, text: str, source: str | None, host: str | None) -> None:
    """Write a note beside a snapshot, in place of the one it has; an empty one takes it away."""
    wanted = selection(session, snapshot=snapshot, source=source, host=host)
    _show(session, with_access(session, lambda access: service.note(access, wanted, text)))


def _show(session: Session, outcome: service.Outcome) -> None:
    out, snapshot = session.out, outcome.snapshot
    if snapshot is None:
        out.document({"changed": outcome.changed, "snapshot": None})
        out.line("  now      nothing protects it; its record cannot be read: see dedup check")
        return
    out.document({"changed": outcome.changed, "snapshot": snapshot_fields(out, snapshot)})
    remarks = [protection_text(out, snapshot)] if snapshot.protected else []
    remarks += [f"#{safe(name)}" for name in snapshot.tags]
    if snapshot.note:
        remarks.append(safe(snapshot.note))
    said = "  ".join(remarks) or "no protection, tag or note"
    already = "" if outcome.changed else "   (as before)"
    out.line(f'  now      {snapshot.short} "{safe(snapshot.source)}" {out.minute(snapshot.time_ns)}: {said}{already}')
