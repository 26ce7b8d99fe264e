"""The entries of a directory page, read in C where every byte of it is as our own writer would have put it.

Everything else (attributes, holes, devices, paged contents, anything hostile) is for `entry.decode_entry`, which is
the specification. An entry costs a quarter of the time.
"""

from __future__ import annotations

from dedupstore.model.entry import Entry

try:
    from dedupstore.model import _survey
except ImportError:  # built without a compiler
    _HAVE_KERNEL = False
else:
    _HAVE_KERNEL = True

_PLAIN_FIELDS = 11
"""What a file of one chunk has, and most entries are such files."""


def read_entries(page: bytes) -> list[Entry] | None:
    """The entries of a manifest that is one ordinary page of a directory; None for the slow way to find out.

    Each entry is as it should be; whether their names ascend is not looked at.
    """
    rows = _survey.rows(page) if _HAVE_KERNEL else None
    if rows is None:
        return None
    entries = []
    for row in rows:
        if len(row) == _PLAIN_FIELDS:
            name, kind, mode, uid, gid, user, group, size, mtime, ctime, content = row
            entry = Entry(
                name=name, kind=kind, mode=mode, uid=uid, gid=gid, user=user, group=group, size=size, mtime=mtime,
                ctime=ctime, content=content,
            )  # fmt: skip
        else:
            (
                name,
                kind,
                mode,
                uid,
                gid,
                user,
                group,
                size,
                mtime,
                ctime,
                content,
                tree,
                digest,
                target,
                link,
                page_size,
            ) = row
            entry = Entry(
                name=name, kind=kind, mode=mode, uid=uid, gid=gid, user=user, group=group, size=size, mtime=mtime,
                ctime=ctime, content=content, tree=tree, hash=digest, target=target, link_group=link,
                page_size=page_size,
            )  # fmt: skip
        entries.append(entry)
    return entries
