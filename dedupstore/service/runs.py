"""One run over sources of the configuration: each into its repositories, one id, one logical time, each result told.

A source that fails does not stop the others; a signal stops them all. Its hooks run once, around all its repositories.
A second place of the same repository gets what the first got; into a repository with keys of its own a source is read again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from importlib import import_module

from dedupstore.cancel import CancelToken
from dedupstore.errors import DedupError, Interrupted, Refused, SourceFailed
from dedupstore.events import Finding, Listener
from dedupstore.service import snapshot
from dedupstore.service.access import Access
from dedupstore.service.config_schema import Source
from dedupstore.service.hooks import AFTER, BEFORE, run_hook
from dedupstore.units import format_id

_WORST = (0, 3, 5, 2, 8, 6, 1, 7, 10, 12, 13, 4, 130, 143)
"""Exit codes from the best to the worst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One source, into the repositories it goes to."""

    source: Source
    request: snapshot.Request
    repos: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one source in one repository. Exactly one of `outcome` and `error` is there.

    `hook`: the command after the snapshot failed, although the snapshot is there.
    """

    source: str
    repo: str
    outcome: snapshot.Outcome | None = None
    error: DedupError | None = None
    hook: DedupError | None = None

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return self.error.exit_code
        assert self.outcome is not None
        return worst([self.outcome.exit_code, 0 if self.hook is None else 3])

    @property
    def status(self) -> str:
        if self.error is not None:
            return "interrupted" if isinstance(self.error, Interrupted) else "failed"
        return "ok" if self.exit_code == 0 else "warnings"


Watch = Callable[[str, str], AbstractContextManager[Listener]]
"""Given a source and a repository, a listener for the time of one snapshot; called in the thread that takes it."""

Told = Callable[[Result], None]
"""Is told of each result as soon as it is there, one at a time."""


def worst(codes: Sequence[int]) -> int:
    """The worst of some exit codes; 0 for none."""
    return max(codes, key=lambda code: _WORST.index(code) if code in _WORST else len(_WORST), default=0)


def run(
    tasks: Sequence[Task],
    accesses: Mapping[str, Access | DedupError],
    environ: Mapping[str, str],
    watch: Watch,
    told: Told,
    cancel: CancelToken,
    *,
    max_concurrent: int = 1,
) -> list[Result]:
    """Take them all; the results in the order of the tasks. A repository that could not be opened is there as its error.

    With `max_concurrent` above 1, `watch` and what it gives are called from several threads at once.
    """
    lock = threading.Lock()
    carrying = threading.Lock()

    def one(task: Task) -> list[Result]:
        found = _Source(task, accesses, environ, watch, cancel, carrying).take()
        with lock:
            for result in found:
                told(result)
        return found

    if max_concurrent == 1 or len(tasks) < 2:
        return [result for task in tasks for result in one(task)]
    with ThreadPoolExecutor(max_workers=max_concurrent, thread_name_prefix="source") as pool:
        return [result for found in pool.map(one, tasks) for result in found]


class _Source:
    """One task on its way."""

    def __init__(
        self,
        task: Task,
        accesses: Mapping[str, Access | DedupError],
        environ: Mapping[str, str],
        watch: Watch,
        cancel: CancelToken,
        carrying: threading.Lock,
    ) -> None:
        self._carrying = carrying
        """Held while one place is brought up to another: what two sources lack there is one and the same."""

        self._task = task
        self._accesses = accesses
        self._environ = environ
        self._watch = watch
        self._cancel = cancel
        self._name = task.request.source
        self._drained = False
        """Whether what is piped in has been read: it is there once."""

    def take(self) -> list[Result]:
        """A result for each repository; raises nothing that a user can meet."""
        try:
            self._cancel.check()
        except Interrupted as error:
            # Nothing has begun, so nothing has to be ended.
            return self._failed(error)
        try:
            self._hook(BEFORE, {}, self._cancel)
            results: list[Result] = []
            for repo in self._task.repos:
                results.append(self._into(repo, results))
        except DedupError as error:
            results = self._failed(error)
        except BaseException:
            # A bug: what was stopped before the snapshot is started again all the same, and the bug is told.
            with suppress(SourceFailed):
                self._hook(AFTER, _facts([]), CancelToken())
            raise
        try:
            # After a signal too: what was stopped before has to be started again. The time limit ends it.
            self._hook(AFTER, _facts(results), CancelToken())
        except SourceFailed as error:
            return [
                Result(source=each.source, repo=each.repo, outcome=each.outcome, error=each.error, hook=error)
                for each in results
            ]
        return results

    def _failed(self, error: DedupError) -> list[Result]:
        return [Result(source=self._name, repo=repo, error=error) for repo in self._task.repos]

    def _into(self, repo: str, before: Sequence[Result]) -> Result:
        try:
            self._cancel.check()
            access = self._accesses[repo]
            if isinstance(access, DedupError):
                raise access
            with self._watch(self._name, repo) as listener:
                outcome = self._carried(access, before, listener)
                if outcome is None:
                    if self._drained:
                        raise _drained(self._name)
                    self._drained = self._task.request.stdin_fd is not None
                    outcome = snapshot.run(self._task.request, access, listener, self._cancel)
        except DedupError as error:
            return Result(source=self._name, repo=repo, error=error)
        return Result(source=self._name, repo=repo, outcome=outcome)

    def _carried(self, access: Access, before: Sequence[Result], listener: Listener) -> snapshot.Outcome | None:
        """What became of it where another place of the same repository has it already; None where none has."""
        for result in before:
            other = self._accesses[result.repo]
            if result.outcome is None or isinstance(other, DedupError):
                continue
            if self._task.request.dry_run:
                if self._drained:
                    # It would be carried there.
                    return result.outcome
                continue
            # Loaded only for who has two places.
            service = import_module("dedupstore.service.carried")
            if service.is_carried(other, access):
                try:
                    with self._carrying:
                        outcome: snapshot.Outcome = service.carry(result.outcome, other, access, listener, self._cancel)
                except Refused as error:
                    if self._drained:
                        raise
                    # It has gone its own way, as after a prune of its own: then it gets a snapshot of its own.
                    listener.finding(Finding(code=error.code, message=f"{error.message}: read again", severity="note"))
                    return None
                return outcome
        return None

    def _hook(self, which: str, facts: Mapping[str, str], cancel: CancelToken) -> None:
        source, request = self._task.source, self._task.request
        command = source.before if which == BEFORE else source.after
        if not command or request.dry_run:
            return
        common = {"SOURCE": self._name, "RUN": format_id(request.run) if request.run is not None else ""}
        environ = {name: value for name, value in self._environ.items() if name not in request.withheld}
        run_hook(
            which,
            command,
            {**common, **facts},
            environ,
            passed=source.pass_environment,
            timeout_seconds=source.hook_timeout / 1e9,
            cancel=cancel,
        )


def _drained(name: str) -> SourceFailed:
    return SourceFailed(
        f'"{name}" was piped in, and is read already',
        why="the first of its repositories has no snapshot that could be brought to this one",
        hints=[f"pipe it in again: COMMAND | dedup snapshot {name}"],
    )


def _facts(results: Sequence[Result]) -> dict[str, str]:
    """What the command after the snapshot is told."""
    code = worst([result.exit_code for result in results]) if results else 1
    last = next((result for result in results if result.exit_code == code), None)
    made = [result.outcome.snapshot for result in results if result.outcome is not None]
    return {
        "STATUS": last.status if last is not None else "failed",
        "EXIT_CODE": str(code),
        "CODE": last.error.code if last is not None and last.error is not None else "",
        "SNAPSHOTS": " ".join(snapshot.id for snapshot in made if snapshot is not None),
    }
