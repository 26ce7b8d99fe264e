"""Which names of a snapshot are one file. What a manifest says of that is believed only where the contents agree."""

from __future__ import annotations

from dedupstore.codec.hashing import digest
from dedupstore.model.entry import BLOCK_DEVICE, CHARACTER_DEVICE, DIRECTORY, SOCKET, Entry


def link_key(entry: Entry) -> int:
    """The same number for all names that are to be one file, below 2^63; 0 for an entry that stands alone.

    Names of one link group may differ: a file may change while its names are read, and the author of a manifest may be
    hostile. One for the other would lose what the second holds, so each content is a file of its own.
    """
    if not entry.link_group or entry.kind == DIRECTORY:
        return 0
    what = (
        entry.link_group, entry.kind, entry.size, entry.content, entry.pages, entry.hash, entry.holes, entry.target,
        entry.device,
    )  # fmt: skip
    return int.from_bytes(digest((repr(what).encode("ascii"),))[:8], "big") >> 1 | 1


def restored_key(entry: Entry, *, special: bool) -> int:
    """The same, but 0 for what no restore makes, or only one with `special`: nothing can be linked to it."""
    if entry.kind == SOCKET or (entry.kind in (CHARACTER_DEVICE, BLOCK_DEVICE) and not special):
        return 0
    return link_key(entry)
