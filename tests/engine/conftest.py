"""What tests of restoring begin with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.restoring import DictReader


@pytest.fixture
def reader() -> DictReader:
    return DictReader()


@pytest.fixture
def target(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path / "restored")
