"""A file that a command writes for the user: it has its name when all of it is there, and replaces nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dedupstore.errors import Refused, TargetFailed

UNFINISHED = ".incomplete"
"""What the name of a file ends in until all of it is there."""

Write = Callable[[bytes | memoryview], None]


@contextmanager
def new_file(target: Path) -> Iterator[Write]:
    """What writes to the file. Leaving the context normally gives it its name, durably.

    Raises Refused when the name is taken, TargetFailed when it cannot be written. What was written until a failure
    is kept under the unfinished name, and overwritten by the next try.
    """
    unfinished = target.with_name(target.name + UNFINISHED)
    require_free(target)
    try:
        file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise TargetFailed(f"cannot write {target}", why=exc.strerror or str(exc)) from exc
    try:
        yield lambda data: _write(file, target, data)
        os.fsync(file)
        # A link, not a renaming: what came to have the name meanwhile is not replaced.
        os.link(unfinished, target)
        os.unlink(unfinished)
    except FileExistsError as exc:
        raise Refused(f"{target} exists", why=f"what was written is in {unfinished}", code="dump.exists") from exc
    except OSError as exc:
        raise TargetFailed(f"cannot write {target}", why=exc.strerror or str(exc)) from exc
    finally:
        os.close(file)


def require_free(target: Path) -> None:
    """Raises Refused when there is anything of that name."""
    if os.path.lexists(target):
        raise Refused(f"{target} exists", hints=["give another name, or move it away"], code="dump.exists")


def _write(file: int, target: Path, data: bytes | memoryview) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError as exc:
        raise TargetFailed(f"cannot write {target}", why=exc.strerror or str(exc)) from exc
