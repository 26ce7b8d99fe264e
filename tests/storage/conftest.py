"""S3 servers, each started once for all tests that need it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.s3_servers import Server, ceph, moto, require_ceph


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def ceph_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    require_ceph()
    with ceph(tmp_path_factory.mktemp("ceph")) as server:
        yield server
