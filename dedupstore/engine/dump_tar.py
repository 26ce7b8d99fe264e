"""An archive as pax (POSIX.1-2001) tar: times to the nanosecond, owners by number and name, extended attributes.

| what | where |
|---|---|
| times that are no whole seconds | `mtime` in the extended header |
| names that are no UTF-8 | `hdrcharset=BINARY` in the extended header, the bytes as they are |
| extended attributes, access lists among them | `SCHILY.xattr.NAME`, as GNU tar and bsdtar write and read them |
| holes | zeros |
"""

from __future__ import annotations

import tarfile
from typing import IO

from dedupstore.engine.dump import Content
from dedupstore.model.entry import (
    BLOCK_DEVICE,
    CHARACTER_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    SECOND,
    SYMLINK,
    Entry,
)

_TYPES = {
    FILE: tarfile.REGTYPE,
    DIRECTORY: tarfile.DIRTYPE,
    SYMLINK: tarfile.SYMTYPE,
    FIFO: tarfile.FIFOTYPE,
    CHARACTER_DEVICE: tarfile.CHRTYPE,
    BLOCK_DEVICE: tarfile.BLKTYPE,
}
_MAX_DEVICE = 0o7777777


class TarArchive:
    """See `Archive`."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._tar = tarfile.open(  # noqa: SIM115
            fileobj=stream, mode="w|", bufsize=1 << 20, format=tarfile.PAX_FORMAT, encoding="utf-8",
            errors="surrogateescape",
        )  # fmt: skip

    def add(self, path: bytes, entry: Entry, content: Content) -> str:
        kind = _TYPES.get(entry.kind)
        if kind is None:
            return "a socket is not kept in a tar archive"
        info, lost = _info(path, entry, kind)
        if entry.kind == FILE:
            info.size = entry.size
            self._tar.addfile(info, content)
        else:
            self._tar.addfile(info)
        return lost

    def link(self, path: bytes, entry: Entry, target: bytes) -> bool:
        info, _ = _info(path, entry, tarfile.LNKTYPE)
        info.pax_headers = {name: value for name, value in info.pax_headers.items() if name == "mtime"}
        info.linkname = _text(target)
        self._tar.addfile(info)
        return True

    def close(self) -> None:
        self._tar.close()


def _info(path: bytes, entry: Entry, kind: bytes) -> tuple[tarfile.TarInfo, str]:
    """The header, and what does not fit into it."""
    info = tarfile.TarInfo(_text(path))
    info.type = kind
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    info.uname, info.gname = entry.user, entry.group
    info.mtime = entry.mtime // SECOND
    headers: dict[str, str] = {}
    if entry.mtime % SECOND:
        sign, magnitude = ("-", -entry.mtime) if entry.mtime < 0 else ("", entry.mtime)
        headers["mtime"] = f"{sign}{magnitude // SECOND}.{magnitude % SECOND:09d}"
    info.linkname = _text(entry.target)
    lost = []
    if entry.device is not None:
        info.devmajor, info.devminor = entry.device
        if max(entry.device) > _MAX_DEVICE:
            info.devmajor = info.devminor = 0
            lost.append("a device number is too large for a tar archive")
    for name, value in entry.xattrs:
        # A record is `length keyword=value`: a keyword has no equals sign, and is UTF-8.
        if b"=" in name or not _is_utf8(name):
            lost.append("an extended attribute has a name that a tar archive cannot keep")
        else:
            headers[f"SCHILY.xattr.{name.decode()}"] = _text(value)
    info.pax_headers = headers
    return info, "; ".join(lost)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
