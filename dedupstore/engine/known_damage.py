"""What checks have found stays known: looked at again by the next one, and written down for everybody else.

Writing it down is the one thing a check changes, and only adds: the next snapshot stores again what was damaged, where
it still exists, and prune takes the damaged packs away when nothing is lost with them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.pack_exam import Examiner
from dedupstore.engine.passing_bases import PassingBases
from dedupstore.engine.twice import twice
from dedupstore.errors import RepositoryError, RepositoryTooNew, StoreError, StoreGone
from dedupstore.events import Finding
from dedupstore.repo.badlist import BadRecord, Blocks, put_bad
from dedupstore.repo.config import Operation, require_features
from dedupstore.repo.index import PackRow
from dedupstore.types import PackId

CREATOR = "dedup check"


def look_again(session: Session) -> None:
    """Mark in the session what is known to be damaged and still is: whom it hits, the walk tells.

    What is recorded is read once more, not believed: somebody may have put a good copy of the pack back.
    """
    if not session.known.packs or not session.options.includes(Level.STRUCTURE):
        return
    examiner = Examiner(
        session.repository.keyring, session.reader.read_bases, session.hashing, PassingBases()
    )  # fmt: skip
    for row in session.present():
        if row.id in session.known.packs:
            session.cancel.check()
            _examine(session, examiner, row)


def _examine(session: Session, examiner: Examiner, row: PackRow) -> None:
    """Where one reading shows more than is known, a second one has to show it as well: a line may have broken."""
    found = _read(session, examiner, row)
    if found is not None and not session.known.covers(row.id, found.blocks):
        again = _read(session, examiner, row)
        found = again and _Damage(_both(found.blocks, again.blocks))
    if found is None:
        return
    if found.blocks is None:
        session.mark_unreadable(row)
    else:
        session.mark_damaged(row, found.blocks)


@dataclass(frozen=True, slots=True)
class _Damage:
    """What one reading of a pack shows. No blocks: all its chunks can be read, and still it is not what was stored."""

    blocks: Blocks


def _read(session: Session, examiner: Examiner, row: PackRow) -> _Damage | None:
    """None when everything is as it was stored."""
    try:
        data = twice(lambda: session.repository.store.get(row.name.key))
    except StoreGone:
        raise
    except StoreError:
        return _Damage(None)
    exam = examiner.examine(data, row, session.facts_of(row.id), at_once=True)
    if not exam.problems:
        return None
    return _Damage(frozenset(exam.damaged_blocks) if exam.blocks else None)


def _both(first: Blocks, second: Blocks) -> Blocks:
    """Of two readings; None is the whole pack."""
    if first is None or second is None:
        return second if first is None else first
    return first & second


def record_damage(session: Session) -> int:
    """Write down what this check found and nobody knew; of how many packs.

    That it cannot be written down (a store that is read-only, or full) is told and does not make the check fail.
    """
    there = {row.id for row in session.present()}
    found: dict[PackId, Blocks] = {name: frozenset(blocks) for name, blocks in session.damaged_blocks.items()}
    found.update(dict.fromkeys(session.unreadable))
    packs = {name: blocks for name, blocks in found.items() if name in there and not session.known.covers(name, blocks)}
    lost = frozenset(session.lost - session.known.lost)
    if not packs and not lost:
        return 0
    repository = session.repository
    record = BadRecord(packs=packs, lost=lost, creator=CREATOR, time_ns=repository.clock.now_ns())
    try:
        require_features(repository.config, Operation.WRITE)
        put_bad(repository.store, repository.keyring, record)
    except StoreGone:
        raise
    except (StoreError, RepositoryTooNew) as error:
        session.report(
            Finding(
                code="check.not_recorded",
                message=f"what is damaged could not be written down for other commands: {_text(error)}",
                severity="note",
            )
        )
        return 0
    return len(packs.keys() | lost)


def _text(error: RepositoryError) -> str:
    return f"{error.message}: {error.why}" if error.why else error.message
