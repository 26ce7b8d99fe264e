"""Progress of long work: a bar for people, sparse lines for logs, events for programs, a status for systemd.

with progress.showing(session) as listener:
    result = service.snapshot.run(request, listener, token)
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from typing import Protocol

from dedupstore.cli.output import Output, path_fields
from dedupstore.cli.session import Session
from dedupstore.clock import Clock
from dedupstore.events import Finding, Progress
from dedupstore.units import format_bytes, format_count, format_duration, format_number, printable

EVENT_SECONDS = 1.0
BAR_SECONDS = 1 / 8
STATUS_SECONDS = 1.0
LOG_SECONDS = 60.0
LOG_PERCENT = 10

VIEWS = {
    "bar": "dedupstore.cli.bar:Bar",
    "log": "dedupstore.cli.progress:Log",
    "none": "dedupstore.cli.progress:Nothing",
}
"""The bar's library is loaded only where a bar is shown."""


class View(Protocol):
    """One way to show progress. `interval` is the least time between two calls of `show`, in seconds."""

    interval: float
    every_phase: bool
    """Whether a new phase is shown at once, before the time has come."""

    def show(self, progress: Progress, rate: float) -> None:
        """`rate` in bytes per second."""
        ...

    def finding(self, finding: Finding) -> None: ...

    def close(self) -> None: ...


@dataclasses.dataclass(slots=True)
class _Slot:
    """A view and the time of its next turn."""

    view: View
    due: float = float("-inf")


class Reporter:
    """A `Listener` that measures the rate and calls the views no oftener than each wants to be called."""

    def __init__(self, clock: Clock, views: list[View]) -> None:
        self._clock = clock
        self._slots = [_Slot(view) for view in views]
        self._started = clock.monotonic()
        self._next = float("-inf")
        self._last = Progress()
        self._phase = ""
        self._phase_started = self._started
        self._phase_bytes = 0

    def progress(self, progress: Progress) -> None:
        now = self._clock.monotonic()
        new_phase = progress.phase != self._phase
        if new_phase:
            self._phase, self._phase_started, self._phase_bytes = progress.phase, now, progress.bytes_done
        elif now < self._next:
            return
        self._last = dataclasses.replace(progress)
        rate = self._rate(progress, now)
        for slot in self._slots:
            if now >= slot.due or (new_phase and slot.view.every_phase):
                slot.view.show(progress, rate)
                slot.due = now + slot.view.interval
        # Now and then even when no view wants to know: a signal may ask for the status.
        self._next = min(now + STATUS_SECONDS, *(slot.due for slot in self._slots))

    def finding(self, finding: Finding) -> None:
        for slot in self._slots:
            slot.view.finding(finding)

    def status(self) -> str:
        """One line about now, or about as much of it as was last heard of."""
        return describe(self._last, self._rate(self._last, self._clock.monotonic()))

    def close(self) -> None:
        for slot in self._slots:
            slot.view.close()

    def _rate(self, progress: Progress, now: float) -> float:
        seconds = now - self._phase_started
        return (progress.bytes_done - self._phase_bytes) / seconds if seconds > 0 else 0.0


class Nothing:
    """Shows no progress; findings are still told."""

    interval = float("inf")
    every_phase = False

    def __init__(self, out: Output, clock: Clock) -> None:
        self._out = out

    def show(self, progress: Progress, rate: float) -> None:
        pass

    def finding(self, finding: Finding) -> None:
        self._out.findings([finding])

    def close(self) -> None:
        pass


class Log:
    """A line at the start and per tenth or per minute, whichever is rarer; the errors once more at the end."""

    interval = 1.0
    every_phase = True

    def __init__(self, out: Output, clock: Clock) -> None:
        self._out = out
        self._clock = clock
        self._phase: str | None = None
        self._minute = 0.0
        self._tenth = 0
        self._findings: list[Finding] = []

    def show(self, progress: Progress, rate: float) -> None:
        now = self._clock.monotonic()
        share = fraction(progress)
        tenth = int(share * 100) // LOG_PERCENT if share is not None else None
        if progress.phase == self._phase:
            if now - self._minute < LOG_SECONDS or (tenth is not None and tenth <= self._tenth):
                return
        self._phase, self._minute, self._tenth = progress.phase, now, tenth or 0
        self._out.note(describe(progress, rate))

    def finding(self, finding: Finding) -> None:
        self._out.findings([finding])
        if finding.severity != "note":
            self._findings.append(finding)

    def close(self) -> None:
        """Someone reads the end of the log: tell there what went by in the middle."""
        by_message: dict[str, list[Finding]] = {}
        for finding in self._findings:
            by_message.setdefault(f"{finding.severity}: {finding.message}", []).append(finding)
        for message, findings in by_message.items():
            self._out.note(f"{message} ({format_count(len(findings))})")
            for finding in findings[:20]:
                if finding.path:
                    self._out.note(f"  {printable(finding.path)}")
            if len(findings) > 20:
                self._out.note(f"  and {format_count(len(findings) - 20)} more")


class Events:
    """`progress` events of the JSON stream."""

    interval = EVENT_SECONDS
    every_phase = False

    def __init__(self, out: Output) -> None:
        self._out = out

    def show(self, progress: Progress, rate: float) -> None:
        self._out.event("progress", **fields(progress, rate))

    def finding(self, finding: Finding) -> None:
        pass  # Output.warning sends the event; the view beside this one calls it

    def close(self) -> None:
        pass


@contextlib.contextmanager
def showing(session: Session) -> Iterator[Reporter]:
    """A listener for the time of one operation, that shows what the user and the surroundings want to see."""
    reporter = Reporter(session.clock, views(session))
    session.signals.status = reporter.status
    try:
        yield reporter
    finally:
        session.signals.status = None
        reporter.close()


def views(session: Session) -> list[View]:
    """The views for this run: one for people, one for programs, one for systemd."""
    out, settings = session.out, session.settings
    module_name, _, class_name = VIEWS[_mode(session)].partition(":")
    chosen: list[View] = [getattr(importlib.import_module(module_name), class_name)(out, session.clock)]
    if settings.json and not settings.quiet and settings.progress != "none":
        chosen.append(Events(out))
    if address := _notify_address(session.environ):
        chosen.append(importlib.import_module("dedupstore.cli.systemd").Systemd(address))
    return chosen


def _mode(session: Session) -> str:
    wanted, terminal = session.settings.progress, session.out.error_terminal
    if session.settings.quiet or (wanted == "auto" and session.settings.json):
        return "none"
    if wanted == "auto":
        return "bar" if terminal and session.environ.get("TERM") != "dumb" else "log"
    # A bar in a file is garbage, even when somebody asks for it.
    return "log" if wanted == "bar" and not terminal else wanted


def _notify_address(environ: Mapping[str, str]) -> str | None:
    address = environ.get("NOTIFY_SOCKET", "")
    return address if address[:1] in ("/", "@") else None


def fraction(progress: Progress) -> float | None:
    """How much is done, 0 to 1; None when nobody knows."""
    if progress.bytes_total:
        return min(1.0, progress.bytes_done / progress.bytes_total)
    if progress.files_total:
        return min(1.0, progress.files_done / progress.files_total)
    return None


def seconds_left(progress: Progress, rate: float) -> float | None:
    if not progress.bytes_total or rate <= 0:
        return None
    return max(0, progress.bytes_total - progress.bytes_done) / rate


def describe(progress: Progress, rate: float) -> str:
    """One line: `store 61 %  812 of 1 204 files  201.3 MB of 333.9 MB  48.2 MB/s  3.0 s left`."""
    share = fraction(progress)
    left = seconds_left(progress, rate)
    parts = [progress.phase or "starting"]
    if share is not None:
        parts[0] += f" {int(share * 100)} %"
    if progress.files_done or progress.files_total:
        parts.append(_files(progress.files_done, progress.files_total))
    if progress.bytes_done or progress.bytes_total:
        of = f" of {format_bytes(progress.bytes_total)}" if progress.bytes_total is not None else ""
        parts.append(f"{format_bytes(progress.bytes_done)}{of}")
    if rate > 0:
        parts.append(f"{format_bytes(rate)}/s")
    if left is not None and share is not None and share < 1:
        parts.append(f"{format_duration(left)} left")
    if progress.errors:
        parts.append(format_number(progress.errors, "error"))
    return "  ".join(parts)


def fields(progress: Progress, rate: float) -> dict[str, object]:
    """The fields of the JSON `progress` event."""
    left = seconds_left(progress, rate)
    found: dict[str, object] = {
        "phase": progress.phase,
        "files": {"done": progress.files_done, "total": progress.files_total},
        "bytes": {"done": progress.bytes_done, "total": progress.bytes_total, "stored": progress.bytes_stored},
        "rate": int(rate),
        "eta_s": None if left is None else round(left, 1),
        "errors": progress.errors,
    }
    if progress.current:
        current = path_fields(progress.current)
        found["current"] = current["path"]
        if "path_b64" in current:
            found["current_b64"] = current["path_b64"]
    return found


def _files(done: int, total: int | None) -> str:
    return format_number(done, "file") if total is None else f"{format_count(done)} of {format_number(total, 'file')}"
