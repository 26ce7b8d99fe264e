"""Pages for the codes of `dedup repo probe`."""

from __future__ import annotations

PAGES: dict[str, str] = {
    "probe.left": "The small objects of a probe could not be taken away: the keys may not delete, or the bucket locks what "
    "is put. They lie below tmp/, no repository takes notice of them, and they can be deleted by hand when that is allowed.",
    "probe.listings_lag": "The server listed late what was put or deleted. Snapshots and prunes have to wait for longer than "
    "that: add consistency=eventual to the URL, which makes them wait 120 s. Do not use a server that lags for longer.",
    "probe.lock_not_enforced": "The server took an object with a lock and let it be deleted all the same. object_lock protects "
    "nothing there; use a server that keeps to it.",
    "probe.no_ranges": "The server does not give a part of an object when one is asked for. Packs are read in parts, so a "
    "repository there could be written and not be read. Use another server, or ask its maker.",
}
