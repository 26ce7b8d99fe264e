from typing import Final

from dedupstore.chunking.params import CutRule
from dedupstore.types import Data

PATHS: Final[tuple[str, ...]]

class Gear:
    def __init__(self, table: bytes, path: str = ...) -> None: ...
    @property
    def path(self) -> str: ...
    def cuts(self, buffer: Data, length: int, rule: CutRule, final: bool, /) -> list[int]: ...
