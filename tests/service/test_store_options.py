"""What the configuration asks of a store: which limit holds when, and that it reaches the store."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dedupstore.clock import SystemClock
from dedupstore.service.config import load
from dedupstore.service.config_schema import parse_hours
from dedupstore.service.store_options import options_of, rate_at, within
from tests.support.configuration import write

SHANGHAI = ZoneInfo("Asia/Shanghai")


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=SHANGHAI).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("hours", "text", "expected"),
    [
        ("Mon-Fri 08:00-20:00", "2026-11-27 08:00", True),  # a Friday
        ("Mon-Fri 08:00-20:00", "2026-11-27 20:00", False),
        ("Mon-Fri 08:00-20:00", "2026-11-28 12:00", False),
        ("22:00-07:00", "2026-11-28 06:59", True),
        ("22:00-07:00", "2026-11-28 07:00", False),
        ("Fri 22:00-07:00", "2026-11-28 06:00", True),
        ("Fri 22:00-07:00", "2026-11-27 06:00", False),
        ("Sun 00:00-24:00", "2026-11-29 23:59", True),
        ("Sun 00:00-24:00", "2026-11-30 00:00", False),
    ],
)
def test_hours_of_the_week(hours: str, text: str, expected: bool) -> None:
    assert within(parse_hours(hours), datetime.fromisoformat(text).replace(tzinfo=SHANGHAI)) is expected


def test_the_first_window_that_fits_wins_and_hours_are_local(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.toml",
        '[repos.a]\nurl = "/a"\nlimit_upload = "20MB/s"\nobject_lock = "14d"\nstorage_class = "STANDARD_IA"\n'
        'limit_upload_windows = [{ at = "Mon-Fri 08:00-20:00", rate = "5MB/s" }, { at = "12:00-13:00", rate = "1MB/s" }]\n'
        '[repos.b]\nurl = "/b"\nlimit_download_windows = [{ at = "08:00-20:00", rate = "5MB/s" }]\n[repos.c]\nurl = "/c"\n',
    )
    repos = load(str(path), {}).config.repos

    upload = rate_at(repos["a"].limit_upload, repos["a"].limit_upload_windows, SHANGHAI)
    download = rate_at(repos["b"].limit_download, repos["b"].limit_download_windows, SHANGHAI)

    assert upload is not None and download is not None
    times = ("2026-11-27 12:30", "2026-11-28 12:30", "2026-11-28 15:00")
    assert [upload(ns(text)) for text in times] == [5_000_000, 1_000_000, 20_000_000]
    assert download(ns("2026-11-27 12:00")) == 5_000_000 and download(ns("2026-11-27 21:00")) is None
    assert rate_at(repos["c"].limit_upload, repos["c"].limit_upload_windows, SHANGHAI) is None
    options = options_of(repos["a"], SystemClock(), {"TZ": "Asia/Shanghai"})
    assert options.upload is not None and options.download is None
    assert options.storage_class == "STANDARD_IA"
    assert options.object_lock_ns == 14 * 24 * 3600 * 10**9
