"""An archive as zip, for programs that know no tar. Keeps less: whole seconds, no attributes, no devices, no hard links.

Extra fields of Info-ZIP hold what unzip restores: `UT` the time in UTC, `ux` the owner by number.
"""

from __future__ import annotations

import stat
import struct
import time
import zipfile
from typing import IO

from dedupstore.engine.dump import Content
from dedupstore.model.entry import DIRECTORY, FILE, SECOND, SYMLINK, Entry
from dedupstore.units import printable

_TIME = struct.Struct("<HHBi")
_OWNER = struct.Struct("<HHBBIBI")
_MODES = {FILE: stat.S_IFREG, DIRECTORY: stat.S_IFDIR, SYMLINK: stat.S_IFLNK}
_UNIX = 3
_DIRECTORY_BIT = 0x10
_EARLIEST, _LATEST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
_INT31 = 1 << 31


class ZipArchive:
    """See `Archive`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED)

    def add(self, path: bytes, entry: Entry, content: Content) -> str:
        if entry.kind not in _MODES:
            return "only files, directories and links are kept in a zip archive"
        name, lost = _name(path)
        info = zipfile.ZipInfo(name + ("/" if entry.kind == DIRECTORY else ""), _date(entry.mtime))
        info.create_system = _UNIX
        info.external_attr = (_MODES[entry.kind] | entry.mode) << 16
        info.extra = _extra(entry)
        info.compress_type = zipfile.ZIP_DEFLATED if entry.kind == FILE else zipfile.ZIP_STORED
        if entry.kind == DIRECTORY:
            info.external_attr |= _DIRECTORY_BIT
        # The size is not told beforehand: it is only now being read, and a file may be longer than 4 GiB.
        with self._zip.open(info, "w", force_zip64=entry.size >= _INT31) as member:
            for piece in content:
                member.write(piece)
            if entry.kind == SYMLINK:
                member.write(entry.target)
        return lost

    def link(self, path: bytes, entry: Entry, target: bytes) -> bool:
        """A zip archive has no hard links: the file is written again."""
        return False

    def close(self) -> None:
        self._zip.close()


def _name(path: bytes) -> tuple[str, str]:
    try:
        return path.decode("utf-8"), ""
    except UnicodeDecodeError:
        shown = printable(path)
        return shown, f"a name that is no UTF-8 is written as {shown}"


def _date(mtime: int) -> tuple[int, int, int, int, int, int]:
    """The time as old programs read it: on the clocks of this place, within what a zip archive can say."""
    try:
        found = time.localtime(mtime // SECOND)
    except (OverflowError, ValueError, OSError):
        return _EARLIEST if mtime < 0 else _LATEST
    return min(max((found[0], found[1], found[2], found[3], found[4], found[5]), _EARLIEST), _LATEST)


def _extra(entry: Entry) -> bytes:
    seconds = entry.mtime // SECOND
    told = _TIME.pack(0x5455, 5, 1, seconds) if -_INT31 <= seconds < _INT31 else b""
    return told + _OWNER.pack(0x7875, 11, 1, 4, entry.uid, 4, entry.gid)
