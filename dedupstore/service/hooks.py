"""Commands of the configuration that run before and after the snapshot of a source.

They get no standard input, no terminal, a time limit, and these variables. Neither a passphrase of ours nor what opens the storage
(`AWS_…`, unless it is named) is among what they see:

    DEDUP_HOOK            before, after
    DEDUP_HOOK_SOURCE     the name of the source
    DEDUP_HOOK_RUN        the id of the run, the same for all its sources
    DEDUP_HOOK_STATUS     after only: ok, warnings, failed, interrupted
    DEDUP_HOOK_EXIT_CODE  after only: as `dedup snapshot` would end for this source alone
    DEDUP_HOOK_CODE       after only: the code of the error, if there was one
    DEDUP_HOOK_SNAPSHOTS  after only: ids of the snapshots that were made, with spaces between them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dedupstore.cancel import CancelToken
from dedupstore.errors import SourceFailed
from dedupstore.service.secrets import bare_environment
from dedupstore.sources.command import CommandStream

BEFORE = "before"
AFTER = "after"


def run_hook(
    which: str,
    command: Sequence[str],
    facts: Mapping[str, str],
    environ: Mapping[str, str],
    *,
    passed: Sequence[str] = (),
    timeout_seconds: float,
    cancel: CancelToken,
) -> None:
    """Run it to its end. `passed`: variables of storage that it may see. Raises SourceFailed when it fails or takes too long, Interrupted when cancelled."""
    variables = {"DEDUP_HOOK": which, **{f"DEDUP_HOOK_{name}": value for name, value in facts.items()}}
    try:
        with CommandStream(
            command, {**bare_environment(environ, passed), **variables}, cancel, timeout_seconds=timeout_seconds
        ) as running:
            running.wait()
    except SourceFailed as error:
        raise SourceFailed(
            f'the command {which} the snapshot of "{facts["SOURCE"]}" failed: {error.message}',
            why=error.why,
            hints=["run it by hand; it is given no terminal and no input"],
            code=f"hook.{which}_failed",
        ) from error
