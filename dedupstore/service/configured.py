"""From a source of the configuration to a request for a snapshot, and what its record says of the set it belongs to.

A run over several sources has one id and one logical time. Each record names, in `details`, all sources that the
configuration has (`set.sources`, one a line): so a restore as of a time finds what belongs together, even where a source failed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dedupstore.errors import UsageError
from dedupstore.service.config import Loaded
from dedupstore.service.config_schema import (
    CommandSource,
    FilesSource,
    MysqlSource,
    PostgresqlSource,
    Source,
    SqliteSource,
    StdinSource,
)
from dedupstore.service.config_text import to_toml
from dedupstore.service.pace import Pace
from dedupstore.service.records import CONFIG, SOURCES
from dedupstore.service.snapshot import Request

MAX_CONFIG_BYTES = 32 << 10
"""Larger than any that a person writes; each snapshot carries it."""

_KEPT = ("version", "default_repo", "host", "repos", "sources", "retention", "replicas")
"""What is kept of the configuration; the rest concerns the machine, and may hold addresses with tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the call says for all sources of a run; fields that say nothing leave it to the configuration."""

    tags: tuple[str, ...] = ()
    note: str = ""
    host: str = ""
    time_ns: int
    run: bytes
    dry_run: bool = False
    skip_if_unchanged: bool = False
    force: bool = False
    level: int | None = None
    stdin_fd: int | None = None
    allow_empty: bool = False
    pace: Pace | None = None


def names_of(loaded: Loaded, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The sources of a run: those that were asked for, or all but those that are piped in. Raises NothingMatches."""
    if asked:
        return tuple(dict.fromkeys(name for name in asked if loaded.source(name)))
    return tuple(name for name, source in loaded.config.sources.items() if not isinstance(source, StdinSource))


def request_of(loaded: Loaded, name: str, options: Options) -> Request:
    """Raises NothingMatches for a name that is none, UsageError for what cannot be done."""
    source = loaded.source(name)
    common = Request(
        source=name,
        host=options.host or loaded.config.host,
        tags=tuple(dict.fromkeys((*source.tags, *options.tags))),
        note=options.note or source.note,
        time_ns=options.time_ns,
        run=options.run,
        dry_run=options.dry_run,
        skip_if_unchanged=options.skip_if_unchanged or source.skip_if_unchanged,
        force=options.force,
        level=options.level if options.level is not None else source.compression,
        details=details_of(loaded),
        pace=options.pace,
        withheld=frozenset(_secret_variables(loaded.found.document)),
    )
    if type(source) not in _BUILDERS:
        raise UsageError(
            f'the source "{name}" is of the type {source.type}, which this version cannot take yet',
            hints=["name the others: dedup snapshot NAME", "take it by a command: --command NAME -- CMD"],
            code="config.unsupported_source",
        )
    return replace(common, **_BUILDERS[type(source)](name, source, options))


def details_of(loaded: Loaded) -> tuple[tuple[str, str], ...]:
    """What the record of a snapshot says of the configuration it was made by."""
    names = "\n".join(loaded.config.sources)
    document = {key: value for key, value in loaded.found.document.items() if key in _KEPT}
    text = to_toml(document)
    kept = ((CONFIG, text),) if len(text.encode()) <= MAX_CONFIG_BYTES else ()
    return (*kept, (SOURCES, names))


def _secret_variables(value: object) -> Iterator[str]:
    """The variables that references to secrets name: no command of a source, and no hook, has a use for them."""
    if isinstance(value, str) and value.startswith("env:"):
        yield value.removeprefix("env:")
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _secret_variables(member)
    elif isinstance(value, list):
        for member in value:
            yield from _secret_variables(member)


def _files(name: str, source: Source, options: Options) -> dict[str, Any]:
    assert isinstance(source, FilesSource)
    return {
        "paths": tuple(map(_path, source.paths)),
        "exclude": source.exclude,
        "exclude_files": tuple(map(_path, source.exclude_files)),
        "exclude_if_present": tuple(map(os.fsencode, source.exclude_if_present)),
        "exclude_caches": source.exclude_caches,
        "exclude_nodump": source.exclude_nodump,
        "exclude_larger_than": source.exclude_larger_than,
        "one_file_system": source.one_file_system,
    }


def _command(name: str, source: Source, options: Options) -> dict[str, Any]:
    assert isinstance(source, CommandSource)
    limit = None if source.timeout is None else source.timeout / 1e9
    return {"command": source.command, "name": source.filename, "timeout_seconds": limit}


def _stdin(name: str, source: Source, options: Options) -> dict[str, Any]:
    assert isinstance(source, StdinSource)
    if options.stdin_fd is None:
        raise UsageError(
            f'the source "{name}" is what is piped in, and nothing is', hints=[f"COMMAND | dedup snapshot {name}"]
        )
    return {"stdin_fd": options.stdin_fd, "allow_empty": options.allow_empty, "name": source.filename}


def _database(name: str, source: Source, options: Options) -> dict[str, Any]:
    return {"database": source}


def _path(text: str) -> bytes:
    return os.fsencode(os.path.expanduser(text))


_BUILDERS: dict[type[Source], Callable[[str, Source, Options], dict[str, Any]]] = {
    FilesSource: _files,
    CommandSource: _command,
    StdinSource: _stdin,
    SqliteSource: _database,
    PostgresqlSource: _database,
    MysqlSource: _database,
}
