"""The client programs of a database server, started so that nobody sees a password.

A password stands in no argument and in no environment on this machine: the program is handed an open file that has no
name. Inside a container (`exec`) that file does not exist; there a shell reads the password from its standard input and puts it
into the environment of the one program that needs it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.sources.base import Stream
from dedupstore.sources.command import CommandStream

_MAX_ANSWER_BYTES = 256 << 20
_READ_BYTES = 1 << 16
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to start and what it is given beside its arguments."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    fds: tuple[int, ...] = ()
    """Descriptors it inherits, under the same numbers."""

    first: bytes = field(default=b"", repr=False)
    """What it reads from its standard input before anything else."""

    def stream(self, cancel: CancelToken, *, talk: bool = False) -> CommandStream:
        """Its output; with `talk` more can be sent to it."""
        return CommandStream(
            self.argv, self.env, cancel, fds=self.fds, stdin=self.first if self.first or talk else None, talk=talk
        )


@contextmanager
def secret_file(content: bytes) -> Iterator[int]:
    """A descriptor whose file only we and who inherits it can open, as `/dev/fd/N`; nothing of it is left, whatever happens."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("dedup", os.MFD_CLOEXEC)
    else:
        fd, name = tempfile.mkstemp()
        os.unlink(name)
    try:
        # The programs ignore a file that others could read, or change.
        os.fchmod(fd, 0o600)
        os.write(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def inside(
    exec_prefix: Sequence[str], argv: Sequence[str], variable: str, password: str
) -> tuple[tuple[str, ...], bytes]:
    """The words that start a program where `exec_prefix` leads, and what its standard input begins with."""
    if not password:
        return (*exec_prefix, *argv), b""
    script = f'IFS= read -r {variable} && export {variable} && exec "$@"'
    return (*exec_prefix, "sh", "-c", script, "sh", *argv), password.encode() + b"\n"


def answer(program: Program, cancel: CancelToken) -> str:
    """All that it prints. Raises SourceFailed."""
    with program.stream(cancel) as stream:
        return text_of(stream, program.argv[0])


def text_of(stream: Stream, name: str) -> str:
    """All that the program `name` still prints. Raises SourceFailed."""
    collected = bytearray()
    with memoryview(bytearray(_READ_BYTES)) as view:
        while count := stream.readinto(view):
            collected += view[:count]
            if len(collected) > _MAX_ANSWER_BYTES:
                raise SourceFailed(f"{name} answers too much")
    return collected.decode("utf-8", "surrogateescape")


class Talk:
    """A client program that is asked one thing after the other, in one session. `mark` is a command that prints its word."""

    def __init__(self, stream: CommandStream, mark: str) -> None:
        self._stream = stream
        self._mark = mark
        self._rest = b""
        self._asked = 0

    def send(self, text: str) -> None:
        """Ask, and do not wait; `lines` gives what it says to it."""
        self._asked += 1
        self._stream.send(f"{text}\n{self._mark.format(self._word())}\n".encode("utf-8", "surrogateescape"))

    def lines(self) -> list[str]:
        """What it says to what was sent. Raises SourceFailed."""
        end = f"\n{self._word()}\n".encode()
        text = b"\n" + self._rest
        view = memoryview(bytearray(_READ_BYTES))
        while end not in text:
            count = self._stream.readinto(view)
            if not count:
                raise SourceFailed(
                    "the session ended too early",
                    why="the client ended before it had answered",
                    hints=["in a container it needs its standard input: docker exec -i …, docker compose exec -T …"],
                    code="database.session_ended",
                )
            text += view[:count]
        said, _, self._rest = text.partition(end)
        return said.decode("utf-8", "surrogateescape").split("\n")[1:]

    def ask(self, text: str) -> list[str]:
        self.send(text)
        return self.lines()

    def _word(self) -> str:
        return f"dedup-end-{self._asked}"


class Translated:
    """A stream whose failures are told in other words."""

    def __init__(self, stream: Stream, translate: Callable[[], AbstractContextManager[None]]) -> None:
        self._stream = stream
        self._translate = translate

    def readinto(self, view: memoryview, /) -> int:
        with self._translate():
            return self._stream.readinto(view)


def version_of(text: str) -> tuple[int, ...]:
    """The first version in a text: `pg_dump (PostgreSQL) 15.4` is (15, 4); empty where there is none."""
    match = _VERSION.search(text)
    return () if match is None else tuple(int(part) for part in match.groups() if part is not None)
