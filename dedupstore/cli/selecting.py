"""From `--at`, `--snapshot`, `SNAP[:PATH]` and their kin to what the services call a selection."""

from __future__ import annotations

from dedupstore.cli.instants import instant
from dedupstore.cli.opening import path_argument
from dedupstore.cli.session import Session
from dedupstore.errors import UsageError
from dedupstore.service.selection import Filter, Selection


def selection(
    session: Session,
    *,
    snapshot: str | None = None,
    at: str | None = None,
    source: str | None = None,
    host: str | None = None,
    tags: tuple[str, ...] = (),
) -> Selection:
    return Selection(
        snapshot=snapshot or "",
        at_ns=instant(session, at),
        source=source or "",
        host=host or "",
        tags=tags,
        describe=session.out.second,
    )


def place(text: str) -> tuple[str, bytes]:
    """The selector and the path of `SNAP[:PATH]`."""
    # A tag is named with a colon of its own.
    mark = "@tag:" if text.startswith("@tag:") else ""
    selector, _, path = text[len(mark) :].partition(":")
    if mark and not selector:
        raise UsageError(f"not a snapshot: {text!r}", hints=["write @tag:NAME, or @tag:NAME:PATH"])
    return mark + selector, path_argument(path)


def snapshot_filter(
    session: Session,
    *,
    source: str | None,
    host: str | None,
    tags: tuple[str, ...],
    before: str | None = None,
    after: str | None = None,
) -> Filter:
    return Filter(
        source=source or "",
        host=host or "",
        tags=tags,
        before_ns=instant(session, before),
        after_ns=instant(session, after),
    )
