"""A database on a server that is being restored, by a program that reads the dump: gone again unless all of it was."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from dedupstore.cancel import CancelToken
from dedupstore.errors import DedupError, Refused, SourceFailed, TargetFailed
from dedupstore.sources.command import CommandStream
from dedupstore.sources.program import Program

_READ_BYTES = 1 << 16


class NewServerDatabase(ABC):
    """What is written goes into the program; `finish` says whether it took all. Leaving without it drops the database."""

    hint = ""
    """What to try when the program failed."""

    def __init__(self, name: str, cancel: CancelToken) -> None:
        self._name = name
        self._cancel = cancel
        self._finished = False

    @abstractmethod
    def _create(self) -> Program:
        """Make the empty database; the program that fills it. Raises Refused when the name is taken, SourceFailed."""

    @abstractmethod
    def _drop(self, cancel: CancelToken) -> None:
        """Drop the database. Raises SourceFailed."""

    def _prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make in the empty database what the program expects there. Raises SourceFailed."""

    def __enter__(self) -> Self:
        program = self._create()
        try:
            self._prepare()
            self._stream: CommandStream = program.stream(self._cancel, talk=True)
            self._stream.__enter__()
        except BaseException as error:
            self._clean_up(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.__exit__(kind, error, trace)
        if not self._finished:
            self._clean_up(error)

    def write(self, data: bytes | memoryview) -> None:
        self._stream.feed(data)

    def finish(self) -> None:
        """Raises TargetFailed; then there is no new database."""
        self._stream.end_input()
        view = memoryview(bytearray(_READ_BYTES))
        try:
            while self._stream.readinto(view):
                pass
        except SourceFailed as error:
            raise self._failed(error) from error
        self._finished = True

    def _failed(self, error: SourceFailed) -> TargetFailed:
        """What it means that the program failed."""
        return TargetFailed(
            f"{self._name} could not be restored",
            why=error.why,
            hints=["nothing that was there was touched", self.hint],
            code="database.restore_failed",
        )

    def _clean_up(self, error: BaseException | None) -> None:
        try:
            # With a token of its own: what was interrupted is cleaned up all the same.
            self._drop(CancelToken())
        except SourceFailed:
            # The server is gone, too: what went wrong first is what to tell.
            if not isinstance(error, DedupError):
                raise
            error.hints = (*error.hints, f"a part of it is still there: drop the database {self._name}")


def exists(name: str) -> Refused:
    return Refused(
        f"there is a database {name}",
        why="a restore never replaces a database",
        hints=[f"choose another name: --as {name}_restored", "and then: dedup db swap"],
        code="database.exists",
    )
