"""What every test that changed a repository ends with."""

from __future__ import annotations

from dedupstore.cancel import CancelToken
from dedupstore.engine.check import check_repository
from dedupstore.engine.check_options import CheckOptions, DataShare
from dedupstore.events import NullListener
from dedupstore.repo.repository import Repository


def assert_clean(repository: Repository) -> None:
    """A full check, all data read, finds nothing wrong."""
    options = CheckOptions(read_data=DataShare())
    report = check_repository(repository, options, listener=NullListener(), cancel=CancelToken())
    assert report.exit_code == 0, report.findings
