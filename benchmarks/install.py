"""Installs the peers: Debian's packages, and borg from PyPI into the work directory."""

import os
import subprocess
import sys
from pathlib import Path

PACKAGES = ("restic", "tar", "zstd", "coreutils")
# borgbackup has no wheels for Linux on PyPI: it is compiled against these.
HEADERS = (
    "build-essential",
    "pkg-config",
    "python3-dev",
    "libacl1-dev",
    "liblz4-dev",
    "libssl-dev",
    "libxxhash-dev",
    "libzstd-dev",
)
BORG = "borgbackup==1.4.5"


def install_peers(work: Path) -> None:
    """Install what is missing. Needs root for apt; prints the command to run when it is not."""
    apt = ("apt-get", "install", "-y", "--no-install-recommends", *PACKAGES, *HEADERS)
    if os.geteuid() == 0:
        subprocess.run(apt, check=True)
    else:
        print(f"not root, run this yourself: sudo {' '.join(apt)}", file=sys.stderr)
    environment = work / "venv"
    if not environment.exists():
        subprocess.run((sys.executable, "-m", "venv", str(environment)), check=True)
    subprocess.run((str(environment / "bin" / "pip"), "install", "--quiet", BORG), check=True)
