"""What checks have found stays known: looked at again by the next one, and written down for everybody else.

Writing it down is the one thing a check changes, and only adds: the next snapshot stores again what was damaged, where
it still exists, and prune takes the damaged packs away when nothing is lost with them.
"""

from __future__ import annotations

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.inventory import twice
from dedupstore.engine.pack_exam import Examiner
from dedupstore.engine.passing_bases import PassingBases
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
    try:
        data = twice(lambda: session.repository.store.get(row.name.key))
    except StoreGone:
        raise
    except StoreError:
        session.mark_unreadable(row)
        return
    exam = examiner.examine(data, row, session.facts_of(row.id), at_once=True)
    if exam.problems and exam.blocks:
        session.mark_damaged(row, exam.damaged_blocks)
    elif exam.problems:
        session.mark_unreadable(row)


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
