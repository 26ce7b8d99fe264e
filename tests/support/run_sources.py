"""Configurations of a few sources, and what came of a run of them."""

from __future__ import annotations

from pathlib import Path

from tests.support.configuration import write
from tests.support.dedup import Dedup


def configure(tmp_path: Path, sources: str, head: str = "") -> None:
    write(
        tmp_path / "etc" / "config.toml",
        f'{head}\n[repos.main]\nurl = "{tmp_path}/repository"\n[repos.second]\nurl = "{tmp_path}/second"\n{sources}',
    )


def files(name: str, path: Path, more: str = "") -> str:
    return f'[sources.{name}]\ntype = "files"\npaths = ["{path}"]\n{more}\n'


def command(name: str, script: str, more: str = "") -> str:
    return f'[sources.{name}]\ntype = "command"\ncommand = ["sh", "-c", "{script}"]\nfilename = "{name}.out"\n{more}\n'


def rows(dedup: Dedup, *arguments: str) -> list[dict]:  # type: ignore[type-arg]
    return dedup.ok("snapshots", "--json", *arguments).document["snapshots"]


def hooks(log: Path, before: str = "", after: str = "") -> str:
    tell = f"env | grep -E '^(DEDUP|AWS)_' | sort >> {log}; echo >> {log}"
    return (
        f'before = ["sh", "-c", "{tell}; {before or "true"}"]\n'
        f'after = ["sh", "-c", "{tell}; {after or "true"}"]\nhook_timeout = "2s"'
    )


def told(log: Path) -> list[dict[str, str]]:
    """What each hook was told, in the order they ran."""
    return [dict(line.split("=", 1) for line in block.splitlines()) for block in log.read_text().split("\n\n") if block]
