"""The tools that are measured: for each, how it is started, on its defaults, for every action.

Each tool keeps all it writes below one Place and sees an environment made here: nothing of the user's
own configuration, caches or passwords has a part in a run.
"""

import os
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from benchmarks.measure import Pipeline

PROJECT = Path(__file__).parent.parent
PASSPHRASE = "benchmark, not a secret"
KEPT = 5
"""How many snapshots, the newest, stay in a PRUNE."""


class Action(Enum):
    """What a step lets a tool do."""

    SNAPSHOT = "snapshot"
    RESTORE = "restore"
    CHECK = "check"
    PRUNE = "prune"
    LIST = "list"
    HELP = "help"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A part of a bucket on a server that speaks S3."""

    endpoint: str
    name: str
    prefix: str
    access: str
    secret: str

    @property
    def environment(self) -> Mapping[str, str]:
        return {"AWS_ACCESS_KEY_ID": self.access, "AWS_SECRET_ACCESS_KEY": self.secret}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The directories of one tool in one repetition of a workload."""

    root: Path
    bucket: Bucket | None = None
    """Where the repository is instead of below the root."""

    @property
    def repository(self) -> Path:
        return self.root / "repository"

    @property
    def target(self) -> Path:
        return self.root / "restored"

    @property
    def log(self) -> Path:
        return self.root / "log"

    def clear(self) -> None:
        """Remove all of an earlier run and make the empty directories that tools expect to exist."""
        shutil.rmtree(self.root, ignore_errors=True)
        for name in ("home", "cache", "state", "tmp"):
            (self.root / name).mkdir(parents=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """How tools that know nothing of databases save one, as their users do it."""

    file: str
    """What they call it."""
    bare: tuple[str, ...]
    """Reads all of it as dedup lets it be read, and throws it away."""
    restored: str
    """The name of a new database for a restore."""
    dump: tuple[str, ...] = ()
    """Prints it."""
    load: tuple[str, ...] = ()
    """Reads what `dump` has printed into the new database."""
    copy: tuple[str, ...] = ()
    """Where there is nothing to print: makes the file, a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One action to do: save `item`, a name inside `stage`, or restore it below the place's target.

    A database has an address instead of a name.
    """

    place: Place
    stage: Path
    item: str
    snapshots: int
    """How many snapshots the repository has before this action; also the name of the next one."""
    database: Database | None = None


class Tool(Protocol):
    """One measured program. Restoring must give `<target>/<item>`."""

    name: str
    title: str

    def version(self) -> str | None:
        """The version as the tool tells it, or None when it is not installed."""

    def environment(self, place: Place) -> Mapping[str, str]:
        """Variables on top of base_environment()."""

    def initialize(self, place: Place) -> Pipeline | None:
        """What makes an empty repository; not part of any figure."""

    def pipeline(self, action: Action, job: Job) -> Pipeline:
        """The command for an action. Raises KeyError for an action the tool does not have."""


def base_environment(place: Place) -> dict[str, str]:
    """What every tool gets: a home of its own, no locale surprises, nothing of the user's."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(place.root / "home"),
        "TMPDIR": str(place.root / "tmp"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }


def first_line(*argv: str) -> str | None:
    """The first line a version command prints, or None when it cannot be started or fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def in_turn(*commands: tuple[str, ...]) -> tuple[str, ...]:
    """One command that runs several, each after the other has ended well; what it used is what they did."""
    return ("sh", "-c", " && ".join(map(shlex.join, commands)))


class Restic:
    """restic on its defaults: repository format 2, `--compression auto`, its cache on."""

    name = "restic"
    title = "restic"

    def version(self) -> str | None:
        return first_line("restic", "version")

    def environment(self, place: Place) -> Mapping[str, str]:
        bucket = place.bucket
        url = f"s3:{bucket.endpoint}/{bucket.name}/{bucket.prefix}" if bucket else str(place.repository)
        return {
            **(bucket.environment if bucket else {}),
            "RESTIC_REPOSITORY": url,
            "RESTIC_PASSWORD": PASSPHRASE,
            "RESTIC_CACHE_DIR": str(place.root / "cache"),
        }

    def initialize(self, place: Place) -> Pipeline | None:
        return Pipeline(commands=(("restic", "init"),), cwd=place.root)

    def pipeline(self, action: Action, job: Job) -> Pipeline:
        root = job.place.root
        if job.database and action in (Action.SNAPSHOT, Action.RESTORE):
            return Pipeline(commands=_restic_database(action, job.database), cwd=job.stage)
        argv, cwd = {
            Action.SNAPSHOT: (("restic", "backup", job.item), job.stage),
            Action.RESTORE: (("restic", "restore", "latest", "--target", str(job.place.target)), root),
            Action.CHECK: (("restic", "check", "--read-data"), root),
            Action.PRUNE: (("restic", "forget", "--keep-last", str(KEPT), "--prune"), root),
            Action.LIST: (("restic", "snapshots"), root),
            Action.HELP: (("restic", "--help"), root),
        }[action]
        return Pipeline(commands=(argv,), cwd=cwd)


def _restic_database(action: Action, database: Database) -> tuple[tuple[str, ...], ...]:
    if database.copy:
        if action is Action.RESTORE:
            return (("restic", "restore", "latest", "--target", database.restored),)
        return (in_turn(database.copy, ("restic", "backup", database.file)),)
    if action is Action.RESTORE:
        return (("restic", "dump", "latest", f"/{database.file}"), database.load)
    return (database.dump, ("restic", "backup", "--stdin", "--stdin-filename", database.file))


class Borg:
    """borg with authenticated encryption; compression is its default (lz4) or as given."""

    def __init__(self, program: str, *, compression: str | None = None) -> None:
        self.program = program
        self.options = ("--compression", compression) if compression else ()
        self.name = "borg-zstd" if compression else "borg"
        self.title = f"borg {compression}" if compression else "borg"

    def version(self) -> str | None:
        return first_line(self.program, "--version")

    def environment(self, place: Place) -> Mapping[str, str]:
        return {
            "BORG_REPO": str(place.repository),
            "BORG_PASSPHRASE": PASSPHRASE,
            "BORG_BASE_DIR": str(place.root / "home"),
        }

    def initialize(self, place: Place) -> Pipeline | None:
        return Pipeline(commands=((self.program, "init", "--encryption", "repokey-blake2"),), cwd=place.root)

    def pipeline(self, action: Action, job: Job) -> Pipeline:
        root = job.place.root
        if action is Action.PRUNE:
            prune = (self.program, "prune", "--keep-last", str(KEPT))
            return Pipeline(commands=(in_turn(prune, (self.program, "compact")),), cwd=root)
        arguments, cwd = {
            Action.SNAPSHOT: (("create", *self.options, f"::s{job.snapshots}", job.item), job.stage),
            Action.RESTORE: (("extract", f"::s{job.snapshots - 1}"), job.place.target),
            Action.CHECK: (("check", "--verify-data"), root),
            Action.LIST: (("list",), root),
            Action.HELP: (("--help",), root),
        }[action]
        return Pipeline(commands=((self.program, *arguments),), cwd=cwd)


class TarZstd:
    """`tar | zstd -3 -T2`: what is possible without deduplication, encryption or an index."""

    name = "tar"
    title = "tar | zstd -3 -T2"

    def version(self) -> str | None:
        tar, zstd = first_line("tar", "--version"), first_line("zstd", "--version")
        return f"{tar}; {zstd.strip('* ')}" if tar and zstd else None

    def environment(self, place: Place) -> Mapping[str, str]:
        return {}

    def initialize(self, place: Place) -> Pipeline | None:
        return Pipeline(commands=(("mkdir", str(place.repository)),), cwd=place.root)

    def pipeline(self, action: Action, job: Job) -> Pipeline:
        if action is Action.SNAPSHOT:
            archive = str(job.place.repository / f"{job.snapshots}.tar.zst")
            pack = ("tar", "--create", "--file=-", job.item)
            return Pipeline(commands=(pack, ("zstd", "-q", "-3", "-T2", "-o", archive)), cwd=job.stage)
        if action is Action.RESTORE:
            archive = str(job.place.repository / f"{job.snapshots - 1}.tar.zst")
            unpack = ("tar", "--extract", "--file=-")
            return Pipeline(commands=(("zstd", "-q", "-d", "-c", archive), unpack), cwd=job.place.target)
        raise KeyError(action)


class Copy:
    """`cp -a`: the yardstick of a restore."""

    name = "cp"
    title = "cp -a"

    def version(self) -> str | None:
        return first_line("cp", "--version")

    def environment(self, place: Place) -> Mapping[str, str]:
        return {}

    def initialize(self, place: Place) -> Pipeline | None:
        return None

    def pipeline(self, action: Action, job: Job) -> Pipeline:
        if action is not Action.RESTORE:
            raise KeyError(action)
        return Pipeline(commands=(("cp", "-a", str(job.stage / job.item), "."),), cwd=job.place.target)


class Bare:
    """The server's own program, or a copy, with nothing kept: what reading a database takes by itself."""

    name = "bare"
    title = "only read"

    def version(self) -> str | None:
        found = (first_line(*argv) for argv in (("pg_dump", "--version"), ("mariadb-dump", "--version")))
        return "; ".join([*(version for version in found if version), f"SQLite {sqlite3.sqlite_version}"])

    def environment(self, place: Place) -> Mapping[str, str]:
        return {}

    def initialize(self, place: Place) -> Pipeline | None:
        return None

    def pipeline(self, action: Action, job: Job) -> Pipeline:
        if action is not Action.SNAPSHOT or job.database is None:
            raise KeyError(action)
        return Pipeline(commands=(job.database.bare,), cwd=job.stage)


class Dedup:
    """dedupstore on its defaults, with the default key derivation."""

    def __init__(self, program: tuple[str, ...], *, name: str = "dedup", title: str = "dedup") -> None:
        self.program = program
        self.name = name
        self.title = title

    def version(self) -> str | None:
        return first_line(*self.program, "version") or first_line(*self.program, "--version")

    def environment(self, place: Place) -> Mapping[str, str]:
        return {
            **(place.bucket.environment if place.bucket else {}),
            "DEDUP_PASSPHRASE": PASSPHRASE,
            "DEDUP_NEW_PASSPHRASE": PASSPHRASE,
            "DEDUP_CACHE_DIR": str(place.root / "cache"),
            "DEDUP_STATE_DIR": str(place.root / "state"),
            "XDG_CONFIG_HOME": str(place.root / "home"),
        }

    def initialize(self, place: Place) -> Pipeline | None:
        argv = (*self.program, "init", "-r", self._url(place), "--no-input")
        return Pipeline(commands=(argv,), cwd=place.root)

    def pipeline(self, action: Action, job: Job) -> Pipeline:
        root, repository = job.place.root, ("-r", self._url(job.place))
        quiet = ("--progress", "none")
        if action is Action.PRUNE:
            # A benchmark's snapshots come in a flood, and nobody may want them back.
            forget = (*self.program, "forget", *repository, "--keep-last", str(KEPT), "--count-bursts", "--yes")
            prune = (*self.program, "prune", *repository, "--grace", "0", "--undo-window", "0", *quiet)
            return Pipeline(commands=(in_turn(forget, prune),), cwd=root)
        target = ("--as", job.database.restored) if job.database else ("--to", str(job.place.target))
        arguments, cwd = {
            Action.SNAPSHOT: (("snapshot", job.item, *repository, *quiet), job.stage),
            Action.RESTORE: (("restore", *repository, *target, *quiet), root),
            Action.CHECK: (("check", *repository, "--read-data", *quiet), root),
            Action.LIST: (("snapshots", *repository), root),
            Action.HELP: (("--help",), root),
        }[action]
        return Pipeline(commands=((*self.program, *arguments),), cwd=cwd)

    def _url(self, place: Place) -> str:
        if place.bucket is None:
            return str(place.repository)
        return f"s3://{place.bucket.name}/{place.bucket.prefix}?endpoint={place.bucket.endpoint}&vendor=ceph"


def dedup_program() -> tuple[str, ...]:
    """$DEDUP (may be several words), else the project's own environment, else the PATH."""
    named = os.environ.get("DEDUP")
    if named:
        return tuple(shlex.split(named))
    own = PROJECT / ".venv" / "bin" / "dedup"
    return (str(own),) if own.exists() else ("dedup",)


def all_tools(work: Path) -> dict[str, Tool]:
    """Every tool by name, in the order of the tables; borg is the one that `--install` puts into the work directory."""
    installed = work / "venv" / "bin" / "borg"
    borg = str(installed) if installed.exists() else "borg"
    tools: tuple[Tool, ...] = (
        Dedup(dedup_program()),
        Dedup(dedup_program(), name="dedup-fresh", title="dedup, only what is kept"),
        Restic(),
        Borg(borg),
        Borg(borg, compression="zstd,3"),
        TarZstd(),
        Copy(),
        Bare(),
    )
    return {tool.name: tool for tool in tools}
