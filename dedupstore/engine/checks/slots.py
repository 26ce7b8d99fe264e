"""Is every key slot whole, and does one of them open what is written today?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from dedupstore.engine.check_options import Level
from dedupstore.engine.check_session import Session
from dedupstore.engine.twice import twice
from dedupstore.errors import CorruptObject, DedupError, StoreGone
from dedupstore.events import Finding
from dedupstore.repo import layout
from dedupstore.repo.keys import read_slot
from dedupstore.repo.slot_header import parse_header
from dedupstore.repo.slots import open_label


class SlotsCheck:
    """Shape, name, repository and sealed label of each slot, and so its header, under which alone the label opens.

    The secret inside, bytes 94 to 209, cannot be proven without its passphrase.
    """

    name = "keys"
    level = Level.QUICK

    def run(self, session: Session) -> Iterator[Finding]:
        usable = early = 0
        for row in session.inventory.slots:
            try:
                epoch = twice(partial(_epoch, session, row.key))
                usable += epoch == session.repository.keyring.newest
                early += epoch > session.repository.keyring.newest
            except StoreGone:
                raise
            except DedupError as exc:
                yield Finding(code="check.key_damaged", message=f"{row.key}: {exc.message}", severity="error")
        if early:
            yield Finding(
                code="check.rotation_unfinished",
                message="a rotation of the keys is under way, or was stopped: dedup key rotate --take-over",
                severity="note",
            )
        if not usable:
            yield Finding(
                code="check.no_key",
                message="no key slot opens what is written today; put one back from the recovery kit",
                severity="error",
            )


def _epoch(session: Session, key: str) -> int:
    slot = read_slot(session.repository.store, layout.parse_id_key(key, layout.KEYS))
    if parse_header(slot).repository != session.repository.id:
        raise CorruptObject("it is a slot of another repository")
    label = open_label(slot, session.repository.keyring.domain)
    if label is None:
        raise CorruptObject("it was altered")
    return label.epoch
