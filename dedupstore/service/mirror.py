"""Mirror a repository to another place, and prove what lies there; no passphrase is needed for either."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dedupstore.cancel import CancelToken
from dedupstore.clock import Clock
from dedupstore.engine.mirror import MirrorResult, mirror
from dedupstore.engine.mirror_plan import MirrorOptions, MirrorPlan, plan_mirror
from dedupstore.engine.mirror_verify import VerifyResult, verify_mirror
from dedupstore.engine.parity_kept import damaged_parity, mirror_parity
from dedupstore.errors import RepositoryNotFound, StoreMissing
from dedupstore.events import Finding, Listener
from dedupstore.repo import layout
from dedupstore.repo.identity import identify
from dedupstore.service.check_memory import CheckMemory, remember_check
from dedupstore.service.places import require_apart
from dedupstore.service.replica_state import Replica, device_of, remember_run
from dedupstore.storage.base import ObjectStore
from dedupstore.storage.memory import MemoryStore
from dedupstore.storage.options import NO_OPTIONS, StoreOptions
from dedupstore.storage.registry import create_store, open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """From where to where. With `init` the target may be a new place."""

    source: str
    target: str
    init: bool = False
    delete: bool = False
    verify: bool = False
    """Read what the mirror holds, afterwards, and compare every object with its name."""

    despite_damage: bool = False
    dry_run: bool = False
    source_options: StoreOptions = NO_OPTIONS
    target_options: StoreOptions = NO_OPTIONS
    """Limits of bandwidth of either, and for how long what is put to the target is locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What is to be done. Sizes in bytes."""

    repository: str
    fresh: bool
    objects: int
    size: int
    snapshots: int
    delete_objects: int
    delete_size: int
    delete_snapshots: int
    slots_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was done; zeros on a dry run."""

    source: str
    target: str
    planned: Planned
    objects: int
    size: int
    snapshots: int
    held: int
    deleted: int
    deleted_size: int
    verified: bool
    verified_objects: int
    verified_size: int
    findings: tuple[Finding, ...]
    seconds: float
    dry_run: bool
    exit_code: int


def run(
    request: Request, clock: Clock, environ: Mapping[str, str], listener: Listener, cancel: CancelToken,
    agree: Callable[[Planned], bool],
) -> Outcome:  # fmt: skip
    """`agree` is asked before anything is deleted; without its consent nothing is done at all.

    Raises RepositoryNotFound, Refused (another repository, or no consent is given), StoreError, Interrupted.
    """
    began = clock.monotonic()
    source_url, target_url = require_apart(request.source, request.target)
    source = open_store(request.source, request.source_options)
    try:
        identify(source)
        target = _target(request)
        try:
            options = MirrorOptions(delete=request.delete, despite_damage=request.despite_damage)
            plan = plan_mirror(source, target, options)
            planned = _planned(plan)
            result, verified = MirrorResult(), VerifyResult()
            proceed = not request.dry_run and (not plan.delete or agree(planned))
            if proceed:
                result = mirror(source, target, plan, options, listener=listener, cancel=cancel)
                parity = mirror_parity(source, target, delete=request.delete, listener=listener, cancel=cancel)
                result.objects += parity.made
                result.size += parity.made_bytes
                result.findings = (*result.findings, *parity.findings)
                if request.verify:
                    verified = verify_mirror(target, plan.repository, listener=listener, cancel=cancel)
                    verified.findings = (*verified.findings, *damaged_parity(target, cancel))
                _remember(request, target, plan, result, verified, clock.now_ns(), environ, listener)
        finally:
            target.close()
    finally:
        source.close()
    return Outcome(
        source=source_url,
        target=target_url,
        planned=planned,
        objects=result.objects,
        size=result.size,
        snapshots=result.snapshots,
        held=result.held,
        deleted=result.deleted,
        deleted_size=result.deleted_size,
        verified=proceed and request.verify,
        verified_objects=verified.objects,
        verified_size=verified.size,
        findings=(*result.findings, *verified.findings),
        seconds=clock.monotonic() - began,
        dry_run=not proceed,
        exit_code=max(result.exit_code, verified.exit_code),
    )


def _target(request: Request) -> ObjectStore:
    """The store to mirror to; made only when that was asked for: an unmounted disk must not be filled."""
    store = open_store(request.target, request.target_options)
    try:
        identify(store)
        return store
    except (RepositoryNotFound, StoreMissing) as error:
        if not request.init:
            error.hints = (f"the first time: dedup mirror --to {store.url} --init", "is the disk mounted?")
            raise
        if request.dry_run and isinstance(error, StoreMissing):
            store.close()
            return MemoryStore(request.target)
    if request.dry_run:
        return store
    store.close()
    return create_store(request.target, request.target_options)


def _remember(
    request: Request, target: ObjectStore, plan: MirrorPlan, result: MirrorResult, verified: VerifyResult, now_ns: int,
    environ: Mapping[str, str], listener: Listener,
) -> None:  # fmt: skip
    repository = plan.repository.hex()
    there = tuple(row.key.removeprefix(layout.COMMITS) for row in layout.list_complete(target, layout.COMMITS))
    seen = Replica(
        url=target.url, way="mirror", repository=repository, first_ns=now_ns, last_ns=now_ns,
        complete=result.exit_code == 0, snapshots=there, device=device_of(target.url),
    )  # fmt: skip
    remember_run(environ, repository, seen, listener.finding)
    if request.verify:
        check = CheckMemory(
            repository=repository, url=target.url, depth="names", time_ns=now_ns, errors=len(verified.findings)
        )
        remember_check(environ, check, listener.finding)


def _planned(plan: MirrorPlan) -> Planned:
    return Planned(
        repository=plan.repository.hex(),
        fresh=plan.fresh,
        objects=plan.objects,
        size=plan.size,
        snapshots=sum(row.key.startswith(layout.COMMITS) for row in plan.snapshots),
        delete_objects=len(plan.delete),
        delete_size=plan.delete_size,
        delete_snapshots=plan.snapshots_deleted,
        slots_left=plan.slots_left,
    )
