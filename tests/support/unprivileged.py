"""Running a function without root's rights: root reads everything, so it cannot show what "unreadable" means."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")
NOBODY = 65534


def as_nobody(function: Callable[[], T]) -> T:
    """What `function` returns in a child process that is not root; the exception it raised is raised here."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            if os.geteuid() == 0:
                os.setgroups([])
                os.setegid(NOBODY)
                os.seteuid(NOBODY)
            try:
                answer: tuple[bool, object] = (True, function())
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = (False, error)
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        good, value = pickle.load(pipe)
    os.waitpid(child, 0)
    if not good:
        raise value
    return cast(T, value)
