"""Real mounts in tests: `dedup mount` in a process of its own. Where this machine cannot, a test is skipped, in CI it fails."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dedupstore.errors import DedupError
from dedupstore.service import mount
from tests.support.dedup import COMMAND, PATIENCE_SECONDS, Dedup
from tests.support.missing import missing


def require_fuse() -> None:
    """Skip, and say what to install; never in CI."""
    try:
        mount._library()
        if not os.access("/dev/fuse", os.R_OK | os.W_OK):
            raise DedupError("/dev/fuse may not be opened", hints=["run as root, or see its mode"])
    except DedupError as error:
        missing("FUSE", f"{error.message}: {error.why}; {', '.join(error.hints)}")


def unmount(path: Path) -> None:
    """As a user does it, from outside; also what is in use, or has lost its program."""
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    subprocess.run([*command, str(path)], check=True, timeout=PATIENCE_SECONDS)


@dataclass
class Mounted:
    """The mounted directory and the process behind it."""

    path: Path
    process: subprocess.Popen[str]
    err: str = ""
    """All that was on stderr, once it has ended."""

    def end(self, number: int = signal.SIGINT) -> int:
        """Stop it by a signal; its exit code."""
        self.process.send_signal(number)
        _, self.err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode


@contextmanager
def mounted(dedup: Dedup, *arguments: str, **environment: str) -> Iterator[Mounted]:
    """`dedup mount` on a new directory; ready when the block begins, unmounted when it ends."""
    path = dedup.home / "mnt"
    path.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [*COMMAND, "mount", str(path), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=dedup.process_environment(**environment), cwd=dedup.home,
    )  # fmt: skip
    with process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith("mounted at "), first + process.stderr.read()
            yield Mounted(path, process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_SECONDS)
            # Asked of the system's list: a mount whose program is gone is not even a directory.
            if f" {path} fuse" in Path("/proc/mounts").read_text():
                unmount(path)
