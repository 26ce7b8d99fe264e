"""The demonstration shows what it promises, and notices when it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dedup import PATIENCE_SECONDS
from tools import demo

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_demonstration_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "demo.py"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "names are identical" in done.stdout
    assert "What it cost" in done.stdout


@pytest.mark.parametrize("change", ["content", "mode", "time", "missing", "extra", "hard link"])
def test_the_comparison_notices_everything(tmp_path: Path, change: str) -> None:
    demo.make_oddities(tmp_path / "odd")
    before = demo.fingerprint(tmp_path / "odd")
    one = tmp_path / "odd" / "one"
    status = one.stat()
    if change == "content":
        one.write_text("two names, one fila\n")
    elif change == "mode":
        one.chmod(0o600)
    elif change in ("missing", "hard link"):
        one.unlink()
        if change == "hard link":
            one.write_text("two names, one file\n")
    elif change == "extra":
        (tmp_path / "odd" / "extra").touch()
    if one.exists():
        os.utime(one, ns=(0, status.st_mtime_ns + (change == "time")))

    with pytest.raises(demo.DemoFailed):
        demo.compare(before, demo.fingerprint(tmp_path / "odd"))
