"""What a restore is asked to do, what it plans, and what it did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from dedupstore.events import Finding
from dedupstore.types import Data


class Overwrite(Enum):
    """What may happen to a name that is already there."""

    NEVER = "never"
    OLDER = "older"
    """Replace what was modified before the version in the snapshot."""

    IF_CHANGED = "if-changed"
    """Replace what differs: in size or time, or in content when `compare_content` is set."""

    ALWAYS = "always"


class Verdict(Enum):
    """A filter's answer for one path."""

    TAKE = "take"
    SKIP = "skip"
    """Leave out, with everything below."""

    LOOK = "look"
    """Not wanted itself; look below, and make the directory if something in it is taken."""


class Action(Enum):
    CREATE = "create"
    REPLACE = "replace"
    METADATA = "metadata"
    """The content is right; owner, mode, times or attributes are not."""

    KEEP = "keep"
    SKIP = "skip"
    """It differs, and the overwrite policy says to leave it."""

    DELETE = "delete"

    # Members are singletons; Enum's own hash is a Python function, called for every file that is counted.
    __hash__ = object.__hash__


Filter = Callable[[bytes, bool], Verdict]
"""Called with a path inside the snapshot and whether it is a directory. Patterns are parsed by the caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """One restore. Either `target` names a directory, or `in_place` puts everything where it came from."""

    target: bytes = b""
    in_place: bool = False
    paths: tuple[bytes, ...] = ()
    """Paths inside the snapshot, files or directories; empty means everything."""

    filter: Filter | None = None
    overwrite: Overwrite = Overwrite.IF_CHANGED
    compare_content: bool = False
    """Read files that are already there instead of trusting size and time."""

    name_content: Callable[[Data], bytes] | None = None
    """The repository's chunk id of some bytes; makes `compare_content` cheap for files of one chunk."""

    delete: bool = False
    """Remove what is in restored directories but not in the snapshot."""

    sparse: bool = False
    """Turn runs of zeros into holes, beyond the holes the snapshot knows."""

    owners: bool = False
    """Set owners, by name where this machine knows the name; needs root."""

    special: bool = False
    """Make devices, keep setuid and setgid bits, set `security.*` and `trusted.*` attributes."""

    verify: bool = True
    """Compare whole files with the hash in their manifest. Every chunk is verified in any case."""

    workers: int = 0
    """Threads that decode and write; 0 means one per processor, two at least."""


class Dropped(Counter[str]):
    """How often something was left out: `owner`, `refused owner`, `setuid`, `device`, `attribute`, `socket`, `unsupported`
    (an attribute that the file system does not take), `hard link` (the name is a file of its own)."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts by action, and what they weigh in bytes of file data."""

    actions: Counter[Action] = field(default_factory=Counter)
    files: int = 0
    directories: int = 0
    links: int = 0
    others: int = 0
    bytes_to_write: int = 0


Visit = Callable[[Action, bytes], None]
"""Told every planned action that changes something, with its path, as it is met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What a restore would do. Made without writing anything."""

    actions: Mapping[Action, int]
    files: int
    directories: int
    links: int
    others: int
    bytes_to_write: int
    findings: tuple[Finding, ...] = ()

    @property
    def changes(self) -> int:
        return sum(count for action, count in self.actions.items() if action not in (Action.KEEP, Action.SKIP))


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """What a restore did. `files` and `bytes_written` count what was written, not what was kept."""

    actions: Mapping[Action, int]
    files: int
    directories: int
    links: int
    others: int
    bytes_written: int
    dropped: Mapping[str, int]
    findings: tuple[Finding, ...]
    findings_total: int
    exit_code: int
    """0 all done, 3 with warnings, 4 when stored data is damaged."""
