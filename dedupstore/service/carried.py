"""A snapshot that was taken into one place of a repository, brought to another place of the same one.

Two places with one id have the same keys: what was read, cut, compressed and sealed for the first is right for the
second, and is copied as it is. Between repositories with keys of their own nothing can be (docs/decisions/0052).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dedupstore.cancel import CancelToken
from dedupstore.errors import RepositoryError
from dedupstore.events import Listener
from dedupstore.service import mirror
from dedupstore.service.access import Access
from dedupstore.service.snapshot import Outcome
from dedupstore.units import format_number


def is_carried(first: Access, second: Access) -> bool:
    """Whether both are known to be places of one repository."""
    return first.repository is not None and first.repository == second.repository


def is_one(accesses: Sequence[Access]) -> bool:
    """Whether all of them are known to be places of one repository; so is each by itself."""
    return all(is_carried(accesses[0], other) for other in accesses[1:])


def carry(outcome: Outcome, first: Access, second: Access, listener: Listener, cancel: CancelToken) -> Outcome:
    """Bring what the first place has and the second lacks, the snapshot last; the same outcome, there.

    Nothing is deleted. Raises RepositoryError when the second does not show the snapshot then, Refused, StoreError.
    """
    request = mirror.Request(
        source=first.url, target=second.url, source_options=first.options, target_options=second.options
    )
    done = mirror.run(request, first.clock, first.environ, listener, cancel, _never)
    if done.held:
        raise RepositoryError(
            f"{format_number(done.held, 'snapshot')} could not be brought to {second.url}",
            why="; ".join(finding.message for finding in done.findings[:2]),
            hints=[f"look for damage: dedup check -r {first.url}"],
        )
    return replace(outcome, findings=(*outcome.findings, *done.findings), seconds=done.seconds)


def _never(planned: mirror.Planned) -> bool:
    return False
