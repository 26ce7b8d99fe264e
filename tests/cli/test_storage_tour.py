"""The tour of docs/storage.md does what it says, line by line, in an empty home directory."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.dedup import COMMAND, PATIENCE_SECONDS, ROOT
from tests.support.s3_servers import S3Server
from tests.support.s3_versions import delete_everything, next_second, overwrite

PAGE = ROOT / "docs" / "storage.md"


def tour(heading: str) -> str:
    """All commands of one chapter, as one script."""
    chapter = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    part = chapter.split("<!-- tour: begin")[1].split("<!-- tour: end -->")[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```$", part, re.MULTILINE | re.DOTALL))


@pytest.mark.slow
def test_every_line_works(tmp_path: Path, server: S3Server) -> None:
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    (programs / "dedup").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {" ".join(COMMAND)} "$@"\n')
    (programs / "dedup").chmod(0o755)
    bucket = server.bucket(lock=True)
    environment = {
        "HOME": str(home),
        "CONFIGURATION_DIRECTORY": str(tmp_path / "etc"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "BUCKET": bucket,
        "ENDPOINT": server.endpoint,
        **server.environment,
    }

    def run(heading: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", tour(heading)], cwd=home, env=environment | more,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    first = run("A tour")
    before = next_second(server, bucket)
    overwrite(server, bucket, "site/packs/")
    delete_everything(server, bucket)
    second = run("After a malicious delete", BEFORE=before.isoformat(), DEDUP_PASSPHRASE_FILE=str(home / "passphrase"))

    assert "code: repo.not_found" in second.stderr
    assert (home / "rescued/site/index.html").read_text() == "<h1>hello again</h1>\n"
    assert first.stdout.count("everything that was looked at is intact") == 1
    assert second.stdout.count("everything that was looked at is intact") == 2
