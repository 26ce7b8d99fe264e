"""Whoever runs the tests, and however often: they see the same examples and the same rights of new files.

`pytest --hypothesis-profile=default` looks for new examples at random.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support import evidence
from tests.support.ceph import ceph_server as ceph_server
from tests.support.s3_servers import moto_server as moto_server
from tests.support.s3_servers import rclone_server as rclone_server

# No deadline and no complaint about slow examples: how fast a machine is says nothing about the code.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that runs a share of the tests hands over what it counted."""
    handed_over = getattr(session.config, "workeroutput", None)
    if handed_over is not None:
        handed_over["evidence"] = dict(evidence.counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    evidence.counts.update(getattr(node, "workeroutput", {}).get("evidence", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = evidence.report()
    if lines:
        terminalreporter.section("what was survived")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)
