"""The layer check finds every kind of violation in small trees, and none in a good one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_layers import LONGER, MAX_LINES, ROOMS, ROWS, check, main


def write(root: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


def messages(root: Path) -> list[str]:
    return [str(violation) for violation in check(root)]


def test_a_tree_that_imports_downward_is_clean(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "dedupstore/__init__.py": "__version__ = '1'\n",
            "dedupstore/errors.py": "",
            "dedupstore/units.py": "from dedupstore.errors import UsageError\n",
            "dedupstore/model/wire.py": "import msgpack\nfrom dedupstore.errors import DedupError\n",
            "dedupstore/repo/pack.py": "from dedupstore.codec.block import Codec\nfrom dedupstore.repo.layout import X\n",
            "dedupstore/cli/main.py": "import click\nfrom dedupstore import __version__, errors\n"
            "from dedupstore.service import secrets\nTABLE = 'dedupstore.cli.version:version'\n",
        },
    )

    assert messages(root) == []


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        (
            "model/tree.py",
            "from dedupstore.repo.pack import P\n",
            "model (row 2) imports upward: dedupstore.repo.pack (row 4)",
        ),
        (
            "codec/block.py",
            "import dedupstore.storage.base\n",
            "codec imports its sibling on row 3: dedupstore.storage.base",
        ),
        ("cancel.py", "from dedupstore import clock\n", "cancel imports its sibling on row 1: dedupstore.clock"),
        (
            "cli/ls.py",
            "from dedupstore.engine.walk import w\n",
            "cli may use app, service and rows 0-1, not dedupstore.engine.walk",
        ),
        (
            "cli/ls.py",
            "from dedupstore.model.entry import E\n",
            "cli may use app, service and rows 0-1, not dedupstore.model.entry",
        ),
        ("api/x.py", "import dedupstore.cli.main\n", "api may use app, service and rows 0-1, not dedupstore.cli.main"),
        ("cli/x.py", "T = {'ls': 'dedupstore.engine.walk:f'}\n", "not dedupstore.engine.walk"),
        ("__init__.py", "from dedupstore.errors import DedupError\n", "imports upward: dedupstore.errors"),
        ("strange/x.py", "", "strange has no row in the layer table"),
        ("repo/x.py", "import dedupstore.strange\n", "dedupstore.strange has no row in the layer table"),
        ("repo/x.py", "from . import pack\n", "relative import"),
        ("repo/x.py", "def f():\n    import json\n", "x.py:2: import of json inside a function"),
        ("repo/x.py", "def f():\n    from dedupstore.cli.main import main\n", "imports upward: dedupstore.cli.main"),
        ("repo/x.py", "if TYPE_CHECKING:\n    from dedupstore.engine.walk import w\n", "imports upward"),
        ("repo/x.py", "import lmdb\n", "lmdb belongs to dedupstore/repo/lmdb_"),
        ("repo/x.py", "from botocore.config import Config\n", "botocore belongs to dedupstore/storage/s3_client.py"),
        ("repo/x.py", "s3 = importlib.import_module('boto3')\n", "boto3 belongs to dedupstore/storage/s3_client.py"),
        ("service/x.py", "from rich.table import Table\n", "rich belongs to dedupstore/cli/"),
        ("repo/x.py", "import time\nx = time.time()\n", "x.py:2: time.time: only clock.py reads the time"),
        ("repo/x.py", "import datetime\nx = datetime.datetime.now()\n", "datetime.now: only clock.py"),
        ("repo/x.py", "from time import time_ns\n", "from time import time_ns: only clock.py"),
        ("repo/x.py", "x = 1\n" * 401, "401 lines; a file has at most 400"),
    ],
)
def test_a_violation_is_named_with_its_place(tmp_path: Path, file: str, source: str, expected: str) -> None:
    root = write(tmp_path, {f"dedupstore/{file}": source})

    found = messages(root)

    assert any(expected in line for line in found), found
    assert all(line.startswith(f"dedupstore/{file}:") for line in found)


def test_a_file_may_be_longer_only_with_a_reason_and_while_it_is(tmp_path: Path) -> None:
    root = write(tmp_path, dict.fromkeys(LONGER, "x = 1\n" * 401))

    assert messages(root) == []
    here = Path(__file__).resolve().parents[2]
    for name, reason in LONGER.items():
        assert reason
        assert (here / name).read_text().count("\n") > MAX_LINES, f"{name} needs no exception any more"


def test_the_clock_may_read_the_time(tmp_path: Path) -> None:
    root = write(tmp_path, {"dedupstore/clock.py": "import time\nx = time.time_ns()\n"})

    assert messages(root) == []


def test_each_library_is_welcome_in_its_own_room(tmp_path: Path) -> None:
    files = {f"dedupstore/{room}{'x.py' if room.endswith('/') else ''}": "" for room in ROOMS.values()}
    for library, room in ROOMS.items():
        files[f"dedupstore/{room}{'x.py' if room.endswith('/') else ''}"] += f"import {library}\n"

    assert messages(write(tmp_path, files)) == []


def test_the_exit_code_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"dedupstore/repo/x.py": "import boto3\n"})

    assert main([str(tmp_path)]) == 1
    assert "dedupstore/repo/x.py:1: boto3 belongs to" in capsys.readouterr().out
    assert main([str(tmp_path / "empty")]) == 0


def test_this_very_tree_keeps_the_rules() -> None:
    root = Path(__file__).resolve().parents[2]

    assert set(ROWS.values()) == set(range(9))
    assert messages(root) == []
