"""The tour in the README does what it says, line by line, in an empty home directory."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from dedupstore.cli.commands import COMMANDS
from tests.support.dedup import COMMAND, PATIENCE_SECONDS, ROOT

README = ROOT / "README.md"


def tour() -> str:
    """All commands of the tour, as one script."""
    text = README.read_text(encoding="utf-8")
    part = text.split("<!-- tour: begin")[1].split("<!-- tour: end -->")[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL))


def test_every_line_of_the_tour_works(tmp_path: Path) -> None:
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    (programs / "dedup").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {" ".join(COMMAND)} "$@"\n')
    (programs / "dedup").chmod(0o755)
    environment = {
        "HOME": str(home),
        "CONFIGURATION_DIRECTORY": str(tmp_path / "etc"),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }

    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", tour()], cwd=home, env=environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  snapshot ") == 5
    assert "<h1>hello, world</h1>" in done.stdout
    assert "proven   it opens the repository as it is today" in done.stdout
    assert (home / "restored" / "site" / "index.html").read_text() == "<h1>hello, world</h1>\n"
    assert (home / "uploads-of-today" / "site" / "uploads" / "numbers.txt").exists()
    assert (home / "site" / "uploads" / "numbers.txt").exists()
    assert (home / "everything" / "numbers" / "numbers.txt").read_text().split()[-1] == "10"
    assert (home / "everything" / "site" / "site" / "index.html").exists()
    secret = (home / "passphrase").read_text().strip()
    assert secret not in done.stdout


def test_every_command_of_the_readme_exists() -> None:
    names = {entry.name for entry in COMMANDS}
    used = set(re.findall(r"^(?:\$ )?dedup ([\w-]+)", tour(), re.MULTILINE))

    assert used
    assert used <= names


def test_every_page_the_readme_points_to_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), target
