"""Nothing of the caller's environment reaches these tests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.dedup import Dedup, write_tree
from tests.support.servers import Server


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("DEDUP_", "_DEDUP_")) or name in ("NO_COLOR", "NOTIFY_SOCKET", "TERM", "COLUMNS"):
                patch.delenv(name)
        patch.setenv("DEDUP_STATE_DIR", str(tmp_path / "state"))
        # Where no configuration is, until a test writes one.
        patch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path / "etc"))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
        patch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dedup:
    """The command with an empty repository of its own."""
    return Dedup(tmp_path, monkeypatch).init()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A few files to store."""
    return write_tree(
        tmp_path / "site",
        {
            "index.html": "<h1>hello</h1>\n",
            "uploads/a.txt": "first version\n",
            "uploads/b.bin": bytes(range(256)) * 100,
            "cache/tmp": "nobody needs it\n",
        },
    )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    with servers.postgres() as found:
        yield found


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[Server]:
    with servers.mariadb() as found:
        yield found
