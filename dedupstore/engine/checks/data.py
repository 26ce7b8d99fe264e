"""Reads packs whole, the least recently verified first, and remembers which were right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice

from dedupstore.codec.block import BASED
from dedupstore.engine.check_options import Coverage, Level
from dedupstore.engine.check_session import Description, Session
from dedupstore.engine.pack_exam import Examiner, PackExam
from dedupstore.engine.passing_bases import PassingBases
from dedupstore.errors import IntegrityError, ObjectNotFound, StoreError, StoreGone
from dedupstore.events import Finding
from dedupstore.repo.index import Location, PackRow
from dedupstore.types import ChunkId

MEMORY_BYTES = 160 << 20
"""What the packs being examined may take together."""

REMEMBER_EVERY = 32
MAX_STORE_ERRORS = 20
"""So many packs in a row that cannot be fetched are a broken connection, not damage."""

DAY_NS = 24 * 3600 * 10**9


class DataCheck:
    """A failed pack is fetched and examined again before it is reported."""

    name = "data"
    level = Level.DATA

    def run(self, session: Session) -> Iterator[Finding]:
        rows = _choose(session)
        session.step("read data")
        session.progress.bytes_total = sum(row.size for row in rows)
        if rows:
            session.walk_ahead()
        told: set[bytes] = set()
        good: list[PackRow] = []
        try:
            for exam in _examine(session, rows):
                _count(session, exam)
                yield from _judge(session, exam, told)
                if exam.sound and exam.row.id not in session.damaged_blocks:
                    good.append(exam.row)
                if len(good) >= REMEMBER_EVERY:
                    _remember(session, good)
                    good = []
        finally:
            _remember(session, good)
        session.coverage = _coverage(session)


def _choose(session: Session) -> list[PackRow]:
    """The share that was asked for, least recently verified first, then the newest first: delta blocks
    come before their bases, and can wait for them."""
    share = session.options.read_data
    if share is None:
        return []
    verified = session.repository.index.last_verified
    rows = session.present()
    ages = []
    for row in rows:
        number = session.cached_number(row)
        ages.append((verified(number) or 0 if number is not None else 0, -row.no, row))
    left = share.of(sum(row.size for row in rows))
    chosen: list[PackRow] = []
    for _, _, row in sorted(ages):
        if left <= 0:
            break
        chosen.append(row)
        left -= row.size
    return chosen


def _examine(session: Session, rows: Sequence[PackRow]) -> Iterator[PackExam]:
    """Examine packs in a pool; results as they come. Stops early when the time is up."""
    largest = max((row.size for row in rows), default=1)
    threads = session.options.threads or max(1, min(session.threads, MEMORY_BYTES // largest))
    examiner = Examiner(session.repository.keyring, session.reader.read_bases, session.hashing, PassingBases())
    remaining = _until_time_is_up(session, rows)
    running: set[Future[PackExam]] = set()
    parked: list[PackExam] = []
    errors = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="check") as pool:
        try:
            while True:
                for row in islice(remaining, max(0, threads + 1 - len(running))):
                    running.add(pool.submit(_examine_twice, session, examiner, row))
                if not running and not parked:
                    return
                # Some wait for bases: until they have them, or until no pack is left that could bring them.
                ended = [exam for exam in parked if not exam.waiting or not running]
                parked = [exam for exam in parked if exam not in ended]
                running.update(pool.submit(_conclude, session, examiner, exam) for exam in ended)
                session.cancel.check()
                done, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    exam = future.result()
                    if not exam.final:
                        parked.append(exam)
                        continue
                    errors = errors + 1 if exam.failure is not None and not exam.missing else 0
                    if errors >= MAX_STORE_ERRORS and exam.failure is not None:
                        raise exam.failure
                    yield exam
        finally:
            for future in running:
                future.cancel()


def _until_time_is_up(session: Session, rows: Sequence[PackRow]) -> Iterator[PackRow]:
    clock, seconds = session.repository.clock, session.options.max_seconds
    deadline = None if seconds is None else clock.monotonic() + seconds
    for row in rows:
        if deadline is not None and clock.monotonic() >= deadline:
            session.complete = False
            return
        yield row


def _examine_twice(session: Session, examiner: Examiner, row: PackRow) -> PackExam:
    """The verdict on one pack; not `final` when blocks of it are left waiting, until `_conclude` was called."""
    exam = _examine_once(session, examiner, row, again=False)
    return exam if exam.waiting else _conclude(session, examiner, exam)


def _conclude(session: Session, examiner: Examiner, exam: PackExam) -> PackExam:
    """The verdict on a pack that waits for nothing more; not `final` while another thread examines a block of it."""
    examiner.passing.conclude(exam)
    if exam.waiting:
        return exam
    exam.final = True
    # Of a delta block whose bases could not be read it is known only that it is what was stored.
    verified = bool(exam.blocks) and not exam.unread_bases
    _excuse_lost_bases(session, exam)
    if exam.sound:
        return exam
    second = _examine_once(session, examiner, exam.row, again=True)
    if verified and not second.missing:
        if not second.blocks:
            # This time nothing came, or nothing that is like it: what was read the first time counts.
            return exam
        # A block that was read once is whole: the other reading was wrong.
        second.damaged_blocks = [number for number in second.damaged_blocks if number in exam.damaged_blocks]
    differs = bool(exam.problems) or exam.missing or not second.unread_bases
    _excuse_lost_bases(session, second)
    second.unstable, second.final = second.sound and differs, True
    return second


def _excuse_lost_bases(session: Session, exam: PackExam) -> None:
    """A delta that no snapshot needs may have lost its bases to a prune; if one needs it, the walk tells."""
    exam.unread_bases = [chunk for chunk in exam.unread_bases if _full_copies(session, chunk)]


def _examine_once(session: Session, examiner: Examiner, row: PackRow, *, again: bool) -> PackExam:
    try:
        data = session.repository.store.get(row.name.key)
    except StoreGone:
        raise
    except StoreError as exc:
        missing = isinstance(exc, ObjectNotFound)
        return PackExam(row, problems=[] if missing else [exc.why or exc.message], missing=missing, failure=exc)
    return examiner.examine(data, row, session.facts_of(row.id) if again else None, at_once=again)


def _count(session: Session, exam: PackExam) -> None:
    counts, progress = session.counts, session.progress
    counts.packs_read += 1
    counts.bytes_read += exam.row.size
    counts.blocks += exam.blocks
    counts.chunks += exam.chunks
    counts.raw_bytes += exam.raw_bytes
    progress.bytes_done += exam.row.size
    session.listener.progress(progress)


def _judge(session: Session, exam: PackExam, told: set[bytes]) -> Iterator[Finding]:
    row = exam.row
    if exam.unstable:
        yield Finding(
            code="check.unstable_read",
            message=f"pack {row.id.hex()[:16]} read differently twice; the second time it was right",
        )
    if exam.missing:
        yield from _miss(session, row)
    elif exam.problems:
        if exam.blocks:
            session.mark_damaged(row, exam.damaged_blocks)
        else:
            session.mark_unreadable(row)
        if row.id not in told:
            told.add(row.id)
            blocks = frozenset(exam.damaged_blocks) if exam.blocks else None
            known = session.known.covers(row.id, blocks)
            yield _pack_damaged(exam, session.known_severity if known else "error")
    for chunk in exam.unread_bases:
        yield from _find_bad_base(session, exam, chunk, told)
    said = session.described.get(row.id) if session.described is not None else None
    if exam.facts is not None and said is not None and not said.agrees(Description.of(exam.facts)):
        yield Finding(
            code="check.index_contradicts",
            message=f"the index describes pack {row.id.hex()[:16]} differently than the pack itself",
            severity="error",
        )


def _miss(session: Session, row: PackRow) -> Iterator[Finding]:
    """A pack that was listed is gone: pruned meanwhile, or lost. Told once: others may miss a base in it before."""
    session.mark_unreadable(row)
    if row.id not in session.lost and row.id not in session.condemned and not session.pruned_since():
        session.lost.add(row.id)
        yield Finding(
            code="check.pack_missing", message=f"pack {row.id.hex()[:16]} disappeared while it was checked",
            severity="error",
        )  # fmt: skip


def _pack_damaged(exam: PackExam, severity: str) -> Finding:
    if not exam.blocks:
        extent = "nothing of it can be read"
    elif exam.damaged_blocks:
        extent = f"{len(exam.damaged_blocks)} of its {exam.blocks} blocks are lost"
    else:
        extent = "all its chunks can be read"
    why = "; ".join(dict.fromkeys(exam.problems))
    return Finding(
        code="check.pack_damaged",
        message=f"pack {exam.row.id.hex()[:16]} is damaged: {why}; {extent}",
        severity=severity,
    )


def _find_bad_base(session: Session, exam: PackExam, chunk: ChunkId, told: set[bytes]) -> Iterator[Finding]:
    """Which block, of a pack that is perhaps not examined in this run, keeps a delta base from being read."""
    for place in _full_copies(session, chunk):
        row = session.index.pack(place.pack_no)
        try:
            session.reader.read_block(exam.row.kind, place.pack_no, place.block_no, {place.position: chunk})
        except StoreGone:
            raise
        except ObjectNotFound:
            yield from _miss(session, row)
        except (IntegrityError, StoreError):
            session.mark_damaged(row, [place.block_no])
            if row.id not in told:
                told.add(row.id)
                yield Finding(
                    code="check.pack_damaged",
                    message=f"pack {row.id.hex()[:16]} is damaged: a delta base in it cannot be read",
                    severity="error",
                )


def _full_copies(session: Session, chunk: ChunkId) -> list[Location]:
    """Where it is in full, in packs that are there."""
    return [
        place
        for place in session.index.find_all(chunk)
        if place.pack_no in session.health.present
        and session.index.block(place.pack_no, place.block_no).codec not in BASED
    ]


def _remember(session: Session, rows: Sequence[PackRow]) -> None:
    numbers = [number for row in rows if (number := session.cached_number(row)) is not None]
    if numbers:
        session.repository.index.mark_verified(numbers, session.repository.clock.now_ns())


def _coverage(session: Session) -> Coverage:
    """A round takes as long as what is left of it at the rate since the oldest reading within the window."""
    days = session.options.recent_days
    now = session.repository.clock.now_ns()
    recent = total = 0
    oldest = now
    for row in session.present():
        total += row.size
        number = session.cached_number(row)
        when = session.repository.index.last_verified(number) if number is not None else None
        if when is not None and when >= now - days * DAY_NS:
            recent += row.size
            oldest = min(oldest, when)
    # The reading of day one and of day two are one day apart and were two days' work.
    span = min(float(days), (now - oldest) / DAY_NS + 1)
    return Coverage(
        days=days, bytes_total=total, bytes_recent=recent, full_round_days=span * total / recent if recent else None
    )
