"""`dedup mirror`."""

from __future__ import annotations

import click

from dedupstore.cancel import STORED
from dedupstore.cli import consent, options, progress
from dedupstore.cli.command import command
from dedupstore.cli.progress import Reporter
from dedupstore.cli.session import Session
from dedupstore.cli.store_options import options_at
from dedupstore.errors import IntegrityError, Refused
from dedupstore.service import mirror as service
from dedupstore.units import format_bytes, format_duration, format_number


@command(
    "mirror",
    examples=[
        "dedup mirror --to /mnt/usb/mirror --init",
        "dedup mirror --to /mnt/usb/mirror --verify",
        "dedup mirror --to /mnt/usb/mirror --delete --dry-run",
    ],
)
@click.option("--to", "target", metavar="URL", required=True, help="Where the mirror is.")
@click.option("--init", "init", is_flag=True, help="The first time: make the mirror there.")
@click.option("--delete", is_flag=True, help="Delete from the mirror what the repository no longer has.")
@click.option("--verify", is_flag=True, help="Then read all of the mirror and compare it with its names.")
@click.option("--despite-damage", is_flag=True, help="Show new snapshots although a damaged pack was left out.")
@options.storage_class_option
@options.dry_run_option
@click.pass_obj
def mirror(
    session: Session, target: str, init: bool, delete: bool, verify: bool, despite_damage: bool, storage_class: str,
    dry_run: bool,
) -> int:  # fmt: skip
    """Keep the same repository at a second place.

    Its objects as they are, each proven by its name: no passphrase is asked, and the same passphrases open the
    mirror. Nothing is overwritten, and nothing deleted without --delete. Run again, it copies what is new.
    """
    source, place = session.require_place(), session.resolved(target)
    target = place.url
    request = service.Request(
        source=source.url,
        target=target,
        init=init,
        delete=delete,
        verify=verify,
        despite_damage=despite_damage,
        dry_run=dry_run,
        source_options=options_at(session, source),
        target_options=options_at(session, place, storage_class),
    )
    session.out.begin("mirror")
    token = session.take_token(STORED)
    with progress.showing(session) as listener:
        outcome = service.run(
            request, session.clock, session.environ, listener, token,
            agree=lambda planned: _agree(session, listener, target, planned),
        )  # fmt: skip
    _tell(session, outcome)
    return outcome.exit_code


def _agree(session: Session, listener: Reporter, target: str, planned: service.Planned) -> bool:
    session.out.line(f"  plan     {_plan_text(planned)}")
    if not session.settings.yes and not session.can_ask:
        raise Refused(
            "the mirror is not changed without your consent",
            why=f"{format_number(planned.delete_objects, 'object')} would be deleted from it",
            hints=["look: --dry-run", "agree: --yes"],
            code="mirror.needs_consent",
        )
    listener.close()
    return consent.confirm(session, f"Change {target} like this?")


def _plan_text(planned: service.Planned) -> str:
    text = f"copy {format_number(planned.objects, 'object')}, {format_bytes(planned.size)}"
    if planned.delete_objects:
        text += f"; delete {format_number(planned.delete_objects, 'object')}, {format_bytes(planned.delete_size)}, "
        text += f"with {format_number(planned.delete_snapshots, 'snapshot')}"
    return text


def _tell(session: Session, outcome: service.Outcome) -> None:
    out, planned = session.out, outcome.planned
    if outcome.dry_run:
        out.line(f"  would    {_plan_text(planned)}")
    else:
        rate = outcome.size / outcome.seconds if outcome.seconds else 0
        speed = f", {format_bytes(rate)}/s" if outcome.size > 1 << 20 else ""
        out.line(
            f"  copied   {format_number(outcome.objects, 'object')}, {format_bytes(outcome.size)}{speed}   "
            f"{format_number(outcome.snapshots, 'new snapshot')}   {format_duration(outcome.seconds)}"
        )
    if outcome.deleted:
        out.line(f"  deleted  {format_number(outcome.deleted, 'object')}, {format_bytes(outcome.deleted_size)}")
    if outcome.verified:
        text = f"{format_number(outcome.verified_objects, 'object')}, {format_bytes(outcome.verified_size)}"
        out.line(f"  verified {text}, each against its name")
    if planned.slots_left:
        out.note(
            f"  {format_number(planned.slots_left, 'key')} that the repository no longer has still opens the mirror; "
            "--delete removes it"
        )
    if outcome.exit_code == 4:
        out.complain(
            IntegrityError(
                f"{format_number(len(outcome.findings), 'object')} could not be mirrored or proven",
                why="the findings above name them; everything else is there",
                hints=["look for damage: dedup check --read-data", "nothing in the mirror was overwritten"],
                code="mirror.incomplete",
            )
        )
    out.finish(
        {0: "ok", 3: "warnings"}.get(outcome.exit_code, "failed"),
        exit_code=outcome.exit_code,
        dry_run=outcome.dry_run,
        target=outcome.target,
        repository=planned.repository,
        copied={"objects": outcome.objects, "bytes": outcome.size, "snapshots": outcome.snapshots},
        planned={"objects": planned.objects, "bytes": planned.size, "snapshots": planned.snapshots},
        delete={
            "objects": planned.delete_objects,
            "bytes": planned.delete_size,
            "snapshots": planned.delete_snapshots,
        },
        deleted={"objects": outcome.deleted, "bytes": outcome.deleted_size},
        held=outcome.held,
        verified={"objects": outcome.verified_objects, "bytes": outcome.verified_size} if outcome.verified else None,
    )
