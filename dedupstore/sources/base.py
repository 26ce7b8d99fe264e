"""What every source shares: a stream of bytes, and the errors of one bad file.

Trouble with one file (`SourceFileError`) becomes a finding and the snapshot goes on; trouble with the source as
a whole (`SourceFailed`) ends it. `file_error` is the one place that tells the two apart.
"""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from dedupstore.errors import SourceFailed


class Stream(Protocol):
    """Bytes in order, once. Files, commands and standard input all look like this."""

    def readinto(self, view: memoryview, /) -> int:
        """Fill the beginning of `view` and return how many bytes that were; 0 only at the end.

        May return fewer than fit. At the end a stream that depends on a process raises `SourceFailed` unless the
        process succeeded: whoever gets the 0 may commit.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedStream:
    """A stream, and what the snapshot is to say of it beside its bytes."""

    name: bytes
    """The file name it is kept under."""

    stream: Stream
    page_size: int = 0
    """It is cut on pages of that many bytes; 0 for what has none."""

    stat: os.stat_result | None = None
    """Of the file that it stands for: owner, mode and times."""


class StreamSource(Protocol):
    """What gives several streams, as a database server does: one for each database, and what belongs to it."""

    @property
    def kind(self) -> str:
        """As in the snapshot's record."""
        ...

    @property
    def origins(self) -> tuple[tuple[bytes, bytes], ...]:
        """Pairs of the name of a stream and the absolute path of the file it stands for, where there is one."""
        ...

    @property
    def details(self) -> tuple[tuple[str, str], ...]:
        """What the snapshot's record says of it: pairs of a name and a text. Asked for when all streams were read."""
        ...

    def streams(self) -> Generator[NamedStream, None, None]:
        """Open one after the other; whoever asks for the next one has read this one to its end.

        Closing it ends what is still open. Raises SourceFailed.
        """
        ...


class SourceFileError(Exception):
    """One name could not be stored. `code` and `message` make the finding; the path is known to the walker."""

    code = "file.failed"

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        if code:
            self.code = code


class Vanished(SourceFileError):
    """Listed, then gone. Ordinary on a living system."""

    code = "file.vanished"


class Unreadable(SourceFileError):
    """There, but not to be read: missing rights, a bad sector, a file without an end."""

    code = "file.unreadable"


class ChangedWhileRead(SourceFileError):
    """Something else took its place between looking and opening, or it did not hold still. Worth another try."""

    code = "file.changed_while_reading"


class AttributesUnreadable(SourceFileError):
    """The content can be stored, the extended attributes cannot."""

    code = "file.attributes_unreadable"


_GONE = frozenset((errno.ENOENT, errno.ESTALE))
_REPLACED = frozenset((errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ENODEV))
_DENIED = frozenset((errno.EACCES, errno.EPERM))
# These speak of this process, not of the file: the next thousand files would fail as well, and a snapshot without
# them would look almost good.
_OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EBADF, errno.EFAULT))


def file_error(error: OSError, stat: os.stat_result | None = None) -> SourceFileError | SourceFailed:
    """The error to raise instead of `error`, which a system call on a source file gave.

    `stat` is what is known of the file; it makes "permission denied" say whose file it is.
    """
    number = error.errno or 0
    if number in _GONE:
        return Vanished("vanished while the snapshot ran")
    if number in _REPLACED:
        return replaced()
    if number in _DENIED:
        return Unreadable(_denied(stat))
    if number in _OURS:
        hints = ["raise the limit of open files: ulimit -n 4096"] if number == errno.EMFILE else []
        return SourceFailed("the source cannot be read any further", why=_reason(error), hints=hints)
    return Unreadable(_reason(error))


def replaced() -> ChangedWhileRead:
    return ChangedWhileRead("was replaced by something else while it was read")


def _reason(error: OSError) -> str:
    text = os.strerror(error.errno or 0)
    return text[:1].lower() + text[1:]


def _denied(stat: os.stat_result | None) -> str:
    running = f"running as {_user_name(os.geteuid())}"
    if stat is None:
        return f"permission denied ({running})"
    return f"permission denied (owner {_user_name(stat.st_uid)}, mode {stat.st_mode & 0o7777:03o}; {running})"


@cache
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
