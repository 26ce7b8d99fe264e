"""What long work tells the outside: progress, and findings about single files.

The engine calls a `Listener`; doors (command line, service) render. An engine never prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing worth telling that did not stop the work (a file that vanished, a damaged chunk)."""

    code: str
    message: str
    path: bytes | None = None
    severity: str = "warning"
    """`warning` (exit code 3), `error` (damage, exit code 4) or `note` (exit code 0)."""


@dataclass(slots=True)
class Progress:
    """Running totals; totals of None are unknown, never guessed."""

    phase: str = ""
    files_done: int = 0
    files_total: int | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    bytes_stored: int = 0
    errors: int = 0
    current: bytes = b""


class Listener(Protocol):
    """Called from the thread that runs the operation; must be quick and must not raise."""

    def progress(self, progress: Progress) -> None:
        """`progress` is one object, updated in place: read it, do not keep it."""
        ...

    def finding(self, finding: Finding) -> None: ...


class NullListener:
    def progress(self, progress: Progress) -> None:
        pass

    def finding(self, finding: Finding) -> None:
        pass


@dataclass(slots=True)
class Collector:
    """A listener that keeps the findings; operations return them with their result."""

    onward: Listener = field(default_factory=NullListener)
    findings: list[Finding] = field(default_factory=list)

    def progress(self, progress: Progress) -> None:
        self.onward.progress(progress)

    def finding(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.onward.finding(finding)
