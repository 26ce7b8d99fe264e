"""What a reader must know to judge the figures: the machine, the versions, the commit."""

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.tools import PROJECT, Tool


def describe_machine() -> dict[str, str]:
    """Facts of this machine, and how busy it was when asked."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{_distribution()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def about_this_run() -> dict[str, str]:
    """Date, commit and machine: what a row of results needs to stand alone."""
    return {"date": datetime.now(UTC).date().isoformat(), "commit": commit(), **describe_machine()}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def file_system(path: Path) -> str:
    """The type of the file system that holds the path."""
    done = subprocess.run(
        ("stat", "--file-system", "--format=%T", str(path)), capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def commit() -> str:
    """The commit that was measured, marked when the working tree differs from it."""
    git = ("git", "-C", str(PROJECT))
    head = subprocess.run((*git, "rev-parse", "--short=12", "HEAD"), capture_output=True, text=True, check=False)
    if head.returncode:
        return "none"
    # Results are written into the tree by the run itself and do not make it another version.
    changes = subprocess.run(
        (*git, "status", "--porcelain", "--", ".", ":!benchmarks/results"), capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + (" with local changes" if changes.stdout.strip() else "")


def versions(tools: Iterable[Tool]) -> dict[str, str]:
    """Every installed tool's own words about its version."""
    found = ((tool.name, tool.version()) for tool in tools)
    return {name: version for name, version in found if version}
