"""The tours of docs/databases.md do what they say, line by line, in an empty home directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.dedup import COMMAND, PATIENCE_SECONDS, ROOT

PAGE = ROOT / "docs" / "databases.md"


def tour(heading: str) -> str:
    """All commands of one chapter, as one script."""
    chapter = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    part = chapter.split("<!-- tour: begin")[1].split("<!-- tour: end -->")[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL))


def run(script: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    (programs / "dedup").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {" ".join(COMMAND)} "$@"\n')
    (programs / "dedup").chmod(0o755)
    all_of_it = {
        "HOME": str(home),
        "CONFIGURATION_DIRECTORY": str(tmp_path / "etc"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        **environment,
    }
    return subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script], cwd=home, env=all_of_it, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip


def require(program: str, package: str) -> None:
    """Skip for want of a program; where everything has to be there (CI), fail."""
    if shutil.which(program) is None:
        message = f"{program} is missing; install it: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def test_every_line_about_sqlite_works(tmp_path: Path) -> None:
    require("sqlite3", "sqlite3")

    done = run(tour("SQLite"), tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("first\nsecond\n") == 2
    assert "1 table, 2 rows" in done.stdout
    assert len(list((tmp_path / "home").glob("app.db.before-*"))) == 1
