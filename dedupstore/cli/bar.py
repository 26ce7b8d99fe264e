"""The progress bar of a terminal: one line on stderr, never made anywhere else."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Line

from dedupstore.cli.output import Output
from dedupstore.cli.progress import BAR_SECONDS, fraction, seconds_left
from dedupstore.clock import Clock
from dedupstore.events import Finding, Progress
from dedupstore.units import format_bytes, format_duration, format_number, printable


class Bar:
    """Name of the phase, bar (or a spinner while totals are unknown), files, bytes, rate, time left, errors."""

    interval = BAR_SECONDS
    every_phase = True

    def __init__(self, out: Output, clock: Clock) -> None:
        self._out = out
        self._line = Line(
            SpinnerColumn(spinner_name="line", finished_text=" "),
            TextColumn("{task.description:<8}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[numbers]}", markup=False),
            TextColumn("{task.fields[current]}", markup=False, style="dim"),
            console=Console(stderr=True, no_color=not out.styled, highlight=False, soft_wrap=False),
            # No thread of its own: it would draw while the program prints, and cost a wake-up eight times a second.
            auto_refresh=False,
            transient=True,
        )
        self._task = self._line.add_task("starting", total=None, numbers="", current="")
        self._line.start()

    def show(self, progress: Progress, rate: float) -> None:
        share = fraction(progress)
        self._line.update(
            self._task,
            description=progress.phase,
            total=None if share is None else 1.0,
            completed=share or 0.0,
            numbers=_numbers(progress, rate),
            current=_shortened(printable(progress.current), 40),
        )
        self._line.refresh()

    def finding(self, finding: Finding) -> None:
        # The line is taken away while something is printed, and drawn again below it.
        self._line.stop()
        self._out.findings([finding])
        self._line.start()

    def close(self) -> None:
        self._line.stop()


def _numbers(progress: Progress, rate: float) -> str:
    parts = [format_number(progress.files_done, "file"), format_bytes(progress.bytes_done)]
    if rate > 0:
        parts.append(f"{format_bytes(rate)}/s")
    left = seconds_left(progress, rate)
    if left is not None:
        parts.append(f"{format_duration(left)} left")
    if progress.errors:
        parts.append(format_number(progress.errors, "error"))
    return "  ".join(parts)


def _shortened(text: str, width: int) -> str:
    """The end of a long path says more than its beginning."""
    return text if len(text) <= width else f"...{text[3 - width :]}"
