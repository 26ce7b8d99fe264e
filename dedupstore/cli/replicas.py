"""`dedup replicas`."""

from __future__ import annotations

import dataclasses

import click

from dedupstore.cli.command import group
from dedupstore.cli.errors import safe
from dedupstore.cli.opening import with_access
from dedupstore.cli.session import Place, Session
from dedupstore.cli.shapes import distance
from dedupstore.cli.store_options import options_at
from dedupstore.errors import UsageError
from dedupstore.service import replica_state as state
from dedupstore.service import replicas as service
from dedupstore.service.access import require_repository
from dedupstore.units import format_count

_INCOMPLETE = 3


@group(
    "replicas",
    invoke_without_command=True,
    examples=["dedup replicas", "dedup replicas set /mnt/usb/mirror --offsite --offline", "dedup replicas --exit-code"],
)
@click.option("--exit-code", "as_code", is_flag=True, help="End with 3 unless 3-2-1-1-0 is proven or stated.")
@click.pass_context
def replicas(context: click.Context, as_code: bool) -> int | None:
    """Show where copies are, how far behind, and whether 3-2-1-1-0 holds.

    Three copies of the data, two media, one off-site, one offline or immutable, zero errors: each with its proof and its
    age. A replica is what `copy` or `mirror` of this machine was run to.
    """
    if context.invoked_subcommand is not None:
        return None
    session: Session = context.obj
    found = with_access(session, lambda access: service.report(access, lambda url: options_at(session, Place(url))))
    _show(session, found)
    return _INCOMPLETE if as_code and not found.holds else 0


@replicas.command("set", examples=["dedup replicas set /mnt/usb/mirror --offsite --offline"])
@click.argument("url", metavar="URL")
@click.option("--offsite/--not-offsite", default=None, help="It is kept in another place than the data.")
@click.option("--offline/--not-offline", default=None, help="It is unplugged when it is not being written.")
@click.option("--immutable/--not-immutable", default=None, help="Nobody can change or delete what is there.")
@click.pass_obj
def set_(session: Session, url: str, offsite: bool | None, offline: bool | None, immutable: bool | None) -> None:
    """State what no program can see from here. The report says that it was stated, and when."""
    given = {"offsite": offsite, "offline": offline, "immutable": immutable}
    facts = {name: value for name, value in given.items() if value is not None}
    if not facts:
        raise UsageError("nothing was stated", hints=[f"dedup replicas set {url} --offsite"])
    url = session.resolved(url).url
    repository = require_repository(session.require_repository_url())
    state.state_facts(session.environ, repository, url, facts, session.clock.now_ns())
    words = ", ".join(name if value else f"not {name}" for name, value in facts.items())
    session.out.document({"url": safe(url), "facts": facts})
    session.out.line(f"  noted    {safe(url)} is {words}")


@replicas.command("remove", examples=["dedup replicas remove /mnt/old/mirror"])
@click.argument("url", metavar="URL")
@click.pass_obj
def remove(session: Session, url: str) -> None:
    """Report a replica no longer. Nothing of the replica itself is touched."""
    url = session.resolved(url).url
    state.forget(session.environ, require_repository(session.require_repository_url()), url)
    session.out.document({"url": safe(url), "removed": True})
    session.out.line(f"  removed  {safe(url)} from the list; nothing else was changed")


def _show(session: Session, found: service.Report) -> None:
    out = session.out
    out.document(
        {
            "repository": found.repository,
            "url": safe(found.url),
            "snapshots": found.snapshots,
            "newest": None if found.newest_ns is None else out.timestamp(found.newest_ns),
            "holds": found.holds,
            "replicas": [_replica_fields(session, replica) for replica in found.replicas],
            "rules": [_rule_fields(session, rule) for rule in found.rules],
        }
    )
    if found.replicas:
        headings = ("REPLICA", "HOW", "LAST RUN", "SNAPSHOTS", "MISSING", "BEHIND", "REMARKS")
        rows = [_row(session, replica) for replica in found.replicas]
        out.table(headings, rows, right=("SNAPSHOTS", "MISSING"))
        out.line()
    for rule in found.rules:
        age = "" if rule.time_ns is None else _age(session, rule.time_ns)
        out.line(f"  {rule.needed}  {rule.name:<21} {rule.status:<8} {safe(rule.proof)}{age}")
        if rule.hint:
            out.note(f"     {'':<21} try: {safe(rule.hint)}")


def _row(session: Session, replica: service.ReplicaInfo) -> tuple[str, ...]:
    remarks = [name if value else f"not {name}" for name, value, _ in replica.facts]
    if not replica.complete:
        remarks.append("the last run found damage")
    if replica.seen == "now":
        remarks.append("looked at now")
    elif replica.seen != "then":
        remarks.append(f"not reachable: {replica.seen}")
    return (
        safe(replica.url),
        replica.way,
        session.out.minute(replica.last_ns),
        format_count(replica.snapshots),
        format_count(replica.missing),
        distance(replica.behind_ns) if replica.missing else "-",
        safe(", ".join(remarks)),
    )


def _age(session: Session, time_ns: int) -> str:
    age = session.clock.now_ns() - time_ns
    return "  (now)" if age < 60 * 10**9 else f"  ({distance(age)} ago)"


def _replica_fields(session: Session, replica: service.ReplicaInfo) -> dict[str, object]:
    out = session.out
    missing = replica.newest_missing_ns
    return {
        "url": safe(replica.url),
        "way": replica.way,
        "repository": replica.repository,
        "last": out.timestamp(replica.last_ns),
        "complete": replica.complete,
        "snapshots": replica.snapshots,
        "missing": replica.missing,
        "newest_missing": None if missing is None else out.timestamp(missing),
        "behind_s": replica.behind_ns / 1e9,
        "seen": safe(replica.seen),
        "facts": {name: {"value": value, "stated": out.timestamp(time)} for name, value, time in replica.facts},
        "checks": [
            {"depth": check.depth, "time": out.timestamp(check.time_ns), "errors": check.errors}
            for check in replica.checks
        ],
    }


def _rule_fields(session: Session, rule: service.Rule) -> dict[str, object]:
    fields = dataclasses.asdict(rule)
    moment = fields.pop("time_ns")
    return {**fields, "proof": safe(rule.proof), "time": None if moment is None else session.out.timestamp(moment)}
