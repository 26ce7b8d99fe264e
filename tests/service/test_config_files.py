"""Whose files of the configuration count: what others could change is refused, what is closed to us stops nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dedupstore.errors import Refused, UsageError
from dedupstore.service.config import load
from tests.support.configuration import write
from tests.support.unprivileged import as_nobody, folder_of_nobody


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A machine without any configuration."""
    return {"HOME": str(tmp_path / "home"), "CONFIGURATION_DIRECTORY": str(tmp_path / "etc")}


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_a_file_that_everybody_can_change_is_refused(environ: dict[str, str], tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "etc" / "config.toml", "version = 1\n", mode)

    for named in (None, str(path)):
        with pytest.raises(Refused) as raised:
            load(named, environ)
        assert raised.value.code == "config.not_private"
        assert raised.value.hints[0] == f"chmod go-w {path}"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")
def test_a_file_of_somebody_else_counts_only_when_it_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    path = write(tmp_path / "etc" / "config.toml", '[repos.a]\nurl = "/a"\n')
    os.chown(path, 65534, 65534)

    with pytest.raises(Refused) as raised:
        load(None, environ)

    assert raised.value.code == "config.not_private"
    assert set(load(str(path), environ).config.repos) == {"a"}


def test_what_root_keeps_to_itself_does_not_stop_others() -> None:
    with folder_of_nobody() as home:
        write(home / "etc" / "config.toml", '[repos.a]\nurl = "/a"\n', 0o000)
        write(home / "home" / "dedup" / "config.toml", '[repos.b]\nurl = "/b"\n', 0o644)
        write(home / "home" / "dedup" / "conf.d" / "c.toml", '[repos.c]\nurl = "/c"\n')
        (home / "home" / "dedup" / "conf.d").chmod(0o000)
        environ = {"CONFIGURATION_DIRECTORY": str(home / "etc"), "XDG_CONFIG_HOME": str(home / "home")}

        found = as_nobody(lambda: load(None, environ))
        with pytest.raises(UsageError) as raised:
            as_nobody(lambda: load(str(home / "etc" / "config.toml"), environ))

        assert set(found.config.repos) == set()
        assert found.found.closed == (home / "etc" / "config.toml", home / "home" / "dedup")
        assert raised.value.code == "config.unreadable"
