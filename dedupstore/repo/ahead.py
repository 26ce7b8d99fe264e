"""A result that is computed in a thread of its own while the caller does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Ahead(Generic[Result]):
    """What `function` returns, computed from now on. Worth it for what leaves the interpreter free meanwhile.

    `concurrent.futures` would do the same and takes longer to load than is gained here.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._result: list[Result] = []
        self._error: BaseException | None = None
        # Not a daemon: one of those may not be stopped in the middle of foreign code when the interpreter ends.
        self._thread = threading.Thread(target=self._run, name="ahead")
        self._thread.start()

    def result(self) -> Result:
        """Waits until it is there. Raises what the function raised. May be asked for more than once."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _run(self) -> None:
        try:
            self._result.append(self._function())
        except BaseException as error:
            self._error = error
