"""Every object name of a repository, in one place: made here, parsed here, listed here.

```
FORMAT                     "dedupstore 1\\n<repository id, 32 hex>\\n", the only clear-text object
config/<number>-<hash>     number: 8 decimal digits, so that names sort as numbers do
keys/<slot id text>        one key slot each
packs/<hh>/<id>.<d|m><u>   see pack.py
index/<hash>               sealed index segments
roots/<snapshot id text>   commits/<…>   forgotten/<…>
gc/plan-<id text>          gc/done-…  gc/bad-…  gc/checked-…
marks/<snapshot id text>-<number>-<id text>     number: 8 decimal digits
parity/<hh>/<pack id>      see parity.py; parity/-begin: new packs get one
<prefix>-begin  <prefix>zz-end          the two sentinels of every listed prefix
```
`-` sorts before every digit and letter that starts a name, `zz` after it (ids and hex never contain z).
"""

from __future__ import annotations

import re

from dedupstore import units
from dedupstore.errors import CorruptObject, IncompleteListing, ObjectNotFound, RepositoryTooNew
from dedupstore.storage.base import ObjectInfo, ObjectStore
from dedupstore.types import RepositoryId, SegmentId, SnapshotId

FORMAT_KEY = "FORMAT"
FORMAT_MAJOR = 1

CONFIG = "config/"
KEYS = "keys/"
PACKS = "packs/"
INDEX = "index/"
ROOTS = "roots/"
COMMITS = "commits/"
FORGOTTEN = "forgotten/"
GC = "gc/"
MARKS = "marks/"
PARITY = "parity/"
"""Optional, and without sentinels: nothing depends on what is listed there."""

PARITY_SWITCH = "parity/-begin"
"""Where it is, every new pack gets parity."""

PREFIXES = (CONFIG, KEYS, PACKS, INDEX, ROOTS, COMMITS, FORGOTTEN, GC, MARKS)

_BEGIN = "-begin"
_END = "zz-end"
SENTINELS = tuple(prefix + mark for prefix in PREFIXES for mark in (_BEGIN, _END))
MARKS_SENTINELS = (MARKS + _BEGIN, MARKS + _END)
"""Those of the one prefix that repositories made before it existed do not have until it is used."""

SENTINEL_BODY = b"dedupstore: this object proves that a listing is complete; leave it here\n"

PACK_FOLDERS = tuple(f"{PACKS}{number:02x}/" for number in range(256))
"""A store with real directories makes these at `init`."""

MAX_RECORD_BYTES = (16 << 20) + 4096
"""A payload of the format's 16 MiB, and more than what sealing adds. Packs, parity and segments are no records."""

SEGMENT_NAME = "index"
"""The logical name sealed into a segment. Its object name is the hash of the sealed bytes, so it cannot be inside."""

_FORMAT = re.compile(rb"dedupstore ([1-9][0-9]{0,5})\n")
_FORMAT_1 = re.compile(rb"dedupstore 1\n([0-9a-f]{32})\n")
_CONFIG = re.compile(r"config/([0-9]{8})-([0-9a-f]{64})")
_SEGMENT = re.compile(r"index/([0-9a-f]{64})")
_GC = re.compile(r"gc/(plan|done|bad|checked)-([0-9a-y]{26})")
_MARK = re.compile(r"marks/([0-9a-y]{26})-([0-9]{8})-([0-9a-y]{26})")


def format_text(repository: RepositoryId) -> bytes:
    return b"dedupstore %d\n%s\n" % (FORMAT_MAJOR, repository.hex().encode("ascii"))


def parse_format(text: bytes) -> RepositoryId:
    """The repository id. Raises RepositoryTooNew for a later major, CorruptObject for anything not understood."""
    match = _FORMAT.match(text)
    if match is not None and int(match[1]) > FORMAT_MAJOR:
        raise RepositoryTooNew(
            f"the repository has format {int(match[1])}",
            why=f"this dedup reads format {FORMAT_MAJOR}",
            hints=["install a newer dedup on this machine"],
        )
    exact = _FORMAT_1.fullmatch(text)
    if exact is None:
        raise CorruptObject("FORMAT is not what dedup writes", why="the object is damaged or not ours")
    return RepositoryId(bytes.fromhex(exact[1].decode("ascii")))


def config_key(number: int, digest: bytes) -> str:
    if not 0 <= number < 10**8:
        raise ValueError(f"config number out of range: {number}")
    return f"{CONFIG}{number:08d}-{digest.hex()}"


def parse_config_key(key: str) -> tuple[int, bytes]:
    match = _match(_CONFIG, key)
    return int(match[1]), bytes.fromhex(match[2])


def config_name(number: int) -> str:
    """The logical name sealed into the config with this number."""
    return f"config-{number:08d}"


def segment_key(identifier: SegmentId) -> str:
    return f"{INDEX}{identifier.hex()}"


def parse_segment_key(key: str) -> SegmentId:
    return SegmentId(bytes.fromhex(_match(_SEGMENT, key)[1]))


def slot_key(slot: bytes) -> str:
    return KEYS + units.format_id(slot)


def root_key(snapshot: SnapshotId) -> str:
    return ROOTS + units.format_id(snapshot)


def commit_key(snapshot: SnapshotId) -> str:
    return COMMITS + units.format_id(snapshot)


def forgotten_key(snapshot: SnapshotId) -> str:
    return FORGOTTEN + units.format_id(snapshot)


def parse_id_key(key: str, prefix: str) -> bytes:
    """The 16 bytes named by `roots/…`, `commits/…`, `forgotten/…` or `keys/…`."""
    if not key.startswith(prefix):
        raise _foreign(key)
    return _parse_id(key[len(prefix) :], key)


def plan_key(identifier: bytes) -> str:
    return f"{GC}plan-{units.format_id(identifier)}"


def done_key(identifier: bytes) -> str:
    return f"{GC}done-{units.format_id(identifier)}"


def bad_key(identifier: bytes) -> str:
    return f"{GC}bad-{units.format_id(identifier)}"


def checked_key(identifier: bytes) -> str:
    return f"{GC}checked-{units.format_id(identifier)}"


def parse_gc_key(key: str) -> tuple[str, bytes]:
    """`("plan" | "done" | "bad" | "checked", id)`."""
    match = _match(_GC, key)
    return match[1], _parse_id(match[2], key)


def mark_key(snapshot: SnapshotId, number: int, identifier: bytes) -> str:
    if not 0 < number < 10**8:
        raise ValueError(f"mark number out of range: {number}")
    return f"{MARKS}{units.format_id(snapshot)}-{number:08d}-{units.format_id(identifier)}"


def parse_mark_key(key: str) -> tuple[SnapshotId, int, bytes]:
    """The snapshot that is marked, the number of the mark, and the mark's own id."""
    match = _match(_MARK, key)
    return SnapshotId(_parse_id(match[1], key)), int(match[2]), _parse_id(match[3], key)


def list_complete(store: ObjectStore, prefix: str) -> list[ObjectInfo]:
    """Every object under one of `PREFIXES`, sorted, without the sentinels; or IncompleteListing.

    An unmounted disk, a failing proxy or a lost page must never look like "empty": a listing counts only
    with both sentinels at its ends and with strictly ascending keys between them.
    """
    rows = list(store.list(prefix))
    if not rows or rows[0].key != prefix + _BEGIN or rows[-1].key != prefix + _END:
        raise _incomplete(store, prefix, "a sentinel is missing: is the disk mounted, is the listing cut short?")
    previous = ""
    for row in rows:
        if row.key <= previous or not row.key.startswith(prefix):
            raise _incomplete(store, prefix, f"{row.key!r} is out of order, repeated or foreign")
        previous = row.key
    return rows[1:-1]


def require_record(row: ObjectInfo) -> None:
    """Raise CorruptObject for an object that is larger than any record, before anybody has it in memory."""
    if row.size > MAX_RECORD_BYTES:
        raise CorruptObject(f"{row.key} is larger than any record", why=f"{row.size} bytes, {MAX_RECORD_BYTES} at most")


def list_if_there(store: ObjectStore, prefix: str) -> list[ObjectInfo] | None:
    """As `list_complete`; None when the prefix has never been used: it has no object but perhaps one of its sentinels.

    Whoever uses it first may be stopped between the two, and puts nothing else before both are durable. They are asked
    for by name as well: a listing that lost some is incomplete, not absent.
    """
    try:
        return list_complete(store, prefix)
    except IncompleteListing:
        sentinels = {prefix + mark for mark in (_BEGIN, _END)}
        there = {key for key in sentinels if _is_there(store, key)}
        if there == sentinels or not {row.key for row in store.list(prefix)} <= there:
            raise
        return None


def _incomplete(store: ObjectStore, prefix: str, why: str) -> IncompleteListing:
    return IncompleteListing(f"the listing of {prefix} at {store.url} is not complete", why=why, transient=True)


def _is_there(store: ObjectStore, key: str) -> bool:
    try:
        store.head(key)
    except ObjectNotFound:
        return False
    return True


def _match(pattern: re.Pattern[str], key: str) -> re.Match[str]:
    match = pattern.fullmatch(key)
    if match is None:
        raise _foreign(key)
    return match


def _parse_id(text: str, key: str) -> bytes:
    try:
        return units.parse_id(text)
    except ValueError as exc:
        raise _foreign(key) from exc


def _foreign(key: str) -> CorruptObject:
    return CorruptObject(f"{key!r} is not an object name dedup writes")
