"""The JSON of records that several commands show, and their words for people."""

from __future__ import annotations

import stat
from collections.abc import Callable

from dedupstore.cli.errors import safe
from dedupstore.cli.output import Output, path_fields
from dedupstore.service.records import Counts, EntryInfo, SnapshotInfo
from dedupstore.units import format_bytes, format_count, format_duration, format_number

_KINDS = {
    "f": ("file", stat.S_IFREG),
    "d": ("directory", stat.S_IFDIR),
    "l": ("symlink", stat.S_IFLNK),
    "p": ("fifo", stat.S_IFIFO),
    "s": ("socket", stat.S_IFSOCK),
    "c": ("character device", stat.S_IFCHR),
    "b": ("block device", stat.S_IFBLK),
}


def snapshot_fields(out: Output, snapshot: SnapshotInfo) -> dict[str, object]:
    return {
        "id": snapshot.id,
        "short": snapshot.short,
        "time": out.timestamp(snapshot.time_ns),
        "end": out.timestamp(snapshot.end_ns),
        "source": safe(snapshot.source),
        "kind": snapshot.kind,
        "host": safe(snapshot.host),
        "user": safe(snapshot.user),
        "trigger": snapshot.trigger,
        "parent": snapshot.parent,
        "tags": [safe(tag) for tag in snapshot.tags],
        "note": safe(snapshot.note),
        **protection_fields(out, snapshot),
        "paths": [path_fields(path) for path in snapshot.paths],
        "tool": snapshot.tool,
        "copy_of": None if snapshot.copy_of is None else safe(snapshot.copy_of),
        **count_fields(snapshot.counts),
    }


def protection_fields(out: Output, snapshot: SnapshotInfo) -> dict[str, object]:
    """Only of a snapshot that somebody protected; the protection may have ended meanwhile."""
    if not snapshot.protected:
        return {}
    until_ns = snapshot.protected_until_ns
    until = None if until_ns is None else out.timestamp(until_ns)
    return {"protected": {"until": until, "reason": safe(snapshot.protection)}}


def protection_text(out: Output, snapshot: SnapshotInfo) -> str:
    """`protected until 2027-01-01 00:00 (audit)`."""
    until_ns = snapshot.protected_until_ns
    text = "protected" if until_ns is None else f"protected until {out.minute(until_ns)}"
    return f"{text} ({safe(snapshot.protection)})" if snapshot.protection else text


def count_fields(counts: Counts) -> dict[str, object]:
    """`files` and `bytes` of a run. `stored` is what the repository grew by."""
    return {
        "files": {
            "total": counts.files,
            "new": counts.files_new,
            "changed": counts.files_changed,
            "unchanged": counts.files_unchanged,
            "removed": counts.files_removed,
        },
        "directories": counts.directories,
        "others": counts.others,
        "bytes": {
            "total": counts.bytes_total,
            "read": counts.bytes_read,
            "new": counts.bytes_new,
            "stored": counts.bytes_stored,
        },
        "errors": counts.errors,
    }


def entry_fields(out: Output, entry: EntryInfo) -> dict[str, object]:
    fields: dict[str, object] = {
        **path_fields(entry.path),
        "kind": kind_word(entry.kind),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": safe(entry.user),
        "group": safe(entry.group),
        "size": entry.size,
        "mtime": moment(out.timestamp, entry.mtime_ns),
    }
    if entry.target:
        target = path_fields(entry.target)
        fields["target"] = target["path"]
        if "path_b64" in target:
            fields["target_b64"] = target["path_b64"]
    if entry.hash:
        fields["blake3"] = entry.hash
    return fields


def mode_text(entry: EntryInfo) -> str:
    """`drwxr-xr-x`, as ls prints it."""
    return stat.filemode(_KINDS.get(entry.kind, ("", 0))[1] | entry.mode)


def kind_word(letter: str) -> str:
    return _KINDS.get(letter, (letter, 0))[0]


def moment(shown: Callable[[int], str], moment_ns: int) -> str:
    """A file's time; some files claim times that no calendar has, and are shown all the same."""
    try:
        return shown(moment_ns)
    except (OverflowError, ValueError, OSError):
        return f"{moment_ns / 1e9:.0f} s since 1970"


def owner(name: str, number: int) -> str:
    return safe(name) or str(number)


def files_text(counts: Counts, *, first: bool) -> str:
    """`1 204 files (3 new, 12 changed, 1 removed)`."""
    text = format_number(counts.files, "file")
    if first:
        return text
    changes = [
        f"{format_count(number)} {word}"
        for number, word in (
            (counts.files_new, "new"),
            (counts.files_changed, "changed"),
            (counts.files_removed, "removed"),
        )
        if number
    ]
    return f"{text} ({', '.join(changes) or 'all unchanged'})"


def stored_text(counts: Counts) -> str:
    """`102.7 MB stored (3.1x smaller)`, against what was read."""
    text = f"{format_bytes(counts.bytes_stored)} stored"
    if counts.bytes_stored and counts.bytes_read >= 2 * counts.bytes_stored and counts.bytes_read > 1 << 20:
        text += f" ({counts.bytes_read / counts.bytes_stored:.1f}x smaller)"
    return text


def distance(nanoseconds: int) -> str:
    """How long something is away: `35 s`, `2 h 03 min`, `3 days`."""
    seconds = abs(nanoseconds) / 1e9
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days"
    return f"{seconds:.0f} s" if seconds < 60 else format_duration(seconds)
