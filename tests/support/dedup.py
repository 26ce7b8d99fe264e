"""The command `dedup` as a user calls it, in this process: fast, and its streams at hand."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dedupstore.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASE = "tangerine-forty-two-umbrellas"
SENTINELS = ("-begin", "zz-end")
"""The names in every directory of a repository that hold nothing."""

COMMAND = [sys.executable, "-m", "dedupstore.cli.main"]

PATIENCE_SECONDS = 600
"""After this long a process hangs, however slow and busy the machine is."""

_ERROR_CODE = re.compile(r"^  code: (\S+) \(exit (\d+)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """How one call ended."""

    exit_code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode("utf-8", "surrogateescape")

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document of a query."""
        (line,) = self.out.splitlines()
        return dict(json.loads(line))

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of a stream; every one is JSON, the last is the summary."""
        found = [json.loads(line) for line in self.out.splitlines()]
        assert found[0]["event"] == "start"
        assert found[-1]["event"] == "summary"
        assert [event["event"] for event in found].count("summary") == 1
        assert found[-1]["exit_code"] == self.exit_code
        assert all(event["v"] == 1 and event["run"] == found[0]["run"] for event in found)
        return found

    @property
    def summary(self) -> dict[str, Any]:
        return self.events[-1]

    @property
    def code(self) -> str:
        """The stable code of the error that was shown; its exit code is the one of the run."""
        match = _ERROR_CODE.search(self.err)
        assert match is not None, self.err
        assert int(match[2]) == self.exit_code
        return match[1]


class Dedup:
    """A home, a repository in it, and the command."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.repository = home / "repository"
        self._patch = patch
        for name, value in self.environment().items():
            patch.setenv(name, value)
        patch.chdir(home)

    def environment(self) -> dict[str, str]:
        """What the command needs, besides what every program has."""
        return {
            "HOME": str(self.home),
            "CONFIGURATION_DIRECTORY": str(self.home / "etc"),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "DEDUP_REPO": str(self.repository),
            "DEDUP_PASSPHRASE": PASSPHRASE,
            "DEDUP_CACHE_DIR": str(self.home / "cache"),
            "DEDUP_STATE_DIR": str(self.home / "state"),
            "DEDUP_TEST_WEAK_KDF": "1",
        }

    def process_environment(self, **changes: str) -> dict[str, str]:
        """The same for a process of its own."""
        inherited = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
        return inherited | self.environment() | {"PYTHONPATH": str(ROOT)} | changes

    def init(self) -> Dedup:
        self.ok("init", "--insecure-test-kdf", "--chunk-size", "4KiB")
        return self

    def __call__(self, *arguments: str | os.PathLike[str], stdin: io.TextIOBase | None = None) -> Run:
        """Run `dedup` with these arguments. No secret may ever be in what it prints."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(sys, "stdin", stdin or io.TextIOWrapper(io.BytesIO()))
            exit_code = main([os.fspath(argument) for argument in arguments])
        run = Run(exit_code, out.buffer.getvalue(), err.buffer.getvalue().decode("utf-8", "replace"))
        assert PASSPHRASE not in run.out + run.err
        return run

    def ok(self, *arguments: str | os.PathLike[str]) -> Run:
        """The same, for a call that has to succeed."""
        run = self(*arguments)
        assert run.exit_code == 0, run.err
        return run

    def snapshot(self, *arguments: str | os.PathLike[str]) -> str:
        """Take a snapshot; its id."""
        return str(self.ok("snapshot", "--json", *arguments).summary["snapshot"]["id"])

    def setenv(self, name: str, value: str | None) -> None:
        if value is None:
            self._patch.delenv(name, raising=False)
        else:
            self._patch.setenv(name, value)


def write_tree(root: Path, files: dict[str, str | bytes]) -> Path:
    """Make files below a directory, and their directories."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def read_tree(root: Path) -> dict[str, bytes]:
    """The files below a directory."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
