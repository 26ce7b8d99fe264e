"""The tables of the configuration that only the daemon carries out: schedules, verification, alerts, notification, server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dedupstore.errors import UsageError
from dedupstore.service.config_kinds import (
    Factor,
    Kind,
    Named,
    SecretReference,
    Several,
    Table,
    Text,
    Whole,
    required,
    setting,
)
from dedupstore.service.config_schema import Hours, parse_hours
from dedupstore.service.config_values import (
    ADDRESS,
    ADDRESSES,
    DURATION,
    FLAG,
    PERCENT,
    SECRET,
    TEXT,
    TEXTS,
    Nanoseconds,
)
from dedupstore.units import parse_size

_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,#?()-]+")
_NICKNAMES = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def _cron(text: str) -> str:
    parts = text.split()
    if text not in _NICKNAMES and (len(parts) != 5 or not all(map(_CRON_FIELD.fullmatch, parts))):
        raise UsageError("this has to be five fields, as in a crontab", hints=['write "30 3 * * *", or "H 3 * * *"'])
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"no such time zone: {text!r}", hints=['write it as "Europe/Berlin" or "UTC"']) from None
    return text


def _share(text: str) -> str:
    """How much of the data a check reads: a share, a size, or all of it; checked here, understood by the check."""
    if text != "all" and not re.fullmatch(r"\d{1,3}(\.\d+)?%", text):
        parse_size(text)
    return text


CRON: Kind[str] = Text(_cron, "five fields, as in a crontab")
ZONE: Kind[str] = Text(_zone, "a time zone")
QUIET: Kind[Hours] = Text(parse_hours, 'hours in quotes, as in "22:00-07:00"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    attempts: int = setting(Whole(1, 100), 1, "How often it is tried, all in all.")
    wait: Nanoseconds = setting(DURATION, Nanoseconds(300 * 1_000_000_000), "How long after a failure.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """[schedules.NAME]"""

    cron: str = required(CRON, "When: five fields as in a crontab; H is a minute that this host always has.")
    sources: tuple[str, ...] = setting(TEXTS, (), "Names of sources; all of them otherwise.")
    timezone: str = setting(ZONE, "", "Whose clocks; those of this machine otherwise.")
    jitter: Nanoseconds = setting(DURATION, Nanoseconds(0), "Starts up to that much later, by chance.")
    catch_up: bool = setting(FLAG, True, "Run once when a slot was missed.")
    timeout: Nanoseconds | None = setting(DURATION, None, "How long a run may take.")
    retry: Retry = setting(Table(Retry), Retry(), "Another try after a failure.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPlan:
    cron: str = required(CRON, "When.")
    read_data: str = setting(Text(_share, 'a share in quotes, as in "5%"'), "", "How much of the data it reads.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPlan:
    cron: str = required(CRON, "When.")
    sources: tuple[str, ...] = setting(TEXTS, (), "Names of sources; all of them otherwise.")
    sql: Mapping[str, str] = setting(Named(TEXT), {}, "By source, a query that has to be true of what was restored.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """[verify]"""

    check: CheckPlan | None = setting(Table(CheckPlan), None, "Regular checks.")
    drill: DrillPlan | None = setting(Table(DrillPlan), None, "Regular restores.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerts:
    """[alerts]"""

    notify: tuple[str, ...] = setting(TEXTS, (), "Names of [notify.NAME].")
    failures_in_a_row: int = setting(Whole(1, 1000), 2, "So many failures are worth a message.")
    storage_over: float | None = setting(PERCENT, None, "So full is worth a message.")
    duration_factor: float | None = setting(Factor(1.0), None, "So many times the usual time is worth a message.")
    overdue_after: Nanoseconds | None = setting(DURATION, None, "No good snapshot that long after it was due.")
    size_change_over: float | None = setting(PERCENT, None, "A source that grew or shrank by more.")
    no_drill_for: Nanoseconds | None = setting(DURATION, None, "No restore was tried for that long.")
    repeat_every: Nanoseconds | None = setting(DURATION, None, "How often one message is repeated.")
    quiet: Hours | None = setting(QUIET, None, "Warnings wait until these hours are over.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """[notify.NAME]"""

    urls: tuple[str, ...] = setting(ADDRESSES, (), "Apprise URLs; or references to them, as to a secret.")
    webhook: str = setting(ADDRESS, "", "Gets messages as JSON by POST.")
    healthchecks: str = setting(ADDRESS, "", "Is told of every start, success and failure.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    enabled: bool = setting(FLAG, True, "Whether there are any.")
    token: SecretReference | None = setting(SECRET, None, "Where the token is that opens them.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """[server]"""

    listen: str = setting(TEXT, "127.0.0.1:8765", "Address and port.")
    public_url: str = setting(TEXT, "", "How browsers reach it.")
    trusted_proxies: tuple[str, ...] = setting(Several(TEXT), (), "Addresses of proxies that are believed.")
    metrics: Metrics = setting(Table(Metrics), Metrics(), "Figures for Prometheus.")


SCHEDULES: Kind[Mapping[str, Schedule]] = Named(Table(Schedule))
VERIFY = Table(Verify)
ALERTS = Table(Alerts)
NOTIFY: Kind[Mapping[str, Channel]] = Named(Table(Channel))
SERVER = Table(Server)
