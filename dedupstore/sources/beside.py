"""Questions to a server that are asked by a thread of their own while its dump is read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.sources.base import Stream

Answer = TypeVar("Answer")

_POLL_SECONDS = 0.2


class Beside(Generic[Answer]):
    """What `ask` gives. A context manager: leaving it stops the asking and waits for its end."""

    def __init__(self, ask: Callable[[CancelToken], Answer], cancel: CancelToken) -> None:
        """`ask` gets a token of its own; `cancel` is that of whoever waits for the answer."""
        self._ask = ask
        self._cancel = cancel
        self._stop = CancelToken()
        self._answers: list[Answer] = []
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beside")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.cancel()
        self._thread.join()

    def answer(self) -> Answer:
        """Waits for it. Raises what `ask` raised, and Interrupted."""
        while not self._ended.wait(_POLL_SECONDS):
            self._cancel.check()
        self.check()
        return self._answers[0]

    def check(self) -> None:
        """Raise what `ask` raised, if it has by now."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._answers.append(self._ask(self._stop))
        except BaseException as error:
            self._failure = error
        finally:
            self._ended.set()


class Accompanied(Generic[Answer]):
    """A dump beside which questions are asked: it ends as soon as one of them fails.

    When both fail the question tells more: it says what is missing, the dump where it stopped.
    """

    def __init__(self, dump: Stream, asked: Beside[Answer]) -> None:
        self._dump = dump
        self._asked = asked

    def readinto(self, view: memoryview, /) -> int:
        self._asked.check()
        try:
            return self._dump.readinto(view)
        except SourceFailed:
            self._asked.answer()
            raise
