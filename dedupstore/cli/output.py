"""What a command prints: data on stdout, everything else on stderr, or JSON alone on stdout.

How a command is written (one line in commands.py, and a module like this):

    @command("stats", examples=["dedup stats", "dedup stats --source site"])
    @options.source_option
    @click.pass_obj
    def stats(session: Session, source: str | None) -> int | None:
        \"\"\"Show what takes up how much space.\"\"\"
        result = service.stats.run(service.stats.Request(…))      # errors are raised, never printed
        session.out.document({"sources": […]})                    # only with --json, else does nothing
        session.out.table(("SOURCE", "STORED"), rows)             # only without --json
        return None                                               # or an exit code, 3 for warnings

Long work replaces `document` by a stream of events, and shows progress:

    session.out.begin("snapshot", source=name)                    # first of all: JSON gets its `start` event
    with progress.showing(session) as listener:
        result = service.snapshot.run(request, listener, session.take_token())
    session.out.finish("ok", files=…)                             # the `summary`; after an error main() sends it
"""

from __future__ import annotations

import binascii
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TextIO

from dedupstore.cli.errors import document as error_document
from dedupstore.cli.errors import render, safe
from dedupstore.cli.options import Settings
from dedupstore.clock import Clock
from dedupstore.errors import DedupError, Interrupted
from dedupstore.events import Finding
from dedupstore.units import format_id, printable

SCHEMA = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ReaderGone(Exception):
    """Whoever read stdout has closed it (`dedup ls | head`): nothing more to do, nothing to complain about."""


class Output:
    """The two streams of one run. Not thread-safe: called by the thread that runs the command."""

    def __init__(
        self, settings: Settings, clock: Clock, environ: Mapping[str, str], *, stdout: TextIO, stderr: TextIO
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._environ = environ
        self._stdout = stdout
        self._stderr = stderr
        self._run = ""
        self._started = 0.0
        self._finished = False

    @property
    def json(self) -> bool:
        return self._settings.json

    @property
    def terminal(self) -> bool:
        """Whether a person looks at stdout."""
        return self._stdout.isatty()

    @property
    def error_terminal(self) -> bool:
        """Whether a person looks at stderr."""
        return self._stderr.isatty()

    @property
    def styled(self) -> bool:
        """Whether stderr may have colours."""
        plain = self._settings.no_color or self._environ.get("NO_COLOR") or self._environ.get("TERM") == "dumb"
        return self.error_terminal and not plain

    # Data, for people

    def line(self, text: str = "") -> None:
        """One line of the answer; nothing with --json. Names in it go through `name()` first."""
        if not self.json:
            self._write(self._stdout, f"{text}\n")

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
        """Aligned columns; those named in `right` are right-aligned. Nothing with --json."""
        if self.json:
            return
        lines = [tuple(headings), *(tuple(row) for row in rows)]
        widths = [max(_cells(cell) for cell in column) for column in zip(*lines, strict=True)]
        aligned = [heading in right for heading in headings]
        text = "\n".join("  ".join(map(_pad, line, widths, aligned)).rstrip() for line in lines)
        self._write(self._stdout, f"{text}\n")

    def raw(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes of a file, unchanged, on stdout."""
        self._stdout.flush()
        try:
            self._stdout.buffer.write(data)
            self._stdout.buffer.flush()
        except BrokenPipeError as exc:
            raise self._gone(self._stdout) from exc

    # Data, for programs

    def document(self, fields: Mapping[str, object]) -> None:
        """The whole answer of a query as one JSON document; nothing without --json."""
        if self.json:
            self._emit({"v": SCHEMA, **fields})

    def event(self, name: str, **fields: object) -> None:
        """One line of the stream of a long-running command; nothing without --json."""
        if self.json:
            head: dict[str, object] = {"v": SCHEMA, "event": name, "ts": self.timestamp(self._clock.now_ns())}
            if self._run:
                head["run"] = self._run
            self._emit(head | fields)

    def begin(self, operation: str, **fields: object) -> str:
        """Start a stream and return the run's id. From here on there is a `summary`, whatever happens."""
        now_ns = self._clock.now_ns()
        # Sorts by time, as the runs did: 48 bits of milliseconds, then chance.
        self._run = f"r_{format_id((now_ns // 1_000_000).to_bytes(6, 'big') + os.urandom(10))}"
        self._started = self._clock.monotonic()
        self.event("start", op=operation, **fields)
        return self._run

    def finish(self, status: str = "ok", *, exit_code: int = 0, **fields: object) -> None:
        """The last line of the stream. `status`: ok, warnings, failed or interrupted."""
        if self._run and not self._finished:
            self._finished = True
            duration = round(self._clock.monotonic() - self._started, 3)
            self.event("summary", status=status, exit_code=exit_code, **fields, duration_s=duration)

    # Beside the data

    def note(self, text: str) -> None:
        """A line for the person at stderr; not with -q."""
        if not self._settings.quiet:
            self._write(self._stderr, f"{text}\n")

    def detail(self, text: str) -> None:
        """A line for the curious: only with -v."""
        if self._settings.verbose:
            self._write(self._stderr, f"{text}\n")

    def warning(self, message: str, *, code: str = "", path: bytes | None = None, word: str = "warning") -> None:
        """Something worth telling that stops nothing, on stderr and, within a stream, as an event."""
        word_shown = f"\x1b[1;33m{word}:\x1b[0m" if self.styled else f"{word}:"
        place = f"{printable(path)}: " if path else ""
        if path and message.startswith((place, f"{printable(path)} ")):
            place = ""
        self._write(self._stderr, f"{word_shown} {place}{safe(message)}\n")
        if self._run:
            self.event(word, code=code, **({} if path is None else path_fields(path)), message=safe(message))

    def findings(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.warning(finding.message, code=finding.code, path=finding.path, word=finding.severity)

    def complain(self, error: DedupError) -> None:
        """The error, for people or for programs; what comes after it is the caller's."""
        if self.json:
            self.event("error", **error_document(error))
        else:
            self._write(self._stderr, f"{render(error, styled=self.styled)}\n")

    def fail(self, error: DedupError) -> None:
        """The end of a run that failed: the error, and the summary of a stream."""
        self.complain(error)
        status = "interrupted" if isinstance(error, Interrupted) else "failed"
        self.finish(status, exit_code=error.exit_code)

    def to_stderr(self, text: str) -> None:
        """As it is, for progress lines and prompts."""
        self._write(self._stderr, text)

    # How things are written

    def name(self, name: bytes) -> str:
        """A file's name: escaped on a terminal, exact in a pipe."""
        return printable(name) if self.terminal else name.decode("utf-8", "surrogateescape")

    def timestamp(self, moment_ns: int) -> str:
        """RFC 3339 with offset, to the millisecond; the local zone unless --utc."""
        return self._local(moment_ns).isoformat(timespec="milliseconds")

    def minute(self, moment_ns: int) -> str:
        """`2026-11-21 23:10`, for people; the zone is named only when it is not the local one."""
        return f"{self._local(moment_ns):%Y-%m-%d %H:%M}{' UTC' if self._settings.utc else ''}"

    def second(self, moment_ns: int) -> str:
        """`2026-11-21 23:10:01`, exact enough to be typed as a TIME."""
        return f"{self._local(moment_ns):%Y-%m-%d %H:%M:%S}{'Z' if self._settings.utc else ''}"

    def compact(self, moment_ns: int) -> str:
        """`20261121-231001`, for the name of a file."""
        return f"{self._local(moment_ns):%Y%m%d-%H%M%S}"

    def _local(self, moment_ns: int) -> datetime:
        moment = _EPOCH + timedelta(microseconds=moment_ns // 1000)
        return moment if self._settings.utc else moment.astimezone()

    def _emit(self, record: Mapping[str, object]) -> None:
        # Loaded only for those who ask for it: text is what most calls show.
        json = import_module("json")
        self._write(self._stdout, f"{json.dumps(record, ensure_ascii=True, separators=(',', ':'))}\n")

    def _write(self, stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
            stream.flush()
        except BrokenPipeError as exc:
            gone = self._gone(stream)
            # A backup goes on when nobody listens any more; a query has no other purpose.
            if stream is self._stdout and not self._run:
                raise gone from exc

    def _gone(self, stream: TextIO) -> ReaderGone:
        """From now on the stream leads nowhere, so that closing it at exit is no second error."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return ReaderGone()


def path_fields(path: bytes) -> dict[str, str]:
    """`path` for people and, when its bytes are no UTF-8, `path_b64` for programs."""
    try:
        return {"path": path.decode("utf-8")}
    except UnicodeDecodeError:
        return {
            "path": path.decode("utf-8", "replace"),
            "path_b64": binascii.b2a_base64(path, newline=False).decode("ascii"),
        }


def prepare_streams() -> None:
    """Let names that are not UTF-8 pass through stdout as they are, and let no character stop the program.

    What is closed becomes /dev/null: its number would be that of the next file opened, and what is printed go there.
    """
    # Nobody can read from it: `--stdin` has to fail, and not to store nothing.
    sys.stdin = sys.stdin or _nowhere()
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            unicode = (stream.encoding or "").lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if unicode and stream is sys.stdout else "backslashreplace")


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _cells(text: str) -> int:
    """Columns the text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - _cells(text))
    return f"{space}{text}" if right else f"{text}{space}"
