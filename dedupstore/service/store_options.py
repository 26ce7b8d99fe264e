"""What the configuration asks of a store: limits of bandwidth at all hours and at some, locks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

from dedupstore.clock import Clock
from dedupstore.policy.timespec import local_zone
from dedupstore.service.config_schema import Hours, RateWindow, Repo
from dedupstore.storage.options import StoreOptions
from dedupstore.storage.throttle import Pace, RateAt

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def options_of(repo: Repo, clock: Clock, environ: Mapping[str, str]) -> StoreOptions:
    """Limits are shared by all that is opened with these options; hours are those of this machine's clocks."""
    zone = local_zone(environ)
    upload = rate_at(repo.limit_upload, repo.limit_upload_windows, zone)
    download = rate_at(repo.limit_download, repo.limit_download_windows, zone)
    return StoreOptions(
        upload=None if upload is None else Pace(upload, clock=clock),
        download=None if download is None else Pace(download, clock=clock),
        storage_class=repo.storage_class,
        object_lock_ns=repo.object_lock or 0,
    )


def rate_at(limit: int | None, windows: Sequence[RateWindow], zone: tzinfo) -> RateAt | None:
    """The limit at an instant: that of the first window it lies in, else the ordinary one. None where there is no limit."""
    if limit is None and not windows:
        return None

    def rate(now_ns: int) -> float | None:
        local = (_EPOCH + timedelta(microseconds=now_ns // 1000)).astimezone(zone)
        for window in windows:
            if within(window.at, local):
                return window.rate
        return limit

    return rate


def within(hours: Hours, local: datetime) -> bool:
    """Whether a time lies in those hours. Hours over midnight are of the day on which they begin."""
    minute, day = local.hour * 60 + local.minute, local.weekday()
    if hours.start < hours.end:
        return day in hours.days and hours.start <= minute < hours.end
    return (day in hours.days and minute >= hours.start) or ((day - 1) % 7 in hours.days and minute < hours.end)
