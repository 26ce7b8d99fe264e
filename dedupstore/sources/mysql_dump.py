"""The text of a dump of MariaDB or MySQL: its rows counted on the way, and what a client of the other kind takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from dedupstore.errors import SourceFailed, TargetFailed
from dedupstore.sources.base import Stream
from dedupstore.sources.mysql_client import quoted
from dedupstore.units import printable

try:
    from dedupstore.sources import _rows
except ImportError:  # built without a compiler
    _HAVE_KERNEL = False
else:
    _HAVE_KERNEL = True

_TRAILER = b"-- Dump completed"
_TAIL_BYTES = len(_TRAILER) + 64

_ROWS = re.compile(rb"\nINSERT INTO `((?:[^`]|``)*)` VALUES\n")
_BEGIN = b"\nINSERT INTO `"
_END = b";\n"
_LONGEST_BEGIN = 512
"""A name has 64 letters of 4 bytes at most, each of which may be doubled."""

_SANDBOX = (b"/*!999999\\- enable the sandbox mode */", b"/*M!999999\\- enable the sandbox mode */")
"""As older and newer versions of MariaDB write it."""

_LONGEST_LINE = 200

_PART = re.compile(
    rb"\n--\n-- (?:(?:Table structure|Dumping data) for table (`(?:[^`]|``)*`)"
    rb"|(?:Temporary|Final) (?:table |view )?structure for view .*|Dumping (?:events|routines) for database .*"
    rb"|Sequence structure for .*)\n--\n"
)
"""What each part of a dump begins with. In data there are no line breaks."""


_DEFINER = re.compile(
    rb"(\n(?:/\*!50013 |/\*!50003 CREATE\*/ /\*!50017 |/\*!50106 CREATE\*/ /\*!50117 |/\*!50020 CREATE\*/ /\*!50020 |CREATE (?:OR REPLACE )?))"
    rb"DEFINER=`(?:[^`]|``)*`(?:@`(?:[^`]|``)*`)? ?"
)
"""Of a view, a trigger, an event (both kinds of server) and a routine, which all begin a line."""

_ALTERED = re.compile(rb"(\nALTER DATABASE )`(?:[^`]|``)*` (CHARACTER SET \w+ COLLATE \w+ ;\n)")

_LONGEST_DEFINER = 2048


class CountedRows:
    """A dump on its way, with the rows of each table counted; its end can only be read when it is a whole dump.

    Text in a dump has no line breaks of its own (they are escaped), so a row is a line that begins with a bracket.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b"\n"
        self._table: str | None = None
        self._tail = b""
        self.rows: dict[str, int] = {}
        self.countable = True
        """Whether the dump has a line for each row: MySQL's own program writes many in one."""

    def readinto(self, view: memoryview, /) -> int:
        count = self._stream.readinto(view)
        if count:
            piece = view[:count]
            self._tail = (self._tail + bytes(piece[-_TAIL_BYTES:]))[-_TAIL_BYTES:]
            self._count(b"".join((self._rest, piece)))
        elif _TRAILER not in self._tail and len(view):
            raise SourceFailed(
                "the dump has no end",
                why="its last line is missing, although the program says that it succeeded",
                code="database.dump_incomplete",
            )
        return count

    def _count(self, text: bytes) -> None:
        at = 0
        while True:
            if self._table is None:
                match = _ROWS.search(text, at)
                if match is None:
                    break
                self._table = match[1].replace(b"``", b"`").decode("utf-8", "surrogateescape")
                # The line break before the first row belongs to it.
                at = match.end() - 1
            rows, end = count_rows(text, at)
            self.rows[self._table] = self.rows.get(self._table, 0) + rows
            if end < 0:
                # A last byte with which a row, or the end of all rows, may begin is looked at again with what follows.
                at = len(text) - text.endswith((b"\n", b";"))
                break
            self._table = None
            at = end + 1
        if self._table is None:
            begin = text.rfind(_BEGIN, max(at, len(text) - _LONGEST_BEGIN))
            if b"` VALUES (" in text:
                self.countable = False
            at = max(at, begin if begin >= 0 else len(text) - len(_BEGIN))
        self._rest = text[at:]


def count_in_python(text: bytes, start: int, /) -> tuple[int, int]:
    """How many rows begin in text[start:], up to the first end of a table's rows; and where that is, or -1."""
    end = text.find(_END, start)
    return text.count(b"\n(", start, end if end >= 0 else len(text)), end


count_rows: Callable[[bytes, int], tuple[int, int]] = _rows.count if _HAVE_KERNEL else count_in_python


def portable(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The same dump without its first line, when that is the command which only programs of a newer MariaDB know.

    They refuse `\\!` after it; everybody else ends with a syntax error.
    """
    head: bytes | None = b""
    for piece in pieces:
        if head is None:
            yield piece
            continue
        head += bytes(piece)
        if b"\n" in head or len(head) > _LONGEST_LINE:
            yield _without_sandbox(head)
            head = None
    if head:
        yield _without_sandbox(head)


def only_tables(pieces: Iterable[bytes | memoryview], tables: Sequence[str]) -> Iterator[bytes]:
    """The same dump of some tables only, with their indexes and triggers, without views, routines and events.

    Raises TargetFailed at the end when one of them did not come.
    """
    wanted = {quoted(name).encode("utf-8", "surrogateescape") for name in tables}
    missing, text, keeping = set(wanted), b"", True
    for piece in pieces:
        text, at = text + bytes(piece), 0
        for match in _PART.finditer(text):
            if keeping:
                yield text[at : match.start()]
            at, name = match.start(), match[1]
            keeping = name in wanted
            missing.discard(name)
        # What may be the beginning of a part is looked at again with what follows.
        hold = max(at, len(text) - _LONGEST_BEGIN)
        if keeping:
            yield text[at:hold]
        text = text[hold:]
    if keeping:
        yield text
    if missing:
        raise TargetFailed(
            "the dump has no part for a table that it has",
            why=f"{printable(min(missing))} is not told by a comment, as the programs write it",
            hints=["restore all of it: leave out --table", "were comments switched off by the source's options?"],
            code="database.restore_failed",
        )


def without_definers(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The same dump with nobody named in whose name its views, triggers, routines and events act: who restores it will be."""
    return _replaced(pieces, _DEFINER, rb"\1")


def about(pieces: Iterable[bytes | memoryview], name: str) -> Iterator[bytes]:
    """The same dump for the database `name`: around what was made under another default collation the programs alter the
    database, by the name that it had.
    """
    made = quoted(name).encode("utf-8", "surrogateescape").replace(b"\\", rb"\\")
    return _replaced(pieces, _ALTERED, rb"\g<1>" + made + rb" \g<2>")


def about_any(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The same for a database of any name: who is not named is the one that the dump is given to."""
    return _replaced(pieces, _ALTERED, rb"\1\2")


def _replaced(pieces: Iterable[bytes | memoryview], pattern: re.Pattern[bytes], made: bytes) -> Iterator[bytes]:
    """A text with each match, which is not longer than the longest definer, replaced."""
    text = b""
    for piece in pieces:
        text, at = text + bytes(piece), 0
        # What begins later may go on with what follows.
        settled = max(len(text) - _LONGEST_DEFINER, 0)
        for match in pattern.finditer(text):
            if match.start() >= settled:
                break
            yield text[at : match.start()]
            yield match.expand(made)
            at = match.end()
        settled = max(at, settled)
        yield text[at:settled]
        text = text[settled:]
    yield pattern.sub(made, text)


def _without_sandbox(head: bytes) -> bytes:
    return head.partition(b"\n")[2] if head.startswith(_SANDBOX) else head
