from collections.abc import Sequence
from typing import Final

from dedupstore.types import Data

PATHS: Final[tuple[str, ...]]

def digests(key: bytes | None, pieces: Sequence[Data], path: str | None = None, /) -> list[bytes]: ...
