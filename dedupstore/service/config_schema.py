"""The tables of the configuration: repositories, sources, retention, replicas. Keys are the names of the fields.

The tables of the daemon (schedules, verification, alerts, notification, server) are in config_daemon.py and loaded when
a configuration has them: every command reads the configuration, few need those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from dedupstore.errors import UsageError
from dedupstore.service.config_kinds import (
    AllOr,
    Choice,
    Count,
    Kind,
    Late,
    Named,
    OneOf,
    SecretReference,
    Several,
    Table,
    Text,
    Whole,
    required,
    setting,
)
from dedupstore.service.config_values import (
    COMMAND,
    DURATION,
    FILE_NAME,
    FLAG,
    PATH,
    PATHS,
    RATE,
    SECRET,
    SIZE,
    SPAN,
    TEXT,
    TEXTS,
    Nanoseconds,
    Rate,
)
from dedupstore.storage.registry import refuse_secrets
from dedupstore.units import GIB

_MINUTE = 60 * 1_000_000_000
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:-(?P<last>[a-z]{3}))?\s+)?(?P<start>\d{1,2}:\d{2})-(?P<end>\d{1,2}:\d{2})", re.IGNORECASE
)
# What follows a colon is a password, whatever is in it, unless it is the port of an address without a user.
_PASSWORD_IN_DSN = re.compile(
    r"[A-Za-z0-9+.-]+://(?!\[)[^/?#@]*:(?![0-9]+(?:[/?#,]|$))[^@]*@|[?&\s]password\s*=", re.IGNORECASE
)
_COMPRESSION = re.compile(r"(?:-Z|--compress(?:ion)?(?:=|$)|-C$).*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """Some hours of some days by local time: `Mon-Fri 08:00-20:00`. An end that is not after the start is of the next day.

    `days` counts from Monday, 0; `start` and `end` are minutes of the day.
    """

    days: frozenset[int]
    start: int
    end: int


def parse_hours(text: str) -> Hours:
    """Raises UsageError."""
    match = _HOURS.fullmatch(text.strip())
    hint = 'write "Mon-Fri 08:00-20:00", "Sun 00:00-24:00" or "22:00-07:00"'
    if match is None:
        raise UsageError(f"not a time of the week: {text!r}", hints=[hint])
    names = [(match[name] or "").lower() for name in ("first", "last")]
    if any(name and name not in _DAYS for name in names):
        raise UsageError(f"not a day: {text!r}", hints=[hint])
    first = _DAYS.index(names[0]) if names[0] else 0
    last = _DAYS.index(names[1]) if names[1] else first if names[0] else 6
    days = frozenset((first + step) % 7 for step in range((last - first) % 7 + 1))
    start, end = (_minutes(match[name], hint) for name in ("start", "end"))
    if start == 24 * 60:
        raise UsageError("a day begins at 00:00", hints=[hint])
    return Hours(days=days, start=start, end=end)


def _minutes(text: str, hint: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise UsageError(f"not a time of day: {text!r}", hints=[hint])
    return hours * 60 + minutes


def _repository_url(text: str) -> str:
    refuse_secrets(text)
    if text.startswith("repo:"):
        raise UsageError("a repository is not named after another one", hints=["write the URL itself"])
    if "://" not in text and not text.startswith(("/", "~")):
        raise UsageError("this has to be a whole path or a URL", hints=["begin it with /, ~ or s3://"])
    return text


def _dsn(text: str, *schemes: str) -> str:
    if _PASSWORD_IN_DSN.search(text):
        raise UsageError("a password does not belong here", hints=['write it apart: password = "file:PATH"'])
    form = f"{schemes[0] if schemes else 'postgresql'}://USER@HOST:PORT/DATABASE"
    try:
        parts = urlsplit(text)
        # PostgreSQL takes several hosts, each with its port.
        _ = parts.port if "," not in parts.netloc else None
    except ValueError:
        raise UsageError(
            "not the address of a database: its host or port is none", hints=[f"write it as {form}"]
        ) from None
    if schemes and parts.scheme not in schemes:
        raise UsageError("not the address of a database of this type", hints=[f"write it as {form}"])
    if "\0" in unquote(text):
        raise UsageError("not the address of a database: it has a NUL in it", hints=[f"write it as {form}"])
    return text


def _pitr(text: str) -> str:
    # Refused: who asks for it must not believe that every minute is kept.
    if text != "off":
        raise UsageError(
            "there is no continuous archiving",
            hints=['write pitr = "off", and take snapshots more often; or archive beside it, by pgBackRest or WAL-G'],
        )
    return text


def _postgresql_dsn(text: str) -> str:
    return _dsn(text, "postgresql", "postgres")


def _mysql_dsn(text: str) -> str:
    return _dsn(text, "mysql", "mariadb")


def _dump_option(text: str) -> str:
    if _COMPRESSION.fullmatch(text):
        raise UsageError("a dump must not be compressed: it would not deduplicate", hints=["leave this option out"])
    return text


HOURS: Kind[Hours] = Text(parse_hours, 'hours in quotes, as in "Mon-Fri 08:00-20:00"')
DSN: Kind[str] = Text(_dsn, "the address of a database")
PITR: Kind[str] = Text(_pitr, '"off"', "^off$")
POSTGRESQL_DSN: Kind[str] = Text(_postgresql_dsn, "the address of a database")
MYSQL_DSN: Kind[str] = Text(_mysql_dsn, "the address of a database")
DUMP_OPTIONS: Kind[tuple[str, ...]] = Several(Text(_dump_option, "an option"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RateWindow:
    """Another limit at some hours."""

    at: Hours = required(HOURS, "When it holds, by local time: Mon-Fri 08:00-20:00.")
    rate: Rate = required(RATE, "The limit then, in bytes a second: 5MB/s.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repo:
    """[repos.NAME]"""

    url: str = required(
        Text(_repository_url, "a path or a URL"), "Where it is: a whole path, or a URL without secrets."
    )
    passphrase: SecretReference | None = setting(SECRET, None, "Where its passphrase is.")
    key_file: str | None = setting(PATH, None, "The key file that opens it.")
    limit_upload: Rate | None = setting(RATE, None, "Bytes a second sent at most.")
    limit_download: Rate | None = setting(RATE, None, "Bytes a second received at most.")
    limit_upload_windows: tuple[RateWindow, ...] = setting(
        Several(Table(RateWindow)), (), "Other limits for sending at some hours."
    )
    limit_download_windows: tuple[RateWindow, ...] = setting(
        Several(Table(RateWindow)), (), "Other limits for receiving at some hours."
    )
    object_lock: Nanoseconds | None = setting(
        DURATION, None, "Nobody can delete what is written for that long; needs a bucket with Object Lock."
    )

    storage_class: str = setting(TEXT, "", "The storage class of file contents in a bucket: STANDARD_IA.")
    base_cache: int = setting(
        SIZE, GIB, "How much of a bucket this machine keeps, so that increments are made without reading from there."
    )

    @property
    def asks_of_the_store(self) -> bool:
        """Whether anything is said of how it is spoken to: bandwidth, a storage class, locks."""
        limits = self.limit_upload or self.limit_download or self.limit_upload_windows or self.limit_download_windows
        return bool(limits or self.storage_class or self.object_lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What all sources have: [sources.NAME]"""

    repos: tuple[str, ...] = setting(TEXTS, (), "Names of the repositories it goes to; default_repo otherwise.")
    retention: str = setting(TEXT, "default", "The name of its [retention.NAME].")
    tags: tuple[str, ...] = setting(TEXTS, (), "Tags for its snapshots.")
    note: str = setting(TEXT, "", "A note for its snapshots.")
    compression: int = setting(Whole(1, 19), 3, "1 (fast) to 19 (small).")
    skip_if_unchanged: bool = setting(FLAG, False, "Make no snapshot when nothing has changed.")
    before: tuple[str, ...] = setting(COMMAND, (), "Runs first; when it fails there is no snapshot.")
    after: tuple[str, ...] = setting(COMMAND, (), "Runs last, however the snapshot ended.")
    hook_timeout: Nanoseconds = setting(DURATION, Nanoseconds(10 * _MINUTE), "How long before and after may take.")
    pass_environment: tuple[str, ...] = setting(
        TEXTS, (), "Variables of storage that before and after may see: AWS_PROFILE."
    )

    @property
    def type(self) -> str:
        """As in the file."""
        return next(name for name, table in SOURCES.tables.items() if table.record is self.__class__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSource(Source):
    """type = "files": directories and files of this machine."""

    paths: tuple[str, ...] = required(Several(PATH, least=1), "Directories and files.")
    exclude: tuple[str, ...] = setting(TEXTS, (), "Leave out what matches, as in .gitignore.")
    exclude_files: tuple[str, ...] = setting(PATHS, (), "Files with such patterns.")
    exclude_if_present: tuple[str, ...] = setting(
        Several(FILE_NAME), (), "Leave out directories that hold a file of that name."
    )
    exclude_caches: bool = setting(FLAG, False, "Leave out directories marked by a CACHEDIR.TAG.")
    exclude_larger_than: int | None = setting(SIZE, None, "Leave out larger files.")
    exclude_nodump: bool = setting(FLAG, False, "Leave out what `chattr +d` marks.")
    one_file_system: bool = setting(FLAG, False, "Do not go into other file systems.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSource(Source):
    """type = "command": what a command prints, if it succeeds."""

    command: tuple[str, ...] = required(COMMAND, "The command and its arguments.")
    filename: str = required(FILE_NAME, "The name its output is kept under.")
    timeout: Nanoseconds | None = setting(DURATION, None, "How long it may take.")


@dataclass(frozen=True, slots=True, kw_only=True)
class StdinSource(Source):
    """type = "stdin": what is piped into `dedup snapshot NAME`."""

    filename: str = required(FILE_NAME, "The name it is kept under.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresqlSource(Source):
    """type = "postgresql": databases of a PostgreSQL server, by pg_dump."""

    dsn: str = required(POSTGRESQL_DSN, "postgresql://user@host:5432/database, without a password.")
    password: SecretReference | None = setting(SECRET, None, "Where the password is; ~/.pgpass otherwise.")
    exec: tuple[str, ...] = setting(COMMAND, (), "Runs the dump inside a container: docker compose exec -T db.")
    databases: tuple[str, ...] | str = setting(
        AllOr(Several(TEXT, least=1)), (), 'Names, or "all"; the one of the dsn otherwise.'
    )
    globals: bool = setting(FLAG, True, "Roles and tablespaces too, without passwords.")
    options: tuple[str, ...] = setting(DUMP_OPTIONS, (), "More options for pg_dump.")
    pitr: str = setting(PITR, "off", "Continuous archiving beside the dumps: there is none yet.")
    max_downtime_check: bool = setting(FLAG, False, "Say after each snapshot how long a restore would take.")


@dataclass(frozen=True, slots=True, kw_only=True)
class MysqlSource(Source):
    """type = "mysql": databases of a MySQL or MariaDB server."""

    dsn: str = required(MYSQL_DSN, "mysql://user@host:3306/database or ?socket=PATH, without a password.")
    password: SecretReference | None = setting(SECRET, None, "Where the password is.")
    exec: tuple[str, ...] = setting(COMMAND, (), "Runs the dump inside a container: docker compose exec -T db.")
    databases: tuple[str, ...] | str = setting(
        AllOr(Several(TEXT, least=1)), (), 'Names, or "all"; the one of the dsn otherwise.'
    )
    globals: bool = setting(FLAG, True, "Users and their rights too.")
    options: tuple[str, ...] = setting(DUMP_OPTIONS, (), "More options for the dump.")
    pitr: str = setting(PITR, "off", "Continuous archiving beside the dumps: there is none yet.")
    max_downtime_check: bool = setting(FLAG, False, "Say after each snapshot how long a restore would take.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteSource(Source):
    """type = "sqlite": one SQLite database, copied while others write to it."""

    path: str = required(PATH, "The database file.")
    format: str = setting(Choice(("copy", "sql")), "copy", "A copy of its pages, or its content as SQL.")


SOURCES = OneOf(
    {
        "files": Table(FilesSource),
        "postgresql": Table(PostgresqlSource),
        "mysql": Table(MysqlSource),
        "sqlite": Table(SqliteSource),
        "command": Table(CommandSource),
        "stdin": Table(StdinSource),
    }
)

_COUNT = Count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """[retention.NAME]: what `dedup forget --policy` keeps of a source."""

    keep_last: int = setting(_COUNT, 0, "The newest N.")
    keep_hourly: int = setting(_COUNT, 0, "The newest of each hour, N of them.")
    keep_daily: int = setting(_COUNT, 0, "The newest of each day, N of them.")
    keep_weekly: int = setting(_COUNT, 0, "The newest of each week, N of them.")
    keep_monthly: int = setting(_COUNT, 0, "The newest of each month, N of them.")
    keep_quarterly: int = setting(_COUNT, 0, "The newest of each quarter, N of them.")
    keep_yearly: int = setting(_COUNT, 0, "The newest of each year, N of them.")
    keep_within: str = setting(SPAN, "", "All of that span: 14d, 6m (months), 1y.")
    keep_within_hourly: str = setting(SPAN, "", "Of that span, the newest of each hour.")
    keep_within_daily: str = setting(SPAN, "", "Of that span, the newest of each day.")
    keep_within_weekly: str = setting(SPAN, "", "Of that span, the newest of each week.")
    keep_within_monthly: str = setting(SPAN, "", "Of that span, the newest of each month.")
    keep_within_quarterly: str = setting(SPAN, "", "Of that span, the newest of each quarter.")
    keep_within_yearly: str = setting(SPAN, "", "Of that span, the newest of each year.")
    keep_tags: tuple[str, ...] = setting(TEXTS, (), "What has one of these tags.")
    min_age: Nanoseconds = setting(DURATION, Nanoseconds(0), "Nothing younger is ever removed.")
    require_verified: int = setting(Whole(1, 1000), 1, "The newest N that passed a check are never removed.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaPlan:
    """[replicas.NAME]: copies of one repository in another."""

    source: str = required(TEXT, "The name of the repository copied from.", key="from")
    to: str = required(TEXT, "The name of the repository copied to.")
    cron: str = setting(TEXT, "", "When, as in a crontab.")
    max_lag: Nanoseconds | None = setting(DURATION, None, "How far it may be behind.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration."""

    version: int = setting(Whole(1, 1), 1, "The version of this file's form.")
    default_repo: str = setting(TEXT, "", "The name of the repository that is meant when none is named.")
    host: str = setting(TEXT, "", "Instead of the name of this machine; containers need one that stays.")
    max_concurrent: int = setting(Whole(1, 64), 1, "How many sources of one run are read at a time.")
    nice: int | None = setting(Whole(0, 19), None, "The scheduling priority of snapshots: 0 to 19, the kindest.")
    ionice: str | None = setting(Choice(("best-effort", "idle")), None, "The priority of snapshots at the disk.")
    limit_rate: Rate | None = setting(RATE, None, "Bytes a second that snapshots read at most, all together.")
    repos: Mapping[str, Repo] = setting(Named(Table(Repo)), {}, "Repositories by name.")
    sources: Mapping[str, Source] = setting(Named(SOURCES), {}, "Sources by name.")
    retention: Mapping[str, Retention] = setting(Named(Table(Retention)), {}, "What to keep, by name.")
    replicas: Mapping[str, ReplicaPlan] = setting(Named(Table(ReplicaPlan)), {}, "Copies by name.")
    schedules: Mapping[str, Any] = setting(Late("dedupstore.service.config_daemon:SCHEDULES"), {}, "What runs when.")
    verify: Any = setting(Late("dedupstore.service.config_daemon:VERIFY"), None, "Checks and drills.")
    alerts: Any = setting(Late("dedupstore.service.config_daemon:ALERTS"), None, "What is worth a message.")
    notify: Mapping[str, Any] = setting(Late("dedupstore.service.config_daemon:NOTIFY"), {}, "Where messages go.")
    server: Any = setting(Late("dedupstore.service.config_daemon:SERVER"), None, "The web console and the API.")
