"""The configuration of this machine, read and judged as a whole.

Every command may ask for it, so it is read only when something in it is needed, and only what it has is loaded.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from dedupstore.errors import NothingMatches, UsageError
from dedupstore.service import config_text
from dedupstore.service.config_files import FILE, Found, Keys, folders, names, read_all
from dedupstore.service.config_kinds import Invalid, Path, Problem, Table, nearest
from dedupstore.service.config_schema import Config, Repo, Source

T = TypeVar("T")

REPO = "repo:"
"""`repo:NAME` is the URL of a repository of the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong. `place` is `file:line`, empty when nothing says where."""

    message: str
    place: str
    hint: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration that is right, and the files it came from."""

    config: Config
    found: Found

    def repo(self, name: str) -> Repo:
        """Raises NothingMatches for a name that is none."""
        return _named(self.config.repos, name, "repository", "config.unknown_repo")

    def source(self, name: str) -> Source:
        """Raises NothingMatches for a name that is none."""
        return _named(self.config.sources, name, "source", "config.unknown_source")

    @property
    def default_repo(self) -> str:
        """The name of the repository that is meant when none is named; empty when there are several, or none."""
        repos = self.config.repos
        return self.config.default_repo or (next(iter(repos)) if len(repos) == 1 else "")

    def repo_at(self, url: str) -> str:
        """The name of the repository with that URL; empty for one that is not of the configuration."""
        wanted = expanded(url)
        return next((name for name, repo in self.config.repos.items() if expanded(repo.url) == wanted), "")


def load(named: str | None, environ: Mapping[str, str]) -> Loaded:
    """The configuration; an empty one when there are no files. Raises UsageError for the first thing that is wrong."""
    loaded, faults = examine(named, environ)
    if loaded is None:
        raise _error(faults)
    return loaded


def examine(named: str | None, environ: Mapping[str, str]) -> tuple[Loaded | None, tuple[Fault, ...]]:
    """The configuration, or everything that is wrong with it. Raises UsageError for what is not TOML at all."""
    found = read_all(named, environ)
    try:
        config: Config = Table(Config).read(found.document)
        problems = tuple(_cross_check(config))
    except Invalid as error:
        problems = error.problems
    if problems:
        return None, tuple(_fault(problem, found) for problem in problems)
    return Loaded(config=config, found=found), ()


def sample(url: str, passphrase: str) -> str:
    """A configuration to begin with, for a repository there. Raises UsageError when it would not be one."""
    text = config_text.sample(_whole(url), passphrase)
    try:
        Table(Config).read(tomllib.loads(text))
    except Invalid as error:
        problem = error.problems[0]
        raise UsageError(problem.message, hints=[problem.hint] if problem.hint else [], code=problem.code) from None
    return text


def first_configuration(url: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """A path in the user's own folder, and the text of a configuration that names one repository as the default."""
    document = {"default_repo": "main", "repos": {"main": {"url": _whole(url)}}}
    return str(folders(environ)[1] / FILE), config_text.to_toml(document)


def _whole(url: str) -> str:
    return url if "://" in url or url.startswith(("/", "~")) else os.path.abspath(url)


def expanded(url: str) -> str:
    """A URL as it is compared: with the home directory, without a slash at the end."""
    return (os.path.expanduser(url) if url.startswith("~") else url).rstrip("/") or "/"


def _named(members: Mapping[str, T], name: str, what: str, code: str) -> T:
    if name in members:
        return members[name]
    hint = nearest(name, members) or (f"there are {', '.join(members)}" if members else "dedup config init")
    raise NothingMatches(f'the configuration has no {what} "{name}"', hints=[hint], code=code)


def _cross_check(config: Config) -> Iterator[Problem]:
    """Names that refer to something have to be there."""
    repos, sources = config.repos, config.sources
    if config.default_repo:
        yield from _refers(("default_repo",), config.default_repo, repos, "repository", "config.unknown_repo")
    for name, source in sources.items():
        for repo in source.repos:
            yield from _refers(("sources", name, "repos"), repo, repos, "repository", "config.unknown_repo")
        if source.retention != "default":
            way: Path = ("sources", name, "retention")
            yield from _refers(way, source.retention, config.retention, "retention", "config.unknown_retention")
    for name, replica in config.replicas.items():
        for key, repo in (("from", replica.source), ("to", replica.to)):
            yield from _refers(("replicas", name, key), repo, repos, "repository", "config.unknown_repo")
    for name, schedule in config.schedules.items():
        for source in schedule.sources:
            yield from _refers(("schedules", name, "sources"), source, sources, "source", "config.unknown_source")
    if config.verify is not None and config.verify.drill is not None:
        for source in (*config.verify.drill.sources, *config.verify.drill.sql):
            yield from _refers(("verify", "drill", "sources"), source, sources, "source", "config.unknown_source")
    if config.alerts is not None:
        for channel in config.alerts.notify:
            yield from _refers(("alerts", "notify"), channel, config.notify, "channel", "config.unknown_channel")


def _refers(way: Path, name: str, known: Mapping[str, object], what: str, code: str) -> Iterator[Problem]:
    if name not in known:
        yield Problem(message=f'there is no {what} "{name}"', path=way, hint=nearest(name, known), code=code)


def _fault(problem: Problem, found: Found) -> Fault:
    keys = names(problem.path)
    origin = found.origin(keys)
    return Fault(
        message=f"{_shown(problem, keys)}: {problem.message}",
        place="" if origin is None else str(origin),
        hint=problem.hint,
        code=problem.code,
    )


def _shown(problem: Problem, keys: Keys) -> str:
    """The place in the words of the file: `sources.site.exclude`."""
    return ".".join(keys) or "the configuration"


def _error(faults: tuple[Fault, ...]) -> UsageError:
    first = faults[0]
    more = f" (and {len(faults) - 1} more: dedup config check)" if len(faults) > 1 else ""
    return UsageError(
        f"{first.message}{more}", why=first.place, hints=[first.hint] if first.hint else [], code=first.code
    )
