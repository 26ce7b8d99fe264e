"""All checks, in the order in which they run: cheap ones first, and what finds damaged blocks before what says whom they hit."""

from __future__ import annotations

from dedupstore.engine.checks.base import Check
from dedupstore.engine.checks.config import ConfigCheck
from dedupstore.engine.checks.data import DataCheck
from dedupstore.engine.checks.listing import ListingCheck
from dedupstore.engine.checks.locks import LocksCheck
from dedupstore.engine.checks.marks import MarksCheck
from dedupstore.engine.checks.packs import PacksCheck
from dedupstore.engine.checks.parity import ParityCheck
from dedupstore.engine.checks.plans import PlansCheck
from dedupstore.engine.checks.restore import RestoreCheck
from dedupstore.engine.checks.slots import SlotsCheck
from dedupstore.engine.checks.snapshots import SnapshotsCheck
from dedupstore.engine.checks.structure import StructureCheck

CHECKS: tuple[Check, ...] = (
    ListingCheck(),
    ConfigCheck(),
    SlotsCheck(),
    PacksCheck(),
    SnapshotsCheck(),
    MarksCheck(),
    PlansCheck(),
    ParityCheck(),
    DataCheck(),
    StructureCheck(),
    LocksCheck(),
    RestoreCheck(),
)
