"""What the configuration comes to, and where each value is from: for `dedup config`."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from dedupstore.service.config import Loaded
from dedupstore.service.config_files import Keys, leaves
from dedupstore.service.config_kinds import Late, Schema, Table
from dedupstore.service.config_schema import Config
from dedupstore.service.config_text import MASK, masked, value_text
from dedupstore.service.config_values import DURATION

_VARIABLES = {
    "DEDUP_REPO": "default_repo",
    "DEDUP_REPO_FILE": "default_repo",
    "DEDUP_PASSPHRASE": "passphrase",
    "DEDUP_PASSPHRASE_FILE": "passphrase",
    "DEDUP_PASSPHRASE_COMMAND": "passphrase",
    "DEDUP_PASSPHRASE_FD": "passphrase",
    "DEDUP_KEY_FILE": "key_file",
    "DEDUP_RECOVERY_KEY_FILE": "recovery_key",
}
"""What wins against the files, and what it stands for."""

_HIDDEN = ("DEDUP_PASSPHRASE", "DEDUP_PASSPHRASE_COMMAND")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value and where it is from: `file:line`, `env NAME`, `flag --repo` or `default`."""

    key: str
    value: str
    origin: str


def values(loaded: Loaded, environ: Mapping[str, str], *, repo: str | None) -> tuple[Value, ...]:
    """Every value that holds, in the order of the files, and the defaults of each table; `repo` is what `-r` says."""
    return (*_from_outside(environ, repo), *_from_files(loaded), *_defaults(loaded.config, (), loaded.found.origins))


def schema() -> Schema:
    """The configuration as JSON Schema, for editors."""
    described = Table(Config).schema()
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "dedup", **described}


def _from_outside(environ: Mapping[str, str], repo: str | None) -> Iterator[Value]:
    if repo and repo != environ.get("DEDUP_REPO"):
        yield Value(key="default_repo", value=value_text(repo), origin="flag --repo")
    for name, key in _VARIABLES.items():
        if environ.get(name):
            shown = MASK if name in _HIDDEN else value_text(environ[name])
            yield Value(key=key, value=shown, origin=f"env {name}")


def _from_files(loaded: Loaded) -> Iterator[Value]:
    for keys, value in leaves(masked(loaded.found.document)):
        yield Value(key=".".join(keys), value=value_text(value), origin=str(loaded.found.origin(keys)))


def _defaults(record: object, above: Keys, said: Container[Keys]) -> Iterator[Value]:
    """What nobody said, of every table there is. What says nothing by default is left out."""
    assert is_dataclass(record)
    for each in fields(record):
        keys = (*above, each.metadata["key"] or each.name)
        value = getattr(record, each.name)
        if isinstance(value, Mapping):
            for name, member in value.items():
                if is_dataclass(member):
                    yield from _defaults(member, (*keys, name), said)
        elif isinstance(each.metadata["kind"], Table | Late) and value is not None:
            yield from _defaults(value, keys, said)
        elif keys not in said and value == each.default and value not in ((), "", None):
            yield Value(key=".".join(keys), value=_default_text(each.metadata["kind"], value), origin="default")


def _default_text(kind: object, value: Any) -> str:
    if kind is not DURATION:
        return value_text(value)
    seconds = value // 1_000_000_000
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds and seconds % length == 0:
            return value_text(f"{seconds // length}{unit}")
    return value_text(f"{seconds}s")
