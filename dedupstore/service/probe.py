"""What a bucket's server really does, and what that means for the URL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dedupstore.events import Finding
from dedupstore.storage.registry import probe_store
from dedupstore.units import format_duration

if TYPE_CHECKING:
    # It loads boto3.
    from dedupstore.storage.s3_probe import Probed


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`warnings` stand in the way of a repository, or would be if the URL stays as it is; `advice` is for what it costs."""

    probed: Probed
    warnings: tuple[Finding, ...]
    advice: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return 3 if self.warnings else 0


def run(url: str) -> Verdict:
    """Try the server on small objects, which are taken away again. Raises UsageError for a directory."""
    found = probe_store(url)
    return Verdict(probed=found, warnings=tuple(_warnings(found)), advice=tuple(_advice(found)))


def _warnings(found: Probed) -> Iterator[Finding]:
    if found.ranges != "yes":
        message = "the server does not give parts of an object: nothing could be read from a repository there"
        yield Finding(code="probe.no_ranges", message=message)
    for lag, what in ((found.put_lag, "puts"), (found.delete_lag, "deletes")):
        if lag is not None and lag.late:
            message = f"{lag.late} of {lag.rounds} {what} were listed late, the latest after {lag.longest_seconds} s"
            yield Finding(code="probe.listings_lag", message=f"{message}{_to_do(found, lag.longest_seconds)}")
    if found.object_lock == "not enforced":
        message = "a locked object could be deleted: locks protect nothing there"
        yield Finding(code="probe.lock_not_enforced", message=message)
    if found.left:
        message = f"{len(found.left)} small objects could not be taken away again: {found.left[0]} …"
        yield Finding(code="probe.left", message=message)


def _to_do(found: Probed, seconds: float) -> str:
    if not found.waits_seconds:
        return ": add consistency=eventual to the URL"
    return "" if seconds < found.waits_seconds else f", and snapshots wait {found.waits_seconds:.0f} s: too short"


def _advice(found: Probed) -> list[str]:
    told = []
    lags = [lag for lag in (found.put_lag, found.delete_lag) if lag is not None]
    if found.strong_url and not any(lag.late for lag in lags):
        changes = sum(lag.rounds for lag in lags)
        waits = f"each snapshot waits {format_duration(found.waits_seconds)}, for nothing is known of this server"
        told.append(
            f"{waits}; none of {changes} changes was listed late. If its maker promises that listings are consistent, "
            f"say so: {found.strong_url}"
        )
    if found.delete != "yes":
        told.append("these keys make snapshots and restore; forget and prune need others, that may delete")
    if found.versions == "enabled" and found.object_lock == "off":
        told.append("the bucket keeps versions: prune deletes each of them, and needs s3:DeleteObjectVersion for it")
    return told
