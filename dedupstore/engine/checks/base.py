"""What a check is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.events import Finding


class Check(Protocol):
    """One kind of look at a repository. To add one: a file in this folder, a line in `__init__`, a row in the damage test."""

    name: str
    level: Level

    def run(self, session: Session) -> Iterator[Finding]:
        """Yield one finding for each problem, as it is met.

        What others need (damaged blocks, counts) goes into the session. Damage is never an exception, trouble that
        makes going on pointless (an unmounted disk) is.
        """
        ...
