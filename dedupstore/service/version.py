"""Which versions are at work here."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata

from dedupstore import __version__
from dedupstore.chunking.kernel import implementation

LIBRARIES = ("blake3", "zstandard", "cryptography", "lmdb", "msgpack", "boto3", "click", "rich", "croniter")


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    version: str
    python: str
    platform: str
    chunker: str
    """`c`, or `python` where the kernel was not built: correct, and far slower."""
    libraries: dict[str, str | None]
    """None for one that is not installed."""


def run() -> Versions:
    return Versions(
        version=__version__,
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        chunker=implementation(),
        libraries={name: _installed(name) for name in LIBRARIES},
    )


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
