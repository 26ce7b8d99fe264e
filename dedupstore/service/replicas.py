"""Replicas: how far each is behind, and whether the 3-2-1-1-0 rule holds, each part with its proof and its age.

Three copies of the data on two media, one off-site, one offline or immutable, zero errors. What cannot be known from here
is said to be unknown, with the command that would prove it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dedupstore.errors import DedupError, RepositoryNotFound
from dedupstore.model.snapshot import Snapshot
from dedupstore.repo import layout
from dedupstore.repo.identity import identify
from dedupstore.service.access import Access
from dedupstore.service.check_memory import CheckMemory, checks_of
from dedupstore.service.replica_state import Replica, device_of, replicas_of
from dedupstore.service.selection import SAFETY
from dedupstore.storage.options import StoreOptions
from dedupstore.storage.registry import open_store
from dedupstore.units import format_id, format_number

PROVEN = "proven"
STATED = "stated"
UNKNOWN = "unknown"
MISSING = "missing"

REPLACED = "another repository lies there now"

DEEP = ("data", "names")
"""Depths of checks that read every byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaInfo:
    """One replica. Times in ns; `missing` counts the source's snapshots that are not there."""

    url: str
    way: str
    repository: str
    last_ns: int
    complete: bool
    snapshots: int
    missing: int
    newest_missing_ns: int | None
    """Time of the newest snapshot that is not there: None when all are."""

    behind_ns: int
    """From the newest snapshot that is there to the newest of the source; 0 when all are there."""

    seen: str
    """`now`: looked at just now. `then`: as the last run left it. Else why it cannot be looked at."""

    facts: tuple[tuple[str, bool, int], ...]
    checks: tuple[CheckMemory, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One part of 3-2-1-1-0. `time_ns`: how old the proof is at most; None where there is none."""

    name: str
    needed: int
    found: int | None
    status: str
    proof: str
    time_ns: int | None
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    repository: str
    url: str
    snapshots: int
    newest_ns: int | None
    replicas: tuple[ReplicaInfo, ...]
    rules: tuple[Rule, ...]

    @property
    def holds(self) -> bool:
        return all(rule.status in (PROVEN, STATED) for rule in self.rules)


def report(access: Access, options_at: Callable[[str], StoreOptions]) -> Report:
    """Look at the source, and at each replica as far as that takes no key; `options_at` its URL it is opened with."""
    opened = access.open_keys()
    try:
        found = [each for each in opened.catalog.snapshots(cached=True).snapshots if each.trigger != SAFETY]
        url, repository = opened.store.url, opened.keyring.repository.hex()
    finally:
        opened.store.close()
    checks = checks_of(access.environ)
    remembered = replicas_of(access.environ, repository)
    replicas = tuple(_look(replica, found, checks, options_at(replica.url)) for replica in remembered)
    now_ns = access.clock.now_ns()
    own = _checks_at(checks, repository, url)
    return Report(
        repository=repository,
        url=url,
        snapshots=len(found),
        newest_ns=found[-1].time_ns if found else None,
        replicas=replicas,
        rules=(
            _copies(replicas, now_ns),
            _media(url, remembered, now_ns),
            _stated("offsite", ("offsite",), replicas),
            _stated("offline or immutable", ("offline", "immutable"), replicas),
            _errors(url, own, replicas),
        ),
    )


def _look(
    replica: Replica, found: Sequence[Snapshot], checks: Sequence[CheckMemory], options: StoreOptions
) -> ReplicaInfo:
    there, seen = _snapshots_there(replica, options)
    missing = [snapshot for snapshot in found if format_id(snapshot.id) not in there]
    present = [snapshot for snapshot in found if format_id(snapshot.id) in there]
    behind = 0
    if missing:
        newest = max(snapshot.time_ns for snapshot in found)
        behind = newest - max((snapshot.time_ns for snapshot in present), default=found[0].time_ns)
    return ReplicaInfo(
        url=replica.url,
        way=replica.way,
        repository=replica.repository,
        last_ns=replica.last_ns,
        complete=replica.complete,
        snapshots=len(there),
        missing=len(missing),
        newest_missing_ns=missing[-1].time_ns if missing else None,
        behind_ns=max(0, behind),
        seen=seen,
        facts=tuple((name, fact.value, fact.time_ns) for name, fact in sorted(replica.facts.items())),
        checks=_checks_at(checks, replica.repository, replica.url),
    )


def _snapshots_there(replica: Replica, options: StoreOptions) -> tuple[frozenset[str], str]:
    """What the replica shows now, where that takes no key: a mirror's markers bear the source's ids."""
    remembered = frozenset(replica.snapshots)
    try:
        store = open_store(replica.url, options)
        try:
            if identify(store).hex() != replica.repository:
                return frozenset(), REPLACED
            if replica.way != "mirror":
                return remembered, "then"
            rows = layout.list_complete(store, layout.COMMITS)
            return frozenset(row.key.removeprefix(layout.COMMITS) for row in rows), "now"
        finally:
            store.close()
    except RepositoryNotFound as error:
        return remembered, error.why or error.message
    except DedupError as error:
        return remembered, error.why or error.message


def _reachable(replica: ReplicaInfo) -> bool:
    return replica.seen in ("now", "then")


def _copies(replicas: Sequence[ReplicaInfo], now_ns: int) -> Rule:
    kept = [replica for replica in replicas if replica.seen != REPLACED and replica.snapshots]
    count = 2 + len(kept)
    away = [replica for replica in kept if not _reachable(replica)]
    proof = f"the data, this repository and {format_number(len(kept), 'replica')}"
    behind = sum(bool(replica.missing) for replica in kept)
    if behind:
        proof += f", {behind} of them behind"
    if away:
        proof += f", {len(away)} of them not looked at now"
    oldest = min((replica.last_ns for replica in away), default=now_ns)
    return Rule(
        name="copies", needed=3, found=count, status=PROVEN if count >= 3 else MISSING, proof=proof, time_ns=oldest,
        hint="" if count >= 3 else "dedup copy --to URL     or: dedup mirror --to URL --init",
    )  # fmt: skip


def _media(url: str, replicas: Sequence[Replica], now_ns: int) -> Rule:
    places = {_medium(url, device_of(url))}
    for replica in replicas:
        places.add(_medium(replica.url, device_of(replica.url) or replica.device))
    known = {place for place in places if place is not None}
    status = PROVEN if len(known) >= 2 else UNKNOWN if None in places else MISSING
    proof = "different file systems or services: " + ", ".join(sorted(known)) if len(known) >= 2 else (
        "all on one file system" if known else "cannot be told"
    )  # fmt: skip
    return Rule(
        name="media", needed=2, found=len(known), status=status, proof=proof, time_ns=now_ns,
        hint="" if status == PROVEN else "mirror to another disk: dedup mirror --to URL --init",
    )  # fmt: skip


def _medium(url: str, device: int | None) -> str | None:
    scheme, mark, _ = url.partition("://")
    if mark and scheme != "file":
        return scheme
    return None if device is None else f"file system {device}"


def _stated(name: str, facts: Sequence[str], replicas: Sequence[ReplicaInfo]) -> Rule:
    """Nobody can see from here where a disk lies or whether it is unplugged: it is believed, and said to be."""
    said = [(url, fact, time_ns) for url, fact, value, time_ns in _facts(replicas) if fact in facts and value]
    if said:
        proof = ", ".join(f"{url} is {fact}, as you said" for url, fact, _ in said)
        return Rule(
            name=name, needed=1, found=len(said), status=STATED, proof=proof, time_ns=min(row[2] for row in said)
        )
    option = " or ".join(f"--{fact}" for fact in facts)
    where = replicas[0].url if replicas else "URL"
    return Rule(
        name=name, needed=1, found=None if replicas else 0, status=UNKNOWN if replicas else MISSING,
        proof="nothing here can tell" if replicas else "there is no replica", time_ns=None,
        hint=f"if one is: dedup replicas set {where} {option}",
    )  # fmt: skip


def _facts(replicas: Sequence[ReplicaInfo]) -> list[tuple[str, str, bool, int]]:
    return [(replica.url, *fact) for replica in replicas for fact in replica.facts]


def _errors(url: str, own: Sequence[CheckMemory], replicas: Sequence[ReplicaInfo]) -> Rule:
    """Zero errors: proven by the last deep check of every place; a newer check that found any counts, whatever its depth."""
    places = [(url, own, f"dedup check -r {url} --read-data")]
    places += [(replica.url, replica.checks, _proof_of(replica)) for replica in replicas]
    bad = [(place, last) for place, checks, _ in places if (last := _newest(checks)) is not None and last.errors]
    if bad:
        place, last = bad[0]
        return Rule(
            name="errors", needed=0, found=sum(last.errors for _, last in bad), status=MISSING,
            proof=f"the last check of {place} found {format_number(last.errors, 'error')}", time_ns=last.time_ns,
            hint=f"dedup check -r {place} --read-data",
        )  # fmt: skip
    deep = {place: _newest([check for check in checks if check.depth in DEEP]) for place, checks, _ in places}
    for place, _, command in places:
        if deep[place] is None:
            return Rule(
                name="errors", needed=0, found=None, status=UNKNOWN, time_ns=None, hint=command,
                proof=f"{place} was never read as a whole by this machine",
            )  # fmt: skip
    oldest = min(check.time_ns for check in deep.values() if check is not None)
    return Rule(
        name="errors", needed=0, found=0, status=PROVEN, proof=f"all {len(places)} places were read as a whole",
        time_ns=oldest,
    )  # fmt: skip


def _proof_of(replica: ReplicaInfo) -> str:
    return (
        f"dedup mirror --to {replica.url} --verify"
        if replica.way == "mirror"
        else f"dedup check -r {replica.url} --read-data"
    )


def _newest(checks: Sequence[CheckMemory]) -> CheckMemory | None:
    return max(checks, key=lambda check: check.time_ns, default=None)


def _checks_at(checks: Sequence[CheckMemory], repository: str, url: str) -> tuple[CheckMemory, ...]:
    return tuple(check for check in checks if (check.repository, check.url) == (repository, url))
