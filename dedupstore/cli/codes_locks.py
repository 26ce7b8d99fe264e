"""Pages for codes about locks, versions and the past of a storage; part of `codes.py`."""

from __future__ import annotations

PAGES: dict[str, str] = {
    "check.lock_ends_early": "Objects that snapshots need will soon be free to be deleted. A lock begins when an object is put, and "
    "a later snapshot that uses it again does not make it longer; `dedup extend-locks` does.",
    "locks.all_packs": "A snapshot cannot be walked to its end, so it is not known what it needs. The locks of all packs were "
    "extended, which costs space and loses nothing; `dedup check` tells what is damaged.",
    "locks.denied": "The keys in use may not lock objects. Locks need s3:GetObjectRetention, s3:PutObjectRetention and "
    "s3:ListBucketVersions; nothing else was changed.",
    "locks.hidden": "Somebody has deleted objects that snapshots need, and their versions are still in the bucket. Restore, or "
    "mirror to a new place, as of a time before that: --at-store-time; docs/storage.md says how.",
    "locks.needs_consent": "Objects would be locked for more than a year, and nobody agreed. A lock cannot be taken back; look at "
    "it with --dry-run and agree with --yes.",
    "locks.none": "Objects cannot be locked there. Locks need a bucket that was made with Object Lock; an existing bucket can "
    "rarely be changed, but the repository can be mirrored to one.",
    "usage.no_past": "Storage shows its past only where it keeps versions. --at-store-time needs a bucket with versions.",
}
