"""What of our environment no program that we start gets to see."""

from __future__ import annotations

from collections.abc import Mapping

SECRETS = (
    "DEDUP_PASSPHRASE", "DEDUP_NEW_PASSPHRASE", "DEDUP_TO_PASSPHRASE", "DEDUP_DATABASE_PASSWORD", "DEDUP_KEY_FILE",
    "DEDUP_RECOVERY_KEY_FILE", "DEDUP_TO_KEY_FILE", "DEDUP_TO_RECOVERY_KEY_FILE",
)  # fmt: skip
"""How the names of such variables begin: each also has a form for a file, and for a command."""


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program we start: ours without our passphrases and where they come from."""
    return {name: value for name, value in environ.items() if not name.startswith(SECRETS)}
