"""What this machine has seen of repositories: the high-water marks that tell an older state from the newest.

`seen.json` in the state directory. A place is a repository and a URL: a mirror may well be behind the original. Of each it
keeps the newest epoch and config, the snapshots that were there, and those that went with an explanation. The first look
at a place is believed. Ids are those in object names, which whoever sees the storage sees as well. Without the file, or when
it cannot be written, nothing is noticed, and nothing else is different.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any

from dedupstore.errors import DedupError, Refused
from dedupstore.events import Finding
from dedupstore.service import state_files
from dedupstore.service.dirs import state_dir
from dedupstore.types import SnapshotId
from dedupstore.units import format_id, parse_id

_MAX_GONE = 10_000
"""So many forgotten snapshots are remembered, the latest."""

Row = dict[str, Any]


class Memory:
    """The memory of one place, as `repo.watch.Watch` asks for it. Used by one thread."""

    def __init__(self, path: Path, repository: str, url: str, row: Mapping[str, Any], note: state_files.Note) -> None:
        self._path = path
        self._repository = repository
        self._url = url
        self._note = note
        self._told = False
        self.epoch = int(row.get("epoch", 0))
        self.config = int(row.get("config", 0))
        self.seen = _ids(row.get("snapshots", ()))
        self.gone = _ids(row.get("gone", ()))

    def opened(self, epoch: int, config: int) -> None:
        """Compare the keys. Raises Refused `repo.rolled_back` when they are of an older state: nothing is written under them."""
        if epoch < self.epoch or config < self.config:
            raise Refused(
                f"{self._url} shows older keys than before",
                why=f"epoch {epoch}, config {config}; this machine has seen epoch {self.epoch}, config {self.config}",
                hints=[
                    "find out what became of the storage",
                    f"if the repository was put back from a copy on purpose: dedup repo trust -r {quote(self._url)}",
                ],
                code="repo.rolled_back",
            )
        if not self.epoch:
            message = f"first look at {self._url} from here: what it shows is believed, and remembered from now on"
            self._note(Finding(code="repo.first_seen", message=message, severity="note"))
        if (epoch, config) != (self.epoch, self.config):
            self.epoch, self.config = epoch, config
            self._keep(frozenset(), frozenset())

    def listed(
        self, commits: frozenset[SnapshotId], withheld: frozenset[SnapshotId], returned: frozenset[SnapshotId]
    ) -> None:
        """Remember what is there and what went; say once when that is less than it should be."""
        if (withheld or returned) and not self._told:
            self._told = True
            # Loaded when there is something to tell: every command reads this module before it knows.
            what_differs = import_module("dedupstore.repo.watch").what_differs
            message = f"{self._url} shows an older state than before: {what_differs(withheld, returned)}"
            hint = f"; if it was put back from a copy on purpose: dedup repo trust -r {quote(self._url)}"
            self._note(Finding(code="repo.rolled_back", message=message + hint))
        new = commits - self.seen - returned
        gone = self.seen - commits - withheld
        if new or gone:
            self.seen = (self.seen | new) - gone
            self.gone |= gone
            self._keep(new, gone)

    def committed(self, snapshot: SnapshotId) -> None:
        self.listed(self.seen | {snapshot}, frozenset(), frozenset())

    def _keep(self, new: frozenset[SnapshotId], gone: frozenset[SnapshotId]) -> None:
        def change(document: state_files.Document) -> None:
            # As it is now: another process may have seen more.
            row = _row(document, self._repository, self._url)
            row["epoch"] = max(self.epoch, int(row.get("epoch", 0)))
            row["config"] = max(self.config, int(row.get("config", 0)))
            went = [*row.get("gone", []), *map(format_id, sorted(gone))]
            row["gone"] = list(dict.fromkeys(went))[-_MAX_GONE:]
            row["snapshots"] = sorted({*row.get("snapshots", []), *map(format_id, new)} - set(row["gone"]))

        state_files.keep(self._path, change, self._note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a place shows."""

    epoch: int
    config: int
    snapshots: frozenset[SnapshotId]
    gone: frozenset[SnapshotId]


def memory_of(
    environ: Mapping[str, str], repository: str, url: str, note: state_files.Note, *, whatever: bool = False
) -> Memory | None:
    """What is remembered of a place; None when the state directory cannot be used.

    Raises Refused `repo.replaced` when another repository is known there, unless `whatever` is there will do.
    """
    path = _path(environ)
    try:
        document = state_files.read(path)
        if not whatever:
            _require_same(document, repository, url)
        return Memory(path, repository, url, _row(document, repository, url), note)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, DedupError) as error:
        if isinstance(error, DedupError) and error.code == "repo.replaced":
            raise
        reason = error.in_one_line if isinstance(error, DedupError) else f"{path} is damaged"
        note(Finding(code="local.state_damaged", message=f"it is not known what this machine has seen: {reason}"))
        return None


def require_known(environ: Mapping[str, str], repository: str, url: str) -> None:
    """Raises Refused when there was another repository at this URL: before anyone is asked for a passphrase."""
    memory_of(environ, repository, url, lambda finding: None)


def _require_same(document: state_files.Document, repository: str, url: str) -> None:
    """Raises Refused when only other repositories are known at this URL."""
    others = [row["repository"] for row in document.get("places", []) if row["url"] == url]
    if others and repository not in others:
        raise Refused(
            f"another repository is at {url}",
            why=f"it is {repository}; this machine knows {others[-1]} there",
            hints=["is the right disk mounted?", f"if that is as it should be: dedup repo trust -r {quote(url)}"],
            code="repo.replaced",
        )


def trust_new(environ: Mapping[str, str], repository: str, url: str, note: state_files.Note) -> None:
    """A repository was made here at this URL: whatever was there before is no more."""

    def change(document: state_files.Document) -> None:
        document["places"] = [row for row in document.get("places", []) if row["url"] != url]
        _row(document, repository, url).update(epoch=1, config=1)

    state_files.keep(_path(environ), change, note)


def trust(environ: Mapping[str, str], repository: str, url: str, shown: Shown) -> None:
    """Take what is shown now for the newest state there is. Raises Refused, OSError when that cannot be kept."""

    def change(document: state_files.Document) -> None:
        _row(document, repository, url).update(
            epoch=shown.epoch,
            config=shown.config,
            snapshots=sorted(map(format_id, shown.snapshots)),
            gone=sorted(map(format_id, shown.gone)),
        )

    state_files.update(_path(environ), change)


def _row(document: state_files.Document, repository: str, url: str) -> Row:
    rows: list[Row] = document.setdefault("places", [])
    found = next((row for row in rows if (row["repository"], row["url"]) == (repository, url)), None)
    if found is None:
        found = {"repository": repository, "url": url}
        rows.append(found)
    return found


def _ids(texts: Any) -> frozenset[SnapshotId]:
    return frozenset(SnapshotId(parse_id(text)) for text in texts)


def _path(environ: Mapping[str, str]) -> Path:
    return state_dir(environ) / "seen.json"
